//! How all workers are asked, and answer in slices.
//!
//! A worker goes through its list of started tasks from the end to the beginning. While it has turns in between, tasks
//! may end. Then the last of the list takes the place of the one that has ended: one that was noted already, or one that
//! is new, or one that is to come all the same. So each task that was there at the beginning, and has not ended, is
//! noted: once, or twice.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::notes::Notes;
use crate::base::lock::lock;
use crate::task::{
    Header, Listed, Mailbox, ParkReason, TaskLabel, WaitList, current_task, mailbox_here,
    wait_until, wake_all,
};

/// For how long a worker notes its tasks before it goes on with its turns.
const SLICE: Duration = Duration::from_millis(4);

/// How long whoever asks waits.
#[derive(Clone, Copy)]
pub(crate) struct SurveyLimits {
    /// For the end of a turn: a worker that has a longer one is held up.
    turn: Duration,
    /// In all.
    limit: Option<Duration>,
}

impl SurveyLimits {
    pub(crate) const DUMP: SurveyLimits =
        SurveyLimits { turn: Duration::from_millis(200), limit: None };

    /// A shutdown has a limit of its own, and has waited already.
    pub(crate) const SHUTDOWN: SurveyLimits =
        SurveyLimits { turn: Duration::from_millis(10), limit: Some(Duration::from_millis(100)) };

    /// How often whoever waits looks for workers that are held up.
    fn pause(self) -> Duration {
        self.turn / 10
    }
}

/// Grows when a survey begins.
static ASKED: AtomicUsize = AtomicUsize::new(0);

/// Those that are under way.
static UNDER_WAY: Mutex<Vec<Arc<Survey>>> = Mutex::new(Vec::new());

/// A list of the tasks of some workers, in the making.
struct Survey {
    parts: Box<[Part]>,
    progress: Mutex<SurveyProgress>,
}

struct SurveyProgress {
    /// The parts that are not finished.
    left: usize,
    waiters: WaitList,
}

fn waiters(progress: &mut SurveyProgress) -> &mut WaitList {
    &mut progress.waiters
}

/// What is asked of one worker.
struct Part {
    mailbox: &'static Mailbox<Header>,
    is_finished: AtomicBool,
    work: Mutex<PartWork>,
}

struct PartWork {
    /// The tasks before this one are to be noted. `None`: it has not begun.
    next: Option<usize>,
    notes: Option<Notes>,
}

/// What a worker has answered.
pub(super) struct WorkerNotes {
    pub(super) mailbox: &'static Mailbox<Header>,
    /// Empty, if it was held up, or has ended.
    pub(super) notes: Option<Notes>,
    pub(super) held_up: Option<HeldUp>,
}

/// A worker that did not answer.
pub(super) struct HeldUp {
    /// The task that has its turn. `None`: there is none, and the worker is the one that asks, outside of a task, or it
    /// does not come to its answer.
    pub(super) by: Option<TaskLabel>,
    /// How many other started tasks it has.
    pub(super) others: usize,
}

impl HeldUp {
    fn at(mailbox: &Mailbox<Header>, by: Option<TaskLabel>) -> HeldUp {
        let alive = mailbox.counters().alive() as usize;
        HeldUp { others: alive.saturating_sub(usize::from(by.is_some())), by }
    }
}

/// Whether a survey has begun since `seen`.
#[inline]
pub(crate) fn asked_since(seen: usize) -> Option<usize> {
    let asked = ASKED.load(Ordering::Relaxed);
    (asked != seen).then_some(asked)
}

/// The worker notes some of its tasks. True: nobody asks for more.
pub(crate) fn answer(mailbox: &'static Mailbox<Header>, tasks: &[Listed]) -> bool {
    // One after another, so that a worker is not held for longer if there are several.
    let Some(survey) = first_open(mailbox) else { return true };
    let Some(part) = survey.open_part(mailbox) else { return false };
    let is_finished = part.go_on(tasks);
    if is_finished {
        survey.finish(part);
        wake_all(&survey.progress, waiters);
    }
    is_finished && first_open(mailbox).is_none()
}

/// The first survey that waits for this worker. Allocates nothing, so a worker comes through where memory is refused.
fn first_open(mailbox: &Mailbox<Header>) -> Option<Arc<Survey>> {
    let under_way = lock(&UNDER_WAY);
    under_way.iter().find(|survey| survey.open_part(mailbox).is_some()).map(Arc::clone)
}

impl Part {
    /// Notes as many tasks as a slice has time for. True: those were the last.
    fn go_on(&self, tasks: &[Listed]) -> bool {
        let work = &mut *lock(&self.work);
        let Some(notes) = &mut work.notes else { return true };
        let mut next = work.next.unwrap_or(tasks.len()).min(tasks.len());
        let turn = self.mailbox.running().turn();
        let end = Instant::now() + SLICE;
        while next > 0 {
            next -= 1;
            notes.note(&tasks[next], turn);
            // A look at the clock costs a hundredth of a note.
            if Instant::now() >= end {
                break;
            }
        }
        work.next = Some(next);
        next == 0
    }
}

impl Survey {
    /// The part of this worker, if it is not finished.
    fn open_part(&self, mailbox: &Mailbox<Header>) -> Option<&Part> {
        let is_open = |part: &&Part| {
            std::ptr::eq(part.mailbox, mailbox) && !part.is_finished.load(Ordering::Relaxed)
        };
        self.parts.iter().find(is_open)
    }

    fn finish(&self, part: &Part) {
        if !part.is_finished.swap(true, Ordering::Relaxed) {
            lock(&self.progress).left -= 1;
        }
    }

    /// Waits until all have answered that are not held up. Those that are held up are given by the number of their part.
    fn wait(&self, limits: SurveyLimits) -> Vec<(usize, HeldUp)> {
        let mut held_up = Vec::new();
        let end = limits.limit.map(|limit| Instant::now() + limit);
        // The last turn that was seen of each worker, and since when.
        let mut seen: Vec<(u64, Instant)> = vec![(0, Instant::now()); self.parts.len()];
        loop {
            let is_over = |progress: &mut SurveyProgress| progress.left == 0;
            let pause = Some(Instant::now() + limits.pause());
            if wait_until(&self.progress, waiters, pause, ParkReason::DUMP, is_over) {
                return held_up;
            }
            let now = Instant::now();
            let is_late = end.is_some_and(|end| now >= end);
            for (index, part) in self.parts.iter().enumerate() {
                if part.is_finished.load(Ordering::Relaxed) {
                    continue;
                }
                let running = part.mailbox.running();
                let turn = running.turn();
                if !running.is_any() || turn != seen[index].0 {
                    seen[index] = (turn, now);
                }
                let is_held_up = now - seen[index].1 >= limits.turn;
                let by = if is_held_up || is_late { running.get() } else { None };
                if !part.mailbox.is_in_use() {
                    self.finish(part); // all its tasks have ended
                } else if by.is_some() || is_late {
                    // It may begin now: then what it has noted is not taken.
                    lock(&part.work).notes = None;
                    self.finish(part);
                    held_up.push((index, HeldUp::at(part.mailbox, by)));
                }
            }
        }
    }
}

/// A survey leaves the list when whoever asks goes on, or is interrupted.
struct UnderWay(Arc<Survey>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        lock(&UNDER_WAY).retain(|survey| !Arc::ptr_eq(survey, &self.0));
    }
}

/// Has each worker note its tasks that `is_asked` says yes to, and waits for those that are not held up.
///
/// An interruption unwinds out of it.
pub(super) fn survey(
    is_asked: impl Fn(&Mailbox<Header>) -> bool,
    notes: impl Fn() -> Notes,
    limits: SurveyLimits,
) -> Vec<WorkerNotes> {
    // The worker that the caller is, if it is in no task, does not get as far as answering.
    let own = if current_task().is_some() { None } else { mailbox_here() };
    let is_own = |mailbox: &Mailbox<Header>| own.is_some_and(|own| std::ptr::eq(own, mailbox));
    let workers = Mailbox::all().filter(|mailbox| mailbox.is_in_use() && is_asked(mailbox));
    let (own, others): (Vec<_>, Vec<_>) = workers.partition(|mailbox| is_own(mailbox));
    let part = |mailbox: &'static Mailbox<Header>| {
        let mut notes = notes();
        notes.reserve(mailbox.counters().alive() as usize);
        let work = Mutex::new(PartWork { next: None, notes: Some(notes) });
        Part { mailbox, is_finished: false.into(), work }
    };
    let parts: Box<[Part]> = others.into_iter().map(part).collect();
    let progress = SurveyProgress { left: parts.len(), waiters: WaitList::default() };
    let survey = Arc::new(Survey { parts, progress: Mutex::new(progress) });
    let under_way = UnderWay(Arc::clone(&survey));
    {
        let mut under_way = lock(&UNDER_WAY);
        under_way.push(Arc::clone(&survey));
        // Under the lock, so that whoever sees it finds the survey.
        ASKED.fetch_add(1, Ordering::Relaxed);
    }
    // Those that are busy look round after their turn, and those that sleep now.
    survey.parts.iter().for_each(|part| part.mailbox.looks().ask());
    Mailbox::wake_each(survey.parts.iter().map(|part| part.mailbox));
    let mut held_up = survey.wait(limits);
    drop(under_way);
    let answer = |(index, part): (usize, &Part)| WorkerNotes {
        mailbox: part.mailbox,
        notes: lock(&part.work).notes.take(),
        held_up: held_up
            .iter()
            .position(|(of, _)| *of == index)
            .map(|at| held_up.swap_remove(at).1),
    };
    let mut answers: Vec<WorkerNotes> = survey.parts.iter().enumerate().map(answer).collect();
    answers.extend(own.into_iter().map(|mailbox| WorkerNotes {
        mailbox,
        notes: None,
        held_up: Some(HeldUp::at(mailbox, None)),
    }));
    answers
}
