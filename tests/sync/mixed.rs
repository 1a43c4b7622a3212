//! Threads and coroutines on the same lock.

use std::sync::Arc;
use std::thread;

use coro::sync::{Condvar, Mutex, RwLock, Semaphore};

use crate::common;

/// Runs `user` in 4 coroutines and in 4 threads.
fn four_and_four(runtime: &coro::Runtime, user: impl Fn(usize) + Send + Sync + 'static) {
    let user = Arc::new(user);
    let run = |number| {
        let user = Arc::clone(&user);
        move || user(number)
    };
    let tasks: Vec<_> = (0..4).map(|number| runtime.go(run(number))).collect();
    let threads: Vec<_> = (4..8).map(|number| thread::spawn(run(number))).collect();
    tasks.into_iter().for_each(|task| task.join().unwrap());
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

const ROUNDS: usize = 1_000;

#[test]
fn sync_mixed_users_of_a_mutex_see_each_value_once() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (mutex, seen) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(Vec::new())));
        let shared = (Arc::clone(&mutex), Arc::clone(&seen));
        four_and_four(runtime, move |number| {
            let mut own = Vec::new();
            for round in 0..ROUNDS {
                let mut next = shared.0.lock();
                own.push(*next);
                if (round + number) % 16 == 0 {
                    coro::yield_now();
                }
                *next += 1;
            }
            shared.1.lock().extend(own);
        });
        let mut seen = seen.lock().clone();
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..8 * ROUNDS));
    });
}

#[test]
fn sync_mixed_users_of_a_semaphore_are_no_more_than_it_admits() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let semaphore = Arc::new(Semaphore::new(3));
        let inside = Arc::new(Mutex::new((0, 0)));
        let shared = (Arc::clone(&semaphore), Arc::clone(&inside));
        four_and_four(runtime, move |number| {
            for round in 0..ROUNDS / 2 {
                let count = 1 + (round + number) % 3;
                let _permits = shared.0.acquire_many(count);
                {
                    let mut inside = shared.1.lock();
                    inside.0 += count;
                    assert!(inside.0 <= 3);
                    inside.1 += 1;
                }
                if round % 16 == 0 {
                    coro::yield_now();
                }
                shared.1.lock().0 -= count;
            }
        });
        assert_eq!(*inside.lock(), (0, 8 * (ROUNDS / 2)));
        assert_eq!(semaphore.available_permits(), 3);
    });
}

#[test]
fn sync_mixed_users_of_a_rw_lock_read_what_was_written_whole() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let lock = Arc::new(RwLock::new([0usize; 4]));
        let shared = Arc::clone(&lock);
        four_and_four(runtime, move |number| {
            for round in 0..ROUNDS / 2 {
                if (round + number) % 4 == 0 {
                    let mut values = shared.write();
                    for value in values.iter_mut() {
                        *value += 1;
                        if round % 32 == 0 {
                            coro::yield_now();
                        }
                    }
                } else {
                    let values = shared.read();
                    assert!(values.iter().all(|value| *value == values[0]));
                }
            }
        });
        assert_eq!(*lock.read(), [8 * (ROUNDS / 8); 4]);
    });
}

/// A queue of one place, by a mutex and two condition variables.
#[test]
fn sync_mixed_users_of_a_condvar_pass_each_value_once() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        struct Queue {
            place: Mutex<Option<usize>>,
            filled: Condvar,
            emptied: Condvar,
        }
        let queue = Arc::new(Queue {
            place: Mutex::new(None),
            filled: Condvar::new(),
            emptied: Condvar::new(),
        });
        let seen = Arc::new(Mutex::new(Vec::new()));
        let shared = (Arc::clone(&queue), Arc::clone(&seen));
        four_and_four(runtime, move |number| {
            let (queue, seen) = &shared;
            let is_giver = number % 2 == 0;
            let mut own = Vec::new();
            for round in 0..ROUNDS / 4 {
                let place = queue.place.lock();
                if is_giver {
                    let mut place = queue.emptied.wait_while(place, |place| place.is_some());
                    *place = Some(number / 2 * (ROUNDS / 4) + round);
                    drop(place);
                    queue.filled.notify_one();
                } else {
                    let mut place = queue.filled.wait_while(place, |place| place.is_none());
                    own.push(place.take().unwrap());
                    drop(place);
                    queue.emptied.notify_one();
                }
            }
            seen.lock().extend(own);
        });
        let mut seen = seen.lock().clone();
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..ROUNDS));
    });
}
