//! The mutex: one at a time, whoever that is, and whatever becomes of it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use coro::sync::{MappedMutexGuard, Mutex, MutexGuard};

use crate::common::{self, Counter, planned, quiet};
use crate::{LONG, RACES, SHORT, spawn_waiting};

/// Users that are suspended with the lock held, half of them threads: none meets another.
#[test]
fn sync_mutex_admits_one_at_a_time() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let shared = Arc::new((Mutex::new(0), AtomicUsize::new(0)));
        let user = |rounds: usize| {
            let shared = Arc::clone(&shared);
            move || {
                for round in 0..rounds {
                    let mut count = shared.0.lock();
                    assert_eq!(shared.1.fetch_add(1, Ordering::Relaxed), 0, "alone");
                    if round % 8 == 0 {
                        coro::yield_now();
                    }
                    *count += 1;
                    assert_eq!(shared.1.fetch_sub(1, Ordering::Relaxed), 1);
                }
            }
        };
        let threads: Vec<_> = (0..4).map(|_| thread::spawn(user(500))).collect();
        let tasks: Vec<_> = (0..8).map(|_| runtime.go(user(500))).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        tasks.into_iter().for_each(|task| task.join().unwrap());
        assert_eq!(*shared.0.lock(), 12 * 500);
    });
}

#[test]
fn sync_mutex_in_a_static_guards_what_is_not_sync() {
    static CELL: Mutex<std::cell::Cell<usize>> = Mutex::new(std::cell::Cell::new(0));
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        CELL.lock().set(0);
        let add = || {
            let cell = CELL.lock();
            let before = cell.get();
            coro::yield_now();
            cell.set(before + 1);
        };
        let tasks: Vec<_> = (0..100).map(|_| runtime.go(add)).collect();
        tasks.into_iter().for_each(|task| task.join().unwrap());
        assert_eq!(CELL.lock().get(), 100);
    });
}

/// A holder that is cancelled, panics, or reaches its limit releases the lock, and poisons nothing.
#[test]
fn sync_mutex_is_released_by_a_holder_that_unwinds() {
    quiet();
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let mutex = Arc::new(Mutex::new(0));
        type End = fn();
        let ends: [End; 2] = [coro::park, || planned("a holder")];
        for end in ends {
            let holds = Counter::default();
            let holder = runtime.go({
                let (mutex, holds) = (Arc::clone(&mutex), holds.clone());
                move || {
                    let mut value = mutex.lock();
                    *value += 1;
                    holds.add();
                    end();
                }
            });
            holds.wait_for(1);
            let waits = runtime.go({
                let mutex = Arc::clone(&mutex);
                move || *mutex.lock()
            });
            holder.cancel();
            holder.join().unwrap_err();
            assert_eq!(waits.join().unwrap(), *mutex.lock());
        }
        let limited = runtime.go({
            let mutex = Arc::clone(&mutex);
            move || {
                coro::timeout(SHORT, || {
                    let _held = mutex.lock();
                    coro::sleep(LONG);
                })
                .unwrap_err();
                *mutex.lock()
            }
        });
        assert_eq!(limited.join().unwrap(), 2);
        // And on a thread.
        let mut guard = mutex.lock();
        *guard = 7;
        catch_unwind(AssertUnwindSafe(|| {
            let _guard = guard;
            planned("a holder")
        }))
        .unwrap_err();
        assert_eq!(mutex.try_lock().as_deref(), Some(&7));
    });
}

#[test]
fn sync_mutex_waits_for_a_limit_at_most() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let mutex = Arc::new(Mutex::new(1));
        let held = mutex.lock();
        assert!(mutex.lock_timeout(SHORT).is_none(), "on a thread");
        let task = runtime.go({
            let mutex = Arc::clone(&mutex);
            move || {
                assert!(mutex.lock_timeout(SHORT).is_none());
                assert!(mutex.try_lock().is_none());
                coro::timeout(SHORT, || drop(mutex.lock())).unwrap_err();
            }
        });
        task.join().unwrap();
        let waits = spawn_waiting(runtime, {
            let mutex = Arc::clone(&mutex);
            move || mutex.lock_timeout(LONG).map(|guard| *guard)
        });
        drop(held);
        assert_eq!(waits.join().unwrap(), Some(1));
    });
}

/// One that is cancelled while it waits leaves those before and behind it where they are.
#[test]
fn sync_mutex_forgets_waiters_that_are_cancelled() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let mutex = Arc::new(Mutex::new(Vec::new()));
        let held = mutex.lock();
        let tasks: Vec<_> = (0..9)
            .map(|i| {
                let mutex = Arc::clone(&mutex);
                spawn_waiting(runtime, move || mutex.lock().push(i))
            })
            .collect();
        let is_cancelled = |i: usize| i % 3 == 1 || i == 8;
        let (cancelled, left): (Vec<_>, Vec<_>) =
            tasks.into_iter().enumerate().partition(|(i, _)| is_cancelled(*i));
        for (_, task) in cancelled {
            task.cancel();
            common::assert_cancelled(task.join());
        }
        drop(held);
        left.into_iter().for_each(|(_, task)| task.join().unwrap());
        let mut got = mutex.lock().clone();
        got.sort_unstable();
        assert_eq!(got, [0, 2, 3, 5, 6]);
    });
}

/// A release against a cancellation and a limit: the lock is taken or it is not, and the next gets it in any case.
#[test]
fn sync_mutex_a_release_that_races_an_interruption_loses_nothing() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let mutex = Arc::new(Mutex::new(0));
        let taken = Counter::default();
        for round in 0..RACES {
            let held = mutex.lock();
            let waits = |limited: bool| {
                let (mutex, taken) = (Arc::clone(&mutex), taken.clone());
                move || {
                    let guard = match limited {
                        true => mutex.lock_timeout(SHORT / 20),
                        false => Some(mutex.lock()),
                    };
                    if let Some(mut guard) = guard {
                        *guard += 1;
                        taken.add();
                    }
                }
            };
            let first = runtime.go(waits(round % 2 == 0));
            let next = runtime.go(waits(false));
            if round % 3 == 0 {
                thread::yield_now();
            }
            if round % 2 == 1 {
                first.cancel();
            }
            drop(held);
            let _ = first.join();
            next.join().unwrap();
            assert!(!mutex.is_locked());
        }
        assert_eq!(*mutex.lock(), taken.get());
        assert!((RACES..=2 * RACES).contains(&taken.get()));
    });
}

#[test]
fn sync_mutex_mapped_guards_hold_the_lock() {
    quiet();
    let _watchdog = common::watchdog();
    let mutex = Mutex::new((1, vec![2, 3]));
    let values = MutexGuard::map(mutex.lock(), |pair| &mut pair.1);
    assert!(mutex.try_lock().is_none());
    let values = MappedMutexGuard::filter_map(values, |values| values.get_mut(9)).unwrap_err();
    assert!(mutex.try_lock().is_none());
    let mut last = MappedMutexGuard::map(values, |values| &mut values[1]);
    *last += 10;
    assert!(mutex.try_lock().is_none());
    assert_eq!((format!("{last}"), format!("{last:?}")), ("13".into(), "13".into()));
    drop(last);
    let guard = MutexGuard::filter_map(mutex.lock(), |_| None::<&mut u8>).unwrap_err();
    assert_eq!(guard.1, [2, 13]);
    drop(guard);
    let panics =
        AssertUnwindSafe(|| drop(MutexGuard::map(mutex.lock(), |_| -> &mut u8 { planned("map") })));
    catch_unwind(panics).unwrap_err();
    assert!(mutex.try_lock().is_some(), "a function that panics releases the lock");
}

#[test]
fn sync_mutex_shows_its_value_or_that_it_is_locked() {
    let _watchdog = common::watchdog();
    let mut mutex = Mutex::from(1);
    assert_eq!(format!("{mutex:?}"), "Mutex { data: 1, .. }");
    let guard = mutex.lock();
    assert_eq!(format!("{mutex:?} {guard:?} {guard}"), "Mutex { data: <locked>, .. } 1 1");
    drop(guard);
    *mutex.get_mut() += 1;
    assert_eq!(mutex.into_inner(), 2);
    assert_eq!(*Mutex::<u8>::default().lock(), 0);
    let unsized_value: &Mutex<[u8]> = &Mutex::new([1, 2, 3]);
    unsized_value.lock()[0] = 4;
    assert_eq!(*unsized_value.lock(), [4, 2, 3]);
}

/// What is free is locked in a `no_suspend`; what is held is a clear panic.
#[test]
fn sync_mutex_in_a_no_suspend_is_locked_if_it_is_free() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let mutex = Arc::new(Mutex::new(1));
        let task = runtime.go({
            let mutex = Arc::clone(&mutex);
            move || coro::no_suspend(|| *mutex.lock())
        });
        assert_eq!(task.join().unwrap(), 1);
        let held = mutex.lock();
        let task = runtime.go({
            let mutex = Arc::clone(&mutex);
            move || {
                catch_unwind(AssertUnwindSafe(|| coro::no_suspend(|| *mutex.lock()))).unwrap_err()
            }
        });
        let payload = task.join().unwrap();
        assert!(common::message(&*payload).contains("no_suspend"));
        drop(held);
        assert!(!mutex.is_locked());
    });
}

/// A raw coroutine waits as its task.
#[test]
fn sync_mutex_in_a_raw_coroutine_suspends_the_task() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let mutex = Arc::new(Mutex::new(1));
        let held = mutex.lock();
        let task = spawn_waiting(runtime, {
            let mutex = Arc::clone(&mutex);
            move || {
                let locks = |_: &coro::raw::Yielder<(), ()>, ()| *mutex.lock();
                coro::raw::with(65536, locks, |raw| match raw.resume(()) {
                    coro::raw::State::Done(value) => value,
                    _ => unreachable!("it does not yield"),
                })
                .unwrap()
            }
        });
        drop(held);
        assert_eq!(task.join().unwrap(), 1);
    });
}
