//! The exit chain: what runs when the coroutine ends, newest first.
//!
//! A handler is one allocation, a link with its closure behind it:
//!
//! ```text
//!   head --> +--------------+  next   +--------------+  next
//!            | Handler      | ------> | Handler      | ------> None
//!            | closure      |         | closure      |
//!            +--------------+         +--------------+
//!              registered last          registered first
//! ```
//!
//! The invariant is **L7** of the parent module: a handler is owned by one chain, or by one
//! [`AtExit`], and is consumed once.

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

/// The part of a handler that does not depend on its closure.
struct Handler {
    next: Cell<Option<NonNull<Handler>>>,
    /// The round of cleanup in which it was registered; 0 before cleanup.
    round: u8,
    /// Frees the block, and runs the closure or drops it.
    consume: unsafe fn(NonNull<Handler>, Fate),
}

#[derive(Clone, Copy)]
enum Fate {
    Run,
    Drop,
}

#[repr(C)]
struct Block<F> {
    handler: Handler,
    closure: F,
}

impl<F: FnOnce()> Block<F> {
    /// # Safety
    ///
    /// `handler` heads a `Block<F>` that the caller owns and never looks at again (L7).
    unsafe fn consume(handler: NonNull<Handler>, fate: Fate) {
        // SAFETY: L7, the box that `push` leaked, with the type it had there.
        let block = unsafe { Box::from_raw(handler.cast::<Block<F>>().as_ptr()) };
        // The block is freed before the closure runs: it may run for as long as it likes.
        let Block { closure, .. } = *block;
        match fate {
            Fate::Run => closure(),
            Fate::Drop => drop(closure),
        }
    }
}

/// A list of handlers. Dropping it drops none of them.
pub(super) struct Chain {
    head: Cell<Option<NonNull<Handler>>>,
}

impl Chain {
    pub(super) const fn new() -> Chain {
        Chain { head: Cell::new(None) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.head.get().is_none()
    }

    /// Registers a handler as the newest.
    pub(super) fn push<F: FnOnce() + 'static>(&self, closure: F, round: u8) {
        let handler = Handler { next: Cell::new(None), round, consume: Block::<F>::consume };
        let block = Box::leak(Box::new(Block { handler, closure }));
        // The pointer is made from the whole block, so it may reach beyond the link.
        let handler = NonNull::from(block).cast::<Handler>();
        // SAFETY: L7, the block is alive until it is consumed.
        unsafe { handler.as_ref() }.next.set(self.head.replace(Some(handler)));
    }

    /// Takes out the newest handler.
    pub(super) fn pop(&self) -> Option<AtExit> {
        let handler = self.head.get()?;
        // SAFETY: L7, the chain's own.
        self.head.set(unsafe { handler.as_ref() }.next.take());
        Some(AtExit(handler))
    }

    /// Takes out all handlers.
    pub(super) fn take(&self) -> Chain {
        Chain { head: Cell::new(self.head.take()) }
    }
}

/// A handler that has left its chain. Dropped, it is not run.
pub(super) struct AtExit(NonNull<Handler>);

impl AtExit {
    pub(super) fn round(&self) -> u8 {
        // SAFETY: L7, the handler is ours.
        unsafe { self.0.as_ref() }.round
    }

    pub(super) fn run(self) {
        ManuallyDrop::new(self).consume(Fate::Run);
    }

    fn consume(&self, fate: Fate) {
        // SAFETY: L7, the handler is ours.
        let consume = unsafe { self.0.as_ref() }.consume;
        // SAFETY: L7, called from `run`, which forgets us, or from `drop`.
        unsafe { consume(self.0, fate) }
    }
}

impl Drop for AtExit {
    fn drop(&mut self) {
        self.consume(Fate::Drop);
    }
}
