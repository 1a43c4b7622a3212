//! What a program has made so far: the stores and their owners, and every token that was ever handed to
//! the library.
//!
//! There is one world at a time. It lies behind a lock because a program may end on another thread than
//! it began on (a thread's cleanup runs in its last destructors), never because two threads use it at
//! once. Nobody holds the lock while the library or a callback runs.
//!
//! An *exact* world follows a [`Store`] for each owner and knows what must be where. A *wild* one, where
//! keys call back and a lookup's outcome is nobody's promise, only counts: every token goes once, and in
//! the end none is left.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use coro::Handle;
use coro::inspect::{self, ExitTarget};
use coro::tls::{self, Id};

use crate::ids;
use crate::op::{Mood, Op, Program};
use crate::store::{Phase, Store};

/// How many players of one owner, in callbacks and scopes, may be inside one another. The library forgets what is refused at a
/// depth of 17, which the count of tokens would take for a leak, and stacks have an end.
const DEEPEST: u32 = 6;

/// What a token stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A value.
    Value,
    /// An exit handler.
    Handler,
    /// Something else that must go once: a key, what a closure has captured.
    Loose,
}

struct Token {
    kind: Kind,
    owner: usize,
    alive: bool,
    held: u32,
    mood: Mood,
}

/// A coroutine, or the thread.
struct Owner {
    store: Store,
    id: Option<Id>,
    /// An address on its stack; 0 for the thread.
    place: usize,
    depth: u32,
    /// Of a task: it ends a moment before whoever joins it says so.
    task: Option<Handle>,
}

struct World {
    exact: bool,
    /// In reverse.
    steps: Vec<Op>,
    tokens: Vec<Token>,
    owners: Vec<Owner>,
    /// Who has the record at this address; 0 is the thread, which has none.
    records: HashMap<usize, usize>,
    /// What the present `inherit` has cloned.
    clones: Vec<u32>,
}

static WORLD: Mutex<Option<World>> = Mutex::new(None);

/// The lock. To be let go before anything of the library is called.
struct Locked(MutexGuard<'static, Option<World>>);

fn world() -> Locked {
    Locked(WORLD.lock().unwrap_or_else(PoisonError::into_inner))
}

impl std::ops::Deref for Locked {
    type Target = World;

    fn deref(&self) -> &World {
        self.0.as_ref().expect("a world was begun")
    }
}

impl std::ops::DerefMut for Locked {
    fn deref_mut(&mut self) -> &mut World {
        self.0.as_mut().expect("a world was begun")
    }
}

impl World {
    fn here(&self, record: usize) -> usize {
        *self.records.get(&record).expect("whoever runs has been introduced")
    }

    /// The store of an owner, and the question whether a value is held.
    fn split(&mut self, owner: usize) -> (&mut Store, impl Fn(u32) -> bool + '_) {
        let tokens = &self.tokens;
        (&mut self.owners[owner].store, |number| tokens[number as usize].held > 0)
    }

    fn close(&mut self, owner: usize) {
        if self.exact && self.owners[owner].store.phase() != Phase::Closed {
            let (store, is_held) = self.split(owner);
            store.close(is_held);
        }
    }
}

fn record() -> usize {
    inspect::record_address().unwrap_or(0)
}

/// Begins a world in which the calling thread is the first owner.
pub fn begin(program: &Program, exact: bool) {
    let mut steps = program.steps.clone();
    steps.reverse();
    let world = World {
        exact,
        steps,
        tokens: Vec::new(),
        owners: Vec::new(),
        records: HashMap::new(),
        clones: Vec::new(),
    };
    *WORLD.lock().unwrap_or_else(PoisonError::into_inner) = Some(world);
    let thread = introduce();
    settle_in(thread);
}

/// Ends the world: nothing may be left.
pub fn end() {
    let world = WORLD.lock().unwrap_or_else(PoisonError::into_inner).take().expect("begun");
    for (number, token) in world.tokens.iter().enumerate() {
        let kind = token.kind;
        assert!(!token.alive, "{kind:?} {number} was leaked");
    }
}

/// The next step of the program.
pub fn next() -> Option<Op> {
    world().steps.pop()
}

/// Whether there is a next step.
pub fn goes_on() -> bool {
    !world().steps.is_empty()
}

/// Whether the model of the stores is followed.
pub fn is_exact() -> bool {
    world().exact
}

/// A new owner, which has not begun.
pub fn introduce() -> usize {
    let mut world = world();
    let owner = Owner { store: Store::default(), id: None, place: 0, depth: 0, task: None };
    world.owners.push(owner);
    world.owners.len() - 1
}

/// The owner begins to run, here.
pub fn settle_in(owner: usize) {
    let here = 0u8;
    let (id, record) = (tls::id(), record());
    let task = coro::current();
    let mut world = world();
    world.owners[owner].task = task;
    world.records.insert(record, owner);
    world.owners[owner].place = if record == 0 { 0 } else { &raw const here as usize };
    world.owners[owner].id = Some(id);
    if record != 0 {
        drop(world);
        ids::claim(id);
    }
}

/// A coroutine has a new id.
pub fn rename() {
    let (id, record) = (tls::id(), record());
    let mut world = world();
    let here = world.here(record);
    world.owners[here].id = Some(id);
    drop(world);
    ids::claim(id);
}

/// The owner's function is over, and with it all that it held.
pub fn end_function() {
    let record = record();
    let mut world = world();
    if world.exact {
        let here = world.here(record);
        world.owners[here].store.end_function();
    }
}

/// The owner's cleanup is over. It will not run again.
pub fn close(owner: usize) {
    let mut world = world();
    world.close(owner);
    world.records.retain(|_, other| *other != owner);
}

/// Runs `f` with the model of the store of whoever calls, in an exact world.
pub fn with_store<R>(f: impl FnOnce(&mut Store) -> R) -> Option<R> {
    let record = record();
    let mut world = world();
    if !world.exact {
        return None;
    }
    let here = world.here(record);
    Some(f(&mut world.owners[here].store))
}

/// As [`with_store`], for what asks whether a value is held.
pub fn with_store_and_held(f: impl FnOnce(&mut Store, &dyn Fn(u32) -> bool)) {
    let record = record();
    let mut world = world();
    if world.exact {
        let here = world.here(record);
        let (store, is_held) = world.split(here);
        f(store, &is_held);
    }
}

/// A new token of whoever calls.
pub fn make(kind: Kind, mood: Mood) -> u32 {
    let record = record();
    let mut world = world();
    let owner = world.here(record);
    make_for(&mut world, owner, kind, mood)
}

/// A new token of `owner`.
pub fn make_of(owner: usize, kind: Kind, mood: Mood) -> u32 {
    make_for(&mut world(), owner, kind, mood)
}

fn make_for(world: &mut World, owner: usize, kind: Kind, mood: Mood) -> u32 {
    world.tokens.push(Token { kind, owner, alive: true, held: 0, mood });
    u32::try_from(world.tokens.len() - 1).expect("a program has an end")
}

/// A token goes: checks that it is alive, and that it is its turn. Gives what it does now.
pub fn goes(number: u32) -> Mood {
    let record = record();
    let mut world = world();
    let here = world.here(record);
    let token = &mut world.tokens[number as usize];
    assert!(token.alive, "{:?} {number} goes twice", token.kind);
    token.alive = false;
    let (kind, mood) = (token.kind, token.mood);
    if world.exact {
        let (store, is_held) = world.split(here);
        match kind {
            Kind::Value => store.value_goes(number, is_held),
            Kind::Handler => store.handler_goes(number),
            Kind::Loose => {}
        }
    }
    mood
}

/// A handler runs: checks that it has not, and that it is its turn. Gives what it does now.
pub fn runs(number: u32) -> Mood {
    let record = record();
    let mut world = world();
    let here = world.here(record);
    let token = &mut world.tokens[number as usize];
    assert!(token.alive, "handler {number} runs twice");
    token.alive = false;
    let mood = token.mood;
    if world.exact {
        world.owners[here].store.handler_runs(number);
    }
    mood
}

/// Notes a clone that was made of a value.
pub fn cloned(number: u32) {
    world().clones.push(number);
}

/// The clones that were made since this was last asked.
pub fn take_clones() -> Vec<u32> {
    std::mem::take(&mut world().clones)
}

/// What a token is going to do.
pub fn mood(number: u32) -> Mood {
    world().tokens[number as usize].mood
}

/// A value is looked at: it must be alive.
pub fn looked_at(number: u32) {
    assert!(world().tokens[number as usize].alive, "value {number} is read after its end");
}

/// Whether a value is held by a `Data`.
pub fn is_held(number: u32) -> bool {
    world().tokens[number as usize].held > 0
}

/// A value has one more holder.
pub fn hold(number: u32) {
    world().tokens[number as usize].held += 1;
}

/// A value has one holder less. The last one drops it, if it is stored no more.
pub fn let_go(number: u32) {
    let record = record();
    let mut world = world();
    let owner = world.tokens[number as usize].owner;
    if world.owners[owner].task.as_ref().is_some_and(Handle::is_finished) {
        // While this one is held: it may be what the owner's cleanup has left.
        world.close(owner);
    }
    let token = &mut world.tokens[number as usize];
    token.held -= 1;
    let orphan = token.held == 0;
    if world.exact && orphan && !world.owners[owner].store.has(number) {
        let here = world.here(record);
        world.owners[here].store.announce(number);
    }
}

/// Counts one player more of whoever calls, until it is dropped.
pub struct Deeper(usize);

impl Deeper {
    /// `None` if there are too many.
    pub fn go() -> Option<Deeper> {
        let record = record();
        let mut world = world();
        let here = world.here(record);
        let owner = &mut world.owners[here];
        (owner.depth < DEEPEST).then(|| {
            owner.depth += 1;
            Deeper(here)
        })
    }
}

impl Drop for Deeper {
    fn drop(&mut self) {
        world().owners[self.0].depth -= 1;
    }
}

/// Checks what holds at every moment for whoever runs, and for all who are suspended.
pub fn check() {
    let on_stack = 0u8;
    let here = &raw const on_stack as usize;
    let id = tls::id();
    let target = inspect::exit_target();
    let record = record();
    match (inspect::stack_bounds(), record) {
        (None, 0) => assert_eq!(target, None, "a thread has no return slot"),
        (Some(bounds), record) => {
            assert!(bounds.contains(&here) && bounds.contains(&record), "{bounds:x?} {record:x}");
            for address in [here, record, bounds.start, bounds.end - 1] {
                assert_eq!(inspect::id_at(address), Some(id), "{address:x} in {bounds:x?}");
            }
        }
        (None, record) => panic!("a record at {record:x} and no stack"),
    }
    let world = world();
    let owner = &world.owners[world.here(record)];
    assert_eq!(owner.id, Some(id), "an id changes with unload alone");
    if world.exact && record != 0 {
        let expected = match (owner.store.phase(), owner.store.hijacked()) {
            (Phase::Closed, _) => None,
            (_, Some(true)) => Some(ExitTarget::Cleanup),
            _ => Some(ExitTarget::Goexit),
        };
        assert_eq!(target, expected, "the return slot of owner {}", world.here(record));
    }
    for other in world.records.values().map(|owner| &world.owners[*owner]) {
        if other.place != 0 {
            assert_eq!(inspect::id_at(other.place), other.id, "the id of a suspended coroutine");
        }
    }
}
