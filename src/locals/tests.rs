//! What the locals promise, one promise a test. Programs made at random are in `model`, user code
//! that calls back is in `reentry`, the end is in `exit`, and scopes and inheritance are in `scope`.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::rc::Rc;

use super::name::{Fixed, Keyed, Name};
use super::node::Kind;
use super::owner::{Held, Unstored};
use super::{HandlerSlot, Locals, SMALL};

mod exit;
mod model;
mod reentry;
mod scope;

/// Addresses to name values by, as `local!` does.
static PLACES: [u16; 16] = [0; 16];

/// So many that a table grows several times. Miri takes a thousand times as long for each.
const MANY: u32 = if cfg!(miri) { 60 } else { 1000 };

/// What happened, in order.
#[derive(Clone, Default)]
struct Log(Rc<RefCell<Vec<u32>>>);

impl Log {
    fn note(&self, event: u32) {
        self.0.borrow_mut().push(event);
    }

    /// What happened since the last call.
    fn take(&self) -> Vec<u32> {
        self.0.take()
    }

    /// A value that notes `number` when it is dropped.
    fn value(&self, number: u32) -> Noted {
        Noted { number, log: self.clone() }
    }
}

struct Noted {
    number: u32,
    log: Log,
}

impl Drop for Noted {
    fn drop(&mut self) {
        self.log.note(self.number);
    }
}

/// Runs its closure when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Locals that closures can own a part of.
fn locals() -> Rc<Locals> {
    Rc::new(Locals::new())
}

/// As the functions of `tls`, which see to the hijack as well.
impl Locals {
    fn set<N: Name, V: 'static>(&self, name: N, value: V) {
        self.store(name, value, Kind::PRIVATE);
    }

    fn set_inheritable<K, V>(&self, key: K, value: V)
    where
        K: Hash + Eq + Clone + Send + 'static,
        V: Clone + Send + 'static,
    {
        self.store(Keyed(key), value, Kind::INHERITABLE);
    }

    pub(crate) fn at_exit<F: FnOnce() + 'static>(&self, f: F) {
        let mut slot = HandlerSlot::new();
        // SAFETY: L7, the closure goes into its block.
        self.register(unsafe {
            ptr::write(slot.closure(), f);
            slot.filled()
        });
    }
}

fn node<N: Name, V: 'static>(name: N, value: V) -> Unstored<N, V> {
    Unstored::new(name, value, Kind::PRIVATE)
}

// Most tests name values by numbers of one type; the rest use the methods themselves.

fn set(locals: &Locals, key: u32, value: impl Any) {
    locals.set(Keyed(key), value);
}

fn held<V: 'static>(locals: &Locals, key: u32) -> Option<Held<V>> {
    locals.get(&Keyed(key))
}

fn take<V: 'static>(locals: &Locals, key: u32) -> Option<V> {
    locals.take(Keyed(key))
}

fn del(locals: &Locals, key: u32) -> bool {
    locals.del(&Keyed(key))
}

fn set_any<K: Hash + Eq + 'static>(locals: &Locals, key: K, value: impl Any) {
    locals.set(Keyed(key), value);
}

fn get<V: Clone + 'static>(locals: &Locals, key: impl Hash + Eq + 'static) -> Option<V> {
    locals.get::<_, V>(&Keyed(key)).map(|held| held.value().clone())
}

fn number(locals: &Locals, key: u32) -> Option<u32> {
    held::<Noted>(locals, key).map(|held| held.value().number)
}

/// Runs what is expected to panic.
fn panics<T>(f: impl FnOnce() -> T) -> bool {
    catch_unwind(AssertUnwindSafe(f)).is_err()
}

#[test]
fn empty_locals_answer_and_allocate_nothing() {
    let locals = locals();
    assert!(locals.is_empty());
    assert_eq!(get::<u32>(&locals, 1), None);
    assert_eq!(take::<u32>(&locals, 1), None);
    assert!(!del(&locals, 1));
    locals.reset();
    locals.unload_contents();
    locals.cleanup();
    assert!(locals.is_empty());
    assert_eq!(locals.table.room(), 0);
}

#[test]
fn a_key_is_its_type_and_its_value() {
    let locals = locals();
    set_any(&locals, 1u32, "u32");
    set_any(&locals, 1u64, "u64");
    set_any(&locals, "1", "str");
    set_any(&locals, String::from("1"), "String");
    set_any(&locals, (), "unit");
    set_any(&locals, 1i32, "i32");
    set_any(&locals, Some(1u32), "option");
    for _ in 0..2 {
        assert_eq!(get(&locals, 1u32), Some("u32"));
        assert_eq!(get(&locals, 1u64), Some("u64"));
        assert_eq!(get(&locals, "1"), Some("str"));
        assert_eq!(get(&locals, String::from("1")), Some("String"));
        assert_eq!(get(&locals, ()), Some("unit"));
        assert_eq!(get(&locals, 1i32), Some("i32"));
        assert_eq!(get(&locals, Some(1u32)), Some("option"));
        assert_eq!(get::<&str>(&locals, 2u32), None);
        assert_eq!(get::<&str>(&locals, 1u16), None);
    }
    locals.cleanup();
}

#[test]
fn the_wrong_type_is_none_and_changes_nothing() {
    let locals = locals();
    set_any(&locals, "key", 1u32);
    assert_eq!(get::<i32>(&locals, "key"), None);
    assert_eq!(locals.take::<_, i32>(Keyed("key")), None);
    assert_eq!(get(&locals, "key"), Some(1u32));
    set_any(&locals, "key", "now a word");
    assert_eq!(get::<u32>(&locals, "key"), None);
    assert_eq!(get(&locals, "key"), Some("now a word"));
    locals.cleanup();
}

#[test]
fn replacing_reuses_the_node_and_drops_the_old_value() {
    let (locals, log) = (locals(), Log::default());
    set(&locals, 1, log.value(1));
    let place =
        |locals: &Locals| held::<Noted>(locals, 1).map(|held| &raw const *held.value()).unwrap();
    let before = place(&locals);
    set(&locals, 1, log.value(2));
    assert_eq!(log.take(), [1]);
    assert_eq!(place(&locals), before);
    locals.cleanup();
    assert_eq!(log.take(), [2]);
}

#[test]
fn a_held_value_outlives_everything() {
    let (locals, log) = (locals(), Log::default());
    let hold = |number| {
        set(&locals, 1, log.value(number));
        held::<Noted>(&locals, 1).unwrap()
    };
    let replaced = hold(1);
    let deleted = hold(2);
    assert!(del(&locals, 1));
    let reset = hold(3);
    locals.reset();
    let cleaned = hold(4);
    locals.cleanup();
    locals.close();
    assert!(log.take().is_empty());
    for (held, number) in [(replaced, 1), (deleted, 2), (reset, 3), (cleaned, 4)] {
        let clone = Held::clone(&held);
        drop(held);
        assert_eq!((clone.value().number, log.take()), (number, vec![]));
        drop(clone);
        assert_eq!(log.take(), [number]);
    }
}

#[test]
fn take_moves_out_what_nobody_holds() {
    let (locals, log) = (locals(), Log::default());
    set(&locals, 1, log.value(1));
    let held = held::<Noted>(&locals, 1);
    assert!(take::<Noted>(&locals, 1).is_none());
    drop(held);
    let taken = take::<Noted>(&locals, 1).unwrap();
    assert!(locals.is_empty());
    assert!(log.take().is_empty());
    drop(taken);
    assert_eq!(log.take(), [1]);
    assert!(take::<Noted>(&locals, 1).is_none());
}

#[test]
fn take_drops_the_key_and_survives_its_panic() {
    #[derive(PartialEq, Eq, Hash)]
    struct Key;
    thread_local!(static STORED: Cell<bool> = const { Cell::new(false) });
    impl Drop for Key {
        fn drop(&mut self) {
            assert!(!STORED.take(), "dropped");
        }
    }
    let (locals, log) = (locals(), Log::default());
    set_any(&locals, Key, log.value(1));
    STORED.set(true);
    assert!(panics(|| locals.take::<_, Noted>(Keyed(Key))));
    assert_eq!(log.take(), [1]);
    assert!(locals.is_empty());
}

#[test]
fn many_keys_come_and_go() {
    let (locals, log) = (locals(), Log::default());
    for key in 0..MANY {
        set(&locals, key, log.value(key));
    }
    assert_eq!(locals.table.room(), MANY.next_power_of_two() as usize);
    for key in (0..MANY).step_by(3) {
        assert!(del(&locals, key));
    }
    assert_eq!(log.take(), (0..MANY).step_by(3).collect::<Vec<_>>());
    for key in 0..MANY {
        assert_eq!(number(&locals, key), (key % 3 != 0).then_some(key));
    }
    for key in (0..MANY).step_by(3) {
        set(&locals, key, log.value(key));
    }
    for key in 0..MANY {
        assert_eq!(number(&locals, key), Some(key));
    }
    locals.cleanup();
    let (first, rest) = (0..MANY).rev().partition::<Vec<u32>, _>(|key| key % 3 == 0);
    assert_eq!(log.take(), [first, rest].concat());
    assert_eq!(locals.table.room(), 0);
}

#[test]
fn a_table_under_churn_does_not_grow() {
    const CHURN: u32 = if cfg!(miri) { 100 } else { 100_000 };
    let locals = locals();
    for key in 0..CHURN {
        set(&locals, key, key);
        if key >= 10 {
            assert_eq!(locals.take(Keyed(key - 10)), Some(key - 10));
        }
    }
    assert_eq!(locals.table.room(), 16);
    locals.cleanup();
}

/// Names that agree in tag and digest, of two types.
#[derive(PartialEq, Eq)]
struct Left(u32);
#[derive(PartialEq, Eq)]
struct Right(u32);

impl Name for Left {
    fn tag(&self) -> u64 {
        7
    }
    fn digest(&self) -> u64 {
        7
    }
}

impl Name for Right {
    fn tag(&self) -> u64 {
        7
    }
    fn digest(&self) -> u64 {
        7
    }
}

#[test]
fn colliding_tags_and_hashes_are_told_apart() {
    let locals = locals();
    for n in 0..20 {
        locals.set(Left(n), n);
        locals.set(Right(n), n + 100);
    }
    for n in 0..20 {
        let left = locals.get::<_, u32>(&Left(n)).map(|held| *held.value());
        let right = locals.get::<_, u32>(&Right(n)).map(|held| *held.value());
        assert_eq!((left, right), (Some(n), Some(n + 100)));
    }
    for n in (0..20).rev() {
        assert_eq!(locals.take::<_, u32>(Left(n)), Some(n));
        assert!(locals.del(&Right(n)));
        assert!(!locals.del(&Right(n)));
    }
    assert!(locals.is_empty());
    locals.cleanup();
}

#[test]
fn strings_are_equal_by_what_they_say() {
    static TEXT: &str = "ones onetwo three four";
    fn elsewhere(word: &str) -> &'static str {
        &TEXT[TEXT.find(word).unwrap()..][..word.len()]
    }
    // The first ones are told apart in the small array, the others in the table.
    const WORDS: [&str; 7] = ["one", "two", "on", "", "onetwo", "three", "four"];
    let locals = locals();
    for (n, word) in (0..).zip(WORDS) {
        set_any(&locals, word, n);
        set_any(&locals, word.to_owned(), n + 100);
    }
    for (n, word) in (0..).zip(WORDS) {
        assert_eq!((get(&locals, word), get(&locals, elsewhere(word))), (Some(n), Some(n)));
        assert_eq!(get(&locals, word.to_owned()), Some(n + 100));
    }
    // The same place, and another length.
    let longer = elsewhere("ones");
    set_any(&locals, longer, 7);
    assert_eq!((get(&locals, &longer[..3]), get(&locals, longer)), (Some(0), Some(7)));
    assert_eq!(get::<i32>(&locals, &longer[..1]), None);
    assert_eq!(get::<i32>(&locals, String::from("ones")), None);
    locals.cleanup();
}

#[test]
fn fixed_names_and_keys_share_the_store() {
    let locals = locals();
    for (n, place) in (0u32..).zip(&PLACES) {
        locals.set(Fixed::of(place), n);
        set(&locals, n, n + 100);
    }
    for (n, place) in (0u32..).zip(&PLACES) {
        assert_eq!(*locals.get::<_, u32>(&Fixed::of(place)).unwrap().value(), n);
        assert!(locals.get::<_, i32>(&Fixed::of(place)).is_none(), "of another type");
        // SAFETY: L3, under these names there are only values of this type.
        let at_hand = unsafe { locals.get_fixed::<u32>(Fixed::of(place)) };
        // Every other one of the first five names is fixed.
        assert_eq!(at_hand.map(|held| *held.value()), (n < 3).then_some(n));
        assert_eq!(get(&locals, n), Some(n + 100));
    }
    let again = locals.insert(node(Fixed::of(&PLACES[9]), 1)).unwrap();
    assert_eq!(*again.value(), 1);
    locals.cleanup();
    assert_eq!(*again.value(), 1);
}

#[test]
fn odd_layouts() {
    #[derive(PartialEq, Eq, Hash, Clone, Debug)]
    #[repr(align(256))]
    struct Wide(u32);
    let locals = locals();
    for n in 0..SMALL as u32 + 2 {
        set(&locals, n, Wide(n));
        set_any(&locals, Wide(n), ());
        set_any(&locals, (n, Wide(n)), (n, Wide(n)));
    }
    for n in 0..SMALL as u32 + 2 {
        let wide = held::<Wide>(&locals, n).unwrap();
        assert_eq!((&raw const *wide.value()).addr() % 256, 0);
        assert_eq!(wide.value(), &Wide(n));
        assert_eq!(get(&locals, Wide(n)), Some(()));
        assert_eq!(locals.take(Keyed((n, Wide(n)))), Some((n, Wide(n))));
    }
    locals.cleanup();
}
