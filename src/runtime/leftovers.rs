//! The coroutines that a worker is left with when it falls asleep in a shutdown, in words.
//!
//! Who gives them up may be another thread, and only their worker knows them and what they wait for. So
//! the worker writes them down before it sleeps, and strikes them out when it is awake.

use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::report;
use crate::task::{Described, Started};

/// How many coroutines of one worker are named.
const NAMED: usize = 10;

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Leftovers {
    notes: Mutex<Notes>,
}

#[derive(Default)]
struct Notes {
    text: String,
    /// They were given up, and that was told; it is not told again.
    told: bool,
}

impl Leftovers {
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
            // Writing to a string does not fail.
            let _ = writeln!(
                notes.text,
                "coro: {} was cancelled and goes on waiting for {}; it is left alone",
                Described::of(task),
                task.waiting()
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
