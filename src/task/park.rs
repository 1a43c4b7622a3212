//! Parking and yielding, on tasks and on plain threads.
//!
//! A suspension may be cut short by an interruption (see [`interrupt`](super::interrupt)).

use std::thread;
use std::time::{Duration, Instant};

use super::children::Children;
use super::current::{Current, current_task};
use super::header::Started;
use super::hook::check_thread;
use super::interrupt::{interrupt_thread, next_look};
use super::label::Waiting;
use super::local::{Local, Timer};
use super::stack::{ParkReason, SwitchReason};
use super::state::{CANCEL, NOTIFIED};
use super::thread_parker::ThreadParker;
use super::waiter::Waiter;
use crate::fork;
use crate::record;
use crate::suspension;

impl Current {
    /// Suspends the task until it is unparked or interrupted. May return early.
    #[inline(always)]
    pub(crate) fn park(&self, reason: ParkReason) {
        suspension::check_task(self.record());
        if self.is_interruptible() {
            return self.park_interruptibly(reason);
        }
        let token = self.park_undisturbed(reason);
        if self.state.load().has(CANCEL) {
            self.interrupt_resumed(token);
        }
    }

    #[cold]
    fn park_interruptibly(&self, reason: ParkReason) {
        let now = Instant::now();
        self.interrupt(now);
        // A deadline that is past, and not to be delivered here, is no reason to wake up.
        let _timer = next_look(self.record(), now).map(|time| self.set_timer(time));
        let token = self.park_undisturbed(reason);
        self.interrupt_resumed(token);
    }

    /// As [`park`](Current::park), but an interruption waits for a later suspension. Gives the token that
    /// was there for this wait, or 0.
    #[inline(always)]
    pub(super) fn park_undisturbed(&self, reason: ParkReason) -> usize {
        fork::check();
        let taken = self.state.take(NOTIFIED | reason.token());
        if taken != 0 {
            return taken & reason.token();
        }
        let stack = self.task_stack();
        stack.reason.set(reason);
        stack.set_token(0);
        self.switch_out(SwitchReason::Park);
        if reason.token() == 0 {
            return 0;
        }
        // The token that has ended this wait is not there for the next one.
        self.state.take(NOTIFIED | reason.token()) & reason.token() | stack.token()
    }

    /// As [`park`](Current::park), until `time` at the latest.
    pub(crate) fn park_until(&self, time: Instant, reason: ParkReason) {
        let _timer = self.set_timer(time);
        self.park(reason);
    }

    /// Has the task unparked at `time`, until the timer is dropped.
    pub(super) fn set_timer(&self, time: Instant) -> Timer {
        // SAFETY: it runs, and is in no queue. The timer goes before the task does, for its holders
        // are suspended with the task, and by nothing else; what fires just unparks.
        let task = unsafe { Started::from_raw(self.as_ptr()) };
        Local::with(|local| local.set_timer(time, task)).expect("a task runs on a worker")
    }

    /// Lets others go first.
    #[inline(always)]
    pub(crate) fn yield_now(&self) {
        suspension::check_task(self.record());
        if self.is_interruptible() {
            self.interrupt(Instant::now());
        }
        self.step_aside();
        if self.is_interruptible() {
            self.interrupt_resumed(0);
        }
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
    park_for(ParkReason::PARK);
}

/// [`park`], with the reason.
#[inline(always)]
pub(crate) fn park_for(reason: ParkReason) {
    match current_task() {
        Some(task) => task.park(reason),
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

/// Blocks the calling thread, which is in no task, by `block`, which is given a limit: `limit`, or the first of the
/// thread's deadlines.
pub(crate) fn block_thread(limit: Option<Duration>, block: impl FnOnce(Option<Duration>)) {
    check_thread();
    let now = Instant::now();
    interrupt_thread(now);
    let left = record::with(|record| next_look(record, now)).map(|time| time - now);
    block(limit.into_iter().chain(left).min());
    interrupt_thread(Instant::now());
}

/// To be called before the caller does what may have to wait.
///
/// # Panics
///
/// In a `no_suspend`, and in a carry that a worker calls.
pub(crate) fn check_caller() {
    check_thread();
    record::with(suspension::check_task);
}

/// Suspends the calling task, which waits for what borrows from it: an interruption comes later. It has seen before
/// that it may suspend.
pub(crate) fn park_undisturbed(reason: ParkReason) {
    let task = current_task().expect("the caller is in a task");
    suspension::check_task_or_abort(task.record());
    task.park_undisturbed(reason);
}

/// Waits until there are no `children`, which may run `elsewhere`: on another runtime than the caller's. Neither a
/// cancellation nor a timeout cuts this short (T8).
///
/// Whoever waits need not be who made the `Children`: a raw coroutine may have been resumed by another task since.
pub(crate) fn wait_for_children(children: &Children, elsewhere: bool) {
    match current_task() {
        Some(task) => {
            // SAFETY: T8, we wait below.
            unsafe { children.begin_wait(Waiter::Task(task.as_borrowed())) };
            let reason = ParkReason::new(Waiting::Children, elsewhere);
            while !children.are_over() {
                park_undisturbed(reason);
            }
        }
        None => {
            let parker = ThreadParker::here();
            // SAFETY: T8, as above.
            unsafe { children.begin_wait(Waiter::Thread(parker.clone())) };
            loop {
                let seen = parker.wakes();
                if children.are_over() {
                    return;
                }
                fork::check();
                parker.block(seen, None);
            }
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
            check_thread();
            interrupt_thread(Instant::now());
            thread::yield_now();
        }
    }
}
