//! A task's run, as its worker sees it: it is bound to a stack, resumed, and finished.

use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

use super::children::Children;
use super::header::{Fresh, Header, Started, free};
use super::hook::{drop_inherited, end_unusual};
use super::local;
use super::mailbox::Mailbox;
use super::stack::{SwitchReason, TaskStack};
use super::state::{Finish, PARKED};
use super::waiter::Waiter;
use crate::base::process;
use crate::coroutine::{Engine, Identity, Switch};
use crate::goexit;
use crate::record::{Record, record_below};
use crate::stack::Slot;
use crate::unwind::catch_and_report;

/// What became of a task that was resumed.
pub(crate) enum ResumeOutcome {
    /// It has switched back.
    Suspended(SwitchReason),
    /// It has ended, and with it its block, as far as the worker is concerned. This was its stack,
    /// and its index in the worker's list.
    Ended(Slot, u32),
}

impl Fresh {
    /// Binds the task to a stack and to the calling thread's worker, which is `owner`'s. It runs when resumed.
    ///
    /// # Safety
    ///
    /// The calling thread is the worker of that mailbox.
    #[inline]
    pub(crate) unsafe fn bind(self, owner: &'static Mailbox<Header>, slot: Slot) -> Started {
        debug_assert!(local::is_here(owner) && self.stack.get().is_null());
        let stack = TaskStack::below(record_below(slot.ceiling()));
        let header = self.as_ptr();
        let task = header.cast_const().cast();
        let identity = Identity { id: self.id, task, name: self.name() };
        let body = move |record: NonNull<Record>, switch: &Switch<(), SwitchReason>, ()| {
            // SAFETY: C1, T1: `TaskStack` and record lie above us and the task holds itself.
            unsafe {
                (*stack).set_switch(switch);
                goexit::enter(record.as_ptr(), header.cast(), (*header).vtable.run);
                if !process::is_ordinary() {
                    end_unusual(&*header);
                }
                (*record.as_ptr()).forget_name();
                finish(header, Some(&*stack));
                (*record.as_ptr()).forget_task();
            }
        };
        // SAFETY: C1, the slot is ours until the engine is done; `resume` releases it then.
        unsafe {
            let (engine, _) = Engine::new(&slot, TaskStack::RESERVE, identity, body);
            stack.write(TaskStack::new(engine, slot));
        }
        self.owner.store(ptr::from_ref(owner).cast_mut(), Ordering::Relaxed);
        self.stack.set(stack);
        // The reference stays the task's own, until `finish` gives it up (T1).
        // SAFETY: just started, and in no queue.
        let task = unsafe { Started::from_raw(self.into_raw().cast_mut()) };
        if let Some(extras) = &task.extras {
            task.adopt(extras);
        }
        task
    }

    /// Ends the task as cancelled, in the calling context: its closure is dropped unrun.
    pub(crate) fn discard(self) {
        self.cancel();
        // SAFETY: T5, it is fresh, so its content is ours. `run` drops the closure of a cancelled task, on whatever
        // stack. `finish` takes our reference.
        unsafe {
            (self.vtable.run)(self.as_ptr().cast());
            if let Some(extras) = &self.extras {
                drop_inherited(extras);
            }
            // Release: as `Counter::add`.
            DISCARDED.fetch_add(1, Ordering::Release);
            finish(self.into_raw().cast_mut(), None);
        }
    }
}

/// Tasks that were discarded.
static DISCARDED: AtomicU64 = AtomicU64::new(0);

/// How many tasks ended without a worker.
pub(crate) fn discarded() -> u64 {
    DISCARDED.load(Ordering::Acquire)
}

impl Started {
    /// Runs the task until it switches back or ends; then this is not to be used again.
    ///
    /// # Safety
    ///
    /// The task is pinned to the calling thread's worker.
    #[inline]
    pub(crate) unsafe fn resume(&self) -> ResumeOutcome {
        let stack = self.stack.get();
        // SAFETY: C1, C2.
        match unsafe { (*stack).engine.resume(()) } {
            Some(reason) => ResumeOutcome::Suspended(reason),
            None => {
                // SAFETY: C1, the engine is done; the `TaskStack` is moved out of the slot before the
                // slot is given to anyone.
                let TaskStack { slot, index, .. } = unsafe { stack.read() };
                ResumeOutcome::Ended(slot, index.get())
            }
        }
    }

    /// The worker's half of unparking: true if the task was parked, and not just in the queue.
    #[inline]
    pub(crate) fn commit_unpark(&self) -> bool {
        let parked = self.state.load().has(PARKED);
        if parked {
            self.state.unpark_committed();
        }
        parked
    }
}

/// The last thing that runs on a task's stack: the cleanup is over, whoever joins is told, and the
/// task lets go of its block. This happens here and not on the worker's stack, because a waker may
/// be anybody's code.
///
/// # Safety
///
/// Called on the stack of this task, with its `TaskStack`, or for a task that was never started; the task's
/// own reference is the caller's to give away.
// Always inlined, for otherwise it is not, and every end of a task pays for the call.
#[inline(always)]
unsafe fn finish(header: *mut Header, stack: Option<&TaskStack>) {
    // SAFETY: T1, the task's own reference.
    let task = unsafe { &*header };
    if let Some(owner) = task.owner() {
        owner.counters().ended.add(1);
    }
    // They outlive this, which is one of them; the block may not.
    // SAFETY: T1, as above.
    let children = unsafe { Children::of(header) };
    // The last that the worker needs of the block.
    let note_index = || {
        if let Some(stack) = stack {
            stack.index.set(task.index.get());
        }
    };
    note_index();
    let last = match task.state.finish_unwaited() {
        Finish::Released => false,
        Finish::LastReference => true,
        how => {
            match how {
                Finish::JoinerSet => task.tell_joiner(),
                _ => task.tell_waiter(),
            }
            // Whoever was told may have suspended us, and the list have changed meanwhile.
            note_index();
            task.state.release()
        }
    };
    if last {
        // SAFETY: T1, it was the last reference.
        unsafe { free(header) };
    }
    if let Some(children) = children {
        // SAFETY: T8.
        unsafe { children.as_ref().remove() };
    }
}

impl Header {
    #[inline]
    fn tell_joiner(&self) {
        // SAFETY: T7, a joiner that takes the cell back leaves it as it is.
        match unsafe { &*self.waiter.get() } {
            Some(Waiter::Task(joiner)) if local::is_here(joiner.owner) => {
                // Its worker is running us, so it can neither leave nor see that it was told too
                // early: DONE comes with RELEASED.
                // SAFETY: T7, neither has it taken the cell back, for WAITER is set.
                unsafe { joiner.header.as_ref() }.wake();
            }
            _ => self.tell_waiter(),
        }
    }

    #[cold]
    fn tell_waiter(&self) {
        if self.state.finish() {
            // SAFETY: T6, the cell is ours.
            match unsafe { self.waiter.get().replace(None) } {
                None => {}
                // SAFETY: T7, not released.
                Some(Waiter::Task(joiner)) => unsafe { joiner.header.as_ref() }.wake(),
                Some(Waiter::Thread(thread)) => thread.unpark(),
                // A waker that panics is reported by the panic hook; the task is done all the same.
                Some(Waiter::Waker(waker)) => catch_and_report(|| waker.wake()),
            }
        }
    }
}
