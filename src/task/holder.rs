//! Who holds a lock, for reports.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::id::Id;
use crate::record;

/// The coroutine that holds a lock. It decides nothing, and may be a moment late.
pub(crate) struct LockHolder(AtomicU64);

impl LockHolder {
    pub(crate) const fn new() -> LockHolder {
        LockHolder(AtomicU64::new(0))
    }

    /// The running coroutine, as the number of its id. 0: a thread.
    #[inline(always)]
    pub(crate) fn here() -> u64 {
        record::with_coroutine(|record| record.id().get()).unwrap_or(0)
    }

    /// 0: a thread, or nobody.
    #[inline(always)]
    pub(crate) fn set(&self, number: u64) {
        // Relaxed, here and below: a report is not ordered with those who lock.
        self.0.store(number, Ordering::Relaxed);
    }

    /// `None`: a thread holds the lock, or nobody.
    pub(crate) fn id(&self) -> Option<Id> {
        Id::from_number(self.0.load(Ordering::Relaxed))
    }
}
