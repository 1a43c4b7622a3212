//! Panics where they cannot be moved: no thread for the bank, a forked process.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread::panicking;
use std::time::Duration;

use coro::raw::{self, Yielder};
use coro::{JoinError, JoinHandle};

use crate::common::{self, Counter, RunOnDrop, quiet};
use crate::unwinding::{Unwinding, Why};

const LIMIT: Duration = common::CHILDS_LIMIT;

/// Neighbours see the panic, and what would unwind them waits until it is over: it may be their own.
#[test]
fn fault_panics_stay_with_the_thread_where_there_is_no_bank() {
    const TEST: &str = "fault_panics_stay_with_the_thread_where_there_is_no_bank";
    let body = || {
        quiet();
        let runtime = common::runtime(1);
        runtime.go(|| ()).join().unwrap();
        common::become_limitable();
        common::limit_threads(true);
        let neighbour = Unwinding::start(&runtime, Why::Panic);
        // On one worker this runs when the neighbour is suspended: until then the bank may be wanted.
        assert!(runtime.go(panicking).join().unwrap());
        common::limit_threads(false);

        let rounds = Counter::default();
        let inside = rounds.clone();
        let cancelled: JoinHandle<()> = runtime.go(move || {
            loop {
                inside.add();
                coro::yield_now();
            }
        });
        let parked = Counter::default();
        let inside = parked.clone();
        let waits: JoinHandle<()> = runtime.go(move || {
            loop {
                inside.add();
                coro::park();
            }
        });
        parked.wait_for(1);
        waits.cancel();
        let limited = runtime.go(|| {
            let outcome = coro::timeout(Duration::ZERO, || {
                (0..100).for_each(|_| coro::yield_now());
            });
            outcome.is_ok()
        });
        rounds.wait_for(1);
        cancelled.cancel();
        assert!(limited.join().unwrap(), "it was not cut short");
        rounds.wait_for(rounds.get() + 100);
        assert!(!cancelled.is_finished() && !waits.is_finished());

        // It is not tried again: a count that is moved now and then is wrong for everybody.
        let second = Unwinding::start(&runtime, Why::Panic);
        neighbour.finish();
        second.finish();
        for late in [cancelled, waits] {
            assert!(matches!(late.join(), Err(JoinError::Cancelled)));
        }
        assert!(!runtime.go(panicking).join().unwrap());
        // A raw coroutine that has suspended itself outside of any panic can be ended in the middle of one.
        let ends = runtime.go(|| {
            let ended = Counter::default();
            let caught = catch_unwind(AssertUnwindSafe(|| {
                let body = |yielder: &Yielder<(), ()>, ()| {
                    let _local = ended.on_drop();
                    yielder.suspend(());
                };
                raw::with(64 << 10, body, |coroutine| {
                    coroutine.resume(());
                    resume_unwind(Box::new(1));
                })
            }));
            (caught.is_err(), ended.get())
        });
        assert_eq!(ends.join().unwrap(), (true, 1));
    };
    let _watchdog = common::watchdog();
    if common::is_child(TEST) {
        return body();
    }
    let output = common::child(TEST, TEST);
    let stderr = common::stderr(&output);
    assert!(output.status.success(), "{stderr}");
    let told = "coroutines of one thread share their panics from now on: there is no thread for it";
    assert_eq!(stderr.matches(told).count(), 1, "{stderr}");
    assert!(stderr.contains("ulimit -u"), "{stderr}");
}

/// Sets a panic aside and restores it.
fn set_aside() {
    let caught = catch_unwind(|| {
        let _resumes = RunOnDrop(|| {
            let body = |yielder: &Yielder<(), ()>, ()| {
                assert!(!panicking());
                yielder.suspend(());
            };
            raw::with(64 << 10, body, |coroutine| _ = coroutine.resume(())).unwrap();
            assert!(panicking());
        });
        resume_unwind(Box::new(1));
    });
    assert!(caught.is_err() && !panicking());
}

/// The bank's thread is the parent's. A forked process starts its own, also where its parent was about to.
#[test]
fn fault_panics_are_moved_in_a_forked_process() {
    common::in_child("fault_panics_are_moved_in_a_forked_process", LIMIT, || {
        for before in [false, true] {
            if before {
                set_aside();
            }
            // SAFETY: the process ends below, and raw coroutines need nothing of other threads.
            match unsafe { libc::fork() } {
                0 => {
                    (0..10).for_each(|_| set_aside());
                    // SAFETY: takes a number.
                    unsafe { libc::_exit(7) };
                }
                child => assert_eq!(libc::WEXITSTATUS(common::wait_for_forked(child)), 7),
            }
            set_aside();
        }
    });
}

/// One that was set aside before the fork is restored after it.
#[test]
fn fault_panics_are_restored_in_a_forked_process() {
    common::in_child("fault_panics_are_restored_in_a_forked_process", LIMIT, || {
        let forks = |yielder: &Yielder<(), ()>, ()| {
            let caught = catch_unwind(AssertUnwindSafe(|| {
                let _suspends = RunOnDrop(|| {
                    yielder.suspend(());
                    assert!(panicking());
                });
                resume_unwind(Box::new(1));
            }));
            assert!(caught.is_err() && !panicking());
        };
        raw::with(64 << 10, forks, |coroutine| {
            coroutine.resume(());
            // SAFETY: as above.
            let child = unsafe { libc::fork() };
            coroutine.resume(());
            assert!(coroutine.is_done());
            if child == 0 {
                set_aside();
                // SAFETY: takes a number.
                unsafe { libc::_exit(7) };
            }
            assert_eq!(libc::WEXITSTATUS(common::wait_for_forked(child)), 7);
        })
        .unwrap();
    });
}
