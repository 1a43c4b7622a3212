//! Threads of the operating system, with std's and crossbeam's channels, and std's and parking_lot's locks.

use std::hint::black_box;
use std::sync::{Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select};

use super::share;
use crate::common::timed;
use crate::measure::Task;

/// The time from the first turn to the last, when so many threads take turns on one CPU, as the others do on one worker. The
/// kernel lets them begin one by one, so the time of a single thread would leave out those that have not begun.
pub fn turn(task: &Task) -> Duration {
    let Task { size, times, .. } = *task;
    let rounds = times.div_ceil(size);
    let started = Barrier::new(size as usize);
    let started = &started;
    thread::scope(|scope| {
        let all: Vec<_> = (0..size)
            .map(|_| {
                scope.spawn(move || {
                    crate::servers::pin(0);
                    started.wait();
                    let begin = Instant::now();
                    (0..rounds).for_each(|_| thread::yield_now());
                    (begin, Instant::now())
                })
            })
            .collect();
        let (begins, ends): (Vec<_>, Vec<_>) =
            all.into_iter().map(|one| one.join().expect("it does not panic")).unzip();
        let begin = begins.into_iter().min().expect("there are some");
        let end = ends.into_iter().max().expect("there are some");
        (end - begin).mul_f64(times as f64 / (rounds * size) as f64)
    })
}

pub fn spawn_one(task: &Task) -> Duration {
    timed(task.times, || _ = thread::spawn(|| ()).join())
}

fn batches<T: Send + 'static>(task: &Task, body: fn() -> T) -> Duration {
    let mut handles = Vec::with_capacity(task.size as usize);
    timed(task.times, || {
        handles.extend((0..task.size).map(|_| thread::spawn(body)));
        handles.drain(..).for_each(|handle| _ = black_box(handle.join()));
    })
}

pub fn spawn(task: &Task) -> Duration {
    batches(task, || 0)
}

pub fn sleep(task: &Task) -> Duration {
    batches(task, || thread::sleep(Duration::from_millis(1)))
}

pub fn park(task: &Task) -> Duration {
    let times = task.times;
    let ping = thread::current();
    let pong = thread::spawn(move || {
        for _ in 0..times {
            thread::park();
            ping.unpark();
        }
    });
    let time = timed(times, || {
        pong.thread().unpark();
        thread::park();
    });
    pong.join().expect("it does not panic");
    time
}

pub fn scope(task: &Task) -> Duration {
    timed(task.times, || {
        thread::scope(|scope| (0..task.size).for_each(|_| drop(scope.spawn(|| ()))));
    })
}

pub fn round_trip(task: &Task) -> Duration {
    let ((to, echo_receives), (echo_sends, from)) = (bounded::<u64>(0), bounded::<u64>(0));
    let echo = thread::spawn(move || {
        echo_receives.iter().for_each(|value| echo_sends.send(value).expect("open"));
    });
    let time = timed(task.times, || {
        to.send(black_box(7)).expect("open");
        _ = black_box(from.recv());
    });
    drop(to);
    echo.join().expect("it does not panic");
    time
}

pub fn round_trip_std(task: &Task) -> Duration {
    let (to, echo_receives) = mpsc::sync_channel::<u64>(0);
    let (echo_sends, from) = mpsc::sync_channel::<u64>(0);
    let echo = thread::spawn(move || {
        echo_receives.iter().for_each(|value| echo_sends.send(value).expect("open"));
    });
    let time = timed(task.times, || {
        to.send(black_box(7)).expect("open");
        _ = black_box(from.recv());
    });
    drop(to);
    echo.join().expect("it does not panic");
    time
}

fn through(task: &Task, ends: u64, (sender, receiver): (Sender<u64>, Receiver<u64>)) -> Duration {
    let begin = Instant::now();
    let receivers: Vec<_> = (0..ends)
        .map(|_| {
            let receiver = receiver.clone();
            thread::spawn(move || receiver.iter().for_each(|value| _ = black_box(value)))
        })
        .collect();
    for number in 0..ends {
        let sender = sender.clone();
        let count = share(task.times, ends, number);
        thread::spawn(move || (0..count).for_each(|i| sender.send(i).expect("open")));
    }
    drop((sender, receiver));
    receivers.into_iter().for_each(|receiver| receiver.join().expect("it does not panic"));
    begin.elapsed()
}

pub fn pass(task: &Task, ends: u64) -> Duration {
    through(task, ends, bounded(1024))
}

pub fn pass_unbounded(task: &Task) -> Duration {
    through(task, 1, crossbeam_channel::unbounded())
}

pub fn pass_std(task: &Task) -> Duration {
    let times = task.times;
    let (sender, receiver) = mpsc::sync_channel::<u64>(1024);
    let begin = Instant::now();
    let receiving = thread::spawn(move || receiver.iter().for_each(|value| _ = black_box(value)));
    thread::spawn(move || (0..times).for_each(|i| sender.send(i).expect("open")));
    receiving.join().expect("it does not panic");
    begin.elapsed()
}

pub fn select(task: &Task) -> Duration {
    let [a, b, c, d] = std::array::from_fn(|_| bounded::<u64>(1));
    timed(task.times, || {
        c.0.send(black_box(1)).expect("open");
        select! {
            recv(a.1) -> value => { _ = black_box(value) }
            recv(b.1) -> value => { _ = black_box(value) }
            recv(c.1) -> value => { _ = black_box(value) }
            recv(d.1) -> value => { _ = black_box(value) }
        }
    })
}

/// How long it takes four threads to do it so often, taken together.
fn by_four(task: &Task, locked: impl Fn() + Sync) -> Duration {
    let locked = &locked;
    let begin = Instant::now();
    thread::scope(|scope| {
        for number in 0..4 {
            let count = share(task.times, 4, number);
            scope.spawn(move || {
                if task.workers == 1 {
                    crate::servers::pin(0);
                }
                (0..count).for_each(|_| locked());
            });
        }
    });
    begin.elapsed()
}

pub fn mutex_4(task: &Task) -> Duration {
    let mutex = std::sync::Mutex::new(0u64);
    by_four(task, || *mutex.lock().unwrap() += 1)
}

pub fn mutex_4_parking_lot(task: &Task) -> Duration {
    let mutex = parking_lot::Mutex::new(0u64);
    by_four(task, || *mutex.lock() += 1)
}

pub fn rwlock(task: &Task) -> Duration {
    let lock = std::sync::RwLock::new(0u64);
    timed(task.times, || *lock.write().unwrap() += black_box(1))
}

pub fn rwlock_parking_lot(task: &Task) -> Duration {
    let lock = parking_lot::RwLock::new(0u64);
    timed(task.times, || *lock.write() += black_box(1))
}
