//! coro.

use std::hint::black_box;
use std::time::Duration;

use coro::chan::{self, Sender};
use coro::{Runtime, go, select};

use crate::{channels, timed};

fn inside(runtime: &Runtime, f: impl FnOnce() -> Duration + Send + 'static) -> Duration {
    runtime.go(f).join().expect("it does not panic")
}

pub(crate) fn rendezvous(runtime: &Runtime, times: u64) -> Duration {
    inside(runtime, move || channels::rendezvous(times))
}

pub(crate) fn pass(runtime: &Runtime, times: u64, ends: u64) -> Duration {
    inside(runtime, move || channels::pass(times, 1024, ends))
}

pub(crate) fn select(runtime: &Runtime, times: u64) -> Duration {
    inside(runtime, move || {
        let [a, b, c, d] = std::array::from_fn(|_| chan::bounded::<u64>(1));
        timed(times, || {
            c.0.send(black_box(1)).expect("open");
            select! {
                recv(a.1) -> value => { _ = black_box(value) }
                recv(b.1) -> value => { _ = black_box(value) }
                recv(c.1) -> value => { _ = black_box(value) }
                recv(d.1) -> value => { _ = black_box(value) }
            }
        })
    })
}

fn node(result: Sender<u64>, first: u64, count: u64) {
    if count == 1 {
        return result.send(first).expect("open");
    }
    let (sender, receiver) = chan::bounded(10);
    let part = count / 10;
    for i in 0..10 {
        let sender = sender.clone();
        go(move || node(sender, first + i * part, part));
    }
    result.send(receiver.iter().take(10).sum()).expect("open");
}

pub(crate) fn skynet(runtime: &Runtime, times: u64) -> Duration {
    inside(runtime, move || {
        timed(times, || {
            let (sender, receiver) = chan::bounded(1);
            go(move || node(sender, 0, 1_000_000));
            assert_eq!(receiver.recv(), Ok(499_999_500_000));
        })
    })
}
