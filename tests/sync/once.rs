//! Values that are made once: whatever becomes of the one that makes them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use coro::sync::{LazyLock, OnceLock};

use crate::common::{self, Counter, Gate, planned, quiet};
use crate::{RACES, SHORT, let_others_go_on, spawn_waiting};

/// An initialiser that suspends: the others wait for it, threads among them, and it runs once.
#[test]
fn sync_once_an_initialiser_may_suspend_and_runs_once() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (once, runs, gate) = (Arc::new(OnceLock::new()), Counter::default(), Gate::default());
        let get = |number: usize| {
            let (once, runs, gate) = (Arc::clone(&once), runs.clone(), gate.clone());
            move || {
                *once.get_or_init(|| {
                    runs.add();
                    gate.pass();
                    number
                })
            }
        };
        let first = runtime.go(get(1));
        runs.wait_for(1);
        assert_eq!(once.get(), None);
        let mut tasks: Vec<_> = (2..6).map(|i| runtime.go(get(i))).collect();
        tasks.push(spawn_waiting(runtime, {
            let once = Arc::clone(&once);
            move || *once.wait()
        }));
        tasks.push(spawn_waiting(runtime, {
            let once = Arc::clone(&once);
            move || once.set(9).unwrap_err() - 8
        }));
        let thread = common::spawn_until_blocked(get(7));
        gate.open();
        assert_eq!((first.join().unwrap(), thread.join().unwrap()), (1, 1));
        tasks.into_iter().for_each(|task| assert_eq!(task.join().unwrap(), 1));
        assert_eq!((runs.get(), once.get()), (1, Some(&1)));
    });
}

/// An initialiser that panics or is cancelled leaves it to the next.
#[test]
fn sync_once_an_initialiser_that_unwinds_leaves_it_to_the_next() {
    quiet();
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        for panics in [false, true] {
            let (once, begun, gate) =
                (Arc::new(OnceLock::new()), Counter::default(), Gate::default());
            let first = runtime.go({
                let (once, begun, gate) = (Arc::clone(&once), begun.clone(), gate.clone());
                move || {
                    *once.get_or_init(|| {
                        begun.add();
                        gate.pass();
                        if panics {
                            planned("an initialiser")
                        } else {
                            coro::sleep(crate::LONG)
                        }
                        0
                    })
                }
            });
            begun.wait_for(1);
            let waits = |number| {
                let once = Arc::clone(&once);
                spawn_waiting(runtime, move || *once.get_or_init(|| number))
            };
            let (second, third) = (waits(2), waits(3));
            let for_ever = spawn_waiting(runtime, {
                let once = Arc::clone(&once);
                move || *once.wait()
            });
            gate.open();
            first.cancel();
            first.join().unwrap_err();
            let value = second.join().unwrap();
            assert!(value == 2 || value == 3);
            assert_eq!((third.join().unwrap(), for_ever.join().unwrap()), (value, value));
        }
        let once = OnceLock::new();
        assert_eq!(once.get_or_try_init(|| Err::<u8, _>("no")), Err("no"));
        assert_eq!(once.get_or_try_init(|| Ok::<_, ()>(1)), Ok(&1));
    });
}

/// One that waits for another's initialiser can be cancelled, and disturbs nobody.
#[test]
fn sync_once_one_that_waits_can_be_cancelled() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (once, begun, gate) = (Arc::new(OnceLock::new()), Counter::default(), Gate::default());
        let first = runtime.go({
            let (once, begun, gate) = (Arc::clone(&once), begun.clone(), gate.clone());
            move || {
                *once.get_or_init(|| {
                    begun.add();
                    gate.pass();
                    1
                })
            }
        });
        begun.wait_for(1);
        let waits = spawn_waiting(runtime, {
            let once = Arc::clone(&once);
            move || *once.get_or_init(|| 2)
        });
        waits.cancel();
        common::assert_cancelled(waits.join());
        let limited = runtime.go({
            let once = Arc::clone(&once);
            move || coro::timeout(SHORT, || *once.wait()).is_err()
        });
        assert!(limited.join().unwrap());
        gate.open();
        assert_eq!(first.join().unwrap(), 1);
    });
}

/// Initialisers that are cancelled at any moment: a value is made in the end, once.
#[test]
fn sync_once_a_cancellation_at_any_moment_leaves_one_value() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        for round in 0..RACES {
            let once = Arc::new(OnceLock::new());
            let get = |number: usize| {
                let once = Arc::clone(&once);
                move || {
                    *once.get_or_init(|| {
                        coro::yield_now();
                        number
                    })
                }
            };
            let (first, second) = (runtime.go(get(1)), runtime.go(get(2)));
            if round % 2 == 0 {
                thread::yield_now();
            }
            first.cancel();
            let second = second.join().unwrap();
            if let Ok(first) = first.join() {
                assert_eq!(first, second);
            }
            assert_eq!(once.get(), Some(&second));
        }
    });
}

/// An initialiser that wants its own value is told so, on coroutines and on threads.
#[test]
fn sync_once_an_initialiser_that_wants_its_own_value_is_a_clear_panic() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let nested = || {
            let once = OnceLock::new();
            let init = AssertUnwindSafe(|| *once.get_or_init(|| *once.get_or_init(|| 1) + 1));
            let payload = catch_unwind(init).unwrap_err();
            assert!(common::message(&*payload).contains("the value that it is to make"));
            assert_eq!(once.set(3), Ok(()), "and nothing is lost");
        };
        runtime.go(nested).join().unwrap();
        nested();
    });
}

#[test]
fn sync_once_values_are_dropped_once() {
    let _watchdog = common::watchdog();
    let dropped = Counter::default();
    let mut once = OnceLock::from(dropped.on_drop());
    drop(once.set(dropped.on_drop()).unwrap_err());
    assert_eq!(dropped.get(), 1);
    drop(once.take().unwrap());
    assert_eq!(dropped.get(), 2);
    assert!(once.take().is_none() && once.get().is_none() && once.get_mut().is_none());
    assert!(once.set(dropped.on_drop()).is_ok());
    drop(once);
    assert_eq!(dropped.get(), 3);
    drop(OnceLock::<common::OnDrop>::new());
    drop(OnceLock::from(dropped.on_drop()).into_inner());
    assert_eq!(dropped.get(), 4);
}

#[test]
fn sync_once_is_copied_compared_and_shown_as_its_value() {
    let _watchdog = common::watchdog();
    let (empty, full) = (OnceLock::new(), OnceLock::from(1));
    assert_eq!(format!("{empty:?} {full:?}"), "OnceLock(<uninit>) OnceLock(1)");
    assert!(empty != full && full.clone() == full && empty.clone() == OnceLock::default());
    let lazy = LazyLock::new(|| 1);
    assert_eq!(format!("{lazy:?}"), "LazyLock(<uninit>)");
    assert_eq!(format!("{} {lazy:?}", *lazy), "1 LazyLock(1)");
    assert_eq!(*LazyLock::<u8>::default(), 0);
}

/// A `LazyLock` in a static, whose initialiser suspends, and is cancelled meanwhile: it goes on to its end.
#[test]
fn sync_lazy_an_initialiser_that_is_cancelled_goes_on() {
    static BEGUN: AtomicBool = AtomicBool::new(false);
    static OPEN: AtomicBool = AtomicBool::new(false);
    static LAZY: LazyLock<usize> = LazyLock::new(|| {
        BEGUN.store(true, Ordering::Release);
        while !OPEN.load(Ordering::Acquire) {
            coro::yield_now();
        }
        7
    });
    let _watchdog = common::watchdog();
    let runtime = common::runtime(2);
    let first = runtime.go(|| {
        let value = *LAZY;
        coro::yield_now();
        value
    });
    while !BEGUN.load(Ordering::Acquire) {
        coro::yield_now();
    }
    let second = runtime.go(|| *LAZY);
    first.cancel();
    let_others_go_on(&runtime);
    assert!(!first.is_finished() && !second.is_finished());
    OPEN.store(true, Ordering::Release);
    common::assert_cancelled(first.join());
    assert_eq!((second.join().unwrap(), *LAZY), (7, 7));
}

/// As std's: there is no second initialiser.
#[test]
fn sync_lazy_an_initialiser_that_panics_poisons() {
    quiet();
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let lazy: Arc<LazyLock<u8>> = Arc::new(LazyLock::new(|| planned("an initialiser")));
        let get = || {
            let lazy = Arc::clone(&lazy);
            move || **lazy
        };
        let error = runtime.go(get()).join().unwrap_err();
        assert!(common::is_planned(&*error.into_panic(), "an initialiser"));
        let payload = catch_unwind(AssertUnwindSafe(get())).unwrap_err();
        assert!(common::message(&*payload).contains("has panicked"));
    });
}
