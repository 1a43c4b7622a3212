//! Starting a coroutine: [`go`].

use std::panic::Location;
use std::sync::atomic::Ordering;

use super::default::default_or_panic;
use super::shared::Shared;
use super::start::Runtime;
use super::totals::SPAWNED_OUTSIDE;
use super::worker::Worker;
use crate::fork;
use crate::task::{self, Free, JoinHandle, Parent, SpawnOptions};

/// Starts a coroutine that runs `f`.
///
/// Called in a coroutine, it starts the new one on the same [`Runtime`](crate::Runtime); called elsewhere, on the
/// default one, which lives as long as the process and has as many workers as the process may use
/// CPUs, or as `CORO_WORKERS` says, or as [`RuntimeBuilder::build_default`](crate::RuntimeBuilder::build_default) was told. The function of [`blocking`](crate::blocking()) runs elsewhere: what it
/// starts goes to the default runtime.
///
/// The coroutine runs in parallel with its caller, on whichever worker takes it first, and stays on
/// that worker: what it holds on its stack need not be `Send`. What it captures and what it returns
/// must be.
///
/// A panic ends the coroutine and nothing else, and is what [`JoinHandle::join`](crate::JoinHandle::join) gives. The panic hook's message names
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
/// environment, as [`RuntimeBuilder::build`](crate::RuntimeBuilder::build); in a process that was forked from one that uses
/// coroutines. [`Builder::spawn`](crate::Builder::spawn) gives an error instead of the first.
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
pub(crate) unsafe fn spawn_here<F, T, P>(f: F, parent: impl FnOnce() -> P) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send,
    T: Send,
    P: Parent,
{
    if !Worker::is_here() {
        fork::check();
        let shared = &default_or_panic().shared;
        // SAFETY: the caller's word.
        return unsafe { shared.start(f, parent, shared.plain_options(Location::caller()), None) };
    }
    let location = Location::caller();
    let extras = task::inherit();
    Worker::with(|worker| {
        let worker = worker.expect("the thread is a worker");
        let options = SpawnOptions { extras, ..worker.shared().plain_options(location) };
        // SAFETY: the caller's word.
        let (task, handle) = unsafe { task::spawn(f, parent(), options) };
        worker.spawn(task);
        handle
    })
}

impl Shared {
    /// What a coroutine is spawned with that has no name and a stack of the usual size.
    #[inline]
    pub(crate) fn plain_options(&self, location: &'static Location<'static>) -> SpawnOptions {
        SpawnOptions { extras: None, class: self.class, runtime: self.id, location }
    }

    /// Starts a coroutine on this runtime, whatever thread the caller is on; on the worker of this number, if there is one.
    ///
    /// # Safety
    ///
    /// As [`task::spawn`].
    #[track_caller]
    pub(crate) unsafe fn start<F, T, P>(
        &self,
        f: F,
        parent: impl FnOnce() -> P,
        mut options: SpawnOptions,
        place: Option<usize>,
    ) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send,
        T: Send,
        P: Parent,
    {
        // First: a child that is counted has to come to its end.
        options.inherit();
        // SAFETY: the caller's word.
        let (task, handle) = unsafe { task::spawn(f, parent(), options) };
        Worker::with_one_of(self, |caller| match (caller, place) {
            (Some(caller), None) => caller.spawn(task),
            (Some(caller), Some(worker)) => caller.place(task, worker),
            (None, _) => {
                SPAWNED_OUTSIDE.fetch_add(1, Ordering::Relaxed);
                match place {
                    None => self.spawn(task),
                    Some(worker) if self.place(task, worker) => {}
                    Some(worker) => self.discard_placed(worker),
                }
            }
        });
        handle
    }
}

impl Runtime {
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
        unsafe {
            self.shared.start(f, || Free, self.shared.plain_options(Location::caller()), None)
        }
    }
}
