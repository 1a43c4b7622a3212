//! What the environment says about runtimes.

use std::num::NonZeroUsize;
use std::time::Duration;

use crate::base::env::{count, foreign_variable, variable};
use crate::stack::Class;

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

/// The stacks of a runtime that was asked for no size: of `CORO_STACK_SIZE` bytes, or else of the usual size, or of
/// `RUST_MIN_STACK` bytes, if that is more, as std's threads.
///
/// # Panics
///
/// When `CORO_STACK_SIZE` holds anything but a size from 1 byte to 64 MiB.
#[track_caller]
pub(super) fn class() -> Class {
    let parse = |value: &str| size(value).and_then(|bytes| Class::for_size(bytes).ok());
    let expected = "a number of bytes such as 300000, 256K or 1M, up to 64M";
    variable("CORO_STACK_SIZE", expected, parse).unwrap_or_else(|| {
        let least = foreign_variable("RUST_MIN_STACK", |value| value.parse().ok());
        let least = least.unwrap_or(1).clamp(1, Class::LARGEST_SIZE);
        Class::for_size(least).map_or(Class::DEFAULT, |class| class.max(Class::DEFAULT))
    })
}

fn size(text: &str) -> Option<usize> {
    let (number, shift) = match text.strip_suffix('K') {
        Some(number) => (number, 10),
        None => text.strip_suffix('M').map_or((text, 0), |number| (number, 20)),
    };
    number.parse::<usize>().ok()?.checked_mul(1 << shift)
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
