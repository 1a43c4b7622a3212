//! What the workers of one runtime share.

use std::sync::atomic::{AtomicBool, Ordering, fence};

use crossbeam_deque::{Injector, Steal, Stealer};

use super::idle::Idle;
use crate::stack::Class;
use crate::task::{Remote, TaskRef};

/// See the module's documentation.
pub(super) struct Shared {
    /// Fresh tasks that threads outside the runtime have spawned.
    pub(super) injector: Injector<TaskRef>,
    /// The other ends of the workers' fresh queues.
    pub(super) stealers: Box<[Stealer<TaskRef>]>,
    pub(super) remotes: Box<[&'static Remote]>,
    pub(super) idle: Idle,
    /// The runtime shuts down: what lives is cancelled, what is spawned is dropped unrun.
    pub(super) closing: AtomicBool,
    /// The stacks of tasks that ask for no other size.
    pub(super) class: Class,
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
        loop {
            match self.injector.steal() {
                Steal::Success(task) => task.discard(),
                Steal::Empty => return,
                Steal::Retry => {}
            }
        }
    }

    /// Whether a fresh task is waiting anywhere.
    pub(super) fn has_fresh(&self) -> bool {
        !self.injector.is_empty() || self.stealers.iter().any(|stealer| !stealer.is_empty())
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.discard_injected();
    }
}
