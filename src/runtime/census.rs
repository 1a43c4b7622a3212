//! A census: each worker of a runtime lists its tasks, between two turns.
//!
//! Only its worker may look at a started task. So whoever wants to know raises a number, wakes the workers, and each
//! of them leaves its list when it looks round. The last to answer writes the report, if that was asked for. A worker
//! that is held up by a long turn does not answer in time, and whoever asks goes on without its list.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::base::lock::lock;
use crate::base::report;
use crate::task::{
    Header, Listed, Mailbox, ParkReason, TaskLabel, WaitLabel, WaitList, wait_until, wake_all,
};

/// A started task, as its worker lists it.
pub(super) struct CensusEntry {
    pub(super) label: TaskLabel,
    /// What it waits for; `None` if it is not parked.
    pub(super) waiting: Option<WaitLabel>,
}

/// A worker's tasks.
pub(super) struct CensusList {
    pub(super) entries: Vec<CensusEntry>,
    /// How many there are besides.
    pub(super) more: usize,
}

impl CensusList {
    /// Lists up to `limit` of a worker's tasks. By that worker.
    pub(super) fn of(tasks: &[Listed], limit: usize) -> CensusList {
        let entry = |task: &Listed| CensusEntry { label: task.label(), waiting: task.waits_for() };
        let entries = tasks.iter().take(limit).map(entry).collect();
        CensusList { entries, more: tasks.len().saturating_sub(limit) }
    }
}

/// Makes a report for stderr when all workers have answered. The lists stand in the order of the workers.
type Report = Box<dyn FnOnce(&[Option<CensusList>]) -> String + Send>;

/// The lists of a runtime's workers, while somebody asks for them.
pub(super) struct Census {
    /// Grows when they are asked for.
    asked: AtomicUsize,
    answers: Mutex<Answers>,
}

struct Answers {
    /// One for each worker, once it has answered.
    lists: Box<[Option<CensusList>]>,
    /// How many tasks a worker is to list.
    limit: usize,
    reports: Vec<Report>,
    waiters: WaitList,
}

impl Census {
    pub(super) fn new(workers: usize) -> Census {
        let lists = (0..workers).map(|_| None).collect();
        let answers =
            Answers { lists, limit: 0, reports: Vec::new(), waiters: WaitList::default() };
        Census { asked: AtomicUsize::new(0), answers: Mutex::new(answers) }
    }

    /// Asks each worker for up to `limit` of its tasks. The last to answer makes the `report` and writes it.
    pub(super) fn ask(
        &self,
        mailboxes: &[&'static Mailbox<Header>],
        limit: usize,
        report: Option<Report>,
    ) {
        {
            let mut answers = lock(&self.answers);
            // Whoever asked before gets the new lists.
            answers.lists.fill_with(|| None);
            answers.limit = limit;
            answers.reports.extend(report);
            self.asked.fetch_add(1, Ordering::Relaxed);
        }
        Mailbox::wake_each(mailboxes.iter().copied());
    }

    /// Asks the workers that sleep, waits for them until `deadline`, and gives their lists. Those of the others are
    /// `None`.
    pub(super) fn take_of_sleepers(
        &self,
        mailboxes: &[&'static Mailbox<Header>],
        limit: usize,
        deadline: Instant,
    ) -> Box<[Option<CensusList>]> {
        let sleepers: Vec<_> =
            mailboxes.iter().map(|mailbox| mailbox.sleep().is_asleep()).collect();
        self.ask(mailboxes, limit, None);
        wait_until(
            &self.answers,
            |answers| &mut answers.waiters,
            deadline,
            ParkReason::SHUTDOWN,
            |answers| {
                answers.lists.iter().zip(&sleepers).all(|(list, sleeps)| list.is_some() || !sleeps)
            },
        );
        let mut answers = lock(&self.answers);
        let none = answers.lists.iter().map(|_| None).collect();
        std::mem::replace(&mut answers.lists, none)
    }

    /// Whether a census was asked for since `seen`.
    #[inline]
    pub(super) fn asked_since(&self, seen: usize) -> Option<usize> {
        let asked = self.asked.load(Ordering::Relaxed);
        (asked != seen).then_some(asked)
    }

    /// The worker of this number lists its tasks.
    pub(super) fn answer(&self, worker: usize, tasks: &[Listed]) {
        let reports: Vec<String> = {
            let mut answers = lock(&self.answers);
            let Answers { lists, limit, reports, .. } = &mut *answers;
            lists[worker] = Some(CensusList::of(tasks, *limit));
            let is_last = lists.iter().all(Option::is_some);
            let due = if is_last { std::mem::take(reports) } else { Vec::new() };
            due.into_iter().map(|report| report(lists)).collect()
        };
        // Outside of the lock: nobody may be there to read them.
        reports.iter().for_each(|text| report::write(text.as_bytes()));
        wake_all(&self.answers, |answers| &mut answers.waiters);
    }
}
