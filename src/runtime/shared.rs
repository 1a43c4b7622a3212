//! What the workers of one runtime share.

use std::sync::atomic::{AtomicBool, Ordering, fence};

use crossbeam_deque::{Injector, Steal, Stealer};

use super::exits::Exits;
use super::idle::Idle;
use super::leftovers::Leftovers;
use super::refused::Refused;
use crate::stack::Class;
use crate::task::{Remote, TaskRef};

/// See the module's documentation.
pub(super) struct Shared {
    /// Fresh tasks that threads outside the runtime have spawned.
    pub(super) injector: Injector<TaskRef>,
    /// The other ends of the workers' fresh queues.
    pub(super) stealers: Box<[Stealer<TaskRef>]>,
    pub(super) refused: Refused,
    /// The workers' own halves are gone when they have ended; these stay this runtime's for as long as
    /// it is there, so that nobody counts or wakes a stranger's worker.
    pub(super) remotes: Box<[&'static Remote]>,
    /// What each worker would leave behind if it were given up now.
    pub(super) leftovers: Box<[Leftovers]>,
    pub(super) idle: Idle,
    /// The runtime shuts down: what lives is cancelled, what is spawned is dropped unrun.
    pub(super) closing: AtomicBool,
    /// The stacks of tasks that ask for no other size.
    pub(super) class: Class,
    /// A monitor looks at what the workers run.
    pub(super) watched: bool,
    pub(super) exits: Exits,
}

impl Shared {
    /// Queues a fresh task from a thread that is none of the workers.
    pub(super) fn spawn(&self, task: TaskRef) {
        self.injector.push(task);
        self.idle.notify(&self.remotes);
        // The fence in `notify` orders the push before this load; `close` has the other half. So
        // either the last worker to look sees the task, or we see that nobody will.
        if self.closing.load(Ordering::Relaxed) {
            self.discard_injected();
        }
    }

    /// Sets a fresh task aside that was refused a stack.
    #[cold]
    pub(super) fn set_aside(&self, task: TaskRef) {
        self.refused.push(task);
        fence(Ordering::SeqCst);
        if self.refused.any_relieved() {
            self.idle.notify(&self.remotes);
        }
    }

    /// Begins the shutdown.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        for remote in &self.remotes {
            remote.sleep().wake();
        }
    }

    /// Ends, as cancelled, what was injected and will not be run. On the calling thread, so that
    /// destructors run where the spawning code is.
    pub(super) fn discard_injected(&self) {
        while let Some(task) = retry(|| self.injector.steal()) {
            task.discard();
        }
    }

    /// Ends, as cancelled, what no worker has started, on the calling thread.
    pub(super) fn discard_fresh(&self) {
        self.discard_injected();
        for stealer in &self.stealers {
            // As many as there are: whoever holds this worker may spawn as fast as we discard.
            for _ in 0..stealer.len() {
                if let Some(task) = retry(|| stealer.steal()) {
                    task.discard();
                }
            }
        }
        // Last, for it is from the others that they come here.
        for _ in 0..self.refused.len() {
            if let Some(task) = self.refused.pop_any() {
                task.discard();
            }
        }
    }

    /// How many tasks were spawned and have not ended.
    pub(super) fn alive(&self) -> usize {
        let fresh: usize = self.stealers.iter().map(Stealer::len).sum();
        let started: u64 = self.remotes.iter().map(|remote| remote.counters().alive()).sum();
        self.injector.len() + fresh + self.refused.len() + started as usize
    }

    /// How many tasks have ended here.
    pub(super) fn ended(&self) -> u64 {
        self.remotes.iter().map(|remote| remote.counters().ended.get()).sum()
    }

    /// Whether a fresh task is waiting anywhere, and not just for a stack.
    pub(super) fn has_fresh(&self) -> bool {
        !self.injector.is_empty()
            || self.stealers.iter().any(|stealer| !stealer.is_empty())
            || self.refused.any_relieved()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.discard_injected();
        // Every worker that there was held us, so all have ended.
        self.remotes.iter().for_each(|remote| remote.release());
    }
}

/// Repeats an attempt to steal for as long as it collides with another.
pub(super) fn retry(mut attempt: impl FnMut() -> Steal<TaskRef>) -> Option<TaskRef> {
    loop {
        match attempt() {
            Steal::Success(task) => return Some(task),
            Steal::Empty => return None,
            Steal::Retry => {}
        }
    }
}
