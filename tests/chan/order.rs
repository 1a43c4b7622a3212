//! What goes in comes out, once and in order, whoever waits for whom.

use std::collections::HashSet;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use coro::chan::{self, Receiver, Sender, TryRecvError, TrySendError};

use crate::common::{self, Counter};

/// The capacities that differ: a rendezvous, one, some, and no limit.
fn channels<T>() -> [(Sender<T>, Receiver<T>); 4] {
    [chan::bounded(0), chan::bounded(1), chan::bounded(7), chan::unbounded()]
}

const MANY: usize = 5_000;

#[test]
fn chan_values_come_in_the_order_in_which_they_were_sent() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        for (sender, receiver) in channels() {
            let sends = runtime.go(move || (0..MANY).for_each(|i| sender.send(i).unwrap()));
            let receives = runtime.go(move || {
                assert!(receiver.iter().eq(0..MANY));
                receiver.recv().unwrap_err();
            });
            sends.join().unwrap();
            receives.join().unwrap();
        }
    });
}

#[test]
fn chan_threads_and_coroutines_share_a_channel() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        for (sender, receiver) in channels::<usize>() {
            let (results, seen) = mpsc::channel();
            let receive = |receiver: Receiver<usize>| {
                let results = results.clone();
                move || results.send(receiver.iter().collect::<Vec<_>>()).unwrap()
            };
            let send = |number: usize, sender: Sender<usize>| {
                move || (0..MANY / 8).for_each(|i| sender.send(number * MANY + i).unwrap())
            };
            let mut threads = Vec::new();
            let mut coroutines = Vec::new();
            for _ in 0..2 {
                threads.push(thread::spawn(receive(receiver.clone())));
                coroutines.push(runtime.go(receive(receiver.clone())));
            }
            for number in 0..4 {
                threads.push(thread::spawn(send(2 * number, sender.clone())));
                coroutines.push(runtime.go(send(2 * number + 1, sender.clone())));
            }
            drop((sender, receiver, results));
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            coroutines.into_iter().for_each(|coroutine| coroutine.join().unwrap());
            let received: Vec<Vec<usize>> = seen.iter().collect();
            for values in &received {
                // What one sender sent comes in order to each receiver.
                for number in 0..8 {
                    let own = values.iter().filter(|value| **value / MANY == number);
                    assert!(own.is_sorted());
                }
            }
            let all: HashSet<usize> = received.iter().flatten().copied().collect();
            assert_eq!(all.len(), 8 * (MANY / 8), "each value once");
            assert_eq!(received.iter().map(Vec::len).sum::<usize>(), all.len());
        }
    });
}

/// Lets everybody on the runtime have turns, whoever is ready.
fn let_others_go_on(runtime: &coro::Runtime) {
    for _ in 0..20 {
        runtime.go(|| (0..20).for_each(|_| coro::yield_now())).join().unwrap();
    }
}

#[test]
fn chan_a_rendezvous_waits_for_the_other_side() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (sender, receiver) = chan::bounded(0);
        assert_eq!(sender.try_send(1), Err(TrySendError::Full(1)));
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
        let (begun, sent) = (Counter::default(), Counter::default());
        let task = runtime.go({
            let (sender, begun, sent) = (sender.clone(), begun.clone(), sent.clone());
            move || {
                begun.add();
                sender.send(2).unwrap();
                sent.add();
            }
        });
        begun.wait_for(1);
        let_others_go_on(runtime);
        assert_eq!(sent.get(), 0, "nobody has received");
        assert!(sender.is_empty() && sender.is_full());
        assert_eq!(receiver.recv(), Ok(2));
        task.join().unwrap();
        // And the other way round.
        let task = runtime.go(move || receiver.recv().unwrap());
        while let Err(error) = sender.try_send(3) {
            assert_eq!(error, TrySendError::Full(3));
            coro::yield_now();
        }
        assert_eq!(task.join().unwrap(), 3);
    });
}

#[test]
fn chan_a_full_channel_holds_its_senders_in_order() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(1);
    let (sender, receiver) = chan::bounded(2);
    let tasks: Vec<_> = (0..6)
        .map(|i| {
            let sender = sender.clone();
            let begun = Counter::default();
            let task = runtime.go({
                let begun = begun.clone();
                move || {
                    begun.add();
                    sender.send(i).unwrap();
                }
            });
            begun.wait_for(1);
            let_others_go_on(&runtime);
            task
        })
        .collect();
    let finished = tasks.iter().filter(|task| task.is_finished()).count();
    assert_eq!((finished, receiver.len()), (2, 2));
    drop(sender);
    assert!(receiver.iter().eq(0..6));
    tasks.into_iter().for_each(|task| task.join().unwrap());
}

#[test]
fn chan_values_of_no_size_are_counted() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        for (sender, receiver) in channels() {
            let sends = runtime.go(move || (0..MANY).for_each(|_| sender.send(()).unwrap()));
            assert_eq!(receiver.iter().count(), MANY);
            sends.join().unwrap();
        }
    });
}

#[test]
fn chan_large_values_pass_whole() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        for (sender, receiver) in channels::<[u64; 512]>() {
            let sends = runtime.go(move || {
                (0..200).for_each(|i| sender.send([i; 512]).unwrap());
            });
            for (i, value) in receiver.iter().enumerate() {
                assert!(value.iter().all(|part| *part == i as u64));
            }
            sends.join().unwrap();
        }
    });
}

/// A ring of coroutines that hand a number on, for many rounds.
#[test]
fn chan_a_ring_goes_round() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (first, mut end) = chan::bounded::<u32>(0);
        for _ in 0..50 {
            let (sender, receiver) = chan::bounded(0);
            let from = std::mem::replace(&mut end, receiver);
            runtime.go(move || from.iter().for_each(|n| sender.send(n + 1).unwrap()));
        }
        for round in 0..50 {
            first.send(round).unwrap();
            assert_eq!(end.recv(), Ok(round + 50));
        }
    });
}

#[test]
fn chan_an_operation_that_never_waits_steps_aside() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(1);
    let (sender, receiver) = chan::unbounded();
    let stop = Counter::default();
    let busy = runtime.go({
        let stop = stop.clone();
        move || {
            while stop.get() == 0 {
                sender.send(()).unwrap();
                receiver.recv().unwrap();
            }
        }
    });
    runtime.go(move || stop.add()).join().unwrap();
    busy.join().unwrap();
}

#[test]
fn chan_waiting_in_a_no_suspend_is_a_panic_and_leaves_nobody_behind() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (sender, receiver) = chan::bounded::<i32>(0);
        let (to_send, to_receive) = (sender.clone(), receiver.clone());
        runtime.go(move || coro::no_suspend(|| to_receive.recv())).join().unwrap_err().into_panic();
        runtime.go(move || coro::no_suspend(|| to_send.send(1))).join().unwrap_err().into_panic();
        assert_eq!(sender.try_send(2), Err(TrySendError::Full(2)), "nobody waits");
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty), "nobody waits");
    });
}

#[test]
fn chan_a_limit_ends_the_wait() {
    let _watchdog = common::watchdog();
    let waits = || {
        let (sender, receiver) = chan::bounded(0);
        let limit = Duration::from_millis(2);
        receiver.recv_timeout(limit).unwrap_err();
        assert_eq!(sender.send_timeout(1, limit).unwrap_err().into_inner(), 1);
        assert!(coro::timeout(limit, || receiver.recv()).is_err());
        assert!(coro::timeout(limit, || sender.send(1)).is_err());
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty), "nobody waits");
        // A limit beyond what a clock can tell is none.
        let other = sender.clone();
        let task = coro::go(move || other.send_timeout(7, Duration::MAX));
        assert_eq!(receiver.recv_timeout(Duration::MAX), Ok(7));
        task.join().unwrap().unwrap();
    };
    waits();
    common::on_workers(|runtime, _| runtime.go(waits).join().unwrap());
}
