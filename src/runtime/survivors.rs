//! What a shutdown tells of the coroutines that it abandons.

use std::fmt::{self, Write as _};

use super::census::CensusList;
use crate::base::report;

/// How many coroutines of one worker are named.
pub(super) const NAMED: usize = 10;

/// Tells which coroutines of a worker were cancelled and do not end.
pub(super) fn tell(list: &CensusList) {
    let mut text = String::new();
    for entry in &list.entries {
        let Some(waiting) = entry.waiting else { continue };
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "coro: {} was cancelled and goes on waiting for {waiting}; it is left alone",
            entry.label
        );
    }
    if list.more > 0 {
        let _ = writeln!(text, "{}", And(list.more));
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
