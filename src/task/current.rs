//! The task that the running code belongs to, and the switch away from it.
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
use std::ptr::NonNull;

use super::header::{BorrowedTask, Header, TaskRef};
use super::mailbox::Mailbox;
use super::stack::{SwitchReason, TaskStack};
use super::thread_parker::ThreadParker;
use super::waiter::Waiter;
use crate::check;
use crate::fork;
use crate::record::{self, Record, Running};
use crate::unwind::panicking;

/// The task that the running code belongs to. Borrowed, not counted: it lives as long as the code
/// that runs in it (T1). In a raw coroutine that is until this coroutine suspends itself, so
/// a `Current` is not kept while code of the user's runs (P2).
pub(crate) struct Current {
    task: ManuallyDrop<TaskRef>,
    /// Of the stack that we run on, which need not be the task's own.
    record: Running<'static>,
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
/// wait, such as a poll that finds a future ready.
#[inline(always)]
pub(super) fn own_task_in_budget() -> Option<Current> {
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

/// The worker of the task that the calling code belongs to.
pub(crate) fn calling_worker() -> Option<&'static Mailbox<Header>> {
    current_task()?.owner()
}

/// Whoever the calling code waits as: its task, or its thread.
pub(crate) fn calling_waiter() -> Waiter<TaskRef> {
    match current_task() {
        Some(task) => Waiter::Task(TaskRef::clone(&task)),
        None => Waiter::Thread(ThreadParker::here()),
    }
}

impl Current {
    /// Of the stack that we run on.
    #[inline(always)]
    pub(super) fn record(&self) -> Running<'_> {
        self.record
    }

    /// The task as one that waits.
    #[inline]
    pub(super) fn as_borrowed(&self) -> BorrowedTask {
        let owner = self.owner().expect("a task that runs has an owner");
        // SAFETY: a task's header is not null.
        BorrowedTask { header: unsafe { NonNull::new_unchecked(self.as_ptr()) }, owner }
    }

    /// What the task keeps on its stack.
    #[inline]
    pub(super) fn task_stack(&self) -> &TaskStack {
        // SAFETY: C1, the calling code runs in the task.
        unsafe { self.stack() }
    }

    /// Switches from the running task to its worker, and returns when it is resumed.
    #[inline(always)]
    pub(super) fn switch_out(&self, reason: SwitchReason) {
        check::suspension(self.stack.get().cast(), || self.label().to_string());
        if panicking() {
            return self.switch_out_of_panics(reason);
        }
        // SAFETY: C3, we run in it.
        unsafe { self.task_stack().switch_out(reason) };
    }

    /// In the middle of an unwinding, which stays the coroutine's own.
    #[cold]
    fn switch_out_of_panics(&self, reason: SwitchReason) {
        let _aside = self.record().set_panics_aside_at_switch();
        // SAFETY: as above.
        unsafe { self.task_stack().switch_out(reason) };
    }

    /// Lets others go first, whatever is asked of the task meanwhile.
    #[inline(always)]
    pub(crate) fn step_aside(&self) {
        fork::check();
        self.switch_out(SwitchReason::Yield);
    }

    /// Whether the task's function is over, and its cleanup has begun.
    pub(super) fn is_ending(&self) -> bool {
        self.with_own_record(Record::is_ending)
    }

    /// Runs `f` with the record of the task's own stack.
    pub(super) fn with_own_record<R>(&self, f: impl FnOnce(&Record) -> R) -> R {
        // SAFETY: R1, the record lies above the `TaskStack`, and the task runs.
        f(unsafe { &*TaskStack::record(self.stack.get()) })
    }
}
