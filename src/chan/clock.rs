//! Times as values: receivers that get the time when it has come.
//!
//! Nobody sends them. A clock is asked when somebody receives, and whoever waits does so until its next time. So a
//! receiver that nobody asks costs nothing, and one that is dropped leaves no timer behind.

use std::time::{Duration, Instant};

use crate::time::tick_after;

/// What makes the values of a channel of times.
pub(super) struct Clock<T> {
    /// When the next value is due; `None`: never.
    next: Option<Instant>,
    /// `None`: there is one value.
    period: Option<Duration>,
    value: fn(Instant) -> T,
}

impl<T> Clock<T> {
    pub(super) fn new(
        next: Option<Instant>,
        period: Option<Duration>,
        value: fn(Instant) -> T,
    ) -> Clock<T> {
        Clock { next, period, value }
    }

    /// When the next value is due, if one ever is.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.next.is_some_and(|next| next <= now)
    }

    /// Takes the value that is due.
    pub(super) fn take(&mut self, now: Instant) -> Option<T> {
        let due = self.next.filter(|&next| next <= now)?;
        self.next = self.period.and_then(|period| tick_after(due, now, period));
        Some((self.value)(due))
    }
}
