//! Timeouts: what they cut short and what they do not, whose unwinding is whose when they nest, and
//! that of a timeout and what it waits for exactly one wins.

use std::any::Any;
use std::future::{pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use coro::{Elapsed, Handle, JoinError, JoinSet};

use crate::common::{self, Counter, is_planned, planned, quiet};

const SHORT: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_secs(3600);
/// When something that takes microseconds counts as never.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs `f` on a plain thread, in a coroutine of each runtime that matters, and in a raw one
/// on either.
fn everywhere(f: impl Fn() + Clone + Send + 'static) {
    fn in_one_made_by_hand(f: impl Fn() + 'static) {
        common::raw::<(), (), ()>(256 * 1024, move |_, ()| f()).unwrap().resume(());
    }
    f();
    in_one_made_by_hand(f.clone());
    common::on_workers(|runtime, _| {
        runtime.go(f.clone()).join().unwrap();
        let f = f.clone();
        runtime.go(move || in_one_made_by_hand(f)).join().unwrap();
    });
}

/// Everything that can wait for ever.
fn waits() -> Vec<(&'static str, fn())> {
    fn ever<T>(mut f: impl FnMut() -> T) {
        loop {
            f();
        }
    }
    vec![
        ("park", || ever(coro::park)),
        ("park_timeout(MAX)", || ever(|| coro::park_timeout(Duration::MAX))),
        ("park_timeout(short)", || ever(|| coro::park_timeout(SHORT))),
        ("sleep(long)", || coro::sleep(LONG)),
        ("sleep(MAX)", || coro::sleep(Duration::MAX)),
        ("sleep_until", || coro::sleep_until(Instant::now() + LONG)),
        ("sleep(0)", || ever(|| coro::sleep(Duration::ZERO))),
        ("yield_now", || ever(coro::yield_now)),
        ("wait", || coro::wait(pending())),
        ("join", || {
            let other = coro::go(|| ever(coro::park));
            let control = other.handle();
            let _cancels = Cancels(control);
            other.join().unwrap();
        }),
        ("join_next", || {
            let mut set = JoinSet::new();
            set.spawn(|| ever(coro::park));
            set.join_next();
        }),
        ("tick", || {
            coro::interval(LONG).tick();
        }),
        ("tick(MAX)", || {
            coro::interval(Duration::MAX).tick();
        }),
    ]
}

/// Cancels a coroutine that would otherwise be left behind.
struct Cancels(coro::Handle);

impl Drop for Cancels {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

#[test]
fn task_timeout_cuts_every_kind_of_wait_short() {
    let _watchdog = common::watchdog();
    everywhere(|| {
        for (name, wait) in waits() {
            let (sender, order) = mpsc::channel();
            let start = Instant::now();
            let outcome = coro::timeout(SHORT, || {
                struct Tells(mpsc::Sender<u32>, u32);
                impl Drop for Tells {
                    fn drop(&mut self) {
                        self.0.send(self.1).unwrap();
                    }
                }
                let _first = Tells(sender.clone(), 1);
                let _second = Tells(sender.clone(), 2);
                wait();
                unreachable!("nothing but the timeout ends this wait");
            });
            assert_eq!(outcome, Err::<(), _>(Elapsed), "{name}");
            assert!(start.elapsed() >= SHORT, "{name}");
            assert_eq!(order.try_iter().collect::<Vec<_>>(), [2, 1], "newest first: {name}");
        }
    });
}

/// Who takes it, when two are nested: the one that is due first, and if both are the outer one.
#[test]
fn task_timeout_nested_in_every_way() {
    let _watchdog = common::watchdog();
    #[derive(Clone, Copy, PartialEq, Debug)]
    enum Takes {
        Inner,
        Outer,
        Nobody,
    }
    const MAX: Duration = Duration::MAX;
    const ZERO: Duration = Duration::ZERO;
    const CASES: [(Duration, Duration, Takes); 15] = [
        (ZERO, ZERO, Takes::Outer),
        (ZERO, SHORT, Takes::Outer),
        (ZERO, LONG, Takes::Outer),
        (ZERO, MAX, Takes::Outer),
        (SHORT, SHORT, Takes::Outer),
        (SHORT, LONG, Takes::Outer),
        (SHORT, MAX, Takes::Outer),
        (LONG, ZERO, Takes::Inner),
        (LONG, SHORT, Takes::Inner),
        (LONG, LONG, Takes::Nobody),
        (LONG, MAX, Takes::Nobody),
        (MAX, ZERO, Takes::Inner),
        (MAX, SHORT, Takes::Inner),
        (MAX, LONG, Takes::Nobody),
        (MAX, MAX, Takes::Nobody),
    ];
    everywhere(|| {
        for (outer, inner, takes) in CASES {
            for (name, wait) in waits() {
                let after_inner = Counter::default();
                let outcome = coro::timeout(outer, || {
                    let outcome = coro::timeout(inner, || match takes {
                        // Suspends, but does not wait for what will not come.
                        Takes::Nobody => coro::sleep(Duration::from_micros(10)),
                        _ => wait(),
                    });
                    after_inner.add();
                    // The outer one is still in force, and not to be taken for the inner one.
                    coro::yield_now();
                    outcome
                });
                let expected = match takes {
                    Takes::Outer => Err(Elapsed),
                    Takes::Inner => Ok(Err(Elapsed)),
                    Takes::Nobody => Ok(Ok(())),
                };
                assert_eq!(outcome, expected, "{outer:?} around {inner:?}: {name}");
                let passed_inner = usize::from(takes != Takes::Outer);
                assert_eq!(after_inner.get(), passed_inner, "{outer:?} around {inner:?}: {name}");
            }
        }
    });
}

/// An unpark that comes when the time is over, and with it the `park` that it was for, is there for the
/// next `park`, and for that one only.
#[test]
fn task_timeout_leaves_an_unpark_that_it_meets() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        for by_thread in [false, true] {
            let parks = runtime.go(move || {
                let me = coro::current().unwrap();
                let late = coro::timeout(SHORT, || {
                    let start = Instant::now();
                    let unparks = move || {
                        // Where it is a coroutine it keeps its worker busy, so that this is what ends
                        // the park if there is only one.
                        while start.elapsed() <= SHORT {}
                        me.unpark();
                    };
                    if by_thread {
                        drop(thread::spawn(unparks))
                    } else {
                        drop(coro::go(unparks))
                    }
                    coro::park();
                });
                assert_eq!(late, Err(Elapsed));
                assert_eq!(coro::timeout(PATIENCE, coro::park), Ok(()), "the unpark is lost");
                assert_eq!(coro::timeout(SHORT, coro::park), Err(Elapsed), "it came twice");
            });
            parks.join().unwrap();
        }
    });
}

/// The same of an unpark that meets a cancellation, both from the parked one's worker or from elsewhere.
#[test]
fn task_timeout_cancel_leaves_an_unpark_that_it_meets() {
    let _watchdog = common::watchdog();
    let ways: [fn(&Handle); 2] = [
        |parked| {
            parked.unpark();
            parked.cancel();
        },
        |parked| {
            parked.cancel();
            parked.unpark();
        },
    ];
    // On one worker, so that it is parked when others run, and does not go on between the two.
    let runtime = common::runtime(1);
    for way in ways {
        for (limit, elsewhere) in [(LONG, false), (LONG, true), (Duration::MAX, false)] {
            let begun = Counter::default();
            let begins = begun.clone();
            let parked = runtime.go(move || {
                begins.add();
                if !elsewhere {
                    // Has its turn right after the park.
                    let me = coro::current().unwrap();
                    coro::go(move || way(&me));
                }
                let cancelled = catch_unwind(|| coro::timeout(limit, coro::park));
                assert!(cancelled.is_err());
                assert_eq!(coro::timeout(PATIENCE, coro::park), Ok(()), "the unpark is lost");
            });
            if elsewhere {
                begun.wait_for(1);
                let occupied = common::occupy(&runtime, 1);
                way(&parked.handle());
                drop(occupied);
            }
            parked.join().unwrap();
        }
    }
}

/// Eight of them, any of which is the one that is due.
#[test]
fn task_timeout_nested_deeply() {
    let _watchdog = common::watchdog();
    fn nest(depth: u32, due: u32, left: &Counter) -> u32 {
        if depth == 8 {
            coro::sleep(LONG);
            unreachable!();
        }
        let limit = if depth == due { Duration::from_millis(1) } else { LONG };
        let outcome = coro::timeout(limit, || nest(depth + 1, due, left));
        left.add();
        outcome.unwrap_or(depth)
    }
    everywhere(|| {
        for due in 0..8 {
            let left = Counter::default();
            assert_eq!(nest(0, due, &left), due);
            assert_eq!(left.get() as u32, due + 1, "only its own and those further out return");
        }
    });
}

#[test]
fn task_timeout_never_cuts_short_what_does_not_suspend() {
    let _watchdog = common::watchdog();
    everywhere(|| {
        for limit in [Duration::ZERO, Duration::from_nanos(1), SHORT] {
            let late = coro::timeout(limit, || {
                let start = Instant::now();
                while start.elapsed() <= limit {
                    std::hint::spin_loop();
                }
                "a value"
            });
            assert_eq!(late, Ok("a value"), "who returns has won, however late");
            // And nothing is left of it.
            coro::yield_now();
        }
    });
}

#[test]
fn task_timeout_panics_pass_through() {
    let _watchdog = common::watchdog();
    quiet();
    everywhere(|| {
        for limit in [Duration::ZERO, LONG, Duration::MAX] {
            let payload = catch_unwind(|| coro::timeout(limit, || planned("in a timeout")));
            assert!(is_planned(&*payload.map(drop).unwrap_err(), "in a timeout"));
            coro::yield_now();
        }
    });
}

/// Code that catches the unwinding goes on, for as long as it likes, and is not unwound again.
#[test]
fn task_timeout_comes_once() {
    let _watchdog = common::watchdog();
    everywhere(|| {
        for (name, wait) in waits() {
            let outcome = coro::timeout(Duration::from_millis(1), || {
                catch_unwind(wait).unwrap_err();
                coro::yield_now();
                coro::sleep(Duration::from_millis(1));
                coro::go(|| ()).join().unwrap();
                // One that begins now counts for itself.
                assert_eq!(coro::timeout(Duration::ZERO, coro::yield_now), Err(Elapsed));
                "went on"
            });
            assert_eq!(outcome, Ok("went on"), "{name}");
        }
    });
}

/// The unwinding for an outer one counts for those within as well: what swallows it half way is not
/// unwound a second time for the inner one.
#[test]
fn task_timeout_that_is_swallowed_between_two() {
    let _watchdog = common::watchdog();
    everywhere(|| {
        let outcome = coro::timeout(SHORT, || {
            let swallowed = catch_unwind(|| coro::timeout(LONG, || coro::sleep(LONG)));
            assert!(swallowed.is_err(), "the inner one lets it pass");
            // Neither is in force any more, so this ends by itself.
            coro::sleep(2 * SHORT);
            1
        });
        assert_eq!(outcome, Ok(1));
    });
}

/// Both are due and the outer one takes it: what swallows that is not unwound a second time for the inner.
#[test]
fn task_timeout_that_is_swallowed_within_two() {
    let _watchdog = common::watchdog();
    everywhere(|| {
        let outcome = coro::timeout(Duration::from_micros(1), || {
            coro::timeout(Duration::from_micros(2), || {
                let start = Instant::now();
                while start.elapsed() < Duration::from_micros(10) {}
                catch_unwind(coro::park).unwrap_err();
                coro::yield_now();
                coro::sleep(Duration::from_micros(50));
                "went on"
            })
        });
        assert_eq!(outcome, Ok(Ok("went on")));
    });
}

/// A payload that was kept is nobody's when it is thrown again, though a later timeout may lie at the
/// very address of the one it was for.
#[test]
fn task_timeout_payload_that_is_kept() {
    let _watchdog = common::watchdog();
    type Kept = Option<Box<dyn Any + Send>>;
    /// One call site, so that the deadlines of all calls are in one place.
    #[inline(never)]
    fn limited(limit: Duration, kept: &mut Kept) -> Result<(), Elapsed> {
        coro::timeout(limit, || match kept.take() {
            Some(payload) => resume_unwind(payload),
            None => *kept = catch_unwind(|| coro::sleep(LONG)).err(),
        })
    }
    everywhere(|| {
        let mut kept = None;
        let outcomes = [Duration::from_millis(1), LONG]
            .map(|limit| catch_unwind(AssertUnwindSafe(|| limited(limit, &mut kept))));
        assert!(matches!(outcomes[0], Ok(Ok(()))), "it keeps the payload");
        assert!(outcomes[1].is_err(), "an hour has not elapsed, and it gave {:?}", outcomes[1]);
    });
}

/// A cancellation goes through all of them, whatever else is due.
#[test]
fn task_timeout_and_cancel() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        for limit in [SHORT, LONG, Duration::MAX] {
            let (running, dropped) = (Counter::default(), Counter::default());
            let handle = runtime.go({
                let (running, dropped) = (running.clone(), dropped.clone());
                move || {
                    let _outer = dropped.on_drop();
                    coro::timeout(LONG, || {
                        let within = coro::timeout(limit, || {
                            let _inner = dropped.on_drop();
                            coro::current().unwrap().cancel();
                            running.add();
                            // Due at the same suspension.
                            let start = Instant::now();
                            while start.elapsed() <= SHORT {}
                            coro::park();
                        });
                        unreachable!("{within:?}");
                    })
                }
            });
            running.wait_for(1);
            assert!(matches!(handle.join(), Err(JoinError::Cancelled)));
            assert_eq!(dropped.get(), 2);
        }
    });
}

/// A value that another coroutine hands over.
#[derive(Default)]
struct Slot(Mutex<(Option<u64>, Option<Waker>)>);

impl Slot {
    fn give(&self, value: u64) {
        let waker = {
            let mut inside = self.0.lock().unwrap();
            inside.0 = Some(value);
            inside.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn take(&self) -> u64 {
        coro::wait(poll_fn(|context| {
            let mut inside = self.0.lock().unwrap();
            match inside.0.take() {
                Some(value) => Poll::Ready(value),
                None => {
                    inside.1 = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        }))
    }
}

/// 10,000 times a value comes just when the time is over: it is taken or it is left, never both and
/// never neither.
#[test]
fn task_timeout_against_readiness() {
    let _watchdog = common::watchdog();
    const ROUNDS: u64 = 10_000;
    common::on_workers(|runtime, workers| {
        let (taken, left) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (won, lost) = (Counter::default(), Counter::default());
        let pair = |first: u64| {
            let (taken, left) = (Arc::clone(&taken), Arc::clone(&left));
            let (won, lost) = (won.clone(), lost.clone());
            runtime.go(move || {
                // In nanoseconds. Shorter after a round that is won, longer after one that is lost: so there are both,
                // however fast the machine is.
                let mut limit = 10_000;
                for round in (first..ROUNDS).step_by(8) {
                    let slot = Arc::new(Slot::default());
                    let giver = coro::go({
                        let slot = Arc::clone(&slot);
                        move || {
                            (0..round % 5).for_each(|_| coro::yield_now());
                            slot.give(round + 1);
                        }
                    });
                    let time = Duration::from_nanos(limit / 2 + round * 7919 % limit);
                    match coro::timeout(time, || slot.take()) {
                        Ok(value) => {
                            limit -= limit / 16;
                            assert_eq!(value, round + 1);
                            taken.fetch_add(value, Ordering::Relaxed);
                            won.add();
                            giver.join().unwrap();
                            assert_eq!(slot.0.lock().unwrap().0, None);
                        }
                        Err(Elapsed) => {
                            limit += limit / 16 + 1;
                            lost.add();
                            giver.join().unwrap();
                            let value = slot.0.lock().unwrap().0.take();
                            left.fetch_add(value.expect("it is left"), Ordering::Relaxed);
                        }
                    }
                }
            })
        };
        let pairs: Vec<_> = (0..8).map(pair).collect();
        pairs.into_iter().for_each(|pair| pair.join().unwrap());
        let total = taken.load(Ordering::Relaxed) + left.load(Ordering::Relaxed);
        assert_eq!(total, ROUNDS * (ROUNDS + 1) / 2, "on {workers} workers");
        assert_eq!(won.get() + lost.get(), ROUNDS as usize);
        assert!(won.get() > 0 && lost.get() > 0, "{} have won, {} lost", won.get(), lost.get());
    });
}

/// The same of a set's members: a timeout around `join_next` loses none.
#[test]
fn task_timeout_against_members_of_a_set() {
    let _watchdog = common::watchdog();
    const MEMBERS: usize = 3000;
    common::on_workers(|runtime, _| {
        let (sum, elapsed) = runtime
            .go(|| {
                let mut set = JoinSet::new();
                let (mut sum, mut elapsed, mut spawned, mut attempts) = (0, 0, 0, 0);
                while spawned < MEMBERS || !set.is_empty() {
                    while spawned < MEMBERS && set.len() < 4 {
                        let n = spawned;
                        set.spawn(move || {
                            (0..n % 4).for_each(|_| coro::yield_now());
                            n
                        });
                        spawned += 1;
                    }
                    attempts += 1;
                    // Every eighth is lost for certain.
                    let limit = match attempts % 8 {
                        0 => Duration::ZERO,
                        _ => Duration::from_nanos(attempts * 104_729 % 30_000),
                    };
                    match coro::timeout(limit, || set.join_next()) {
                        Ok(next) => sum += next.unwrap().unwrap(),
                        Err(Elapsed) => elapsed += 1,
                    }
                }
                (sum, elapsed)
            })
            .join()
            .unwrap();
        assert_eq!(sum, MEMBERS * (MEMBERS - 1) / 2);
        assert!(elapsed > 0, "the race was never lost");
    });
}

/// Whoever just looks whether something is there, again and again, lets others run: here the only ones
/// who can bring it.
#[test]
fn task_timeout_of_zero_starves_nobody() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        for (name, wait) in waits() {
            let looks = runtime.go(move || {
                let ran = Counter::default();
                let other = coro::go({
                    let ran = ran.clone();
                    move || ran.add()
                });
                // One that starves others does not end.
                while ran.get() == 0 {
                    assert_eq!(coro::timeout(Duration::ZERO, wait), Err(Elapsed), "{name}");
                }
                other.join().unwrap();
            });
            looks.join().unwrap();
        }
    });
}

/// What is waited for may come from a thread, and the timeout be that of a plain thread.
#[test]
fn task_timeout_against_readiness_on_threads() {
    let _watchdog = common::watchdog();
    let (mut taken, mut left) = (0, 0);
    for round in 0..300u64 {
        let slot = Arc::new(Slot::default());
        let giver = thread::spawn({
            let slot = Arc::clone(&slot);
            move || slot.give(round + 1)
        });
        match coro::timeout(Duration::from_micros(round % 100), || slot.take()) {
            Ok(value) => taken += value,
            Err(Elapsed) => {
                giver.join().unwrap();
                left += slot.0.lock().unwrap().0.take().expect("it is left");
                continue;
            }
        }
        giver.join().unwrap();
    }
    assert_eq!(taken + left, 300 * 301 / 2);
}
