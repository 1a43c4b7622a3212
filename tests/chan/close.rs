//! Closing, by hand and by dropping the last of an end.

use std::thread;

use coro::chan::{self, RecvError, SendError};

use crate::common::{self, Counter};

#[test]
fn chan_close_leaves_what_is_there_to_the_receivers() {
    let _watchdog = common::watchdog();
    let (sender, receiver) = chan::bounded(4);
    (0..3).for_each(|i| sender.send(i).unwrap());
    assert!(sender.close());
    assert!(!receiver.close(), "it is closed");
    assert!(sender.is_closed() && receiver.is_closed());
    assert_eq!(sender.send(9), Err(SendError(9)));
    assert!(receiver.iter().eq(0..3));
    assert_eq!(receiver.recv(), Err(RecvError));
}

/// Receivers and senders that wait are told, on coroutines and on threads; the senders have their values back.
#[test]
fn chan_close_tells_everybody_who_waits() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        for by_dropping in [false, true] {
            let (sender, receiver) = chan::bounded::<usize>(0);
            let begun = Counter::default();
            let receive = || {
                let (receiver, begun) = (receiver.clone(), begun.clone());
                move || {
                    begun.add();
                    receiver.recv()
                }
            };
            let tasks: Vec<_> = (0..5).map(|_| runtime.go(receive())).collect();
            let thread = common::spawn_until_blocked(receive());
            begun.wait_for(6);
            if by_dropping {
                drop(sender);
            } else {
                sender.close();
            }
            tasks.into_iter().for_each(|task| assert_eq!(task.join().unwrap(), Err(RecvError)));
            assert_eq!(thread.join().unwrap(), Err(RecvError));

            let (sender, receiver) = chan::bounded::<usize>(0);
            let send = |i| {
                let sender = sender.clone();
                move || sender.send(i)
            };
            let tasks: Vec<_> = (0..5).map(|i| runtime.go(send(i))).collect();
            let thread = common::spawn_until_blocked(send(5));
            if by_dropping {
                drop(receiver);
            } else {
                receiver.close();
            }
            for (i, task) in tasks.into_iter().enumerate() {
                assert_eq!(task.join().unwrap(), Err(SendError(i)));
            }
            assert_eq!(thread.join().unwrap(), Err(SendError(5)));
        }
    });
}

/// Many senders and receivers on a channel that is closed at some moment: what was sent is received, and nothing else.
#[test]
fn chan_close_in_the_middle_loses_nothing() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, workers| {
        for capacity in [0, 1, 3] {
            for _ in 0..8 {
                let (sender, receiver) = chan::bounded::<u64>(capacity);
                let senders: Vec<_> = (0..4)
                    .map(|_| {
                        let sender = sender.clone();
                        runtime.go(move || (1..).take_while(|i| sender.send(*i).is_ok()).sum())
                    })
                    .collect();
                let receivers: Vec<_> = (0..4)
                    .map(|_| {
                        let receiver = receiver.clone();
                        runtime.go(move || receiver.iter().sum())
                    })
                    .collect();
                (0..10 * workers).for_each(|_| thread::yield_now());
                receiver.close();
                let sum = |tasks: Vec<coro::JoinHandle<u64>>| -> u64 {
                    tasks.into_iter().map(|task| task.join().unwrap()).sum()
                };
                assert_eq!(sum(senders), sum(receivers));
            }
        }
    });
}

#[test]
fn chan_the_last_of_an_end_closes() {
    let _watchdog = common::watchdog();
    let (sender, receiver) = chan::bounded::<i32>(1);
    let (other_sender, other_receiver) = (sender.clone(), receiver.clone());
    drop((sender, receiver));
    assert!(!other_sender.is_closed());
    other_sender.send(1).unwrap();
    drop(other_sender);
    assert!(other_receiver.is_closed());
    assert_eq!(other_receiver.recv(), Ok(1));
    assert_eq!(other_receiver.recv(), Err(RecvError));
}
