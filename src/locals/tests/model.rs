//! Random programs: once against a model that knows what is stored and in which order it goes, and
//! once with user code that calls back at random, where all that is asked is that nothing is lost,
//! dropped twice, or touched after its end (which a run under AddressSanitizer or Miri sees).

use std::collections::BTreeMap;
use std::hash::Hasher;

use super::super::shadow::{Removed, Shadow};
use super::*;

/// Programs of each kind, and steps of a program.
const PROGRAMS: u64 = if cfg!(miri) { 2 } else { 300 };
const STEPS: u32 = if cfg!(miri) { 40 } else { 300 };

/// Knuth's linear congruential generator; the low bits are poor, so the upper half is used.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as u32 % sides
    }
}

/// Names of three types: two of keys and one of statics.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Called {
    Number(u32),
    Word(u32),
    Static(u32),
}

/// Calls a method with the name that `$called` stands for.
macro_rules! with_name {
    ($called:expr, |$name:ident| $call:expr) => {
        match $called {
            Called::Number(n) => {
                let $name = Keyed(n);
                $call
            }
            Called::Word(n) => {
                let $name = Keyed(format!("key {n}"));
                $call
            }
            Called::Static(n) => {
                let $name = Fixed::of(&PLACES[n as usize]);
                $call
            }
        }
    };
}

/// A value of another type than [`Noted`], with the same effects.
struct Other(Noted);

/// What the model knows of a value.
struct Item {
    called: Called,
    number: u32,
    /// Whether it is an `Other`.
    other: bool,
    /// Whether a scope hides it.
    hidden: bool,
}

struct Scope {
    called: Called,
    /// What the scope hides.
    old: Option<u32>,
    shadow: Shadow,
}

/// The locals, and beside them the model: everything that is stored, oldest first.
struct Game {
    dice: Dice,
    locals: Rc<Locals>,
    log: Log,
    next: u32,
    items: Vec<Item>,
    handlers: Vec<u32>,
    scopes: Vec<Scope>,
    held: BTreeMap<u32, Held<Noted>>,
    /// What should be dropped or run in this step.
    expected: Vec<u32>,
}

impl Game {
    fn new(seed: u64) -> Game {
        Game {
            dice: Dice(seed),
            locals: locals(),
            log: Log::default(),
            next: 0,
            items: Vec::new(),
            handlers: Vec::new(),
            scopes: Vec::new(),
            held: BTreeMap::new(),
            expected: Vec::new(),
        }
    }

    fn number(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    fn name(&mut self) -> Called {
        match self.dice.roll(5) {
            0 | 1 => Called::Number(self.dice.roll(7)),
            2 | 3 => Called::Word(self.dice.roll(7)),
            _ => Called::Static(self.dice.roll(4)),
        }
    }

    fn find(&self, called: Called) -> Option<usize> {
        self.items.iter().position(|item| item.called == called && !item.hidden)
    }

    /// The model's part of removing: what nobody holds is dropped.
    fn lose(&mut self, index: usize) {
        let item = self.items.remove(index);
        if !self.held.contains_key(&item.number) {
            self.expected.push(item.number);
        }
    }

    fn step(&mut self) {
        let called = self.name();
        match self.dice.roll(20) {
            0..=5 => self.set(called),
            6 | 7 => self.del(called),
            8 | 9 => self.take(called),
            10 | 11 => self.hold(called),
            12 => {
                if let Some((number, held)) = self.held.pop_first() {
                    drop(held);
                    if !self.items.iter().any(|item| item.number == number) {
                        self.expected.push(number);
                    }
                }
            }
            13 | 14 => self.open(called),
            15 | 16 => self.close(),
            17 => self.at_exit(),
            18 if self.dice.roll(4) == 0 => self.reset(),
            19 if self.dice.roll(8) == 0 => self.unload(),
            _ => {}
        }
        assert_eq!(self.log.take(), std::mem::take(&mut self.expected));
        for item in &self.items {
            if !item.hidden {
                assert_eq!(self.look(item.called), Some((item.number, item.other)));
            }
        }
        let missing = self.name();
        assert_eq!(self.look(missing).is_some(), self.find(missing).is_some());
    }

    fn look(&self, called: Called) -> Option<(u32, bool)> {
        with_name!(called, |name| {
            let noted = self.locals.get::<_, Noted>(&name).map(|held| held.value().number);
            let other = self.locals.get::<_, Other>(&name).map(|held| held.value().0.number);
            assert!(noted.is_none() || other.is_none());
            noted.map(|number| (number, false)).or(other.map(|number| (number, true)))
        })
    }

    fn set(&mut self, called: Called) {
        let (number, other) = (self.number(), self.dice.roll(4) == 0);
        if let Some(index) = self.find(called) {
            self.lose(index);
        }
        self.items.push(Item { called, number, other, hidden: false });
        let value = self.log.value(number);
        with_name!(called, |name| match other {
            true => self.locals.set(name, Other(value)),
            false => self.locals.set(name, value),
        });
    }

    fn del(&mut self, called: Called) {
        let index = self.find(called);
        assert_eq!(with_name!(called, |name| self.locals.del(&name)), index.is_some());
        if let Some(index) = index {
            self.lose(index);
        }
    }

    fn take(&mut self, called: Called) {
        let taken = with_name!(called, |name| self.locals.take::<_, Noted>(name));
        let index = self.find(called).filter(|&index| {
            let item = &self.items[index];
            !item.other && !self.held.contains_key(&item.number)
        });
        assert_eq!(taken.as_ref().map(|value| value.number), index.map(|i| self.items[i].number));
        drop(taken);
        if let Some(index) = index {
            self.lose(index);
        }
    }

    fn hold(&mut self, called: Called) {
        if let Some(held) = with_name!(called, |name| self.locals.get::<_, Noted>(&name)) {
            self.held.insert(held.value().number, held);
        }
    }

    fn open(&mut self, called: Called) {
        let number = self.number();
        let old = self.find(called).map(|index| {
            self.items[index].hidden = true;
            self.items[index].number
        });
        self.items.push(Item { called, number, other: false, hidden: false });
        let value = self.log.value(number);
        let shadow = with_name!(called, |name| self.locals.swap_in(node(name, value)));
        assert_eq!(shadow.hides(), old.is_some());
        self.scopes.push(Scope { called, old, shadow });
    }

    fn close(&mut self) {
        let Some(Scope { called, old, shadow }) = self.scopes.pop() else { return };
        fn put_back<N: Name>(locals: &Locals, _: &N, shadow: Shadow) -> Removed {
            locals.put_back::<N>(shadow)
        }
        drop(with_name!(called, |name| put_back(&self.locals, &name, shadow)));
        if let Some(index) = self.find(called) {
            self.lose(index);
        }
        if let Some(number) = old {
            let item = self.items.iter_mut().find(|item| item.number == number);
            item.expect("what is hidden stays").hidden = false;
        }
    }

    fn at_exit(&mut self) {
        let number = self.number();
        let (log, captured) = (self.log.clone(), self.log.value(number));
        self.handlers.push(number);
        self.locals.at_exit(move || {
            let captured = captured;
            log.note(captured.number + 1_000_000);
        });
    }

    fn reset(&mut self) {
        self.locals.reset();
        for index in (0..self.items.len()).rev() {
            if !self.items[index].hidden {
                self.lose(index);
            }
        }
    }

    fn unload(&mut self) {
        self.locals.unload_contents();
        self.expected.extend(self.handlers.drain(..).rev());
        let expected = std::mem::take(&mut self.expected);
        for index in (0..self.items.len()).rev() {
            if !self.items[index].hidden {
                self.lose(index);
            }
        }
        self.expected.splice(0..0, expected);
    }

    fn finish(mut self) {
        while !self.scopes.is_empty() {
            self.close();
        }
        assert_eq!(self.log.take(), std::mem::take(&mut self.expected));
        self.locals.cleanup();
        for number in self.handlers.drain(..).rev() {
            self.expected.extend([number + 1_000_000, number]);
        }
        while let Some(last) = self.items.len().checked_sub(1) {
            self.lose(last);
        }
        assert_eq!(self.log.take(), self.expected);
        let held: Vec<u32> = self.held.keys().copied().collect();
        self.held.clear();
        assert_eq!(self.log.take(), held);
        assert!(self.locals.is_empty());
        assert_eq!(self.locals.table.room(), 0);
    }
}

#[test]
fn random_programs_agree_with_the_model() {
    for seed in 0..PROGRAMS {
        let mut game = Game::new(seed);
        (0..STEPS).for_each(|_| game.step());
        game.finish();
    }
}

thread_local! {
    static CHAOS: RefCell<Option<Chaos>> = const { RefCell::new(None) };
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    static CLONES: Cell<u32> = const { Cell::new(0) };
}

struct Chaos {
    locals: Rc<Locals>,
    dice: Dice,
    /// How many values and keys there are.
    living: i64,
}

fn roll(sides: u32) -> u32 {
    CHAOS.with_borrow_mut(|chaos| chaos.as_mut().map_or(0, |chaos| chaos.dice.roll(sides)))
}

fn count(change: i64) {
    CHAOS.with_borrow_mut(|chaos| chaos.as_mut().expect("a program runs").living += change);
}

/// A key and a value whose every method may do anything.
struct Wild(u32, Box<u32>);

impl Wild {
    fn new(number: u32) -> Wild {
        count(1);
        Wild(number, Box::new(number))
    }

    /// Reads what would be freed if we were gone.
    fn check(&self) {
        assert_eq!(self.0, *self.1);
    }
}

impl Drop for Wild {
    fn drop(&mut self) {
        count(-1);
        self.check();
        call_back();
        self.check();
    }
}

impl PartialEq for Wild {
    fn eq(&self, other: &Wild) -> bool {
        call_back();
        self.check();
        other.check();
        self.0 == other.0
    }
}

impl Eq for Wild {}

impl Hash for Wild {
    fn hash<H: Hasher>(&self, state: &mut H) {
        call_back();
        self.check();
        (self.0 / 4).hash(state);
    }
}

impl Clone for Wild {
    fn clone(&self) -> Self {
        call_back();
        Wild::new(self.0)
    }
}

/// Now and then, from inside user code: does something, or panics where that is safe.
fn call_back() {
    if DEPTH.get() >= 4 || roll(6) != 0 {
        return;
    }
    DEPTH.set(DEPTH.get() + 1);
    let outcome = catch_unwind(AssertUnwindSafe(wild_step));
    DEPTH.set(DEPTH.get() - 1);
    if let Err(panic) = outcome
        && !std::thread::panicking()
    {
        std::panic::resume_unwind(panic);
    }
}

fn wild_step() {
    let locals = CHAOS.with_borrow(|chaos| chaos.as_ref().unwrap().locals.clone());
    let key = |range| Keyed(Wild::new(roll(range)));
    match roll(16) {
        0..=3 => locals.set(key(16), Wild::new(0)),
        4 => locals.set(key(16), (Wild::new(1), "another type")),
        5 => locals.set(Fixed::of(&PLACES[roll(4) as usize]), Wild::new(2)),
        6 => drop(locals.del(&key(16))),
        7 => drop(locals.take::<_, Wild>(key(16))),
        8 | 9 => {
            if let Some(held) = locals.get::<_, Wild>(&key(16)) {
                wild_again();
                held.value().check();
            }
        }
        10 => locals.set_inheritable(Wild::new(roll(16)), Wild::new(3)),
        11 => {
            for value in locals.snapshot() {
                value.install(&locals);
            }
        }
        12 | 13 => {
            let shadow = locals.swap_in(node(key(16), Wild::new(4)));
            let inner = catch_unwind(wild_again);
            drop(locals.put_back::<Keyed<Wild>>(shadow));
            drop(inner);
        }
        14 => {
            let captured = Wild::new(5);
            locals.at_exit(move || {
                captured.check();
                wild_again();
            });
        }
        _ => match roll(12) {
            0 => locals.unload_contents(),
            1..=3 => locals.reset(),
            // Without the panic hook, which would fill the screen.
            _ => std::panic::resume_unwind(Box::new("a wild panic")),
        },
    }
}

fn wild_again() {
    if DEPTH.get() < 4 {
        DEPTH.set(DEPTH.get() + 1);
        let outcome = catch_unwind(wild_step);
        DEPTH.set(DEPTH.get() - 1);
        drop(outcome);
    }
}

#[test]
fn wild_programs_lose_nothing_and_drop_nothing_twice() {
    for seed in 0..PROGRAMS {
        let locals = locals();
        let chaos = Chaos { locals: locals.clone(), dice: Dice(seed), living: 0 };
        CHAOS.set(Some(chaos));
        for _ in 0..STEPS {
            drop(catch_unwind(wild_step));
        }
        locals.cleanup();
        assert!(locals.is_empty());
        assert_eq!(CHAOS.take().map(|chaos| chaos.living), Some(0), "seed {seed}");
    }
}
