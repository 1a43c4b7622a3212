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
//!   running ----> done    DONE set, once its cleanup is over
//! ```
//!
//! # Rules
//!
//! - **T1** A reference keeps the block alive. A task holds one of itself from its spawning until
//!   its worker has let go of its stack; a handle and a waker hold one each.
//! - **T2** Whoever turns PARKED without NOTIFIED into PARKED with NOTIFIED queues the task, and
//!   nobody else does. So a task is in one queue at most.
//! - **T3** PARKED is set and cleared by the task's worker only, and set only after the switch away
//!   from its stack. So whoever sees it set may have the task run at once.
//! - **T4** `owner` is written before the task first runs and is read by others only after they
//!   have seen PARKED, which its worker set with release.
//! - **T5** The outcome is written by the task itself, before COMPLETE and DONE. With COMPLETE set
//!   while HANDLE is, it belongs to the handle; otherwise to the task.
//! - **T6** The waiter cell belongs to the handle while WAITER is clear and DONE was not seen, and
//!   to the finishing task from the moment that its DONE meets a WAITER that is set.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The task has left its stack and waits to be unparked.
pub(super) const PARKED: usize = 1 << 0;
/// A token is there: the next park returns at once, or a parked task is queued already.
pub(super) const NOTIFIED: usize = 1 << 1;
/// Cancellation was asked for. Once set, never cleared.
pub(super) const CANCEL: usize = 1 << 2;
/// The outcome is stored and is the handle's to drop. Once set, never cleared.
pub(super) const COMPLETE: usize = 1 << 3;
/// Outcome stored, cleanup over. Once set, never cleared.
pub(super) const DONE: usize = 1 << 4;
/// A join handle exists. Once cleared, never set.
pub(super) const HANDLE: usize = 1 << 5;
/// The waiter cell holds the waker of whoever joins.
pub(super) const WAITER: usize = 1 << 6;
/// One reference.
const REFERENCE: usize = 1 << 7;

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

/// The state word.
pub(super) struct State(AtomicUsize);

impl State {
    pub(super) fn spawned() -> State {
        State(AtomicUsize::new(SPAWNED))
    }

    #[inline]
    pub(super) fn load(&self) -> Snapshot {
        // Acquire: pairs with the release of whoever set the flags that are looked at.
        Snapshot(self.0.load(Ordering::Acquire))
    }

    /// Takes the token if one is there.
    #[inline]
    pub(super) fn take_token(&self) -> bool {
        // The load keeps the common case free of a locked instruction.
        self.0.load(Ordering::Relaxed) & NOTIFIED != 0
            // Acquire: pairs with `notify`.
            && self.0.fetch_and(!NOTIFIED, Ordering::Acquire) & NOTIFIED != 0
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

    /// Marks the end. True: the waiter cell is the caller's, with a waker in it (T6).
    #[inline]
    pub(super) fn finish(&self) -> bool {
        if self.load().sole_reference() {
            return false; // nobody is left who could ask
        }
        // Release: publishes the outcome. Acquire: with `set_waiter`.
        Snapshot(self.0.fetch_or(DONE, Ordering::AcqRel)).has(WAITER)
    }

    /// Publishes the waker in the waiter cell. False: the task is done and did not see it, so the
    /// cell is still the handle's.
    #[inline]
    pub(super) fn set_waiter(&self) -> bool {
        // Release: publishes the waker. Acquire: with `finish`.
        Snapshot(self.0.fetch_or(WAITER, Ordering::AcqRel)).lacks(DONE)
    }

    /// Takes the waiter cell back. False: the task is done, and the cell is the task's.
    pub(super) fn clear_waiter(&self) -> bool {
        Snapshot(self.0.fetch_and(!WAITER, Ordering::AcqRel)).lacks(DONE)
    }

    /// The handle goes, unless an outcome waits for it to be dropped: then false, and nothing has
    /// changed.
    pub(super) fn detach(&self) -> bool {
        self.0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
                (word & COMPLETE == 0).then_some(word & !HANDLE)
            })
            .is_ok()
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
