//! Acts about storage, on every kind of stack, and about raw coroutines.

use std::cell::{Cell, RefCell};
use std::panic;
use std::thread as os;

use coro::inspect::{ExitTarget, exit_target};
use coro::raw::{self, Coroutine, State, Yielder};
use coro::{go, tls};

use super::{is_planned, panic_as_planned, use_storage};
use crate::counted::{Counted, at_exit, unload};
use crate::dice::Dice;

/// The number of the counted value under `key`.
fn number_at(key: impl tls::Key) -> Option<u64> {
    tls::get::<Counted>(key).map(|value| value.0)
}

pub(super) fn store(dice: &mut Dice) {
    coro::local! {
        static ROUND: Cell<u64> = const { Cell::new(0) };
        static NAMES: RefCell<Vec<Counted>> = const { RefCell::new(Vec::new()) };
    }
    let rounds = dice.roll(30);
    let inner = dice.split();
    let task = go(move || {
        let mut dice = inner;
        let mut handlers = 0;
        for round in 0..rounds {
            assert_eq!(ROUND.replace(round + 1), round);
            NAMES.with_borrow_mut(|names| names.push(Counted::new(round)));
            handlers += use_storage(&mut dice);
            tls::scope("scoped", Counted::new(round), || {
                coro::yield_now();
                assert_eq!(number_at("scoped"), Some(round));
            });
            assert_eq!(number_at("scoped"), None);
        }
        assert_eq!(NAMES.with_borrow(Vec::len) as u64, rounds);
        let held = tls::get::<Counted>(0u64);
        let number = held.as_ref().map(|held| held.0);
        match dice.roll(3) {
            0 => tls::reset(),
            1 => {
                let id = tls::id();
                unload(handlers);
                assert_ne!(tls::id(), id);
                assert_eq!(exit_target(), Some(ExitTarget::Goexit));
            }
            _ => return,
        }
        assert_eq!(ROUND.get(), 0);
        assert!((0..8u64).all(|key| number_at(key).is_none()));
        assert_eq!(held.map(|held| held.0), number, "what is held outlasts it");
    });
    task.join().expect("no panic is planned");
}

pub(super) fn hand_down(dice: &mut Dice) {
    let number = dice.roll(1000);
    let task = go(move || {
        tls::set_inheritable("heirloom", Counted::new(number));
        tls::set("private", Counted::new(0));
        let child = go(tls::inherit(|| {
            assert_eq!(number_at("private"), None);
            number_at("heirloom")
        }));
        drop(tls::inherit(|| unreachable!("dropped uncalled")));
        child.join().expect("no panic is planned")
    });
    assert_eq!(task.join().expect("no panic is planned"), Some(number));
}

/// A plain thread has the same storage, and waits for coroutines.
pub(super) fn thread(dice: &mut Dice) {
    let mut inner = dice.split();
    let thread = os::spawn(move || {
        use_storage(&mut inner);
        let number = inner.roll(1000);
        tls::set("number", Counted::new(number));
        let deep = coro::Builder::new().name("deep").stack_size(4 << 20);
        let deep = deep.spawn(|| (depth(1000), os::current().id())).expect("a stack");
        let (depth, worker) = deep.join().expect("no panic is planned");
        assert_eq!(depth, 1000);
        assert_ne!(worker, os::current().id());
        assert_eq!(number_at("number"), Some(number));
    });
    // The player may be a coroutine, whose worker others need.
    coro::blocking(move || thread.join()).expect("no panic is planned");
}

fn depth(n: u64) -> u64 {
    let frame = std::hint::black_box([n; 64]);
    if n == 0 { 0 } else { frame[63] - n + 1 + depth(n - 1) }
}

/// A raw coroutine, which ends, or is dropped suspended or unrun.
pub(super) fn raw_coroutine(dice: &mut Dice) {
    let size = 64 << 10 << dice.roll(6);
    let captured = Counted::new(3);
    let body = |yielder: &Yielder<u64, u64>, first: u64| {
        let captured = captured;
        tls::set("sum", first);
        loop {
            let sum = *tls::get::<u64>("sum").expect("stored");
            match yielder.suspend(sum) {
                0 => return captured,
                number => tls::set("sum", sum + number),
            }
        }
    };
    let resumes = |sums: &Coroutine<u64, u64, Counted>| {
        let mut sum = 0;
        for _ in 0..dice.roll(50) {
            let number = 1 + dice.roll(100);
            sum += number;
            assert_eq!(yielded(sums.resume(number)), Some(sum));
        }
        if sum > 0 && dice.once_in(2) {
            assert!(matches!(sums.resume(0), State::Done(value) if value.0 == 3));
            assert!(sums.is_done());
        }
    };
    raw::with(size, body, resumes).expect("a stack");
}

fn yielded<Y, R>(state: State<Y, R>) -> Option<Y> {
    match state {
        State::Yielded(value) => Some(value),
        State::Done(_) => None,
    }
}

pub(super) fn unwind_raw_coroutine(dice: &mut Dice) {
    let panics = dice.once_in(2);
    let body = |yielder: &Yielder<(), ()>, ()| {
        let _held = Counted::new(0);
        at_exit(|| assert_eq!(number_at("data"), Some(4), "all data is still there"));
        tls::set("data", Counted::new(4));
        yielder.suspend(());
        if panics {
            panic_as_planned();
        }
    };
    let resumes = |raw: &Coroutine<(), (), ()>| {
        assert_eq!(raw.resume(()), State::Yielded(()));
        if dice.once_in(2) {
            let outcome = panic::catch_unwind(panic::AssertUnwindSafe(|| raw.resume(())));
            match outcome {
                Ok(state) => assert!(!panics && state == State::Done(())),
                Err(payload) => assert!(panics && is_planned(&*payload)),
            }
        }
    };
    raw::with(256 << 10, body, resumes).expect("a stack");
}

/// Raw coroutines, each of which makes and resumes the next, and keeps what it stored.
pub(super) fn nest(dice: &mut Dice) {
    fn inside(depth: u64) -> u64 {
        if depth == 0 {
            return 0;
        }
        let body = |yielder: &Yielder<(), ()>, ()| {
            assert_eq!(number_at("depth"), None);
            tls::set("depth", Counted::new(depth));
            yielder.suspend(());
            let below = inside(depth - 1);
            assert_eq!(number_at("depth"), Some(depth));
            below + 1
        };
        let resumes = |next: &Coroutine<(), (), u64>| {
            assert_eq!(next.resume(()), State::Yielded(()));
            match next.resume(()) {
                State::Done(depth) => depth,
                State::Yielded(()) => unreachable!("it suspends once"),
            }
        };
        raw::with(64 << 10, body, resumes).expect("a stack")
    }
    let depth = dice.roll(10);
    assert_eq!(inside(depth), depth);
}
