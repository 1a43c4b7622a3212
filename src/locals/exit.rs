//! How locals end: cleanup, reset, unload, and what becomes of values and handlers that are stored too late.
//!
//! # Rounds
//!
//! Cleanup runs handlers and drops values until nothing is left, and both may store more. Each value and each
//! handler has a round. The round is 0 if it was stored before cleanup. If it was stored by a handler or a `Drop`
//! in cleanup, the round is one more than that of the handler or value. Only a chain of them, each storing the
//! next, gets beyond round [`ROUNDS`], where storing is refused.
//!
//! ```text
//!   round 0   what the coroutine stored
//!     run, dropped: what it stores is of round 1
//!       ...
//!         round 16: what it stores is refused
//! ```
//!
//! The newest handler always runs first, and a value is dropped only when no handler is left. So a handler
//! finds all data in place, and a handler that is registered in cleanup runs next.
//!
//! # Refusal
//!
//! After cleanup, the locals are closed: nothing is there and nothing can be stored. `set` drops its
//! value at once, `at_exit` runs its handler at once. Neither panics of itself. The `Drop` of a refused value may
//! store another, which is refused too, and so on. Beyond [`NESTED`] levels a value is leaked, because to drop it
//! could overflow the stack.

use std::mem;

use super::Locals;
use super::chain::AtExit;
use crate::unwind::PanicSink;

/// The last round in which storing is allowed.
pub(super) const ROUNDS: u8 = 16;

/// What `round` says once cleanup is over for good.
const CLOSED: u8 = u8::MAX;

/// How many refused operations may be inside one another.
pub(super) const NESTED: u8 = 16;

impl Locals {
    /// Registers a handler to run at cleanup, before those that are registered already.
    pub(crate) fn register(&self, handler: AtExit) {
        if !self.refuses() {
            self.chain.push(handler, self.round.get());
        } else if !self.is_closed() {
            self.refuse(handler);
        } else if let Some(_depth) = Depth::below(self, NESTED) {
            handler.run();
        } else if let Some(_depth) = Depth::below(self, 2 * NESTED) {
            drop(handler);
        } else {
            mem::forget(handler);
        }
    }

    /// Runs every handler and drops every value, on the stack that stored them. Panics are caught;
    /// the panic hook has reported them.
    pub(crate) fn cleanup(&self) {
        let mut sink = PanicSink::default();
        loop {
            if let Some(handler) = self.chain.pop() {
                self.round.set(handler.round() + 1);
                sink.run(|| handler.run());
            } else if let Some(value) = self.order.newest() {
                self.round.set(value.header().round.get() + 1);
                drop(self.detach(&value));
                sink.run(|| drop(value));
            } else {
                break;
            }
        }
        self.table.release();
        if !self.is_closed() {
            self.round.set(0);
        }
    }

    /// Drops all values, newest first, and keeps the handlers. What a `Drop` stores meanwhile stays.
    pub(crate) fn reset(&self) {
        self.reset_with(&mut PanicSink::default());
    }

    fn reset_with(&self, sink: &mut PanicSink) {
        self.order.rewind();
        while let Some(value) = self.order.under_cursor() {
            drop(self.detach(&value));
            sink.run(|| drop(value));
        }
    }

    /// Drops all handlers without running them, then all values, each newest first. What is stored
    /// or registered meanwhile stays.
    pub(crate) fn unload_contents(&self) {
        let mut sink = PanicSink::default();
        let handlers = self.chain.take();
        while let Some(handler) = handlers.pop() {
            sink.run(|| drop(handler));
        }
        self.reset_with(&mut sink);
        // If nothing is left, no cleanup will follow.
        self.table.release();
    }

    /// From now on nothing can be stored. To be called when nothing is.
    #[inline]
    pub(crate) fn close(&self) {
        self.round.set(CLOSED);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.round.get() == CLOSED
    }

    /// Whether nothing may be stored, for good or in this round of cleanup.
    #[inline(always)]
    pub(crate) fn refuses(&self) -> bool {
        self.round.get() > ROUNDS
    }

    /// Drops what would have been stored.
    #[cold]
    pub(super) fn refuse<T>(&self, thing: T) {
        match Depth::below(self, NESTED) {
            Some(_depth) => drop(thing),
            None => mem::forget(thing),
        }
    }
}

/// Counts refused operations that are under way.
struct Depth<'a>(&'a Locals);

impl<'a> Depth<'a> {
    /// One level deeper, unless more than `limit` operations are under way.
    fn below(locals: &'a Locals, limit: u8) -> Option<Self> {
        let depth = locals.refused.get();
        (depth <= limit).then(|| {
            locals.refused.set(depth + 1);
            Depth(locals)
        })
    }
}

impl Drop for Depth<'_> {
    fn drop(&mut self) {
        self.0.refused.set(self.0.refused.get() - 1);
    }
}
