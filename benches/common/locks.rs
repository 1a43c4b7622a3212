//! Locks, with and without others who want them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use coro::go;

/// A function that adds one to the number in a static, under a lock.
macro_rules! locked {
    ($name:ident, $lock:ty, $guard:ident => $locked:expr) => {
        #[inline(never)]
        pub(crate) fn $name() {
            static LOCK: $lock = <$lock>::new(0);
            let $guard = LOCK.lock();
            let mut locked = $locked;
            *locked += 1;
        }
    };
}

locked!(lock_parking_lot, parking_lot::Mutex<u64>, guard => guard);
locked!(lock_std, std::sync::Mutex<u64>, guard => guard.unwrap());
locked!(lock_coro, coro::sync::Mutex<u64>, guard => guard);

#[inline(never)]
pub(crate) fn write_coro() {
    static LOCK: coro::sync::RwLock<u64> = coro::sync::RwLock::new(0);
    *LOCK.write() += 1;
}

#[inline(never)]
pub(crate) fn acquire_coro() {
    static SEMAPHORE: coro::sync::Semaphore = coro::sync::Semaphore::new(1);
    drop(SEMAPHORE.acquire());
}

/// How long it takes `users` coroutines to lock a mutex so many times, taken together.
pub(crate) fn contended(times: u64, users: u64) -> Duration {
    let mutex = Arc::new(coro::sync::Mutex::new(0u64));
    let begin = Instant::now();
    let tasks: Vec<_> = (0..users)
        .map(|number| {
            let mutex = Arc::clone(&mutex);
            let count = times / users + u64::from(number < times % users);
            go(move || (0..count).for_each(|_| *mutex.lock() += 1))
        })
        .collect();
    tasks.into_iter().for_each(|task| task.join().expect("it does not panic"));
    begin.elapsed()
}
