//! The children of a scope, counted, so that the scope can wait for them.
//!
//! - **T8** A scope does not return before each of its children has counted itself off, which is the
//!   last that a child does besides letting go of its own block. So what the children borrow, and
//!   the `Children` themselves, outlive every use.

use std::cell::UnsafeCell;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::header::{BorrowedTask, Header};
use super::waiter::Waiter;

/// Counts the children of one scope that have not ended, and wakes the owner after the last.
pub(crate) struct Children {
    /// Those that run, and one for the owner as long as it does not wait.
    running: AtomicUsize,
    /// Those that have panicked, and whose payload nobody has taken.
    panicked: AtomicUsize,
    /// Who waits for the children. Written by the owner before it takes its one off, so it may be read by whoever
    /// then finds itself the last.
    owner: UnsafeCell<Option<Waiter<BorrowedTask>>>,
}

// SAFETY: T8; the task's header may be used from any thread.
unsafe impl Sync for Children {}
// SAFETY: as above.
unsafe impl Send for Children {}

impl Children {
    /// No children yet.
    pub(crate) fn new() -> Children {
        Children {
            running: AtomicUsize::new(1),
            panicked: AtomicUsize::new(0),
            owner: UnsafeCell::new(None),
        }
    }

    /// The children that a task is one of.
    ///
    /// # Safety
    ///
    /// `header` is the address of a task's whole block, not of the header alone.
    #[inline]
    pub(super) unsafe fn of(header: *const Header) -> Option<NonNull<Children>> {
        // SAFETY: the caller's word, and the vtable is that of the block.
        unsafe {
            let place = header.cast::<u8>().add((*header).vtable.children?);
            NonNull::new(place.cast::<*const Children>().read().cast_mut())
        }
    }

    /// Counts a child that is about to be spawned.
    pub(crate) fn add(&self) {
        self.running.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that a child has panicked, which has not counted itself off.
    pub(super) fn note_panic(&self) {
        // Relaxed, here and below: the owner's wait comes between this and whoever asks.
        self.panicked.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that the payload of a child's panic was taken, so that it is the scope's affair no more.
    pub(super) fn forget_panic(&self) {
        self.panicked.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether a child has panicked and nobody took the payload; for who has waited.
    pub(crate) fn has_panicked(&self) -> bool {
        self.panicked.load(Ordering::Relaxed) > 0
    }

    /// Has `owner` woken when the last child has ended.
    ///
    /// # Safety
    ///
    /// It is called once, by the owner, which then stays until [`are_over`](Children::are_over) (T8).
    pub(super) unsafe fn begin_wait(&self, owner: Waiter<BorrowedTask>) {
        // SAFETY: T8, our one is still counted, so no child looks yet.
        unsafe { *self.owner.get() = Some(owner) };
        // Release: publishes the owner. Acquire: with `remove`.
        self.running.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether there are no children; for the owner, which waits.
    pub(super) fn are_over(&self) -> bool {
        // Acquire: pairs with `remove`.
        self.running.load(Ordering::Acquire) == 0
    }

    /// Counts a child off.
    ///
    /// # Safety
    ///
    /// The child was counted, and uses nothing of its scope's any more (T8).
    pub(super) unsafe fn remove(&self) {
        let mut running = self.running.load(Ordering::Acquire);
        while running != 1 {
            // Release: pairs with `are_over`, as do the other children's. Acquire: the owner's cell.
            match self.running.compare_exchange_weak(
                running,
                running - 1,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return,
                Err(now) => running = now,
            }
        }
        // We are the last and the owner waits, so nobody else changes anything. From the moment that
        // the count is zero the owner may go on and take the `Children` with it.
        // SAFETY: the owner wrote the cell before it took its one off.
        match unsafe { (*self.owner.get()).take() } {
            Some(owner) => {
                // SAFETY: T8, it waits, and is woken at once.
                let wakeup = unsafe { owner.wakeup() };
                self.running.store(0, Ordering::Release);
                wakeup.wake();
            }
            None => unreachable!("the owner's one is off"),
        }
    }
}
