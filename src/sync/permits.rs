//! Permits that are handed out first in, first out: a semaphore's, and those of a read-write lock.
//!
//! Somebody who waits for many permits is not overtaken by those who need few: while anybody waits, nobody takes permits
//! but the first waiter, when there are enough. While nobody waits, they are taken from one word and given back to it.

use std::time::Instant;

use super::permit_count::PermitCount;
use super::waiters::{Crowd, Waiters, Wanted};
use crate::task::{LockHolder, Waiting};

/// What a writer needs of a read-write lock's; a reader needs one.
pub(super) const ALL: usize = usize::MAX >> 1;

/// Permits, and those who wait for some.
pub(super) struct Permits {
    count: PermitCount,
    /// The number, while it is not in `count`.
    waiters: Waiters<usize>,
    /// The coroutine that has them all, if that is of interest.
    pub(super) holder: LockHolder,
}

impl Permits {
    #[track_caller]
    pub(super) const fn new(permits: usize, waiting: Waiting) -> Permits {
        let (count, waiters) = (PermitCount::new(permits), Waiters::new(permits, waiting));
        Permits { count, waiters, holder: LockHolder::new() }
    }

    #[inline]
    pub(super) fn try_acquire(&self, need: usize) -> bool {
        self.count.try_take(need) || self.try_acquire_locked(need)
    }

    /// As [`try_acquire`](Permits::try_acquire), where the number may be under the lock.
    #[cold]
    fn try_acquire_locked(&self, need: usize) -> bool {
        self.count.get().is_none() && self.admit(&mut self.waiters.lock(), need)
    }

    /// Takes permits, if nobody waits and there are enough. If not, the caller may wait: the number is under the lock.
    fn admit(&self, crowd: &mut Crowd<usize>, need: usize) -> bool {
        self.count.move_to(&mut crowd.state);
        if crowd.first().is_some() {
            return false;
        }
        let is_admitted = crowd.state >= need;
        if is_admitted {
            crowd.state -= need;
            self.count.move_back(crowd.state);
        }
        is_admitted
    }

    /// Without a limit it comes back with the permits, or unwinds. No guard is to rest on that.
    #[inline]
    pub(super) fn acquire(&self, need: usize) {
        while !self.acquire_until(need, None) {}
    }

    /// False: there were not enough until `deadline`; `None` is never.
    #[inline]
    pub(super) fn acquire_until(&self, need: usize, deadline: Option<Instant>) -> bool {
        self.try_acquire(need) || self.wait(need, deadline)
    }

    #[cold]
    fn wait(&self, need: usize, deadline: Option<Instant>) -> bool {
        let wanted = Wanted { need, deadline, holder: Some(&self.holder) };
        let waited = self.waiters.wait(wanted, |crowd| self.admit(crowd, need), |_| false);
        let Err(gave_up) = waited else { return true };
        // If it was the first, there may be enough for the next.
        self.release(0);
        gave_up.interrupt();
        false
    }

    /// Adds permits, and hands them out. False: there would be more than a `usize` counts, so none was added.
    #[inline]
    pub(super) fn release(&self, permits: usize) -> bool {
        self.count.try_give(permits) || self.release_awaited(permits)
    }

    #[cold]
    fn release_awaited(&self, permits: usize) -> bool {
        let (mut added, mut is_counted) = (permits, true);
        while self.waiters.serve(|crowd, first| {
            self.count.move_to(&mut crowd.state);
            match crowd.state.checked_add(std::mem::take(&mut added)) {
                Some(available) => crowd.state = available,
                None => is_counted = false,
            }
            let Some(first) = first else {
                self.count.move_back(crowd.state);
                return false;
            };
            let is_served = is_counted && first.need <= crowd.state;
            if is_served {
                crowd.state -= first.need;
            }
            is_served
        }) {}
        is_counted
    }

    pub(super) fn available(&self) -> usize {
        let crowd = self.waiters.lock();
        self.count.get().unwrap_or(crowd.state)
    }
}
