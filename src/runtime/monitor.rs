//! The monitor: one thread of the process, which looks at what all workers do.
//!
//! - A worker looks round every 61 turns: at its timers, at tasks from outside, at a shutdown. 61 turns take
//!   microseconds, unless a turn is slow, and to read the clock at every turn would be too dear. So the monitor asks a
//!   worker that has not looked round for a while to do so when its turn is over.
//! - It tells the other workers of a task that was spawned in a turn that goes on (see `DeferredNotify`).
//! - It notes when it has seen which turn, so that a dump can say for how long a coroutine has been parked.
//! - If a runtime is watched, the monitor reports a coroutine that holds its worker for too long.
//! - When all workers have slept for a while, it has the memory of a burst given back.
//! - Before it sleeps, and from time to time while it does, it looks whether all are asleep for ever.
//!
//! The monitor looks every two milliseconds. When all workers have slept for a while, it sleeps too, and a worker that
//! wakes up wakes it. Before it sleeps it looks at the workers once more, so that no wake-up is lost (see [`Sleep`]).

use std::collections::HashSet;
use std::io;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use crate::base::atomics::{Ordering, fence};
use crate::base::block;
use crate::base::lock::lock;
use crate::base::report;
use crate::driver::{Events, Sleep};
use crate::task::{Header, Mailbox};
use crate::thread;

/// How often it looks, unless it watches more closely.
const PAUSE: Duration = Duration::from_millis(2);

/// How long all workers have to be asleep before the monitor is.
const IDLE: Duration = Duration::from_millis(50);

/// How the monitor's thread sleeps, once there is one.
static MONITOR: OnceLock<Sleep> = OnceLock::new();

/// Starts the monitor's thread, if there is none. When all workers sleep it calls `all_asleep`, which says whether it is
/// to be called again after a while.
///
/// # Errors
///
/// What the system says where it grants no thread. Without a monitor a worker looks round late if its turns are
/// slow, and nobody steals the only task that a coroutine has spawned until that coroutine suspends.
pub(super) fn start(all_asleep: fn() -> bool) -> io::Result<()> {
    static STARTING: Mutex<()> = Mutex::new(());
    let _starting = lock(&STARTING);
    if MONITOR.get().is_none() {
        thread::spawn("monitor", move || run(MONITOR.wait(), all_asleep))?;
        MONITOR.get_or_init(Sleep::new);
    }
    Ok(())
}

/// How many threads the monitor has: none, or one.
pub(super) fn threads() -> usize {
    usize::from(MONITOR.get().is_some())
}

/// The calling worker is awake, and will have turns.
#[inline]
pub(super) fn wake() {
    if let Some(monitor) = MONITOR.get() {
        fence(Ordering::SeqCst);
        monitor.wake();
    }
}

/// What the monitor knows of a worker.
struct WorkerSeen {
    looks: u64,
    turn: u64,
    since: Instant,
}

fn run(monitor: &Sleep, all_asleep: fn() -> bool) {
    let mut seen: Vec<WorkerSeen> = Vec::new();
    let mut reported = HashSet::new();
    let mut idle_since = None;
    loop {
        let now = Instant::now();
        let mut pause = PAUSE;
        let mut is_idle = true;
        for (index, mailbox) in Mailbox::all().enumerate() {
            if index == seen.len() {
                seen.push(WorkerSeen { looks: 0, turn: 0, since: now });
            }
            mailbox.turn_times().note(mailbox.running(), now);
            if !mailbox.is_at_work() {
                continue;
            }
            is_idle = false;
            if mailbox.deferred_notify().take() {
                mailbox.wake_siblings();
            }
            let seen = &mut seen[index];
            let looks = mailbox.looks().count();
            if looks == seen.looks {
                mailbox.looks().ask();
            }
            seen.looks = looks;
            if let Some(limit) = mailbox.running().limit() {
                // Twice in the limit, so that a report is late by half of it at most.
                pause = pause.min(limit / 2);
                watch(mailbox, seen, limit, now, &mut reported);
            }
        }
        let since = match is_idle {
            true => *idle_since.get_or_insert(now),
            false => {
                idle_since = None;
                now
            }
        };
        if now - since < IDLE {
            std::thread::sleep(pause);
            continue;
        }
        block::trim();
        monitor.prepare();
        // A worker that wakes from here on wakes us, and one that has slept again meanwhile has had its turns.
        let now = Instant::now();
        Mailbox::all().for_each(|mailbox| mailbox.turn_times().note(mailbox.running(), now));
        if !Mailbox::all().any(Mailbox::is_at_work) {
            let again = all_asleep().then(|| Instant::now() + IDLE);
            monitor.block(again, &mut Events::default());
        }
        monitor.end();
        idle_since = None;
    }
}

/// Reports who holds a worker for too long, once for each place of spawning.
fn watch(
    mailbox: &Mailbox<Header>,
    seen: &mut WorkerSeen,
    limit: Duration,
    now: Instant,
    reported: &mut HashSet<&'static std::panic::Location<'static>>,
) {
    let running = mailbox.running();
    let Some(task) = running.get() else { return };
    if running.turn() != seen.turn {
        (seen.turn, seen.since) = (running.turn(), now);
        return;
    }
    let held = now - seen.since;
    if held >= limit && reported.insert(task.location) {
        report::line(format_args!(
            "coro: {task} has held its worker for {held:.0?} without suspending"
        ));
    }
}
