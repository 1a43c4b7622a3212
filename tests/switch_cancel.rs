//! Cancelling a coroutine while another on its worker is suspended in the middle of unwinding.
//!
//! std counts panics for each thread, so the one to be cancelled sees [`std::thread::panicking`] for
//! a panic that is not its own. The cancellation must reach it all the same.

mod common;
#[path = "common/unwinding.rs"]
mod unwinding;

use std::thread::panicking;
use std::time::Duration;

use coro::JoinError;

use common::{Counter, planned, quiet, watchdog_for};
use unwinding::{Unwinding, Why};

const LIMIT: Duration = Duration::from_secs(20);

/// One that runs beside the other: it cannot be told whose panic it is, so the cancellation is put
/// off. It comes at a suspension after that, once.
#[test]
fn switch_a_cancel_beside_a_neighbours_unwinding_is_put_off() {
    let _watchdog = watchdog_for(LIMIT);
    quiet();
    let runtime = common::runtime(1);
    let first = Unwinding::start(&runtime, Why::Panic);
    let rounds = Counter::default();
    let counter = rounds.clone();
    let beside: coro::JoinHandle<()> = runtime.go(move || {
        coro::current().unwrap().cancel();
        loop {
            counter.add();
            coro::yield_now();
        }
    });
    rounds.wait_for(100);
    assert!(!beside.is_finished());
    first.finish();
    let outcome = beside.join();
    assert!(matches!(outcome, Err(JoinError::Cancelled)), "{outcome:?}");
    assert!(!runtime.go(panicking).join().unwrap());
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
