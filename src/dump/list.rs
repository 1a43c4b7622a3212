//! Who a runtime's started tasks are, for reports that need no frames.

use super::coroutine::DumpedCoroutine;
use super::notes::Notes;
use super::survey::{HeldUp, SurveyLimits, WorkerNotes, survey};
use crate::base::id::RuntimeId;
use crate::task::{Header, Listed, Mailbox, TaskLabel, WaitLabel};

/// A started task, as a report has it.
pub(crate) struct ReportedTask {
    pub(crate) label: TaskLabel,
    /// What it waits for; `None` if it is not parked.
    pub(crate) waiting: Option<WaitLabel>,
}

impl ReportedTask {
    /// By the task's worker.
    pub(crate) fn of(task: &Listed) -> ReportedTask {
        ReportedTask { label: task.label(), waiting: task.waits_for() }
    }
}

impl From<DumpedCoroutine> for ReportedTask {
    fn from(DumpedCoroutine { label, waiting, .. }: DumpedCoroutine) -> ReportedTask {
        ReportedTask { label, waiting }
    }
}

/// What is known of a worker's started tasks.
pub(crate) enum WorkerTasks {
    /// In the order of their ids, and how many there are besides.
    Listed(Vec<ReportedTask>, usize),
    /// One of them holds the worker, and there are so many others.
    HeldUp(TaskLabel, usize),
}

/// The started tasks of a runtime, by worker: up to `limit` of each. A worker that does not answer in time, and runs
/// none, is left out.
///
/// An interruption unwinds out of it.
pub(crate) fn tasks_of(
    runtime: RuntimeId,
    limit: usize,
    limits: SurveyLimits,
) -> impl Iterator<Item = (&'static Mailbox<Header>, WorkerTasks)> {
    let answers = survey(|mailbox| mailbox.is_of(runtime), || Notes::without_frames(limit), limits);
    answers.into_iter().filter_map(|WorkerNotes { mailbox, notes, held_up }| {
        if let Some(HeldUp { by: Some(by), others }) = held_up {
            return Some((mailbox, WorkerTasks::HeldUp(by, others)));
        }
        let mut notes = notes?;
        // What was noted twice is there twice.
        notes.coroutines.sort_unstable_by_key(|one| one.label.id());
        notes.coroutines.dedup_by_key(|one| one.label.id());
        let tasks = notes.coroutines.into_iter().map(ReportedTask::from).collect();
        Some((mailbox, WorkerTasks::Listed(tasks, notes.unlisted)))
    })
}
