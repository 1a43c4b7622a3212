//! Timeouts where unwinding is not simple: in a destructor that a panic runs, in raw coroutines that change
//! hands, and on stacks that are not ours.

#[path = "../common/unwinding.rs"]
mod unwinding;

use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use coro::raw::{Coroutine, State, Yielder};
use coro::{Elapsed, Runtime};
use corosensei::CoroutineResult;
use corosensei::stack::{Stack, StackPointer};

use crate::common::{self, Counter, Gate, RunOnDrop, is_planned, planned, quiet};
use unwinding::{Unwinding, Why};

const SHORT: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_secs(3600);

/// A timeout in a destructor that a panic runs limits its function as anywhere. It sets the panic aside, so
/// what it unwinds is not in the middle of one.
#[test]
fn task_timeout_in_a_destructor_that_a_panic_runs() {
    let _watchdog = common::watchdog();
    quiet();
    let unwinds = || {
        // Looked at afterwards: what fails in there aborts.
        let mut seen = None;
        let payload = catch_unwind(AssertUnwindSafe(|| {
            let _sleeps = RunOnDrop(|| {
                let mut inside = true;
                let outcome = coro::timeout(SHORT, || {
                    inside = thread::panicking();
                    coro::sleep(LONG);
                });
                let again = coro::timeout(LONG, || 42);
                seen = Some((outcome, again, inside, thread::panicking()));
            });
            planned("with a timeout in a destructor");
        }));
        assert!(is_planned(&*payload.map(drop).unwrap_err(), "with a timeout in a destructor"));
        assert_eq!(seen, Some((Err(Elapsed), Ok(42), false, true)));
        assert!(!thread::panicking());
    };
    unwinds();
    common::on_workers(|runtime, _| runtime.go(unwinds).join().unwrap());
}

/// What is meant for a frame further out does not pass a timeout in such a destructor, although no panic is
/// seen in there.
#[test]
fn task_timeout_in_a_destructor_stops_what_is_meant_for_others() {
    let _watchdog = common::watchdog();
    quiet();
    common::on_workers(|runtime, _| {
        let (parked, woken) = (Counter::default(), Counter::default());
        let task = runtime.go({
            let (parked, woken) = (parked.clone(), woken.clone());
            move || {
                let _ = coro::timeout(SHORT, || {
                    let caught = catch_unwind(AssertUnwindSafe(|| {
                        let _waits = RunOnDrop(|| {
                            let outcome = coro::timeout(LONG, || {
                                parked.add();
                                while woken.get() == 0 {
                                    coro::park();
                                }
                            });
                            assert_eq!(outcome, Ok(()));
                        });
                        planned("it is cancelled meanwhile, and its time is over");
                    }));
                    assert!(caught.is_err() && !thread::panicking());
                    coro::sleep(LONG);
                });
                coro::yield_now();
                unreachable!("it is cancelled");
            }
        });
        parked.wait_for(1);
        task.cancel();
        thread::sleep(2 * SHORT);
        assert!(!task.is_finished());
        woken.add();
        task.handle().unpark();
        common::assert_cancelled(task.join());
    });
}

/// As above, with a timeout from outside that elapses in the destructor: it comes when the destructor
/// and the panic are over.
#[test]
fn task_timeout_that_elapses_in_a_destructor_comes_after_the_panic() {
    let _watchdog = common::watchdog();
    quiet();
    let unwinds = || {
        let after = Counter::default();
        let outcome = coro::timeout(SHORT, || {
            let payload = catch_unwind(|| {
                let _waits = RunOnDrop(|| coro::sleep(3 * SHORT));
                planned("with a sleep in a destructor");
            });
            assert!(is_planned(&*payload.map(drop).unwrap_err(), "with a sleep in a destructor"));
            after.add();
            coro::sleep(LONG);
        });
        assert_eq!((outcome, after.get()), (Err(Elapsed), 1));
    };
    unwinds();
    common::on_workers(|runtime, _| runtime.go(unwinds).join().unwrap());
}

/// A neighbour on the same worker is suspended in its unwinding. A timeout elapses all the same.
#[test]
fn task_timeout_beside_a_neighbour_that_unwinds() {
    let _watchdog = common::watchdog();
    quiet();
    let runtime = common::runtime(1);
    let waits = [|| coro::sleep(LONG), coro::park, || coro::wait(std::future::pending())];
    for (wait, raw) in waits.into_iter().flat_map(|wait| [(wait, false), (wait, true)]) {
        let neighbour = Unwinding::start(&runtime, Why::Panic);
        let limited = runtime.go(move || {
            let endless = move || {
                assert!(!thread::panicking());
                loop {
                    wait();
                }
            };
            if !raw {
                return coro::timeout(SHORT, endless);
            }
            let body = |_: &Yielder<(), ()>, ()| endless();
            let limited = |coroutine: &Coroutine<(), (), ()>| {
                coro::timeout(SHORT, || _ = coroutine.resume(()))
            };
            coro::raw::with(64 * 1024, body, limited).unwrap()
        });
        assert_eq!(limited.join().unwrap(), Err::<(), _>(Elapsed));
        neighbour.finish();
    }
}

/// What cannot be delivered yet is no reason to wake up again and again.
#[test]
fn task_an_interruption_that_waits_does_not_spin() {
    let _watchdog = common::watchdog();
    quiet();
    fn waits(cancelled: bool, gate: &Gate, parks: &Counter) {
        let limit = if cancelled { LONG } else { Duration::ZERO };
        let _ = coro::timeout(limit, || {
            if let (true, Some(current)) = (cancelled, coro::current()) {
                current.cancel();
            }
            while !gate.is_open() {
                parks.add();
                coro::park();
            }
        });
    }
    fn panics(cancelled: bool, gate: &Gate, parks: &Counter) {
        let (gate, parks) = (gate.clone(), parks.clone());
        let _waits = RunOnDrop(move || waits(cancelled, &gate, &parks));
        planned("with a wait in a destructor");
    }
    fn shields(cancelled: bool, gate: &Gate, parks: &Counter) {
        coro::shield(|| waits(cancelled, gate, parks));
    }
    let runtime = common::runtime(1);
    // A timeout's own function is interrupted, so the wait inside of the timeout is for a cancellation.
    for way in [panics, shields] {
        let (gate, parks) = (Gate::default(), Counter::default());
        let task = runtime.go({
            let (gate, parks) = (gate.clone(), parks.clone());
            move || way(true, &gate, &parks)
        });
        parks.wait_for(1);
        // Each is a turn of the worker, on which one that is always ready would have one as well.
        for _ in 0..1000 {
            runtime.go(coro::yield_now).join().unwrap();
        }
        assert!(parks.get() <= 3, "{} parks", parks.get());
        gate.open();
        task.handle().unpark();
        let _ = task.join();
    }
}

type Shared = Coroutine<(), &'static str, Result<&'static str, Elapsed>>;

thread_local! {
    /// A raw coroutine that the tasks of one worker share.
    static SHARED: RefCell<Option<Shared>> = const { RefCell::new(None) };
}

/// Makes the coroutine that the tasks of the runtime's only worker share.
fn share<F>(runtime: &Runtime, f: F)
where
    F: FnOnce(&Yielder<(), &'static str>) -> Result<&'static str, Elapsed> + Send + 'static,
{
    let make = || SHARED.set(Some(common::raw(64 * 1024, |yielder, ()| f(yielder)).unwrap()));
    runtime.go(make).join().unwrap();
}

/// Resumes it in the calling task.
fn resume() -> State<&'static str, Result<&'static str, Elapsed>> {
    let shared = SHARED.take().unwrap();
    let state = shared.resume(());
    SHARED.set(Some(shared));
    state
}

/// Begun under one task and over under another: a timeout belongs to the coroutine that it is in, not to
/// the task that happened to resume it.
#[test]
fn task_timeout_that_changes_hands() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(1);
    share(&runtime, |yielder| {
        coro::timeout(SHORT, || {
            yielder.suspend("first");
            yielder.suspend("second");
            coro::sleep(LONG);
            "slept"
        })
    });
    let first = runtime.go(|| {
        let state = resume();
        // The other one's limit is not ours: nothing unwinds us when it is past.
        coro::sleep(2 * SHORT);
        coro::yield_now();
        state
    });
    assert_eq!(first.join().unwrap(), State::Yielded("first"));
    // To suspend a raw coroutine is no suspension of a task, so nothing is unwound there.
    assert_eq!(runtime.go(resume).join().unwrap(), State::Yielded("second"));
    let third = runtime.go(|| coro::timeout(LONG, resume));
    assert_eq!(third.join().unwrap(), Ok(State::Done(Err(Elapsed))));
}

/// The limit of whoever resumes it counts while it does, and no longer.
#[test]
fn task_timeout_of_the_one_that_resumes() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(1);
    share(&runtime, |yielder| {
        coro::timeout(LONG, || {
            yielder.suspend("in time");
            coro::sleep(3 * SHORT);
            yielder.suspend("slept on");
            coro::sleep(LONG);
            "never"
        })
    });
    let in_time = runtime.go(|| coro::timeout(SHORT, resume));
    assert_eq!(in_time.join().unwrap(), Ok(State::Yielded("in time")));
    let slept_on = runtime.go(resume);
    assert_eq!(slept_on.join().unwrap(), State::Yielded("slept on"));
    let unwound = runtime.go(|| {
        coro::timeout(SHORT, || {
            let shared = SHARED.take().unwrap();
            shared.resume(())
        })
    });
    assert_eq!(unwound.join().unwrap(), Err(Elapsed));
}

/// A raw coroutine that resumes another, each with a limit, under a task with a limit: each
/// of the three may be the one that is due.
#[test]
fn task_timeout_through_coroutines_made_by_hand() {
    let _watchdog = common::watchdog();
    const WHO: [&str; 3] = ["the task", "the outer", "the inner"];
    fn limited(who: usize, due: usize, f: impl FnOnce() -> &'static str) -> &'static str {
        let limit = if who == due { SHORT } else { LONG };
        coro::timeout(limit, f).unwrap_or(WHO[who])
    }
    fn raw_coroutine(f: impl FnOnce() -> &'static str + 'static) -> &'static str {
        match common::raw::<(), (), _>(64 * 1024, |_, ()| f()).unwrap().resume(()) {
            State::Done(who) => who,
            State::Yielded(()) => unreachable!(),
        }
    }
    let nested = || {
        for (due, expected) in WHO.into_iter().enumerate() {
            let who = limited(0, due, || {
                raw_coroutine(move || {
                    limited(1, due, || {
                        raw_coroutine(move || {
                            limited(2, due, || {
                                coro::sleep(LONG);
                                "nobody"
                            })
                        })
                    })
                })
            });
            assert_eq!(who, expected);
        }
    };
    // And where the raw ones have no limit of their own.
    let bare = || {
        let outcome = coro::timeout(SHORT, || {
            raw_coroutine(|| {
                raw_coroutine(|| {
                    coro::sleep(LONG);
                    "nobody"
                })
            })
        });
        assert_eq!(outcome, Err(Elapsed));
    };
    for check in [nested as fn(), bare] {
        check();
        common::on_workers(|runtime, _| runtime.go(check).join().unwrap());
    }
}

/// Dropped inside of its timeout, and inside of a timeout of the one that drops it.
#[test]
fn task_timeout_in_a_coroutine_that_is_dropped() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(1);
    let dropped = Counter::default();
    for limit in [Duration::ZERO, LONG, Duration::MAX] {
        share(&runtime, {
            let local = dropped.on_drop();
            move |yielder| {
                coro::timeout(limit, || {
                    let _local = local;
                    yielder.suspend("suspended")
                })
                .map(|()| "never")
            }
        });
        runtime.go(resume).join().unwrap();
        let dropper = runtime.go(|| {
            let outcome = coro::timeout(LONG, || drop(SHARED.take()));
            coro::yield_now();
            outcome
        });
        assert_eq!(dropper.join().unwrap(), Ok(()));
    }
    assert_eq!(dropped.get(), 3);
}

/// A stack that is not ours.
struct Foreign(Box<[u128]>);

impl Foreign {
    fn new() -> Foreign {
        Foreign(vec![0; 16 * 1024].into_boxed_slice())
    }

    fn pointer(&self, end: usize) -> StackPointer {
        NonZeroUsize::new(self.0[end..].as_ptr().expose_provenance()).unwrap()
    }
}

// SAFETY: 256 KiB that the box keeps where they are, aligned to 16; what runs there goes nowhere deep.
unsafe impl Stack for Foreign {
    fn base(&self) -> StackPointer {
        self.pointer(self.0.len())
    }

    fn limit(&self) -> StackPointer {
        self.pointer(0)
    }
}

type ForeignCoroutine = corosensei::Coroutine<(), (), Result<u32, Elapsed>, Foreign>;

/// Suspends itself `depth` times, each time within one timeout more, and then leaves them one by one.
fn foreign(depth: u32) -> ForeignCoroutine {
    fn nest(
        yielder: &corosensei::Yielder<(), ()>,
        depth: u32,
        left: &mut u32,
    ) -> Result<u32, Elapsed> {
        if depth > 0 {
            coro::timeout(LONG, || {
                yielder.suspend(());
                nest(yielder, depth - 1, left)
            })??;
            *left += 1;
            yielder.suspend(());
        }
        Ok(*left)
    }
    ForeignCoroutine::with_stack(Foreign::new(), move |yielder, ()| nest(yielder, depth, &mut 0))
}

/// Coroutines of another library share the chain of their thread. They enter and leave their timeouts in
/// an order of their own, between those of the thread, and the chain holds what is in force and no more.
#[test]
fn task_timeout_on_foreign_stacks_in_any_order() {
    let _watchdog = common::watchdog();
    fn interleave(seed: u64) {
        let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut next = |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random as usize % below
        };
        let mut live: Vec<(u32, ForeignCoroutine)> =
            (0..6).map(|depth| (depth, foreign(depth))).collect();
        while !live.is_empty() {
            let place = next(live.len());
            let (depth, coroutine) = &mut live[place];
            let resumed = match next(3) {
                0 => coro::timeout(LONG, || coroutine.resume(())).unwrap(),
                1 => coro::timeout(Duration::MAX, || coroutine.resume(())).unwrap(),
                _ => coroutine.resume(()),
            };
            if let CoroutineResult::Return(left) = resumed {
                assert_eq!(left, Ok(*depth));
                live.swap_remove(place);
            }
            // One of the thread's own, which is the only one that can be due.
            if next(8) == 0 {
                assert_eq!(coro::timeout(Duration::ZERO, coro::park), Err(Elapsed));
            }
        }
        // Nothing is left in force.
        coro::yield_now();
        coro::sleep(Duration::from_micros(1));
        assert_eq!(coro::timeout(Duration::from_micros(1), || coro::sleep(LONG)), Err(Elapsed));
    }
    (1..200).for_each(interleave);
    // On a worker the thread's chain is not that of the task that is in between.
    common::on_workers(|runtime, _| {
        let tasks: Vec<_> = (1..40)
            .map(|seed| {
                runtime.go(move || {
                    interleave(seed);
                    coro::yield_now();
                    coro::timeout(Duration::from_micros(1), || coro::sleep(LONG)).unwrap_err();
                })
            })
            .collect();
        tasks.into_iter().for_each(|task| task.join().unwrap());
    });
}

/// The thread's timeout reaches into a coroutine of another library that it resumes.
#[test]
fn task_timeout_around_a_foreign_coroutine() {
    let _watchdog = common::watchdog();
    let within = || {
        let outcome = coro::timeout(SHORT, || {
            let run = |_: &corosensei::Yielder<(), ()>, ()| {
                // Caught here, for nothing may unwind out of this stack.
                let caught = catch_unwind(|| coro::sleep(LONG));
                caught.err().map(|_| 1).ok_or(Elapsed)
            };
            match ForeignCoroutine::with_stack(Foreign::new(), run).resume(()) {
                CoroutineResult::Return(outcome) => outcome,
                CoroutineResult::Yield(()) => unreachable!(),
            }
        });
        assert_eq!(outcome, Ok(Ok(1)), "swallowed inside, and so over");
        coro::yield_now();
    };
    within();
    common::on_workers(|runtime, _| {
        // Off the task's own stack there is no task, so its deadline does not count.
        let nested = runtime.go(|| {
            let run = |_: &corosensei::Yielder<(), ()>, ()| {
                assert!(coro::current().is_none());
                Ok(1)
            };
            match ForeignCoroutine::with_stack(Foreign::new(), run).resume(()) {
                CoroutineResult::Return(outcome) => outcome,
                CoroutineResult::Yield(()) => unreachable!(),
            }
        });
        assert_eq!(nested.join().unwrap(), Ok(1));
    });
}
