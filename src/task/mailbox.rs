//! The half of a worker that other threads may touch: where its started tasks come back to, how it is woken, and
//! what it tells of itself.
//!
//! A started task is pinned to its worker, so whoever unparks the task from another thread leaves it in that worker's
//! inbox. Between the moment that the inbox has the task and the moment that the waker has looked whether the worker
//! sleeps, the task may run, end, and its runtime be dropped. Therefore:
//!
//! - **W1** A mailbox is never freed. It is leaked when made and used again by later workers, so it may be touched at
//!   any time. A late wake-up reaches a stranger, who finds nothing to do.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32};

use crossbeam_utils::CachePadded;

use super::counters::Counters;
use super::deferred_notify::DeferredNotify;
use super::inbox::{Inbox, Linked};
use super::looks::Looks;
use super::running_task::RunningTask;
use super::turn_times::TurnTimes;
use crate::base::atomics::{Ordering, fence};
use crate::base::id::RuntimeId;
use crate::driver::Sleep;

/// A worker, as other threads see it. `N` is what is pushed to it: a task, or a model's node.
pub(crate) struct Mailbox<N> {
    inbox: CachePadded<Inbox<N>>,
    sleep: Sleep,
    counters: Counters,
    running: RunningTask,
    turn_times: TurnTimes,
    looks: Looks,
    deferred_notify: DeferredNotify,
    /// The runtime that the worker belongs to.
    runtime: AtomicU32,
    /// The worker's thread, as the system numbers it. 0: it has not begun.
    thread: AtomicI32,
    /// A worker uses it.
    in_use: AtomicBool,
}

impl<N: Linked> Mailbox<N> {
    pub(super) fn new() -> Mailbox<N> {
        Mailbox {
            inbox: CachePadded::new(Inbox::new()),
            sleep: Sleep::new(),
            counters: Counters::default(),
            running: RunningTask::default(),
            turn_times: TurnTimes::default(),
            looks: Looks::default(),
            deferred_notify: DeferredNotify::default(),
            runtime: AtomicU32::new(0),
            thread: AtomicI32::new(0),
            in_use: AtomicBool::new(false),
        }
    }

    /// Leaves a node, and wakes the worker if it sleeps. From any thread. True: the mailbox was empty.
    ///
    /// # Safety
    ///
    /// The node is in no inbox (I1) and stays valid until it is taken.
    #[cold]
    pub(super) unsafe fn push(&self, node: *mut N) -> bool {
        // SAFETY: I1, the caller's word.
        let was_empty = unsafe { self.inbox.push(node) };
        if was_empty {
            // Whoever finds the inbox non-empty relies on us.
            fence(Ordering::SeqCst);
            self.sleep.wake();
        }
        was_empty
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.inbox.is_empty()
    }

    /// Takes everything, and hands it to `each` in the order in which it came. For the worker.
    pub(super) fn take_all(&self, each: impl FnMut(*mut N)) {
        self.inbox.take_all(each);
    }

    pub(crate) fn sleep(&self) -> &Sleep {
        &self.sleep
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(crate) fn running(&self) -> &RunningTask {
        &self.running
    }

    /// When its turns were.
    pub(crate) fn turn_times(&self) -> &TurnTimes {
        &self.turn_times
    }

    pub(crate) fn looks(&self) -> &Looks {
        &self.looks
    }

    pub(crate) fn deferred_notify(&self) -> &DeferredNotify {
        &self.deferred_notify
    }

    pub(crate) fn set_runtime(&self, runtime: RuntimeId) {
        self.runtime.store(runtime.get(), Ordering::Relaxed);
    }

    /// Whether the worker is one of this runtime's.
    pub(crate) fn is_of(&self, runtime: RuntimeId) -> bool {
        self.runtime.load(Ordering::Relaxed) == runtime.get()
    }

    /// Whether both workers are of one runtime.
    pub(super) fn is_sibling_of(&self, other: &Self) -> bool {
        self.runtime.load(Ordering::Relaxed) == other.runtime.load(Ordering::Relaxed)
    }

    /// By the worker, whose thread this is.
    pub(crate) fn set_thread(&self, thread: i32) {
        self.thread.store(thread, Ordering::Relaxed);
    }

    /// The worker's thread. That of a worker that has ended is no thread any more, or another one.
    pub(crate) fn thread(&self) -> Option<i32> {
        match self.thread.load(Ordering::Relaxed) {
            0 => None,
            thread => Some(thread),
        }
    }

    pub(super) fn set_in_use(&self, in_use: bool) {
        self.in_use.store(in_use, Ordering::Relaxed);
    }

    /// Whether there is a worker.
    pub(crate) fn is_in_use(&self) -> bool {
        self.in_use.load(Ordering::Relaxed)
    }

    /// Whether there is a worker that does not sleep.
    pub(crate) fn is_at_work(&self) -> bool {
        self.is_in_use() && !self.sleep.is_asleep()
    }
}

impl<N> AsRef<Sleep> for Mailbox<N> {
    fn as_ref(&self) -> &Sleep {
        &self.sleep
    }
}
