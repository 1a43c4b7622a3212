//! Cancelling a coroutine while another on its worker is suspended in the middle of unwinding.
//!
//! std counts panics for each thread, so the one to be cancelled sees [`std::thread::panicking`] for
//! a panic that is not its own. The cancellation must reach it all the same.

mod common;

use std::thread::panicking;
use std::time::Duration;

use coro::JoinError;

use common::{Counter, is_planned, planned, quiet, watchdog_for};

/// Why the neighbour unwinds.
#[derive(Clone, Copy)]
enum End {
    Panic,
    Cancel,
}

const LIMIT: Duration = Duration::from_secs(20);

/// Parks in its destructor until it is told to go on.
struct ParksInDrop {
    parked: Counter,
    released: Counter,
}

impl Drop for ParksInDrop {
    fn drop(&mut self) {
        assert!(panicking());
        self.parked.add();
        while self.released.get() == 0 {
            coro::park();
        }
        assert!(panicking());
    }
}

/// A coroutine that panics, or is cancelled, and parks in the middle of unwinding.
struct Unwinding {
    task: coro::JoinHandle<()>,
    parked: Counter,
    released: Counter,
}

impl Unwinding {
    fn start(runtime: &coro::Runtime, end: End) -> Unwinding {
        let (parked, released) = (Counter::default(), Counter::default());
        let local = ParksInDrop { parked: parked.clone(), released: released.clone() };
        let task = runtime.go(move || {
            let _local = local;
            match end {
                End::Panic => planned("parked in a drop"),
                End::Cancel => {
                    coro::current().unwrap().cancel();
                    coro::yield_now();
                }
            }
        });
        parked.wait_for(1);
        Unwinding { task, parked, released }
    }

    fn finish(self, end: End) {
        assert_eq!(self.parked.get(), 1);
        self.released.add();
        self.task.handle().unpark();
        match (end, self.task.join()) {
            (End::Panic, Err(JoinError::Panicked(payload))) => {
                assert!(is_planned(&*payload, "parked in a drop"));
            }
            (End::Cancel, Err(JoinError::Cancelled)) => {}
            (_, other) => panic!("{other:?}"),
        }
    }
}

/// One that runs beside the other: it cannot be told whose panic it is, so the cancellation is put
/// off. It comes at a suspension after that, once.
#[test]
fn switch_a_cancel_beside_a_neighbours_unwinding_is_put_off() {
    let _watchdog = watchdog_for(LIMIT);
    quiet();
    let runtime = common::runtime(1);
    let first = Unwinding::start(&runtime, End::Panic);
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
    first.finish(End::Panic);
    let outcome = beside.join();
    assert!(matches!(outcome, Err(JoinError::Cancelled)), "{outcome:?}");
    assert!(!runtime.go(panicking).join().unwrap());
}

/// `cancel` promises: one that is suspended is woken and unwound.
#[test]
fn switch_a_cancel_is_not_lost_on_a_neighbours_unwinding() {
    let _watchdog = watchdog_for(LIMIT);
    quiet();
    for end in [End::Panic, End::Cancel] {
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
        let unwinding = Unwinding::start(&runtime, end);
        parked.cancel();
        // Lets the worker see it while the neighbour is still unwinding.
        for _ in 0..100 {
            runtime.go(coro::yield_now).join().unwrap();
        }
        unwinding.finish(end);
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
