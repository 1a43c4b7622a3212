//! Suspending and being unparked, on tasks and on plain threads.
//!
//! A suspension may be cut short by an interruption (see [`interrupt`](super::interrupt)).
//!
//! What leads from the public functions to the switch is inlined always. A CPU predicts where a `ret`
//! goes by the calls that it has seen, and after a switch those were another stack's: each `ret`
//! between the switch and the caller's own frame would be mispredicted (measured: 34 ns a `yield_now`
//! against 10 ns).
//!
//! - **P2** What is borrowed from a task is not kept while user code runs in a raw coroutine: that may be
//!   suspended by its yielder and go on under another task, when the first is gone.

use std::hint::assert_unchecked;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::Arc;
use std::task::{Poll, RawWakerVTable, Waker};
use std::thread;
use std::time::{Duration, Instant};

use super::header::{Header, POLL_WAKER, Started, TaskRef, WAKER, borrowed_waker};
use super::interrupt::{interrupt_thread, next_look};
use super::stack::SwitchReason;
use super::state::{CANCEL, NOTIFIED, TOKEN, WOKEN};
use super::thread_parker::ThreadParker;
use super::timers::Timer;
use crate::fork;
use crate::record::{self, Record, Running};
use crate::suspension;

/// What a parked task waits for, as reports tell it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Waiting {
    /// Its own call of `park`.
    Park,
    Sleep,
    /// The end of a task, which the one that waits holds while it is parked (T7).
    Join(*const Header),
    /// The end of the coroutines of a scope.
    Children,
    /// The same, where they run on another runtime.
    ChildrenElsewhere,
    Future,
    Blocking,
    Shutdown,
    Exit,
}

impl Waiting {
    /// The token that is left for waits of this kind and no other. 0: any wake-up is a reason to look
    /// whether it has come, and none is needed to see that.
    #[inline(always)]
    pub(super) fn token(self) -> usize {
        match self {
            Waiting::Park => TOKEN,
            Waiting::Future => WOKEN,
            _ => 0,
        }
    }
}

impl std::fmt::Display for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Waiting::Park => f.write_str("park"),
            Waiting::Sleep => f.write_str("sleep"),
            // SAFETY: T7.
            Waiting::Join(task) => write!(f, "the end of coroutine {}", unsafe { (**task).id() }),
            Waiting::Children | Waiting::ChildrenElsewhere => {
                f.write_str("the end of its scope's coroutines")
            }
            Waiting::Future => f.write_str("a future"),
            Waiting::Blocking => f.write_str("a blocking call"),
            Waiting::Shutdown => f.write_str("the end of a runtime"),
            Waiting::Exit => f.write_str("the end of the process"),
        }
    }
}

/// The task that the running code belongs to. Borrowed, not counted: it lives as long as the code
/// that runs in it (T1). In a raw coroutine that is until this coroutine suspends itself, so
/// a `Current` is not kept while code of the user's runs.
pub(crate) struct Current {
    task: ManuallyDrop<TaskRef>,
    /// Of the stack that we run on, which need not be the task's own.
    record: Running<'static>,
}

impl Current {
    /// Of the stack that we run on.
    #[inline(always)]
    pub(super) fn record(&self) -> Running<'_> {
        self.record
    }
}

impl Deref for Current {
    type Target = TaskRef;

    #[inline]
    fn deref(&self) -> &TaskRef {
        &self.task
    }
}

/// The task that the calling code belongs to.
#[inline(always)]
pub(crate) fn current_task() -> Option<Current> {
    // SAFETY: R1, P2, a `Current` is not kept.
    let record = unsafe { record::of_running() }?;
    let task = record.enclosing_task().cast::<Header>();
    if task.is_null() {
        return None;
    }
    // SAFETY: T1, it holds a reference of itself while we run, and ours is never dropped.
    let task = ManuallyDrop::new(unsafe { TaskRef::from_raw(task) });
    Some(Current { task, record })
}

/// The task on whose own stack the calling code runs, if it has a budget left, for an operation that need not
/// wait, such as a poll that finds a future ready. `None`: the caller is to [`step_aside_out_of_budget`].
#[inline(always)]
fn own_task_in_budget() -> Option<Current> {
    // SAFETY: R1, P2, a `Current` is not kept.
    let record = unsafe { record::of_running() }?;
    if !record.spend() {
        return None;
    }
    let task = record.task.get().cast::<Header>();
    // SAFETY: T1, as in `current_task`; R4.
    let task = unsafe {
        assert_unchecked(!task.is_null());
        TaskRef::from_raw(task)
    };
    Some(Current { task: ManuallyDrop::new(task), record })
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
    let is_over = task.record.is_tasks_own() || task.with_own_record(spend_and_refill);
    if is_over && !suspension::is_refused(task.record) {
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

impl Current {
    /// Suspends the task until it is unparked or interrupted. May return early.
    #[inline(always)]
    pub(crate) fn park(&self, waiting: Waiting) {
        suspension::check_task(self.record);
        if self.is_interruptible() {
            return self.park_interruptibly(waiting);
        }
        let token = self.park_undisturbed(waiting);
        if self.state.load().has(CANCEL) {
            self.interrupt_resumed(token);
        }
    }

    #[cold]
    fn park_interruptibly(&self, waiting: Waiting) {
        let now = Instant::now();
        self.interrupt(now);
        // A deadline that is past, and not to be delivered here, is no reason to wake up.
        let _timer = next_look(self.record, now).map(|time| self.set_timer(time));
        let token = self.park_undisturbed(waiting);
        self.interrupt_resumed(token);
    }

    /// As [`park`](Current::park), but an interruption waits for a later suspension. Gives the token that
    /// was there for this wait, or 0.
    #[inline(always)]
    pub(crate) fn park_undisturbed(&self, waiting: Waiting) -> usize {
        fork::check();
        let token = waiting.token();
        let taken = self.state.take(NOTIFIED | token);
        if taken != 0 {
            return taken & token;
        }
        let stack = self.stack();
        stack.waiting.set(waiting);
        stack.token.set(0);
        // SAFETY: it is the calling code's task.
        unsafe { self.switch_out(SwitchReason::Park) };
        if token == 0 {
            return 0;
        }
        // The token that has ended this wait is not there for the next one.
        self.state.take(NOTIFIED | token) & token | stack.token.get()
    }

    /// As [`park`](Current::park), until `time` at the latest.
    pub(crate) fn park_until(&self, time: Instant, waiting: Waiting) {
        let _timer = self.set_timer(time);
        self.park(waiting);
    }

    /// Has the task unparked at `time`, until the timer is dropped.
    fn set_timer(&self, time: Instant) -> Timer {
        let owner = self.owner().expect("a task that runs has an owner");
        // SAFETY: it runs, and is in no queue. The timer goes before the task does, for its holders
        // are suspended with the task, and by nothing else; what fires just unparks.
        owner.set_timer(time, unsafe { Started::from_raw(self.as_ptr()) })
    }

    /// Lets others go first.
    #[inline(always)]
    pub(crate) fn yield_now(&self) {
        suspension::check_task(self.record);
        if self.is_interruptible() {
            self.interrupt(Instant::now());
        }
        self.step_aside();
        if self.is_interruptible() {
            self.interrupt_resumed(0);
        }
    }

    /// Lets others go first, whatever is asked of the task meanwhile.
    #[inline(always)]
    pub(crate) fn step_aside(&self) {
        fork::check();
        // SAFETY: it is the calling code's task.
        unsafe { self.switch_out(SwitchReason::Yield) };
    }
}

/// Suspends the coroutine until its [`Handle::unpark`](crate::Handle::unpark) is called; returns at
/// once if that has happened since the last `park`. On a plain thread: [`std::thread::park`].
///
/// Like the latter it may return without a reason, so callers wait in a loop for what they need.
///
/// # Panics
///
/// Unwinds, without calling the panic hook, when the coroutine is cancelled or a
/// [`timeout`](crate::timeout) around it elapses.
///
/// # Examples
///
/// ```
/// let parked = coro::go(coro::park);
/// parked.handle().unpark();
/// parked.join().unwrap();
/// ```
#[inline(always)]
pub fn park() {
    park_for(Waiting::Park);
}

/// [`park`], with the reason for reports.
#[inline(always)]
pub(crate) fn park_for(waiting: Waiting) {
    match current_task() {
        Some(task) => task.park(waiting),
        None => park_thread(None),
    }
}

/// Blocks the calling thread, which is in no task, until its own code is unparked, for `limit` at most, and until the
/// first of its deadlines.
pub(crate) fn park_thread(limit: Option<Duration>) {
    block_thread(limit, |limit| match limit {
        Some(limit) => thread::park_timeout(limit),
        None => thread::park(),
    });
}

/// Blocks the calling thread, which is in no task, while its `parker` was woken `seen` times, for `limit` at most, and
/// until the first of its deadlines. May return early.
pub(crate) fn wait_on_thread(parker: &ThreadParker, seen: u32, limit: Option<Duration>) {
    block_thread(limit, |limit| parker.block(seen, limit));
}

fn block_thread(limit: Option<Duration>, block: impl FnOnce(Option<Duration>)) {
    let now = Instant::now();
    interrupt_thread(now);
    let left = record::with(|record| next_look(record, now)).map(|time| time - now);
    block(limit.into_iter().chain(left).min());
    interrupt_thread(Instant::now());
}

/// Suspends the calling task, which waits for what borrows from it: an interruption comes later. It has seen before
/// that it may suspend.
pub(crate) fn park_undisturbed(waiting: Waiting) {
    let task = current_task().expect("the caller is in a task");
    suspension::check_task_or_abort(task.record);
    task.park_undisturbed(waiting);
}

/// Lets other coroutines of this worker run first. On a plain thread: [`std::thread::yield_now`].
///
/// # Panics
///
/// Unwinds, without calling the panic hook, when the coroutine is cancelled or a
/// [`timeout`](crate::timeout) around it elapses.
///
/// # Examples
///
/// ```
/// use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
///
/// static READY: AtomicBool = AtomicBool::new(false);
/// coro::go(|| READY.store(true, Relaxed));
/// while !READY.load(Relaxed) {
///     coro::yield_now();
/// }
/// ```
#[inline(always)]
pub fn yield_now() {
    match current_task() {
        Some(task) => task.yield_now(),
        None => {
            interrupt_thread(Instant::now());
            thread::yield_now();
        }
    }
}

/// Runs `f` with a waker of the calling coroutine, or of the thread where there is none. It is for code
/// that looks round itself when it is woken.
#[inline]
pub(crate) fn with_waker<R>(f: impl FnOnce(&Waker) -> R) -> R {
    match current_task() {
        Some(task) => lend_waker(task, &WAKER, f),
        None => f(&Waker::from(ThreadParker::here())),
    }
}

/// Runs `f` with a waker of the calling task.
///
/// On a task's own stack the waker is lent: to lend it costs nothing, to clone it is to count a
/// reference. In a raw coroutine `f` may suspend that coroutine and be resumed when the task
/// is long gone, so there it is counted from the start.
#[inline]
fn lend_waker<R>(task: Current, vtable: &'static RawWakerVTable, f: impl FnOnce(&Waker) -> R) -> R {
    let lent = borrowed_waker(&task, vtable);
    if task.record.is_tasks_own() {
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
    let (polled_by, waits) = (task.as_ptr(), task.stack().waits.get());
    let polled = poll(&borrowed_waker(&task, &POLL_WAKER));
    if polled.is_pending() {
        park_polled(polled_by, waits);
    }
    polled
}

/// [`poll_or_park`] where the budget is used up, in a raw coroutine, or where there is no task.
#[inline(always)]
fn poll_or_park_elsewhere<T>(poll: impl FnOnce(&Waker) -> Poll<T>) -> Poll<T> {
    let Some(task) = step_aside_out_of_budget() else { return poll_or_park_thread(poll) };
    let (polled_by, waits) = (task.as_ptr(), task.stack().waits.get());
    let polled = lend_waker(task, &POLL_WAKER, poll);
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
    let stack = task.stack();
    if (task.as_ptr().cast_const(), stack.waits.get()) != (polled_by, waits) {
        task.state.leave(WOKEN);
    }
    stack.waits.set(stack.waits.get() + 1);
    task.park(Waiting::Future);
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
