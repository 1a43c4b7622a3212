//! Waiting for a state under a lock to change.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::current::{Current, current_task};
use super::header::BorrowedTask;
use super::park::wait_on_thread;
use super::stack::ParkReason;
use super::thread_parker::ThreadParker;
use super::wait_list::{Node, WaitList};
use super::waiter::Waiter;
use crate::base::lock::lock;

/// Waits until `is_over` says so of what `mutex` guards, or until `deadline`; true: the former. Whoever changes the
/// state wakes the waiters of its list, which `list` finds. `is_over` and `list` run under the lock.
///
/// An interruption unwinds out of it.
pub(crate) fn wait_until<T>(
    mutex: &Mutex<T>,
    list: fn(&mut T) -> &mut WaitList,
    deadline: Instant,
    reason: ParkReason,
    mut is_over: impl FnMut(&mut T) -> bool,
) -> bool {
    loop {
        let caller = Caller::here();
        let node = Node::new(caller.as_waiter());
        {
            let mut state = lock(mutex);
            if is_over(&mut state) {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            // SAFETY: Q1, `_linked` unlinks it before it goes.
            unsafe { list(&mut state).push(&node) };
        }
        let _linked = Linked { mutex, list, node: &node };
        caller.park_until(deadline, reason);
    }
}

/// Whoever waits, with the number of wake-ups that a thread had before it looked.
enum Caller {
    Task(Current),
    Thread(Arc<ThreadParker>, u32),
}

impl Caller {
    fn here() -> Caller {
        current_task().map_or_else(
            || {
                let thread = ThreadParker::here();
                let seen = thread.wakes();
                Caller::Thread(thread, seen)
            },
            Caller::Task,
        )
    }

    fn as_waiter(&self) -> Waiter<BorrowedTask> {
        match self {
            Caller::Task(task) => Waiter::Task(task.as_borrowed()),
            Caller::Thread(thread, _) => Waiter::Thread(thread.clone()),
        }
    }

    fn park_until(&self, time: Instant, reason: ParkReason) {
        match self {
            Caller::Task(task) => task.park_until(time, reason),
            Caller::Thread(thread, seen) => {
                let left = time.saturating_duration_since(Instant::now());
                wait_on_thread(thread, *seen, Some(left));
            }
        }
    }
}

/// Suspends the caller until `time`. May return early.
pub(crate) fn pause_until(time: Instant, reason: ParkReason) {
    Caller::here().park_until(time, reason);
}

/// A node that is unlinked when this is dropped.
struct Linked<'a, T> {
    mutex: &'a Mutex<T>,
    list: fn(&mut T) -> &mut WaitList,
    node: &'a Node,
}

impl<T> Drop for Linked<'_, T> {
    fn drop(&mut self) {
        // SAFETY: it was linked to this list.
        unsafe { (self.list)(&mut lock(self.mutex)).remove(self.node) };
    }
}
