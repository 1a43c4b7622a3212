//! A wake-up that a worker owes to the other workers of its runtime.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether a worker has spawned a task and has told no other worker.
///
/// It expects to start the task itself, as soon as the turn ends in which it was spawned. A wake-up would be for nothing
/// then, and costs microseconds. If the turn goes on, the monitor tells the others when it looks next.
#[derive(Default)]
pub(crate) struct DeferredNotify {
    is_due: AtomicBool,
}

impl DeferredNotify {
    /// Whether there is such a task.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        self.is_due.load(Ordering::Relaxed)
    }

    /// By the worker, which has pushed a task.
    #[inline]
    pub(crate) fn defer(&self) {
        // Release: pairs with `take`, so that whoever is woken finds the task.
        self.is_due.store(true, Ordering::Release);
    }

    /// By the worker, which starts the task.
    #[inline]
    pub(crate) fn cancel(&self) {
        self.is_due.store(false, Ordering::Relaxed);
    }

    /// By the monitor, which tells the others if this is true.
    pub(crate) fn take(&self) -> bool {
        self.is_due() && self.is_due.swap(false, Ordering::Acquire)
    }
}
