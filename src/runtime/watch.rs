//! The monitor: a thread that reports coroutines which hold their worker for too long.
//!
//! A coroutine that computes for long without suspending keeps the others of its worker waiting, and
//! nothing can be done about it from outside. What can be done is to tell who it is. Workers note what
//! they run and count their turns; the monitor looks now and then, and a worker whose count stands
//! still while it runs something is stuck.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::shared::Shared;
use crate::report;

/// See the module's documentation.
pub(super) struct Monitor {
    stopped: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// What the monitor knows of a worker.
#[derive(Clone, Copy)]
struct Seen {
    turn: u64,
    since: Instant,
}

impl Monitor {
    /// Starts to look at the workers, and reports what runs for longer than `limit`.
    pub(super) fn start(shared: &Arc<Shared>, limit: Duration, name: &str) -> io::Result<Monitor> {
        let stopped = Arc::new(AtomicBool::new(false));
        let thread = {
            let (shared, stopped) = (Arc::clone(shared), Arc::clone(&stopped));
            thread::Builder::new()
                .name(format!("{name}-watch"))
                .spawn(move || watch(&shared, limit, &stopped))?
        };
        Ok(Monitor { stopped, thread })
    }

    pub(super) fn stop(self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        // It holds no lock and runs no code of the user's, so it ends at once.
        let _ = self.thread.join();
    }
}

fn watch(shared: &Shared, limit: Duration, stopped: &AtomicBool) {
    let mut seen = vec![Seen { turn: 0, since: Instant::now() }; shared.remotes.len()];
    let mut reported = HashSet::new();
    while !stopped.load(Ordering::Relaxed) {
        // Twice in the limit, so that a report is late by half of it at most.
        thread::park_timeout(limit / 2);
        for (remote, seen) in shared.remotes.iter().zip(&mut seen) {
            let running = remote.running();
            let Some(task) = running.get() else { continue };
            if running.turn() != seen.turn {
                *seen = Seen { turn: running.turn(), since: Instant::now() };
                continue;
            }
            let held = seen.since.elapsed();
            if held >= limit && reported.insert(task.location) {
                report::tell(format_args!(
                    "coro: {task} has held its worker for {held:.0?} without suspending"
                ));
            }
        }
    }
}
