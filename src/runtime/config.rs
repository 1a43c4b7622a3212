//! What the environment says about runtimes.

use std::num::NonZeroUsize;
use std::time::Duration;

use crate::environment::{count, variable};

/// The most workers that a runtime may have.
pub(super) const MAX_WORKERS: usize = 4096;

/// How many workers the default runtime has: `CORO_WORKERS`, or as many as the process may use CPUs.
///
/// # Panics
///
/// When the variable holds anything but a number from 1 to [`MAX_WORKERS`].
#[track_caller]
pub(super) fn workers() -> usize {
    count("CORO_WORKERS", MAX_WORKERS)
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, NonZeroUsize::get))
}

/// After how long a coroutine that does not suspend is reported: `CORO_WATCH`, if that is set.
///
/// # Panics
///
/// When the variable holds anything but a whole number of `us`, `ms` or `s` that is not 0.
#[track_caller]
pub(super) fn watch() -> Option<Duration> {
    let parse = |value: &str| duration(value).filter(|limit| !limit.is_zero());
    variable("CORO_WATCH", "a time such as 100ms or 2s", parse)
}

fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number = number.parse().ok()?;
    match unit {
        "us" => Some(Duration::from_micros(number)),
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        _ => None,
    }
}
