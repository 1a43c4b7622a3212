//! What is measured of channels, by itself and beside peers. To be called in a coroutine.

use std::hint::black_box;
use std::time::{Duration, Instant};

use coro::{chan, go};

use super::timed;

/// How long so many round trips take, of two coroutines with a rendezvous in each direction.
pub(crate) fn rendezvous(times: u64) -> Duration {
    let (to, from) = (chan::bounded::<u64>(0), chan::bounded::<u64>(0));
    let echo = go(move || {
        for value in to.1 {
            from.0.send(value).expect("the other side waits");
        }
    });
    let time = timed(times, || {
        to.0.send(black_box(7)).expect("the echo waits");
        _ = black_box(from.1.recv());
    });
    drop(to.0);
    echo.join().expect("it does not panic");
    time
}

/// How long it takes to pass so many values, from `ends` senders to as many receivers.
pub(crate) fn pass(times: u64, capacity: usize, ends: u64) -> Duration {
    let (sender, receiver) = chan::bounded::<u64>(capacity);
    let begin = Instant::now();
    let receivers: Vec<_> = (0..ends)
        .map(|_| {
            let receiver = receiver.clone();
            go(move || receiver.iter().for_each(|value| _ = black_box(value)))
        })
        .collect();
    for number in 0..ends {
        let sender = sender.clone();
        let count = times / ends + u64::from(number < times % ends);
        go(move || (0..count).for_each(|i| sender.send(i).expect("there are receivers")));
    }
    drop((sender, receiver));
    receivers.into_iter().for_each(|receiver| receiver.join().expect("it does not panic"));
    begin.elapsed()
}
