//! Suspending and being unparked, on tasks and on plain threads, and what can cut a suspension
//! short: a cancellation, or a deadline.
//!
//! Both unwind the coroutine from the suspension, with a payload of ours and without the panic hook.
//! They do not where it is unwinding already, since a second panic that leaves a destructor aborts the
//! process. std counts panics by thread, not by coroutine, so it may be another coroutine of the same
//! worker that is suspended in the middle of its unwinding. A task that switched out while no panic was
//! under way is not unwinding itself, whatever has begun since. Otherwise its frames tell (see
//! [`unwind`](crate::unwind)); but not always inside a `catch_unwind` of the user's, and not in a coroutine
//! made by hand, whose resumer would be unwound as well. In doubt, and in a destructor that its own panic
//! runs, the interruption is *put off*: it may come at a later suspension, and the worker wakes the task
//! again once no panic is under way.
//!
//! What leads from the public functions to the switch is inlined always. A CPU predicts where a `ret`
//! goes by the calls that it has seen, and after a switch those were another stack's: each `ret`
//! between the switch and the caller's own frame would be mispredicted (measured: 34 ns a `yield_now`
//! against 10 ns).
//!
//! - **P1** A coroutine is unwound by us only where it is certain that it is not unwinding already.
//! - **P2** What is borrowed from a task is not kept while user code runs in a coroutine made by hand:
//!   that may be suspended by hand and go on under another task, when the first is gone.

use std::cell::OnceCell;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Poll, RawWakerVTable, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::deadline;
use super::fork;
use super::header::{Header, POLL_WAKER, Started, TaskRef, WAKER, borrowed_waker};
use super::stage::Signal;
use super::state::{CANCEL, NOTIFIED, TOKEN, WOKEN};
use super::timers::Timer;
use crate::id::Id;
use crate::locals::Interruption;
use crate::record::{self, Record};
use crate::unwind::unwind_if_first;

/// What a parked task waits for, as reports tell it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Waiting {
    /// Its own call of `park`.
    Park,
    Sleep,
    Join(Id),
    Children,
    Future,
    Blocking,
    Shutdown,
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
            Waiting::Join(id) => write!(f, "the end of coroutine {id}"),
            Waiting::Children => f.write_str("the end of its scope's coroutines"),
            Waiting::Future => f.write_str("a future"),
            Waiting::Blocking => f.write_str("a blocking call"),
            Waiting::Shutdown => f.write_str("the end of a runtime"),
        }
    }
}

/// The task that the running code belongs to. Borrowed, not counted: it lives as long as the code
/// that runs in it (T1). In a coroutine made by hand that is until this coroutine suspends itself, so
/// a `Current` is not kept while code of the user's runs.
pub(crate) struct Current {
    task: ManuallyDrop<TaskRef>,
    /// Of the stack that we run on, which need not be the task's own.
    record: &'static Record,
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
    let record = record::of_running()?;
    let task = record.enclosing_task().cast::<Header>();
    if task.is_null() {
        return None;
    }
    // SAFETY: T1, it holds a reference of itself while we run, and ours is never dropped.
    let task = ManuallyDrop::new(unsafe { TaskRef::from_raw(task) });
    Some(Current { task, record })
}

impl Current {
    /// Suspends the task until it is unparked or interrupted. May return early.
    #[inline(always)]
    pub(crate) fn park(&self, waiting: Waiting) {
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
        let _timer = deadline::first_after(now).map(|time| self.set_timer(time));
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
        let stage = self.stage();
        stage.waiting.set(waiting);
        stage.token.set(0);
        // SAFETY: it is the calling code's task.
        unsafe { self.switch_out(Signal::Park) };
        if token == 0 {
            return 0;
        }
        // The token that has ended this wait is not there for the next one.
        self.state.take(NOTIFIED | token) & token | stage.token.get()
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
        unsafe { self.switch_out(Signal::Yield) };
    }

    /// Whether there may be a reason to interrupt the task.
    #[inline]
    fn is_interruptible(&self) -> bool {
        self.state.load().has(CANCEL) || deadline::any(self.record)
    }

    /// Interrupts the task if there is a reason, before it is suspended.
    #[cold]
    fn interrupt(&self, now: Instant) {
        if self.is_newly_cancelled() {
            return self.interrupt_if(!thread::panicking(), now, 0);
        }
        if deadline::past(now).is_some() {
            // Others first, so that whoever just looks whether something is there starves nobody.
            self.step_aside();
            self.interrupt_resumed(0);
        }
    }

    /// Interrupts the task if there is a reason, after it was suspended. The token that it was woken with,
    /// if it was, is there for the next wait then.
    #[cold]
    fn interrupt_resumed(&self, token: usize) {
        let safe = self.stage().calm.get() || !thread::panicking();
        self.interrupt_if(safe, Instant::now(), token);
    }

    /// Unwinds the task if it was cancelled and does not know yet, or if a deadline is past, and leaves
    /// `token`; or has that put off, where it is not `safe` (P1).
    fn interrupt_if(&self, safe: bool, now: Instant, token: usize) {
        if cfg!(panic = "abort") {
            return;
        }
        let Some(interruption) = self.interruption(now) else { return };
        let deliver = || {
            self.state.leave(token);
            interruption.deliver()
        };
        if safe {
            resume_unwind(deliver());
        }
        if self.record.is_tasks_own() {
            unwind_if_first(deliver);
        }
        self.put_off();
    }

    /// The reason to interrupt the task, if there is one.
    fn interruption(&self, now: Instant) -> Option<Interruption> {
        if self.is_newly_cancelled() {
            return Some(Interruption { target: self.id, note: note_cancel_delivered });
        }
        deadline::past(now)
    }

    fn is_newly_cancelled(&self) -> bool {
        self.state.load().has(CANCEL) && !self.cancel_delivered.get()
    }

    /// Has the worker wake the task again when no panic is under way.
    fn put_off(&self) {
        if let Some(owner) = self.owner()
            && !self.stage().put_off.replace(true)
        {
            owner.put_off(TaskRef::clone(self));
        }
    }
}

/// Notes whether the cancellation of the task `id` was delivered. One that code of ours has caught on its
/// way, and then gone on, comes once more, unless the task has come to its end by now.
fn note_cancel_delivered(id: Id, delivered: bool) {
    if let Some(task) = current_task()
        && task.id == id
        && (delivered || !task.stage().record().is_ending())
    {
        task.cancel_delivered.set(delivered);
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

/// Blocks the calling thread, which is in no task, until it is unparked, for `limit` at most, and
/// until the first of its deadlines.
pub(crate) fn park_thread(limit: Option<Duration>) {
    let now = Instant::now();
    interrupt_thread(now);
    let left = deadline::first_after(now).map(|time| time - now);
    match limit.into_iter().chain(left).min() {
        Some(limit) => thread::park_timeout(limit),
        None => thread::park(),
    }
    interrupt_thread(Instant::now());
}

/// Unwinds the calling thread, which is in no task, if a deadline is past.
fn interrupt_thread(now: Instant) {
    if record::with(deadline::any)
        && cfg!(panic = "unwind")
        && !thread::panicking()
        && let Some(interruption) = deadline::past(now)
    {
        resume_unwind(interruption.deliver());
    }
}

/// As [`park_for`], but an interruption waits for a later suspension.
pub(crate) fn park_undisturbed(waiting: Waiting) {
    match current_task() {
        Some(task) => _ = task.park_undisturbed(waiting),
        None => {
            fork::check();
            thread::park();
        }
    }
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

/// Whether the calling coroutine was cancelled: its next suspension unwinds it, or one did already.
/// False on a plain thread.
///
/// # Examples
///
/// ```
/// let worker = coro::go(|| {
///     let mut steps = 0u64;
///     while !coro::is_cancelled() {
///         steps += 1; // a long computation that never suspends
///     }
///     steps
/// });
/// # while coro::inspect::metrics().fresh > 0 {}
/// worker.cancel();
/// let steps = worker.join(); // it ended by itself, unless it was cancelled before it began
/// # let _ = steps;
/// ```
pub fn is_cancelled() -> bool {
    current_task().is_some_and(|task| task.is_cancelled())
}

/// Runs `f` with a waker of the calling coroutine, or of the thread where there is none. It is for code
/// that looks round itself when it is woken.
#[inline]
pub(crate) fn with_waker<R>(f: impl FnOnce(&Waker) -> R) -> R {
    match current_task() {
        Some(task) => lend_waker(task, &WAKER, f),
        None => f(&Waker::from(ThreadWaker::here())),
    }
}

/// Runs `f` with a waker of the calling task.
///
/// On a task's own stack the waker is lent: to lend it costs nothing, to clone it is to count a
/// reference. In a coroutine made by hand `f` may suspend that coroutine and be resumed when the task
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
    let Some(task) = current_task() else { return poll_or_park_thread(poll) };
    let (polled_by, waits) = (task.as_ptr(), task.stage().waits.get());
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
    // The poll may have suspended a coroutine made by hand, and another than this task have resumed it
    // before. Then the future does not know whom to wake now.
    let Some(task) = current_task() else { return };
    let stage = task.stage();
    if (task.as_ptr().cast_const(), stage.waits.get()) != (polled_by, waits) {
        task.state.leave(WOKEN);
    }
    stage.waits.set(stage.waits.get() + 1);
    task.park(Waiting::Future);
}

/// [`poll_or_park`] where there is no task.
fn poll_or_park_thread<T>(poll: impl FnOnce(&Waker) -> Poll<T>) -> Poll<T> {
    let waker = ThreadWaker::here();
    // Acquire, here and below: pairs with `wake_by_ref`.
    let wakes = waker.wakes.load(Ordering::Acquire);
    let polled = poll(&Waker::from(Arc::clone(&waker)));
    if polled.is_pending() && current_task().is_none() {
        let woken = waker.wakes.load(Ordering::Acquire) != wakes;
        // Not without a look at the deadlines, nor with what unparked us left for the next wait.
        park_thread(woken.then_some(Duration::ZERO));
    }
    polled
}

/// Unparks a thread, and counts that: whatever the thread waits for meanwhile with the only token that
/// it has, the count tells.
struct ThreadWaker {
    thread: Thread,
    wakes: AtomicU64,
}

impl ThreadWaker {
    /// That of the calling thread.
    fn here() -> Arc<ThreadWaker> {
        thread_local! {
            static WAKER: OnceCell<Arc<ThreadWaker>> = const { OnceCell::new() };
        }
        let make = || Arc::new(ThreadWaker { thread: thread::current(), wakes: AtomicU64::new(0) });
        // In the thread's last destructors there may be no keeping it.
        WAKER.try_with(|waker| Arc::clone(waker.get_or_init(make))).unwrap_or_else(|_| make())
    }
}

impl Wake for ThreadWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Release: what was done before is seen by whoever sees the count.
        self.wakes.fetch_add(1, Ordering::Release);
        self.thread.unpark();
    }
}
