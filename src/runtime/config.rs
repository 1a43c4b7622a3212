//! What the environment says. Nonsense there is a clear panic, not a guess.

use std::env;
use std::num::NonZeroUsize;

/// The most workers that a runtime may have.
pub(super) const MAX_WORKERS: usize = 4096;

/// How many workers the default runtime has: `CORO_WORKERS`, or as many as the process may use CPUs.
///
/// # Panics
///
/// When the variable holds anything but a number from 1 to [`MAX_WORKERS`].
pub(super) fn workers() -> usize {
    const NAME: &str = "CORO_WORKERS";
    match env::var_os(NAME) {
        None => std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
        Some(value) => value
            .to_str()
            .and_then(|value| value.parse().ok())
            .filter(|n| (1..=MAX_WORKERS).contains(n))
            .unwrap_or_else(|| {
                panic!("{NAME}={value:?}: expected a number from 1 to {MAX_WORKERS}")
            }),
    }
}
