//! The access log. Each request adds its line to those of its connection, and these are passed on together: all connections
//! want the same lock. What is passed on is written a moment later, where that blocks no worker.

use std::io::Write as _;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use coro::sync::{Condvar, Mutex};

/// The lines of a connection, to which each of its requests adds one.
#[derive(Default)]
pub(crate) struct AccessLog {
    pub(crate) lines: Arc<Mutex<Vec<u8>>>,
}

/// Lines of all connections that are not written yet.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());
/// There are some, or so many that they are written at once. A longer write would hold up who answers on the same CPU.
static LOG_CHANGED: Condvar = Condvar::new();
const LONG_LOG: usize = 16 << 10;
/// How long a line waits at most.
const LOG_LIMIT: Duration = Duration::from_millis(100);

impl AccessLog {
    /// Has its lines written, soon.
    pub(crate) fn pass_on(&self) {
        let mut lines = self.lines.lock();
        if lines.is_empty() {
            return;
        }
        let mut log = LOG.lock();
        let was_empty = log.is_empty();
        log.append(&mut lines);
        let is_long = log.len() >= LONG_LOG;
        drop(log);
        if was_empty || is_long {
            LOG_CHANGED.notify_one();
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.pass_on();
    }
}

/// Writes what is logged, for ever.
pub(crate) fn write() -> ! {
    loop {
        let log = LOG_CHANGED.wait_while(LOG.lock(), |log| log.is_empty());
        let is_short = |log: &mut Vec<u8>| log.len() < LONG_LOG;
        drop(LOG_CHANGED.wait_timeout_while(log, LOG_LIMIT, is_short));
        flush();
    }
}

/// Writes what was logged, where that blocks no worker. When it returns, whatever was logged before is written.
pub(crate) fn flush() {
    static WRITTEN: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    // Held while it is written, so that whoever else comes waits for that.
    let mut lines = WRITTEN.lock();
    mem::swap(&mut *LOG.lock(), &mut *lines);
    if !lines.is_empty() {
        coro::blocking(|| std::io::stdout().write_all(&lines).unwrap_or(()));
        lines.clear();
    }
}
