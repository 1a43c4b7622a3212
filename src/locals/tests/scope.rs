//! Scoped values, and inheritance.

use super::super::shadow::Shadow;
use super::*;

fn open(locals: &Locals, key: u32, value: Noted) -> Shadow {
    locals.swap_in(node(Keyed(key), value))
}

fn close(locals: &Locals, shadow: Shadow) {
    drop(locals.put_back::<Keyed<u32>>(shadow));
}

/// Locals with the keys 0 to 9, so that some lie in the small array and some in the table.
fn filled(log: &Log) -> Rc<Locals> {
    let locals = locals();
    for n in 0..10 {
        set(&locals, n, log.value(n));
    }
    locals
}

#[test]
fn a_scope_restores_value_and_age() {
    let log = Log::default();
    let locals = filled(&log);
    for key in 0..10 {
        let shadow = open(&locals, key, log.value(100 + key));
        assert!(shadow.hides());
        assert_eq!(number(&locals, key), Some(100 + key));
        close(&locals, shadow);
        assert_eq!((number(&locals, key), log.take()), (Some(key), vec![100 + key]));
    }
    locals.cleanup();
    assert_eq!(log.take(), (0..10).rev().collect::<Vec<_>>());
}

#[test]
fn a_scope_over_nothing_leaves_nothing() {
    let (locals, log) = (locals(), Log::default());
    for fill in 0..10 {
        let shadow = open(&locals, 100, log.value(1));
        assert!(!shadow.hides());
        close(&locals, shadow);
        assert_eq!((number(&locals, 100), log.take()), (None, vec![1]));
        set(&locals, fill, ());
    }
    locals.cleanup();
}

#[test]
fn a_scope_restores_whatever_happened() {
    for key in [1, 9, 100] {
        for act in 0..6 {
            let log = Log::default();
            let locals = filled(&log);
            let before = number(&locals, key);
            let shadow = open(&locals, key, log.value(50));
            match act {
                0 => set(&locals, key, log.value(51)),
                1 => assert!(del(&locals, key)),
                2 => locals.reset(),
                3 => locals.unload_contents(),
                4 => drop(take::<Noted>(&locals, key)),
                _ => {
                    del(&locals, key);
                    set(&locals, key, "another type");
                    (200..300).for_each(|n| set(&locals, n, ()));
                }
            }
            close(&locals, shadow);
            assert_eq!(number(&locals, key), before, "key {key}, act {act}");
            locals.cleanup();
            let mut dropped = log.take();
            dropped.sort_unstable();
            let replaced = (act == 0).then_some(51);
            assert_eq!(dropped, (0..10).chain([50]).chain(replaced).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_scoped_value_is_as_free_as_any() {
    let (locals, log) = (locals(), Log::default());
    let shadow = open(&locals, 1, log.value(1));
    let taken = take::<Noted>(&locals, 1).unwrap();
    assert_eq!((taken.number, log.take()), (1, vec![]));
    drop(taken);
    assert_eq!(log.take(), [1]);
    close(&locals, shadow);
    let shadow = open(&locals, 1, log.value(2));
    set(&locals, 1, log.value(3));
    assert_eq!(log.take(), [2]);
    assert!(del(&locals, 1));
    assert_eq!(log.take(), [3]);
    let held = {
        set(&locals, 1, log.value(4));
        held::<Noted>(&locals, 1)
    };
    close(&locals, shadow);
    assert_eq!((number(&locals, 1), log.take()), (None, vec![]));
    drop(held);
    assert_eq!(log.take(), [4]);
    locals.cleanup();
}

#[test]
fn a_scope_may_end_while_its_value_is_being_dropped() {
    #[derive(PartialEq, Eq, Hash)]
    struct Name(String);
    let (locals, log) = (locals(), Log::default());
    let open: Rc<Cell<Option<Shadow>>> = Rc::default();
    let (l, end, captured) = (locals.clone(), open.clone(), log.value(1));
    let close = move || {
        let shadow = end.take().expect("the scope is open");
        drop(l.put_back::<Keyed<Name>>(shadow));
        captured.log.note(captured.number + 1); // still whole
    };
    open.set(Some(locals.swap_in(node(Keyed(Name("scoped".into())), OnDrop(close)))));
    locals.reset();
    assert_eq!(log.take(), [2, 1]);
    assert!(locals.is_empty());
}

#[test]
fn scopes_nest() {
    let log = Log::default();
    let locals = filled(&log);
    let outer = open(&locals, 1, log.value(50));
    let inner = open(&locals, 1, log.value(51));
    assert!(del(&locals, 1));
    let innermost = open(&locals, 1, log.value(52));
    close(&locals, innermost);
    assert_eq!(number(&locals, 1), None);
    close(&locals, inner);
    assert_eq!(number(&locals, 1), Some(50));
    close(&locals, outer);
    assert_eq!(number(&locals, 1), Some(1));
    assert_eq!(log.take(), [51, 52, 50]);
    locals.cleanup();
    assert_eq!(log.take(), (0..10).rev().collect::<Vec<_>>());
}

#[test]
fn a_reset_passes_over_what_is_hidden() {
    let log = Log::default();
    let locals = filled(&log);
    let shadow = open(&locals, 5, log.value(50));
    locals.reset();
    assert_eq!(log.take(), [50, 9, 8, 7, 6, 4, 3, 2, 1, 0]);
    set(&locals, 20, log.value(20));
    close(&locals, shadow);
    assert!(log.take().is_empty());
    locals.cleanup();
    assert_eq!(log.take(), [20, 5]);
}

#[test]
fn a_scope_inside_a_reset_puts_back_what_the_reset_will_drop() {
    let (locals, log) = (locals(), Log::default());
    set(&locals, 1, log.value(1));
    let (l, g) = (locals.clone(), log.clone());
    let scoped = move || {
        let shadow = open(&l, 1, g.value(50));
        close(&l, shadow);
        assert_eq!(number(&l, 1), Some(1));
    };
    set(&locals, 2, OnDrop(scoped));
    locals.reset();
    assert_eq!(log.take(), [50, 1]);
    assert!(locals.is_empty());
}

#[test]
fn a_scope_that_outlasts_cleanup_loses_nothing() {
    for closed in [false, true] {
        let log = Log::default();
        let locals = filled(&log);
        let shadow = open(&locals, 5, log.value(50));
        locals.cleanup();
        assert_eq!(log.take(), [50, 9, 8, 7, 6, 4, 3, 2, 1, 0]);
        if closed {
            locals.close();
        }
        close(&locals, shadow);
        assert_eq!(number(&locals, 5), (!closed).then_some(5));
        locals.cleanup();
        assert_eq!(log.take(), [5]);
    }
}

#[test]
fn a_scope_that_is_refused_drops_its_value_at_once() {
    let (locals, log) = (locals(), Log::default());
    locals.close();
    let shadow = open(&locals, 1, log.value(1));
    assert_eq!(log.take(), [1]);
    assert!(!shadow.hides());
    close(&locals, shadow);
    assert!(locals.is_empty());
}

thread_local!(static BROKEN: Cell<bool> = const { Cell::new(false) });

/// A key that panics on demand.
#[derive(Clone)]
struct Breakable(u32);

impl PartialEq for Breakable {
    fn eq(&self, other: &Breakable) -> bool {
        assert!(!BROKEN.get(), "an Eq that panics");
        self.0 == other.0
    }
}

impl Eq for Breakable {}

impl std::hash::Hash for Breakable {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        assert!(!BROKEN.get(), "a Hash that panics");
        self.0.hash(state);
    }
}

#[test]
fn a_scope_ends_even_if_the_key_breaks() {
    let (locals, log) = (locals(), Log::default());
    // Here the hash cannot be had, so the old value cannot be kept.
    set_any(&locals, Breakable(1), log.value(1));
    let shadow = locals.swap_in(node(Keyed(Breakable(1)), log.value(50)));
    locals.del(&Keyed(Breakable(1)));
    BROKEN.set(true);
    assert_eq!(log.take(), [50]);
    let removed = locals.put_back::<Keyed<Breakable>>(shadow);
    BROKEN.set(false);
    assert!(log.take().is_empty());
    drop(removed);
    assert_eq!(log.take(), [1]);
    assert!(locals.is_empty());
    // Here nobody needs to ask.
    set_any(&locals, Breakable(1), log.value(1));
    let shadow = locals.swap_in(node(Keyed(Breakable(1)), log.value(50)));
    BROKEN.set(true);
    drop(locals.put_back::<Keyed<Breakable>>(shadow));
    BROKEN.set(false);
    assert_eq!(log.take(), [50]);
    locals.cleanup();
    assert_eq!(log.take(), [1]);
}

#[test]
fn a_target_gets_clones_of_what_is_inheritable_now() {
    let (parent, child) = (locals(), locals());
    set_any(&parent, "private", 1u32);
    for n in 0..10u32 {
        parent.set_inheritable(n, n * 10);
    }
    set(&parent, 3, 30u32); // private now
    parent.set_inheritable(4u32, 44u32);
    let shadow = parent.swap_in(node(Keyed(5u32), "hidden"));
    let inherited = parent.snapshot();
    parent.set_inheritable(6u32, 66u32); // too late
    for value in inherited {
        value.install(&child);
    }
    drop(parent.put_back::<Keyed<u32>>(shadow));
    let expected = |n: u32| match n {
        3 | 5 => None,
        4 => Some(44),
        n => Some(n * 10),
    };
    for n in 0..10 {
        assert_eq!(get(&child, n), expected(n));
    }
    assert_eq!(get::<u32>(&child, "private"), None);
    assert_eq!(child.snapshot().len(), 8);
    parent.cleanup();
    child.cleanup();
}

#[test]
fn a_target_drops_in_the_same_order() {
    thread_local!(static LOG: Log = Log::default());
    struct Heirloom(u32);
    impl Clone for Heirloom {
        fn clone(&self) -> Self {
            Heirloom(self.0 + 100)
        }
    }
    impl Drop for Heirloom {
        fn drop(&mut self) {
            LOG.with(|log| log.note(self.0));
        }
    }
    let (parent, child) = (locals(), locals());
    for n in 0..10 {
        parent.set_inheritable(n, Heirloom(n));
    }
    parent.snapshot().into_iter().for_each(|value| value.install(&child));
    drop(parent.snapshot());
    assert_eq!(LOG.with(Log::take), (100..110).collect::<Vec<_>>());
    child.cleanup();
    assert_eq!(LOG.with(Log::take), (100..110).rev().collect::<Vec<_>>());
    parent.cleanup();
}

#[test]
fn a_clone_may_change_the_store_or_panic() {
    thread_local!(static LOCALS: RefCell<Option<Rc<Locals>>> = const { RefCell::new(None) });
    #[derive(Debug, PartialEq)]
    struct Restless(u32);
    impl Clone for Restless {
        fn clone(&self) -> Self {
            let locals = LOCALS.with_borrow(Clone::clone).unwrap();
            locals.reset();
            locals.set_inheritable(self.0 + 100, Restless(self.0));
            assert!(self.0 != 7, "a Clone that panics");
            Restless(self.0)
        }
    }
    let (parent, child) = (locals(), locals());
    LOCALS.set(Some(parent.clone()));
    (0..6u32).for_each(|n| parent.set_inheritable(n, Restless(n)));
    let inherited = parent.snapshot();
    assert_eq!(inherited.len(), 6);
    inherited.into_iter().for_each(|value| value.install(&child));
    for n in 0..6 {
        let held = held::<Restless>(&child, n).unwrap();
        assert_eq!(held.value(), &Restless(n));
    }
    // What is left is what the last clone stored.
    assert_eq!(parent.take(Keyed(105u32)), Some(Restless(5)));
    assert!(parent.is_empty());
    (6..9u32).for_each(|n| parent.set_inheritable(n, Restless(n)));
    assert!(panics(|| parent.snapshot()));
    assert_eq!(parent.take(Keyed(107u32)), Some(Restless(7)));
    assert!(parent.is_empty());
    LOCALS.set(None);
    parent.cleanup();
    child.cleanup();
}
