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
//! Of all who find a worker asleep one moves the state on, and that one wakes the thread. A worker blocks on the state
//! word itself until it has a [`Poller`], and in that from then on; the state says which, so whoever moves it on knows
//! how to wake. A thread that has not blocked yet does not: the word has changed, or the poller's next wait is over
//! at once. A thread that wakes up for no reason just looks round once too often.
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

use std::io;
use std::sync::OnceLock;
use std::time::Instant;

use super::poller::{Events, Poller};
use crate::base::atomics::{AtomicUsize, Ordering, fence};
use crate::base::futex::Futex;

/// The worker runs, or is about to look for work.
const AWAKE: u32 = 0;
/// The worker blocks on the word, or is about to, unless its last look finds something.
const ASLEEP: u32 = 1;
/// As before, in its poller.
const ASLEEP_IN_POLLER: u32 = 2;
/// Somebody has woken it, for what is in its inbox or for something else that is its own.
const CALLED: u32 = 3;
/// Somebody has woken it to search for fresh tasks.
const TO_SEARCH: u32 = 4;

/// Whether the state is that of a worker that sleeps, or is about to.
fn is_asleep(state: u32) -> bool {
    matches!(state, ASLEEP | ASLEEP_IN_POLLER)
}

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
    /// The worker blocks on this word while it has no poller.
    state: Futex,
    /// Made by the worker at its first descriptor. A later worker that sleeps by the same word has it too.
    poller: OnceLock<Poller>,
    /// Grows when the worker begins to block without a deadline, and when it ends to: odd in between.
    endless: AtomicUsize,
}

impl Sleep {
    pub(crate) fn new() -> Sleep {
        Sleep { state: Futex::new(AWAKE), poller: OnceLock::new(), endless: AtomicUsize::new(0) }
    }

    /// What the worker waits in for descriptors, if it has waited for one.
    pub(crate) fn poller(&self) -> Option<&Poller> {
        self.poller.get()
    }

    /// As [`poller`](Sleep::poller), and makes it if there is none. By the worker, which is awake.
    ///
    /// # Errors
    ///
    /// As [`Poller::new`].
    pub(crate) fn poller_or_new(&self) -> io::Result<&Poller> {
        match self.poller.get() {
            Some(poller) => Ok(poller),
            None => {
                let poller = Poller::new()?;
                Ok(self.poller.get_or_init(|| poller))
            }
        }
    }

    /// Announces that the worker is going to sleep; what it looks at afterwards decides.
    pub(crate) fn prepare(&self) {
        let asleep = if self.poller.get().is_some() { ASLEEP_IN_POLLER } else { ASLEEP };
        // Release: pairs with `endless`.
        self.state.store(asleep, Ordering::Release);
        fence(Ordering::SeqCst);
    }

    /// Blocks until somebody wakes the worker, `deadline` comes, or there are `events`. May return early. By the worker,
    /// after [`prepare`](Sleep::prepare).
    pub(crate) fn block(&self, deadline: Option<Instant>, events: &mut Events) {
        if deadline.is_none() {
            self.count_endless();
        }
        match self.poller.get() {
            Some(poller) => poller.wait(events, deadline),
            None => {
                let left = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
                self.state.wait(ASLEEP, deadline.map(left));
            }
        }
        if deadline.is_none() {
            self.count_endless();
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
        self.rouse(CALLED, || ());
    }

    /// As [`wake`](Sleep::wake), for a search; `count` runs before the worker does. False: it does
    /// not sleep, or somebody else has woken it.
    pub(crate) fn wake_to_search(&self, count: impl FnOnce()) -> bool {
        self.rouse(TO_SEARCH, count)
    }

    /// Whether the worker sleeps, or is about to.
    pub(crate) fn is_asleep(&self) -> bool {
        is_asleep(self.state.load(Ordering::Relaxed))
    }

    /// Which of its endless sleeps the worker is in, if it is in one and nobody has woken it.
    pub(crate) fn endless(&self) -> Option<usize> {
        // Acquire: pairs with `prepare`, so that the number is not that of an earlier sleep.
        if !is_asleep(self.state.load(Ordering::Acquire)) {
            return None;
        }
        // Acquire: pairs with `count_endless`.
        let number = self.endless.load(Ordering::Acquire);
        (number % 2 == 1).then_some(number)
    }

    /// Moves the state on, and wakes the thread after `before`. False: the worker does not sleep, or somebody else has
    /// woken it.
    fn rouse(&self, why: u32, before: impl FnOnce()) -> bool {
        // The load keeps a busy worker's cache line where it is.
        let asleep = self.state.load(Ordering::Relaxed);
        if !is_asleep(asleep)
            || self
                .state
                .compare_exchange(asleep, why, Ordering::AcqRel, Ordering::Relaxed)
                .is_err()
        {
            return false;
        }
        before();
        match self.poller.get() {
            Some(poller) if asleep == ASLEEP_IN_POLLER => poller.wake(),
            _ => self.state.wake(),
        }
        true
    }
}
