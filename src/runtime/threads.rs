//! A runtime: its worker threads, how they are started, and how they end.

use std::fmt;
use std::io;
use std::mem;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_deque::{self as deque, Injector};

use super::deadlock;
use super::idle::Idle;
use super::monitor;
use super::shared::Shared;
use super::shutdown_latch::ShutdownLatch;
use super::stack_wait::StackWaitQueue;
use super::survivors::SurvivorReport;
use super::worker::Worker;
use super::{StartsDefault, config};
use crate::coroutine::{prepare_process, prepare_thread};
use crate::fork;
use crate::stack::{self, Class};
use crate::task::{self, Free, JoinHandle, Remote, TaskRef};
use crate::thread;
use crate::{record, suspension};

/// How long a shutdown without a limit waits for one more coroutine to end.
const PATIENCE: Duration = Duration::from_secs(10);

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
    pub(super) shared: Arc<Shared>,
}

impl Runtime {
    /// What a runtime is made from.
    ///
    /// # Examples
    ///
    /// ```
    /// let runtime = coro::Runtime::builder().build()?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder {
            workers: None,
            stack_size: None,
            thread_name: String::from("coro"),
            watch: None,
        }
    }

    /// Starts a coroutine on this runtime; otherwise as [`go`](crate::go). After a
    /// [`shutdown`](Runtime::shutdown) the coroutine is dropped unrun, and its handle gives
    /// [`Cancelled`](crate::JoinError::Cancelled).
    ///
    /// # Panics
    ///
    /// In a process that was forked from one that uses coroutines.
    ///
    /// # Examples
    ///
    /// ```
    /// let runtime = coro::Runtime::builder().workers(1).build()?;
    /// assert_eq!(runtime.go(|| "hello").join().unwrap(), "hello");
    /// # std::io::Result::Ok(())
    /// ```
    #[track_caller]
    pub fn go<F, T>(&self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        // SAFETY: `f` is 'static, and nobody's child.
        unsafe { self.shared.start(f, || Free, task::Options::plain(self.shared.class)) }
    }

    /// Ends the runtime: refuses new work, drops unrun what has not started, cancels what lives, waits
    /// for its cleanup, and joins the threads, whose thread-locals are gone then. Dropping the runtime
    /// does the same.
    ///
    /// Whatever a coroutine does in its cleanup is waited for, as long as something moves, or something comes by
    /// itself: a time, the end of a [`blocking`](crate::blocking()) call, of a coroutine of another runtime, or of
    /// another runtime. What goes on regardless is given up when nothing of its worker has run for three seconds and
    /// it waits for nothing of that kind, or when no coroutine of the runtime has ended for ten. It is left alone: its
    /// worker and that one's thread, with its thread-locals, stay until it ends by itself, and a line on stderr names
    /// it. Of each worker ten are named and the others counted; of one that is kept busy, the one that runs.
    ///
    /// A cancellation unwinds as a panic does, and aborts where a panic would: see
    /// [`JoinHandle::cancel`]. [`shield`](crate::shield) puts it off, and is waited for.
    ///
    /// Called in a coroutine of this very runtime, or in the destructor of a thread-local of one of its
    /// threads, it begins the shutdown and does not wait. In a process that was forked from the one which
    /// started the runtime, it does nothing.
    ///
    /// # Panics
    ///
    /// Unwinds, without calling the panic hook, when the coroutine that waits is cancelled. In a
    /// [`no_suspend`](crate::no_suspend()), when it has to wait for others.
    ///
    /// # Examples
    ///
    /// ```
    /// let runtime = coro::Runtime::builder().workers(1).build()?;
    /// let parked = runtime.go(|| loop { coro::park() });
    /// runtime.shutdown();
    /// assert!(matches!(parked.join(), Err(coro::JoinError::Cancelled)));
    /// assert!(matches!(runtime.go(|| ()).join(), Err(coro::JoinError::Cancelled)));
    /// # std::io::Result::Ok(())
    /// ```
    pub fn shutdown(&self) {
        if fork::is_child() {
            return; // its threads are the parent's
        }
        self.begin_shutdown();
        while self.has_to_wait() {
            let ended = self.shared.ended();
            if self.shared.shutdown_latch.wait(Instant::now() + PATIENCE) {
                return self.shared.shutdown_latch.join(far());
            }
            if self.shared.ended() == ended {
                return self.give_up(PATIENCE);
            }
        }
    }

    /// As [`shutdown`](Runtime::shutdown), but waits no longer than `limit` in all; gives the number of
    /// coroutines that are still alive then, each of which is left alone and may still end by itself.
    /// So may a thread whose thread-locals take longer than that.
    ///
    /// # Panics
    ///
    /// As [`shutdown`](Runtime::shutdown).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    /// use std::time::Duration;
    ///
    /// static STOP: AtomicBool = AtomicBool::new(false);
    /// let runtime = coro::Runtime::builder().workers(1).build()?;
    /// let stubborn = runtime.go(|| while !STOP.load(Relaxed) {}); // never suspends
    /// # while coro::inspect::metrics().fresh > 0 {}
    /// assert_eq!(runtime.shutdown_timeout(Duration::from_millis(10)), 1);
    /// STOP.store(true, Relaxed);
    /// stubborn.join().unwrap();
    /// # std::io::Result::Ok(())
    /// ```
    pub fn shutdown_timeout(&self, limit: Duration) -> usize {
        if fork::is_child() {
            return self.shared.alive();
        }
        let deadline = Instant::now().checked_add(limit).unwrap_or_else(far);
        self.begin_shutdown();
        if self.has_to_wait() {
            if self.shared.shutdown_latch.wait(deadline) {
                self.shared.shutdown_latch.join(deadline);
            } else {
                self.give_up(limit);
            }
        }
        self.shared.alive()
    }

    fn begin_shutdown(&self) {
        if self.has_to_wait() {
            record::with(suspension::check_task);
        }
        self.shared.close();
    }

    /// Whether there is something to wait for, and the caller can: neither a coroutine of this runtime,
    /// nor a destructor of a thread-local of its threads, which may all be there at the same time.
    /// Threads that were joined, or left alone, are waited for no more.
    fn has_to_wait(&self) -> bool {
        let is_inside = Worker::here_of(&self.shared).is_some();
        let shutdown_latch = &self.shared.shutdown_latch;
        !is_inside && shutdown_latch.has_threads() && !shutdown_latch.is_one_of_the_threads()
    }

    /// Leaves the threads that do not end to themselves, and tells which coroutines hold them.
    fn give_up(&self, waited: Duration) {
        self.shared.shutdown_latch.leave_alone();
        self.shared.tell_survivors(waited);
        self.shared.discard_fresh();
    }

    #[track_caller]
    pub(super) fn start(options: &RuntimeOptions) -> io::Result<Runtime> {
        fork::check();
        prepare_process()?;
        fork::watch()?;
        stack::stack_pressure::on_clear(Remote::wake_all);
        deadlock::configure();
        let workers = options.workers;
        // Whatever the kernel refuses later, every coroutine gets its turn.
        stack::provide(options.class)?;
        let queues: Vec<_> = (0..workers).map(|_| deque::Worker::new_lifo()).collect();
        let shared = Arc::new(Shared {
            injector: Injector::new(),
            stealers: queues.iter().map(deque::Worker::stealer).collect(),
            stack_wait: StackWaitQueue::default(),
            remotes: (0..workers).map(|_| Remote::acquire()).collect(),
            survivors: (0..workers).map(|_| SurvivorReport::default()).collect(),
            idle: Idle::new(),
            closing: false.into(),
            class: options.class,
            watched: options.watch.is_some(),
            shutdown_latch: ShutdownLatch::default(),
        });
        for remote in &shared.remotes {
            remote.running().set_limit(options.watch);
        }
        let runtime = Runtime { shared };
        for (index, queue) in queues.into_iter().enumerate() {
            // An error ends the threads that there are.
            runtime.start_worker(index, queue, &options.thread_name).map_err(|error| {
                no_thread(&format!("worker {} of {workers}", index + 1), &error)
            })?;
        }
        match monitor::start() {
            Err(error) if options.watch.is_some() => return Err(no_thread("the watch", &error)),
            // Without it, workers look round late if their turns are slow. A later runtime tries again.
            _ => {}
        }
        // Not before: the monitor is one of the threads that are counted.
        runtime.shared.list();
        Ok(runtime)
    }

    fn start_worker(
        &self,
        index: usize,
        queue: deque::Worker<TaskRef>,
        thread_name: &str,
    ) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        shared.shutdown_latch.expect_worker();
        let spawned = thread::spawn(&format!("{thread_name}-{index}"), move || {
            if let Err(error) = prepare_thread() {
                // Without it an overflow dies by a plain SIGSEGV; all else works.
                crate::base::report::line(format_args!("coro: no alternate signal stack: {error}"));
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

/// A time that does not come.
fn far() -> Instant {
    Instant::now() + Duration::from_secs(1 << 32)
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

impl Drop for Runtime {
    fn drop(&mut self) {
        self.shutdown();
        if fork::is_child() {
            // There are no such threads here that could be detached.
            mem::forget(Arc::clone(&self.shared));
        }
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("workers", &self.shared.remotes.len()).finish()
    }
}

/// What a runtime is started with, checked.
pub(super) struct RuntimeOptions {
    pub(super) workers: usize,
    pub(super) class: Class,
    pub(super) thread_name: String,
    pub(super) watch: Option<Duration>,
}

/// What a [`Runtime`] is made from; by [`Runtime::builder`].
///
/// # Examples
///
/// ```
/// let runtime = coro::Runtime::builder()
///     .workers(2)
///     .stack_size(64 * 1024)
///     .thread_name("crunch")
///     .build()?;
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Debug)]
pub struct RuntimeBuilder {
    workers: Option<usize>,
    stack_size: Option<usize>,
    thread_name: String,
    watch: Option<Duration>,
}

impl RuntimeBuilder {
    /// How many worker threads: 1 to 4096. Otherwise `CORO_WORKERS`, or as many as the process may
    /// use CPUs.
    ///
    /// # Examples
    ///
    /// ```
    /// let runtime = coro::Runtime::builder().workers(1).build()?;
    /// # std::io::Result::Ok(())
    /// ```
    #[must_use]
    pub fn workers(mut self, n: usize) -> Self {
        self.workers = Some(n);
        self
    }

    /// How many bytes the frames of each coroutine may take at least, up to 64 MiB; otherwise `CORO_STACK_SIZE`, such
    /// as `300000`, `256K` or `1M`; or 168 KiB, or `RUST_MIN_STACK`, if that is more. See
    /// [`Builder::stack_size`](crate::Builder::stack_size).
    ///
    /// # Examples
    ///
    /// ```
    /// let runtime = coro::Runtime::builder().stack_size(1 << 20).build()?;
    /// # std::io::Result::Ok(())
    /// ```
    #[must_use]
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// The name of the worker threads, to which a hyphen and their number are appended: `crunch-0`;
    /// otherwise `coro`.
    ///
    /// # Examples
    ///
    /// ```
    /// let runtime = coro::Runtime::builder().thread_name("crunch").build()?;
    /// let name = runtime.go(|| std::thread::current().name().map(str::to_owned)).join().unwrap();
    /// assert!(name.unwrap().starts_with("crunch-"));
    /// # std::io::Result::Ok(())
    /// ```
    #[must_use]
    pub fn thread_name(mut self, name: impl Into<String>) -> Self {
        self.thread_name = name.into();
        self
    }

    /// Reports on stderr a coroutine that holds its worker for longer than `limit` without
    /// suspending: its id and name, where it was spawned, for how long. Once for each place of
    /// spawning. Otherwise `CORO_WATCH` (such as `100ms` or `2s`), or no reports.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let runtime = coro::Runtime::builder().watch(Duration::from_millis(100)).build()?;
    /// # std::io::Result::Ok(())
    /// ```
    #[must_use]
    pub fn watch(mut self, limit: Duration) -> Self {
        self.watch = Some(limit);
        self
    }

    /// Starts the runtime.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a number of workers or a size of stacks that is out of range, a thread name
    /// with a NUL in it, or a watch of zero; `OutOfMemory` where the kernel reserves no addresses or
    /// grants no stack; `Unsupported` under a user shadow stack; where the system grants no thread, the
    /// kind that it gives (`WouldBlock`, mostly) with a message that names the limits.
    ///
    /// # Panics
    ///
    /// When `CORO_WORKERS`, `CORO_STACK_SIZE`, `CORO_WATCH`, `CORO_DEADLOCK`, `CORO_GUARD` or `CORO_CHECK` is asked
    /// for and is nonsense; the message names the variable and its value. One that is empty counts as not set. In a
    /// process that was forked from one that uses coroutines.
    ///
    /// # Examples
    ///
    /// ```
    /// let refused = coro::Runtime::builder().workers(0).build().unwrap_err();
    /// assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
    /// ```
    #[track_caller]
    pub fn build(self) -> io::Result<Runtime> {
        let workers = match self.workers {
            Some(workers) => workers,
            None => config::workers(),
        };
        if !(1..=config::MAX_WORKERS).contains(&workers) {
            let message = format!(
                "a runtime has 1 to {} workers, not {workers}; see RuntimeBuilder::workers",
                config::MAX_WORKERS
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        if self.thread_name.contains('\0') {
            let message = "a thread's name cannot contain a NUL; see RuntimeBuilder::thread_name";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        if self.watch.is_some_and(|limit| limit.is_zero()) {
            let message = "a coroutine cannot be watched for 0 s; see RuntimeBuilder::watch";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let watch = match self.watch {
            Some(limit) => Some(limit),
            None => config::watch(),
        };
        Runtime::start(&RuntimeOptions {
            workers,
            class: match self.stack_size {
                Some(bytes) => Class::for_size(bytes)?,
                None => config::class(),
            },
            thread_name: self.thread_name,
            watch,
        })
    }

    /// Starts the default runtime, on which [`go`](crate::go) starts coroutines outside of a coroutine. Otherwise it
    /// starts by itself at its first use, as the environment says.
    ///
    /// # Errors
    ///
    /// As [`build`](RuntimeBuilder::build); and `AlreadyExists` where the default runtime has started.
    ///
    /// # Panics
    ///
    /// As [`build`](RuntimeBuilder::build).
    ///
    /// # Examples
    ///
    /// ```
    /// coro::Runtime::builder().stack_size(1 << 20).build_default()?;
    /// let stack = coro::go(|| coro::inspect::stack_bounds().unwrap().len()).join().unwrap();
    /// assert!(stack >= 1 << 20);
    /// # std::io::Result::Ok(())
    /// ```
    #[track_caller]
    pub fn build_default(self) -> io::Result<()> {
        let Some(starts) = StartsDefault::acquire() else {
            let message = "the default runtime has started: this comes before its first use";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
        };
        starts.set(self.build()?);
        Ok(())
    }
}
