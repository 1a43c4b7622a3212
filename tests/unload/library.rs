//! A library that `tests/stack_unload.rs` builds, loads and unloads.

use coro::raw::{self, State, Yielder};

/// Runs one raw coroutine to its end; 42.
#[unsafe(no_mangle)]
pub extern "C" fn run_raw() -> u32 {
    let body = |yielder: &Yielder<u32, u32>, n: u32| yielder.suspend(n + 1) + 1;
    let run = raw::with(64 << 10, body, |coroutine| {
        assert_eq!(coroutine.resume(1), State::Yielded(2));
        coroutine.resume(41)
    });
    match run.expect("a stack") {
        State::Done(n) => n,
        State::Yielded(n) => panic!("it yielded {n}"),
    }
}

/// Runs one coroutine on the default runtime, whose threads stay; 42.
#[unsafe(no_mangle)]
pub extern "C" fn run_on_worker() -> u32 {
    coro::go(|| {
        coro::yield_now();
        42
    })
    .join()
    .expect("a value")
}
