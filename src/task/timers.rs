//! The timers of one worker.
//!
//! A task that waits for a time is pinned to its worker, so timers need no lock: each worker has its
//! own, ordered by deadline, and the driver sleeps no longer than the first of them.

use std::collections::BTreeMap;
use std::time::Instant;

use super::header::Started;
use super::remote::Remote;

/// Names a timer that is set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct TimerKey {
    deadline: Instant,
    /// Tells timers of one deadline apart, oldest first.
    sequence: u64,
}

/// The timers of one worker, ordered by deadline.
#[derive(Default)]
pub(super) struct Timers {
    waiting: BTreeMap<TimerKey, Started>,
    next_sequence: u64,
}

impl Timers {
    /// Remembers to unpark `task` when `deadline` has come.
    pub(super) fn set(&mut self, deadline: Instant, task: Started) -> TimerKey {
        let key = TimerKey { deadline, sequence: self.next_sequence };
        self.next_sequence += 1;
        self.waiting.insert(key, task);
        key
    }

    /// Forgets a timer, unless it has fired.
    pub(super) fn clear(&mut self, key: TimerKey) {
        self.waiting.remove(&key);
    }

    /// The first deadline.
    pub(super) fn next(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|(key, _)| key.deadline)
    }

    /// Takes the first task whose deadline has come.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Started> {
        let first = self.waiting.first_entry()?;
        (first.key().deadline <= now).then(|| first.remove())
    }
}

/// A timer that is set, until this is dropped, which is on the same thread: its holder is pinned.
pub(crate) struct Timer {
    remote: &'static Remote,
    key: TimerKey,
}

impl Timer {
    pub(super) fn new(remote: &'static Remote, key: TimerKey) -> Timer {
        Timer { remote, key }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.remote.clear_timer(self.key);
    }
}
