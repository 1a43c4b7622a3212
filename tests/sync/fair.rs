//! Nobody starves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use coro::sync::Mutex;

use crate::common::{self, Counter};

const WAITERS: usize = 100;

/// 100 waiters, and one that locks again at once. Each waiter has the lock within 1,000 of its turns. There is one
/// worker, so that nobody else's CPU counts.
#[test]
fn sync_fair_each_waiter_has_the_lock_within_a_thousand_turns() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(1);
    for yields in [true, false] {
        // How often the hog has had the lock.
        let (mutex, done) = (Arc::new(Mutex::new(0)), Arc::new(AtomicBool::new(false)));
        let begun = Counter::default();
        let hog = runtime.go({
            let (mutex, done, begun) = (Arc::clone(&mutex), Arc::clone(&done), begun.clone());
            move || {
                while !done.load(Ordering::Relaxed) {
                    let mut turns = mutex.lock();
                    *turns += 1;
                    begun.add();
                    // Others look for the lock, and find it held, or free.
                    if yields {
                        coro::yield_now();
                        drop(turns);
                    } else {
                        drop(turns);
                        coro::yield_now();
                    }
                }
            }
        });
        begun.wait_for(1);
        let waits = |_| {
            let (mutex, begun) = (Arc::clone(&mutex), begun.clone());
            runtime.go(move || {
                let before = begun.get();
                let turns = *mutex.lock() - before;
                assert!(turns <= 1_000, "it has waited for {turns} turns");
            })
        };
        let waiters: Vec<_> = (0..WAITERS).map(waits).collect();
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        done.store(true, Ordering::Relaxed);
        hog.join().unwrap();
    }
}

/// The same with more workers and with threads: the hog goes on until the last waiter has had the lock.
#[test]
fn sync_fair_one_that_locks_again_at_once_starves_nobody() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        for yields in [true, false] {
            let (mutex, done) = (Arc::new(Mutex::new(())), Arc::new(AtomicBool::new(false)));
            let begun = Counter::default();
            let hog = thread::spawn({
                let (mutex, done, begun) = (Arc::clone(&mutex), Arc::clone(&done), begun.clone());
                move || {
                    while !done.load(Ordering::Relaxed) {
                        let held = mutex.lock();
                        begun.add();
                        if yields {
                            thread::yield_now();
                        }
                        drop(held);
                    }
                }
            });
            begun.wait_for(1);
            let waits = |_| {
                let mutex = Arc::clone(&mutex);
                runtime.go(move || drop(mutex.lock()))
            };
            let waiters: Vec<_> = (0..WAITERS).map(waits).collect();
            waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
            done.store(true, Ordering::Relaxed);
            hog.join().unwrap();
        }
    });
}

/// A thread among coroutines that lock again and again gets the lock, and a coroutine among threads.
#[test]
fn sync_fair_to_threads_and_coroutines_alike() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (mutex, done) = (Arc::new(Mutex::new(())), Arc::new(AtomicBool::new(false)));
        let hog = || {
            let (mutex, done) = (Arc::clone(&mutex), Arc::clone(&done));
            move || {
                while !done.load(Ordering::Relaxed) {
                    let _held = mutex.lock();
                    coro::yield_now();
                }
            }
        };
        let hogs: Vec<_> = (0..2).map(|_| runtime.go(hog())).collect();
        let thread = thread::spawn(hog());
        for _ in 0..50 {
            drop(mutex.lock());
            let mutex = Arc::clone(&mutex);
            runtime.go(move || drop(mutex.lock())).join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
        hogs.into_iter().for_each(|hog| hog.join().unwrap());
        thread.join().unwrap();
    });
}
