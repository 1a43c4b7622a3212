//! Panics and the hijacked return: every end of a coroutine leaves by the same `ret`, a destructor
//! may suspend in the middle of unwinding, and payloads may be as strange as they like.
//!
//! That each coroutine has its own panics is tested in `panics.rs`.

use std::any::Any;
use std::fmt;
use std::panic::{self, AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::sync::{Arc, Mutex};
use std::thread::panicking;
use std::time::Duration;

use coro::inspect::{ExitTarget, exit_target};
use coro::raw::{self, Coroutine, State, Yielder};
use coro::{JoinError, JoinHandle, tls};

use crate::common::{self, Counter, Gate, is_child, is_planned, planned, quiet, watchdog};
use crate::unwinding::{Unwinding, Why};

const STACK: usize = 256 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Return,
    Panic,
    Cancel,
}

const ENDS: [End; 3] = [End::Return, End::Panic, End::Cancel];

/// What is stored before the end.
#[derive(Clone, Copy, Debug)]
struct Stored {
    data: bool,
    handler: bool,
    /// Stored, then unloaded again.
    unloaded: bool,
}

fn all_stored() -> impl Iterator<Item = Stored> {
    (0..8).map(|bits| Stored {
        data: bits & 1 != 0,
        handler: bits & 2 != 0,
        unloaded: bits & 4 != 0,
    })
}

/// What happened, to be compared with what should have.
#[derive(Default, Clone)]
struct Tally {
    handlers: Counter,
    values: Counter,
    locals: Counter,
    wrong_targets: Counter,
}

impl Tally {
    fn store(&self, stored: Stored) {
        assert_eq!(exit_target(), Some(ExitTarget::Goexit));
        if stored.unloaded {
            tls::set("gone", 1);
            tls::at_exit(|| unreachable!("unloaded"));
            assert_eq!(exit_target(), Some(ExitTarget::Cleanup));
            tls::unload();
            assert_eq!(exit_target(), Some(ExitTarget::Goexit));
        }
        if stored.data {
            tls::set("value", self.values.on_drop());
        }
        if stored.handler {
            let tally = self.clone();
            tls::at_exit(move || {
                tally.handlers.add();
                // Cleanup is over when the unwinding is: whatever the end was, we came by `ret`.
                if exit_target() != Some(ExitTarget::Goexit) || panicking() {
                    tally.wrong_targets.add();
                }
            });
        }
        let expected = match stored.data || stored.handler {
            true => ExitTarget::Cleanup,
            false => ExitTarget::Goexit,
        };
        assert_eq!(exit_target(), Some(expected));
    }

    fn check(&self, end: End, stored: Stored) {
        let counts =
            [self.handlers.get(), self.values.get(), self.locals.get(), self.wrong_targets.get()];
        let expected = [stored.handler.into(), stored.data.into(), 1, 0];
        assert_eq!(counts, expected, "{end:?} {stored:?}");
    }
}

#[test]
fn switch_every_end_of_a_task_runs_cleanup_once() {
    let _watchdog = watchdog();
    quiet();
    common::on_workers(|runtime, _| {
        for (end, stored) in ENDS.into_iter().flat_map(|end| all_stored().map(move |s| (end, s))) {
            let tally = Tally::default();
            let inside = tally.clone();
            let task = runtime.go(move || {
                let _local = inside.locals.on_drop();
                inside.store(stored);
                coro::yield_now();
                match end {
                    End::Return => {}
                    End::Panic => planned("the end"),
                    End::Cancel => {
                        coro::current().unwrap().cancel();
                        coro::yield_now();
                        unreachable!("cancelled");
                    }
                }
            });
            match (end, task.join()) {
                (End::Return, Ok(())) | (End::Cancel, Err(JoinError::Cancelled)) => {}
                (End::Panic, Err(JoinError::Panicked(payload))) => {
                    assert!(is_planned(&*payload, "the end"));
                }
                (_, other) => panic!("{end:?} {stored:?}: {other:?}"),
            }
            tally.check(end, stored);
        }
    });
}

#[test]
fn switch_every_end_of_a_raw_coroutine_runs_cleanup_once() {
    let _watchdog = watchdog();
    quiet();
    for (end, stored) in ENDS.into_iter().flat_map(|end| all_stored().map(move |s| (end, s))) {
        let tally = Tally::default();
        let inside = tally.clone();
        let coroutine = common::raw::<(), (), ()>(STACK, move |yielder, ()| {
            let _local = inside.locals.on_drop();
            inside.store(stored);
            yielder.suspend(());
            if end == End::Panic {
                planned("the end");
            }
        })
        .unwrap();
        assert_eq!(coroutine.resume(()), State::Yielded(()));
        match end {
            End::Return => assert_eq!(coroutine.resume(()), State::Done(())),
            End::Panic => {
                let payload = catch_unwind(AssertUnwindSafe(|| coroutine.resume(())));
                assert!(is_planned(&*payload.unwrap_err(), "the end"));
            }
            End::Cancel => drop(coroutine),
        }
        tally.check(end, stored);
    }
}

/// What handlers and destructors store is drained by the cleanup that runs already. The return address
/// names goexit by then, and is left alone, or cleanup would come a second time (H3).
#[test]
fn switch_what_cleanup_stores_is_not_hijacked_for() {
    fn store(looked: &Counter) {
        let steps: [fn(); 3] = [|| (), || tls::set("late", 1), || tls::at_exit(|| ())];
        for step in steps {
            step();
            assert_eq!(exit_target(), Some(ExitTarget::Goexit));
            looked.add();
        }
    }
    struct Stores(Counter);
    impl Drop for Stores {
        fn drop(&mut self) {
            store(&self.0);
        }
    }
    fn body(looked: &Counter) {
        tls::set("value", Stores(looked.clone()));
        let looked = looked.clone();
        tls::at_exit(move || store(&looked));
    }
    let _watchdog = watchdog();
    let looked = Counter::default();
    let inside = looked.clone();
    let coroutine = common::raw::<(), (), ()>(STACK, move |_, ()| body(&inside)).unwrap();
    assert_eq!(coroutine.resume(()), State::Done(()));
    assert_eq!(looked.get(), 6);
    let inside = looked.clone();
    common::runtime(1).go(move || body(&inside)).join().unwrap();
    assert_eq!(looked.get(), 12);
}

#[test]
fn switch_a_raw_coroutine_may_suspend_in_a_drop_during_unwinding() {
    let _watchdog = watchdog();
    quiet();
    struct SuspendsInDrop<'a>(&'a Yielder<u32, u32>);
    impl Drop for SuspendsInDrop<'_> {
        fn drop(&mut self) {
            assert_eq!(self.0.suspend(1), 2);
        }
    }
    let coroutine = common::raw::<u32, u32, ()>(STACK, |yielder, _| {
        let _first = SuspendsInDrop(yielder);
        let _second = SuspendsInDrop(yielder);
        planned("in the middle");
    })
    .unwrap();
    assert_eq!(coroutine.resume(0), State::Yielded(1));
    assert!(!panicking(), "the panic of the suspended coroutine is its own");
    let other = common::raw::<(), (), _>(STACK, |_, ()| panicking()).unwrap();
    assert_eq!(other.resume(()), State::Done(false));
    assert_eq!(coroutine.resume(2), State::Yielded(1));
    let payload = catch_unwind(AssertUnwindSafe(|| coroutine.resume(2))).unwrap_err();
    assert!(is_planned(&*payload, "in the middle"));
    assert!(!panicking());
}

/// Suspends its coroutine when it is dropped.
struct SuspendsInDrop<'a>(&'a Yielder<(), ()>);

impl Drop for SuspendsInDrop<'_> {
    fn drop(&mut self) {
        self.0.suspend(());
    }
}

/// A coroutine that has suspended itself, inside calls that throw on what they catch, and has a handler,
/// which counts.
fn suspended(handlers: &Counter) -> Coroutine<(), (), ()> {
    let counter = handlers.clone();
    let coroutine = common::raw(STACK, move |yielder: &Yielder<(), ()>, ()| {
        tls::at_exit(move || counter.add());
        let suspend = || yielder.suspend(());
        coro::timeout(Duration::from_secs(3600), || coro::scope(|_| suspend())).unwrap();
    })
    .unwrap();
    assert_eq!(coroutine.resume(()), State::Yielded(()));
    coroutine
}

/// That a panic is under way says nothing of a coroutine that is dropped then: it may be a neighbour's.
#[test]
fn switch_dropped_in_a_panic_that_is_not_its_own_it_is_unwound() {
    let _watchdog = watchdog();
    quiet();
    let runtime = common::runtime(1);
    for why in [Why::Panic, Why::Cancel] {
        let neighbour = Unwinding::start(&runtime, why);
        let handlers = Counter::default();
        let counter = handlers.clone();
        runtime.go(move || drop(suspended(&counter))).join().unwrap();
        assert_eq!(handlers.get(), 1);
        let counter = handlers.clone();
        let other = runtime.go(move || {
            let _coroutine = suspended(&counter);
            planned("with a suspended coroutine");
        });
        assert!(other.join().is_err());
        assert_eq!(handlers.get(), 2);
        neighbour.finish();
    }
}

/// As a generator is used, in a destructor that a panic runs.
#[test]
fn switch_used_in_a_destructor_that_a_panic_runs_it_is_unwound() {
    struct Uses(Counter);
    impl Drop for Uses {
        fn drop(&mut self) {
            assert!(panicking());
            drop(suspended(&self.0));
        }
    }
    let _watchdog = watchdog();
    quiet();
    let handlers = Counter::default();
    let uses = Uses(handlers.clone());
    let caught = catch_unwind(AssertUnwindSafe(move || {
        let _uses = uses;
        planned("uses a coroutine on its way");
    }));
    assert!(caught.is_err());
    assert_eq!(handlers.get(), 1);
}

/// To unwind it once more would abort without a word: the second panic leaves a destructor.
#[test]
fn switch_dropped_in_the_middle_of_its_own_panic_it_ends_the_process() {
    const TEST: &str = "switch_dropped_in_the_middle_of_its_own_panic_it_ends_the_process";
    struct ThrowsOn<'a>(&'a Yielder<(), ()>);
    impl Drop for ThrowsOn<'_> {
        fn drop(&mut self) {
            let caught = catch_unwind(AssertUnwindSafe(|| self.0.suspend(())));
            resume_unwind(caught.unwrap_err());
        }
    }
    struct Waits<'a>(&'a Yielder<(), ()>);
    impl Drop for Waits<'_> {
        fn drop(&mut self) {
            // Sets the panic aside, so that none is seen where it suspends itself.
            let limited = || {
                assert!(!panicking());
                self.0.suspend(());
            };
            coro::timeout(Duration::from_secs(3600), limited).unwrap();
        }
    }
    struct Lends<'a>(&'a Yielder<(), ()>);
    impl Drop for Lends<'_> {
        fn drop(&mut self) {
            // Both are in the destructor of the outer one, whose panic it is.
            let inner = |_: &Yielder<(), ()>, ()| {
                assert!(!panicking());
                self.0.suspend(());
            };
            raw::with(STACK, inner, |inner| _ = inner.resume(())).unwrap();
        }
    }
    type Body = fn(&Yielder<(), ()>, ());
    let cases: [(&str, Body); 4] = [
        ("plain", |yielder, ()| {
            let _local = SuspendsInDrop(yielder);
            planned("dropped in the middle of it");
        }),
        ("under a catch", |yielder, ()| {
            let _local = ThrowsOn(yielder);
            planned("dropped in the middle of it");
        }),
        ("in a timeout", |yielder, ()| {
            let _local = Waits(yielder);
            planned("dropped in the middle of it");
        }),
        ("from within another", |yielder, ()| {
            let _local = Lends(yielder);
            planned("dropped in the middle of it");
        }),
    ];
    let _watchdog = watchdog();
    for (case, body) in cases {
        if is_child(case) {
            quiet();
            raw::with(STACK, body, |coroutine| {
                assert_eq!(coroutine.resume(()), State::Yielded(()));
                assert!(!panicking());
            })
            .unwrap();
            return;
        }
    }
    if common::child_case().is_none() {
        for (case, _) in cases {
            let output = common::child(TEST, case);
            let stderr = common::stderr(&output);
            assert_eq!(common::signal(&output), Some(libc::SIGABRT), "{case}: {stderr}");
            let told = "cannot be ended: it is suspended in a destructor that its own panic runs";
            assert!(stderr.contains(told), "{case}: {stderr}");
        }
    }
}

/// As above, but for whose panic it is.
#[test]
fn switch_dropped_under_a_catch_in_a_panic_that_is_not_its_own_it_is_unwound() {
    let _watchdog = watchdog();
    quiet();
    let runtime = common::runtime(1);
    let neighbour = Unwinding::start(&runtime, Why::Panic);
    for throws_on in [false, true] {
        let handlers = Counter::default();
        let counter = handlers.clone();
        let drops = move || {
            let body = move |yielder: &Yielder<(), ()>, ()| {
                tls::at_exit(move || counter.add());
                let caught = catch_unwind(AssertUnwindSafe(|| yielder.suspend(())));
                if throws_on {
                    resume_unwind(caught.unwrap_err());
                }
            };
            let coroutine = common::raw(STACK, body).unwrap();
            coroutine.resume(());
            drop(coroutine);
        };
        runtime.go(drops).join().unwrap();
        assert_eq!(handlers.get(), 1);
    }
    neighbour.finish();
    assert!(!runtime.go(panicking).join().unwrap());
}

/// A payload that panics when it is dropped.
struct Explosive(Counter);

impl Drop for Explosive {
    fn drop(&mut self) {
        self.0.add();
        planned("a payload's destructor");
    }
}

#[test]
fn switch_a_payload_may_panic_when_dropped() {
    let _watchdog = watchdog();
    quiet();
    common::on_workers(|runtime, _| {
        // With a handle the payload is the joiner's.
        let drops = Counter::default();
        let counter = drops.clone();
        let task = runtime.go(move || resume_unwind(Box::new(Explosive(counter))));
        let outcome: Result<(), JoinError> = task.join();
        assert_eq!(drops.get(), 0);
        let caught = catch_unwind(AssertUnwindSafe(|| drop(outcome)));
        assert!(is_planned(&*caught.unwrap_err(), "a payload's destructor"));
        assert_eq!(drops.get(), 1);

        // Without one it is dropped by the library, which nobody may notice. (A handle that is
        // dropped after the end would drop it too, where the handle is.)
        let (ended, detached) = (Counter::default(), Counter::default());
        let (at_end, gate, counter) = (ended.clone(), detached.clone(), drops.clone());
        let task: coro::JoinHandle<()> = runtime.go(move || {
            tls::at_exit(move || at_end.add());
            gate.wait_for(1);
            resume_unwind(Box::new(Explosive(counter)))
        });
        drop(task);
        detached.add();
        ended.wait_for(1);
        drops.wait_for(2);

        // In a handler, and in a value's destructor.
        let counter = drops.clone();
        let task = runtime.go(move || {
            struct Throws(Counter);
            impl Drop for Throws {
                fn drop(&mut self) {
                    resume_unwind(Box::new(Explosive(self.0.clone())));
                }
            }
            tls::set("value", Throws(counter.clone()));
            tls::at_exit(move || resume_unwind(Box::new(Explosive(counter))));
            7
        });
        assert_eq!(task.join().unwrap(), 7);
        assert_eq!(drops.get(), 4);
        assert!(!runtime.go(panicking).join().unwrap());
    });
}

#[test]
fn switch_a_raw_coroutines_payload_may_panic_when_dropped() {
    let _watchdog = watchdog();
    quiet();
    let drops = Counter::default();
    let counter = drops.clone();
    let coroutine = common::raw::<(), (), ()>(STACK, move |_, ()| {
        resume_unwind(Box::new(Explosive(counter)));
    })
    .unwrap();
    let payload = catch_unwind(AssertUnwindSafe(|| coroutine.resume(()))).unwrap_err();
    assert!(payload.is::<Explosive>());
    drop(coroutine);
    assert_eq!(drops.get(), 0);
    assert!(catch_unwind(AssertUnwindSafe(|| drop(payload))).is_err());
    assert_eq!(drops.get(), 1);
}

const BIG: usize = 64 << 10;

fn big_payload() -> Box<[u8; BIG]> {
    let bytes: Vec<u8> = (0..BIG).map(|i| (i % 251) as u8).collect();
    bytes.try_into().expect("the right length")
}

#[track_caller]
fn assert_big(payload: Box<dyn Any + Send>) {
    assert!(*payload.downcast::<[u8; BIG]>().expect("the payload's type") == *big_payload());
}

/// In a process of its own, for it sets the panic hook.
#[test]
fn switch_a_payload_of_64_kib() {
    common::in_child("switch_a_payload_of_64_kib", common::CHILDS_LIMIT, || {
        // The default stack carries it on the heap, as a panic does.
        let task = coro::go(|| resume_unwind(big_payload()));
        let Err(JoinError::Panicked(payload)) = task.join() else { panic!("it did not panic") };
        assert_big(payload);
        // By value it passes over the stack a few times.
        let by_value = || {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                if !info.payload().is::<[u8; BIG]>() {
                    before(info);
                }
            }));
            panic_any(*big_payload())
        };
        let task: JoinHandle<()> =
            coro::Builder::new().stack_size(2 << 20).spawn(by_value).unwrap();
        let Err(JoinError::Panicked(payload)) = task.join() else { panic!("it did not panic") };
        assert_big(payload);

        let raises = |_: &Yielder<(), ()>, ()| resume_unwind(big_payload());
        let coroutine: Coroutine<(), (), ()> = common::raw(STACK, raises).unwrap();
        assert_big(catch_unwind(AssertUnwindSafe(|| coroutine.resume(()))).unwrap_err());
    });
}

/// A message whose formatting panics, inside the panic hook.
struct Unspeakable;

impl std::fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("while the message is made");
    }
}

/// In a coroutine it is as in a thread: std aborts, with its own words.
#[test]
fn switch_a_panic_inside_the_panic_hook_is_as_in_a_thread() {
    const NAME: &str = "switch_a_panic_inside_the_panic_hook_is_as_in_a_thread";
    let _watchdog = watchdog();
    if is_child("thread") {
        let _ = std::thread::spawn(|| panic!("{Unspeakable}")).join();
        return;
    }
    if is_child("coroutine") {
        let _: Result<(), _> = coro::go(|| panic!("{Unspeakable}")).join();
        return;
    }
    let by_thread = common::child(NAME, "thread");
    let by_coroutine = common::child(NAME, "coroutine");
    assert_eq!(by_thread.status, by_coroutine.status);
    let last_line = |output| common::stderr(output).trim_end().lines().last().map(str::to_owned);
    assert_eq!(last_line(&by_thread), last_line(&by_coroutine));
    assert_eq!(common::signal(&by_coroutine), Some(libc::SIGABRT));
}

/// A panic while a lock is held by the coroutine poisons it, as in a thread.
#[test]
fn switch_a_panic_poisons_the_locks_it_holds() {
    let _watchdog = watchdog();
    quiet();
    let lock = Arc::new(Mutex::new(0));
    let held = Arc::clone(&lock);
    let task = coro::go(move || {
        let mut guard = held.lock().unwrap();
        *guard = 1;
        planned("with a lock")
    });
    let _: Result<(), _> = task.join();
    assert!(lock.is_poisoned());
}

/// While one coroutine is suspended in the panic hook, by the hook itself or by what it shows, a neighbour
/// may panic too. std notes by thread that the hook runs, and a switch takes the note away: what panics in the
/// hook after that is one panic more, and no abort (CASES 9).
#[test]
fn switch_a_panic_hook_may_suspend() {
    const TEST: &str = "switch_a_panic_hook_may_suspend";
    struct Suspends;
    impl fmt::Display for Suspends {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            coro::yield_now();
            f.write_str("it suspended")
        }
    }
    let _watchdog = watchdog();
    const PANICS: [&str; 2] = ["a hook that panics afterwards", "the same in a handler"];
    for case in ["hook", "display", PANICS[0], PANICS[1]] {
        if common::is_child(case) {
            match case {
                "hook" => panic::set_hook(Box::new(|_| coro::yield_now())),
                "display" => {}
                _ => panic::set_hook(Box::new(|_| {
                    coro::yield_now();
                    resume_unwind(Box::new("from the hook"));
                })),
            }
            let runtime = common::runtime(1);
            let arrived = Counter::default();
            let both_panic = || {
                let arrived = arrived.clone();
                move || {
                    arrived.add();
                    while arrived.get() < 2 {
                        coro::yield_now();
                    }
                    panic!("{Suspends}");
                }
            };
            let both: Vec<JoinHandle<()>> = (0..2).map(|_| runtime.go(both_panic())).collect();
            for one in both {
                assert!(one.join().unwrap_err().is_panic());
            }
            if case == PANICS[1] {
                runtime.go(|| tls::at_exit(|| panic!("in a handler"))).join().unwrap();
            }
            assert!(!runtime.go(panicking).join().unwrap());
            return;
        }
        if common::child_case().is_none() {
            let output = common::child(TEST, case);
            assert!(output.status.success(), "{case}: {}", common::stderr(&output));
            let stderr = common::stderr(&output);
            let told = stderr.matches("panics were still counted").count();
            let expected = PANICS.iter().position(|&one| one == case).map_or(0, |n| 2 + n);
            assert_eq!(told, expected, "{case}: {stderr}");
        }
    }
}

/// Who waits for it by blocking would hold the worker that the holder needs. A lock that is a future,
/// as one made of a channel here, lets the worker go on.
#[test]
fn switch_a_lock_held_over_a_suspension_stays_locked() {
    let _watchdog = watchdog();
    let runtime = common::runtime(1);
    let lock = Arc::new(Mutex::new(()));
    let (release, released) = futures_channel::oneshot::channel::<()>();
    let locked = Gate::default();
    let holder = runtime.go({
        let (lock, locked) = (Arc::clone(&lock), locked.clone());
        move || {
            let guard = lock.lock().unwrap();
            locked.open();
            coro::park();
            drop(guard);
            release.send(()).unwrap();
        }
    });
    let handle = holder.handle();
    let waits = runtime.go(move || {
        locked.pass();
        handle.unpark();
        // However often it looks: the holder goes on when we suspend.
        assert!((0..1000).all(|_| lock.try_lock().is_err()));
        coro::wait(released).unwrap();
        drop(lock.try_lock().unwrap());
    });
    waits.join().unwrap();
    holder.join().unwrap();
}
