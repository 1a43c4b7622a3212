//! Acts about channels, selects and locks, which coroutines and the player use at the same time.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use coro::chan::{self, RecvTimeoutError, Select, after};
use coro::sync::{Barrier, Condvar, Mutex, Notify, Semaphore, WaitGroup};
use coro::{go, select};

use crate::counted::Counted;
use crate::dice::Dice;

/// Values go from several senders to several receivers, some of which are cancelled: each is dropped once, which the
/// books tell, and what is received without a cancellation is complete.
pub(super) fn pass(dice: &mut Dice) {
    let (sender, receiver) = match dice.roll(4) {
        3 => chan::unbounded(),
        capacity => chan::bounded(capacity as usize),
    };
    let (senders, each) = (1 + dice.roll(4), dice.roll(30));
    for _ in 0..senders {
        let sender = sender.clone();
        go(move || (0..each).try_for_each(|i| sender.send(Counted::new(i))));
    }
    drop(sender);
    let cancel = dice.once_in(3);
    let others: Vec<_> = (0..dice.roll(3))
        .map(|_| {
            let receiver = receiver.clone();
            go(move || receiver.iter().map(|value| value.0).sum::<u64>())
        })
        .collect();
    if cancel {
        others.iter().for_each(|other| other.cancel());
    }
    let mut sum: u64 = receiver.iter().map(|value| value.0).sum();
    for other in others {
        match other.join() {
            Ok(part) => sum += part,
            Err(error) => assert!(cancel && error.is_cancelled()),
        }
    }
    if !cancel {
        assert_eq!(sum, senders * each * each.saturating_sub(1) / 2, "each value has arrived");
    }
}

/// A choice among channels, a future and a limit, until all have told their end.
pub(super) fn choose(dice: &mut Dice) {
    let each = dice.roll(20);
    let [(to_a, a), (to_b, b)] = std::array::from_fn(|_| chan::bounded(dice.roll(2) as usize));
    go(move || (0..each).try_for_each(|i| to_a.send(Counted::new(i))));
    let (mut left, mut got) = (each, 0);
    let limit = after(Duration::from_secs(50));
    let sends = go(move || {
        let echo = go(move || b.iter().map(|value: Counted| value.0).sum::<u64>());
        while left > 0 {
            select! {
                recv(a) -> value => got += u64::from(value.is_ok()),
                send(to_b, Counted::new(1)) -> sent => left -= u64::from(sent.is_ok()),
                wait(go(coro::yield_now)) -> joined => joined.expect("it just yields"),
                recv(limit) -> _ => panic!("it has taken 50 seconds"),
            }
        }
        drop(to_b);
        let rest = a.iter().count() as u64;
        (got + rest, echo.join().expect("no panic is planned"))
    });
    assert_eq!(sends.join().expect("no panic is planned"), (each, each));
}

/// The same among a number of channels that the dice tell.
pub(super) fn merge(dice: &mut Dice) {
    let count = dice.roll(10);
    let receivers: Vec<_> = (0..count)
        .map(|i| {
            let (sender, receiver) = chan::bounded(dice.roll(3) as usize);
            go(move || sender.send(i));
            receiver
        })
        .collect();
    let mut select = Select::new();
    for receiver in &receivers {
        select.recv(receiver, |value| value.unwrap_or(0));
    }
    let mut sum = 0;
    while !select.is_empty() {
        sum += select.select();
    }
    assert_eq!(sum, count * count.saturating_sub(1) / 2);
}

/// Limits and cancellations against values.
pub(super) fn hurry(dice: &mut Dice) {
    let (sender, receiver) = chan::bounded(0);
    let (limit, pause, cancel) = (dice.micros(300), dice.micros(300), dice.once_in(3));
    let sends = go(move || {
        coro::sleep(pause);
        sender.send_timeout(Counted::new(7), Duration::from_millis(5)).is_ok()
    });
    let received = match receiver.recv_timeout(limit) {
        Ok(value) => value.0 == 7,
        Err(RecvTimeoutError::Timeout) => {
            coro::timeout(limit, || receiver.recv().is_ok()) == Ok(true)
        }
        Err(RecvTimeoutError::Disconnected) => false,
    };
    if cancel {
        sends.cancel();
    }
    drop(receiver);
    match sends.join() {
        Ok(sent) => assert_eq!(sent, received),
        Err(error) => assert!(cancel && error.is_cancelled()),
    }
}

/// A mutex, a condition and a semaphore, whose holders may be cancelled.
pub(super) fn lock(dice: &mut Dice) {
    struct Shared {
        value: Mutex<u64>,
        changed: Condvar,
        permits: Semaphore,
        inside: AtomicU64,
    }
    let permits = 1 + dice.roll(3) as usize;
    let shared = Arc::new(Shared {
        value: Mutex::new(0),
        changed: Condvar::new(),
        permits: Semaphore::new(permits),
        inside: AtomicU64::new(0),
    });
    let count = 1 + dice.roll(10);
    let tasks: Vec<_> = (0..count)
        .map(|_| {
            let (shared, suspends) = (Arc::clone(&shared), dice.once_in(2));
            go(move || {
                let _permit = shared.permits.acquire();
                assert!(shared.inside.fetch_add(1, Relaxed) < permits as u64);
                if suspends {
                    coro::shield(coro::yield_now);
                }
                shared.inside.fetch_sub(1, Relaxed);
                *shared.value.lock() += 1;
                shared.changed.notify_all();
            })
        })
        .collect();
    let victim = tasks.first().filter(|_| dice.once_in(3));
    victim.inspect(|victim| victim.cancel());
    let all = count - u64::from(victim.is_some());
    let value = shared.changed.wait_while(shared.value.lock(), |value| *value < all);
    assert!((all..=count).contains(&*value));
    drop(value);
    for task in tasks {
        if let Err(error) = task.join() {
            assert!(error.is_cancelled());
        }
    }
    assert_eq!(shared.permits.available_permits(), permits, "each permit has come back");
}

/// A barrier, a wait group and a notification.
pub(super) fn meet(dice: &mut Dice) {
    struct Shared {
        barrier: Barrier,
        group: WaitGroup,
        notify: Notify,
        leaders: AtomicU64,
    }
    let count = 1 + dice.roll(8) as usize;
    let shared = Arc::new(Shared {
        barrier: Barrier::new(count),
        group: WaitGroup::new(),
        notify: Notify::new(),
        leaders: AtomicU64::new(0),
    });
    shared.group.add(count);
    for _ in 0..count {
        let shared = Arc::clone(&shared);
        go(move || {
            if shared.barrier.wait().is_leader() {
                shared.leaders.fetch_add(1, Relaxed);
                shared.notify.notify_one();
            }
            shared.group.done();
        });
    }
    shared.notify.wait();
    shared.group.wait();
    assert_eq!(shared.leaders.load(Relaxed), 1);
}
