//! Condition variables: each notification wakes one that waits, and is not lost to one that is interrupted.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use coro::sync::{Condvar, Mutex};

use crate::common::{self, Counter};
use crate::{LONG, RACES, SHORT, let_others_go_on, spawn_waiting};

type Shared = Arc<(Mutex<usize>, Condvar)>;

fn shared() -> Shared {
    Arc::new((Mutex::new(0), Condvar::new()))
}

/// Takes one of what is there, and waits until there is one.
fn take_one(shared: &Shared) {
    *shared.1.wait_while(shared.0.lock(), |left| *left == 0) -= 1;
}

#[test]
fn sync_condvar_a_notification_that_comes_before_is_not_kept() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let shared = shared();
        shared.1.notify_one();
        shared.1.notify_all();
        let (guard, result) = shared.1.wait_timeout(shared.0.lock(), SHORT);
        assert!(result.timed_out());
        drop(guard);
        // The condition is what is kept.
        *shared.0.lock() += 1;
        shared.1.notify_one();
        let task = runtime.go({
            let shared = Arc::clone(&shared);
            move || take_one(&shared)
        });
        task.join().unwrap();
    });
}

/// `notify_one` wakes one, the one that came first; `notify_all` wakes all, threads among them.
#[test]
fn sync_condvar_wakes_one_or_all() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (shared, woken) = (shared(), Arc::new(Mutex::new(Vec::new())));
        let waits = |number: usize| {
            let (shared, woken) = (Arc::clone(&shared), Arc::clone(&woken));
            move || {
                let guard = shared.1.wait(shared.0.lock());
                woken.lock().push(number);
                drop(guard);
            }
        };
        let mut tasks: Vec<_> = (0..5).map(|i| spawn_waiting(runtime, waits(i))).collect();
        let thread = common::spawn_until_blocked(waits(5));
        for i in 0..2 {
            shared.1.notify_one();
            tasks.remove(0).join().unwrap();
            let_others_go_on(runtime);
            assert_eq!(woken.lock().len(), i + 1);
        }
        assert_eq!(*woken.lock(), [0, 1]);
        shared.1.notify_all();
        tasks.into_iter().for_each(|task| task.join().unwrap());
        thread.join().unwrap();
        assert_eq!(woken.lock().len(), 6);
    });
}

/// Whoever waits has released the lock, and has it again.
#[test]
fn sync_condvar_releases_the_lock_while_it_waits() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let shared = shared();
        let waits = spawn_waiting(runtime, {
            let shared = Arc::clone(&shared);
            move || {
                let mut guard = shared.1.wait(shared.0.lock());
                *guard += 1;
                assert!(shared.0.try_lock().is_none());
                coro::yield_now();
                *guard += 1;
            }
        });
        let held = shared.0.lock();
        shared.1.notify_one();
        let_others_go_on(runtime);
        assert_eq!(*held, 0, "it waits for the lock");
        drop(held);
        waits.join().unwrap();
        assert_eq!(*shared.0.lock(), 2);
    });
}

/// Waits that end without a reason: `wait_while` looks again.
#[test]
fn sync_condvar_looks_again_after_a_wake_up_without_a_reason() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let shared = shared();
        let waits = spawn_waiting(runtime, {
            let shared = Arc::clone(&shared);
            move || take_one(&shared)
        });
        for _ in 0..10 {
            shared.1.notify_all();
            let_others_go_on(runtime);
        }
        assert!(!waits.is_finished());
        // A `unpark` is not meant for it either.
        waits.handle().unpark();
        let_others_go_on(runtime);
        assert!(!waits.is_finished());
        *shared.0.lock() = 1;
        shared.1.notify_one();
        waits.join().unwrap();
    });
}

/// A limit against a notification: the waiter that was notified says so, and one that says otherwise has taken none.
#[test]
fn sync_condvar_a_limit_that_races_a_notification_is_exactly_one() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        for _ in 0..RACES / 10 {
            let shared = shared();
            let begun = Counter::default();
            let waits = |limit: Duration| {
                let (shared, begun) = (Arc::clone(&shared), begun.clone());
                runtime.go(move || {
                    let guard = shared.0.lock();
                    begun.add();
                    !shared.1.wait_timeout(guard, limit).1.timed_out()
                })
            };
            let first = waits(SHORT / 20);
            begun.wait_for(1);
            let second = waits(LONG);
            begun.wait_for(2);
            // Both have begun to wait when the lock is free.
            drop(shared.0.lock());
            shared.1.notify_one();
            let first = first.join().unwrap();
            if first {
                let_others_go_on(runtime);
                assert!(!second.is_finished(), "one notification wakes one");
                shared.1.notify_one();
            }
            assert!(second.join().unwrap(), "it is not lost");
        }
    });
}

/// A waiter that is cancelled when it was notified, and cannot have the lock: the notification goes to the next.
#[test]
fn sync_condvar_a_cancelled_waiter_passes_its_notification_on() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let shared = shared();
        let waits = || {
            let shared = Arc::clone(&shared);
            spawn_waiting(runtime, move || drop(shared.1.wait(shared.0.lock())))
        };
        let (first, second) = (waits(), waits());
        let held = shared.0.lock();
        shared.1.notify_one();
        // The first waits for the lock now.
        let_others_go_on(runtime);
        first.cancel();
        common::assert_cancelled(first.join());
        drop(held);
        second.join().unwrap();
    });
}

/// The same at any moment: of two notifications and three waiters, one of which is cancelled, two are woken.
#[test]
fn sync_condvar_a_cancellation_loses_no_notification() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        for round in 0..RACES / 10 {
            let shared = shared();
            let taken = Counter::default();
            let waits = || {
                let (shared, taken) = (Arc::clone(&shared), taken.clone());
                runtime.go(move || {
                    take_one(&shared);
                    taken.add();
                })
            };
            let mut tasks: Vec<_> = (0..3).map(|_| waits()).collect();
            if round % 2 == 0 {
                thread::yield_now();
            }
            for _ in 0..2 {
                *shared.0.lock() += 1;
                shared.1.notify_one();
            }
            let cancelled = tasks.swap_remove(round % 3);
            cancelled.cancel();
            let was_taken = cancelled.join().is_ok();
            taken.wait_for(2);
            assert_eq!(*shared.0.lock(), 0);
            if was_taken {
                // One of the others is left.
                *shared.0.lock() += 1;
                shared.1.notify_one();
            }
            tasks.into_iter().for_each(|task| task.join().unwrap());
        }
    });
}

#[test]
fn sync_condvar_waits_for_a_limit_at_most() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let shared = shared();
        let limited = {
            let shared = Arc::clone(&shared);
            move || {
                let (guard, result) =
                    shared.1.wait_timeout_while(shared.0.lock(), SHORT, |left| *left == 0);
                assert!(result.timed_out());
                drop(guard);
                let (_, result) =
                    shared.1.wait_timeout_while(shared.0.lock(), SHORT, |left| *left > 0);
                assert!(!result.timed_out(), "it is so at once");
                let elapsed = coro::timeout(SHORT, || drop(shared.1.wait(shared.0.lock())));
                elapsed.unwrap_err();
                assert!(!shared.0.is_locked());
            }
        };
        runtime.go(limited.clone()).join().unwrap();
        thread::spawn(limited).join().unwrap();
        let waits = spawn_waiting(runtime, {
            let shared = Arc::clone(&shared);
            move || shared.1.wait_timeout_while(shared.0.lock(), LONG, |left| *left == 0).1
        });
        *shared.0.lock() = 1;
        shared.1.notify_one();
        assert!(!waits.join().unwrap().timed_out());
    });
}

/// A condition that panics releases the lock.
#[test]
fn sync_condvar_a_condition_that_panics_releases_the_lock() {
    common::quiet();
    let _watchdog = common::watchdog();
    let shared = shared();
    let panics = std::panic::AssertUnwindSafe(|| {
        drop(shared.1.wait_while(shared.0.lock(), |_| common::planned("a condition")));
    });
    std::panic::catch_unwind(panics).unwrap_err();
    assert!(!shared.0.is_locked());
    assert_eq!(format!("{:?}", Condvar::default()), "Condvar { .. }");
}
