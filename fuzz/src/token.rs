//! What programs store: values, handlers and keys that report to the [`world`], and then do what they
//! are in the mood for.

use std::hash::{Hash, Hasher};

use coro::tls::Data;

use crate::op::{Key, Mood};
use crate::planned;
use crate::play;
use crate::world::{self, Kind};

/// Does what a token is in the mood for, when the library calls it.
fn act(mood: Mood) {
    match mood {
        Mood::Calm => {}
        Mood::Panics => planned::panic_if_allowed(),
        Mood::Plays(steps) => play::call_back(steps),
    }
}

/// A value.
pub struct Value(pub u32);

impl Value {
    /// A new value of whoever calls.
    pub fn new(mood: Mood) -> Value {
        Value(world::make(Kind::Value, mood))
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        act(world::goes(self.0));
    }
}

impl Clone for Value {
    fn clone(&self) -> Value {
        world::looked_at(self.0);
        let clone = Value::new(Mood::Calm);
        world::cloned(clone.0);
        if !world::is_exact() {
            act(world::mood(self.0));
        }
        clone
    }
}

/// A value of another type.
pub struct Other(pub Value);

/// What a coroutine's closure captures, and its body drops before anything else is cleaned up.
pub struct Captured(Value);

impl Captured {
    /// For the coroutine that is this owner.
    pub fn new(owner: usize, mood: Mood) -> Captured {
        Captured(Value(world::make_of(owner, Kind::Value, mood)))
    }
}

impl Drop for Captured {
    fn drop(&mut self) {
        world::with_store(|store| store.announce(self.0.0));
    }
}

/// What tells of an exit handler.
pub struct Handler(u32, bool);

impl Handler {
    /// Of a handler that is about to be registered; its number as well.
    pub fn new(mood: Mood) -> (Handler, u32) {
        let number = world::make(Kind::Handler, mood);
        (Handler(number, false), number)
    }

    /// The handler runs.
    pub fn run(mut self, explosive: bool) {
        self.1 = true;
        let mood = world::runs(self.0);
        world::check();
        if explosive {
            planned::panic_explosively_if_allowed();
        }
        act(mood);
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        if !self.1 {
            act(world::goes(self.0));
        }
    }
}

/// A value that is held beyond the call that found it.
pub struct Held(Data<Value>);

impl Held {
    /// Counts as a holder.
    pub fn new(data: Data<Value>) -> Held {
        world::hold(data.0);
        Held(data)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        world::looked_at(self.0.0);
        world::let_go(self.0.0);
    }
}

/// That a value is being looked at by `LocalKey::with`, which holds it.
pub struct Looking(u32);

impl Looking {
    /// Counts as a holder.
    pub fn new(value: &Value) -> Looking {
        world::hold(value.0);
        Looking(value.0)
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        world::let_go(self.0);
    }
}

/// A key whose `Hash`, `Eq`, `Clone` and `Drop` do something.
pub struct WildKey {
    key: Key,
    mood: Mood,
    token: u32,
}

impl WildKey {
    /// A key that equals every other of the same `key`.
    pub fn new(key: Key, mood: Mood) -> WildKey {
        WildKey { key, mood, token: world::make(Kind::Loose, mood) }
    }
}

impl Hash for WildKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        world::looked_at(self.token);
        act(self.mood);
        // Two of three collide.
        let (Key::Number(n) | Key::Word(n) | Key::Local(n)) = self.key;
        (n / 3).hash(state);
    }
}

impl PartialEq for WildKey {
    fn eq(&self, other: &WildKey) -> bool {
        world::looked_at(self.token);
        world::looked_at(other.token);
        act(self.mood);
        world::looked_at(other.token);
        act(other.mood);
        world::looked_at(self.token);
        self.key == other.key
    }
}

impl Eq for WildKey {}

impl Clone for WildKey {
    fn clone(&self) -> WildKey {
        let clone = WildKey::new(self.key, self.mood);
        act(self.mood);
        clone
    }
}

impl Drop for WildKey {
    fn drop(&mut self) {
        act(world::goes(self.token));
    }
}
