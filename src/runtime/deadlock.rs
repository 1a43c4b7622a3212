//! The report that everything is asleep, as Go's "all goroutines are asleep": `CORO_DEADLOCK=report`.
//!
//! Where plain threads wait for coroutines (in a join, for a value, for a lock), every coroutine is parked, no timer is
//! set, nobody waits for a descriptor, and the process has no other thread that could unpark one, nothing will ever
//! happen again. The [`monitor`] looks for that when all workers have slept for a while, and from then on as often as
//! that again: a thread that could have unparked somebody may end, and nobody tells of its end. What it finds becomes a
//! report by the survey that dumps use. The program goes on waiting.
//!
//! A thread that knows nothing of this crate counts as one that might unpark somebody, so a report is
//! never wrong, and sometimes missing.
//!
//! What is looked at has to hold at one moment. That is so between two looks that find each worker in the same sleep (see
//! [`Sleep`]) and each of those threads in the same wait, and the rest is looked at in between.

use std::fmt::Write as _;
use std::fs;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::monitor;
use super::shared::Shared;
use crate::base::env::variable;
use crate::base::report;
use crate::check;
use crate::driver::Sleep;
use crate::dump::{self, ReportedTask, SurveyLimits, WorkerTasks};
use crate::inspect_socket;
use crate::source;
use crate::task::BlockedThreads;
use crate::unwind::bank_threads;

/// What is kept where the report was asked for.
struct Detector {
    /// The plain threads that wait.
    threads: &'static BlockedThreads,
    /// The report is made once.
    reported: AtomicBool,
}

/// `None`: nobody asked.
static DETECTOR: OnceLock<Option<Detector>> = OnceLock::new();

fn detector() -> Option<&'static Detector> {
    DETECTOR.get()?.as_ref()
}

/// Reads what the environment says.
///
/// # Panics
///
/// When `CORO_DEADLOCK` holds anything but `report`.
#[track_caller]
pub(super) fn configure() {
    if DETECTOR.get().is_some() {
        return;
    }
    let asked = variable("CORO_DEADLOCK", "report", |value| (value == "report").then_some(()));
    DETECTOR.get_or_init(|| {
        asked.map(|()| Detector { threads: BlockedThreads::observe(), reported: false.into() })
    });
}

/// Whether the report was asked for.
pub(super) fn is_asked() -> bool {
    detector().is_some()
}

/// Looks whether all are asleep for ever, and reports it. By the monitor, when all workers sleep. True: it is to look
/// again after a while.
pub(super) fn look() -> bool {
    let Some(detector) = detector() else { return false };
    if !detector.reported.load(Ordering::Relaxed) {
        detector.check();
    }
    !detector.reported.load(Ordering::Relaxed)
}

impl Detector {
    fn check(&self) {
        let runtimes = Shared::listed();
        let [shared] = &runtimes[..] else { return };
        let Some(threads) = self.threads.look() else { return };
        let waiting = threads.len();
        let nothing_else = || {
            let own = shared.mailboxes.len()
                + monitor::threads()
                + check::threads()
                + bank_threads()
                + dump::threads()
                + inspect_socket::threads();
            let none_fresh = !shared.has_fresh() && !shared.has_placed();
            waiting > 0
                && none_fresh
                && !source::any_waited_for()
                && count_threads() == Some(own + waiting)
        };
        if !all_asleep(&shared.mailboxes, nothing_else) || self.threads.look() != Some(threads) {
            return;
        }
        self.reported.store(true, Ordering::Relaxed);
        let alive = shared.alive();
        let mut text = format!(
            "coro: all coroutines are asleep, and {waiting} thread(s) wait for them; {alive} alive:\n"
        );
        for queue in shared.stack_wait_queues() {
            queue.for_each(|task| {
                let _ = writeln!(text, "  {} waits for a stack", task.label());
            });
        }
        for (_, tasks) in dump::tasks_of(shared.id, usize::MAX, SurveyLimits::DUMP) {
            let WorkerTasks::Listed(tasks, _) = tasks else { continue };
            for ReportedTask { label, waiting } in tasks {
                // Writing to a string does not fail.
                let _ = match waiting {
                    Some(waiting) => writeln!(text, "  {label} waits for {waiting}"),
                    None => writeln!(text, "  {label} goes on"),
                };
            }
        }
        report::write(text.as_bytes());
    }
}

/// Whether there is a moment at which all workers sleep without a deadline and nobody has woken any of
/// them, and at which `meanwhile` says yes.
pub(super) fn all_asleep(workers: &[impl AsRef<Sleep>], meanwhile: impl FnOnce() -> bool) -> bool {
    let look =
        || workers.iter().map(|worker| worker.as_ref().endless()).collect::<Option<Vec<_>>>();
    let Some(sleeps) = look() else { return false };
    meanwhile() && look() == Some(sleeps)
}

/// How many threads the process has.
fn count_threads() -> Option<usize> {
    Some(fs::read_dir("/proc/self/task").ok()?.count())
}
