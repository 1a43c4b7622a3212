//! What passes through a switch, and what becomes of a coroutine that is not run to its end: values
//! both ways, captures of every shape, resuming what cannot be resumed, dropping what is suspended.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::exit;
use std::rc::Rc;

use coro::raw::{self, Coroutine, State, Yielder};
use coro::{Builder, JoinError, inspect, tls};

use crate::common::{self, Counter, is_planned, message, planned, quiet, watchdog};

const STACK: usize = 256 << 10;
const BIG: usize = 64 << 10;

#[test]
fn switch_smoke() {
    let _watchdog = watchdog();
    let once = common::raw::<_, (), _>(STACK, |_, n: u32| n + 1).unwrap();
    assert!(!once.is_done());
    assert_eq!(once.resume(41), State::Done(42));
    assert!(once.is_done());
    assert_eq!(coro::go(|| 42).join().unwrap(), 42);
}

#[test]
fn switch_values_pass_both_ways() {
    let _watchdog = watchdog();
    let words = common::raw(STACK, |yielder, mut word: String| {
        for round in 0..100 {
            word = yielder.suspend(format!("{word}-{round}"));
        }
        word.len()
    })
    .unwrap();
    for round in 0..100 {
        let State::Yielded(answer) = words.resume(format!("in{round}")) else { panic!("ended") };
        assert_eq!(answer, format!("in{round}-{round}"));
    }
    assert_eq!(words.resume(String::from("last")), State::Done(4));
}

/// Sends a value of `N` bytes in and out a few times, with other values on both stacks.
fn pass_through<const N: usize>() {
    let pattern = |seed: usize| -> [u8; N] { std::array::from_fn(|i| (i * 7 + seed) as u8) };
    let echo = common::raw(4 << 20, move |yielder: &Yielder<[u8; N], [u8; N]>, mut value| {
        for seed in 0..5 {
            assert!(value == pattern(seed), "{N} bytes in, round {seed}");
            value = yielder.suspend(pattern(seed + 100));
        }
        value
    })
    .unwrap();
    for seed in 0..5 {
        assert!(echo.resume(pattern(seed)) == State::Yielded(pattern(seed + 100)), "{N} bytes out");
    }
    assert!(echo.resume(pattern(9)) == State::Done(pattern(9)), "{N} bytes at the end");
}

#[test]
fn switch_values_of_every_size() {
    let _watchdog = watchdog();
    pass_through::<0>();
    pass_through::<1>();
    pass_through::<7>();
    pass_through::<8>();
    pass_through::<16>();
    pass_through::<17>();
    pass_through::<1024>();
    pass_through::<1025>();
    pass_through::<4096>();
    pass_through::<20_000>();
}

#[test]
fn switch_values_are_dropped_once() {
    let _watchdog = watchdog();
    let drops = Counter::default();
    let relay = common::raw(STACK, |yielder, mut value: common::OnDrop| {
        for _ in 0..10 {
            value = yielder.suspend(value);
        }
        value
    })
    .unwrap();
    for round in 0..10 {
        let answer = relay.resume(drops.on_drop());
        assert_eq!(drops.get(), round, "the value that came out is still held");
        drop(answer);
    }
    let State::Done(last) = relay.resume(drops.on_drop()) else { panic!("suspended") };
    assert_eq!(drops.get(), 10);
    drop((last, relay));
    assert_eq!(drops.get(), 11);
}

/// Aligned to more than a stack is.
#[repr(align(128))]
#[derive(Clone, Copy)]
struct Aligned([u8; 130]);

impl Aligned {
    fn new(seed: u8) -> Aligned {
        Aligned(std::array::from_fn(|i| (i as u8).wrapping_mul(3).wrapping_add(seed)))
    }

    #[track_caller]
    fn check(&self, seed: u8) {
        let address = std::hint::black_box(&raw const *self).addr();
        assert_eq!(address % 128, 0, "{address:#x}");
        assert!(self.0 == Aligned::new(seed).0);
    }
}

#[test]
fn switch_captures_and_locals_are_aligned() {
    let _watchdog = watchdog();
    for seed in 0..32 {
        let captured = Aligned::new(seed);
        let raw_coroutine = common::raw(STACK, move |yielder, given: Aligned| {
            let local = Aligned::new(seed + 2);
            for _ in 0..3 {
                captured.check(seed);
                given.check(seed + 1);
                local.check(seed + 2);
                yielder.suspend(local).check(seed + 1);
            }
            captured
        })
        .unwrap();
        for _ in 0..3 {
            let State::Yielded(out) = raw_coroutine.resume(Aligned::new(seed + 1)) else {
                panic!()
            };
            out.check(seed + 2);
        }
        let State::Done(out) = raw_coroutine.resume(Aligned::new(seed + 1)) else { panic!() };
        out.check(seed);

        let task = coro::go(move || {
            let local = Aligned::new(seed + 1);
            coro::yield_now();
            captured.check(seed);
            local.check(seed + 1);
            captured
        });
        task.join().unwrap().check(seed);
    }
}

/// A frame of the smallest alignment still finds the stack aligned to 16, as the ABI promises.
#[test]
fn switch_stack_pointer_is_aligned_in_every_function_it_calls() {
    let _watchdog = watchdog();
    #[inline(never)]
    extern "C" fn sixteen() -> usize {
        #[repr(align(16))]
        struct Sixteen(u8);
        let local = std::hint::black_box(Sixteen(0));
        (&raw const local).addr() % 16 + usize::from(local.0)
    }
    for _ in 0..16 {
        let task = coro::go(|| {
            tls::set("armed", ());
            tls::at_exit(|| assert_eq!(sixteen(), 0));
            let before = sixteen();
            coro::yield_now();
            before + sixteen()
        });
        assert_eq!(task.join().unwrap(), 0);
    }
}

fn big(seed: usize) -> [u8; BIG] {
    std::array::from_fn(|i| (i.wrapping_mul(31) + seed) as u8)
}

#[test]
fn switch_captures_of_64_kib() {
    let _watchdog = watchdog();
    // The engine itself takes no closure over 1 KiB. To be called, the closure is moved to the stack,
    // and in a debug build too it fits there.
    let captured = big(1);
    let raw_coroutine = common::raw(STACK, move |yielder, index: usize| {
        let mut index = index;
        while index < BIG {
            index = yielder.suspend(captured[index]);
        }
    })
    .unwrap();
    let expected = big(1);
    for index in (0..BIG).step_by(997) {
        assert_eq!(raw_coroutine.resume(index), State::Yielded(expected[index]));
    }
    assert_eq!(raw_coroutine.resume(BIG), State::Done(()));

    let captured = big(2);
    let task = Builder::new().stack_size(STACK).spawn(move || {
        coro::yield_now();
        captured.iter().map(|&byte| u64::from(byte)).sum::<u64>()
    });
    assert_eq!(task.unwrap().join().unwrap(), big(2).iter().map(|&byte| u64::from(byte)).sum());

    let captured = big(3);
    let task = Builder::new().stack_size(STACK).spawn(move || captured);
    assert!(task.unwrap().join().unwrap() == big(3));
}

#[test]
fn switch_captures_of_no_size() {
    let _watchdog = watchdog();
    struct Nothing;
    thread_local!(static DROPS: Cell<u32> = const { Cell::new(0) });
    impl Drop for Nothing {
        fn drop(&mut self) {
            DROPS.set(DROPS.get() + 1);
        }
    }
    let nothing = Nothing;
    let raw_coroutine = common::raw(STACK, move |yielder, ()| {
        let held = &nothing;
        yielder.suspend(());
        let _ = held;
    })
    .unwrap();
    assert_eq!(raw_coroutine.resume(()), State::Yielded(()));
    assert_eq!(DROPS.get(), 0);
    assert_eq!(raw_coroutine.resume(()), State::Done(()));
    assert_eq!(DROPS.get(), 1);
    let nothing = Nothing;
    let dropped = coro::go(move || {
        let before = DROPS.get();
        drop(nothing);
        DROPS.get() - before
    });
    assert_eq!(dropped.join().unwrap(), 1);
}

#[test]
fn switch_dropped_unrun() {
    let _watchdog = watchdog();
    let (drops, runs) = (Counter::default(), Counter::default());
    for _ in 0..100 {
        let (token, runs) = (drops.on_drop(), runs.clone());
        let unrun = common::raw::<(), (), ()>(STACK, move |_, ()| {
            let _token = token;
            runs.add();
        });
        drop(unrun.unwrap());
    }
    assert_eq!((drops.get(), runs.get()), (100, 0));
}

#[test]
fn switch_task_dropped_unrun() {
    let _watchdog = watchdog();
    let (drops, runs) = (Counter::default(), Counter::default());
    let runtime = common::runtime(1);
    let (send, block) = std::sync::mpsc::channel::<()>();
    let started = Counter::default();
    let blocker = {
        let started = started.clone();
        runtime.go(move || {
            started.add();
            // Blocks the only worker, so that what is spawned next stays fresh.
            block.recv().unwrap_err();
        })
    };
    started.wait_for(1);
    let fresh: Vec<_> = (0..100)
        .map(|_| {
            let (token, runs) = (drops.on_drop(), runs.clone());
            runtime.go(move || {
                let _token = token;
                runs.add();
            })
        })
        .collect();
    fresh.iter().for_each(coro::JoinHandle::cancel);
    drop(send);
    for handle in fresh {
        assert!(matches!(handle.join(), Err(JoinError::Cancelled)));
    }
    blocker.join().unwrap();
    assert_eq!((drops.get(), runs.get()), (100, 0));
}

#[test]
fn switch_resume_after_the_end_is_a_clean_panic() {
    let _watchdog = watchdog();
    quiet();
    let mut returned = common::raw::<(), (), ()>(STACK, |_, ()| ()).unwrap();
    returned.resume(());
    let mut panicked = common::raw::<(), (), ()>(STACK, |_, ()| planned("the end")).unwrap();
    let payload = catch_unwind(AssertUnwindSafe(|| panicked.resume(()))).unwrap_err();
    assert!(is_planned(&*payload, "the end"));
    for done in [&mut returned, &mut panicked] {
        assert!(done.is_done());
        for _ in 0..3 {
            let payload = catch_unwind(AssertUnwindSafe(|| done.resume(()))).unwrap_err();
            assert_eq!(message(&*payload), "a coroutine was resumed after its end");
        }
    }
}

#[test]
fn switch_re_entrant_resume_is_a_clean_panic() {
    let _watchdog = watchdog();
    let shared: Rc<OnceCell<Coroutine<u32, u32, u32>>> = Rc::default();
    let inside = Rc::clone(&shared);
    let coroutine = common::raw(STACK, move |yielder: &Yielder<u32, u32>, n| {
        for _ in 0..3 {
            let again = || inside.get().unwrap().resume(1);
            let payload = catch_unwind(AssertUnwindSafe(again)).unwrap_err();
            assert_eq!(message(&*payload), "a coroutine was resumed while it runs");
        }
        let n = yielder.suspend(n + 1) + 1;
        drop(inside);
        n
    });
    let coroutine = shared.get_or_init(|| coroutine.unwrap());
    assert_eq!(coroutine.resume(10), State::Yielded(11));
    assert_eq!(coroutine.resume(20), State::Done(21));
}

#[test]
fn switch_a_yielder_serves_only_its_own_coroutine_through_another() {
    let _watchdog = watchdog();
    // The inner coroutine suspends the outer one; both go on where they were.
    let outer = common::raw(STACK, |outer: &Yielder<u32, u32>, n: u32| {
        let outer: *const Yielder<u32, u32> = outer;
        let inner = common::raw::<u32, u32, u32>(STACK, move |_, n| {
            // SAFETY: the outer coroutine waits in `resume` for as long as this one runs.
            unsafe { (*outer).suspend(n * 2) + 1 }
        })
        .unwrap();
        match inner.resume(n) {
            State::Done(n) => n * 10,
            State::Yielded(_) => unreachable!("the inner coroutine was not asked to suspend"),
        }
    })
    .unwrap();
    assert_eq!(outer.resume(3), State::Yielded(6));
    assert_eq!(outer.resume(7), State::Done(80));
}

#[test]
fn switch_dropping_a_suspended_coroutine_unwinds_it() {
    let _watchdog = watchdog();
    let order = Rc::new(RefCell::new(Vec::new()));
    struct Note(&'static str, Rc<RefCell<Vec<&'static str>>>);
    impl Drop for Note {
        fn drop(&mut self) {
            self.1.borrow_mut().push(self.0);
        }
    }
    let notes = Rc::clone(&order);
    let coroutine = common::raw::<(), (), ()>(STACK, move |yielder, ()| {
        let note = |name| Note(name, Rc::clone(&notes));
        let _first = note("first");
        tls::set("value", note("value"));
        let handler = note("handler's capture");
        tls::at_exit(move || {
            handler.1.borrow_mut().push("handler");
            drop(handler);
        });
        let _second = note("second");
        yielder.suspend(());
        note("never").1.borrow_mut().push("never");
    })
    .unwrap();
    coroutine.resume(());
    assert!(order.borrow().is_empty());
    drop(coroutine);
    let expected = ["second", "first", "handler", "handler's capture", "value"];
    assert_eq!(*order.borrow(), expected);
}

/// Wherever the function that it is lent to leaves it, and however that function ends. So it may borrow.
#[test]
fn switch_lent_it_has_ended_when_with_returns() {
    let _watchdog = watchdog();
    quiet();
    for resumes in 0..4 {
        for panics in [false, true] {
            let captured = Counter::default();
            let token = captured.on_drop();
            let handlers = Counter::default();
            let mut steps = Vec::new();
            let body = |yielder: &Yielder<usize, usize>, mut input: usize| {
                let _token = token;
                tls::at_exit(handlers.adder());
                for _ in 0..2 {
                    steps.push(input);
                    input = yielder.suspend(input + 1);
                }
            };
            let lent = |coroutine: &Coroutine<usize, usize, ()>| {
                for n in 0..resumes.min(3) {
                    let expected = if n < 2 { State::Yielded(n + 1) } else { State::Done(()) };
                    assert_eq!(coroutine.resume(n), expected);
                }
                assert_eq!(coroutine.is_done(), resumes > 2);
                if panics {
                    planned("while it has a coroutine");
                }
                resumes
            };
            match catch_unwind(AssertUnwindSafe(|| raw::with(STACK, body, lent))) {
                Ok(given) => assert!(!panics && given.unwrap() == resumes),
                Err(payload) => {
                    assert!(panics && is_planned(&*payload, "while it has a coroutine"))
                }
            }
            assert_eq!(captured.get(), 1, "{resumes} resumes, panics: {panics}");
            assert_eq!(handlers.get(), usize::from(resumes > 0));
            assert_eq!(steps, [0, 1][..resumes.min(2)]);
        }
    }
}

#[test]
fn switch_dropping_outlasts_a_body_that_swallows_the_unwinding() {
    let _watchdog = watchdog();
    let drops = Counter::default();
    // Three times it goes on; the fourth time it lets itself be ended.
    let token = drops.on_drop();
    let swallowed = Counter::default();
    let count = swallowed.clone();
    let stubborn = common::raw::<(), (), ()>(STACK, move |yielder, ()| {
        let _token = token;
        for _ in 0..3 {
            let caught = catch_unwind(AssertUnwindSafe(|| yielder.suspend(())));
            assert!(caught.is_err());
            count.add();
        }
        yielder.suspend(());
        unreachable!("resumed with no value");
    })
    .unwrap();
    stubborn.resume(());
    drop(stubborn);
    assert_eq!((swallowed.get(), drops.get()), (3, 1));
}

#[test]
fn switch_one_that_cannot_be_ended_ends_the_process() {
    const TEST: &str = "switch_one_that_cannot_be_ended_ends_the_process";
    fn swallows(yielder: &Yielder<(), ()>, (): ()) {
        loop {
            let _ = catch_unwind(AssertUnwindSafe(|| yielder.suspend(())));
        }
    }
    let _watchdog = watchdog();
    if common::is_child("lent") {
        raw::with(STACK, swallows, |endless| _ = endless.resume(())).unwrap();
        unreachable!("its frames may use what is borrowed");
    }
    if common::is_child("owned") {
        let endless = common::raw(STACK, swallows).unwrap();
        endless.resume(());
        drop(endless);
        unreachable!("as above");
    }
    for case in ["lent", "owned"] {
        let output = common::child(TEST, case);
        let stderr = common::stderr(&output);
        assert_eq!(common::signal(&output), Some(libc::SIGABRT), "{case}: {stderr}");
        let told = "cannot be ended: it swallows the unwinding and suspends itself again";
        assert!(stderr.contains(told), "{case}: {stderr}");
    }
}

/// A value that nobody takes may panic when it is dropped, and its stack is used again all the same. In a process of
/// its own, or others would use it meanwhile.
#[test]
fn switch_a_value_that_nobody_takes_may_panic() {
    struct Explosive;
    impl Drop for Explosive {
        fn drop(&mut self) {
            planned("a value that nobody takes");
        }
    }
    const TEST: &str = "switch_a_value_that_nobody_takes_may_panic";
    common::in_child(TEST, common::CHILDS_LIMIT, || {
        quiet();
        let mut places = BTreeSet::new();
        for _ in 0..1000 {
            let body = |yielder: &Yielder<(), Option<usize>>, ()| {
                let place = inspect::record_address();
                let caught = catch_unwind(AssertUnwindSafe(|| yielder.suspend(place)));
                assert!(caught.is_err());
                Explosive
            };
            let place = raw::with(STACK, body, |coroutine| match coroutine.resume(()) {
                State::Yielded(place) => place.unwrap(),
                State::Done(_) => unreachable!("it suspends itself first"),
            });
            places.insert(place.unwrap());
        }
        assert!(places.len() < 10, "{} stacks for 1,000 coroutines in turn", places.len());
    });
}

#[test]
fn switch_a_suspended_coroutine_may_be_dropped_during_a_panic() {
    let _watchdog = watchdog();
    quiet();
    let drops = Counter::default();
    let token = drops.on_drop();
    let coroutine = common::raw::<(), (), ()>(STACK, move |yielder, ()| {
        let _token = token;
        yielder.suspend(());
    })
    .unwrap();
    coroutine.resume(());
    let payload = catch_unwind(AssertUnwindSafe(move || {
        let _dropped_by_the_panic = coroutine;
        planned("with a coroutine at hand");
    }))
    .unwrap_err();
    assert!(is_planned(&*payload, "with a coroutine at hand"));
    assert_eq!(drops.get(), 1);
    assert!(!std::thread::panicking());
}

#[test]
fn switch_what_is_yielded_to_a_drop_may_panic() {
    struct Explosive;
    impl Drop for Explosive {
        fn drop(&mut self) {
            planned("what was yielded");
        }
    }
    let _watchdog = watchdog();
    quiet();
    let drops = Counter::default();
    let (handler, local) = (drops.on_drop(), drops.on_drop());
    let coroutine = common::raw::<(), _, ()>(STACK, move |yielder, ()| {
        let _local = local;
        tls::at_exit(move || drop(handler));
        let _ = catch_unwind(AssertUnwindSafe(|| yielder.suspend(None)));
        yielder.suspend(Some(Explosive));
    })
    .unwrap();
    coroutine.resume(());
    drop(coroutine);
    assert_eq!(drops.get(), 2);
}

#[test]
fn switch_a_coroutine_that_ends_the_process_is_dropped_while_it_runs() {
    thread_local! {
        static HELD: RefCell<Option<Coroutine<(), (), ()>>> = const { RefCell::new(None) };
        static DROPPED_LAST: LooksAround = const { LooksAround };
    }
    /// Dropped after the coroutine, on its stack.
    struct LooksAround;
    impl Drop for LooksAround {
        fn drop(&mut self) {
            let here = inspect::record_address();
            assert!(here.is_some());
            let other = common::raw::<(), (), _>(STACK, |_, ()| inspect::record_address()).unwrap();
            assert_ne!(other.resume(()), State::Done(here), "given away while it is in use");
            println!("looked around");
        }
    }
    const TEST: &str = "switch_a_coroutine_that_ends_the_process_is_dropped_while_it_runs";
    if common::is_child(TEST) {
        // In this order, since they are destroyed in the reverse one. In a thread of its own, because
        // it is the thread that calls `exit` whose locals are destroyed.
        DROPPED_LAST.with(|_| ());
        HELD.with(|_| ());
        HELD.set(Some(common::raw(STACK, |_, ()| exit(7)).unwrap()));
        HELD.with_borrow_mut(|held| held.as_mut().unwrap().resume(()));
    }
    let _watchdog = watchdog();
    let output = common::child(TEST, TEST);
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert!(common::stdout(&output).contains("looked around"), "{output:?}");
}

#[test]
fn switch_nested_deeply_on_small_stacks() {
    fn nest(depth: usize) {
        if depth == 0 {
            // Looks for the task, and for time limits, on every stack further out.
            return coro::yield_now();
        }
        common::raw::<(), (), ()>(64 << 10, move |_, ()| nest(depth - 1)).unwrap().resume(());
    }
    let _watchdog = watchdog();
    coro::go(|| nest(1000)).join().unwrap();
    nest(1000);
}
