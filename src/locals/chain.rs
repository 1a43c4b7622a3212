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
//! The invariant is L7 of the parent module: a handler is owned by one [`HandlerSlot`], by one chain,
//! or by one [`AtExit`], and is consumed once.

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};

use crate::base::block::RawBlock;

/// The part of a handler that does not depend on its closure.
struct Handler {
    next: Cell<Option<NonNull<Handler>>>,
    /// The round of cleanup in which it was registered; 0 before cleanup.
    round: Cell<u8>,
    /// Frees the block, and runs the closure or drops it.
    consume: unsafe fn(NonNull<Handler>, Fate),
}

#[derive(Clone, Copy)]
enum Fate {
    Run,
    Drop,
}

#[repr(C)]
struct HandlerBlock<F> {
    handler: Handler,
    closure: F,
}

impl<F: FnOnce()> HandlerBlock<F> {
    /// # Safety
    ///
    /// `handler` heads a `HandlerBlock<F>` that the caller owns and never looks at again (L7).
    unsafe fn consume(handler: NonNull<Handler>, fate: Fate) {
        // SAFETY: L7, the block that `HandlerSlot::filled` left, with the type that it had there.
        let block = unsafe { RawBlock::<HandlerBlock<F>>::from_raw(handler.cast()) };
        match fate {
            Fate::Run => {
                // SAFETY: L7, the block is ours, and the closure is there.
                let closure = unsafe { (&raw const (*block.as_ptr()).closure).read() };
                // The block is freed before the closure runs, because the closure may run for long.
                drop(block);
                closure();
            }
            // SAFETY: L7, as above.
            Fate::Drop => unsafe { ptr::drop_in_place(&raw mut (*block.as_ptr()).closure) },
        }
    }
}

/// A new block, whose closure is to be written. If it is dropped, the block is freed.
pub(crate) struct HandlerSlot<F>(RawBlock<HandlerBlock<F>>);

impl<F: FnOnce() + 'static> HandlerSlot<F> {
    #[inline]
    pub(crate) fn new() -> HandlerSlot<F> {
        let consume = HandlerBlock::<F>::consume;
        let handler = Handler { next: Cell::new(None), round: Cell::new(0), consume };
        let block = RawBlock::<HandlerBlock<F>>::new();
        // SAFETY: L7, the block is new and ours.
        unsafe { (&raw mut (*block.as_ptr()).handler).write(handler) };
        HandlerSlot(block)
    }

    /// Where the closure belongs.
    #[inline]
    pub(crate) fn closure(&mut self) -> *mut F {
        // SAFETY: L7, the block is ours.
        unsafe { &raw mut (*self.0.as_ptr()).closure }
    }

    /// # Safety
    ///
    /// The closure was written.
    #[inline]
    pub(crate) unsafe fn filled(self) -> AtExit {
        // The pointer is made from the whole block, so it may reach beyond the link.
        AtExit(self.0.into_raw().cast())
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
    pub(super) fn push(&self, handler: AtExit, round: u8) {
        let handler = ManuallyDrop::new(handler).0;
        // SAFETY: L7, the block is alive until it is consumed.
        let link = unsafe { handler.as_ref() };
        link.round.set(round);
        link.next.set(self.head.replace(Some(handler)));
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

/// A handler that is not in the chain: not yet, or no longer. If it is dropped, it is not run.
pub(crate) struct AtExit(NonNull<Handler>);

impl AtExit {
    pub(super) fn round(&self) -> u8 {
        // SAFETY: L7, the handler is ours.
        unsafe { self.0.as_ref() }.round.get()
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
