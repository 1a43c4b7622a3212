//! What each worker does.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use super::shared::Shared;
use crate::base::id::Id;
use crate::base::json::Json;
use crate::fork;

/// What one worker has counted, and what it does; by [`workers`].
///
/// The numbers are read one after another while the worker goes on, so they need not fit together to the last digit. A
/// worker goes on with the counts of one of an earlier [`Runtime`](crate::Runtime) that has ended: take differences.
///
/// # Examples
///
/// ```
/// let runtime = coro::Runtime::builder().workers(1).build()?;
/// runtime.go(|| ()).join().unwrap();
/// let workers = coro::inspect::workers();
/// assert!(workers.iter().any(|worker| worker.turns >= 1));
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct WorkerMetrics {
    /// Its runtime, numbered from 1 on in the order in which runtimes were started.
    pub runtime: u32,
    /// Its number in its runtime, as [`Place::Worker`](crate::Place::Worker) has it.
    pub index: usize,
    /// The name of its thread, of which the system keeps 15 bytes. `None`: there is no `/proc`.
    pub thread_name: Option<String>,
    /// The CPU time of its thread so far. `None` likewise, and where the kernel does not count it (`CONFIG_SCHED_INFO`).
    pub cpu_time: Option<Duration>,
    /// It has nothing to do, and waits to be woken.
    pub is_asleep: bool,
    /// The coroutine that has its turn.
    pub running: Option<Id>,
    /// Turns that coroutines have had on it.
    pub turns: u64,
    /// Coroutines that have started on it and have not ended.
    pub started: u64,
    /// Of those, the ones that are parked.
    pub parked: u64,
    /// Coroutines that wait to start: those in its queue, which others may steal, and those that were
    /// [placed](crate::Place) with it.
    pub queued: u64,
    /// Coroutines that it has taken from the queues of other workers.
    pub stolen: u64,
}

/// What each worker does, of all runtimes; those that have not begun or have ended are left out. Reads two files of
/// `/proc` for each worker.
///
/// In a process that was forked from one that uses coroutines there are none.
///
/// # Examples
///
/// ```
/// for worker in coro::inspect::workers() {
///     println!("{:?}: {} turns, {} parked", worker.thread_name, worker.turns, worker.parked);
/// }
/// ```
pub fn workers() -> Vec<WorkerMetrics> {
    if fork::is_child() {
        return Vec::new();
    }
    let runtimes = Shared::listed();
    let of_runtime = |shared: &Arc<Shared>| {
        let is_there = |index: &usize| shared.mailboxes[*index].is_in_use();
        let workers = (0..shared.mailboxes.len()).filter(is_there);
        workers.map(|index| of(shared, index)).collect::<Vec<_>>()
    };
    runtimes.iter().flat_map(of_runtime).collect()
}

fn of(shared: &Shared, index: usize) -> WorkerMetrics {
    let mailbox = shared.mailboxes[index];
    let counters = mailbox.counters();
    let of_thread = |file: &str| {
        let path = format!("/proc/self/task/{}/{file}", mailbox.thread()?);
        fs::read_to_string(path).ok()
    };
    // What ends a thing is read before what begins it.
    let unparked = counters.unparked.get();
    WorkerMetrics {
        runtime: shared.id.get(),
        index,
        thread_name: of_thread("comm").map(|name| name.trim_end().to_owned()),
        cpu_time: of_thread("schedstat").and_then(|text| cpu_time(&text)),
        is_asleep: mailbox.sleep().is_asleep(),
        running: mailbox.running().id(),
        turns: mailbox.running().turn(),
        started: counters.alive(),
        parked: counters.parked.get().saturating_sub(unparked),
        queued: (shared.stealers[index].len() + shared.placed[index].len()) as u64,
        stolen: counters.stolen.get(),
    }
}

/// The first number of `schedstat`: nanoseconds on a CPU.
fn cpu_time(schedstat: &str) -> Option<Duration> {
    let nanos = schedstat.split_ascii_whitespace().next()?.parse().ok()?;
    // A kernel that does not count has zeros, and a thread that has begun has run.
    (nanos > 0).then(|| Duration::from_nanos(nanos))
}

impl WorkerMetrics {
    /// Each field as a member.
    pub(super) fn write(&self, json: &mut Json) {
        json.object(|json| {
            json.member("runtime", self.runtime);
            json.member("index", self.index);
            json.text_member("thread_name", self.thread_name.as_deref());
            json.number_member("cpu_time_ms", self.cpu_time.map(|time| time.as_millis()));
            json.member("is_asleep", self.is_asleep);
            json.number_member("running", self.running);
            json.member("turns", self.turns);
            json.member("started", self.started);
            json.member("parked", self.parked);
            json.member("queued", self.queued);
            json.member("stolen", self.stolen);
        });
    }
}
