//! What a shutdown tells of the coroutines that it abandons.

use std::fmt::{self, Write as _};

use crate::base::report;
use crate::dump::ReportedTask;

/// How many coroutines of one worker are named.
pub(super) const NAMED: usize = 10;

/// Tells which coroutines of a worker were cancelled and do not end: the first of so many in all.
pub(super) fn tell(tasks: impl IntoIterator<Item = ReportedTask>, all: usize) {
    let mut text = String::new();
    for task in tasks.into_iter().take(NAMED) {
        let ReportedTask { label, waiting } = task;
        // Writing to a string does not fail.
        let _ = match waiting {
            Some(waiting) => writeln!(
                text,
                "coro: {label} was cancelled and goes on waiting for {waiting}; it is left alone"
            ),
            None => {
                writeln!(text, "coro: {label} was cancelled and goes on running; it is left alone")
            }
        };
    }
    if let others @ 1.. = all.saturating_sub(NAMED) {
        let _ = writeln!(text, "{}", And(others));
    }
    report::write(text.as_bytes());
}

/// The line for those that are not named.
pub(super) struct And(pub(super) usize);

impl fmt::Display for And {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let coroutines = if self.0 == 1 { "coroutine" } else { "coroutines" };
        write!(f, "coro: and {} more {coroutines} of the same worker", self.0)
    }
}
