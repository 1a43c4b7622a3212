//! A runtime, and how its worker threads are started.

use std::fmt;
use std::io;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_deque::{self as deque, Injector};

use super::answer::answer;
use super::deadlock;
use super::fresh::fresh_tasks;
use super::idle::Idle;
use super::monitor;
use super::shared::Shared;
use super::shutdown_latch::ShutdownLatch;
use super::stack_wait::StackWaitQueue;
use super::worker::Worker;
use crate::base::id::RuntimeId;
use crate::base::report;
use crate::coroutine::{prepare_process, prepare_thread};
use crate::dump;
use crate::fork;
use crate::inspect_socket;
use crate::stack::{self, Class};
use crate::task::{Fresh, Mailbox};
use crate::thread;

/// Worker threads, and the coroutines that run on them.
///
/// [`go`](crate::go) needs none: outside of a coroutine it uses a default runtime. One of your own has
/// its own threads, and an end: dropping it is a [`shutdown`](Runtime::shutdown).
///
/// # Examples
///
/// ```
/// let runtime = coro::Runtime::builder().workers(2).thread_name("crunch").build()?;
/// assert_eq!(runtime.go(|| 1 + 1).join().unwrap(), 2);
/// runtime.shutdown();
/// # std::io::Result::Ok(())
/// ```
pub struct Runtime {
    pub(crate) shared: Arc<Shared>,
}

/// What a runtime is started with, checked.
pub(super) struct RuntimeOptions {
    pub(super) workers: usize,
    pub(super) class: Class,
    pub(super) thread_name: String,
    pub(super) watch: Option<Duration>,
}

impl Runtime {
    #[track_caller]
    pub(super) fn start(options: &RuntimeOptions) -> io::Result<Runtime> {
        fork::check();
        prepare_process()?;
        fork::watch()?;
        stack::stack_pressure::on_clear(Mailbox::wake_all);
        deadlock::configure();
        let workers = options.workers;
        // Whatever the kernel refuses later, every coroutine gets its turn.
        stack::provide(options.class)?;
        let queues: Vec<_> = (0..workers).map(|_| deque::Worker::new_lifo()).collect();
        let id = RuntimeId::next();
        let shared = Arc::new(Shared {
            id,
            injector: Injector::new(),
            stealers: queues.iter().map(deque::Worker::stealer).collect(),
            stack_wait: StackWaitQueue::default(),
            placed: (0..workers).map(|_| Arc::default()).collect(),
            mailboxes: (0..workers).map(|_| Mailbox::acquire()).collect(),
            abandoned: (0..workers).map(|_| false.into()).collect(),
            idle: Idle::new(),
            closing: false.into(),
            class: options.class,
            watched: options.watch.is_some(),
            shutdown_latch: ShutdownLatch::default(),
        });
        for mailbox in &shared.mailboxes {
            mailbox.set_runtime(id);
            mailbox.running().set_limit(options.watch);
        }
        let runtime = Runtime { shared };
        for (index, queue) in queues.into_iter().enumerate() {
            // An error ends the threads that there are.
            runtime.start_worker(index, queue, &options.thread_name).map_err(|error| {
                no_thread(&format!("worker {} of {workers}", index + 1), &error)
            })?;
        }
        match monitor::start(deadlock::look) {
            Err(error) if options.watch.is_some() || deadlock::is_asked() => {
                return Err(no_thread("the monitor", &error));
            }
            // Without it, workers look round late if their turns are slow. A later runtime tries again.
            _ => {}
        }
        dump::start(fresh_tasks).map_err(|error| no_thread("CORO_DUMP", &error))?;
        inspect_socket::start(answer).map_err(|error| no_thread("CORO_INSPECT", &error))?;
        // Not before: the threads that are counted are to be there.
        runtime.shared.list();
        Ok(runtime)
    }

    fn start_worker(
        &self,
        index: usize,
        queue: deque::Worker<Fresh>,
        thread_name: &str,
    ) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        shared.shutdown_latch.expect_worker();
        let spawned = thread::spawn(&format!("{thread_name}-{index}"), move || {
            if let Err(error) = prepare_thread() {
                // Without it an overflow dies by a plain SIGSEGV; all else works.
                report::line(format_args!("coro: no alternate signal stack: {error}"));
            }
            let worker = Worker::new(Arc::clone(&shared), index, queue);
            let is_waited_for = worker.run();
            drop(worker);
            if is_waited_for {
                shared.shutdown_latch.worker_has_ended();
            }
        });
        match spawned {
            Ok(thread) => self.shared.shutdown_latch.expect_thread(thread),
            Err(error) => {
                self.shared.shutdown_latch.worker_has_ended();
                return Err(error);
            }
        }
        Ok(())
    }
}

/// What the system has refused, and who can change that. The kind of the error stays.
fn no_thread(whose: &str, error: &io::Error) -> io::Error {
    let message = format!(
        "no thread for {whose}: {error}; see ulimit -u, pids.max of the cgroup and \
         kernel.threads-max, or ask for fewer workers: RuntimeBuilder::workers, CORO_WORKERS"
    );
    io::Error::new(error.kind(), message)
}

// What is shared is changed by the workers, which no panic of the user's gets through to.
impl UnwindSafe for Runtime {}
impl RefUnwindSafe for Runtime {}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("workers", &self.shared.mailboxes.len()).finish()
    }
}
