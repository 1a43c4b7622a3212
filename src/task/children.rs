//! The children of a scope, counted, so that the scope can wait for them.
//!
//! - **T8** A scope does not return before each of its children has counted itself off, which is the
//!   last that a child does besides letting go of its own block. So what the children borrow, and
//!   the `Children` themselves, outlive every use.

use std::cell::UnsafeCell;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::header::{Header, TaskRef};
use super::park::{Waiting, current_task, park_undisturbed};
use super::remote::Remote;
use super::thread_parker::ThreadParker;
use crate::fork;

/// Counts the children of one scope that have not ended, and wakes the owner after the last.
pub(crate) struct Children {
    /// Those that run, and one for the owner as long as it does not wait.
    running: AtomicUsize,
    /// Those that have panicked, and whose payload nobody has taken.
    panicked: AtomicUsize,
    /// Written by the owner before it takes its one off, so it may be read by whoever then finds
    /// itself the last.
    owner: UnsafeCell<Option<Owner>>,
}

/// Who waits for the children.
enum Owner {
    /// A task, borrowed (T8), and its worker.
    Task(*const Header, &'static Remote),
    Thread(Arc<ThreadParker>),
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

    /// Counts a child that is about to be spawned.
    pub(crate) fn add(&self) {
        self.running.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that a child has panicked, which has not counted itself off.
    pub(super) fn note_panic(&self) {
        // Relaxed, here and below: `wait` comes between this and whoever asks.
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

    /// Waits until there are no children, which may run `elsewhere`: on another runtime than the caller's. Neither
    /// a cancellation nor a timeout cuts this short.
    ///
    /// Whoever waits need not be who made the `Children`: a raw coroutine may have been
    /// resumed by another task since.
    pub(crate) fn wait(&self, elsewhere: bool) {
        let (owner, thread) = match current_task() {
            Some(me) => {
                let remote = me.owner().expect("a task that runs has an owner");
                (Owner::Task(me.as_ptr(), remote), None)
            }
            None => {
                let thread = ThreadParker::here();
                (Owner::Thread(Arc::clone(&thread)), Some(thread))
            }
        };
        // SAFETY: our one is still counted, so no child looks yet.
        unsafe { *self.owner.get() = Some(owner) };
        // Release: publishes the owner. Acquire: with `remove`.
        if self.running.fetch_sub(1, Ordering::AcqRel) == 1 {
            return;
        }
        loop {
            let wakes = thread.as_ref().map(|thread| thread.wakes());
            // Acquire: pairs with `remove`.
            if self.running.load(Ordering::Acquire) == 0 {
                return;
            }
            match (&thread, wakes) {
                (Some(thread), Some(wakes)) => {
                    fork::check();
                    thread.block(wakes, None);
                }
                _ if elsewhere => park_undisturbed(Waiting::ChildrenElsewhere),
                _ => park_undisturbed(Waiting::Children),
            }
        }
    }

    /// Counts the calling child off.
    pub(super) fn remove(&self) {
        let mut running = self.running.load(Ordering::Acquire);
        while running != 1 {
            // Release: pairs with `wait`, as do the other children's. Acquire: the owner's cell.
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
        match unsafe { &*self.owner.get() } {
            // It cannot go on before this worker has switched to it, so it needs no holding.
            Some(Owner::Task(owner, remote)) if remote.is_here() => {
                let owner = *owner;
                self.running.store(0, Ordering::Release);
                // SAFETY: T8.
                unsafe { (*owner).wake() };
            }
            Some(Owner::Task(owner, _)) => {
                // SAFETY: T8, it waits; the clone keeps it from here on.
                let owner = unsafe { ManuallyDrop::new(TaskRef::from_raw(*owner)) };
                let held = TaskRef::clone(&owner);
                self.running.store(0, Ordering::Release);
                held.wake();
            }
            Some(Owner::Thread(thread)) => {
                let held = Arc::clone(thread);
                self.running.store(0, Ordering::Release);
                held.unpark();
            }
            None => unreachable!("the owner's one is off"),
        }
    }
}
