//! Cleanup, reset, unload, rounds, refusal.

use std::panic::resume_unwind;

use super::super::exit::{NESTED, ROUNDS};
use super::*;

#[test]
fn values_drop_newest_first_and_a_replaced_one_is_new() {
    let (locals, log) = (locals(), Log::default());
    for n in 0..SMALL as u32 * 2 {
        set(&locals, n, log.value(n));
        locals.set(Fixed::of(&PLACES[n as usize]), log.value(n + 100));
    }
    set(&locals, 1, log.value(201)); // in its node
    set(&locals, 2, "another type"); // in a new one
    let held = held::<Noted>(&locals, 3);
    set(&locals, 3, log.value(203)); // in a new one, since the old is held
    drop(held);
    assert_eq!(log.take(), [1, 2, 3]);
    locals.cleanup();
    let mut expected = vec![203, 201];
    for n in (0..SMALL as u32 * 2).rev() {
        expected.push(n + 100);
        expected.extend((!(1..=3).contains(&n)).then_some(n));
    }
    assert_eq!(log.take(), expected);
}

#[test]
fn handlers_run_newest_first_with_all_data_there() {
    let (locals, log) = (locals(), Log::default());
    for n in 1..=3 {
        set(&locals, n, log.value(10 * n));
        let (inner, log) = (locals.clone(), log.clone());
        locals.at_exit(move || {
            assert!((1..=3).all(|key| number(&inner, key) == Some(10 * key)));
            log.note(n);
        });
    }
    locals.cleanup();
    assert_eq!(log.take(), [3, 2, 1, 30, 20, 10]);
    assert!(locals.is_empty());
}

#[test]
fn what_is_registered_during_cleanup_runs_next() {
    let (locals, log) = (locals(), Log::default());
    let note = |n: u32, log: &Log| {
        let log = log.clone();
        move || log.note(n)
    };
    set(&locals, 1, log.value(50));
    let (l, g) = (locals.clone(), log.clone());
    let third = note(3, &log);
    set(
        &locals,
        2,
        OnDrop(move || {
            g.note(40);
            l.at_exit(third.clone());
        }),
    );
    locals.at_exit(note(2, &log));
    let (l, g) = (locals.clone(), log.clone());
    let inner = note(1, &log);
    locals.at_exit(move || {
        g.note(0);
        l.at_exit(inner);
        set(&l, 3, g.value(30));
    });
    locals.cleanup();
    assert_eq!(log.take(), [0, 1, 2, 30, 40, 3, 50]);
}

#[test]
fn panics_in_handlers_and_drops_stop_nothing() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::panic_any(()); // of no size, since it is going to be forgotten
        }
    }
    let (locals, log) = (locals(), Log::default());
    set(&locals, 1, log.value(1));
    set(&locals, 2, OnDrop(|| panic!("a Drop that panics")));
    set(&locals, 3, OnDrop(|| std::panic::panic_any(Bomb)));
    set(&locals, 4, log.value(4));
    let last = log.clone();
    locals.at_exit(move || last.note(5));
    locals.at_exit(|| panic!("a handler that panics"));
    locals.at_exit(|| std::panic::panic_any(Bomb));
    let first = log.clone();
    locals.at_exit(move || first.note(6));
    locals.cleanup();
    assert_eq!(log.take(), [6, 5, 4, 1]);
    assert!(locals.is_empty());
}

#[test]
fn reset_keeps_handlers_and_unload_drops_them_unrun() {
    let (locals, log) = (locals(), Log::default());
    for n in 1..=2 {
        set(&locals, n, log.value(n));
        let (log, captured) = (log.clone(), log.value(10 * n));
        locals.at_exit(move || {
            let _captured = captured;
            log.note(100 * n);
        });
    }
    locals.reset();
    assert_eq!(log.take(), [2, 1]);
    assert!(!locals.is_empty());
    set(&locals, 3, log.value(3));
    locals.unload_contents();
    assert_eq!(log.take(), [20, 10, 3]);
    assert!(locals.is_empty());
    locals.cleanup();
    assert!(log.take().is_empty());
}

#[test]
fn unload_swallows_panics_and_gives_memory_back() {
    let (locals, log) = (locals(), Log::default());
    for n in 0..100 {
        set(&locals, n, log.value(n));
    }
    set(&locals, 100, OnDrop(|| panic!("a Drop that panics")));
    let captured = OnDrop(|| panic!("a captured Drop that panics"));
    locals.at_exit(move || drop(captured));
    locals.unload_contents();
    assert_eq!(log.take(), (0..100).rev().collect::<Vec<_>>());
    assert!(locals.is_empty());
    assert_eq!(locals.table.room(), 0);
}

#[test]
fn what_a_drop_stores_during_reset_stays() {
    let (locals, log) = (locals(), Log::default());
    for n in 0..20 {
        let (l, g) = (locals.clone(), log.clone());
        let store = move || {
            g.note(n);
            set(&l, n, g.value(n + 100));
        };
        set(&locals, n, OnDrop(store));
    }
    locals.reset();
    assert_eq!(log.take(), (0..20).rev().collect::<Vec<_>>());
    assert!((0..20).all(|n| number(&locals, n) == Some(n + 100)));
    locals.cleanup();
    // Stored from 19 down to 0, so 0 is the newest.
    assert_eq!(log.take(), (100..120).collect::<Vec<_>>());
}

#[test]
fn what_is_replaced_during_reset_counts_as_stored_since() {
    let (locals, log) = (locals(), Log::default());
    set(&locals, 1, log.value(1));
    set(&locals, 2, log.value(2));
    let (l, g) = (locals.clone(), log.clone());
    let replace = move || {
        set(&l, 2, g.value(12)); // the node that the reset would drop next
        set(&l, 1, g.value(11));
    };
    set(&locals, 3, OnDrop(replace));
    locals.reset();
    assert_eq!(log.take(), [2, 1]);
    locals.reset();
    assert_eq!(log.take(), [11, 12]);
}

#[test]
fn resets_and_deletions_may_be_nested() {
    let (locals, log) = (locals(), Log::default());
    for n in 0..10 {
        let (l, g) = (locals.clone(), log.clone());
        let act = move || {
            g.note(n);
            del(&l, n.wrapping_sub(1));
            set(&l, n + 100, g.value(n + 100));
            if n % 4 == 0 {
                l.reset();
            }
        };
        set(&locals, n, OnDrop(act));
    }
    locals.reset();
    let mut dropped = log.take();
    assert_eq!(dropped[..2], [9, 8]);
    locals.reset();
    dropped.extend(log.take());
    dropped.sort_unstable();
    assert_eq!(dropped, (0..10).chain(100..110).collect::<Vec<_>>());
    assert!(locals.is_empty());
    locals.cleanup();
}

#[test]
fn a_handler_that_registers_itself_ends_after_sixteen_rounds() {
    fn register(locals: &Rc<Locals>, log: &Log, n: u32) {
        let (inner, log) = (locals.clone(), log.clone());
        locals.at_exit(move || {
            log.note(n);
            register(&inner, &log, n + 1);
        });
    }
    let (locals, log) = (locals(), Log::default());
    register(&locals, &log, 0);
    locals.cleanup();
    assert_eq!(log.take(), (0..=u32::from(ROUNDS)).collect::<Vec<_>>());
    assert!(locals.is_empty());
}

#[test]
fn a_value_replaced_in_its_node_is_of_the_round_that_replaced_it() {
    fn register(locals: &Rc<Locals>, log: &Log, n: u8) {
        let (l, log) = (locals.clone(), log.clone());
        locals.at_exit(move || {
            if n + 1 < ROUNDS {
                return register(&l, &log, n + 1);
            }
            let inner = l.clone();
            let late = move || {
                let log = log.clone();
                inner.at_exit(move || log.note(1));
            };
            let value: Box<dyn Any> = Box::new(OnDrop(late));
            set(&l, 1, value);
        });
    }
    let (locals, log) = (locals(), Log::default());
    let value: Box<dyn Any> = Box::new(());
    set(&locals, 1, value);
    register(&locals, &log, 0);
    locals.cleanup();
    // It was dropped as one of the last round, where its handler was refused.
    assert!(log.take().is_empty());
}

#[test]
fn a_round_may_be_as_wide_as_it_likes() {
    let (locals, log) = (locals(), Log::default());
    let (l, g) = (locals.clone(), log.clone());
    locals.at_exit(move || {
        for n in 0..MANY {
            let g = g.clone();
            l.at_exit(move || g.note(n));
            set(&l, n, 0);
        }
    });
    locals.cleanup();
    assert_eq!(log.take(), (0..MANY).rev().collect::<Vec<_>>());
}

thread_local! {
    static LOCALS: Locals = const { Locals::new() };
    static LIVING: Cell<i32> = const { Cell::new(0) };
    static DROPS: Cell<u32> = const { Cell::new(0) };
}

/// A value that stores another of its kind whenever it is dropped. It owns no memory, so that
/// forgetting one loses none.
struct Phoenix {
    again: fn(Phoenix),
}

impl Phoenix {
    fn new(again: fn(Phoenix)) -> Phoenix {
        LIVING.set(LIVING.get() + 1);
        Phoenix { again }
    }

    fn store(self) {
        LOCALS.with(|locals| set(locals, 0, self));
    }

    fn register(self) {
        LOCALS.with(|locals| locals.at_exit(move || drop(self)));
    }
}

impl Drop for Phoenix {
    fn drop(&mut self) {
        LIVING.set(LIVING.get() - 1);
        DROPS.set(DROPS.get() + 1);
        (self.again)(Phoenix::new(self.again));
    }
}

#[test]
#[cfg_attr(miri, ignore = "what is refused too deep inside is leaked")]
fn a_value_that_stores_itself_ends_too() {
    Phoenix::new(Phoenix::store).store();
    LOCALS.with(Locals::cleanup);
    // One in each round, then one inside the other, and the last one is forgotten.
    assert_eq!(DROPS.take(), u32::from(ROUNDS) + 1 + u32::from(NESTED) + 1);
    assert_eq!(LIVING.take(), 1);
    LOCALS.with(Locals::close);
    drop(Phoenix::new(Phoenix::store));
    assert_eq!(DROPS.take(), 1 + u32::from(NESTED) + 1);
    assert_eq!(LIVING.take(), 1);
    drop(Phoenix::new(Phoenix::register));
    assert_eq!(DROPS.take(), 1 + 2 * u32::from(NESTED) + 1);
    assert_eq!(LIVING.take(), 1);
}

/// What is refused is dropped while nobody holds what is stored under its name.
#[test]
fn a_refused_value_may_take_what_is_there_when_it_is_dropped() {
    let (locals, log) = (locals(), Log::default());
    let place = || Fixed::of(&PLACES[0]);
    type Takes = OnDrop<Box<dyn FnMut()>>;
    let store: [fn(&Locals, Fixed, Takes); 3] = [
        |locals, place, value| locals.set(place, value),
        |locals, place, value| assert!(locals.insert(node(place, value)).is_none()),
        |locals, place, value| drop(locals.put_back::<Fixed>(locals.swap_in(node(place, value)))),
    ];
    for store in store {
        locals.set(place(), log.value(1));
        locals.round.set(ROUNDS + 1);
        let (inside, heard) = (Rc::clone(&locals), log.clone());
        let takes = move || {
            drop(inside.take::<_, Noted>(place()));
            assert_eq!(heard.take(), [1]);
        };
        store(&locals, place(), OnDrop(Box::new(takes)));
        assert!(locals.is_empty());
        locals.round.set(0);
    }
}

#[test]
fn closed_locals_keep_nothing_and_panic_not_of_themselves() {
    let (locals, log) = (locals(), Log::default());
    locals.cleanup();
    locals.close();
    set(&locals, 1, log.value(1));
    assert_eq!(log.take(), [1]);
    locals.set_inheritable(1, 2);
    assert!(locals.insert(node(Fixed::of(&PLACES[0]), log.value(2))).is_none());
    assert_eq!(log.take(), [2]);
    assert_eq!(number(&locals, 1), None);
    assert!(take::<Noted>(&locals, 1).is_none());
    assert!(!del(&locals, 1));
    assert!(locals.snapshot().is_empty());
    let note = log.clone();
    locals.at_exit(move || note.note(3));
    assert_eq!(log.take(), [3]);
    locals.reset();
    locals.unload_contents();
    locals.cleanup();
    assert!(locals.refuses() && locals.is_empty());
    // The user's panics are the caller's, and leave no trace.
    for _ in 0..MANY / 10 {
        assert!(panics(|| locals.at_exit(|| panic!("a handler that panics"))));
        assert!(panics(|| set(&locals, 1, OnDrop(|| panic!("a Drop that panics")))));
    }
    set(&locals, 1, log.value(4));
    assert_eq!(log.take(), [4]);
}

#[test]
fn a_value_and_a_key_may_both_panic_when_dropped() {
    #[derive(PartialEq, Eq, Hash)]
    struct Key;
    impl Drop for Key {
        fn drop(&mut self) {
            resume_unwind(Box::new("key"));
        }
    }
    struct Value;
    impl Drop for Value {
        fn drop(&mut self) {
            resume_unwind(Box::new("value"));
        }
    }
    let locals = Locals::new();
    locals.set(Keyed(Key), Value);
    locals.set(Keyed("other"), 1);
    locals.reset();
    assert!(locals.is_empty());
}
