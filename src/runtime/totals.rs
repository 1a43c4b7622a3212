//! What all runtimes of the process have counted.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::task::{self, Mailbox};

/// Tasks that were spawned by threads that are no workers.
pub(super) static SPAWNED_OUTSIDE: AtomicU64 = AtomicU64::new(0);

/// What all runtimes of the process have counted, as [`inspect`](crate::inspect) shows it.
pub(crate) struct Totals {
    pub(crate) spawned: u64,
    pub(crate) started: u64,
    pub(crate) ended: u64,
    pub(crate) parked: u64,
    pub(crate) stolen: u64,
    pub(crate) turns: u64,
}

/// Each count is read over all workers before the next, and what ends a thing before what begins it.
/// So a coroutine that is counted as ended is counted as spawned too, wherever it was, and the counts
/// never hide one that lives.
pub(crate) fn totals() -> Totals {
    // Discarded ones count as started and ended, so that what is left is what lives.
    let discarded = task::discarded();
    let ended = discarded + Mailbox::count(|counters| &counters.ended);
    let started = discarded + Mailbox::count(|counters| &counters.started);
    let unparked = Mailbox::count(|counters| &counters.unparked);
    let parked = Mailbox::count(|counters| &counters.parked) - unparked;
    let stolen = Mailbox::count(|counters| &counters.stolen);
    let spawned = Mailbox::count(|counters| &counters.spawned);
    let spawned = spawned + SPAWNED_OUTSIDE.load(Ordering::Relaxed);
    let turns = Mailbox::all().map(|mailbox| mailbox.running().turn()).sum();
    Totals { spawned, started, ended, parked, stolen, turns }
}
