//! [`TaskStack`]: what a task keeps on its own stack, below the record. It holds the engine that switches to the task.
//!
//! ```text
//!   high  | Record                      |
//!         +-----------------------------+ <- record
//!         | TaskStack: engine, switch,  |
//!         |            slot             |
//!         +-----------------------------+ <- the engine's stack base
//!         | frames                      |
//! ```
//!
//! It lies in the slot, not in the task's block: a task needs it only while it has a stack, and a task that has not
//! started should be small.

use std::cell::Cell;
use std::mem::{MaybeUninit, size_of};
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering;

use super::header::{Header, Started, TaskRef, Waiter, free};
use super::park::Waiting;
use super::remote::{Remote, TaskLabel};
use super::state::{Finish, PARKED};
use crate::check;
use crate::coroutine::{Engine, Identity, Switch};
use crate::fork;
use crate::goexit;
use crate::record::{self, Record, record_below};
use crate::stack::Slot;
use crate::unwind::{catch_and_report, panicking};

/// Why a task switches back to its worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SwitchReason {
    /// It is ready, and others may go first.
    Yield,
    /// It waits to be unparked.
    Park,
}

/// What a task needs only while it has a stack. It lies at the top of that stack, below the record.
pub(crate) struct TaskStack {
    engine: Engine<(), SwitchReason>,
    switch: Cell<*const Switch<(), SwitchReason>>,
    /// Where the worker lists the task, once it has ended.
    index: Cell<u32>,
    /// What the task waits for while it is parked.
    pub(super) waiting: Cell<Waiting>,
    /// The token that has ended this wait without a trace in the state word, or 0.
    pub(super) token: Cell<usize>,
    /// How many times the task has waited for a future, and may have taken WOKEN.
    pub(super) waits: Cell<u64>,
    slot: Slot,
}

const RESERVE: usize = size_of::<TaskStack>().next_multiple_of(16);

/// What became of a task that was resumed.
pub(crate) enum ResumeOutcome {
    /// It has switched back.
    Suspended(SwitchReason),
    /// It has ended, and with it its block, as far as the worker is concerned. This was its stack,
    /// and its index in the worker's list.
    Ended(Slot, u32),
}

impl TaskRef {
    /// Binds a fresh task to a stack and to the calling thread's worker. It runs when resumed.
    ///
    /// # Safety
    ///
    /// The task is fresh, and the caller took it from its queue.
    #[inline]
    pub(crate) unsafe fn bind(self, owner: &'static Remote, slot: Slot) -> Started {
        debug_assert!(owner.is_here() && self.stack.get().is_null());
        let stack = record_below(slot.ceiling()).cast::<u8>().wrapping_sub(RESERVE);
        let stack = stack.cast_mut().cast::<TaskStack>();
        let header = self.as_ptr();
        let task = header.cast_const().cast();
        let identity = Identity { id: self.id, task, name: self.name() };
        let body = move |record: NonNull<Record>, switch: &Switch<(), SwitchReason>, ()| {
            // SAFETY: C1, T1: `TaskStack` and record lie above us and the task holds itself.
            unsafe {
                (*stack).switch.set(switch);
                goexit::enter(record.as_ptr(), header.cast(), (*header).vtable.run);
                if fork::is_child() {
                    fork::end(TaskLabel::of(&*header));
                }
                finish(header, Some(&*stack));
                (*record.as_ptr()).retire();
            }
        };
        // SAFETY: C1, the slot is ours until the engine is done; `resume` releases it then.
        unsafe {
            let (engine, _) = Engine::new(&slot, RESERVE, identity, body);
            stack.write(TaskStack {
                engine,
                switch: Cell::new(ptr::null()),
                index: Cell::new(0),
                waiting: Cell::new(Waiting::Park),
                token: Cell::new(0),
                waits: Cell::new(0),
                slot,
            });
        }
        self.owner.store(ptr::from_ref(owner).cast_mut(), Ordering::Relaxed);
        self.stack.set(stack);
        // The reference stays the task's own, until `finish` gives it up (T1).
        // SAFETY: just started, and in no queue.
        unsafe { Started::from_raw(self.into_raw().cast_mut()) }
    }
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
}

impl Started {
    /// The worker's half of parking, after the switch. `Some`: a token came first, and the task
    /// goes on. Otherwise whoever unparks it has it from here on (T2).
    #[inline]
    pub(super) fn commit_park(self) -> Option<Started> {
        (!self.state.commit_park()).then_some(self)
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

impl Header {
    /// Whether the task's function is over, and its cleanup has begun; for the task itself.
    pub(super) fn is_ending(&self) -> bool {
        self.with_own_record(Record::is_ending)
    }

    /// Runs `f` with the record of the task's own stack; for the task itself.
    pub(super) fn with_own_record<R>(&self, f: impl FnOnce(&Record) -> R) -> R {
        let record = self.stack.get().cast::<u8>().wrapping_add(RESERVE).cast::<Record>();
        // SAFETY: R1, the record lies above the `TaskStack`, and the task runs.
        f(unsafe { &*record })
    }

    /// Switches from the running task to its worker, and returns when it is resumed.
    ///
    /// # Safety
    ///
    /// The task is the one that the calling code belongs to.
    #[inline(always)]
    pub(super) unsafe fn switch_out(&self, reason: SwitchReason) {
        check::suspension(self.stack.get().cast(), || TaskLabel::of(self).to_string());
        if panicking() {
            return self.switch_out_of_panics(reason);
        }
        // SAFETY: C3, and the switch was set before the task's first instruction.
        unsafe { (*self.stack().switch.get()).suspend(reason) };
    }

    /// In the middle of an unwinding, which stays the coroutine's own.
    #[cold]
    fn switch_out_of_panics(&self, reason: SwitchReason) {
        record::with(|record| {
            let _aside = record.set_panics_aside_at_switch();
            // SAFETY: as above.
            unsafe { (*self.stack().switch.get()).suspend(reason) };
        });
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
#[inline]
pub(super) unsafe fn finish(header: *mut Header, stack: Option<&TaskStack>) {
    // SAFETY: T1, the task's own reference.
    let task = unsafe { &*header };
    if let Some(owner) = task.owner() {
        owner.counters().ended.add(1);
    }
    // They outlive this, which is one of them; the block may not.
    // SAFETY: T1, as above.
    let children = unsafe { Header::children(header) };
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
            Waiter::Task(joiner, owner) if owner.is_here() => {
                // Its worker is running us, so it can neither leave nor see that it was told too
                // early: DONE comes with RELEASED.
                // SAFETY: T7, neither has it taken the cell back, for WAITER is set.
                unsafe { (**joiner).wake() };
            }
            _ => self.tell_waiter(),
        }
    }

    #[cold]
    fn tell_waiter(&self) {
        if self.state.finish() {
            // SAFETY: T6, the cell is ours.
            match unsafe { self.waiter.get().replace(Waiter::Nobody) } {
                Waiter::Nobody => {}
                // SAFETY: T7, not released.
                Waiter::Task(joiner, _) => unsafe { (*joiner).wake() },
                Waiter::Thread(thread) => thread.unpark(),
                // A waker that panics is reported by the panic hook; the task is done all the same.
                Waiter::Waker(waker) => catch_and_report(|| waker.wake()),
            }
        }
    }
}

/// A `TaskStack` must need no more alignment than a record's end has.
const _: () = assert!(align_of::<MaybeUninit<TaskStack>>() <= 16);
