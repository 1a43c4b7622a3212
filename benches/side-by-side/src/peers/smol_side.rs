//! smol's locks. The rest of smol is in `futures_side`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smol::lock::{Mutex, RwLock, Semaphore};

use super::futures_side::{Futures, Smol};
use super::share;
use crate::measure::Task;

pub fn mutex(task: &Task) -> Duration {
    let times = task.times;
    Smol::run(task.workers, async move {
        let mutex = Mutex::new(0u64);
        let begin = Instant::now();
        for _ in 0..times {
            *mutex.lock().await += black_box(1);
        }
        begin.elapsed()
    })
}

pub fn mutex_4(task: &Task) -> Duration {
    let times = task.times;
    Smol::run(task.workers, async move {
        let mutex = Arc::new(Mutex::new(0u64));
        let begin = Instant::now();
        let users: Vec<_> = (0..4)
            .map(|number| {
                let mutex = Arc::clone(&mutex);
                smol::spawn(async move {
                    for _ in 0..share(times, 4, number) {
                        *mutex.lock().await += 1;
                    }
                })
            })
            .collect();
        for user in users {
            user.await;
        }
        begin.elapsed()
    })
}

pub fn rwlock(task: &Task) -> Duration {
    let times = task.times;
    Smol::run(task.workers, async move {
        let lock = RwLock::new(0u64);
        let begin = Instant::now();
        for _ in 0..times {
            *lock.write().await += black_box(1);
        }
        begin.elapsed()
    })
}

pub fn semaphore(task: &Task) -> Duration {
    let times = task.times;
    Smol::run(task.workers, async move {
        let semaphore = Semaphore::new(1);
        let begin = Instant::now();
        for _ in 0..times {
            drop(semaphore.acquire().await);
        }
        begin.elapsed()
    })
}
