//! What a worker counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that one thread counts up and any thread reads.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// A load and a store, which is not atomic together and need not be: there is one writer.
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        // Release: whoever reads it finds all that was counted before it as well.
        self.0.store(self.0.load(Ordering::Relaxed) + n, Ordering::Release);
    }

    pub(crate) fn get(&self) -> u64 {
        // Acquire: pairs with `add`.
        self.0.load(Ordering::Acquire)
    }
}

/// What a worker has counted. Written by the worker alone, read by anyone.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) spawned: Counter,
    pub(crate) started: Counter,
    pub(crate) ended: Counter,
    pub(crate) stolen: Counter,
    /// Parks that were committed, and those of them that are over.
    pub(crate) parked: Counter,
    pub(crate) unparked: Counter,
}

impl Counters {
    /// Tasks that were started here and have not ended.
    pub(crate) fn alive(&self) -> u64 {
        let ended = self.ended.get();
        self.started.get().saturating_sub(ended)
    }
}
