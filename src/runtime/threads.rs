//! A runtime: its worker threads, how they are started, and how they end.

use std::fmt;
use std::io;
use std::mem;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_deque::{self as deque, Injector};

use super::config;
use super::deadlock;
use super::exits::Exits;
use super::idle::Idle;
use super::leftovers::{And, Leftovers};
use super::refused::Refused;
use super::shared::Shared;
use super::watch::Monitor;
use super::worker::Worker;
use crate::coroutine::{prepare_process, prepare_thread};
use crate::stack::{self, Class};
use crate::task::{self, Free, JoinHandle, Remote, TaskRef};

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
    monitor: Mutex<Option<Monitor>>,
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
    /// Whatever a coroutine does in its cleanup is waited for, as long as something moves. What goes on
    /// regardless is given up when nothing of its worker has run for three seconds and no timer is set,
    /// or when no coroutine of the runtime has ended for ten. It is left alone: its worker and that
    /// one's thread, with its thread-locals, stay until it ends by itself, and a line on stderr names it.
    /// Of each worker ten are named and the others counted; of one that is kept busy, the one that runs.
    ///
    /// Called in a coroutine of this very runtime, or in the destructor of a thread-local of one of its
    /// threads, it begins the shutdown and does not wait. In a process that was forked from the one which
    /// started the runtime, it does nothing.
    ///
    /// # Panics
    ///
    /// Unwinds, without calling the panic hook, when the coroutine that waits is cancelled.
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
        if task::is_forked() {
            return; // its threads are the parent's
        }
        self.begin_shutdown();
        while self.has_to_wait() {
            let ended = self.shared.ended();
            if self.shared.exits.wait(Instant::now() + PATIENCE) {
                return self.shared.exits.join(far());
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
        if task::is_forked() {
            return self.shared.alive();
        }
        let deadline = Instant::now().checked_add(limit).unwrap_or_else(far);
        self.begin_shutdown();
        if self.has_to_wait() {
            if self.shared.exits.wait(deadline) {
                self.shared.exits.join(deadline);
            } else {
                self.give_up(limit);
            }
        }
        self.shared.alive()
    }

    fn begin_shutdown(&self) {
        self.shared.close();
        if let Some(monitor) = lock(&self.monitor).take() {
            monitor.stop();
        }
    }

    /// Whether there is something to wait for, and the caller can: neither a coroutine of this runtime,
    /// nor a destructor of a thread-local of its threads, which may all be there at the same time.
    /// Threads that were joined, or left alone, are waited for no more.
    fn has_to_wait(&self) -> bool {
        let here = Worker::here();
        let is_inside = here.is_some_and(|worker| Arc::ptr_eq(worker.shared(), &self.shared));
        let exits = &self.shared.exits;
        !is_inside && exits.has_threads() && !exits.is_one_of_the_threads()
    }

    /// Leaves the threads that do not end to themselves, and tells which coroutines hold them.
    fn give_up(&self, waited: Duration) {
        self.shared.exits.leave_alone();
        for (remote, leftovers) in self.shared.remotes.iter().zip(&self.shared.leftovers) {
            if leftovers.tell() {
                continue;
            }
            // A worker that does not sleep cannot be asked, but for what it runs.
            if let Some(running) = remote.running().get() {
                crate::report::tell(format_args!(
                    "coro: {running} was cancelled {waited:?} ago and goes on running; it is left alone"
                ));
                if let others @ 1.. = remote.counters().alive().saturating_sub(1) {
                    crate::report::tell(format_args!("{}", And(others as usize)));
                }
            }
        }
        self.shared.discard_fresh();
    }

    #[track_caller]
    pub(super) fn start(options: &Options) -> io::Result<Runtime> {
        task::check_fork();
        prepare_process()?;
        task::watch_forks()?;
        stack::shortage::on_relief(Remote::wake_all);
        deadlock::configure();
        let workers = options.workers;
        // Whatever the kernel refuses later, every coroutine gets its turn.
        stack::provide(options.class)?;
        let queues: Vec<_> = (0..workers).map(|_| deque::Worker::new_lifo()).collect();
        let shared = Arc::new(Shared {
            injector: Injector::new(),
            stealers: queues.iter().map(deque::Worker::stealer).collect(),
            refused: Refused::default(),
            remotes: (0..workers).map(|_| Remote::acquire()).collect(),
            leftovers: (0..workers).map(|_| Leftovers::default()).collect(),
            idle: Idle::new(),
            closing: false.into(),
            class: options.class,
            watched: options.watch.is_some(),
            exits: Exits::default(),
        });
        let runtime = Runtime { shared, monitor: Mutex::default() };
        for (index, queue) in queues.into_iter().enumerate() {
            // An error ends the threads that there are.
            runtime.start_worker(index, queue, &options.thread_name).map_err(|error| {
                no_thread(&format!("worker {} of {workers}", index + 1), &error)
            })?;
        }
        if let Some(limit) = options.watch {
            let monitor = Monitor::start(&runtime.shared, limit, &options.thread_name)
                .map_err(|error| no_thread("the watch", &error))?;
            *lock(&runtime.monitor) = Some(monitor);
        }
        // Not before: the monitor is one of the threads that are counted.
        deadlock::observe(&runtime.shared);
        Ok(runtime)
    }

    fn start_worker(
        &self,
        index: usize,
        queue: deque::Worker<TaskRef>,
        thread_name: &str,
    ) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        shared.exits.expect_worker();
        let spawned =
            thread::Builder::new().name(format!("{thread_name}-{index}")).spawn(move || {
                if let Err(error) = prepare_thread() {
                    // Without it an overflow dies by a plain SIGSEGV; all else works.
                    crate::report::tell(format_args!("coro: no alternate signal stack: {error}"));
                }
                let worker = Worker::new(Arc::clone(&shared), index, queue);
                let is_waited_for = worker.run();
                drop(worker);
                if is_waited_for {
                    shared.exits.worker_has_ended();
                }
            });
        match spawned {
            Ok(thread) => self.shared.exits.expect_thread(thread),
            Err(error) => {
                self.shared.exits.worker_has_ended();
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

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// What is shared is changed by the workers, which no panic of the user's gets through to.
impl UnwindSafe for Runtime {}
impl RefUnwindSafe for Runtime {}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.shutdown();
        if task::is_forked() {
            // There are no such threads here that could be detached.
            mem::forget((Arc::clone(&self.shared), mem::take(&mut self.monitor)));
        }
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("workers", &self.shared.remotes.len()).finish()
    }
}

/// What a runtime is started with, checked.
pub(super) struct Options {
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

    /// The size of the coroutines' stacks in bytes, rounded up to a power of two from 16 KiB to
    /// 64 MiB; otherwise 256 KiB. What comes out of it is told at
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
    /// When `CORO_WORKERS`, `CORO_WATCH`, `CORO_DEADLOCK` or `CORO_GUARD` is asked for and is
    /// nonsense; the message names the variable and its value. One that is empty counts as not set. In a
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
        Runtime::start(&Options {
            workers,
            class: self.stack_size.map_or(Ok(Class::DEFAULT), Class::for_size)?,
            thread_name: self.thread_name,
            watch,
        })
    }
}
