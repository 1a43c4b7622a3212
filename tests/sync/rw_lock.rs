//! The read-write lock: many who read or one who writes, in the order in which they came.

use std::sync::Arc;
use std::thread;

use coro::sync::{
    MappedRwLockReadGuard, MappedRwLockWriteGuard, RwLock, RwLockReadGuard, RwLockWriteGuard,
};

use crate::common::{self, Counter, planned, quiet};
use crate::{LONG, RACES, SHORT, let_others_go_on, spawn_until_suspended, spawn_waiting};

#[test]
fn sync_rw_lock_many_read_at_a_time() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let lock = Arc::new(RwLock::new(1));
        let inside = Counter::default();
        let readers: Vec<_> = (0..10)
            .map(|_| {
                let (lock, inside) = (Arc::clone(&lock), inside.clone());
                runtime.go(move || {
                    let value = lock.read();
                    inside.add();
                    // All of them are here at once.
                    inside.wait_for(10);
                    *value
                })
            })
            .collect();
        readers.into_iter().for_each(|reader| assert_eq!(reader.join().unwrap(), 1));
        assert!(lock.try_write().is_some());
    });
}

/// A reader that comes after a writer waits for it, though others read.
#[test]
fn sync_rw_lock_writers_are_not_starved() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let lock = Arc::new(RwLock::new(Vec::new()));
        let reading = lock.read();
        let writer = spawn_waiting(runtime, {
            let lock = Arc::clone(&lock);
            move || lock.write().push(1)
        });
        let reader = spawn_waiting(runtime, {
            let lock = Arc::clone(&lock);
            move || lock.read().clone()
        });
        assert!(lock.try_read().is_none(), "a writer waits");
        assert!(lock.read_timeout(SHORT).is_none());
        drop(reading);
        writer.join().unwrap();
        assert_eq!(reader.join().unwrap(), [1]);
    });
}

/// Readers that come in a stream, each before the last has gone: the writer gets its turn.
#[test]
fn sync_rw_lock_a_stream_of_readers_lets_a_writer_pass() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let lock = Arc::new(RwLock::new(false));
        let read = Counter::default();
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let (lock, read) = (Arc::clone(&lock), read.clone());
                runtime.go(move || {
                    loop {
                        let is_over = lock.read();
                        read.add();
                        coro::yield_now();
                        if *is_over {
                            break;
                        }
                    }
                })
            })
            .collect();
        read.wait_for(4);
        *lock.write() = true;
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}

/// A writer that gives up lets those behind it pass.
#[test]
fn sync_rw_lock_a_cancelled_writer_lets_readers_pass() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        for by_limit in [false, true] {
            let lock = Arc::new(RwLock::new(1));
            let reading = lock.read();
            let writer = spawn_until_suspended(runtime, {
                let lock = Arc::clone(&lock);
                move || match by_limit {
                    true => assert!(lock.write_timeout(50 * SHORT).is_none()),
                    false => drop(lock.write()),
                }
            });
            let reader = runtime.go({
                let lock = Arc::clone(&lock);
                move || *lock.read()
            });
            if by_limit {
                writer.join().unwrap();
            } else {
                let_others_go_on(runtime);
                writer.cancel();
                common::assert_cancelled(writer.join());
            }
            assert_eq!(reader.join().unwrap(), 1, "it reads beside the first");
            assert_eq!(*reading, 1);
        }
    });
}

/// Holders that are cancelled or panic release; nobody is poisoned, on threads neither.
#[test]
fn sync_rw_lock_is_released_by_a_holder_that_unwinds() {
    quiet();
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        type End = fn();
        let ends: [End; 2] = [coro::park, || planned("a holder")];
        for (end, writes) in ends.into_iter().flat_map(|end| [(end, false), (end, true)]) {
            let lock = Arc::new(RwLock::new(0));
            let held = Counter::default();
            let holder = runtime.go({
                let (lock, held) = (Arc::clone(&lock), held.clone());
                move || {
                    let _reads = (!writes).then(|| lock.read());
                    let _writes = writes.then(|| lock.write());
                    held.add();
                    end();
                }
            });
            held.wait_for(1);
            let thread = thread::spawn({
                let lock = Arc::clone(&lock);
                move || *lock.write() += 1
            });
            holder.cancel();
            holder.join().unwrap_err();
            thread.join().unwrap();
            assert_eq!(*lock.read(), 1);
        }
    });
}

#[test]
fn sync_rw_lock_a_release_that_races_an_interruption_loses_nothing() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let lock = Arc::new(RwLock::new(0));
        let written = Counter::default();
        for round in 0..RACES {
            let held = lock.read();
            let writes = || {
                let (lock, written) = (Arc::clone(&lock), written.clone());
                move || {
                    let mut value = lock.write();
                    *value += 1;
                    written.add();
                }
            };
            let (first, next) = (runtime.go(writes()), runtime.go(writes()));
            if round % 3 == 0 {
                thread::yield_now();
            }
            first.cancel();
            drop(held);
            let _ = first.join();
            next.join().unwrap();
        }
        assert_eq!(lock.try_read().as_deref(), Some(&written.get()));
        assert!(lock.try_write().is_some());
    });
}

#[test]
fn sync_rw_lock_mapped_guards_hold_the_lock() {
    let _watchdog = common::watchdog();
    let lock = RwLock::new((1, vec![2, 3]));
    let values = RwLockReadGuard::map(lock.read(), |pair| &pair.1);
    assert!(lock.try_write().is_none() && lock.try_read().is_some());
    let values = MappedRwLockReadGuard::filter_map(values, |values| values.get(9)).unwrap_err();
    let first = MappedRwLockReadGuard::map(values, |values| &values[0]);
    assert_eq!(*first, 2);
    drop(first);
    let values = RwLockWriteGuard::map(lock.write(), |pair| &mut pair.1);
    assert!(lock.try_read().is_none());
    let values =
        MappedRwLockWriteGuard::filter_map(values, |values| values.get_mut(9)).unwrap_err();
    let mut last = MappedRwLockWriteGuard::map(values, |values| &mut values[1]);
    *last += 1;
    assert!(lock.try_read().is_none());
    drop(last);
    assert!(RwLockReadGuard::filter_map(lock.read(), |_| None::<&u8>).is_err());
    assert!(RwLockWriteGuard::filter_map(lock.write(), |_| None::<&mut u8>).is_err());
    assert_eq!(lock.try_write().unwrap().1, [2, 4]);
}

/// Who reads after writing lets other readers in, and no writer in between.
#[test]
fn sync_rw_lock_a_writer_may_go_on_as_a_reader() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let lock = Arc::new(RwLock::new(0));
        let mut writes = lock.write();
        let reader = spawn_waiting(runtime, {
            let lock = Arc::clone(&lock);
            move || *lock.read()
        });
        let writer = spawn_waiting(runtime, {
            let lock = Arc::clone(&lock);
            move || *lock.write() = 2
        });
        *writes = 1;
        let reads = RwLockWriteGuard::downgrade(writes);
        assert_eq!(reader.join().unwrap(), 1);
        let_others_go_on(runtime);
        assert_eq!(*reads, 1);
        drop(reads);
        writer.join().unwrap();
        assert_eq!(lock.read_timeout(LONG).as_deref(), Some(&2));
    });
}

#[test]
fn sync_rw_lock_shows_its_value_or_that_it_is_locked() {
    static LOCK: RwLock<u8> = RwLock::new(1);
    let _watchdog = common::watchdog();
    assert_eq!(format!("{LOCK:?}"), "RwLock { data: 1, .. }");
    let reads = LOCK.read();
    assert_eq!(format!("{LOCK:?} {reads:?}"), "RwLock { data: 1, .. } 1");
    drop(reads);
    let writes = LOCK.write();
    assert_eq!(format!("{LOCK:?} {writes}"), "RwLock { data: <locked>, .. } 1");
    let mut lock = RwLock::from(1);
    *lock.get_mut() += 1;
    assert_eq!((lock.into_inner(), *RwLock::<u8>::default().read()), (2, 0));
}
