//! A state under a short lock, and those who wait for it to change: what all types here but the mutex are made of.
//!
//! Whoever waits is admitted under the lock if the state allows it, and is linked otherwise. Whoever changes the state
//! serves waiters, each under the lock, and wakes each when the lock is free again. A waiter that was served is no
//! longer in the list, so nobody serves it twice. One that gives up finds out under the lock whether it was served
//! before, and then that counts.
//!
//! Each waiter has a ticket. So "all who wait now" are those with a ticket below the next one, and who comes meanwhile
//! is not served.
//!
//! - **N5** The slot of a waiter points to a [`Ticket`] in its frame, which is written before the waiter is linked.

use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::ptr;
use std::time::Instant;

use crate::base::lock::{ShortGuard, ShortLock};
use crate::task::{Caller, LockHolder, ParkReason, WaitEnd, WaitList, WaitSubject, Waiting};

pub(super) struct Waiters<S> {
    crowd: ShortLock<Crowd<S>>,
    reason: ParkReason,
    made_at: &'static Location<'static>,
}

// The state is changed in single steps, and no code of the user's runs within one.
impl<S> UnwindSafe for Waiters<S> {}
impl<S> RefUnwindSafe for Waiters<S> {}

/// The state, and those who wait.
pub(super) struct Crowd<S> {
    pub(super) state: S,
    /// The number of the next ticket.
    pub(super) next: u64,
    list: WaitList,
}

/// What a waiter shows to whoever may serve it.
#[derive(Clone, Copy)]
pub(super) struct Ticket {
    pub(super) number: u64,
    /// How much it needs, for those who count.
    pub(super) need: usize,
}

/// How somebody wants to wait.
#[derive(Clone, Copy, Default)]
pub(super) struct Wanted<'a> {
    pub(super) need: usize,
    /// `None`: never.
    pub(super) deadline: Option<Instant>,
    /// Who holds what is waited for.
    pub(super) holder: Option<&'a LockHolder>,
}

/// Whoever has given up waiting, and is to be interrupted if that is the reason.
#[must_use = "it may have to be interrupted"]
pub(super) struct GaveUp(Caller);

impl GaveUp {
    /// Unwinds if an interruption has cut the wait short; returns if the deadline has.
    pub(super) fn interrupt(self) {
        self.0.interrupt();
    }
}

impl Wanted<'_> {
    pub(super) fn until(deadline: Option<Instant>) -> Wanted<'static> {
        Wanted { deadline, ..Wanted::default() }
    }
}

impl<S> Crowd<S> {
    /// The ticket of the waiter that came first.
    pub(super) fn first(&self) -> Option<Ticket> {
        // SAFETY: N5, it is linked, and we have the lock.
        self.list.first_slot().map(|slot| unsafe { *slot.cast::<Ticket>() })
    }
}

impl<S> Waiters<S> {
    #[track_caller]
    pub(super) const fn new(state: S, waiting: Waiting) -> Waiters<S> {
        Waiters {
            crowd: ShortLock::new(Crowd { state, next: 0, list: WaitList::new() }),
            reason: ParkReason::new(waiting, false),
            made_at: Location::caller(),
        }
    }

    /// The state and the waiters. No code of the user's runs, nothing panics and nobody is woken while this is held.
    #[inline]
    pub(super) fn lock(&self) -> ShortGuard<'_, Crowd<S>> {
        self.crowd.lock()
    }

    /// Waits until the caller is served, unless `admit` says that it need not. Both this and `forget` run under the
    /// lock; `forget` when the wait was cut short, and it says whether the caller counts as served nevertheless.
    pub(super) fn wait(
        &self,
        wanted: Wanted<'_>,
        admit: impl FnOnce(&mut Crowd<S>) -> bool,
        forget: impl FnOnce(&mut Crowd<S>) -> bool,
    ) -> Result<(), GaveUp> {
        self.wait_after(wanted, admit, || (), forget)
    }

    /// As [`wait`](Waiters::wait), where nothing is to be done before an interruption unwinds. False: the deadline has
    /// come.
    pub(super) fn wait_or_unwind(
        &self,
        wanted: Wanted<'_>,
        admit: impl FnOnce(&mut Crowd<S>) -> bool,
        forget: impl FnOnce(&mut Crowd<S>) -> bool,
    ) -> bool {
        let waited = self.wait(wanted, admit, forget);
        waited.map_err(GaveUp::interrupt).is_ok()
    }

    /// As [`wait`](Waiters::wait). When the caller is linked and the lock is free again, `linked` runs.
    pub(super) fn wait_after(
        &self,
        wanted: Wanted<'_>,
        admit: impl FnOnce(&mut Crowd<S>) -> bool,
        linked: impl FnOnce(),
        forget: impl FnOnce(&mut Crowd<S>) -> bool,
    ) -> Result<(), GaveUp> {
        let caller = Caller::begin(WaitSubject::MadeAt(self.made_at));
        let mut ticket = Ticket { number: 0, need: wanted.need };
        let slot = (&raw mut ticket).cast::<()>();
        let node = caller.node(slot);
        {
            let mut crowd = self.lock();
            if admit(&mut crowd) {
                return Ok(());
            }
            // SAFETY: N5, it is ours.
            unsafe { (*slot.cast::<Ticket>()).number = crowd.next };
            crowd.next += 1;
            // SAFETY: Q1, it is told or unlinked below.
            unsafe { crowd.list.push(ptr::from_ref(&node)) };
        }
        linked();
        let end = match wanted.holder {
            Some(holder) => caller.wait_for_holder(&node, self.reason, wanted.deadline, holder),
            None => caller.wait(&node, self.reason, wanted.deadline),
        };
        if end.is_some() {
            return Ok(());
        }
        let mut crowd = self.lock();
        // SAFETY: Q1, it was linked to this list.
        let was_served = unsafe { crowd.list.give_up(&node) }.is_some() || forget(&mut crowd);
        drop(crowd);
        if was_served { Ok(()) } else { Err(GaveUp(caller)) }
    }

    /// Has `choose` change the state, under the lock, and say whether the first waiter is served by that. Wakes that
    /// waiter. False: nobody was served.
    pub(super) fn serve(&self, choose: impl FnOnce(&mut Crowd<S>, Option<Ticket>) -> bool) -> bool {
        let wakeup = {
            let mut crowd = self.lock();
            let first = crowd.first();
            if !choose(&mut crowd, first) {
                return false;
            }
            let Some(taken) = crowd.list.take() else { return false };
            // SAFETY: Q2, it is woken below.
            unsafe { taken.tell(WaitEnd::Served) }
        };
        wakeup.wake();
        true
    }

    /// Serves all whose ticket's number is lower.
    pub(super) fn serve_before(&self, number: u64) {
        while self.serve(|_, first| first.is_some_and(|first| first.number < number)) {}
    }

    /// Serves all who wait now.
    pub(super) fn serve_all(&self) {
        let next = self.lock().next;
        self.serve_before(next);
    }
}
