//! Notifications: one is kept, those to all are not, and none is lost.

use std::sync::Arc;
use std::thread;

use coro::sync::Notify;

use crate::common::{self, Counter};
use crate::{LONG, RACES, SHORT, let_others_go_on, spawn_waiting};

#[test]
fn sync_notify_keeps_one_and_no_more() {
    static NOTIFY: Notify = Notify::new();
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        (0..3).for_each(|_| NOTIFY.notify_one());
        assert_eq!(format!("{NOTIFY:?}"), "Notify { notified: true, .. }");
        runtime.go(|| NOTIFY.wait()).join().unwrap();
        assert!(!NOTIFY.wait_timeout(SHORT), "on a thread");
        assert!(!runtime.go(|| NOTIFY.wait_timeout(SHORT)).join().unwrap());
    });
}

#[test]
fn sync_notify_one_wakes_the_one_that_has_waited_longest() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let notify = Arc::new(Notify::default());
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let notify = Arc::clone(&notify);
                spawn_waiting(runtime, move || notify.wait())
            })
            .collect();
        let mut tasks = tasks.into_iter();
        while let Some(first) = tasks.next() {
            notify.notify_one();
            first.join().unwrap();
            let_others_go_on(runtime);
            assert!(tasks.as_slice().iter().all(|task| !task.is_finished()));
        }
        assert!(!notify.wait_timeout(SHORT), "none is kept");
    });
}

/// All who wait now, threads among them; and nobody who comes later.
#[test]
fn sync_notify_waiters_wakes_those_who_wait_now() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (notify, again) = (Arc::new(Notify::new()), Counter::default());
        let waits = || {
            let (notify, again) = (Arc::clone(&notify), again.clone());
            move || {
                notify.wait();
                again.add();
                // This comes later, also while others are still to be woken.
                notify.wait_timeout(LONG)
            }
        };
        let tasks: Vec<_> = (0..4).map(|_| spawn_waiting(runtime, waits())).collect();
        let thread = common::spawn_until_blocked(waits());
        notify.notify_waiters();
        again.wait_for(5);
        let_others_go_on(runtime);
        assert!(tasks.iter().all(|task| !task.is_finished()) && !thread.is_finished());
        (0..5).for_each(|_| notify.notify_one());
        // Of those that found nobody waiting one is kept, so that may be too few.
        while tasks.iter().any(|task| !task.is_finished()) || !thread.is_finished() {
            notify.notify_one();
            coro::yield_now();
        }
        assert!(tasks.into_iter().all(|task| task.join().unwrap()));
        assert!(thread.join().unwrap());
    });
}

/// A notification against a cancellation and a limit: it is taken, or it is there for the next.
#[test]
fn sync_notify_a_notification_that_races_an_interruption_is_not_lost() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let notify = Arc::new(Notify::new());
        for round in 0..RACES {
            let taken = Counter::default();
            let task = runtime.go({
                let (notify, taken) = (Arc::clone(&notify), taken.clone());
                move || {
                    let is_taken = match round % 2 == 0 {
                        true => notify.wait_timeout(SHORT / 20),
                        false => {
                            notify.wait();
                            true
                        }
                    };
                    if is_taken {
                        taken.add();
                    }
                }
            });
            if round % 3 == 0 {
                thread::yield_now();
            }
            notify.notify_one();
            if round % 2 == 1 {
                task.cancel();
            }
            let _ = task.join();
            if taken.get() == 0 {
                notify.wait();
            }
        }
        assert!(!notify.wait_timeout(SHORT), "none was made up");
    });
}
