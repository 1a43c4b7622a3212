//! A cancellation or a time limit that unwinds into code of the crate's own, which catches it: the rest
//! of what that code has to do comes first, and then the interruption comes again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::time::Duration;

use coro::{Elapsed, JoinHandle, Runtime, go, tls};

use crate::common::{self, Counter, assert_cancelled, on_workers, runtime, watchdog};

const SOON: Duration = Duration::from_millis(1);

/// What waits when it is dropped, until it is unwound.
struct Waits(Counter);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.add();
        loop {
            coro::park();
        }
    }
}

/// What others have a turn in the middle of when it is dropped.
struct Yields(Counter);

impl Drop for Yields {
    fn drop(&mut self) {
        for _ in 0..3 {
            coro::yield_now();
        }
        self.0.add();
    }
}

fn in_a_coroutine_made_by_hand(f: impl FnOnce() + 'static) {
    common::raw::<(), (), ()>(64 << 10, |_, ()| f()).unwrap().resume(());
}

/// A runtime on which nothing starts any more. Made once, beforehand: to end it is to wait.
fn ended_runtime() -> &'static Runtime {
    static ENDED: OnceLock<Runtime> = OnceLock::new();
    ENDED.get_or_init(|| {
        let ended = runtime(1);
        ended.shutdown();
        ended
    })
}

type Way = (&'static str, fn(Waits));

/// The ways by which the crate drops what a coroutine has given it, or runs its handlers, in the middle
/// of that coroutine's life.
fn ways() -> Vec<Way> {
    ended_runtime();
    vec![
        ("reset", |value| {
            tls::set("key", value);
            tls::reset();
        }),
        ("unload, a value", |value| {
            tls::set("key", value);
            tls::unload();
        }),
        ("unload, a handler", |value| {
            tls::at_exit(move || drop(value));
            tls::unload();
        }),
        ("the cleanup of a raw coroutine, a value", |value| {
            in_a_coroutine_made_by_hand(move || tls::set("key", value));
        }),
        ("the cleanup of a raw coroutine, a handler", |value| {
            in_a_coroutine_made_by_hand(move || tls::at_exit(move || drop(value)));
        }),
        ("dropping a suspended coroutine", |value| {
            let suspended = common::raw::<(), (), ()>(64 << 10, move |yielder, ()| {
                let _ = catch_unwind(AssertUnwindSafe(|| yielder.suspend(())));
                drop(value);
            })
            .unwrap();
            suspended.resume(());
        }),
        ("dropping what a suspended coroutine yields", |value| {
            let suspended = common::raw::<(), _, ()>(64 << 10, move |yielder, ()| {
                let _ = catch_unwind(AssertUnwindSafe(|| yielder.suspend(None)));
                yielder.suspend(Some(value));
            })
            .unwrap();
            suspended.resume(());
        }),
        ("go on a runtime that has ended", |value| {
            drop(ended_runtime().go(move || drop(value)));
        }),
    ]
}

#[test]
fn task_swallowed_cancel_comes_again() {
    let _watchdog = watchdog();
    on_workers(|runtime, workers| {
        for (name, way) in ways() {
            let (waiting, after) = (Counter::default(), Counter::default());
            let (value, reached) = (Waits(waiting.clone()), after.clone());
            let cancelled: JoinHandle<()> = runtime.go(move || {
                way(value);
                reached.add();
                loop {
                    coro::park();
                }
            });
            waiting.wait_for(1);
            cancelled.cancel();
            assert_cancelled(cancelled.join());
            assert_eq!((waiting.get(), after.get()), (1, 1), "{name}, {workers} workers");
        }
    });
}

#[test]
fn task_swallowed_timeout_comes_again() {
    fn limited(way: fn(Waits)) -> (Result<(), Elapsed>, usize) {
        let after = Counter::default();
        let result = coro::timeout(SOON, || {
            way(Waits(Counter::default()));
            after.add();
            loop {
                coro::park();
            }
        });
        (result, after.get())
    }
    let _watchdog = watchdog();
    for (name, way) in ways() {
        assert_eq!(limited(way), (Err(Elapsed), 1), "{name}, on a thread");
        assert_eq!(go(move || limited(way)).join().unwrap(), (Err(Elapsed), 1), "{name}");
        // It is for the timeout that has elapsed, and for no other.
        let nested = coro::timeout(Duration::from_secs(3600), || limited(way));
        assert_eq!(nested, Ok((Err(Elapsed), 1)), "{name}, within another");
    }
}

#[test]
fn task_swallowed_cancel_lets_the_rest_wait() {
    let _watchdog = watchdog();
    on_workers(|runtime, _| {
        let (waiting, rest) = (Counter::default(), Counter::default());
        let (newest, others) = (Waits(waiting.clone()), rest.clone());
        let cancelled: JoinHandle<()> = runtime.go(move || {
            for number in 0..3 {
                tls::set(number, Yields(others.clone()));
            }
            tls::set("newest", newest);
            tls::reset();
            loop {
                coro::park();
            }
        });
        waiting.wait_for(1);
        cancelled.cancel();
        assert_cancelled(cancelled.join());
        assert_eq!(rest.get(), 3, "dropped after it, each to its end");
    });
}

#[test]
fn task_swallowed_at_the_end_of_a_task_comes_no_more() {
    let _watchdog = watchdog();
    on_workers(|runtime, _| {
        let (waiting, rest) = (Counter::default(), Counter::default());
        let (value, others) = (Waits(waiting.clone()), rest.clone());
        let ending = runtime.go(move || {
            // They run in the order 3, 2, 1.
            let first = Yields(others.clone());
            tls::at_exit(move || drop(first));
            tls::at_exit(move || in_a_coroutine_made_by_hand(|| tls::set("key", value)));
            let last = Yields(others);
            tls::at_exit(move || drop(last));
            "over"
        });
        waiting.wait_for(1);
        ending.cancel();
        assert_eq!(ending.join().unwrap(), "over");
        assert_eq!(rest.get(), 2);
    });
}

#[test]
fn task_swallowed_in_a_value_that_nobody_takes() {
    let _watchdog = watchdog();
    on_workers(|runtime, _| {
        let (waiting, rest) = (Counter::default(), Counter::default());
        let (value, handler) = (Waits(waiting.clone()), Yields(rest.clone()));
        let detached = runtime.go(move || {
            tls::at_exit(move || drop(handler));
            coro::park();
            value
        });
        let handle = detached.handle();
        drop(detached);
        handle.unpark();
        waiting.wait_for(1);
        handle.cancel();
        rest.wait_for(1);
    });
}
