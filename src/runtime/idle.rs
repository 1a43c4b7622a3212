//! How many workers search for fresh tasks and how many sleep, so that a spawn knows whether it has
//! to wake one.
//!
//! Waking a thread costs microseconds, so a spawn wakes a sleeper only if nobody is searching
//! already; a searcher that finds something wakes the next one if it was the last. So the workers
//! wake one after another for as long as there is more to find. The wake-up for the first task
//! that a worker spawns is put off until it spawns another, because it runs the first one next (see `DeferredNotify`).
//!
//! # No fresh task is left lying while a worker sleeps
//!
//! A spawn pushes the task, passes a `SeqCst` fence, and reads the two counts. If that is put off, the
//! spawning worker is awake and has the task in its queue. A worker that stops
//! searching takes itself out of `searching`, adds itself to `sleeping`, announces its sleep,
//! passes a `SeqCst` fence, and looks at every queue once more before it blocks.
//!
//! Suppose a spawn wakes nobody because it read `searching > 0`, on account of worker S. Either S
//! finds something: then, if it is the last to search, it passes the wake-up on, and otherwise the
//! argument applies to another searcher. Or S gives up: the spawn read a value from before S took
//! itself out, so the spawn's fence came before S's fence, and S's last look sees the task. Suppose
//! it read `sleeping == 0`: then every worker is awake, and a worker that falls asleep later has
//! its fence after the spawn's, by the same argument, and sees the task. (The sleep
//! state of each worker is in [`Sleep`].)
//!
//! A worker that steals several tasks keeps all but one in its own queue, and on their way there
//! they are in no queue. So whoever does that counts as searching meanwhile. When it takes itself
//! out it either is the last, passes a fence and looks, its own queue included; or another searcher
//! takes itself out later, reads what the first one released, and so sees that queue in its last
//! look.
//!
//! A task that is set aside because there is no stack for it is not to be found until there is one,
//! and nobody need be awake for it: see [`stack_wait`](super::stack_wait). A search does not find a task that is placed
//! with a worker either. Whoever places it wakes that worker, as for what is in a worker's inbox.
//!
//! Whoever wakes a worker to search counts it as searching on its behalf, so a burst of spawns
//! wakes one worker and not all. The worker may be quicker than that count and take itself out
//! first, so the counts are signed and may be one too low for a moment. That errs on the side of
//! one wake-up too many.

use crossbeam_utils::CachePadded;

use crate::base::atomics::{AtomicIsize, Ordering, fence};
use crate::driver::{Sleep, Woken};

/// How many workers of a runtime search for fresh tasks, and how many sleep.
pub(super) struct Idle {
    counts: CachePadded<Counts>,
}

struct Counts {
    searching: AtomicIsize,
    sleeping: AtomicIsize,
}

impl Idle {
    pub(super) fn new() -> Idle {
        let counts = Counts { searching: AtomicIsize::new(0), sleeping: AtomicIsize::new(0) };
        Idle { counts: CachePadded::new(counts) }
    }

    /// Wakes a worker for a fresh task that was just pushed, if none searches.
    #[inline]
    pub(super) fn notify(&self, workers: &[impl AsRef<Sleep>]) {
        fence(Ordering::SeqCst);
        let counts = &self.counts;
        if counts.sleeping.load(Ordering::Relaxed) > 0
            && counts.searching.load(Ordering::Relaxed) <= 0
        {
            self.wake_one(workers);
        }
    }

    #[cold]
    fn wake_one(&self, workers: &[impl AsRef<Sleep>]) {
        for worker in workers {
            let woken = worker.as_ref().wake_to_search(|| {
                self.counts.searching.fetch_add(1, Ordering::Relaxed);
                self.counts.sleeping.fetch_sub(1, Ordering::Relaxed);
            });
            if woken {
                return;
            }
        }
    }

    /// The calling worker begins to search.
    pub(super) fn start_search(&self) {
        self.counts.searching.fetch_add(1, Ordering::Relaxed);
    }

    /// The calling worker has found something; true: nobody else searches.
    pub(super) fn end_search(&self) -> bool {
        // Release: publishes what it stole into its own queue to searchers that leave after it.
        self.counts.searching.fetch_sub(1, Ordering::Release) <= 1
    }

    /// The calling worker stops searching and is going to sleep; its last look comes after this.
    pub(super) fn search_to_sleep(&self, me: &Sleep) {
        self.counts.sleeping.fetch_add(1, Ordering::Relaxed);
        self.counts.searching.fetch_sub(1, Ordering::Relaxed);
        me.prepare();
    }

    /// The calling worker is awake again, and searching.
    pub(super) fn sleep_to_search(&self, me: &Sleep) {
        if me.end() != Woken::ToSearch {
            self.counts.searching.fetch_add(1, Ordering::Relaxed);
            self.counts.sleeping.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Those who search, and those who sleep.
    #[cfg(all(test, coro_loom))]
    pub(super) fn counts(&self) -> (isize, isize) {
        let counts = &self.counts;
        (counts.searching.load(Ordering::Acquire), counts.sleeping.load(Ordering::Acquire))
    }
}
