//! The plain model of one store: what a coroutine or a thread has stored, and what may go next.
//!
//! Two kinds of calls change it. The player says what it is about to do (`set`, `reset`, ..), and the
//! tokens say what the library does in turn: a value is dropped, a handler runs or is dropped unrun. For
//! the latter the model has only one question, whether exactly this was due now:
//!
//! ```text
//!   due next                         because
//!   ---------------------------------------------------------------------------
//!   announced                        a step replaced or removed it, or storing it was refused
//!   newest of the doomed handlers    `unload` is under way
//!   newest of the targets            `reset` is under way
//!   newest handler; if there is      cleanup is under way
//!     none, the newest value
//! ```
//!
//! A value that somebody holds leaves the store without being dropped; it is announced when the last
//! holder lets go.

use crate::op::Key;

/// The last round of cleanup in which storing is allowed.
const ROUNDS: u8 = 16;

/// A value that is stored.
#[derive(Clone, Copy, Debug)]
pub struct Item {
    /// Under this key.
    pub key: Key,
    /// The token's number.
    pub number: u32,
    /// Whether it is of the other type.
    pub other: bool,
    /// Whether `inherit` clones it.
    pub inheritable: bool,
    /// Whether a scope hides it.
    hidden: bool,
    round: u8,
}

/// How far the coroutine, or the thread, has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Its function runs, or has not begun.
    Running,
    /// Its function is over; handlers run and values go.
    Cleaning,
    /// All is over.
    Closed,
}

/// What a scope needs to know at its end.
#[must_use]
pub struct Hidden {
    key: Key,
    number: Option<u32>,
    refused: bool,
}

/// A call that is under way and drops one thing after another.
#[derive(Debug)]
enum Call {
    /// `unload`, with the handlers that are still to go, oldest first.
    Unload(Vec<u32>),
    /// `reset`, or `unload` when the handlers are gone.
    Reset,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Store {
    /// Oldest first.
    items: Vec<Item>,
    /// Oldest first; each with its round.
    handlers: Vec<(u32, u8)>,
    /// Whether something was stored since the beginning or the last `unload`.
    hijacked: bool,
    phase: Phase,
    round: u8,
    announced: Vec<u32>,
    /// Calls under way, the innermost last.
    calls: Vec<Call>,
    /// What `reset` is still to drop. One list for all calls of it: one that is inside another drains the
    /// store for both.
    targets: Vec<u32>,
}

impl Default for Store {
    fn default() -> Self {
        Store {
            items: Vec::new(),
            handlers: Vec::new(),
            hijacked: false,
            phase: Phase::Running,
            round: 0,
            announced: Vec::new(),
            calls: Vec::new(),
            targets: Vec::new(),
        }
    }
}

impl Store {
    /// Whether the return address should name `cleanup`; `None` when the function is over.
    pub fn hijacked(&self) -> Option<bool> {
        (self.phase == Phase::Running).then_some(self.hijacked)
    }

    /// How far the owner has come.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The value that a lookup finds.
    pub fn find(&self, key: Key) -> Option<Item> {
        self.items.iter().find(|item| item.key == key && !item.hidden).copied()
    }

    /// Whether the value is in the store, hidden or not.
    pub fn has(&self, number: u32) -> bool {
        self.items.iter().any(|item| item.number == number)
    }

    /// What `inherit` is about to clone, oldest first.
    pub fn inheritables(&self) -> Vec<Item> {
        self.items.iter().filter(|item| item.inheritable && !item.hidden).copied().collect()
    }

    /// Something is about to be stored.
    pub fn hijack(&mut self) {
        if self.phase == Phase::Running {
            self.hijacked = true;
        }
    }

    /// Something was stored, unless user code has removed it since.
    pub fn hijack_again(&mut self) {
        if !(self.items.is_empty() && self.handlers.is_empty()) {
            self.hijack();
        }
    }

    fn refuses(&self) -> bool {
        self.phase == Phase::Closed || self.round > ROUNDS
    }

    /// Whether a first use of a `local!` is refused.
    pub fn denies(&self, key: Key) -> bool {
        self.refuses() && self.find(key).is_none()
    }

    /// Stores a value as the newest; gives what it replaced, which is no longer stored.
    pub fn set(&mut self, key: Key, number: u32, other: bool, inheritable: bool) -> Option<u32> {
        self.hijack();
        if self.refuses() {
            self.announce(number);
            return None;
        }
        let replaced = self.find(key).map(|old| old.number);
        if let Some(old) = replaced {
            self.remove(old);
        }
        let round = self.round;
        self.items.push(Item { key, number, other, inheritable, hidden: false, round });
        replaced
    }

    /// Takes a value out of the store.
    pub fn remove(&mut self, number: u32) {
        self.items.retain(|item| item.number != number);
    }

    /// Registers a handler as the newest.
    pub fn at_exit(&mut self, number: u32) {
        self.hijack();
        if self.refuses() {
            return self.announce(number);
        }
        self.handlers.push((number, self.round));
    }

    /// Begins a scope.
    pub fn enter(&mut self, key: Key, number: u32) -> Hidden {
        self.hijack();
        if self.refuses() {
            self.announce(number);
            return Hidden { key, number: None, refused: true };
        }
        let old = self.items.iter_mut().find(|item| item.key == key && !item.hidden);
        let hidden = Hidden { key, number: old.as_ref().map(|old| old.number), refused: false };
        if let Some(old) = old {
            old.hidden = true;
        }
        let round = self.round;
        self.items.push(Item {
            key,
            number,
            other: false,
            inheritable: false,
            hidden: false,
            round,
        });
        hidden
    }

    /// Ends a scope; gives what was stored last in it, which no longer is.
    pub fn leave(&mut self, hidden: Hidden) -> Option<u32> {
        if hidden.refused {
            return None;
        }
        let now = self.find(hidden.key).map(|now| now.number);
        if let Some(now) = now {
            self.remove(now);
        }
        if let Some(old) = hidden.number {
            self.hijack();
            let old = self.items.iter_mut().find(|item| item.number == old);
            old.expect("what a scope hides stays in the store").hidden = false;
        }
        now
    }

    /// Says that this token is the next to be dropped, or one of the next.
    pub fn announce(&mut self, number: u32) {
        self.announced.push(number);
    }

    /// Begins a `reset`.
    pub fn begin_reset(&mut self) {
        self.calls.push(Call::Reset);
        self.aim();
    }

    fn aim(&mut self) {
        let shown = self.items.iter().filter(|item| !item.hidden);
        self.targets = shown.map(|item| item.number).collect();
    }

    /// Ends a `reset`. `is_held` tells of a value whether it lives on.
    pub fn end_reset(&mut self, is_held: impl Fn(u32) -> bool) {
        assert!(matches!(self.calls.pop(), Some(Call::Reset)), "begun");
        for target in std::mem::take(&mut self.targets) {
            if self.has(target) {
                assert!(is_held(target), "reset has left value {target}");
                self.remove(target);
            }
        }
    }

    /// Begins an `unload`, whose first half this is. The second is a `reset`, which begins when all the
    /// handlers are gone, and that nobody tells us.
    pub fn begin_unload(&mut self) {
        let doomed = self.handlers.drain(..).map(|(number, _)| number).collect();
        self.calls.push(Call::Unload(doomed));
    }

    /// Ends an `unload`.
    pub fn end_unload(&mut self, is_held: impl Fn(u32) -> bool) {
        self.begin_second_half();
        self.end_reset(is_held);
        // During cleanup nothing is restored: cleanup drains what is stored meanwhile by itself.
        if self.phase == Phase::Running && self.items.is_empty() && self.handlers.is_empty() {
            self.hijacked = false;
        }
    }

    /// To be called when a value goes, or when the `unload` is over.
    fn begin_second_half(&mut self) {
        if let Some(call @ Call::Unload(_)) = self.calls.last_mut() {
            let Call::Unload(doomed) = std::mem::replace(call, Call::Reset) else { unreachable!() };
            assert!(doomed.is_empty(), "unload has left the handlers {doomed:?}");
            self.aim();
        }
    }

    /// The owner's function is over.
    pub fn end_function(&mut self) {
        assert_eq!(self.phase, Phase::Running, "a function ends once");
        self.phase = Phase::Cleaning;
    }

    /// The owner's cleanup is over.
    pub fn close(&mut self, is_held: impl Fn(u32) -> bool) {
        assert_ne!(self.phase, Phase::Closed, "cleanup is over once");
        assert!(self.handlers.is_empty(), "handlers were not run: {:?}", self.handlers);
        for item in self.items.drain(..) {
            assert!(is_held(item.number), "cleanup has left value {}", item.number);
        }
        assert!(self.announced.is_empty(), "not dropped: {:?}", self.announced);
        self.phase = Phase::Closed;
    }

    /// Nothing that a step has announced may be left behind it.
    pub fn settle(&self) {
        assert!(self.announced.is_empty(), "not dropped: {:?}", self.announced);
    }

    /// A handler runs: it must be the newest, in cleanup.
    pub fn handler_runs(&mut self, number: u32) {
        assert_eq!(self.phase, Phase::Cleaning, "handler {number} runs");
        assert!(self.hijacked, "handler {number} runs where nothing is hijacked");
        let (newest, round) = self.handlers.pop().expect("a handler runs once");
        assert_eq!(newest, number, "handlers run newest first");
        self.round = round + 1;
    }

    /// A handler is dropped unrun.
    pub fn handler_goes(&mut self, number: u32) {
        if self.take_announced(number) {
            return;
        }
        let Some(Call::Unload(doomed)) = self.calls.last_mut() else {
            panic!("handler {number} is dropped unrun");
        };
        assert_eq!(doomed.pop(), Some(number), "handlers are dropped newest first");
    }

    /// A value is dropped.
    pub fn value_goes(&mut self, number: u32, is_held: impl Fn(u32) -> bool) {
        if self.take_announced(number) {
            return;
        }
        self.begin_second_half();
        if let Some(Call::Reset) = self.calls.last() {
            return self.target_goes(number, is_held);
        }
        assert_eq!(self.phase, Phase::Cleaning, "value {number} is dropped");
        assert!(self.hijacked, "value {number} is dropped where nothing is hijacked");
        assert!(self.handlers.is_empty(), "value {number} is dropped before the handlers have run");
        loop {
            let newest = self.items.pop().expect("a stored value is dropped once");
            self.round = newest.round + 1;
            if newest.number == number {
                break;
            }
            assert!(is_held(newest.number), "values go newest first: {newest:?}, not {number}");
        }
    }

    fn target_goes(&mut self, number: u32, is_held: impl Fn(u32) -> bool) {
        loop {
            let newest = self.items.iter().rev().find(|item| self.targets.contains(&item.number));
            let newest = newest.expect("reset drops what is stored").number;
            self.targets.retain(|target| *target != newest);
            self.remove(newest);
            if newest == number {
                return;
            }
            assert!(is_held(newest), "reset drops newest first: {newest}, not {number}");
        }
    }

    fn take_announced(&mut self, number: u32) -> bool {
        let found = self.announced.iter().position(|announced| *announced == number);
        found.map(|place| self.announced.remove(place)).is_some()
    }
}
