//! The scheduler: worker threads, their queues, and the runtimes that own them.

mod builder;
mod config;
mod deadlock;
mod idle;
#[cfg(all(test, coro_loom))]
mod models;
mod monitor;
mod scope;
mod shared;
mod shutdown_latch;
mod stack_wait;
mod survivors;
mod threads;
mod worker;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::fork;
use crate::task::{self, Free, JoinHandle, Options, Parent, Remote};
use shared::Shared;
use worker::Worker;

pub use builder::Builder;
pub use scope::{Scope, ScopedJoinHandle, scope};
pub use threads::{Runtime, RuntimeBuilder};

/// Tasks that were spawned by threads that are no workers.
static SPAWNED_OUTSIDE: AtomicU64 = AtomicU64::new(0);

/// Starts a coroutine that runs `f`.
///
/// Called in a coroutine, it starts the new one on the same [`Runtime`]; called elsewhere, on the
/// default one, which lives as long as the process and has as many workers as the process may use
/// CPUs, or as `CORO_WORKERS` says, or as [`RuntimeBuilder::build_default`] was told. The function of [`blocking`](crate::blocking()) runs elsewhere: what it
/// starts goes to the default runtime.
///
/// The coroutine runs in parallel with its caller, on whichever worker takes it first, and stays on
/// that worker: what it holds on its stack need not be `Send`. What it captures and what it returns
/// must be.
///
/// A panic ends the coroutine and nothing else, and is what [`JoinHandle::join`] gives. The panic hook's message names
/// the worker's thread. A hook of your own finds the coroutine by [`current`](crate::current): its id and name.
/// Where there is no handle left to join it by, a line on stderr tells who has panicked, once for each place of
/// spawning.
///
/// # The nesting rule
///
/// Code that relies on the calls of its thread being nested must not suspend: not the initialiser of a
/// [`thread_local!`], not the function given to `scoped_tls`'s `set` or its like, and not the destructor of a
/// thread-local in a coroutine that calls [`std::process::exit`]. That is undefined behaviour, in safe code.
/// [`local!`](crate::local), [`tls::scope`](crate::tls::scope()) and [`exit`](crate::exit()) are what to use
/// instead, and [`no_suspend`](crate::no_suspend()) is for authors of such code. See
/// [the whole rule](crate#the-nesting-rule).
///
/// # Panics
///
/// When the default runtime cannot be started, with the reason; when it finds nonsense in the
/// environment, as [`RuntimeBuilder::build`]; in a process that was forked from one that uses
/// coroutines. [`Builder::spawn`] gives an error instead of the first.
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
    // SAFETY: `f` is 'static, and nobody's child.
    unsafe { spawn_here(f, || Free) }
}

/// Starts a coroutine on the caller's runtime.
///
/// # Safety
///
/// As [`task::spawn`].
#[inline]
#[track_caller]
unsafe fn spawn_here<F, T, P>(f: F, parent: impl FnOnce() -> P) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send,
    T: Send,
    P: Parent,
{
    fork::check();
    match Worker::here() {
        Some(worker) => {
            let options = Options::plain(worker.shared().class);
            // SAFETY: the caller's word.
            let (task, handle) = unsafe { task::spawn(f, parent(), options) };
            worker.spawn(task);
            handle
        }
        None => {
            let shared = &default_or_panic().shared;
            // SAFETY: the caller's word.
            unsafe { shared.start(f, parent, Options::plain(shared.class)) }
        }
    }
}

impl Shared {
    /// Starts a coroutine on this runtime, whatever thread the caller is on.
    ///
    /// # Safety
    ///
    /// As [`task::spawn`].
    #[track_caller]
    unsafe fn start<F, T, P>(
        &self,
        f: F,
        parent: impl FnOnce() -> P,
        options: Options,
    ) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send,
        T: Send,
        P: Parent,
    {
        // First: a child that is counted has to come to its end.
        fork::check();
        // SAFETY: the caller's word.
        let (task, handle) = unsafe { task::spawn(f, parent(), options) };
        match Worker::here_of(self) {
            Some(worker) => worker.spawn(task),
            None => {
                SPAWNED_OUTSIDE.fetch_add(1, Ordering::Relaxed);
                self.spawn(task);
            }
        }
        handle
    }
}

static DEFAULT: OnceLock<Runtime> = OnceLock::new();

/// The right to start the default runtime. Not by `get_or_init`: a failure is to be tried again at the next call.
struct StartsDefault(#[expect(dead_code, reason = "held")] MutexGuard<'static, ()>);

impl StartsDefault {
    /// `None`: it has started.
    fn acquire() -> Option<StartsDefault> {
        static STARTING: Mutex<()> = Mutex::new(());
        let starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        DEFAULT.get().is_none().then_some(StartsDefault(starting))
    }

    fn set(self, runtime: Runtime) -> &'static Runtime {
        DEFAULT.get_or_init(|| runtime)
    }
}

/// The runtime of those who have none. Where the system grants fewer threads than asked for, it
/// makes do with fewer workers.
#[track_caller]
fn default_runtime() -> io::Result<&'static Runtime> {
    loop {
        if let Some(runtime) = DEFAULT.get() {
            return Ok(runtime);
        }
        let Some(starts) = StartsDefault::acquire() else { continue };
        let mut workers = config::workers();
        loop {
            match Runtime::builder().workers(workers).build() {
                Ok(runtime) => return Ok(starts.set(runtime)),
                Err(error) if workers > 1 && error.kind() == io::ErrorKind::WouldBlock => {
                    workers /= 2;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

#[inline]
#[track_caller]
fn default_or_panic() -> &'static Runtime {
    if let Some(runtime) = DEFAULT.get() {
        return runtime;
    }
    match default_runtime() {
        Ok(runtime) => runtime,
        Err(error) => panic!("no coroutine can be started: {error}"),
    }
}

/// Shuts all runtimes of the process down, later ones too, and waits for their coroutines for `limit` in all. Then
/// tells who is left.
pub(crate) fn shutdown_all(limit: Duration) {
    let deadline = Instant::now() + limit;
    for shared in Shared::close_all() {
        if !shared.shutdown_latch.wait(deadline) {
            shared.tell_survivors(limit);
        }
    }
}

/// What all runtimes of the process have counted, as [`inspect`](crate::inspect) shows it.
pub(crate) struct Totals {
    pub(crate) spawned: u64,
    pub(crate) started: u64,
    pub(crate) ended: u64,
    pub(crate) parked: u64,
    pub(crate) stolen: u64,
}

/// Each count is read over all workers before the next, and what ends a thing before what begins it.
/// So a coroutine that is counted as ended is counted as spawned too, wherever it was, and the counts
/// never hide one that lives.
pub(crate) fn totals() -> Totals {
    // Discarded ones count as started and ended, so that what is left is what lives.
    let discarded = task::discarded();
    let ended = discarded + Remote::count(|counters| &counters.ended);
    let started = discarded + Remote::count(|counters| &counters.started);
    let unparked = Remote::count(|counters| &counters.unparked);
    let parked = Remote::count(|counters| &counters.parked) - unparked;
    let stolen = Remote::count(|counters| &counters.stolen);
    let spawned = Remote::count(|counters| &counters.spawned);
    let spawned = spawned + SPAWNED_OUTSIDE.load(Ordering::Relaxed);
    Totals { spawned, started, ended, parked, stolen }
}
