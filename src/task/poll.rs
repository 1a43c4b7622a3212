//! Polling a future from straight-line code: the waker of a task, the budget, and the wait for the waker.

use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::Arc;
use std::task::{Poll, RawWaker, RawWakerVTable, Waker};
use std::time::Instant;

use super::current::{Current, current_task, own_task_in_budget};
use super::header::{Header, TaskRef};
use super::interrupt::interrupt_thread;
use super::park::wait_on_thread;
use super::stack::ParkReason;
use super::state::WOKEN;
use super::thread_parker::ThreadParker;
use crate::record::{self, Record};
use crate::suspension;

/// A waker of the task, for as long as `task` is borrowed. It is no counted reference and allocates nothing; its
/// clones are counted references.
#[inline]
fn borrowed_waker(task: &TaskRef) -> impl Deref<Target = Waker> {
    let raw = RawWaker::new(task.as_ptr().cast_const().cast(), &WAKER);
    // SAFETY: the functions below keep the contract; the waker itself is never dropped.
    ManuallyDrop::new(unsafe { Waker::from_raw(raw) })
}

/// How a task's wakers work. Whatever else the task waits for meanwhile, the token stays for the poll.
static WAKER: RawWakerVTable = RawWakerVTable::new(
    |header| {
        // SAFETY: the waker that is cloned holds a reference.
        let task = ManuallyDrop::new(unsafe { TaskRef::from_raw(header.cast()) });
        RawWaker::new(TaskRef::clone(&task).into_raw().cast(), &WAKER)
    },
    |header| {
        // SAFETY: the waker gives its reference away.
        unsafe { TaskRef::from_raw(header.cast()) }.notify(WOKEN);
    },
    |header| {
        // SAFETY: the waker lends its reference.
        ManuallyDrop::new(unsafe { TaskRef::from_raw(header.cast()) }).notify(WOKEN);
    },
    |header| {
        // SAFETY: the waker gives its reference away.
        drop(unsafe { TaskRef::from_raw(header.cast()) });
    },
);

/// Counts an operation that may not have to wait. After so many, lets others go first.
#[inline(always)]
pub(crate) fn spend_budget() {
    if own_task_in_budget().is_none() {
        step_aside_out_of_budget();
    }
}

/// After so many operations that did not have to wait, lets others go first, once: so a loop of them starves nobody,
/// and can be interrupted. Before the operation, so that an interruption loses nothing. Gives the calling task.
#[cold]
fn step_aside_out_of_budget() -> Option<Current> {
    // What was spent last.
    record::with_coroutine(|record| record.refill_budget());
    let Some(task) = current_task() else {
        if record::with_thread(|record| spend_and_refill(&record)) {
            interrupt_thread(Instant::now());
        }
        return None;
    };
    // A raw coroutine spends its task's.
    let is_over = task.record().is_tasks_own() || task.with_own_record(spend_and_refill);
    if is_over && !suspension::is_refused(task.record()) {
        task.yield_now();
    }
    Some(task)
}

/// Whether this operation was the budget's last.
fn spend_and_refill(record: &Record) -> bool {
    let is_over = !record.spend();
    if is_over {
        record.refill_budget();
    }
    is_over
}

/// Runs `f` with a waker of the calling task.
///
/// On a task's own stack the waker is lent: to lend it costs nothing, to clone it is to count a
/// reference. In a raw coroutine `f` may suspend that coroutine and be resumed when the task
/// is long gone, so there it is counted from the start.
#[inline]
fn lend_waker<R>(task: Current, f: impl FnOnce(&Waker) -> R) -> R {
    let lent = borrowed_waker(&task);
    if task.record().is_tasks_own() {
        return f(&lent);
    }
    let counted = Waker::clone(&lent);
    f(&counted)
}

/// One turn of a wait for a future: polls it with a waker of the caller and, if it is pending, suspends
/// the caller until that is woken. May return early.
///
/// The poll may wait itself, for something else, and the waker be woken meanwhile. What it waits for
/// leaves the token of the waker alone, unless that is a future too: then the wake-up may be gone with
/// that wait, and the future is polled once more.
#[inline(always)]
pub(crate) fn poll_or_park<T>(poll: impl FnOnce(&Waker) -> Poll<T>) -> Poll<T> {
    let Some(task) = own_task_in_budget() else { return poll_or_park_elsewhere(poll) };
    let (polled_by, waits) = (task.as_ptr(), task.task_stack().waits.get());
    let polled = poll(&borrowed_waker(&task));
    if polled.is_pending() {
        park_polled(polled_by, waits);
    }
    polled
}

/// [`poll_or_park`] where the budget is used up, in a raw coroutine, or where there is no task.
#[inline(always)]
fn poll_or_park_elsewhere<T>(poll: impl FnOnce(&Waker) -> Poll<T>) -> Poll<T> {
    let Some(task) = step_aside_out_of_budget() else { return poll_or_park_thread(poll) };
    let (polled_by, waits) = (task.as_ptr(), task.task_stack().waits.get());
    let polled = lend_waker(task, poll);
    if polled.is_pending() {
        park_polled(polled_by, waits);
    }
    polled
}

/// Suspends the calling task until the waker is woken that a poll was given, by this task when it had
/// waited for so many futures.
#[inline(always)]
fn park_polled(polled_by: *const Header, waits: u64) {
    // The poll may have suspended a raw coroutine, and another than this task have resumed it
    // before. Then the future does not know whom to wake now.
    let Some(task) = current_task() else { return };
    let stack = task.task_stack();
    if (task.as_ptr().cast_const(), stack.waits.get()) != (polled_by, waits) {
        task.state.leave(WOKEN);
    }
    stack.waits.set(stack.waits.get() + 1);
    task.park(ParkReason::FUTURE);
}

/// [`poll_or_park`] where there is no task.
fn poll_or_park_thread<T>(poll: impl FnOnce(&Waker) -> Poll<T>) -> Poll<T> {
    let parker = ThreadParker::here();
    let seen = parker.wakes();
    let polled = poll(&Waker::from(Arc::clone(&parker)));
    if polled.is_pending() && current_task().is_none() {
        wait_on_thread(&parker, seen, None);
    }
    polled
}

/// One turn of polls of several futures, before the caller waits for whichever is woken first.
pub(crate) struct PollTurn {
    /// The task that polls, and how often it had waited for futures before.
    task: Option<(*const Header, u64)>,
    /// The thread, if there is no task, and how often it had been woken before.
    thread: Option<(Arc<ThreadParker>, u32)>,
}

impl PollTurn {
    /// Before the first poll.
    pub(crate) fn begin() -> PollTurn {
        match current_task() {
            Some(task) => PollTurn {
                task: Some((task.as_ptr(), task.task_stack().waits.get())),
                thread: None,
            },
            None => {
                let parker = ThreadParker::here();
                let seen = parker.wakes();
                PollTurn { task: None, thread: Some((parker, seen)) }
            }
        }
    }

    /// Polls with a waker of the caller.
    pub(crate) fn poll<T>(&self, poll: impl FnOnce(&Waker) -> Poll<T>) -> Poll<T> {
        match current_task() {
            Some(task) => lend_waker(task, poll),
            None => poll(&Waker::from(ThreadParker::here())),
        }
    }

    /// After the polls, before `task` parks. If it is not the one that polled, or has waited for a future in a poll, the
    /// wake-up may be gone, and its next wait ends at once.
    pub(super) fn prepare(&self, task: &Current) {
        let waits = &task.task_stack().waits;
        if self.task != Some((task.as_ptr().cast_const(), waits.get())) {
            task.state.leave(WOKEN);
        }
        waits.set(waits.get() + 1);
    }

    /// How often `thread` had been woken before the polls; `None`: it is another one that polled.
    pub(super) fn seen_by(&self, thread: &Arc<ThreadParker>) -> Option<u32> {
        self.thread
            .as_ref()
            .filter(|(polled, _)| Arc::ptr_eq(polled, thread))
            .map(|(_, seen)| *seen)
    }
}
