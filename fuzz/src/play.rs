//! The player: takes steps off the program, tells the model, calls the library, and compares.
//!
//! Each step catches the planned panics that come out of it, so that the program goes on. A panic that
//! is itself a step, and an unwinding of the library's own (a coroutine that is dropped while it is
//! suspended), leave the player.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::OnceLock;

use coro::tls::{self, Data, LocalKey};

use crate::op::{Key, Mood, Op};
use crate::planned::{attempt, panic_if_allowed};
use crate::token::{Handler, Held, Looking, Other, Value, WildKey};
use crate::world::{self, Deeper};

/// What a target adds to the steps that all targets have in common.
#[derive(Clone, Copy)]
pub struct Host {
    /// Suspends whoever runs, where that needs nothing to be passed along.
    pub suspend: fn(),
    /// Takes a step with a raw coroutine.
    pub act: fn(Op),
}

static HOST: OnceLock<Host> = OnceLock::new();

/// Says what the target adds. Called once, before the first program.
pub fn set_host(host: Host) {
    assert!(HOST.set(host).is_ok(), "one target in a process");
}

fn host() -> Host {
    *HOST.get().expect("set by the target's `init`")
}

thread_local! {
    /// What the thread holds beyond the end of whoever stored it.
    static KEPT: RefCell<VecDeque<Held>> = const { RefCell::new(VecDeque::new()) };
}

/// Drops the `Data` that the thread has kept for longest. False: there was none.
pub fn unkeep() -> bool {
    // Taken out before it is dropped: what its `Drop` does may want to keep something.
    // In a thread's last destructors the list is gone, and nothing was on it.
    let oldest = KEPT.try_with(|kept| kept.borrow_mut().pop_front());
    oldest.ok().flatten().is_some_and(|held| {
        attempt(|| drop(held));
        true
    })
}

/// What of the program is played by one function.
pub struct Player<'a> {
    suspend: &'a dyn Fn(),
    /// Dropped when the function is over, before its cleanup.
    held: Vec<Held>,
}

/// Goes on with the program in a callback.
pub fn call_back(steps: u8) {
    Player::new(&host().suspend).few(steps);
}

impl<'a> Player<'a> {
    /// Nothing is played yet.
    pub fn new(suspend: &'a dyn Fn()) -> Player<'a> {
        Player { suspend, held: Vec::new() }
    }

    /// Plays until the program, or this function of it, ends. May panic, as planned, on the way.
    pub fn all(&mut self, panic: fn()) {
        while let Some(op) = world::next() {
            match op {
                Op::End => break,
                Op::Panic => panic(),
                op => self.step(op),
            }
        }
        self.let_go();
    }

    /// Plays so many steps, or fewer; none where too many players are inside one another.
    pub fn few(&mut self, steps: u8) {
        let Some(_deeper) = Deeper::go() else { return };
        for _ in 0..steps {
            match world::next() {
                None | Some(Op::End) => break,
                Some(Op::Panic) => panic_if_allowed(),
                Some(op) => self.step(op),
            }
        }
        self.let_go();
    }

    /// Lets go of what is held, newest first, so that a panic in one `Drop` costs no other.
    fn let_go(&mut self) {
        while let Some(held) = self.held.pop() {
            attempt(|| drop(held));
        }
    }

    fn step(&mut self, op: Op) {
        if world::is_exact() {
            self.tame(op);
            world::with_store(|store| store.settle());
        } else {
            self.wild(op);
        }
        world::check();
    }

    /// The steps that do not depend on what a key is.
    fn common(&mut self, op: Op) {
        match op {
            Op::Release => drop(attempt(|| drop(self.held.pop()))),
            Op::Unkeep => drop(unkeep()),
            Op::Local(which, steps) => self.local(which, steps),
            Op::AtExit(mood) => at_exit(mood, false),
            Op::AtExitExplosive => at_exit(Mood::Calm, true),
            Op::Reset => reset(),
            Op::Unload => unload(),
            Op::Suspend => (self.suspend)(),
            Op::Create(..) | Op::Resume(_) | Op::Drop(_) => (host().act)(op),
            _ => {}
        }
    }

    /// A step with keys that do nothing, of which the model knows what must come out.
    fn tame(&mut self, op: Op) {
        match op {
            Op::Set(key, mood) => set(key, mood, false),
            Op::SetOther(key, mood) => set(key, mood, true),
            Op::SetInheritable(key) => set_inheritable(key),
            Op::Get(key) => audit(key),
            Op::Take(key) => take(key),
            Op::Del(key) => del(key),
            Op::Hold(key) => self.held.extend(hold(key)),
            Op::Keep(key) => KEPT.with_borrow_mut(|kept| kept.extend(hold(key))),
            Op::Scope(key, mood, steps) => self.scope(key, mood, steps),
            Op::Inherit(steps) => self.inherit(steps),
            Op::Audit => Key::all().for_each(audit),
            op => self.common(op),
        }
    }

    #[inline(never)]
    fn scope(&self, key: Key, mood: Mood, steps: u8) {
        let value = Value::new(mood);
        let hidden = world::with_store(|store| store.enter(key, value.0)).expect("exact");
        // Told when the scope's function is over, just before the library takes the value away.
        let leaving = Leaving(Some(hidden));
        let suspend = self.suspend;
        attempt(|| {
            with_key(key, Scope { value, leaving, suspend, steps });
        });
    }

    /// All that is inheritable is calm, and so is what an inherited value replaces, namely its original. So nothing
    /// goes on with the program between two inherited values, and the model may install all at once.
    #[inline(never)]
    fn inherit(&self, steps: u8) {
        let inheritables = world::with_store(|store| store.inheritables()).expect("exact");
        world::take_clones();
        let inheriting = tls::inherit(move || Player::new(&host().suspend).few(steps));
        let clones = world::take_clones();
        assert_eq!(clones.len(), inheritables.len(), "inherit clones each inheritable value once");
        world::with_store_and_held(|store, is_held| {
            for (clone, item) in clones.iter().zip(&inheritables) {
                let replaced = store.set(item.key, *clone, false, true);
                if let Some(old) = replaced.filter(|old| !is_held(*old)) {
                    store.announce(old);
                }
            }
        });
        attempt(inheriting);
    }

    #[inline(never)]
    fn local(&self, which: u8, steps: u8) {
        let key = Key::Local(which);
        let denied = world::with_store(|store| store.denies(key));
        let suspend = self.suspend;
        let outcome = attempt(|| {
            LOCALS[usize::from(which)].try_with(|value| {
                world::looked_at(value.0);
                if world::is_exact() {
                    let found = world::with_store(|store| store.find(key)).flatten();
                    assert_eq!(found.map(|item| item.number), Some(value.0));
                }
                let _looking = Looking::new(value);
                Player::new(suspend).few(steps);
            })
        });
        if let (Some(outcome), Some(denied)) = (outcome, denied) {
            assert_eq!(outcome.is_err(), denied, "a first use is refused after the last round");
        }
        world::with_store(|store| store.hijack_again());
    }

    /// A step with keys that call back. Nothing is promised of what is found, so nothing is compared.
    #[inline(never)]
    fn wild(&mut self, op: Op) {
        let key = |key| WildKey::new(key, wild_mood(&op));
        match op {
            Op::Set(name, mood) => drop(attempt(|| tls::set(key(name), Value::new(mood)))),
            Op::SetOther(name, mood) => {
                attempt(|| tls::set(key(name), Other(Value::new(mood))));
            }
            Op::SetInheritable(name) => {
                attempt(|| tls::set_inheritable(key(name), Value::new(Mood::Plays(1))));
            }
            Op::Get(name) => {
                if let Some(Some(data)) = attempt(|| tls::get::<Value>(key(name))) {
                    world::looked_at(data.0);
                    attempt(|| drop(data));
                }
            }
            Op::Take(name) => {
                if let Some(Some(value)) = attempt(|| tls::take::<Value>(key(name))) {
                    attempt(|| drop(value));
                }
            }
            Op::Del(name) => drop(attempt(|| tls::del(key(name)))),
            Op::Hold(name) => {
                let found = attempt(|| tls::get::<Value>(key(name))).flatten();
                self.held.extend(found.map(Held::new));
            }
            Op::Keep(name) => {
                let found = attempt(|| tls::get::<Value>(key(name))).flatten().map(Held::new);
                KEPT.with_borrow_mut(|kept| kept.extend(found));
            }
            Op::Scope(name, mood, steps) => {
                let suspend = self.suspend;
                attempt(|| {
                    tls::scope(key(name), Value::new(mood), || Player::new(suspend).few(steps));
                });
            }
            Op::Inherit(steps) => {
                let inheriting =
                    attempt(|| tls::inherit(move || Player::new(&host().suspend).few(steps)));
                inheriting.and_then(attempt);
            }
            Op::Audit => {
                for name in Key::all().take(16) {
                    attempt(|| drop(tls::get::<Value>(WildKey::new(name, Mood::Calm))));
                }
            }
            op => self.common(op),
        }
    }
}

impl Drop for Player<'_> {
    fn drop(&mut self) {
        self.let_go();
    }
}

/// What a wild key does. It follows from the step, so that one byte need not say it all.
fn wild_mood(op: &Op) -> Mood {
    let (Op::Set(key, mood) | Op::SetOther(key, mood) | Op::Scope(key, mood, _)) = *op else {
        let (Op::Get(key)
        | Op::Take(key)
        | Op::Del(key)
        | Op::Hold(key)
        | Op::Keep(key)
        | Op::SetInheritable(key)) = *op
        else {
            return Mood::Calm;
        };
        return if matches!(key, Key::Word(_)) { Mood::Plays(1) } else { Mood::Calm };
    };
    match (key, mood) {
        (Key::Word(_), Mood::Calm) => Mood::Plays(1),
        (Key::Word(_), Mood::Panics) => Mood::Panics,
        _ => Mood::Calm,
    }
}

/// A call that needs a key, of whichever type.
trait WithKey {
    type Output;

    fn call<K: tls::Key + Clone + Send>(self, key: K) -> Self::Output;
}

/// Calls `call` with the key that `key` stands for.
fn with_key<C: WithKey>(key: Key, call: C) -> Option<C::Output> {
    match key {
        Key::Number(n) => Some(call.call(u32::from(n))),
        Key::Word(n) => Some(call.call(format!("word {n}"))),
        Key::Local(_) => None,
    }
}

struct Set(Value, bool);

impl WithKey for Set {
    type Output = ();

    #[inline(never)]
    fn call<K: tls::Key + Clone + Send>(self, key: K) {
        if self.1 { tls::set(key, Other(self.0)) } else { tls::set(key, self.0) }
    }
}

struct SetInheritable(Value);

impl WithKey for SetInheritable {
    type Output = ();

    #[inline(never)]
    fn call<K: tls::Key + Clone + Send>(self, key: K) {
        tls::set_inheritable(key, self.0);
    }
}

/// What lookups find: the right type and the wrong one.
struct Get;

impl WithKey for Get {
    type Output = (Option<Data<Value>>, Option<Data<Other>>);

    #[inline(never)]
    fn call<K: tls::Key + Clone + Send>(self, key: K) -> Self::Output {
        (tls::get(key.clone()), tls::get(key))
    }
}

struct Take;

impl WithKey for Take {
    type Output = Option<Value>;

    #[inline(never)]
    fn call<K: tls::Key + Clone + Send>(self, key: K) -> Option<Value> {
        tls::take(key)
    }
}

struct Del;

impl WithKey for Del {
    type Output = bool;

    #[inline(never)]
    fn call<K: tls::Key + Clone + Send>(self, key: K) -> bool {
        tls::del(key)
    }
}

struct Scope<'a> {
    value: Value,
    leaving: Leaving,
    suspend: &'a dyn Fn(),
    steps: u8,
}

impl WithKey for Scope<'_> {
    type Output = ();

    #[inline(never)]
    fn call<K: tls::Key + Clone + Send>(self, key: K) {
        let Scope { value, leaving, suspend, steps } = self;
        tls::scope(key, value, || {
            let _leaving = leaving;
            world::check();
            Player::new(suspend).few(steps);
        });
    }
}

/// Tells the model that a scope ends.
struct Leaving(Option<crate::store::Hidden>);

impl Drop for Leaving {
    fn drop(&mut self) {
        let hidden = self.0.take().expect("dropped once");
        world::with_store_and_held(|store, is_held| {
            if let Some(gone) = store.leave(hidden).filter(|gone| !is_held(*gone)) {
                store.announce(gone);
            }
        });
    }
}

#[inline(never)]
fn set(key: Key, mood: Mood, other: bool) {
    let value = Value::new(mood);
    store(key, value.0, other, false);
    attempt(|| with_key(key, Set(value, other)));
    world::with_store(|store| store.hijack_again());
}

#[inline(never)]
fn set_inheritable(key: Key) {
    let value = Value::new(Mood::Calm);
    store(key, value.0, false, true);
    attempt(|| with_key(key, SetInheritable(value)));
    world::with_store(|store| store.hijack_again());
}

/// Tells the model of a store.
fn store(key: Key, number: u32, other: bool, inheritable: bool) {
    world::with_store_and_held(|store, is_held| {
        let replaced = store.set(key, number, other, inheritable);
        if let Some(old) = replaced.filter(|old| !is_held(*old)) {
            store.announce(old);
        }
    });
}

/// Looks a key up and compares.
#[inline(never)]
fn audit(key: Key) {
    let expected = world::with_store(|store| store.find(key)).flatten();
    let Some((value, other)) = with_key(key, Get) else { return };
    let found = value.as_deref().or_else(|| other.as_deref().map(|other| &other.0));
    assert_eq!(found.map(|value| value.0), expected.map(|item| item.number), "under {key:?}");
    assert_eq!(other.is_some(), expected.is_some_and(|item| item.other), "its type");
    if let Some(value) = found {
        world::looked_at(value.0);
    }
}

#[inline(never)]
fn hold(key: Key) -> Option<Held> {
    let (value, _other) = with_key(key, Get)?;
    value.map(Held::new)
}

#[inline(never)]
fn take(key: Key) {
    let stored = world::with_store(|store| store.find(key)).flatten();
    let due = stored.filter(|item| !item.other && !world::is_held(item.number));
    let taken = with_key(key, Take).flatten();
    assert_eq!(taken.as_ref().map(|value| value.0), due.map(|item| item.number), "of {key:?}");
    if let Some(value) = taken {
        world::with_store(|store| {
            store.remove(value.0);
            store.announce(value.0);
        });
        attempt(|| drop(value));
    }
}

#[inline(never)]
fn del(key: Key) {
    let mut stored = None;
    world::with_store_and_held(|store, is_held| {
        stored = store.find(key);
        if let Some(item) = stored {
            store.remove(item.number);
            if !is_held(item.number) {
                store.announce(item.number);
            }
        }
    });
    let deleted = attempt(|| with_key(key, Del)).flatten();
    if let Some(deleted) = deleted {
        assert_eq!(deleted, stored.is_some(), "of {key:?}");
    }
}

#[inline(never)]
fn at_exit(mood: Mood, explosive: bool) {
    let (handler, number) = Handler::new(mood);
    world::with_store(|store| store.at_exit(number));
    attempt(|| tls::at_exit(move || handler.run(explosive)));
    world::with_store(|store| store.hijack_again());
}

#[inline(never)]
fn reset() {
    world::with_store(|store| store.begin_reset());
    tls::reset();
    world::with_store_and_held(|store, is_held| store.end_reset(is_held));
}

/// `tls::unload`, of a coroutine or of the thread.
#[inline(never)]
pub fn unload() {
    world::with_store(|store| store.begin_unload());
    tls::unload();
    world::with_store_and_held(|store, is_held| store.end_unload(is_held));
    world::rename();
}

coro::local! {
    static FIRST: Value = local_value(0);
    static SECOND: Value = local_value(1);
    static THIRD: Value = local_value(2);
    static FOURTH: Value = local_value(3);
}

static LOCALS: [&LocalKey<Value>; 4] = [&FIRST, &SECOND, &THIRD, &FOURTH];

/// The initialiser of a `local!`.
fn local_value(which: u8) -> Value {
    let wild = !world::is_exact();
    if wild {
        // May initialise the very same one, and then this value replaces that.
        call_back(1);
    }
    let value = Value::new(if which == 0 { Mood::Plays(1) } else { Mood::Calm });
    store(Key::Local(which), value.0, false, false);
    value
}
