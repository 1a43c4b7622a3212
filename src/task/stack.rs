//! What a task keeps on its own stack, below the record. It holds the engine that switches to the task.
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
use std::panic::Location;

use super::holder::LockHolder;
use super::label::Waiting;
use super::state::{TOKEN, WOKEN};
use crate::base::id::Id;
use crate::coroutine::{Engine, Switch};
use crate::record::Record;
use crate::stack::Slot;

/// Why a task switches back to its worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SwitchReason {
    /// It is ready, and others may go first.
    Yield,
    /// It waits to be unparked.
    Park,
}

/// Why a task parks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ParkReason {
    pub(super) waiting: Waiting,
    /// The token that is left for waits of this kind and no other. 0: any wake-up is a reason to look whether what is
    /// waited for has come, and none is needed to see that.
    token: u16,
    /// Whether the wait ends though no task of the same runtime runs: a blocking call returns, another runtime goes
    /// on. A wait for a time is not marked, because the worker knows its timers.
    ends_by_itself: bool,
}

impl ParkReason {
    /// The task's own call of `park`.
    pub(crate) const PARK: ParkReason =
        ParkReason { token: TOKEN as u16, ..ParkReason::new(Waiting::Park, false) };
    pub(crate) const FUTURE: ParkReason =
        ParkReason { token: WOKEN as u16, ..ParkReason::new(Waiting::Future, false) };
    /// A choice of several operations.
    pub(crate) const SELECT: ParkReason = ParkReason::new(Waiting::Select, false);
    /// The same, with futures among them.
    pub(crate) const SELECT_FUTURE: ParkReason =
        ParkReason { token: WOKEN as u16, ..ParkReason::SELECT };
    pub(crate) const SLEEP: ParkReason = ParkReason::new(Waiting::Sleep, false);
    pub(crate) const BLOCKING: ParkReason = ParkReason::new(Waiting::Blocking, true);
    pub(crate) const SHUTDOWN: ParkReason = ParkReason::new(Waiting::Shutdown, true);
    pub(crate) const EXIT: ParkReason = ParkReason::new(Waiting::Exit, false);

    pub(crate) const fn new(waiting: Waiting, ends_by_itself: bool) -> ParkReason {
        ParkReason { waiting, token: 0, ends_by_itself }
    }

    pub(super) fn token(self) -> usize {
        usize::from(self.token)
    }

    pub(crate) fn ends_by_itself(self) -> bool {
        self.ends_by_itself
    }
}

/// What a task needs only while it has a stack. It lies at the top of that stack, below the record.
pub(super) struct TaskStack {
    pub(super) engine: Engine<(), SwitchReason>,
    pub(super) switch: Cell<*const Switch<(), SwitchReason>>,
    /// Where the worker lists the task, once it has ended.
    pub(super) index: Cell<u32>,
    /// Why the task is parked, if it is.
    pub(super) reason: Cell<ParkReason>,
    /// The coroutine that the task has joined last.
    pub(super) joined: Cell<Option<Id>>,
    /// Where the thing was made in which the task has waited last.
    pub(super) made_at: Cell<Option<&'static Location<'static>>>,
    /// Who holds the lock that the task waits for; null if it waits for none (N1).
    pub(super) holder: Cell<*const LockHolder>,
    /// The token that has ended this wait without a trace in the state word, or 0.
    pub(super) token: Cell<usize>,
    /// How many times the task has waited for a future, and may have taken WOKEN.
    pub(super) waits: Cell<u64>,
    pub(super) slot: Slot,
}

impl TaskStack {
    /// How many bytes lie between the record and the engine's stack base.
    pub(super) const RESERVE: usize = size_of::<TaskStack>().next_multiple_of(16);

    /// Where it lies below `record`.
    pub(super) fn below(record: *const Record) -> *mut TaskStack {
        record.cast::<u8>().wrapping_sub(TaskStack::RESERVE).cast_mut().cast()
    }

    /// The record above the `TaskStack` at this address.
    pub(super) fn record(stack: *const TaskStack) -> *const Record {
        stack.cast::<u8>().wrapping_add(TaskStack::RESERVE).cast()
    }
}

/// A token has room in a [`ParkReason`].
const _: () = assert!(TOKEN | WOKEN <= u16::MAX as usize);

/// A `TaskStack` must need no more alignment than a record's end has.
const _: () = assert!(align_of::<MaybeUninit<TaskStack>>() <= 16);
