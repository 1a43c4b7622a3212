//! A report of the coroutines that have not ended when a worker falls asleep in a shutdown.
//!
//! Another thread may decide to abandon them, but only their worker may look at them. So the worker writes the
//! report before it sleeps, and clears it when it wakes up.

use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::base::report;
use crate::task::{Started, TaskLabel};

/// How many coroutines of one worker are named.
const NAMED: usize = 10;

/// The coroutines that a worker still has when it falls asleep in a shutdown, as lines for stderr.
#[derive(Default)]
pub(super) struct SurvivorReport {
    notes: Mutex<Notes>,
}

#[derive(Default)]
struct Notes {
    text: String,
    /// They were given up, and that was told; it is not told again.
    told: bool,
}

impl SurvivorReport {
    fn lock(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// By the worker, all of whose `tasks` are parked.
    pub(super) fn write_down(&self, tasks: &[Started]) {
        let mut notes = self.lock();
        notes.text.clear();
        if notes.told {
            return;
        }
        for task in &tasks[..tasks.len().min(NAMED)] {
            // All of them are parked, or will be asked again.
            let Some(waiting) = task.waiting() else { continue };
            // Writing to a string does not fail.
            let _ = writeln!(
                notes.text,
                "coro: {} was cancelled and goes on waiting for {waiting}; it is left alone",
                TaskLabel::of(task),
            );
        }
        if tasks.len() > NAMED {
            let _ = writeln!(notes.text, "{}", And(tasks.len() - NAMED));
        }
    }

    /// By the worker, which is about to run some of them.
    pub(super) fn strike_out(&self) {
        self.lock().text.clear();
    }

    /// Tells who is written down. False: nobody is.
    pub(super) fn tell(&self) -> bool {
        let text = {
            let mut notes = self.lock();
            notes.told |= !notes.text.is_empty();
            std::mem::take(&mut notes.text)
        };
        report::write(text.as_bytes());
        !text.is_empty()
    }
}

/// The line for those that are not named.
pub(super) struct And(pub(super) usize);

impl std::fmt::Display for And {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let coroutines = if self.0 == 1 { "coroutine" } else { "coroutines" };
        write!(f, "coro: and {} more {coroutines} of the same worker", self.0)
    }
}
