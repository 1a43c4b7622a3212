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
//! Of all who find a worker asleep one moves the state on, and that one wakes the thread. The state is the word that
//! the thread blocks on, so a thread that has not blocked yet does not. A thread that wakes up for no reason just
//! looks round once too often.
//!
//! # Whether all sleep at the same time
//!
//! Several workers can be looked at one after another only. If each was asleep when it was looked at, they need not
//! have been asleep at the same time: the last may have woken the first, and then fallen asleep. So each worker
//! numbers its sleeps without a deadline, and [`endless`](Sleep::endless) tells the number of the present one. Look
//! twice at every worker. If the second look finds the same numbers as the first, no worker was woken before the
//! second look began.
//!
//! Proof. Suppose that some workers were woken from the sleep that the first look saw, and let A be the first of
//! them. Worker B woke A. B had not been woken from its own numbered sleep, as A was the first; so B's numbered sleep
//! began after B woke A. The first look read the number of B's sleep. So the waking of A happened before the second
//! look, which therefore sees that A is awake, or sees a later sleep of A with a later number.
//!
//! The caller excludes threads that are no workers. A worker may also come back although nobody woke it; then it
//! finds no work, or work that a worker brought, to whom the proof applies.

use std::time::Instant;

use crate::base::atomics::{AtomicUsize, Ordering, fence};
use crate::base::futex::Futex;

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

/// The state word by which one worker sleeps and is woken.
pub(crate) struct Sleep {
    /// The worker blocks on this word.
    state: Futex,
    /// Grows when the worker begins to block without a deadline, and when it ends to: odd in between.
    endless: AtomicUsize,
}

impl Sleep {
    pub(crate) fn new() -> Sleep {
        Sleep { state: Futex::new(AWAKE), endless: AtomicUsize::new(0) }
    }

    /// Announces that the worker is going to sleep; what it looks at afterwards decides.
    pub(crate) fn prepare(&self) {
        // Release: pairs with `endless`.
        self.state.store(ASLEEP, Ordering::Release);
        fence(Ordering::SeqCst);
    }

    /// Blocks until somebody wakes the worker or `deadline` comes. May return early. By the worker, after
    /// [`prepare`](Sleep::prepare).
    pub(crate) fn block(&self, deadline: Option<Instant>) {
        match deadline {
            None => {
                self.count_endless();
                self.state.wait(ASLEEP, None);
                self.count_endless();
            }
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                self.state.wait(ASLEEP, Some(left));
            }
        }
    }

    fn count_endless(&self) {
        // Release: pairs with `endless`.
        self.endless.store(self.endless.load(Ordering::Relaxed) + 1, Ordering::Release);
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
            self.state.wake();
        }
    }

    /// As [`wake`](Sleep::wake), for a search; `count` runs before the worker does. False: it does
    /// not sleep, or somebody else has woken it.
    pub(crate) fn wake_to_search(&self, count: impl FnOnce()) -> bool {
        let roused = self.rouse(TO_SEARCH);
        if roused {
            count();
            self.state.wake();
        }
        roused
    }

    /// Whether the worker sleeps, or is about to.
    pub(crate) fn is_asleep(&self) -> bool {
        self.state.load(Ordering::Relaxed) == ASLEEP
    }

    /// Which of its endless sleeps the worker is in, if it is in one and nobody has woken it.
    pub(crate) fn endless(&self) -> Option<usize> {
        // Acquire: pairs with `prepare`, so that the number is not that of an earlier sleep.
        if self.state.load(Ordering::Acquire) != ASLEEP {
            return None;
        }
        // Acquire: pairs with `count_endless`.
        let number = self.endless.load(Ordering::Acquire);
        (number % 2 == 1).then_some(number)
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
