//! may, with as many workers as are asked for, and otherwise as it is by default.

use std::cell::Cell;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use may::coroutine::{self, JoinHandle};
use may::sync::{Mutex, RwLock, Semphore, mpsc, spsc};

use super::share;
use crate::common::timed;
use crate::measure::Task;

/// In a coroutine.
pub fn inside(task: &Task, f: fn(&Task) -> Duration) -> Duration {
    may::config().set_workers(task.workers);
    let task = *task;
    may::go!(move || f(&task)).join().expect("it does not panic")
}

may::coroutine_local!(static LOCAL: Cell<u64> = Cell::new(0));

#[inline(never)]
fn read_local() -> u64 {
    black_box(LOCAL.with(Cell::get))
}

pub fn local(task: &Task) -> Duration {
    inside(task, |task| {
        LOCAL.with(|local| local.set(black_box(7)));
        timed(task.times, || _ = read_local())
    })
}

/// Does something when it is dropped, as an exit handler would.
struct Leaves;

impl Drop for Leaves {
    fn drop(&mut self) {
        black_box(0);
    }
}

pub fn spawn_stored(task: &Task) -> Duration {
    inside(task, |task| {
        timed(task.times, || {
            let body = || {
                let _leaves = Leaves;
                LOCAL.with(|local| local.set(7));
            };
            may::go!(body).join().expect("it does not panic");
        })
    })
}

/// As `coroutines::yields` of `benches/common`.
pub fn turn(task: &Task) -> Duration {
    inside(task, |task| {
        let Task { size, times, .. } = *task;
        let rounds = times.div_ceil(size);
        let started = Arc::new(AtomicU64::new(0));
        let all: Vec<_> = (0..size)
            .map(|_| {
                let started = Arc::clone(&started);
                may::go!(move || {
                    started.fetch_add(1, Relaxed);
                    while started.load(Relaxed) < size {
                        coroutine::yield_now();
                    }
                    timed(rounds, coroutine::yield_now)
                })
            })
            .collect();
        let times_of_all = all.into_iter().map(|one| one.join().expect("it does not panic"));
        let time = times_of_all.min().expect("there are some");
        time.mul_f64(times as f64 / (rounds * size) as f64)
    })
}

pub fn spawn_one(task: &Task) -> Duration {
    inside(task, |task| timed(task.times, || _ = may::go!(|| ()).join()))
}

fn batches<T: Send + 'static>(task: &Task, body: fn() -> T) -> Duration {
    let mut handles: Vec<JoinHandle<T>> = Vec::with_capacity(task.size as usize);
    timed(task.times, || {
        handles.extend((0..task.size).map(|_| may::go!(body)));
        handles.drain(..).for_each(|handle| _ = black_box(handle.join()));
    })
}

pub fn spawn(task: &Task) -> Duration {
    inside(task, |task| batches(task, || 0))
}

pub fn sleep(task: &Task) -> Duration {
    inside(task, |task| batches(task, || coroutine::sleep(Duration::from_millis(1))))
}

pub fn load(task: &Task) -> Duration {
    fn forty_operations() -> u64 {
        let mut wrong = 0;
        for i in 4..44u64 {
            if i % 4 == 0 {
                LOCAL.with(|local| local.set(i));
            } else {
                let read = read_local();
                wrong += u64::from(read >= i || read < i - 3);
            }
        }
        wrong
    }
    inside(task, |task| batches(task, forty_operations))
}

pub fn park(task: &Task) -> Duration {
    inside(task, |task| {
        let times = task.times;
        let ping = coroutine::current();
        let pong = may::go!(move || {
            for _ in 0..times {
                coroutine::park();
                ping.unpark();
            }
        });
        let time = timed(times, || {
            pong.coroutine().unpark();
            coroutine::park();
        });
        pong.join().expect("it does not panic");
        time
    })
}

pub fn scope(task: &Task) -> Duration {
    inside(task, |task| {
        timed(task.times, || {
            coroutine::scope(|scope| {
                for _ in 0..task.size {
                    may::go!(scope, || ());
                }
            });
        })
    })
}

fn tree(first: u64, count: u64) -> u64 {
    if count == 1 {
        return first;
    }
    let part = count / 10;
    let children: Vec<_> =
        (0..10).map(|i| may::go!(move || tree(first + i * part, part))).collect();
    children.into_iter().map(|child| child.join().expect("no leaf panics")).sum()
}

pub fn skynet(task: &Task) -> Duration {
    inside(task, |task| {
        timed(task.times, || {
            assert_eq!(tree(0, task.size), task.size * (task.size - 1) / 2);
        })
    })
}

pub fn round_trip(task: &Task) -> Duration {
    inside(task, |task| {
        let ((to_echo, echo_receives), (echo_sends, from_echo)) =
            (spsc::channel::<u64>(), spsc::channel::<u64>());
        may::go!(move || {
            while let Ok(value) = echo_receives.recv() {
                if echo_sends.send(value).is_err() {
                    break;
                }
            }
        });
        timed(task.times, || {
            to_echo.send(black_box(7)).expect("open");
            _ = black_box(from_echo.recv());
        })
    })
}

pub fn pass_unbounded(task: &Task) -> Duration {
    inside(task, |task| {
        let times = task.times;
        let (sender, receiver) = mpsc::channel::<u64>();
        let begin = Instant::now();
        let receiving = may::go!(move || receiver.iter().for_each(|value| _ = black_box(value)));
        may::go!(move || (0..times).for_each(|i| sender.send(i).expect("open")));
        receiving.join().expect("it does not panic");
        begin.elapsed()
    })
}

pub fn mutex(task: &Task) -> Duration {
    let mutex = Mutex::new(0u64);
    timed(task.times, || *mutex.lock().unwrap() += black_box(1))
}

pub fn mutex_4(task: &Task) -> Duration {
    let mutex = Arc::new(Mutex::new(0u64));
    let begin = Instant::now();
    let users: Vec<_> = (0..4)
        .map(|number| {
            let mutex = Arc::clone(&mutex);
            let count = share(task.times, 4, number);
            may::go!(move || (0..count).for_each(|_| *mutex.lock().unwrap() += 1))
        })
        .collect();
    users.into_iter().for_each(|user| user.join().expect("it does not panic"));
    begin.elapsed()
}

pub fn rwlock(task: &Task) -> Duration {
    let lock = RwLock::new(0u64);
    timed(task.times, || *lock.write().unwrap() += black_box(1))
}

pub fn semaphore(task: &Task) -> Duration {
    let semaphore = Semphore::new(1);
    timed(task.times, || {
        semaphore.wait();
        semaphore.post();
    })
}
