//! Waking whoever waits: a task, from any thread, and any other waiter.

use std::ptr::{self, NonNull};
use std::time::Instant;

use super::header::{BorrowedTask, Header, Started, TaskRef};
use super::local::{self, Local};
use super::state::{CANCEL, TOKEN};
use super::waiter::Waiter;

impl Header {
    /// Wakes the task: a parked one is queued, any other looks round once more before it parks.
    #[inline]
    pub(crate) fn wake(&self) {
        self.notify(0);
    }

    /// Wakes the task, and leaves the token of `park` with it.
    #[inline]
    pub(crate) fn unpark(&self) {
        self.notify(TOKEN);
    }

    /// Asks the task to end: its next suspension unwinds it, and if it is suspended, this one.
    pub(crate) fn cancel(&self) {
        self.notify(CANCEL);
    }

    /// Wakes the task, and leaves the token or the flag `also` in its state word.
    #[inline]
    pub(super) fn notify(&self, also: usize) {
        let owner = self.owner.load(std::sync::atomic::Ordering::Relaxed);
        if Local::with_owner(owner, |local| local.unpark_pending(self, also)) == Some(true) {
            return;
        }
        if self.state.notify(also) {
            // SAFETY: T2, the task is parked, so it is in no queue and on no worker.
            unsafe { self.enqueue() };
        }
    }

    /// Queues the task with its worker, from any thread.
    ///
    /// # Safety
    ///
    /// The caller has unparked the task, so that it is in no queue (T2).
    #[inline]
    unsafe fn enqueue(&self) {
        let owner = self.owner().expect("a parked task has an owner");
        let task = ptr::from_ref(self).cast_mut();
        // SAFETY: T2, the caller's word.
        let push_ready = |local: &Local| local.push_ready(unsafe { Started::from_raw(task) });
        if Local::with_owner(owner, push_ready).is_none() {
            // SAFETY: I1 by T2, and the task does not end before it is taken.
            unsafe { owner.push(task) };
        }
    }
}

impl Local {
    /// Unparks the tasks whose time has come.
    pub(crate) fn fire_timers(&self) {
        if self.next_timer().is_none() {
            return;
        }
        let now = Instant::now();
        while let Some(task) = self.pop_due(now) {
            task.wake();
        }
    }
}

impl Waiter<TaskRef> {
    /// A waker may be anybody's code.
    pub(crate) fn wake(self) {
        match self {
            Waiter::Task(task) => task.wake(),
            Waiter::Thread(thread) => thread.unpark(),
            Waiter::Waker(waker) => waker.wake(),
        }
    }
}

/// What wakes a waiter that may have left the place where it waited.
#[must_use = "somebody is to be woken"]
pub(crate) enum Wakeup {
    /// A task of this thread's worker. It cannot leave before the worker has switched to it, so it is not counted.
    Here(NonNull<Header>),
    Held(Waiter<TaskRef>),
}

impl Wakeup {
    #[inline]
    pub(crate) fn wake(self) {
        match self {
            // SAFETY: Q2, our worker has not switched to it yet.
            Wakeup::Here(task) => unsafe { task.as_ref() }.wake(),
            Wakeup::Held(waiter) => waiter.wake(),
        }
    }
}

impl Waiter<BorrowedTask> {
    /// What wakes it, also when it waits no more.
    ///
    /// # Safety
    ///
    /// It still waits, and what this gives is used before the calling code is suspended and before code of the user's
    /// runs.
    #[inline]
    pub(super) unsafe fn wakeup(self) -> Wakeup {
        match self {
            Waiter::Task(task) if local::is_here(task.owner) => Wakeup::Here(task.header),
            // SAFETY: the caller's word.
            Waiter::Task(task) => Wakeup::Held(Waiter::Task(unsafe { task.hold() })),
            Waiter::Thread(thread) => Wakeup::Held(Waiter::Thread(thread)),
            Waiter::Waker(waker) => Wakeup::Held(Waiter::Waker(waker)),
        }
    }
}
