//! Starting one coroutine with more to say than [`go`](crate::go).

use std::io;
use std::panic::Location;

use super::{Worker, default_runtime};
use crate::stack::{self, Class};
use crate::task::{Free, JoinHandle, Options};

/// Starts a coroutine with a name or a stack of its own size, and gives an error where
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

    /// The size of the coroutine's stack in bytes, rounded up to a power of two from 16 KiB to
    /// 64 MiB. The guard and the hidden record come out of it: up to 20 KiB.
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

    /// Starts the coroutine; otherwise as [`go`](crate::go).
    ///
    /// # Errors
    ///
    /// `InvalidInput` where the stack size is 0 or above 64 MiB; `OutOfMemory` where there is no
    /// stack of that size to be had; and what [`RuntimeBuilder::build`](crate::RuntimeBuilder::build)
    /// says when the default runtime cannot be started.
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
        let location = Location::caller();
        let class = self.stack_size.map(Class::for_size).transpose()?;
        let shared = match Worker::here() {
            Some(worker) => &**worker.shared(),
            None => &*default_runtime()?.shared,
        };
        if let Some(class) = class {
            // So the task will get one, sooner or later.
            stack::provide(class)?;
        }
        let name = self.name.map(|name| Box::new(name.into_boxed_str()));
        let options = Options { name, class: class.unwrap_or(shared.class), location };
        // SAFETY: `f` is 'static.
        Ok(unsafe { shared.start(f, || Free, options) })
    }
}
