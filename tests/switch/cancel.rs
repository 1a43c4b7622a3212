//! Cancelling a coroutine while another on its worker is suspended in the middle of unwinding.
//!
//! std counts panics for each thread. The one to be cancelled must not see its neighbour's, and the
//! cancellation must reach it at once.

use std::panic::catch_unwind;
use std::thread::panicking;
use std::time::Duration;

use coro::JoinError;
use coro::raw::Yielder;

use crate::common::{self, Counter, planned, quiet, watchdog_for};
use crate::unwinding::{Unwinding, Why};

const LIMIT: Duration = common::CHILDS_LIMIT;

#[test]
fn switch_a_cancel_beside_a_neighbours_unwinding_comes_at_once() {
    let _watchdog = watchdog_for(LIMIT);
    quiet();
    let runtime = common::runtime(1);
    for why in [Why::Panic, Why::Cancel] {
        let first = Unwinding::start(&runtime, why);
        for suspend in [coro::yield_now, coro::park, || coro::sleep(Duration::MAX)] {
            let cleaned = Counter::default();
            let counter = cleaned.clone();
            let beside: coro::JoinHandle<()> = runtime.go(move || {
                coro::tls::at_exit(move || counter.add());
                assert!(!panicking());
                coro::yield_now();
                coro::current().unwrap().cancel();
                loop {
                    suspend();
                }
            });
            let outcome = beside.join();
            assert!(matches!(outcome, Err(JoinError::Cancelled)), "{outcome:?}");
            assert_eq!(cleaned.get(), 1);
        }
        first.finish();
        assert!(!runtime.go(panicking).join().unwrap());
    }
}

/// In a raw coroutine it unwinds the frames of the resumer as well.
#[test]
fn switch_a_cancel_in_a_raw_coroutine_beside_a_neighbours_unwinding_comes_at_once() {
    let _watchdog = watchdog_for(LIMIT);
    quiet();
    let runtime = common::runtime(1);
    let first = Unwinding::start(&runtime, Why::Panic);
    let beside: coro::JoinHandle<()> = runtime.go(move || {
        let body = |_: &Yielder<(), ()>, ()| {
            coro::current().unwrap().cancel();
            coro::yield_now();
            unreachable!("it is cancelled");
        };
        coro::raw::with(64 << 10, body, |coroutine| _ = coroutine.resume(())).unwrap();
    });
    assert!(matches!(beside.join(), Err(JoinError::Cancelled)));
    first.finish();
    assert!(!runtime.go(panicking).join().unwrap());
}

/// A destructor that a panic runs may itself catch what it calls, and throw it on. It is not unwound.
#[test]
fn switch_a_cancel_under_a_catch_in_a_destructor_that_a_panic_runs_is_put_off() {
    struct Catches(Counter);
    impl Drop for Catches {
        fn drop(&mut self) {
            assert!(panicking());
            coro::current().unwrap().cancel();
            for suspend in [coro::yield_now, || coro::sleep(Duration::from_millis(1))] {
                assert_eq!(coro::timeout(Duration::MAX, suspend), Ok(()));
                assert_eq!(coro::timeout(Duration::from_secs(3600), suspend), Ok(()));
                assert!(catch_unwind(suspend).is_ok());
            }
            self.0.add();
        }
    }
    let _watchdog = watchdog_for(LIMIT);
    quiet();
    let runtime = common::runtime(1);
    let dropped = Counter::default();
    let counter = dropped.clone();
    let task: coro::JoinHandle<()> = runtime.go(move || {
        let _catches = Catches(counter);
        planned("and then it is cancelled");
    });
    let outcome = task.join();
    assert!(matches!(outcome, Err(JoinError::Panicked(_))), "{outcome:?}");
    assert_eq!(dropped.get(), 1);
}

/// `cancel` promises: one that is suspended is woken and unwound.
#[test]
fn switch_a_cancel_is_not_lost_on_a_neighbours_unwinding() {
    let _watchdog = watchdog_for(LIMIT);
    quiet();
    for why in [Why::Panic, Why::Cancel] {
        let runtime = common::runtime(1);
        let (up, woken) = (Counter::default(), Counter::default());
        let parked = {
            let (up, woken) = (up.clone(), woken.clone());
            runtime.go(move || {
                up.add();
                loop {
                    coro::park();
                    woken.add();
                }
            })
        };
        up.wait_for(1);
        let unwinding = Unwinding::start(&runtime, why);
        parked.cancel();
        // Lets the worker see it while the neighbour is still unwinding.
        for _ in 0..100 {
            runtime.go(coro::yield_now).join().unwrap();
        }
        unwinding.finish();
        let outcome: Result<(), JoinError> = parked.join();
        assert!(matches!(outcome, Err(JoinError::Cancelled)), "{outcome:?}");
    }
}

/// The one that is cancelled has run since the panic began, and is inside calls of the library that catch what
/// unwinds them and throw it on.
#[test]
fn switch_a_drop_during_unwinding_may_cancel_and_join_one_that_has_run_meanwhile() {
    let _watchdog = watchdog_for(LIMIT);
    quiet();
    struct EndsItsChild<'a>(Option<coro::JoinHandle<()>>, &'a Counter);
    impl Drop for EndsItsChild<'_> {
        fn drop(&mut self) {
            let rounds = self.1.get();
            while self.1.get() < rounds + 3 {
                coro::sleep(Duration::from_micros(100));
            }
            let child = self.0.take().unwrap();
            child.cancel();
            assert!(matches!(child.join(), Err(JoinError::Cancelled)));
        }
    }
    fn run(rounds: &Counter) {
        loop {
            coro::sleep(Duration::from_micros(100));
            rounds.add();
        }
    }
    fn run_in_time(rounds: &Counter) {
        coro::timeout(Duration::from_secs(3600), || run(rounds)).unwrap();
    }
    fn run_in_scopes(rounds: &Counter) {
        coro::scope(|_| coro::scope(|_| run_in_time(rounds)));
    }
    fn run_within_a_destructor(rounds: &Counter) {
        struct Runs<'a>(&'a Counter);
        impl Drop for Runs<'_> {
            fn drop(&mut self) {
                run_in_scopes(self.0);
            }
        }
        drop(Runs(rounds));
    }
    let runtime = common::runtime(1);
    for body in [run, run_in_time, run_in_scopes, run_within_a_destructor] {
        let parent = runtime.go(move || {
            let rounds = Counter::default();
            let inside = rounds.clone();
            let _guard = EndsItsChild(Some(coro::go(move || body(&inside))), &rounds);
            planned("with a child");
        });
        assert!(matches!(parent.join(), Err(JoinError::Panicked(_))));
    }
}

/// The same where the neighbour, in its destructor, waits for the one that it cancels: as a guard
/// does that ends what its owner has started.
#[test]
fn switch_a_drop_during_unwinding_may_cancel_and_join() {
    let _watchdog = watchdog_for(LIMIT);
    quiet();
    struct EndsItsChild(Option<coro::JoinHandle<()>>, Counter);
    impl Drop for EndsItsChild {
        fn drop(&mut self) {
            let child = self.0.take().unwrap();
            child.cancel();
            assert!(matches!(child.join(), Err(JoinError::Cancelled)));
            self.1.add();
        }
    }
    let runtime = common::runtime(1);
    let joined = Counter::default();
    let counter = joined.clone();
    let parent = runtime.go(move || {
        let up = Counter::default();
        let inside = up.clone();
        let child = coro::go(move || {
            inside.add();
            loop {
                coro::park();
            }
        });
        up.wait_for(1);
        let _guard = EndsItsChild(Some(child), counter);
        planned("with a child");
    });
    assert!(matches!(parent.join(), Err(JoinError::Panicked(_))));
    assert_eq!(joined.get(), 1);
}
