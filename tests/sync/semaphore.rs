//! Semaphores: first in, first out, and no permit is lost or made.

use std::sync::Arc;
use std::thread;

use coro::sync::{Mutex, Semaphore};

use crate::common::{self, Counter, planned, quiet};
use crate::{LONG, RACES, SHORT, let_others_go_on, spawn_until_suspended, spawn_waiting};

#[test]
fn sync_semaphore_admits_so_many_at_a_time() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let semaphore = Arc::new(Semaphore::new(3));
        let (inside, left) = (Counter::default(), common::Gate::default());
        let tasks: Vec<_> = (0..10)
            .map(|_| {
                let (semaphore, inside) = (Arc::clone(&semaphore), inside.clone());
                let left = left.clone();
                runtime.go(move || {
                    let _permit = semaphore.acquire();
                    inside.add();
                    left.pass();
                })
            })
            .collect();
        inside.wait_for(3);
        let_others_go_on(runtime);
        assert_eq!((inside.get(), semaphore.available_permits()), (3, 0));
        left.open();
        tasks.into_iter().for_each(|task| task.join().unwrap());
        assert_eq!((inside.get(), semaphore.available_permits()), (10, 3));
    });
}

/// Whoever asks for many is not overtaken by those who ask for few, and they are served in order.
#[test]
fn sync_semaphore_serves_in_the_order_of_asking() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let semaphore = Arc::new(Semaphore::new(1));
        let order = Arc::new(Mutex::new(Vec::new()));
        let needs = [3, 1, 2, 1];
        let tasks: Vec<_> = needs
            .iter()
            .map(|&need| {
                let (semaphore, order) = (Arc::clone(&semaphore), Arc::clone(&order));
                let waits = move || {
                    let permits = semaphore.acquire_many(need);
                    order.lock().push(need);
                    permits.forget();
                };
                spawn_waiting(runtime, waits)
            })
            .collect();
        assert!(semaphore.try_acquire().is_none(), "the one that is there is for the first");
        assert_eq!(semaphore.available_permits(), 1);
        for (i, task) in tasks.into_iter().enumerate() {
            // One less than it takes.
            let missing = needs[i] - usize::from(i == 0);
            (1..missing).for_each(|_| semaphore.add_permits(1));
            let_others_go_on(runtime);
            assert_eq!(order.lock().len(), i);
            semaphore.add_permits(1);
            task.join().unwrap();
        }
        assert_eq!(*order.lock(), needs);
        assert_eq!(semaphore.available_permits(), 0);
    });
}

/// One that gives up, and was first, lets those behind it have what is there.
#[test]
fn sync_semaphore_a_large_request_that_gives_up_lets_others_pass() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        for by_limit in [false, true] {
            let semaphore = Arc::new(Semaphore::new(2));
            let first = spawn_until_suspended(runtime, {
                let semaphore = Arc::clone(&semaphore);
                move || match by_limit {
                    true => assert!(semaphore.acquire_many_timeout(3, 50 * SHORT).is_none()),
                    false => drop(semaphore.acquire_many(3)),
                }
            });
            let others: Vec<_> = (0..2)
                .map(|_| {
                    let semaphore = Arc::clone(&semaphore);
                    runtime.go(move || semaphore.acquire().forget())
                })
                .collect();
            if by_limit {
                first.join().unwrap();
            } else {
                let_others_go_on(runtime);
                first.cancel();
                common::assert_cancelled(first.join());
            }
            others.into_iter().for_each(|other| other.join().unwrap());
            assert_eq!(semaphore.available_permits(), 0);
        }
    });
}

#[test]
fn sync_semaphore_a_holder_that_unwinds_gives_back() {
    quiet();
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        type End = fn();
        let ends: [End; 2] = [coro::park, || planned("a holder")];
        for end in ends {
            let semaphore = Arc::new(Semaphore::new(2));
            let held = Counter::default();
            let holder = runtime.go({
                let (semaphore, held) = (Arc::clone(&semaphore), held.clone());
                move || {
                    let _permits = semaphore.acquire_many(2);
                    held.add();
                    end();
                }
            });
            held.wait_for(1);
            let waits = thread::spawn({
                let semaphore = Arc::clone(&semaphore);
                move || semaphore.acquire().count()
            });
            holder.cancel();
            holder.join().unwrap_err();
            assert_eq!(waits.join().unwrap(), 1);
            assert_eq!(semaphore.available_permits(), 2);
        }
    });
}

/// A permit against a cancellation and a limit: it is had by the waiter or by the next.
#[test]
fn sync_semaphore_a_permit_that_races_an_interruption_is_not_lost() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let semaphore = Arc::new(Semaphore::new(0));
        for round in 0..RACES {
            let had = Counter::default();
            let waits = |limited: bool| {
                let (semaphore, had) = (Arc::clone(&semaphore), had.clone());
                runtime.go(move || {
                    let permit = match limited {
                        true => semaphore.acquire_timeout(SHORT / 20),
                        false => Some(semaphore.acquire()),
                    };
                    if let Some(permit) = permit {
                        permit.forget();
                        had.add();
                    }
                })
            };
            let first = waits(round % 2 == 0);
            if round % 3 == 0 {
                thread::yield_now();
            }
            semaphore.add_permits(1);
            if round % 2 == 1 {
                first.cancel();
            }
            let _ = first.join();
            assert_eq!(had.get() + semaphore.available_permits(), 1);
            if had.get() == 0 {
                semaphore.acquire().forget();
            }
        }
    });
}

#[test]
fn sync_semaphore_counts_as_far_as_a_usize() {
    static SEMAPHORE: Semaphore = Semaphore::new(usize::MAX);
    let _watchdog = common::watchdog();
    let permits = SEMAPHORE.acquire_many_timeout(usize::MAX, LONG).unwrap();
    assert_eq!(format!("{SEMAPHORE:?}"), "Semaphore { permits: 0, .. }");
    assert!(SEMAPHORE.try_acquire_many(0).is_some());
    drop(permits);
    // There are enough, so nobody would wait.
    let acquires = || coro::no_suspend(|| drop(SEMAPHORE.acquire()));
    common::runtime(1).go(acquires).join().unwrap();
    let panics = std::panic::catch_unwind(|| SEMAPHORE.add_permits(1));
    assert!(common::message(&*panics.unwrap_err()).contains("more permits than it counts"));
    assert_eq!(SEMAPHORE.available_permits(), usize::MAX);
}

/// A loop that never has to wait lets others go on, and can be cancelled.
#[test]
fn sync_semaphore_a_loop_that_never_waits_steps_aside() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(1);
    let (semaphore, begun) = (Semaphore::new(1), Counter::default());
    let loops = runtime.go({
        let begun = begun.clone();
        move || {
            loop {
                drop(semaphore.acquire());
                begun.add();
            }
        }
    });
    begun.wait_for(1);
    runtime.go(|| ()).join().unwrap();
    loops.cancel();
    common::assert_cancelled(loops.join().map(|never: ()| never));
}
