//! Putting interruptions off, where an unwinding would abort the process or leave work half done.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use coro::raw::{self, Yielder};
use coro::{Elapsed, JoinError, JoinHandle};

use crate::common::{self, Counter, Gate, assert_cancelled, planned, quiet, watchdog};

const SHORT: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_secs(3600);

/// Parks until the gate is open.
fn wait_for(gate: &Gate) {
    while !gate.is_open() {
        coro::park();
    }
}

/// A coroutine that waits for its gate in a shield, `nested` deep, and counts how far it came.
fn shielded(
    runtime: &coro::Runtime,
    nested: usize,
    gate: &Gate,
    reached: &Counter,
) -> JoinHandle<()> {
    fn shield(nested: usize, f: &dyn Fn()) {
        if nested == 0 { f() } else { coro::shield(|| shield(nested - 1, f)) }
    }
    let (gate, inside) = (gate.clone(), reached.clone());
    let task = runtime.go(move || {
        shield(nested, &|| {
            inside.add();
            wait_for(&gate);
            inside.add();
        });
        inside.add();
        coro::yield_now();
        unreachable!("the cancellation comes at the first suspension after the shield");
    });
    reached.wait_for(1);
    task
}

#[test]
fn task_shield_puts_a_cancellation_off() {
    let _watchdog = watchdog();
    common::on_workers(|runtime, _| {
        for nested in 1..4 {
            let (gate, reached) = (Gate::default(), Counter::default());
            let task = shielded(runtime, nested, &gate, &reached);
            task.cancel();
            for _ in 0..10 {
                runtime.go(coro::yield_now).join().unwrap();
            }
            assert_eq!(reached.get(), 1);
            gate.open();
            task.handle().unpark();
            assert_cancelled(task.join());
            assert_eq!(reached.get(), 3);
        }
    });
}

#[test]
fn task_shield_is_waited_for_by_a_shutdown() {
    let _watchdog = watchdog();
    let reached = Counter::default();
    let runtime = common::runtime(2);
    let task = runtime.go({
        let reached = reached.clone();
        move || {
            coro::shield(|| {
                reached.add();
                while !coro::is_cancelled() {
                    coro::yield_now();
                }
                coro::sleep(SHORT);
                reached.add();
            });
            coro::yield_now();
            unreachable!("the cancellation comes at the first suspension after the shield");
        }
    });
    reached.wait_for(1);
    drop(runtime);
    assert_cancelled(task.join());
    assert_eq!(reached.get(), 2);
}

/// Of two timeouts the one within the shield interrupts it, and the one outside does not.
#[test]
fn task_shield_between_timeouts() {
    let _watchdog = watchdog();
    let nested = || {
        let after = Counter::default();
        let outcome = coro::timeout(Duration::ZERO, || {
            coro::shield(|| {
                assert_eq!(coro::timeout(SHORT, || coro::sleep(LONG)), Err(Elapsed));
                coro::yield_now();
            });
            after.add();
            coro::sleep(LONG);
        });
        assert_eq!((outcome, after.get()), (Err(Elapsed), 1));
    };
    nested();
    common::on_workers(|runtime, _| runtime.go(nested).join().unwrap());
}

/// It ends with its function, also when that panics.
#[test]
fn task_shield_ends_with_a_panic() {
    let _watchdog = watchdog();
    quiet();
    let panics = || {
        let caught = catch_unwind(|| coro::shield(|| planned("in a shield")));
        assert!(caught.is_err());
        assert_eq!(coro::timeout(SHORT, || coro::sleep(LONG)), Err(Elapsed));
    };
    panics();
    common::on_workers(|runtime, _| runtime.go(panics).join().unwrap());
}

/// It covers the raw coroutines that its function resumes. One that is dropped is unwound all the same.
#[test]
fn task_shield_and_raw_coroutines() {
    let _watchdog = watchdog();
    common::on_workers(|runtime, _| {
        let task = runtime.go(|| {
            coro::current().unwrap().cancel();
            let yields = |_: &Yielder<(), ()>, ()| coro::yield_now();
            coro::shield(|| raw::with(64 << 10, yields, |raw| raw.resume(())).unwrap());
            let suspends = |yielder: &Yielder<(), ()>, ()| {
                coro::shield(|| yielder.suspend(()));
                unreachable!("it is dropped there");
            };
            raw::with(64 << 10, suspends, |raw| _ = raw.resume(())).unwrap();
            coro::yield_now();
        });
        assert_cancelled(task.join());
    });
}

/// Sorts two numbers by the C library, with a comparator that suspends.
fn sort() {
    extern "C" fn compare(a: *const libc::c_void, b: *const libc::c_void) -> libc::c_int {
        coro::yield_now();
        // SAFETY: both are elements of the array.
        let (a, b) = unsafe { (*a.cast::<i32>(), *b.cast::<i32>()) };
        a.cmp(&b) as libc::c_int
    }
    let mut numbers = [2, 1];
    // SAFETY: two elements of four bytes.
    unsafe { libc::qsort(numbers.as_mut_ptr().cast(), 2, 4, Some(compare)) };
    assert_eq!(numbers, [1, 2]);
}

#[test]
fn task_shield_around_a_c_function_that_calls_back() {
    const TEST: &str = "task_shield_around_a_c_function_that_calls_back";
    let _watchdog = watchdog();
    let sorts = |sort: fn()| {
        move || {
            coro::current().unwrap().cancel();
            sort();
            coro::yield_now();
        }
    };
    if common::is_child("bare") {
        let _ = coro::go(sorts(sort)).join();
        unreachable!("an unwinding that reaches C aborts");
    }
    assert_cancelled(coro::go(sorts(|| coro::shield(sort))).join());
    let output = common::child(TEST, "bare");
    assert_eq!(common::signal(&output), Some(libc::SIGABRT), "{output:?}");
}

/// Whoever catches everything can tell what to pass on.
#[test]
fn task_is_interruption_tells_what_was_caught() {
    let _watchdog = watchdog();
    quiet();
    fn caught(f: impl FnOnce()) -> bool {
        let payload = catch_unwind(AssertUnwindSafe(f)).unwrap_err();
        let told = coro::is_interruption(&payload);
        assert_eq!(coro::is_interruption(&*payload), told);
        if told {
            resume_unwind(payload);
        }
        told
    }
    assert!(!caught(|| planned("a panic")));
    assert!(!caught(|| resume_unwind(Box::new(String::from("a payload")))));
    let limited = coro::timeout(SHORT, || caught(|| coro::sleep(LONG)));
    assert_eq!(limited, Err(Elapsed));
    let suspends = |yielder: &Yielder<(), ()>, ()| _ = caught(|| yielder.suspend(()));
    raw::with(64 << 10, suspends, |raw| _ = raw.resume(())).unwrap();
    let task = coro::go(|| {
        coro::current().unwrap().cancel();
        caught(|| coro::sleep(LONG))
    });
    assert!(matches!(task.join(), Err(JoinError::Cancelled)));
}
