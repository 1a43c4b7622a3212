//! What a runtime is made from.

use std::io;
use std::time::Duration;

use super::config;
use super::start::{Runtime, RuntimeOptions};
use crate::stack::Class;

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
    /// When `CORO_WORKERS`, `CORO_STACK_SIZE`, `CORO_WATCH`, `CORO_DEADLOCK`, `CORO_DUMP`, `CORO_INSPECT`, `CORO_GUARD` or
    /// `CORO_CHECK` is asked for and is nonsense; the message names the variable and its value. One that is empty counts
    /// as not set. In a process that was forked from one that uses coroutines.
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
}
