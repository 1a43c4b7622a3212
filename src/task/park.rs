//! Suspending and being unparked, on tasks and on plain threads.

use std::cell::OnceCell;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::thread::{self, Thread};

use super::body::CancelUnwind;
use super::header::{Header, Started, TaskRef};
use super::stage::Signal;
use super::state::CANCEL;
use crate::record;

/// The task that the running code belongs to. Borrowed, not counted: it lives as long as the code
/// that runs in it (T1).
pub(crate) struct Current(ManuallyDrop<TaskRef>);

impl Deref for Current {
    type Target = TaskRef;

    #[inline]
    fn deref(&self) -> &TaskRef {
        &self.0
    }
}

/// The task that the calling code belongs to.
#[inline]
pub(crate) fn current_task() -> Option<Current> {
    let task = record::current_task().cast::<Header>();
    if task.is_null() {
        return None;
    }
    // SAFETY: T1, its worker holds a reference while we run, and ours is never dropped.
    Some(Current(ManuallyDrop::new(unsafe { TaskRef::from_raw(task) })))
}

impl Current {
    /// The task as its worker knows it, for a timer.
    pub(crate) fn started(&self) -> Started {
        // SAFETY: it runs, so it has started and is in no queue; whoever gets this unparks it and
        // does nothing else.
        unsafe { Started::from_raw(self.as_ptr()) }
    }

    /// Suspends the task until it is unparked or cancelled. May return early.
    #[inline]
    pub(crate) fn park(&self) {
        self.deliver_cancel();
        if !self.state.take_token() {
            // SAFETY: it is the calling code's task.
            unsafe { self.switch_out(Signal::Park) };
            self.deliver_cancel();
        }
    }

    /// Lets others go first.
    #[inline]
    pub(crate) fn yield_now(&self) {
        self.deliver_cancel();
        // SAFETY: it is the calling code's task.
        unsafe { self.switch_out(Signal::Yield) };
        self.deliver_cancel();
    }

    /// Lets others go first, whatever is asked of the task meanwhile.
    #[cold]
    pub(super) fn step_aside(&self) {
        // SAFETY: it is the calling code's task.
        unsafe { self.switch_out(Signal::Yield) };
    }

    #[inline]
    fn deliver_cancel(&self) {
        if self.state.load().has(CANCEL) {
            self.unwind_cancelled();
        }
    }

    /// Unwinds a cancelled task, once. Not while the thread is unwinding already: a second panic
    /// out of a destructor would abort the process.
    #[cold]
    fn unwind_cancelled(&self) {
        if cfg!(panic = "unwind") && !self.cancel_delivered.get() && !thread::panicking() {
            self.cancel_delivered.set(true);
            resume_unwind(Box::new(CancelUnwind));
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
/// Unwinds, without calling the panic hook, when the coroutine is cancelled.
///
/// # Examples
///
/// ```
/// let parked = coro::go(coro::park);
/// parked.handle().unpark();
/// parked.join().unwrap();
/// ```
#[inline]
pub fn park() {
    match current_task() {
        Some(task) => task.park(),
        None => thread::park(),
    }
}

/// Lets other coroutines of this worker run first. On a plain thread: [`std::thread::yield_now`].
///
/// # Panics
///
/// Unwinds, without calling the panic hook, when the coroutine is cancelled.
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
#[inline]
pub fn yield_now() {
    match current_task() {
        Some(task) => task.yield_now(),
        None => thread::yield_now(),
    }
}

struct ThreadWaker(Thread);

impl Wake for ThreadWaker {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// A waker that unparks the calling thread.
pub(crate) fn thread_waker() -> Waker {
    thread_local! {
        static WAKER: OnceCell<Waker> = const { OnceCell::new() };
    }
    let make = || Waker::from(Arc::new(ThreadWaker(thread::current())));
    // In the thread's last destructors there may be no keeping it.
    WAKER.try_with(|waker| waker.get_or_init(make).clone()).unwrap_or_else(|_| make())
}
