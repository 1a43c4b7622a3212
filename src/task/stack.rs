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
use std::mem::{MaybeUninit, offset_of, size_of};
use std::ptr;

use super::holder::LockHolder;
use super::label::{WaitSubject, Waiting};
use super::state::{TOKEN, WOKEN};
use super::turn_times::ParkNote;
use crate::base::id::Id;
use crate::coroutine::{Engine, Switch};
use crate::record::{Record, stack_pointer};
use crate::stack::Slot;

/// Why a task switches back to its worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SwitchReason {
    /// It is ready, and others may go first.
    Yield,
    /// It waits to be unparked.
    Park,
    /// Its function is over, and its carries are to be ended. It goes on at once.
    EndCarries,
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
    pub(crate) const DUMP: ParkReason = ParkReason::new(Waiting::Dump, true);
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
///
/// The engine has two words of its own below it. These and what a switch reads here are one cache line.
#[repr(C)]
pub(super) struct TaskStack {
    /// How far below the engine's end of a switch lies. It is set before the task's first instruction.
    switch: Cell<u32>,
    /// How far below the stack reached when the task was suspended last.
    depth: Cell<u32>,
    pub(super) engine: Engine<(), SwitchReason>,
    /// Where the worker lists the task, once it has ended.
    pub(super) index: Cell<u32>,
    /// Why the task is parked, if it is.
    pub(super) reason: Cell<ParkReason>,
    /// The coroutine that the task has joined last.
    pub(super) joined: Cell<Option<Id>>,
    /// What the task has waited for last, if that is to be named.
    pub(super) subject: Cell<Option<WaitSubject>>,
    /// Who holds the lock that the task waits for; null if it waits for none (N1).
    pub(super) holder: Cell<*const LockHolder>,
    /// While the task is parked, when that was. Then, how that has ended.
    parked: Cell<ParkNote>,
    /// How many times the task has waited for a future, and may have taken WOKEN.
    pub(super) waits: Cell<u64>,
    pub(super) slot: Slot,
}

impl TaskStack {
    /// How many bytes lie between the record and the engine's stack base.
    pub(super) const RESERVE: usize = size_of::<TaskStack>().next_multiple_of(16);

    /// Of a task that is about to start.
    #[inline(always)]
    pub(super) fn new(engine: Engine<(), SwitchReason>, slot: Slot) -> TaskStack {
        TaskStack {
            switch: Cell::new(0),
            depth: Cell::new(0),
            engine,
            index: Cell::new(0),
            reason: Cell::new(ParkReason::PARK),
            joined: Cell::new(None),
            subject: Cell::new(None),
            holder: Cell::new(ptr::null()),
            parked: Cell::default(),
            waits: Cell::new(0),
            slot,
        }
    }

    /// The token that has ended this wait without a trace in the state word, or 0.
    #[inline]
    pub(super) fn token(&self) -> usize {
        self.parked.get().token()
    }

    #[inline]
    pub(super) fn set_token(&self, token: usize) {
        self.parked.set(ParkNote::of_token(token));
    }

    /// Notes that the task, which has no token, has parked before the end of this turn of its worker.
    #[inline]
    pub(super) fn note_park(&self, turn: u64) {
        self.parked.set(ParkNote::of_turn(turn));
    }

    /// The turn that was noted, if the task is parked. The worker's last turn is `now`.
    pub(super) fn parked_in(&self, now: u64) -> u64 {
        self.parked.get().turn(now)
    }

    /// By the task, whose stack this is.
    #[inline]
    pub(super) fn set_switch(&self, switch: &Switch<(), SwitchReason>) {
        self.switch.set(self.bytes_down_to(ptr::from_ref(switch).addr()));
    }

    /// Switches from the task to its worker, and returns when it is resumed.
    ///
    /// # Safety
    ///
    /// C3: the calling code runs in the task.
    #[inline(always)]
    pub(super) unsafe fn switch_out(&self, reason: SwitchReason) {
        self.depth.set(self.bytes_down_to(stack_pointer()));
        let switch = self.at(self.switch.get()).cast::<Switch<(), SwitchReason>>();
        // SAFETY: C3, the caller's word; the engine keeps its end on this stack as long as the task runs.
        unsafe { (*switch).suspend(reason) };
    }

    /// Where the stack reached to when the task was suspended last.
    #[inline]
    pub(super) fn lowest_frame(&self) -> *const u8 {
        self.at(self.depth.get())
    }

    #[inline]
    fn bytes_down_to(&self, address: usize) -> u32 {
        // In a raw coroutine the stack pointer is elsewhere: then this means nothing, and it is just a hint.
        ptr::from_ref(self).addr().wrapping_sub(address) as u32
    }

    #[inline]
    fn at(&self, bytes_down: u32) -> *const u8 {
        ptr::from_ref(self).cast::<u8>().wrapping_sub(bytes_down as usize)
    }

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

/// A record begins a cache line. (For a sanitizer the engine keeps more, and speed does not count.)
const _: () = {
    let lowest = (TaskStack::RESERVE + 16).next_multiple_of(64);
    let is_one_line = TaskStack::RESERVE + 16 == lowest && offset_of!(TaskStack, index) <= 48;
    assert!(is_one_line || cfg!(feature = "sanitizer"));
};

/// A `TaskStack` must need no more alignment than a record's end has.
const _: () = assert!(align_of::<MaybeUninit<TaskStack>>() <= 16);
