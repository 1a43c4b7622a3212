//! An inbox: many threads push, one takes everything at once.
//!
//! It is a stack of nodes that are linked through themselves, so a push allocates nothing. Its owner
//! takes the whole stack with one swap and turns it round, so nodes leave in the order in which they
//! came. (R. K. Treiber, "Systems programming: coping with parallelism", 1986. Nobody ever takes a
//! single node, so there is no room for the ABA problem.)
//!
//! - **I1** A node is in one inbox at most, and from its push until it is taken its link belongs to
//!   that inbox.

use std::cell::Cell;
use std::ptr;

use crate::base::atomics::{AtomicPtr, Ordering};

/// What can be in an inbox.
pub(crate) trait Linked {
    /// The next node in the inbox.
    fn link(&self) -> &Cell<*mut Self>;
}

/// A stack of nodes that many threads push to, and that its owner takes whole.
pub(super) struct Inbox<N> {
    newest: AtomicPtr<N>,
}

impl<N: Linked> Inbox<N> {
    pub(super) fn new() -> Inbox<N> {
        Inbox { newest: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Adds a node. True: the inbox was empty, and it is the caller's part to tell the owner.
    ///
    /// # Safety
    ///
    /// The node is in no inbox (I1) and stays valid until it is taken.
    pub(super) unsafe fn push(&self, node: *mut N) -> bool {
        let mut newest = self.newest.load(Ordering::Relaxed);
        loop {
            // SAFETY: I1, the caller's word.
            unsafe { (*node).link().set(newest) };
            // Release: pairs with the swap in `take_all`.
            match self.newest.compare_exchange_weak(
                newest,
                node,
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return newest.is_null(),
                Err(now) => newest = now,
            }
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.newest.load(Ordering::Relaxed).is_null()
    }

    /// Takes everything, and hands it to `each` in the order in which it came.
    pub(super) fn take_all(&self, mut each: impl FnMut(*mut N)) {
        // Acquire: pairs with the push.
        let mut newest = self.newest.swap(ptr::null_mut(), Ordering::Acquire);
        let mut oldest: *mut N = ptr::null_mut();
        while !newest.is_null() {
            // SAFETY: I1, it was taken, so node and link are ours.
            let next = unsafe { (*newest).link().replace(oldest) };
            oldest = newest;
            newest = next;
        }
        while !oldest.is_null() {
            // SAFETY: I1, as above; the link is read before the node is given away.
            let next = unsafe { (*oldest).link().get() };
            each(oldest);
            oldest = next;
        }
    }
}
