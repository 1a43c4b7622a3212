//! What must happen, without any of it: plain lists in which the oldest stands first.
//!
//! A function that gives an `Err` says that a panic leaves the function that it stands for.

use std::collections::HashSet;

use coro::tls::Id;

use super::coroutine::Event;
use super::{Act, Ended, Key, Order};

/// A panic of an act.
struct Panicked;

type Outcome = Result<(), Panicked>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Name {
    Keyed(Key),
    Static(u8),
}

/// A value by its number, and what it does when it is dropped.
#[derive(Clone, Copy)]
struct Value {
    number: u32,
    act: Act,
}

/// Something that is stored.
struct Item {
    name: Name,
    value: Value,
    /// Whether the value is of another type.
    other: bool,
    inheritable: bool,
    /// Whether a scope hides it.
    hidden: bool,
    /// Which storing it was: grows when the value is replaced.
    serial: u32,
}

enum Level {
    Scope {
        key: Key,
        /// The serial of what is hidden.
        hides: Option<u32>,
    },
    Catch,
}

/// What one coroutine has.
#[derive(Default)]
pub(crate) struct Sibling {
    items: Vec<Item>,
    handlers: Vec<Value>,
    levels: Vec<Level>,
    held: Vec<Value>,
    armed: bool,
    cleaning: bool,
    /// `None` where it is not known yet.
    id: Option<Id>,
}

/// What was wrapped for an heir.
pub(crate) struct Clones(Vec<(Key, Value)>);

/// What a report must say.
#[derive(Default)]
pub(crate) struct Expected {
    pub(crate) found: Option<u32>,
    pub(crate) panicked: bool,
    pub(crate) ended: Option<Ended>,
}

impl Expected {
    fn after(outcome: Outcome) -> Expected {
        Expected { panicked: outcome.is_err(), ..Expected::default() }
    }

    fn found(found: Option<u32>) -> Expected {
        Expected { found, ..Expected::default() }
    }
}

/// What all of a program have in common.
#[derive(Default)]
pub(crate) struct Model {
    log: Vec<Event>,
    next: u32,
    serial: u32,
    dropped: HashSet<u32>,
    ids: HashSet<Id>,
}

impl Sibling {
    pub(crate) fn is_armed(&self) -> bool {
        self.armed
    }

    fn visible(&self, name: Name) -> Option<usize> {
        self.items.iter().position(|item| item.name == name && !item.hidden)
    }

    fn look(&self, key: Key) -> Option<Value> {
        let item = &self.items[self.visible(Name::Keyed(key))?];
        (!item.other).then_some(item.value)
    }

    fn is_held(&self, number: u32) -> bool {
        self.held.iter().any(|value| value.number == number)
    }

    fn is_empty(&self) -> bool {
        self.items.is_empty() && self.handlers.is_empty()
    }

    fn arm(&mut self) {
        self.armed |= !self.cleaning;
    }
}

impl Model {
    pub(crate) fn take_log(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.log)
    }

    /// An id stays until `unload`, and is nobody else's, ever.
    pub(crate) fn check_id(&mut self, sibling: &mut Sibling, id: Id) {
        match sibling.id {
            Some(known) => assert_eq!(id, known),
            None => assert!(self.ids.insert(id), "{id} was somebody else's"),
        }
        sibling.id = Some(id);
    }

    pub(crate) fn check_everything_ended(&self) {
        assert_eq!(self.dropped.len(), self.next as usize);
    }

    fn value(&mut self, act: Act) -> Value {
        self.next += 1;
        Value { number: self.next - 1, act }
    }

    fn dropped(&mut self, number: u32) {
        assert!(self.dropped.insert(number), "the model drops {number} twice");
        self.log.push(Event::Dropped(number));
    }

    /// A value has left the store, and goes unless it is held.
    fn drop_value(&mut self, of: &mut Sibling, value: Value) -> Outcome {
        if of.is_held(value.number) {
            return Ok(());
        }
        self.dropped(value.number);
        self.perform(of, value.act)
    }

    fn perform(&mut self, of: &mut Sibling, act: Act) -> Outcome {
        match act {
            Act::Nothing | Act::Yield => {}
            Act::Panic => return Err(Panicked),
            Act::Look(key) => self.log.push(Event::Saw(of.look(key).map(|value| value.number))),
            Act::Del(key) => return self.del(of, Name::Keyed(key)).1,
            Act::Reset => self.reset(of),
            Act::Unload => self.unload(of),
            Act::Set(key, tame) => {
                let value = self.value(tame.into());
                return self.store(of, Name::Keyed(key), value, false, false);
            }
            Act::AtExit(tame) => self.at_exit(of, tame.into()),
        }
        Ok(())
    }

    fn push(&mut self, of: &mut Sibling, name: Name, value: Value, other: bool, inheritable: bool) {
        self.serial += 1;
        let serial = self.serial;
        of.items.push(Item { name, value, other, inheritable, hidden: false, serial });
    }

    fn store(
        &mut self,
        of: &mut Sibling,
        name: Name,
        value: Value,
        other: bool,
        inheritable: bool,
    ) -> Outcome {
        of.arm();
        let old = of.visible(name).map(|index| of.items.remove(index));
        self.push(of, name, value, other, inheritable);
        old.map_or(Ok(()), |old| self.drop_value(of, old.value))
    }

    fn local(&mut self, of: &mut Sibling, name: Name, value: Value) -> Outcome {
        match of.visible(name) {
            // It is the content that is replaced, and the local stays as old as it is.
            Some(index) => {
                let old = std::mem::replace(&mut of.items[index].value, value);
                self.drop_value(of, old)
            }
            None => self.store(of, name, value, false, false),
        }
    }

    fn del(&mut self, of: &mut Sibling, name: Name) -> (bool, Outcome) {
        match of.visible(name) {
            Some(index) => {
                let gone = of.items.remove(index);
                (true, self.drop_value(of, gone.value))
            }
            None => (false, Ok(())),
        }
    }

    fn at_exit(&mut self, of: &mut Sibling, act: Act) {
        of.arm();
        let handler = self.value(act);
        of.handlers.push(handler);
    }

    /// Newest first; what is stored meanwhile stays.
    fn reset(&mut self, of: &mut Sibling) {
        let there = of.items.iter().rev().filter(|item| !item.hidden);
        let there: Vec<u32> = there.map(|item| item.serial).collect();
        for serial in there {
            if let Some(index) = of.items.iter().position(|item| item.serial == serial) {
                let gone = of.items.remove(index);
                let _ = self.drop_value(of, gone.value);
            }
        }
    }

    fn unload(&mut self, of: &mut Sibling) {
        for handler in std::mem::take(&mut of.handlers).into_iter().rev() {
            self.dropped(handler.number);
        }
        self.reset(of);
        of.armed &= !of.is_empty();
        of.id = None;
    }

    fn open(&mut self, of: &mut Sibling, key: Key, value: Value) {
        of.arm();
        let old = of.visible(Name::Keyed(key));
        let hides = old.map(|index| of.items[index].serial);
        if let Some(index) = old {
            of.items[index].hidden = true;
        }
        self.push(of, Name::Keyed(key), value, false, false);
        of.levels.push(Level::Scope { key, hides });
    }

    /// The end of a scope: what is there goes, what was there before comes back, as old as it was.
    fn leave(&mut self, of: &mut Sibling, key: Key, hides: Option<u32>) -> Outcome {
        let gone = of.visible(Name::Keyed(key)).map(|index| of.items.remove(index));
        if let Some(serial) = hides {
            of.arm();
            let old = of.items.iter_mut().find(|item| item.serial == serial);
            old.expect("nothing reaches what is hidden").hidden = false;
        }
        gone.map_or(Ok(()), |gone| self.drop_value(of, gone.value))
    }

    fn close(&mut self, of: &mut Sibling) -> Outcome {
        match of.levels.pop() {
            Some(Level::Scope { key, hides }) => self.leave(of, key, hides),
            Some(Level::Catch) | None => Ok(()),
        }
    }

    fn release(&mut self, of: &mut Sibling) -> Option<u32> {
        let value = (!of.held.is_empty()).then(|| of.held.remove(0))?;
        if !of.items.iter().any(|item| item.value.number == value.number) {
            // Only calm values are held.
            let _ = self.drop_value(of, value);
        }
        Some(value.number)
    }

    pub(crate) fn inherit(&mut self, of: &mut Sibling) -> Clones {
        let mut clones = Vec::new();
        for item in of.items.iter().filter(|item| item.inheritable && !item.hidden) {
            let Name::Keyed(key) = item.name else { unreachable!("a local is not inheritable") };
            let clone = self.value(Act::Nothing);
            self.log.push(Event::Cloned(item.value.number, clone.number));
            clones.push((key, clone));
        }
        Clones(clones)
    }

    pub(crate) fn install(&mut self, of: &mut Sibling, clones: Clones) -> Expected {
        let mut outcome = Ok(());
        for (key, clone) in clones.0 {
            if outcome.is_ok() {
                outcome = self.store(of, Name::Keyed(key), clone, false, true);
            } else {
                self.dropped(clone.number);
            }
        }
        Expected::after(outcome)
    }

    pub(crate) fn disown(&mut self, clones: Clones) {
        clones.0.iter().for_each(|(_, clone)| self.dropped(clone.number));
    }

    pub(crate) fn order(&mut self, of: &mut Sibling, order: Order) -> Expected {
        match order {
            Order::Set(key, act) => {
                let value = self.value(act);
                Expected::after(self.store(of, Name::Keyed(key), value, false, false))
            }
            Order::SetOther(key) => {
                let value = self.value(Act::Nothing);
                Expected::after(self.store(of, Name::Keyed(key), value, true, false))
            }
            Order::SetInheritable(key, act) => {
                let value = self.value(act);
                Expected::after(self.store(of, Name::Keyed(key), value, false, true))
            }
            Order::Local(number, act) => {
                let value = self.value(act);
                Expected::after(self.local(of, Name::Static(number), value))
            }
            Order::Get(key) => Expected::found(of.look(key).map(|value| value.number)),
            Order::Hold(key) => {
                let calm = |value: &Value| matches!(value.act, Act::Nothing | Act::Yield);
                let value = of.look(key).filter(calm);
                of.held.extend(value);
                Expected::found(value.map(|value| value.number))
            }
            Order::Release => Expected::found(self.release(of)),
            Order::Take(key) => {
                let Some(value) = of.look(key).filter(|value| !of.is_held(value.number)) else {
                    return Expected::default();
                };
                let (_, outcome) = self.del(of, Name::Keyed(key));
                Expected { found: Some(value.number), ..Expected::after(outcome) }
            }
            Order::Del(key) => match self.del(of, Name::Keyed(key)) {
                (deleted, Ok(())) => Expected::found(deleted.then_some(0)),
                (_, outcome) => Expected::after(outcome),
            },
            Order::Reset => {
                self.reset(of);
                Expected::default()
            }
            Order::Unload => {
                self.unload(of);
                Expected::default()
            }
            Order::AtExit(act) => {
                self.at_exit(of, act);
                Expected::default()
            }
            Order::Scope(key, act) => {
                let value = self.value(act);
                self.open(of, key, value);
                Expected::default()
            }
            Order::Catch => {
                of.levels.push(Level::Catch);
                Expected::default()
            }
            Order::Close => Expected::after(self.close(of)),
            Order::Panic => self.panic(of),
            Order::Finish => {
                while !of.levels.is_empty() {
                    let _ = self.close(of);
                }
                self.end(of);
                Expected { ended: Some(Ended::Returned), ..Expected::default() }
            }
            Order::Inherit | Order::Install => unreachable!("they have functions of their own"),
        }
    }

    fn panic(&mut self, of: &mut Sibling) -> Expected {
        while let Some(level) = of.levels.last() {
            if let Level::Catch = level {
                of.levels.pop();
                return Expected { panicked: true, ..Expected::default() };
            }
            let _ = self.close(of);
        }
        self.end(of);
        Expected { ended: Some(Ended::Panicked), ..Expected::default() }
    }

    /// It is cancelled, or dropped.
    pub(crate) fn unwind(&mut self, of: &mut Sibling) {
        while !of.levels.is_empty() {
            let _ = self.close(of);
        }
        self.end(of);
    }

    /// The body's own values go, and then cleanup runs, if it was asked for.
    fn end(&mut self, of: &mut Sibling) {
        while self.release(of).is_some() {}
        assert!(of.armed || of.is_empty());
        of.cleaning = true;
        loop {
            if let Some(handler) = of.handlers.pop() {
                self.log.push(Event::Ran(handler.number));
                let _ = self.perform(of, handler.act);
                self.dropped(handler.number);
            } else if let Some(newest) = of.items.pop() {
                let _ = self.drop_value(of, newest.value);
            } else {
                break;
            }
        }
    }
}
