//! crossbeam-channel, on threads.

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{bounded, select};

use crate::timed;

pub(crate) fn pass(times: u64, ends: u64) -> Duration {
    let (sender, receiver) = bounded::<u64>(1024);
    let begin = Instant::now();
    let receivers: Vec<_> = (0..ends)
        .map(|_| {
            let receiver = receiver.clone();
            thread::spawn(move || receiver.iter().for_each(|value| _ = black_box(value)))
        })
        .collect();
    for _ in 0..ends {
        let sender = sender.clone();
        thread::spawn(move || (0..times / ends).for_each(|i| sender.send(i).expect("open")));
    }
    drop((sender, receiver));
    receivers.into_iter().for_each(|receiver| receiver.join().expect("it does not panic"));
    begin.elapsed()
}

pub(crate) fn select(times: u64) -> Duration {
    let [a, b, c, d] = std::array::from_fn(|_| bounded::<u64>(1));
    timed(times, || {
        c.0.send(black_box(1)).expect("open");
        select! {
            recv(a.1) -> value => { _ = black_box(value) }
            recv(b.1) -> value => { _ = black_box(value) }
            recv(c.1) -> value => { _ = black_box(value) }
            recv(d.1) -> value => { _ = black_box(value) }
        }
    })
}
