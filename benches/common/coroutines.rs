//! Turns, waits and crowds of coroutines. To be called in a coroutine.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use coro::{JoinHandle, current, go, park, wait, yield_now};
use futures_channel::oneshot;

use super::timed;

/// How long it takes, so many times, to start a batch of coroutines and wait for all of them.
pub(crate) fn batches<T: Send + 'static>(times: u64, count: u64, body: fn() -> T) -> Duration {
    let mut handles: Vec<JoinHandle<T>> = Vec::with_capacity(count as usize);
    timed(times, || {
        handles.extend((0..count).map(|_| go(body)));
        handles.drain(..).for_each(|handle| _ = black_box(handle.join()));
    })
}

/// How long so many scopes take, with so many children each.
pub(crate) fn scopes(times: u64, children: u64) -> Duration {
    timed(times, || coro::scope(|s| (0..children).for_each(|_| drop(s.go(|| ())))))
}

/// How long so many switches take, when `tasks` coroutines on one worker yield in turn. The time begins when all have
/// started, and ends when the first has had its turns.
pub(crate) fn yields(tasks: u64, times: u64) -> Duration {
    let started = Arc::new(AtomicU64::new(0));
    let rounds = times.div_ceil(tasks);
    let all: Vec<_> = (0..tasks)
        .map(|_| {
            let started = Arc::clone(&started);
            go(move || {
                started.fetch_add(1, Relaxed);
                while started.load(Relaxed) < tasks {
                    yield_now();
                }
                timed(rounds, yield_now)
            })
        })
        .collect();
    let times_of_all = all.into_iter().map(|one| one.join().expect("it does not panic"));
    let time = times_of_all.min().expect("there are some");
    // Every round was one switch for each task, and that may be a few more than were asked for.
    time.mul_f64(times as f64 / (rounds * tasks) as f64)
}

/// How long so many round trips take, of two coroutines that unpark each other.
pub(crate) fn ping_pong(times: u64) -> Duration {
    let ping = current().expect("in a coroutine");
    let pong = go(move || {
        for _ in 0..times {
            park();
            ping.unpark();
        }
    });
    let handle = pong.handle();
    let time = timed(times, || {
        handle.unpark();
        park();
    });
    pong.join().expect("it does not panic");
    time
}

/// How long so many hand-overs take: one coroutine unparks the other, and waits for what that sends.
pub(crate) fn hand_over(times: u64) -> Duration {
    /// Channels that are made at once; to make them is not measured.
    const CHANNELS: u64 = 1000;

    let mut time = Duration::ZERO;
    for begun in (0..times).step_by(CHANNELS as usize) {
        let count = CHANNELS.min(times - begun);
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..count).map(|_| oneshot::channel::<u64>()).unzip();
        let giver = go(move || {
            for sender in senders {
                park();
                sender.send(7).expect("the receiver waits");
            }
        });
        let handle = giver.handle();
        let mut receivers = receivers.into_iter();
        time += timed(count, || {
            handle.unpark();
            _ = black_box(receivers.next().map(wait));
        });
        giver.join().expect("it does not panic");
    }
    time
}

/// A coroutine that sleeps.
pub(crate) fn sleeper() {
    coro::sleep(Duration::from_millis(1));
}

/// The sum of the numbers from `first` on, `count` of them, by a tree of coroutines: ten children each.
pub(crate) fn skynet(first: u64, count: u64) -> u64 {
    if count == 1 {
        return first;
    }
    let part = count / 10;
    let children: Vec<_> = (0..10).map(|i| go(move || skynet(first + i * part, part))).collect();
    children.into_iter().map(|child| child.join().expect("no leaf panics")).sum()
}
