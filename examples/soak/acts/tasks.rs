//! Acts about coroutines that end, wait, and wait for each other.

use std::future::poll_fn;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use coro::{Elapsed, Handle, JoinError, JoinSet, Runtime, go, tls};

use super::{check, chore, is_planned, panic_as_planned, spawn};
use crate::counted::Counted;
use crate::dice::Dice;

pub(super) fn join_some(dice: &mut Dice) {
    let some: Vec<_> = (0..=dice.roll(100)).map(|_| spawn(dice)).collect();
    for (number, handle) in some {
        let outcome = if dice.once_in(2) { handle.join() } else { coro::wait(handle) };
        check(number, outcome, false);
    }
}

pub(super) fn detach_some(dice: &mut Dice) {
    (0..dice.roll(100)).for_each(|_| drop(spawn(dice)));
}

pub(super) fn cancel_some(dice: &mut Dice) {
    for _ in 0..dice.roll(20) {
        let held = Counted::new(0);
        let parked = go(move || {
            let _held = held;
            tls::set("parked", Counted::new(0));
            park_for_ever()
        });
        let (number, other) = spawn(dice);
        if dice.once_in(2) {
            coro::yield_now();
        }
        parked.cancel();
        other.cancel();
        assert!(matches!(parked.join(), Err::<(), _>(JoinError::Cancelled)));
        if dice.once_in(2) {
            check(number, other.join(), true);
        }
    }
}

/// Until somebody cancels the coroutine, or a time-out ends it.
fn park_for_ever() -> ! {
    loop {
        coro::park();
    }
}

pub(super) fn race(dice: &mut Dice) {
    let mut set = JoinSet::new();
    let size = dice.roll(30) as usize;
    for _ in 0..size {
        let inner = dice.split();
        set.spawn(move || chore(7, inner));
    }
    let cancel = dice.once_in(3);
    if cancel {
        set.cancel_all();
    }
    let wanted = if dice.once_in(3) { size / 2 } else { size };
    for joined in 0..wanted {
        assert_eq!(set.len(), size - joined);
        let next = if dice.once_in(2) { set.try_join_next() } else { None };
        let next = next.or_else(|| set.join_next());
        check(7, next.expect("there are more"), cancel);
    }
    match dice.roll(3) {
        0 => set.detach_all(),
        // What is left is cancelled.
        1 => drop(set),
        _ => {
            let rest = std::iter::from_fn(|| set.join_next()).map(|next| check(7, next, cancel));
            assert_eq!(rest.count(), size - wanted);
        }
    }
}

pub(super) fn borrow(dice: &mut Dice) {
    let numbers: Vec<u64> = (0..dice.roll(50)).map(|_| dice.roll(1000)).collect();
    let kept = dice.roll(numbers.len() as u64 + 1) as usize;
    let sum = AtomicU64::new(0);
    let joined: u64 = coro::scope(|s| {
        let add = |number: u64| {
            coro::yield_now();
            sum.fetch_add(number, Relaxed);
            number
        };
        let children: Vec<_> = numbers.iter().map(|number| s.go(move || add(*number))).collect();
        let parked = s.go(|| {
            let _borrowed = &sum;
            park_for_ever()
        });
        let panicking = s.go(|| {
            let _borrowed = &sum;
            panic_as_planned()
        });
        parked.cancel();
        assert!(matches!(parked.join(), Err::<(), _>(JoinError::Cancelled)));
        let outcome = panicking.join();
        assert!(matches!(outcome, Err::<(), _>(JoinError::Panicked(p)) if is_planned(&*p)));
        // The scope waits for the others.
        children
            .into_iter()
            .take(kept)
            .map(|child| child.join().expect("no panic is planned"))
            .sum()
    });
    assert_eq!(joined, numbers[..kept].iter().sum::<u64>());
    assert_eq!(sum.into_inner(), numbers.iter().sum::<u64>());
}

/// A runtime of its own, which ends while coroutines are in every state.
pub(super) fn runtime(dice: &mut Dice) {
    let runtime = Runtime::builder().workers(1 + dice.roll(3) as usize).build().expect("threads");
    let mut handles = Vec::new();
    for _ in 0..dice.roll(100) {
        let (inner, child, kind) = (dice.split(), dice.split(), dice.roll(4));
        handles.push(runtime.go(move || {
            let value = chore(5, inner);
            match kind {
                0 => coro::park(),
                1 => coro::sleep(Duration::MAX),
                2 => drop(go(move || chore(5, child))),
                _ => {}
            }
            value
        }));
    }
    match dice.roll(3) {
        0 => {
            runtime.shutdown();
            let late = Counted::new(0);
            assert!(matches!(runtime.go(move || late).join(), Err(JoinError::Cancelled)));
        }
        1 => {
            // The last to let go of it may be a coroutine of its own.
            let shared = Arc::new(runtime);
            let inside = Arc::clone(&shared);
            handles.push(shared.go(move || {
                drop(inside);
                Counted::new(5)
            }));
        }
        _ => drop(runtime),
    }
    handles.into_iter().for_each(|handle| check(5, handle.join(), true));
}

/// Two coroutines take turns, by park and unpark alone.
pub(super) fn ping_pong(dice: &mut Dice) {
    struct Table {
        turn: AtomicUsize,
        players: [OnceLock<Handle>; 2],
    }
    fn player(table: &Table, me: usize, rounds: u64) {
        for _ in 0..rounds {
            while table.turn.load(Acquire) % 2 != me {
                coro::park();
            }
            table.turn.fetch_add(1, AcqRel);
            let other = loop {
                match table.players[1 - me].get() {
                    Some(other) => break other,
                    None => coro::yield_now(),
                }
            };
            other.unpark();
        }
    }
    let rounds = dice.roll(200);
    let table =
        Arc::new(Table { turn: AtomicUsize::new(0), players: [const { OnceLock::new() }; 2] });
    let both = [0, 1].map(|me| {
        let mine = Arc::clone(&table);
        let handle = go(move || player(&mine, me, rounds));
        table.players[me].set(handle.handle()).expect("set once");
        handle
    });
    both.into_iter().for_each(|handle| handle.join().expect("no panic is planned"));
    assert_eq!(table.turn.load(Acquire) as u64, 2 * rounds);
}

pub(super) fn sleep_some(dice: &mut Dice) {
    let sleepers: Vec<_> = (0..dice.roll(100))
        .map(|_| {
            let nap = dice.micros(2000);
            go(move || {
                let start = Instant::now();
                coro::sleep(nap);
                assert!(start.elapsed() >= nap, "slept too short");
            })
        })
        .collect();
    sleepers.into_iter().for_each(|sleeper| sleeper.join().expect("no panic is planned"));
}

pub(super) fn tick(dice: &mut Dice) {
    let period = Duration::from_micros(1) + dice.micros(500);
    let start = Instant::now();
    let mut ticks = coro::interval(period);
    for n in 1..=dice.roll(4) as u32 {
        let due = ticks.tick();
        assert!(due >= start + n * period, "no tick comes early");
        assert!(due <= Instant::now());
    }
}

pub(super) fn time_out(dice: &mut Dice) {
    let (outer, inner) = (dice.micros(1500), dice.micros(1500));
    let task = go(move || {
        let start = Instant::now();
        let held = Counted::new(0);
        let outcome = coro::timeout(outer, || {
            let _held = held;
            coro::timeout(inner, || park_for_ever())
        });
        let least = match outcome {
            Err(Elapsed) => outer,
            Ok(Err::<(), _>(Elapsed)) => inner,
            Ok(Ok(())) => unreachable!("it parks for ever"),
        };
        assert!(start.elapsed() >= least, "elapsed too soon");
        assert_eq!(coro::timeout(Duration::MAX, || 42), Ok(42));
    });
    task.join().expect("no panic is planned");
}

/// A waker that another thread wakes, perhaps after its coroutine has ended.
pub(super) fn wake(dice: &mut Dice) {
    #[derive(Default)]
    struct Slot {
        ready: AtomicBool,
        waker: Mutex<Option<Waker>>,
    }
    let slot = Arc::<Slot>::default();
    let theirs = Arc::clone(&slot);
    let gives_up = dice.once_in(3);
    let waiter = go(move || {
        let wait = || {
            coro::wait(poll_fn(|context| {
                let mut waker = theirs.waker.lock().expect("no panic while it is locked");
                if theirs.ready.load(Acquire) {
                    return Poll::Ready(());
                }
                *waker = Some(context.waker().clone());
                Poll::Pending
            }));
        };
        if gives_up {
            let _ = coro::timeout(Duration::from_micros(50), wait);
        } else {
            wait();
        }
    });
    coro::blocking(move || {
        let waker = {
            let mut waker = slot.waker.lock().expect("no panic while it is locked");
            slot.ready.store(true, Release);
            waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    });
    waiter.join().expect("no panic is planned");
}

pub(super) fn block(dice: &mut Dice) {
    let tasks: Vec<_> = (0..=dice.roll(4))
        .map(|_| {
            let panics = dice.once_in(8);
            let task = go(move || {
                let counted = Counted::new(9);
                tls::set("here", Counted::new(0));
                coro::blocking(move || {
                    assert!(tls::get::<Counted>("here").is_none(), "a thread has its own");
                    if panics {
                        panic_as_planned();
                    }
                    counted
                })
            });
            (panics, task)
        })
        .collect();
    for (panics, task) in tasks {
        let outcome = task.join();
        assert_eq!(outcome.is_err(), panics);
        check(9, outcome, false);
    }
}
