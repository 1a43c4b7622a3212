//! The timers of one worker.
//!
//! A task that waits for a time is pinned to its worker, so timers need no lock: each worker has its own, ordered by
//! deadline, and sleeps no longer than until the first of them.

use std::collections::BTreeMap;
use std::time::Instant;

/// Names a timer that is set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct TimerKey {
    deadline: Instant,
    /// Tells timers of one deadline apart, oldest first.
    sequence: u64,
}

/// The timers of one worker, ordered by deadline. `T` is what the worker finds when a deadline has come.
pub(crate) struct Timers<T> {
    waiting: BTreeMap<TimerKey, T>,
    next_sequence: u64,
}

impl<T> Default for Timers<T> {
    fn default() -> Timers<T> {
        Timers { waiting: BTreeMap::new(), next_sequence: 0 }
    }
}

impl<T> Timers<T> {
    /// Keeps `token` until `deadline` has come.
    pub(crate) fn set(&mut self, deadline: Instant, token: T) -> TimerKey {
        let key = TimerKey { deadline, sequence: self.next_sequence };
        self.next_sequence += 1;
        self.waiting.insert(key, token);
        key
    }

    /// Forgets a timer, unless it has fired.
    pub(crate) fn clear(&mut self, key: TimerKey) {
        self.waiting.remove(&key);
    }

    /// The first deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|(key, _)| key.deadline)
    }

    /// Takes the first token whose deadline has come.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<T> {
        let first = self.waiting.first_entry()?;
        (first.key().deadline <= now).then(|| first.remove())
    }
}
