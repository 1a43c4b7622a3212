//! What the workers of one runtime share.

use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use crossbeam_deque::{Injector, Steal, Stealer};

use super::idle::Idle;
use super::shutdown_latch::ShutdownLatch;
use super::stack_wait::StackWaitQueue;
use super::survivors::{self, And, NAMED};
use crate::base::id::RuntimeId;
use crate::base::lock::lock;
use crate::base::report;
use crate::dump::{self, SurveyLimits, WorkerTasks};
use crate::stack::Class;
use crate::task::{Fresh, Header, Mailbox};

/// What the workers of one runtime share: queues, counts of sleepers, the shutdown.
pub(crate) struct Shared {
    pub(super) id: RuntimeId,
    /// Fresh tasks that threads outside the runtime have spawned.
    pub(super) injector: Injector<Fresh>,
    /// The other ends of the workers' fresh queues.
    pub(super) stealers: Box<[Stealer<Fresh>]>,
    /// Fresh tasks that were refused a stack.
    pub(super) stack_wait: StackWaitQueue,
    /// Fresh tasks that are placed with a worker, by worker.
    pub(super) placed: Box<[Arc<StackWaitQueue>]>,
    /// The workers' own halves are gone when they have ended; these stay this runtime's for as long as
    /// it is there, so that nobody counts or wakes a stranger's worker.
    pub(super) mailboxes: Box<[&'static Mailbox<Header>]>,
    /// The workers whose coroutines do not end, which was told.
    pub(super) abandoned: Box<[AtomicBool]>,
    pub(super) idle: Idle,
    /// The runtime shuts down: what lives is cancelled, what is spawned is dropped unrun.
    pub(super) closing: AtomicBool,
    /// The stacks of tasks that ask for no other size.
    pub(super) class: Class,
    /// A monitor looks at what the workers run.
    pub(super) watched: bool,
    pub(super) shutdown_latch: ShutdownLatch,
}

/// All runtimes of the process.
static ALL: Mutex<All> = Mutex::new(All { runtimes: Vec::new(), closed: false });

struct All {
    runtimes: Vec<Weak<Shared>>,
    /// The process is about to end, and no runtime is to work any more.
    closed: bool,
}

fn all() -> MutexGuard<'static, All> {
    lock(&ALL)
}

impl Shared {
    /// Lists a runtime that is ready to work.
    pub(super) fn list(self: &Arc<Self>) {
        let mut all = all();
        all.runtimes.retain(|runtime| runtime.strong_count() > 0);
        all.runtimes.push(Arc::downgrade(self));
        if all.closed {
            drop(all);
            self.close();
        }
    }

    /// The runtimes that there are.
    pub(super) fn listed() -> Vec<Arc<Shared>> {
        all().runtimes.iter().filter_map(Weak::upgrade).collect()
    }

    /// Begins the shutdown of all runtimes, of later ones too, and gives those that there are.
    pub(super) fn close_all() -> Vec<Arc<Shared>> {
        all().closed = true;
        let listed = Shared::listed();
        listed.iter().for_each(|shared| shared.close());
        listed
    }

    /// Tells on stderr which coroutines have not ended, some time after they were cancelled.
    pub(super) fn tell_survivors(&self, waited: Duration) {
        for (mailbox, tasks) in dump::tasks_of(self.id, NAMED, SurveyLimits::SHUTDOWN) {
            let place = self.mailboxes.iter().position(|one| ptr::eq(*one, mailbox));
            if place.is_none_or(|worker| self.abandoned[worker].swap(true, Ordering::Relaxed)) {
                continue;
            }
            match tasks {
                WorkerTasks::Listed(tasks, unlisted) => {
                    let all = tasks.len() + unlisted;
                    survivors::tell(tasks, all);
                }
                WorkerTasks::HeldUp(running, others) => {
                    report::line(format_args!(
                        "coro: {running} was cancelled {waited:?} ago and goes on running; it is left alone"
                    ));
                    if others > 0 {
                        report::line(format_args!("{}", And(others)));
                    }
                }
            }
        }
    }

    /// Queues a fresh task from a thread that is none of the workers.
    pub(super) fn spawn(&self, task: Fresh) {
        self.injector.push(task);
        self.idle.notify(&self.mailboxes);
        // The fence in `notify` orders the push before this load; `close` has the other half. So
        // either the last worker to look sees the task, or we see that nobody will.
        if self.closing.load(Ordering::Relaxed) {
            self.discard_injected();
        }
    }

    /// Queues a fresh task with one worker. From any thread. False: the runtime shuts down, and the worker may have ended.
    /// Then what is left in that queue is the caller's to take out.
    #[must_use]
    pub(super) fn place(&self, task: Fresh, worker: usize) -> bool {
        self.placed[worker].push(task);
        // As in `spawn`: the fence in here orders the push before the load.
        Mailbox::wake_each([self.mailboxes[worker]]);
        !self.closing.load(Ordering::Relaxed)
    }

    /// The queues of the tasks that wait for a stack.
    pub(super) fn stack_wait_queues(&self) -> impl Iterator<Item = &StackWaitQueue> {
        let placed = self.placed.iter().map(|queue| &**queue);
        placed.chain([&self.stack_wait])
    }

    /// Sets a fresh task aside that was refused a stack.
    #[cold]
    pub(super) fn set_aside(&self, task: Fresh) {
        self.stack_wait.push(task);
        fence(Ordering::SeqCst);
        if self.stack_wait.any_retryable() {
            self.idle.notify(&self.mailboxes);
        }
    }

    /// Begins the shutdown.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
        Mailbox::wake_each(self.mailboxes.iter().copied());
    }

    /// Ends, as cancelled, what was injected and will not be run. On the calling thread, so that
    /// destructors run where the spawning code is.
    pub(super) fn discard_injected(&self) {
        while let Some(task) = retry(|| self.injector.steal()) {
            task.discard();
        }
    }

    /// As [`discard_injected`](Shared::discard_injected), of what was placed with this worker.
    pub(super) fn discard_placed(&self, worker: usize) {
        while let Some(task) = self.placed[worker].pop_any() {
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
        // Last, for it is from the stealers that they come here.
        for queue in self.stack_wait_queues() {
            for _ in 0..queue.len() {
                if let Some(task) = queue.pop_any() {
                    task.discard();
                }
            }
        }
    }

    pub(crate) fn id(&self) -> RuntimeId {
        self.id
    }

    /// How many tasks were spawned and have not ended.
    pub(crate) fn alive(&self) -> usize {
        let fresh: usize = self.stealers.iter().map(Stealer::len).sum();
        let waiting: usize = self.stack_wait_queues().map(StackWaitQueue::len).sum();
        let started: u64 = self.mailboxes.iter().map(|mailbox| mailbox.counters().alive()).sum();
        self.injector.len() + fresh + waiting + started as usize
    }

    /// How many tasks have ended here.
    pub(super) fn ended(&self) -> u64 {
        self.mailboxes.iter().map(|mailbox| mailbox.counters().ended.get()).sum()
    }

    /// How many tasks a worker has: those that were started on it and have not ended, and those that are placed with it.
    pub(super) fn load(&self, worker: usize) -> usize {
        self.mailboxes[worker].counters().alive() as usize + self.placed[worker].len()
    }

    /// Whether a fresh task that any worker may start is waiting anywhere, and not just for a stack.
    pub(super) fn has_fresh(&self) -> bool {
        !self.injector.is_empty()
            || self.stealers.iter().any(|stealer| !stealer.is_empty())
            || self.stack_wait.any_retryable()
    }

    /// Whether a fresh task is waiting for its worker, and not just for a stack.
    pub(super) fn has_placed(&self) -> bool {
        self.placed.iter().any(|queue| queue.any_retryable())
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.discard_injected();
        // Every worker that there was held us, so all have ended.
        // SAFETY: W1, they were acquired for this runtime.
        self.mailboxes.iter().for_each(|mailbox| unsafe { mailbox.release() });
    }
}

/// Repeats an attempt to steal for as long as it collides with another.
pub(super) fn retry(mut attempt: impl FnMut() -> Steal<Fresh>) -> Option<Fresh> {
    loop {
        match attempt() {
            Steal::Success(task) => return Some(task),
            Steal::Empty => return None,
            Steal::Retry => {}
        }
    }
}
