//! How a worker falls asleep and is woken.
//!
//! # No wake-up is lost
//!
//! A worker falls asleep by storing `ASLEEP`, passing a `SeqCst` fence, looking once more at
//! everything that could be work, and only then blocking. Whoever brings work pushes it, passes a
//! `SeqCst` fence, and reads the state. The two fences have an order. If the worker's is first, the
//! other side reads `ASLEEP` and wakes it. If the other's is first, the worker's last look sees the
//! push. There is no third case.
//!
//! Of all who find a worker asleep one moves the state on, and that one unblocks the thread. A thread
//! that is unblocked twice, or when it no longer sleeps, just looks round once too often.

use std::time::Instant;

use crate::primitives::{AtomicU32, Ordering, Parker, Unparker, fence};

/// The worker runs, or is about to look for work.
const AWAKE: u32 = 0;
/// The worker blocks, or is about to, unless its last look finds something.
const ASLEEP: u32 = 1;
/// Somebody has woken it, for what is in its inbox or for something else that is its own.
const CALLED: u32 = 2;
/// Somebody has woken it to search for fresh tasks.
const TO_SEARCH: u32 = 3;

/// Why a worker that was asleep is awake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Woken {
    /// By itself: its deadline has come, or its last look found something.
    No,
    /// By somebody who has something for this worker.
    Called,
    /// By somebody who counts it among the searching workers from now on.
    ToSearch,
}

/// See the module's documentation.
pub(crate) struct Sleep {
    state: AtomicU32,
    unparker: Unparker,
    parker: Parker,
}

impl Sleep {
    pub(crate) fn new() -> Sleep {
        let parker = Parker::new();
        Sleep { state: AtomicU32::new(AWAKE), unparker: parker.unparker().clone(), parker }
    }

    /// Announces that the worker is going to sleep; what it looks at afterwards decides.
    pub(crate) fn prepare(&self) {
        self.state.store(ASLEEP, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Blocks until somebody wakes the worker or `deadline` comes. By the worker, after
    /// [`prepare`](Sleep::prepare).
    pub(crate) fn block(&self, deadline: Option<Instant>) {
        match deadline {
            None => self.parker.park(),
            Some(deadline) => self.parker.park_deadline(deadline),
        }
    }

    /// Ends what [`prepare`](Sleep::prepare) began.
    pub(crate) fn end(&self) -> Woken {
        // Acquire: pairs with `rouse`.
        match self.state.swap(AWAKE, Ordering::Acquire) {
            CALLED => Woken::Called,
            TO_SEARCH => Woken::ToSearch,
            _ => Woken::No,
        }
    }

    /// Wakes the worker if it sleeps and nobody else has. The caller has passed a `SeqCst` fence
    /// after whatever it brought.
    pub(crate) fn wake(&self) {
        if self.rouse(CALLED) {
            self.unparker.unpark();
        }
    }

    /// As [`wake`](Sleep::wake), for a search; `count` runs before the worker does. False: it does
    /// not sleep, or somebody else has woken it.
    pub(crate) fn wake_to_search(&self, count: impl FnOnce()) -> bool {
        let roused = self.rouse(TO_SEARCH);
        if roused {
            count();
            self.unparker.unpark();
        }
        roused
    }

    /// Whether the worker has announced its sleep and nobody has woken it.
    pub(crate) fn is_asleep(&self) -> bool {
        self.state.load(Ordering::Relaxed) == ASLEEP
    }

    fn rouse(&self, why: u32) -> bool {
        // The load keeps a busy worker's cache line where it is.
        self.state.load(Ordering::Relaxed) == ASLEEP
            && self
                .state
                .compare_exchange(ASLEEP, why, Ordering::Release, Ordering::Relaxed)
                .is_ok()
    }
}
