//! A value and an interruption that meet: the value was handed over, or it was not, and never both or neither.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use coro::chan::{self, SendTimeoutError, TryRecvError};

use crate::common::{self, Counter, OnDrop};

const ROUNDS: usize = if cfg!(debug_assertions) { 2_000 } else { 20_000 };

/// A sender that is cancelled has sent, or its value is dropped with it.
#[test]
fn chan_a_cancelled_sender_has_sent_or_still_has_its_value() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (dropped, received) = (Counter::default(), Arc::new(AtomicUsize::new(0)));
        let (sender, receiver) = chan::bounded::<OnDrop>(0);
        for round in 0..ROUNDS {
            let task = runtime.go({
                let (sender, value) = (sender.clone(), dropped.on_drop());
                move || sender.send(value).unwrap()
            });
            let takes = runtime.go({
                let (receiver, received) = (receiver.clone(), Arc::clone(&received));
                move || {
                    if receiver.try_recv().is_ok() {
                        received.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
            if round % 2 == 0 {
                thread::yield_now();
            }
            task.cancel();
            takes.join().unwrap();
            let before = received.load(Ordering::Relaxed);
            let sent = task.join().is_ok();
            assert_eq!(dropped.get(), round + 1, "one value, dropped once");
            // An interruption may come after the hand-over as well; not without one if it is told as sent.
            assert!(!sent || before > 0);
            assert_eq!(receiver.try_recv().err(), Some(TryRecvError::Empty), "it is forgotten");
        }
    });
}

/// A receiver that is cancelled has received a value, or leaves it to the others.
#[test]
fn chan_a_cancelled_receiver_loses_nothing() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        for capacity in [0, 1] {
            let (sender, receiver) = chan::bounded::<usize>(capacity);
            let sum = Arc::new(AtomicUsize::new(0));
            let sends = runtime.go(move || (1..=ROUNDS).for_each(|i| sender.send(i).unwrap()));
            let mut receivers = Vec::new();
            while !receiver.is_closed() {
                let (receiver, sum) = (receiver.clone(), Arc::clone(&sum));
                receivers.push(runtime.go(move || {
                    while let Ok(value) = receiver.recv() {
                        sum.fetch_add(value, Ordering::Relaxed);
                    }
                }));
                if receivers.len() == 8 {
                    // Those of the middle are in the list of waiters, with others before and behind.
                    receivers.drain(2..6).for_each(|task| task.cancel());
                }
            }
            sends.join().unwrap();
            for task in receivers {
                task.join().unwrap();
            }
            // A cancelled one may still be about to add the last value that it was given.
            while sum.load(Ordering::Relaxed) < ROUNDS * (ROUNDS + 1) / 2 {
                coro::yield_now();
            }
            assert_eq!(sum.load(Ordering::Relaxed), ROUNDS * (ROUNDS + 1) / 2);
        }
    });
}

/// A limit that ends while the other side comes: the value is sent, or it comes back.
#[test]
fn chan_a_limit_that_races_a_receiver_sends_or_gives_back() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (sender, receiver) = chan::bounded::<usize>(0);
        let receives = runtime.go(move || {
            let mut received = Vec::new();
            loop {
                match receiver.recv_timeout(Duration::from_micros(20)) {
                    Ok(value) => received.push(value),
                    Err(chan::RecvTimeoutError::Timeout) => {}
                    Err(chan::RecvTimeoutError::Disconnected) => return received,
                }
            }
        });
        let sends = runtime.go(move || {
            let mut sent = Vec::new();
            for i in 0..ROUNDS / 10 {
                match sender.send_timeout(i, Duration::from_micros(20)) {
                    Ok(()) => sent.push(i),
                    Err(SendTimeoutError::Timeout(value)) => assert_eq!(value, i),
                    Err(SendTimeoutError::Disconnected(_)) => unreachable!("the receiver is there"),
                }
            }
            sent
        });
        assert_eq!(sends.join().unwrap(), receives.join().unwrap());
    });
}

/// The same by `timeout`, whose interruption comes from outside of the operation.
#[test]
fn chan_a_timeout_around_a_receive_loses_nothing() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (sender, receiver) = chan::bounded::<usize>(0);
        let sends = runtime.go(move || (0..ROUNDS / 10).for_each(|i| sender.send(i).unwrap()));
        let receives = runtime.go(move || {
            let mut next = 0;
            loop {
                let mut received = None;
                let _ =
                    coro::timeout(Duration::from_micros(10), || received = Some(receiver.recv()));
                match received {
                    Some(Ok(value)) => {
                        assert_eq!(value, next, "none is lost");
                        next += 1;
                    }
                    Some(Err(_)) => return next,
                    None => {}
                }
            }
        });
        sends.join().unwrap();
        assert_eq!(receives.join().unwrap(), ROUNDS / 10);
    });
}
