//! Starting one coroutine with more to say than [`go`](crate::go).

use std::io;
use std::panic::Location;

use super::default::default_runtime;
use super::place::Place;
use super::shared::Shared;
use super::start::Runtime;
use super::worker::Worker;
use crate::stack::{self, Class};
use crate::task::{Extras, Free, JoinHandle, Parent, SpawnOptions};

/// Starts a coroutine with a name, a stack of its own size or a worker of choice, and gives an error where
/// [`go`](crate::go) panics.
///
/// # Examples
///
/// ```
/// let deep = coro::Builder::new()
///     .name("deep")
///     .stack_size(8 << 20)
///     .spawn(|| {
///         fn depth(n: u32) -> u32 {
///             let frame = std::hint::black_box([n; 64]);
///             if n == 0 { 0 } else { frame[0] - n + 1 + depth(n - 1) }
///         }
///         depth(2000)
///     })?;
/// assert_eq!(deep.join().unwrap(), 2000);
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing before `spawn`"]
pub struct Builder {
    name: Option<String>,
    stack_size: Option<usize>,
    place: Place,
    location: Option<&'static Location<'static>>,
}

impl Builder {
    /// A builder without a name and with the runtime's stack size.
    ///
    /// # Examples
    ///
    /// ```
    /// coro::Builder::new().spawn(|| ())?.join().unwrap();
    /// # std::io::Result::Ok(())
    /// ```
    pub fn new() -> Builder {
        Builder::default()
    }

    /// The coroutine's name, for reports and for [`Handle::name`](crate::Handle::name).
    ///
    /// # Examples
    ///
    /// ```
    /// let named = coro::Builder::new().name("accept").spawn(|| {
    ///     coro::current().unwrap().name().map(str::to_owned)
    /// })?;
    /// assert_eq!(named.join().unwrap().as_deref(), Some("accept"));
    /// # std::io::Result::Ok(())
    /// ```
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How many bytes the coroutine's frames may take at least, up to 64 MiB.
    ///
    /// The stack has a guard and the hidden record besides, 88 KiB in all, and both together are rounded up to
    /// a power of two from 128 KiB on. So there are 40 KiB at least, and 168 KiB, 424 KiB or 936 KiB are sizes
    /// that leave nothing over. What is not touched takes addresses and no memory.
    ///
    /// # Examples
    ///
    /// ```
    /// let refused = coro::Builder::new().stack_size(usize::MAX).spawn(|| ()).unwrap_err();
    /// assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
    /// ```
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// On which worker the coroutine starts. Otherwise it is [`Place::Stealable`].
    ///
    /// A coroutine that is placed with a worker waits for that one. It gets its turn beside the others that the worker
    /// runs, but while one of these computes and does not suspend, no other worker helps out.
    ///
    /// # Examples
    ///
    /// ```
    /// use coro::{Builder, Place};
    ///
    /// let runtime = coro::Runtime::builder().workers(2).thread_name("pair").build()?;
    /// let name = || std::thread::current().name().map(str::to_owned);
    /// let second = Builder::new().place(Place::Worker(1)).spawn_on(&runtime, name)?;
    /// assert_eq!(second.join().unwrap().as_deref(), Some("pair-1"));
    ///
    /// let third = Builder::new().place(Place::Worker(2)).spawn_on(&runtime, name);
    /// assert_eq!(third.unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn place(mut self, place: Place) -> Self {
        self.place = place;
        self
    }

    /// The place that reports name as that of the spawning, in place of the caller's.
    pub(crate) fn location(mut self, location: &'static Location<'static>) -> Self {
        self.location = Some(location);
        self
    }

    /// Starts the coroutine; otherwise as [`go`](crate::go), on the caller's runtime or, outside of a
    /// coroutine and inside of [`blocking`](crate::blocking()), on the default one.
    ///
    /// # Errors
    ///
    /// `InvalidInput` where the stack size is 0 or above 64 MiB, and where the runtime has no worker of the number in
    /// [`Place::Worker`]; `OutOfMemory` where there is no stack of that size to be had; and what
    /// [`RuntimeBuilder::build`](crate::RuntimeBuilder::build) says when the default runtime cannot be started.
    ///
    /// # Panics
    ///
    /// In a process that was forked from one that uses coroutines, and when the default runtime is
    /// started and finds nonsense in the environment, as
    /// [`RuntimeBuilder::build`](crate::RuntimeBuilder::build).
    ///
    /// # Examples
    ///
    /// ```
    /// let refused = coro::Builder::new().stack_size(0).spawn(|| ()).unwrap_err();
    /// assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
    /// ```
    #[track_caller]
    pub fn spawn<F, T>(self, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        // SAFETY: `f` is 'static, and nobody's child.
        unsafe { self.start(None, f, || Free) }
    }

    /// As [`spawn`](Builder::spawn), on this runtime; as [`Runtime::go`].
    ///
    /// # Errors
    ///
    /// As [`spawn`](Builder::spawn), but for what is said of the default runtime.
    ///
    /// # Panics
    ///
    /// In a process that was forked from one that uses coroutines.
    ///
    /// # Examples
    ///
    /// ```
    /// let runtime = coro::Runtime::builder().workers(1).build()?;
    /// let named = coro::Builder::new().name("accept").stack_size(1 << 20);
    /// assert_eq!(named.spawn_on(&runtime, || 42)?.join().unwrap(), 42);
    /// # std::io::Result::Ok(())
    /// ```
    #[track_caller]
    pub fn spawn_on<F, T>(self, runtime: &Runtime, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        // SAFETY: `f` is 'static, and nobody's child.
        unsafe { self.start(Some(&runtime.shared), f, || Free) }
    }

    /// Starts the coroutine on `runtime`; without one, on the caller's, or else on the default one.
    ///
    /// # Safety
    ///
    /// As [`Shared::start`].
    #[track_caller]
    pub(crate) unsafe fn start<F, T, P>(
        self,
        runtime: Option<&Shared>,
        f: F,
        parent: impl FnOnce() -> P,
    ) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send,
        T: Send,
        P: Parent,
    {
        let location = self.location.unwrap_or(Location::caller());
        let class = self.stack_size.map(Class::for_size).transpose()?;
        let extras = self.name.map(Extras::of_name);
        let start = |shared: &Shared| {
            if let Some(class) = class {
                // So the task will get one, sooner or later.
                stack::provide(class)?;
            }
            let worker = self.place.worker(shared)?;
            let plain = shared.plain_options(location);
            let options = SpawnOptions { extras, class: class.unwrap_or(shared.class), ..plain };
            // SAFETY: the caller's word.
            Ok(unsafe { shared.start(f, parent, options, worker) })
        };
        // Not in a closure, into which `#[track_caller]` does not reach.
        let runtime = match runtime {
            None if !Worker::is_here() => Some(&*default_runtime()?.shared),
            runtime => runtime,
        };
        match runtime {
            Some(shared) => start(shared),
            None => Worker::with(|worker| start(worker.expect("the thread is a worker").shared())),
        }
    }
}
