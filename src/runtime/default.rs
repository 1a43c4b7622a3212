//! The default runtime, of those who have none.

use std::io;
use std::sync::{Mutex, MutexGuard, OnceLock};

use super::config;
use super::runtime_builder::RuntimeBuilder;
use super::start::Runtime;
use crate::base::lock::lock;

static DEFAULT: OnceLock<Runtime> = OnceLock::new();

/// The right to start the default runtime. Not by `get_or_init`: a failure is to be tried again at the next call.
struct StartsDefault(#[expect(dead_code, reason = "held")] MutexGuard<'static, ()>);

impl StartsDefault {
    /// `None`: it has started.
    fn acquire() -> Option<StartsDefault> {
        static STARTING: Mutex<()> = Mutex::new(());
        let starting = lock(&STARTING);
        DEFAULT.get().is_none().then_some(StartsDefault(starting))
    }

    fn set(self, runtime: Runtime) -> &'static Runtime {
        DEFAULT.get_or_init(|| runtime)
    }
}

/// The runtime of those who have none. Where the system grants fewer threads than asked for, it
/// makes do with fewer workers.
#[track_caller]
pub(super) fn default_runtime() -> io::Result<&'static Runtime> {
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
pub(super) fn default_or_panic() -> &'static Runtime {
    if let Some(runtime) = DEFAULT.get() {
        return runtime;
    }
    match default_runtime() {
        Ok(runtime) => runtime,
        Err(error) => panic!("no coroutine can be started: {error}"),
    }
}

impl RuntimeBuilder {
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
