//! User code that calls back, on the key that is being looked for.

use std::hash::{Hash, Hasher};

use super::*;

/// What the next call of a [`Hooked`] key's `Eq` or `Hash` does.
type Hook = Option<Rc<dyn Fn()>>;

thread_local! {
    static ON_EQ: RefCell<Hook> = const { RefCell::new(None) };
    static ON_HASH: RefCell<Hook> = const { RefCell::new(None) };
    static ASKED: Cell<u32> = const { Cell::new(0) };
}

/// A key whose `Eq` and `Hash` run a hook first. All hashes are equal.
struct Hooked(u32);

impl PartialEq for Hooked {
    fn eq(&self, other: &Hooked) -> bool {
        ASKED.set(ASKED.get() + 1);
        let hook = ON_EQ.with_borrow(Clone::clone);
        hook.inspect(|hook| hook());
        self.0 == other.0
    }
}

impl Eq for Hooked {}

impl Hash for Hooked {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let hook = ON_HASH.with_borrow(Clone::clone);
        hook.inspect(|hook| hook());
        state.write_u8(0);
    }
}

/// Runs `hook` once, in the next `Eq` of a [`Hooked`] key, and then never again.
fn in_eq(hook: impl FnOnce() + 'static) {
    once(&ON_EQ, hook);
}

fn once(place: &'static std::thread::LocalKey<RefCell<Hook>>, hook: impl FnOnce() + 'static) {
    let hook = Cell::new(Some(hook));
    place.set(Some(Rc::new(move || {
        if let Some(hook) = hook.take() {
            place.set(None);
            hook();
        }
    })));
}

/// Locals in which key `Hooked(0)` lies in the small array, or in the table behind another.
fn store(which: Place, log: &Log) -> Rc<Locals> {
    let locals = locals();
    if which == Place::Table {
        (0..SMALL as u32).for_each(|n| set(&locals, n, ()));
        set_any(&locals, Hooked(1), log.value(1));
    }
    set_any(&locals, Hooked(0), log.value(0));
    if which == Place::Table {
        set_any(&locals, Hooked(2), log.value(2));
    }
    locals
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Place {
    Small,
    Table,
}

const PLACES: [Place; 2] = [Place::Small, Place::Table];

fn hooked(locals: &Locals, key: u32) -> Option<u32> {
    locals.get::<_, Noted>(&Keyed(Hooked(key))).map(|held| held.value().number)
}

#[test]
fn eq_deletes_the_key_that_is_looked_for() {
    for which in PLACES {
        let log = Log::default();
        let locals = store(which, &log);
        let l = locals.clone();
        in_eq(move || assert!(l.del(&Keyed(Hooked(0)))));
        assert_eq!(hooked(&locals, 0), None);
        assert_eq!(log.take(), [0]);
        // A `set` stores anew.
        let l = locals.clone();
        set_any(&locals, Hooked(0), log.value(2));
        in_eq(move || assert!(l.del(&Keyed(Hooked(0)))));
        set_any(&locals, Hooked(0), log.value(3));
        assert_eq!((hooked(&locals, 0), log.take()), (Some(3), vec![2]));
        locals.cleanup();
    }
}

/// The last place of the small array is compared, and behind it is no table to go on in.
#[test]
fn eq_in_the_last_place_stores_what_is_looked_for() {
    let log = Log::default();
    let locals = locals();
    (1..SMALL as u32).for_each(|n| set(&locals, n, ()));
    set_any(&locals, Hooked(1), log.value(1));
    let (l, g) = (locals.clone(), log.clone());
    in_eq(move || {
        assert!(del(&l, 1));
        set_any(&l, Hooked(0), g.value(0));
    });
    assert_eq!(hooked(&locals, 0), Some(0));
    locals.cleanup();
    assert_eq!(log.take(), [0, 1]);
}

#[test]
fn eq_replaces_the_key_that_is_looked_for() {
    for which in PLACES {
        let log = Log::default();
        let locals = store(which, &log);
        let (l, g) = (locals.clone(), log.clone());
        in_eq(move || set_any(&l, Hooked(0), g.value(5)));
        assert_eq!(hooked(&locals, 0), Some(5));
        assert_eq!(log.take(), [0]);
        let (l, g) = (locals.clone(), log.clone());
        in_eq(move || set_any(&l, Hooked(0), g.value(6)));
        set_any(&locals, Hooked(0), log.value(7));
        assert_eq!((hooked(&locals, 0), log.take()), (Some(7), vec![5, 6]));
        locals.cleanup();
    }
}

#[test]
fn eq_empties_the_store_or_fills_it() {
    for which in PLACES {
        let log = Log::default();
        let locals = store(which, &log);
        let (l, g) = (locals.clone(), log.clone());
        in_eq(move || {
            for n in 100..200 {
                set_any(&l, Hooked(n), g.value(n));
            }
        });
        assert_eq!(hooked(&locals, 0), Some(0));
        assert_eq!(hooked(&locals, 150), Some(150));
        let l = locals.clone();
        in_eq(move || l.unload_contents());
        assert_eq!(hooked(&locals, 0), None);
        assert!(locals.is_empty());
        let l = locals.clone();
        set_any(&locals, Hooked(0), log.value(0));
        in_eq(move || l.unload_contents());
        assert!(!locals.del(&Keyed(Hooked(0))));
        let l = locals.clone();
        set_any(&locals, Hooked(0), log.value(0));
        in_eq(move || l.unload_contents());
        assert!(locals.take::<_, Noted>(Keyed(Hooked(0))).is_none());
    }
}

#[test]
fn eq_that_panics_leaves_the_store_as_it_was() {
    for which in PLACES {
        let log = Log::default();
        let locals = store(which, &log);
        in_eq(|| panic!("an Eq that panics"));
        assert!(panics(|| hooked(&locals, 0)));
        in_eq(|| panic!("an Eq that panics"));
        assert!(panics(|| set_any(&locals, Hooked(0), log.value(9))));
        assert_eq!(log.take(), [9]);
        in_eq(|| panic!("an Eq that panics"));
        assert!(panics(|| locals.del(&Keyed(Hooked(0)))));
        let l = locals.clone();
        in_eq(move || {
            l.reset();
            panic!("an Eq that resets and panics");
        });
        assert!(panics(|| hooked(&locals, 0)));
        // Nobody counts as a holder any more.
        assert!(log.take().contains(&0));
        assert!(locals.is_empty());
        locals.cleanup();
    }
}

#[test]
fn eq_that_stores_each_time_ends_the_search_after_sixteen() {
    for which in PLACES {
        let log = Log::default();
        let locals = store(which, &log);
        let (l, next) = (locals.clone(), Cell::new(1000u32));
        ASKED.set(0);
        ON_EQ.set(Some(Rc::new(move || {
            set(&l, next.get(), ());
            next.set(next.get() + 1);
        })));
        let found = hooked(&locals, 0);
        assert_eq!(ASKED.get(), super::super::SEARCHES);
        // The answer is taken as it is: right in the small array, where the key is asked first. In
        // the table another key of the same hash may come first.
        assert!(found == Some(0) || which == Place::Table && found.is_none());
        ON_EQ.set(None);
        locals.cleanup();
    }
}

#[test]
fn eq_that_moves_the_key_each_time_makes_it_absent() {
    for which in PLACES {
        let log = Log::default();
        let locals = store(which, &log);
        let (l, busy) = (locals.clone(), Cell::new(false));
        ON_EQ.set(Some(Rc::new(move || {
            if !busy.replace(true) {
                l.del(&Keyed(Hooked(0)));
                set_any(&l, Hooked(0), "moved");
                busy.set(false);
            }
        })));
        // What each attempt finds was deleted while it was compared.
        assert!(!locals.del(&Keyed(Hooked(0))));
        assert_eq!(get::<&str>(&locals, Hooked(0)), None);
        set_any(&locals, Hooked(0), "set");
        ON_EQ.set(None);
        locals.cleanup();
    }
}

#[test]
fn hash_may_store_and_delete_and_panic() {
    let log = Log::default();
    let locals = store(Place::Table, &log);
    let (l, g) = (locals.clone(), log.clone());
    once(&ON_HASH, move || set_any(&l, Hooked(0), g.value(5)));
    assert_eq!(hooked(&locals, 0), Some(5));
    let l = locals.clone();
    once(&ON_HASH, move || l.unload_contents());
    assert_eq!(hooked(&locals, 0), None);
    assert!(locals.is_empty());
    // The hash that is first needed when the small array is full.
    for n in 0..SMALL as u32 {
        set(&locals, n, ());
    }
    let l = locals.clone();
    once(&ON_HASH, move || l.unload_contents());
    set_any(&locals, Hooked(0), log.value(6));
    assert_eq!(hooked(&locals, 0), Some(6));
    log.take();
    for n in 0..SMALL as u32 {
        set(&locals, n, ());
    }
    locals.reset();
    for n in 0..SMALL as u32 {
        set(&locals, n, ());
    }
    log.take();
    once(&ON_HASH, || panic!("a Hash that panics"));
    assert!(panics(|| set_any(&locals, Hooked(7), log.value(7))));
    assert_eq!((hooked(&locals, 7), log.take()), (None, vec![7]));
    locals.cleanup();
}

#[test]
fn hash_that_stores_its_own_key_stores_it_once() {
    for scoped in [false, true] {
        let log = Log::default();
        let locals = locals();
        for n in 0..SMALL as u32 {
            set(&locals, n, ());
        }
        // Needed for the first time when it is known that the key is not there.
        let (l, g) = (locals.clone(), log.clone());
        once(&ON_HASH, move || set_any(&l, Hooked(0), g.value(1)));
        if scoped {
            let shadow = locals.swap_in(node(Keyed(Hooked(0)), log.value(2)));
            assert_eq!((hooked(&locals, 0), log.take()), (Some(2), vec![]));
            drop(locals.put_back::<Keyed<Hooked>>(shadow));
            assert_eq!((hooked(&locals, 0), log.take()), (Some(1), vec![2]));
        } else {
            set_any(&locals, Hooked(0), log.value(2));
            assert_eq!((hooked(&locals, 0), log.take()), (Some(2), vec![1]));
        }
        assert!(locals.del(&Keyed(Hooked(0))));
        assert_eq!(hooked(&locals, 0), None);
        locals.cleanup();
    }
}

#[test]
fn the_drop_of_a_replaced_value_finds_the_new_state() {
    let (locals, log) = (locals(), Log::default());
    for taking in [false, true] {
        let (l, g) = (locals.clone(), log.clone());
        let probe = move || {
            g.note(number(&l, 1).unwrap_or(0));
            if taking {
                drop(take::<Noted>(&l, 1));
            }
        };
        // Of the same type, so that it is replaced in its node.
        let holder: Box<dyn std::any::Any> = Box::new(OnDrop(probe));
        set(&locals, 2, holder);
        set(&locals, 1, log.value(3));
        let nothing: Box<dyn std::any::Any> = Box::new(());
        set(&locals, 2, nothing);
        assert_eq!(log.take(), if taking { vec![3, 3] } else { vec![3] });
        locals.reset();
        log.take();
    }
    let l = locals.clone();
    let again = move || set(&l, 1, "stored by the Drop");
    set(&locals, 1, OnDrop(again));
    set(&locals, 1, "stored by the caller");
    assert_eq!(get(&locals, 1u32), Some("stored by the Drop"));
    locals.cleanup();
}

/// A value of one type, so that it is replaced in its node, with a `Drop` that acts on its own key.
struct Own(Rc<Locals>, u32);

impl Drop for Own {
    fn drop(&mut self) {
        match self.1 {
            0 => {}
            1 => assert_eq!(self.0.take::<_, Own>(Keyed("own")).map(|own| own.1), Some(0)),
            2 => assert!(self.0.del(&Keyed("own"))),
            3 => set_any(&self.0, "own", Own(self.0.clone(), 0)),
            _ => self.0.reset(),
        }
    }
}

#[test]
fn the_drop_of_a_value_replaced_in_its_node_may_do_anything_to_it() {
    for act in 1..5 {
        let locals = locals();
        set_any(&locals, "own", Own(locals.clone(), act));
        set_any(&locals, "own", Own(locals.clone(), 0));
        assert_eq!(locals.is_empty(), act != 3);
        locals.cleanup();
    }
}

#[test]
fn a_panicking_drop_reaches_the_caller_with_the_store_whole() {
    let locals = locals();
    let bomb = || OnDrop(|| panic!("a Drop that panics"));
    set(&locals, 1, bomb());
    assert!(panics(|| set(&locals, 1, "new")));
    assert_eq!(get(&locals, 1u32), Some("new"));
    set(&locals, 1, bomb());
    assert!(panics(|| del(&locals, 1)));
    assert!(locals.is_empty());
    locals.cleanup();
}

#[test]
fn what_is_being_dropped_is_gone() {
    let (locals, log) = (locals(), Log::default());
    let (l, g) = (locals.clone(), log.clone());
    let look = move || g.note(u32::from(del(&l, 1)));
    set(&locals, 1, OnDrop(look));
    assert!(del(&locals, 1));
    assert_eq!(log.take(), [0]);
}
