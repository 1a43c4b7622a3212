//! What the environment says. Nonsense there is a clear panic, not a guess.

use std::env;
use std::num::NonZeroUsize;
use std::time::Duration;

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

/// After how long a coroutine that does not suspend is reported: `CORO_WATCH`, if that is set.
///
/// # Panics
///
/// When the variable holds anything but a whole number of `us`, `ms` or `s` that is not 0.
pub(super) fn watch() -> Option<Duration> {
    const NAME: &str = "CORO_WATCH";
    let value = env::var_os(NAME)?;
    let limit = value.to_str().and_then(duration).filter(|limit| !limit.is_zero());
    Some(limit.unwrap_or_else(|| panic!("{NAME}={value:?}: expected a time such as 100ms or 2s")))
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
