//! What is measured of coro, by `core` and beside peers by `side-by-side`.

pub(crate) mod channels;
pub(crate) mod coroutines;
pub(crate) mod locks;
pub(crate) mod storage;

use std::time::{Duration, Instant};

/// How long it takes to call `f` so many times.
#[inline(always)]
pub(crate) fn timed(times: u64, mut f: impl FnMut()) -> Duration {
    let start = Instant::now();
    for _ in 0..times {
        f();
    }
    start.elapsed()
}
