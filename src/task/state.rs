//! The state word of a task: what may happen to it, and who may touch what.
//!
//! One `AtomicUsize` holds flags in its low bits and the number of references above them. Where a
//! task *is* (in a queue, on its worker, parked) follows from who holds the pointer to it, so a task
//! that is spawned, run and yields pays for no transition; only what two threads can race for is in
//! the word.
//!
//! ```text
//!            first run            yield
//!   fresh -------------> running ------> queued
//!                         | ^  ^           |
//!                         | |  +-----------+
//!       PARKED set by its | |
//!      worker, after the  | | PARKED and NOTIFIED cleared by its worker
//!                 switch  v |
//!                       parked ----> queued        NOTIFIED set by `unpark`, which queues it
//!
//!   running ----> done ----> released    DONE set, once its cleanup is over; RELEASED set, once
//!                                        whoever joins was told
//! ```
//!
//! A park that is undone at once by code of the same worker, as most are, does not show in the word
//! at all: see [`remote`](super::remote) on parking late.
//!
//! # Rules
//!
//! - **T1** A reference keeps the block alive. A task holds one of itself from its spawning until
//!   the last thing that runs on its stack lets go of it; a handle and a waker hold one each.
//! - **T2** Whoever turns PARKED without NOTIFIED into PARKED with NOTIFIED queues the task, and
//!   nobody else does. So a task is in one queue at most.
//! - **T3** PARKED is set and cleared by the task's worker only, and set only after the switch away
//!   from its stack. So whoever sees it set may have the task run at once.
//! - **T4** `owner` is written before the task first runs, and never again. Others rely on it only
//!   after they have seen PARKED, which its worker set with release.
//! - **T5** The outcome is written by the task itself, before COMPLETE and DONE. With COMPLETE set
//!   while HANDLE is, it belongs to the handle; otherwise to the task.
//! - **T6** The waiter cell belongs to the handle while WAITER is clear and DONE was not seen, and
//!   to the finishing task from the moment that its DONE meets a WAITER that is set. A waker may be
//!   anybody's code, so none is left in a block that is freed.
//! - **T7** A task that joins another leaves its bare address in that one's waiter cell, not a
//!   counted reference, and sets JOINER with WAITER. So it stays until the other is RELEASED, or
//!   until it has taken the cell back, and in either case it leaves the cell as it is.

use crate::base::atomics::{AtomicUsize, Ordering};

/// The task has left its stack and waits to be unparked.
pub(super) const PARKED: usize = 1 << 0;
/// For `tools/gdb/coro.py`: of a constant a debugger knows nothing.
#[used]
static PARKED_BIT: usize = PARKED;
/// A wake-up is there: the next wait, of whatever kind, looks round at once, or a parked task is
/// queued already.
pub(super) const NOTIFIED: usize = 1 << 1;
/// Cancellation was asked for. Once set, never cleared.
pub(super) const CANCEL: usize = 1 << 2;
/// The outcome is stored and is the handle's to drop. Once set, never cleared.
pub(super) const COMPLETE: usize = 1 << 3;
/// Outcome stored, cleanup over. Once set, never cleared.
pub(super) const DONE: usize = 1 << 4;
/// A join handle exists. Once cleared, never set.
pub(super) const HANDLE: usize = 1 << 5;
/// Somebody waits for the end: the waiter cell says who.
pub(super) const WAITER: usize = 1 << 6;
/// The task touches neither its block nor its waiter any more. Once set, never cleared.
pub(super) const RELEASED: usize = 1 << 7;
/// Beside WAITER: it is a task that joins (T7). Once set, never cleared.
pub(super) const JOINER: usize = 1 << 8;
/// The token that `Handle::unpark` leaves, for the task's own `park` and no other wait.
pub(super) const TOKEN: usize = 1 << 9;
/// The token that the waker of a future leaves, for the `wait` that polls it and no other wait.
pub(super) const WOKEN: usize = 1 << 10;
/// One reference.
const REFERENCE: usize = 1 << 11;

/// Beyond this many references somebody leaks them in a loop; the process stops, as `Arc` does.
const MAX_REFERENCES: usize = usize::MAX / 2;

/// What a spawned task starts with: its own reference and its handle's.
const SPAWNED: usize = HANDLE + 2 * REFERENCE;

/// A snapshot of the word.
#[derive(Clone, Copy)]
pub(super) struct Snapshot(usize);

impl Snapshot {
    #[inline]
    pub(super) fn has(self, flags: usize) -> bool {
        self.0 & flags == flags
    }

    #[inline]
    fn lacks(self, flags: usize) -> bool {
        self.0 & flags == 0
    }

    #[inline]
    fn sole_reference(self) -> bool {
        self.0 < 2 * REFERENCE
    }
}

/// What [`StateWord::finish_unwaited`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Finish {
    /// The task is done and released.
    Released,
    /// No reference but the task's own is left: the caller frees the block.
    LastReference,
    /// Somebody waits for the end; nothing has changed.
    WaiterSet,
    /// Somebody does, and it is a task that joins; nothing has changed.
    JoinerSet,
}

/// What [`StateWord::detach`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Detach {
    /// Handle and reference are gone.
    Detached,
    /// The handle's is the only reference: the caller frees the block.
    LastReference,
    /// The outcome is the handle's to drop first; nothing has changed.
    OutcomeLeft,
}

/// The state word.
pub(super) struct StateWord(AtomicUsize);

impl StateWord {
    pub(super) fn spawned() -> StateWord {
        StateWord(AtomicUsize::new(SPAWNED))
    }

    #[inline]
    pub(super) fn load(&self) -> Snapshot {
        // Acquire: pairs with the release of whoever set the flags that are looked at.
        Snapshot(self.0.load(Ordering::Acquire))
    }

    /// Takes, of a wake-up and tokens, what is there; 0: nothing.
    #[inline]
    pub(super) fn take(&self, flags: usize) -> usize {
        // The load keeps the common case free of a locked instruction.
        if self.0.load(Ordering::Relaxed) & flags == 0 {
            return 0;
        }
        // Acquire: pairs with `notify`.
        self.0.fetch_and(!flags, Ordering::Acquire) & flags
    }

    /// Leaves tokens for the task's own next waits.
    pub(super) fn leave(&self, tokens: usize) {
        // Relaxed: nobody else takes them.
        self.0.fetch_or(tokens, Ordering::Relaxed);
    }

    /// The worker's half of parking, after the switch (T3). False: a token came first, it is taken,
    /// and the task goes on.
    #[inline]
    pub(super) fn commit_park(&self) -> bool {
        // Release: hands what the task did to whoever unparks it. Acquire: with `notify`.
        let before = Snapshot(self.0.fetch_or(PARKED, Ordering::AcqRel));
        if before.has(NOTIFIED) {
            self.unpark_committed();
            return false;
        }
        true
    }

    /// The worker's half of unparking: the task is about to run.
    #[inline]
    pub(super) fn unpark_committed(&self) {
        // Acquire: pairs with `notify`.
        self.0.fetch_and(!(PARKED | NOTIFIED), Ordering::Acquire);
    }

    /// Leaves a token, with `also`. True: the task was parked, and the caller queues it (T2).
    #[inline]
    pub(super) fn notify(&self, also: usize) -> bool {
        // Release: what was done before unparking is seen after parking. Acquire: T4.
        let before = Snapshot(self.0.fetch_or(NOTIFIED | also, Ordering::AcqRel));
        before.has(PARKED) && before.lacks(NOTIFIED)
    }

    /// Hands the outcome to the handle. False: there is none any more, and it stays the task's.
    pub(super) fn complete(&self) -> bool {
        // Release: publishes the outcome. Acquire: with the handle's drop.
        Snapshot(self.0.fetch_or(COMPLETE, Ordering::AcqRel)).has(HANDLE)
    }

    /// Ends the task if nobody waits for it.
    #[inline]
    pub(super) fn finish_unwaited(&self) -> Finish {
        let mut now = self.load();
        loop {
            if now.has(WAITER) {
                // Also if the handle is gone since: its waker is to be dropped while the task lives.
                return if now.has(JOINER) { Finish::JoinerSet } else { Finish::WaiterSet };
            }
            if now.sole_reference() {
                return Finish::LastReference; // nobody is left who could ask
            }
            // Release: publishes the outcome. Acquire: with `set_waiter`.
            match self.0.compare_exchange_weak(
                now.0,
                (now.0 | DONE | RELEASED) - REFERENCE,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Finish::Released,
                Err(changed) => now = Snapshot(changed),
            }
        }
    }

    /// Marks the end. True: the waiter cell is the caller's, with a waiter in it (T6).
    pub(super) fn finish(&self) -> bool {
        // Release: publishes the outcome. Acquire: with `set_waiter`.
        Snapshot(self.0.fetch_or(DONE, Ordering::AcqRel)).has(WAITER)
    }

    /// Lets go of the block after the end, with the task's own reference. True: it was the last, and
    /// the caller frees the block.
    #[inline]
    #[must_use]
    pub(super) fn release(&self) -> bool {
        if self.load().sole_reference() {
            return true;
        }
        // One step for three changes; RELEASED is clear, and DONE may be set already.
        let done = if self.load().has(DONE) { 0 } else { DONE };
        let before = self.0.fetch_add((RELEASED | done).wrapping_sub(REFERENCE), Ordering::AcqRel);
        Snapshot(before).sole_reference()
    }

    /// Publishes what is in the waiter cell, with `also`. False: the task is done and did not see it,
    /// so the cell is still the handle's.
    #[inline]
    pub(super) fn set_waiter(&self, also: usize) -> bool {
        // Release: publishes the cell. Acquire: with `finish`.
        Snapshot(self.0.fetch_or(WAITER | also, Ordering::AcqRel)).lacks(DONE)
    }

    /// Takes the waiter cell back. False: the task is done, and the cell is the task's.
    pub(super) fn clear_waiter(&self) -> bool {
        Snapshot(self.0.fetch_and(!WAITER, Ordering::AcqRel)).lacks(DONE)
    }

    /// The handle goes, with its reference, unless an outcome waits for it to be dropped.
    #[inline]
    pub(super) fn detach(&self) -> Detach {
        let mut now = self.load();
        loop {
            if now.has(COMPLETE) {
                return Detach::OutcomeLeft;
            }
            if now.sole_reference() {
                return Detach::LastReference;
            }
            match self.0.compare_exchange_weak(
                now.0,
                (now.0 & !HANDLE) - REFERENCE,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Detach::Detached,
                Err(changed) => now = Snapshot(changed),
            }
        }
    }

    #[inline]
    pub(super) fn add_reference(&self) {
        // Relaxed: a new reference is made from one that is there.
        if self.0.fetch_add(REFERENCE, Ordering::Relaxed) > MAX_REFERENCES {
            std::process::abort();
        }
    }

    /// True: it was the last, and the caller frees the block.
    #[inline]
    #[must_use]
    pub(super) fn drop_reference(&self) -> bool {
        // Who holds the only reference races with nobody and need not write. Acquire: pairs with
        // the release of everyone who let go before.
        self.load().sole_reference()
            || Snapshot(self.0.fetch_sub(REFERENCE, Ordering::AcqRel)).sole_reference()
    }
}
