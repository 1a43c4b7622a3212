//! Permits that are handed out first in, first out: a semaphore's, and those of a read-write lock.
//!
//! Somebody who waits for many permits is not overtaken by those who need few: while anybody waits, nobody takes permits
//! but the first waiter, when there are enough.

use std::time::Instant;

use super::waiters::{Waiters, Wanted};
use crate::task::{LockHolder, Waiting};

/// What a writer needs of a read-write lock's; a reader needs one.
pub(super) const ALL: usize = usize::MAX >> 1;

/// Permits, and those who wait for some.
pub(super) struct Permits {
    waiters: Waiters<usize>,
    /// The coroutine that has them all, if that is of interest.
    pub(super) holder: LockHolder,
}

impl Permits {
    #[track_caller]
    pub(super) const fn new(permits: usize, waiting: Waiting) -> Permits {
        Permits { waiters: Waiters::new(permits, waiting), holder: LockHolder::new() }
    }

    pub(super) fn try_acquire(&self, need: usize) -> bool {
        let mut crowd = self.waiters.lock();
        let is_admitted = crowd.first().is_none() && crowd.state >= need;
        if is_admitted {
            crowd.state -= need;
        }
        is_admitted
    }

    /// Without a limit it comes back with the permits, or unwinds. No guard is to rest on that.
    pub(super) fn acquire(&self, need: usize) {
        while !self.acquire_until(need, None) {}
    }

    /// False: there were not enough until `deadline`; `None` is never.
    pub(super) fn acquire_until(&self, need: usize, deadline: Option<Instant>) -> bool {
        self.try_acquire(need) || self.wait(need, deadline)
    }

    #[cold]
    fn wait(&self, need: usize, deadline: Option<Instant>) -> bool {
        let wanted = Wanted { need, deadline, holder: Some(&self.holder) };
        let waited = self.waiters.wait(
            wanted,
            |crowd| {
                let is_admitted = crowd.first().is_none() && crowd.state >= need;
                if is_admitted {
                    crowd.state -= need;
                }
                is_admitted
            },
            |_| false,
        );
        let Err(gave_up) = waited else { return true };
        // If it was the first, there may be enough for the next.
        self.release(0);
        gave_up.interrupt();
        false
    }

    /// Adds permits, and hands them out. False: there would be more than a `usize` counts, so none was added.
    pub(super) fn release(&self, permits: usize) -> bool {
        let (mut added, mut is_counted) = (permits, true);
        while self.waiters.serve(|crowd, first| {
            let added = std::mem::take(&mut added);
            let Some(available) = crowd.state.checked_add(added) else {
                is_counted = false;
                return false;
            };
            crowd.state = available;
            match first {
                Some(first) if first.need <= available => {
                    crowd.state -= first.need;
                    true
                }
                _ => false,
            }
        }) {}
        is_counted
    }

    pub(super) fn available(&self) -> usize {
        self.waiters.lock().state
    }
}
