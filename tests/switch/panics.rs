//! Each coroutine has its own panics: what [`std::thread::panicking`] says, which locks are poisoned, and
//! who can be unwound do not depend on what the neighbours are in the middle of.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex};
use std::thread::{self, panicking};
use std::time::Duration;

use coro::raw::{self, State, Yielder};
use coro::{Elapsed, JoinError, JoinHandle, Runtime, tls};

use crate::common::{
    self, Counter, Gate, RunOnDrop, assert_cancelled, is_planned, planned, quiet, watchdog,
};
use crate::unwinding::{Unwinding, Why};

const STACK: usize = 256 << 10;
const SHORT: Duration = Duration::from_millis(2);
const LONG: Duration = Duration::from_secs(3600);

/// Panics with `number`, and runs `in_drop` in a destructor that the panic runs. Checks that it is this panic
/// which comes back.
fn panic_and(number: u32, in_drop: impl FnMut()) {
    let payload = catch_unwind(AssertUnwindSafe(|| {
        let _guard = RunOnDrop(in_drop);
        resume_unwind(Box::new(number));
    }));
    assert_eq!(payload.unwrap_err().downcast_ref(), Some(&number));
}

/// What a neighbour may do, and what it has to find.
fn live_as_if_alone() {
    assert!(!panicking());
    let lock = Mutex::new(1);
    drop(lock.lock().unwrap());
    assert!(!lock.is_poisoned(), "by a peaceful unlock");
    let guard = lock.lock().unwrap();
    coro::yield_now();
    drop(guard);
    assert!(!lock.is_poisoned(), "by a peaceful unlock after a suspension");
    let caught = catch_unwind(AssertUnwindSafe(|| {
        let _guard = lock.lock().unwrap();
        planned("with a lock");
    }));
    assert!(is_planned(&*caught.unwrap_err(), "with a lock"));
    assert!(lock.is_poisoned(), "by a panic");
    assert!(!panicking());

    assert_eq!(coro::timeout(SHORT, || coro::sleep(LONG)), Err(Elapsed));
    let cancelled = coro::go(|| {
        coro::current().unwrap().cancel();
        coro::yield_now();
    });
    assert_cancelled(cancelled.join());
    let handlers = Counter::default();
    let suspends = |yielder: &Yielder<(), ()>, ()| {
        tls::at_exit(handlers.adder());
        yielder.suspend(());
    };
    raw::with(STACK, suspends, |coroutine| _ = coroutine.resume(())).unwrap();
    assert_eq!(handlers.get(), 1);
    assert!(coro::go(|| planned("a child")).join().unwrap_err().is_panic());
    assert!(!panicking());
}

/// CASES 73, for tasks.
#[test]
fn switch_a_neighbour_lives_as_if_alone_beside_one_that_unwinds() {
    let _watchdog = watchdog();
    quiet();
    common::on_workers(|runtime, _| {
        for why in [Why::Panic, Why::Cancel] {
            let first = Unwinding::start(runtime, why);
            runtime.go(live_as_if_alone).join().unwrap();
            first.finish();
            runtime.go(live_as_if_alone).join().unwrap();
        }
    });
}

/// The one that unwinds is joined by a neighbour, and goes on in its own panic.
#[test]
fn switch_a_neighbour_joins_one_that_unwinds() {
    let _watchdog = watchdog();
    quiet();
    common::on_workers(|runtime, _| {
        let (parked, gate) = (Counter::default(), Gate::default());
        let first: JoinHandle<u32> = runtime.go({
            let (parked, gate) = (parked.clone(), gate.clone());
            move || {
                let seen = Cell::new(false);
                panic_and(7, || {
                    parked.add();
                    while !gate.is_open() {
                        coro::park();
                    }
                    seen.set(panicking());
                });
                assert!(seen.get() && !panicking());
                planned("the next one");
            }
        });
        parked.wait_for(1);
        let handle = first.handle();
        let joins = runtime.go(move || {
            live_as_if_alone();
            gate.open();
            handle.unpark();
            let outcome = first.join();
            assert!(!panicking());
            outcome
        });
        match joins.join().unwrap() {
            Err(JoinError::Panicked(payload)) => assert!(is_planned(&*payload, "the next one")),
            other => panic!("{other:?}"),
        }
    });
}

/// Panics nest, and each level is suspended in.
#[test]
fn switch_panics_nest_and_are_suspended_in() {
    fn nest(depth: u32, suspend: &dyn Fn()) {
        suspend();
        if depth > 0 {
            let before = panicking();
            panic_and(depth, || {
                assert!(panicking());
                suspend();
                assert!(panicking());
                nest(depth - 1, suspend);
                suspend();
                assert!(panicking());
            });
            assert_eq!(panicking(), before);
        }
        suspend();
    }
    fn raw(depth: u32) {
        let body = |yielder: &Yielder<(), ()>, ()| nest(depth, &|| yielder.suspend(()));
        let before = panicking();
        let resumes = |coroutine: &raw::Coroutine<(), (), ()>| {
            while let State::Yielded(()) = coroutine.resume(()) {
                assert_eq!(panicking(), before);
                catch_unwind(|| resume_unwind(Box::new(()))).unwrap_err();
            }
        };
        raw::with(STACK, body, resumes).unwrap();
    }
    let _watchdog = watchdog();
    (1..4).for_each(raw);
    common::on_workers(|runtime, _| {
        let ways: [fn(u32); 3] =
            [|depth| nest(depth, &coro::yield_now), raw, |depth| nest(depth, &|| raw(2))];
        let all: Vec<_> =
            (0..30).map(|n| runtime.go(move || ways[n % 3](1 + n as u32 % 3))).collect();
        all.into_iter().for_each(|task| task.join().unwrap());
    });
}

/// A coroutine that does what it likes, and knows at each step whether it is unwinding.
struct Player {
    random: u64,
    steps: u32,
}

impl Player {
    fn new(seed: u64) -> Player {
        Player { random: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1, steps: 30 }
    }

    fn below(&mut self, n: u32) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % u64::from(n)) as u32
    }

    /// `unwinding`: a panic of this coroutine runs the caller.
    fn play(&mut self, depth: u32, unwinding: bool) {
        for _ in 0..=self.below(4) {
            assert_eq!(panicking(), unwinding);
            if self.steps == 0 || depth == 6 {
                return;
            }
            self.steps -= 1;
            match self.below(8) {
                0 | 1 => coro::yield_now(),
                2 => coro::sleep(Duration::from_micros(50)),
                3 => self.panic(depth),
                4 => self.lock(depth, unwinding),
                5 => self.resume(depth),
                6 => self.limit(depth),
                _ => self.scope(depth, unwinding),
            }
            assert_eq!(panicking(), unwinding);
        }
    }

    fn panic(&mut self, depth: u32) {
        let number = self.below(u32::MAX);
        panic_and(number, || self.play(depth + 1, true));
    }

    /// A guard poisons if and only if a panic began while it was held.
    fn lock(&mut self, depth: u32, unwinding: bool) {
        let lock = Mutex::new(());
        let guard = lock.lock().unwrap();
        self.play(depth + 1, unwinding);
        drop(guard);
        assert!(!lock.is_poisoned());
        if !unwinding {
            panic_and(1, || ()); // the same without a lock
            let caught = catch_unwind(AssertUnwindSafe(|| {
                let _guard = lock.lock().unwrap();
                coro::yield_now();
                resume_unwind(Box::new(()));
            }));
            assert!(caught.is_err() && lock.is_poisoned());
        }
    }

    /// A raw coroutine, run to its end or dropped. Its resumer's panics are not its own.
    fn resume(&mut self, depth: u32) {
        let turns = self.below(3);
        let seed = self.random;
        let mut inside = Player { random: seed | 1, steps: self.steps / 2 };
        let body = |yielder: &Yielder<(), ()>, ()| {
            inside.play(depth + 1, false);
            yielder.suspend(());
            inside.play(depth + 1, false);
        };
        let resumes = |coroutine: &raw::Coroutine<(), (), ()>| {
            (0..turns).for_each(|_| _ = coroutine.resume(()));
        };
        raw::with(STACK, body, resumes).unwrap();
    }

    /// In a timeout nothing is unwinding, also where one is called in the middle of a panic.
    fn limit(&mut self, depth: u32) {
        if self.below(2) == 0 {
            assert_eq!(coro::timeout(LONG, || self.play(depth + 1, false)), Ok(()));
        } else {
            assert_eq!(coro::timeout(Duration::ZERO, || coro::sleep(LONG)), Err(Elapsed));
        }
    }

    fn scope(&mut self, depth: u32, unwinding: bool) {
        let seed = self.random;
        let steps = self.steps / 4;
        coro::scope(|scope| {
            scope.go(move || Player { random: seed | 1, steps }.play(depth + 1, false));
            self.play(depth + 1, unwinding);
        });
    }
}

/// Many of them at once, and each checks at each step that it sees its own panics and no other's.
#[test]
fn switch_random_coroutines_see_their_own_panics() {
    let _watchdog = watchdog();
    common::on_workers(|runtime, workers| {
        for round in 0..5 {
            let all: Vec<_> = (0..64)
                .map(|n| {
                    let seed = 1 + n + 64 * (round + 5 * workers as u64);
                    runtime.go(move || Player::new(seed).play(0, false))
                })
                .collect();
            all.into_iter().for_each(|task| task.join().unwrap());
        }
        assert!(!runtime.go(panicking).join().unwrap());
    });
    (1..200).for_each(|seed| Player::new(seed).play(0, false));
}

/// CASES 74: a task unwinds, its destructor resumes raw coroutines inside one another, and the innermost
/// parks. On that stack nothing panics, but an interruption would leave the destructor.
#[test]
fn switch_an_interruption_waits_for_a_resumers_panic() {
    fn park_inside(depth: u32, parked: &Counter, gate: &Gate) {
        assert!(!panicking());
        if depth > 0 {
            let body = |_: &Yielder<(), ()>, ()| park_inside(depth - 1, parked, gate);
            return raw::with(STACK, body, |inner| _ = inner.resume(())).unwrap();
        }
        parked.add();
        while !gate.is_open() {
            coro::park();
        }
    }
    #[derive(Clone, Copy, PartialEq)]
    enum How {
        Cancelled,
        TimedOut,
        ShutDown,
    }
    let _watchdog = watchdog();
    quiet();
    for how in [How::Cancelled, How::TimedOut, How::ShutDown] {
        for depth in 1..4 {
            let runtime = common::runtime(1);
            let (parked, gate, after) = (Counter::default(), Gate::default(), Counter::default());
            let task: JoinHandle<()> = runtime.go({
                let (parked, gate, after) = (parked.clone(), gate.clone(), after.clone());
                move || {
                    let limit = if how == How::TimedOut { SHORT } else { LONG };
                    let elapsed = coro::timeout(limit, || {
                        panic_and(1, || {
                            let body = |_: &Yielder<(), ()>, ()| {
                                park_inside(depth - 1, &parked, &gate);
                            };
                            raw::with(STACK, body, |inner| _ = inner.resume(())).unwrap();
                            assert!(panicking());
                        });
                        after.add();
                        coro::sleep(LONG);
                    });
                    assert_eq!((how == How::TimedOut, elapsed), (true, Err(Elapsed)));
                }
            });
            parked.wait_for(1);
            let handle = task.handle();
            match how {
                How::Cancelled => task.cancel(),
                How::TimedOut => thread::sleep(2 * SHORT),
                How::ShutDown => {}
            }
            let opens = thread::spawn({
                let (gate, handle) = (gate.clone(), handle.clone());
                move || {
                    // Not before the interruption could have come, had it not waited.
                    thread::sleep(2 * SHORT);
                    gate.open();
                    while !handle.is_finished() {
                        handle.unpark();
                        thread::yield_now();
                    }
                }
            });
            if how == How::ShutDown {
                drop(runtime);
            }
            match (how, task.join()) {
                (How::TimedOut, Ok(())) | (_, Err(JoinError::Cancelled)) => {}
                (_, other) => panic!("{other:?}"),
            }
            assert_eq!(after.get(), 1, "the panic was over when it came");
            opens.join().unwrap();
        }
    }
}

/// CASES 74: as many credits as coroutines.
#[test]
fn switch_a_thousand_are_suspended_in_their_unwinding_at_once() {
    let _watchdog = watchdog();
    common::on_workers(|runtime, _| {
        let (parked, gate) = (Counter::default(), Gate::default());
        let all: Vec<JoinHandle<()>> = (0..1000)
            .map(|number| {
                let (parked, gate) = (parked.clone(), gate.clone());
                runtime.go(move || {
                    panic_and(number, || {
                        parked.add();
                        while !gate.is_open() {
                            coro::park();
                        }
                        assert!(panicking());
                    });
                })
            })
            .collect();
        parked.wait_for(1000);
        assert!(!runtime.go(panicking).join().unwrap());
        gate.open();
        all.iter().for_each(|task| task.handle().unpark());
        all.into_iter().for_each(|task| task.join().unwrap());
    });
}

/// A task that has been cancelled is not in the middle of a panic of its neighbour's, and the other way
/// round: whatever the order in which they go on.
#[test]
fn switch_the_panics_come_out_even_in_every_order() {
    let _watchdog = watchdog();
    quiet();
    let runtime = common::runtime(1);
    let seen = |runtime: &Runtime| runtime.go(panicking).join().unwrap();
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for order in orders {
        let whys = [Why::Panic, Why::Cancel, Why::Panic];
        let mut all = whys.map(|why| Some(Unwinding::start(&runtime, why)));
        for (step, number) in order.into_iter().enumerate() {
            assert!(!seen(&runtime), "step {step} of {order:?}");
            all[number].take().unwrap().finish();
        }
        assert!(!seen(&runtime), "after {order:?}");
    }
}

/// A coroutine that is left in the middle of its panic takes nothing along.
#[test]
fn switch_one_that_is_forgotten_in_its_panic_leaves_its_thread_as_it_was() {
    let _watchdog = watchdog();
    let coroutine = common::raw(STACK, |yielder: &Yielder<(), ()>, ()| {
        panic_and(1, || yielder.suspend(()));
    });
    let coroutine = coroutine.unwrap();
    assert_eq!(coroutine.resume(()), State::Yielded(()));
    std::mem::forget(coroutine); // it borrows nothing, and is not resumed any more
    live_as_if_alone();
}

/// A payload that is raised again far from where it was caught is the same panic's.
#[test]
fn switch_a_panic_may_be_passed_on_between_coroutines() {
    let _watchdog = watchdog();
    let pass_on = |payload: Box<dyn Any + Send>| {
        panic_and(2, || {
            coro::yield_now();
            assert!(panicking());
        });
        resume_unwind(payload)
    };
    let first: JoinHandle<()> = coro::go(move || pass_on(Box::new(1)));
    let second: JoinHandle<()> = coro::go(move || match first.join() {
        Err(JoinError::Panicked(payload)) => pass_on(payload),
        other => panic!("{other:?}"),
    });
    let payload = second.join().unwrap_err().into_panic();
    assert_eq!(payload.downcast_ref(), Some(&1));
}

/// A switch that sets panics aside needs little of the stack that it leaves.
#[test]
#[cfg_attr(coro_asan, ignore = "AddressSanitizer makes frames larger")]
fn switch_panics_are_set_aside_on_the_smallest_stacks() {
    const TEST: &str = "switch_panics_are_set_aside_on_the_smallest_stacks";
    // In a process of its own, for the bank is started on that stack, too.
    common::in_child(TEST, common::CHILDS_LIMIT, || {
        let yields = || panic_and(1, coro::yield_now);
        let small = coro::Builder::new().stack_size(16 << 10).spawn(yields).unwrap();
        small.join().unwrap();
        let resumes = |_: &Yielder<(), ()>, ()| {
            panic_and(1, || {
                let calm = |_: &Yielder<(), ()>, ()| assert!(!panicking());
                raw::with(16 << 10, calm, |inner| _ = inner.resume(())).unwrap();
            });
        };
        raw::with(16 << 10, resumes, |outer| _ = outer.resume(())).unwrap();
    });
}

/// The mutex is a neighbour's, on the same worker, and both are in turn in the middle of a panic.
#[test]
fn switch_locks_are_poisoned_by_whose_panic_it_is() {
    let _watchdog = watchdog();
    quiet();
    let runtime = common::runtime(1);
    let (calm, panicked) = (Arc::new(Mutex::new(())), Arc::new(Mutex::new(())));
    let gate = Gate::default();
    let holds = runtime.go({
        let (calm, gate) = (Arc::clone(&calm), gate.clone());
        move || {
            let _guard = calm.lock().unwrap();
            while !gate.is_open() {
                coro::yield_now();
            }
        }
    });
    let panics = runtime.go({
        let panicked = Arc::clone(&panicked);
        move || {
            let _guard = panicked.lock().unwrap();
            let _waits = RunOnDrop(|| {
                gate.open();
                (0..10).for_each(|_| coro::yield_now());
            });
            planned("with a lock, and a neighbour that unlocks");
        }
    });
    assert!(panics.join().unwrap_err().is_panic());
    holds.join().unwrap();
    assert!(panicked.is_poisoned() && !calm.is_poisoned());
}
