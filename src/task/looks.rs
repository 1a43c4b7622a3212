//! When a worker looks round at what it would see too late otherwise.

use std::sync::atomic::{AtomicU64, Ordering};

use super::counters::Counter;

/// The turn at which a worker looks round next, and how often it has.
#[derive(Default)]
pub(crate) struct Looks {
    /// Written by the worker, and by the monitor, which asks for the next turn.
    at: AtomicU64,
    count: Counter,
}

impl Looks {
    /// Whether the worker is to look round in this turn.
    #[inline]
    pub(crate) fn are_due(&self, turn: u64) -> bool {
        turn >= self.at.load(Ordering::Relaxed)
    }

    /// Whether the monitor has asked for the look that is due.
    pub(crate) fn were_asked_for(&self) -> bool {
        self.at.load(Ordering::Relaxed) == 0
    }

    /// By the worker, which looks round now: the next look is at this turn.
    pub(crate) fn set_next(&self, turn: u64) {
        self.count.add(1);
        // If this overwrites what the monitor asks for at the same moment, it was asked for this look.
        self.at.store(turn, Ordering::Relaxed);
    }

    /// Asks the worker to look round at its next turn.
    pub(crate) fn ask(&self) {
        self.at.store(0, Ordering::Relaxed);
    }

    /// How many looks there were.
    pub(crate) fn count(&self) -> u64 {
        self.count.get()
    }
}
