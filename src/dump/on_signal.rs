//! `CORO_DUMP`: a dump on stderr for each signal of a kind.
//!
//! A thread of the library waits for the signals. The signal's handler only wakes that thread, so it does not matter
//! what the signal has interrupted.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use signal_hook::consts::{FORBIDDEN, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

use super::fresh::FreshTasks;
use super::take::{Which, take};
use crate::base::env::variable;
use crate::base::lock::lock;
use crate::base::report;
use crate::thread;

const NAMES: [(&str, i32); 6] = [
    ("SIGQUIT", SIGQUIT),
    ("SIGUSR1", SIGUSR1),
    ("SIGUSR2", SIGUSR2),
    ("SIGHUP", SIGHUP),
    ("SIGINT", SIGINT),
    ("SIGTERM", SIGTERM),
];

/// So many groups are printed, and the others counted.
const GROUPS: usize = 1000;

/// How many threads wait for signals: none, or one.
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// Prints a dump on stderr from now on whenever the signal comes that `CORO_DUMP` names. It does not do what it does by
/// default any more.
///
/// # Errors
///
/// What the system says, where it refuses the thread or the handler.
///
/// # Panics
///
/// When `CORO_DUMP` holds nonsense.
#[track_caller]
pub(crate) fn start(fresh: fn() -> FreshTasks) -> io::Result<()> {
    let expected = "the name of a signal, such as SIGQUIT, or its number";
    let Some(signal) = variable("CORO_DUMP", expected, parse) else { return Ok(()) };
    static STARTING: Mutex<()> = Mutex::new(());
    let _starting = lock(&STARTING);
    if threads() > 0 {
        return Ok(());
    }
    // The handler is part of this program or library, which is not to be unloaded from here on.
    #[cfg(not(target_feature = "crt-static"))]
    crate::stack::keep_loaded();
    let mut signals = Signals::new([signal])?;
    thread::spawn("dump-signal", move || {
        for _ in signals.forever() {
            print(fresh);
        }
    })?;
    THREADS.store(1, Ordering::Relaxed);
    Ok(())
}

/// How many threads wait for signals.
pub(crate) fn threads() -> usize {
    THREADS.load(Ordering::Relaxed)
}

fn parse(value: &str) -> Option<i32> {
    let named = NAMES.iter().find(|(name, _)| *name == value || name[3..] == *value);
    let signal = named.map(|(_, number)| *number).or_else(|| value.parse().ok())?;
    let is_possible = (1..=libc::SIGRTMAX()).contains(&signal) && !FORBIDDEN.contains(&signal);
    is_possible.then_some(signal)
}

/// Line by line: what others write comes between two lines, and not inside of one.
fn print(fresh: fn() -> FreshTasks) {
    let text = take(Which::All, fresh).limit(GROUPS).to_string();
    text.split_inclusive('\n').for_each(|line| report::write(line.as_bytes()));
}
