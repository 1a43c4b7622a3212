//! The scheduler: worker threads, their queues, and the runtimes that own them.

mod builder;
mod config;
mod fork;
mod idle;
mod scope;
mod shared;
mod worker;

use std::fmt;
use std::io;
use std::panic::Location;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;

use crossbeam_deque::{self as deque, Injector};

use crate::coroutine::{prepare_process, prepare_thread};
use crate::stack::Class;
use crate::task::{self, Free, JoinHandle, Options, Parent, Remote, TaskRef};
use idle::Idle;
use shared::Shared;
use worker::Worker;

pub use builder::Builder;
pub use scope::{Scope, ScopedJoinHandle, scope};

/// Tasks that were spawned by threads that are no workers.
static SPAWNED_OUTSIDE: AtomicU64 = AtomicU64::new(0);

/// Starts a coroutine that runs `f`.
///
/// Called in a coroutine, it starts the new one on the same [`Runtime`]; called elsewhere, on the
/// default one, which lives as long as the process and has as many workers as the process may use
/// CPUs, or as `CORO_WORKERS` says.
///
/// The coroutine runs in parallel with its caller, on whichever worker takes it first, and stays on
/// that worker: what it holds on its stack need not be `Send`. What it captures and what it returns
/// must be.
///
/// # Panics
///
/// When the default runtime cannot be started, with the reason; when `CORO_WORKERS` is nonsense; in
/// a process that was forked from one that uses coroutines. [`Builder::spawn`] gives an error
/// instead of the first.
///
/// # Examples
///
/// ```
/// let handles: Vec<_> = (0..100).map(|i| coro::go(move || i * i)).collect();
/// let sum: i32 = handles.into_iter().map(|handle| handle.join().unwrap()).sum();
/// assert_eq!(sum, 328_350);
/// ```
///
/// A coroutine may outlive its caller and be taken by another thread, so it cannot borrow from the
/// caller's stack, nor take or give what must not change threads:
///
/// ```compile_fail,E0373
/// let word = String::from("borrowed");
/// coro::go(|| println!("{word}"));
/// ```
///
/// ```compile_fail,E0277
/// let word = std::rc::Rc::new("not Send");
/// coro::go(move || println!("{word}"));
/// ```
///
/// ```compile_fail,E0277
/// coro::go(|| std::rc::Rc::new("not Send"));
/// ```
#[track_caller]
pub fn go<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    go_at(f, Location::caller())
}

/// [`go`], for those who know better where it was called.
pub(crate) fn go_at<F, T>(f: F, location: &'static Location<'static>) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    // SAFETY: `f` is 'static, and nobody's child.
    unsafe { spawn_here(f, || Free, location) }
}

/// Starts a coroutine on the caller's runtime.
///
/// # Safety
///
/// As [`task::spawn`].
#[inline]
unsafe fn spawn_here<F, T, P>(
    f: F,
    parent: impl FnOnce() -> P,
    location: &'static Location<'static>,
) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send,
    T: Send,
    P: Parent,
{
    fork::check();
    match Worker::here() {
        Some(worker) => {
            let options = Options { name: None, class: worker.shared().class, location };
            // SAFETY: the caller's word.
            let (task, handle) = unsafe { task::spawn(f, parent(), options) };
            worker.spawn(task);
            handle
        }
        // SAFETY: the caller's word.
        None => unsafe { default_or_panic().shared.spawn_from_outside(f, parent(), location) },
    }
}

impl Shared {
    /// # Safety
    ///
    /// As [`task::spawn`].
    unsafe fn spawn_from_outside<F, T, P>(
        &self,
        f: F,
        parent: P,
        location: &'static Location<'static>,
    ) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send,
        T: Send,
        P: Parent,
    {
        let options = Options { name: None, class: self.class, location };
        // SAFETY: the caller's word.
        let (task, handle) = unsafe { task::spawn(f, parent, options) };
        self.submit(task);
        handle
    }

    /// Queues a fresh task, from whatever thread.
    fn submit(&self, task: TaskRef) {
        fork::check();
        match Worker::here() {
            Some(worker) if std::ptr::eq(&raw const **worker.shared(), self) => worker.spawn(task),
            _ => {
                SPAWNED_OUTSIDE.fetch_add(1, Ordering::Relaxed);
                self.spawn(task);
            }
        }
    }
}

/// Worker threads, and the coroutines that run on them.
///
/// [`go`] needs none: outside of a coroutine it uses a default runtime. One of your own has its own
/// threads, and an end: dropping it, or [`shutdown`](Runtime::shutdown), refuses new work, cancels
/// the coroutines that live, runs all their cleanup, and joins the threads.
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
    shared: Arc<Shared>,
    threads: Vec<thread::JoinHandle<()>>,
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
        RuntimeBuilder { workers: None, stack_size: None, thread_name: String::from("coro") }
    }

    /// Starts a coroutine on this runtime; otherwise as [`go`].
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
        unsafe { self.shared.spawn_from_outside(f, Free, Location::caller()) }
    }

    /// Ends the runtime: coroutines that have not started are dropped unrun, the others are
    /// cancelled, all cleanup is run, the threads are joined. Dropping the runtime does the same.
    ///
    /// A coroutine that catches the cancellation and waits on is left alone, memory and all, once
    /// every coroutine of its worker has been silent for three seconds and no timer is set; a line on
    /// stderr names it. A coroutine that never suspends holds the shutdown up until it does.
    ///
    /// Called by a coroutine of this very runtime, it returns without waiting for the threads.
    ///
    /// # Examples
    ///
    /// ```
    /// let runtime = coro::Runtime::builder().workers(1).build()?;
    /// let parked = runtime.go(|| loop { coro::park() });
    /// runtime.shutdown();
    /// assert!(matches!(parked.join(), Err(coro::JoinError::Cancelled)));
    /// # std::io::Result::Ok(())
    /// ```
    pub fn shutdown(self) {
        drop(self);
    }

    fn start(workers: usize, class: Class, thread_name: &str) -> io::Result<Runtime> {
        prepare_process()?;
        fork::watch()?;
        let queues: Vec<_> = (0..workers).map(|_| deque::Worker::new_lifo()).collect();
        let shared = Arc::new(Shared {
            injector: Injector::new(),
            stealers: queues.iter().map(deque::Worker::stealer).collect(),
            remotes: (0..workers).map(|_| Remote::acquire()).collect(),
            idle: Idle::new(),
            closing: false.into(),
            class,
        });
        let mut runtime = Runtime { shared, threads: Vec::with_capacity(workers) };
        for (index, queue) in queues.into_iter().enumerate() {
            // An error here drops the runtime, which ends the threads that there are.
            let thread = runtime.start_worker(index, queue, thread_name)?;
            runtime.threads.push(thread);
        }
        Ok(runtime)
    }

    fn start_worker(
        &self,
        index: usize,
        queue: deque::Worker<TaskRef>,
        thread_name: &str,
    ) -> io::Result<thread::JoinHandle<()>> {
        let shared = Arc::clone(&self.shared);
        thread::Builder::new().name(format!("{thread_name}-{index}")).spawn(move || {
            if let Err(error) = prepare_thread() {
                // Without it an overflow dies by a plain SIGSEGV; all else works.
                eprintln!("coro: no alternate signal stack: {error}");
            }
            let remote = shared.remotes[index];
            let worker = Worker::new(shared, index, queue);
            let all_ended = worker.run();
            drop(worker);
            if all_ended {
                remote.release();
            }
        })
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.shared.close();
        let inside =
            Worker::here().is_some_and(|worker| Arc::ptr_eq(worker.shared(), &self.shared));
        if inside {
            return;
        }
        for thread in self.threads.drain(..) {
            // A worker does not panic; if it has, the panic hook has told.
            let _ = thread.join();
        }
        for remote in self.shared.remotes.iter().skip(self.threads.len()) {
            let _ = remote;
        }
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("workers", &self.shared.remotes.len()).finish()
    }
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
    /// 64 MiB; otherwise 256 KiB. The guard and the hidden record come out of it: up to 20 KiB.
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

    /// The name of the worker threads, to which their number is appended; otherwise `coro`.
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

    /// Starts the runtime.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a number of workers or a size of stacks that is out of range, or a thread
    /// name with a NUL in it; `OutOfMemory` where the kernel reserves no addresses or grants no stack;
    /// `Unsupported` under a user shadow stack; what the system says where it grants no thread.
    ///
    /// # Panics
    ///
    /// When `CORO_WORKERS` is asked for and is nonsense.
    ///
    /// # Examples
    ///
    /// ```
    /// let refused = coro::Runtime::builder().workers(0).build().unwrap_err();
    /// assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
    /// ```
    pub fn build(self) -> io::Result<Runtime> {
        let workers = self.workers.unwrap_or_else(config::workers);
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
        let class = self.stack_size.map_or(Ok(Class::DEFAULT), Class::for_size)?;
        Runtime::start(workers, class, &self.thread_name)
    }
}

static DEFAULT: OnceLock<Runtime> = OnceLock::new();

/// The runtime of those who have none. Where the system grants fewer threads than asked for, it
/// makes do with fewer workers.
fn default_runtime() -> io::Result<&'static Runtime> {
    // Not `get_or_init`: a failure is to be tried again at the next call.
    static STARTING: std::sync::Mutex<()> = std::sync::Mutex::new(());
    if let Some(runtime) = DEFAULT.get() {
        return Ok(runtime);
    }
    let starting = STARTING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(runtime) = DEFAULT.get() {
        return Ok(runtime);
    }
    let mut workers = config::workers();
    let runtime = loop {
        match Runtime::start(workers, Class::DEFAULT, "coro") {
            Ok(runtime) => break runtime,
            Err(error) if workers > 1 && error.kind() == io::ErrorKind::WouldBlock => workers /= 2,
            Err(error) => return Err(error),
        }
    };
    let runtime = DEFAULT.get_or_init(|| runtime);
    drop(starting);
    Ok(runtime)
}

#[inline]
fn default_or_panic() -> &'static Runtime {
    DEFAULT.get().unwrap_or_else(|| {
        default_runtime().unwrap_or_else(|error| panic!("no coroutine can be started: {error}"))
    })
}

/// What all runtimes of the process have counted, as [`inspect`](crate::inspect) shows it.
pub(crate) struct Totals {
    pub(crate) spawned: u64,
    pub(crate) started: u64,
    pub(crate) ended: u64,
    pub(crate) parked: u64,
    pub(crate) stolen: u64,
}

pub(crate) fn totals() -> Totals {
    let mut totals = Totals { spawned: 0, started: 0, ended: 0, parked: 0, stolen: 0 };
    Remote::each_counters(|counters| {
        // What ends a thing is read before what begins it, so that no difference is negative.
        totals.ended += counters.ended.get();
        totals.started += counters.started.get();
        totals.stolen += counters.stolen.get();
        totals.spawned += counters.spawned.get();
        let unparked = counters.unparked.get();
        totals.parked += counters.parked.get().saturating_sub(unparked);
    });
    totals.spawned += SPAWNED_OUTSIDE.load(Ordering::Relaxed);
    totals
}
