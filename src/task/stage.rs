//! A task's place on its stack: the engine that switches to it, below the record.
//!
//! ```text
//!   high  | Record                    |
//!         +---------------------------+ <- record
//!         | Stage: engine, switch,    |
//!         |        slot               |
//!         +---------------------------+ <- the engine's stack base
//!         | frames                    |
//! ```
//!
//! It lies on the slot and not in the task's block, because a task needs it only while it has a
//! stack, and a task that has not started should be small.

use std::cell::Cell;
use std::mem::{MaybeUninit, size_of};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use super::header::{Header, Started, TaskRef};
use super::remote::Remote;
use super::state::PARKED;
use crate::coroutine::{Engine, Switch};
use crate::goexit;
use crate::record::{Record, record_below};
use crate::stack::Slot;

/// Why a task switches back to its worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Signal {
    /// It is ready, and others may go first.
    Yield,
    /// It waits to be unparked.
    Park,
}

/// See the module's documentation.
pub(crate) struct Stage {
    engine: Engine<(), Signal>,
    switch: Cell<*const Switch<(), Signal>>,
    slot: Slot,
}

const RESERVE: usize = size_of::<Stage>().next_multiple_of(16);

/// What became of a task that was resumed.
pub(crate) enum Turn {
    /// It has switched back.
    Suspended(Signal),
    /// It has ended, and this was its stack.
    Ended(Slot),
}

impl TaskRef {
    /// Binds a fresh task to a stack and to the calling thread's worker. It runs when resumed.
    ///
    /// # Safety
    ///
    /// The task is fresh, and the caller took it from its queue.
    #[inline]
    pub(crate) unsafe fn bind(&self, owner: &'static Remote, slot: Slot) -> Started {
        debug_assert!(owner.is_here() && self.stage.get().is_null());
        let stage = record_below(slot.ceiling()).cast::<u8>().wrapping_sub(RESERVE);
        let stage = stage.cast_mut().cast::<Stage>();
        let header = self.as_ptr();
        let record = Record::of_coroutine(self.id, header.cast_const().cast(), self.name());
        let body = move |record: NonNull<Record>, switch: &Switch<(), Signal>, ()| {
            // SAFETY: C1, T1: the stage lies above us, and our worker holds the task.
            unsafe {
                (*stage).switch.set(switch);
                goexit::enter(record.as_ptr(), header.cast(), (*header).vtable.run);
                finish(header);
            }
        };
        // SAFETY: C1, the slot is ours until the engine is done; `resume` releases it then.
        unsafe {
            let (engine, _) = Engine::new(&slot, RESERVE, record, body);
            stage.write(Stage { engine, switch: Cell::new(std::ptr::null()), slot });
        }
        self.owner.set(Some(owner));
        self.stage.set(stage);
        // SAFETY: just started, and in no queue.
        unsafe { Started::from_raw(header) }
    }
}

impl Started {
    /// Runs the task until it switches back or ends.
    ///
    /// # Safety
    ///
    /// The task is pinned to the calling thread's worker.
    #[inline]
    pub(crate) unsafe fn resume(&self) -> Turn {
        let stage = self.stage.get();
        // SAFETY: C1, C2; nobody else looks at the stage's engine while it runs.
        match unsafe { (*stage).engine.resume(()) } {
            Some(signal) => Turn::Suspended(signal),
            None => {
                self.stage.set(std::ptr::null_mut());
                // SAFETY: C1, the engine is done; the stage is moved out of the slot before the
                // slot is given to anyone.
                let Stage { slot, .. } = unsafe { stage.read() };
                Turn::Ended(slot)
            }
        }
    }
}

impl Started {
    /// The worker's half of parking, after the switch. `Some`: a token came first, and the task
    /// goes on. Otherwise whoever unparks it has it from here on (T2).
    #[inline]
    pub(crate) fn commit_park(self) -> Option<Started> {
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
    /// Switches from the running task to its worker, and returns when it is resumed.
    ///
    /// # Safety
    ///
    /// The task is the one that the calling code belongs to.
    #[inline]
    pub(super) unsafe fn switch_out(&self, signal: Signal) {
        // SAFETY: C3, and the stage was set before the task's first instruction.
        unsafe { (*(*self.stage.get()).switch.get()).suspend(signal) };
    }
}

/// The last thing that runs on a task's stack: the cleanup is over, whoever joins is told. This
/// happens here and not on the worker's stack, because a waker may be anybody's code.
///
/// # Safety
///
/// Called on the stack of this task.
#[inline]
pub(super) unsafe fn finish(header: *mut Header) {
    // SAFETY: T1, our worker holds a reference.
    let header = unsafe { &*header };
    if let Some(owner) = header.owner.get() {
        owner.counters().ended.add(1);
    }
    if header.state.finish() {
        // SAFETY: T6, the cell is ours.
        let waiter = unsafe { (*header.waiter.get()).take() };
        if let Some(waiter) = waiter {
            // A waker that panics is reported by the panic hook; the task is done all the same.
            let _ = catch_unwind(AssertUnwindSafe(|| waiter.wake()));
        }
    }
}

/// A place for a stage must be as aligned as a record's end.
const _: () = assert!(align_of::<MaybeUninit<Stage>>() <= 16);
