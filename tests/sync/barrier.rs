//! Barriers: all go on together, again and again, and one of them leads.

use std::sync::Arc;
use std::thread;

use coro::sync::Barrier;

use crate::common::{self, Counter};
use crate::{LONG, RACES, SHORT, let_others_go_on, spawn_waiting};

#[test]
fn sync_barrier_nobody_goes_on_before_all_are_there() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        const ROUNDS: usize = 100;
        let barrier = Arc::new(Barrier::new(6));
        let (come, led) = (Counter::default(), Counter::default());
        let user = || {
            let (barrier, come, led) = (Arc::clone(&barrier), come.clone(), led.clone());
            move || {
                for round in 1..=ROUNDS {
                    come.add();
                    let result = barrier.wait();
                    assert!(come.get() >= 6 * round, "all have come");
                    if result.is_leader() {
                        led.add();
                    }
                }
            }
        };
        let threads: Vec<_> = (0..2).map(|_| thread::spawn(user())).collect();
        let tasks: Vec<_> = (0..4).map(|_| runtime.go(user())).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        tasks.into_iter().for_each(|task| task.join().unwrap());
        assert_eq!((come.get(), led.get()), (6 * ROUNDS, ROUNDS), "one leads each time");
    });
}

/// One that is cancelled while it waits, or whose limit is over, has not come.
#[test]
fn sync_barrier_one_that_gives_up_has_not_come() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let barrier = Arc::new(Barrier::new(2));
        let waits = || {
            let barrier = Arc::clone(&barrier);
            spawn_waiting(runtime, move || barrier.wait().is_leader())
        };
        let cancelled = waits();
        cancelled.cancel();
        common::assert_cancelled(cancelled.join());
        assert!(barrier.wait_timeout(SHORT).is_none());
        let task = waits();
        let_others_go_on(runtime);
        assert!(!task.is_finished(), "it is alone");
        assert!(barrier.wait_timeout(LONG).unwrap().is_leader());
        assert!(!task.join().unwrap());
    });
}

/// A cancellation that meets the last to come: the count is right afterwards.
#[test]
fn sync_barrier_a_cancellation_that_races_the_last_leaves_the_count_right() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let barrier = Arc::new(Barrier::new(2));
        let wait = || {
            let barrier = Arc::clone(&barrier);
            move || barrier.wait().is_leader()
        };
        for round in 0..RACES / 2 {
            let first = runtime.go(wait());
            if round % 3 == 0 {
                thread::yield_now();
            }
            let last = runtime.go(wait());
            if round % 2 == 0 {
                thread::yield_now();
            }
            first.cancel();
            let leaders = match first.join() {
                Ok(is_leader) => usize::from(is_leader) + usize::from(last.join().unwrap()),
                // It has not come, so the last waits for another.
                Err(_) => {
                    let is_leader = barrier.wait().is_leader();
                    usize::from(is_leader) + usize::from(last.join().unwrap())
                }
            };
            assert_eq!(leaders, 1);
        }
        // Nobody is counted who is not there.
        assert!(barrier.wait_timeout(SHORT).is_none());
    });
}

#[test]
fn sync_barrier_for_none_or_one_is_open() {
    static BARRIER: Barrier = Barrier::new(0);
    let _watchdog = common::watchdog();
    assert!(BARRIER.wait().is_leader());
    assert!(Barrier::new(1).wait().is_leader());
    assert_eq!(format!("{BARRIER:?}"), "Barrier { count: 0, .. }");
}
