//! Counts.

use super::totals::totals;
use crate::base::json::Json;
use crate::stack;

/// What the process has counted, over all its runtimes; by [`metrics`].
///
/// The numbers are read one after another while the program runs on, so they need not fit together
/// to the last digit.
///
/// # Examples
///
/// ```
/// let before = coro::inspect::metrics();
/// coro::go(|| ()).join().unwrap();
/// let after = coro::inspect::metrics();
/// assert!(after.spawned > before.spawned);
/// ```
///
/// How much memory the stacks take, and how much of their address space is for use:
///
/// ```
/// let stack = coro::go(coro::inspect::metrics).join().unwrap();
/// assert!(stack.stacks_in_use > 0 && stack.stacks_resident_bytes > 0);
/// assert!(stack.stacks_in_use_bytes >= stack.stacks_in_use * (128 << 10));
/// assert!(stack.stacks_in_use_bytes + stack.stacks_pooled_bytes <= stack.stacks_reserved_bytes);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Metrics {
    /// Coroutines that were spawned and have not ended: fresh, running, queued or parked.
    pub live: u64,
    /// Of those, the ones that have never run.
    pub fresh: u64,
    /// Of those, the ones that wait to be unparked.
    pub parked: u64,
    /// Coroutines that were ever spawned.
    pub spawned: u64,
    /// Coroutines that a worker took from another worker's queue.
    pub stolen: u64,
    /// Turns that coroutines have had: how often one was started or resumed.
    pub turns: u64,
    /// Stacks that carry a coroutine. One that has ended gives its stack back just after its
    /// [`join`](crate::JoinHandle::join) returns, so for a moment it may still be counted here.
    pub stacks_in_use: u64,
    /// Bytes of address space that these take, their guards included.
    pub stacks_in_use_bytes: u64,
    /// Stacks that carried one and are kept for the next.
    pub stacks_pooled: u64,
    /// Bytes of address space that these take, their guards included.
    pub stacks_pooled_bytes: u64,
    /// Of the pooled, the ones whose memory went back to the system. After a burst these are most of them.
    pub stacks_cold: u64,
    /// Bytes of memory that stacks take, if each that is in use or pooled and not cold takes one page.
    ///
    /// An estimate from below, which costs nothing. A stack that has been deeper than its top page takes more, and keeps
    /// it until it is cold. How much more, only the kernel knows: it goes through the page tables for the `Rss` of the
    /// mappings `[anon:coro stacks]` in `/proc/self/smaps`. The page tables, a page for 2 MiB of stacks, are not counted
    /// here. A worker that is short of stacks takes up to 64 cold ones together, which count as if they had a page each.
    pub stacks_resident_bytes: u64,
    /// Bytes of address space that are reserved for stacks. They take no memory.
    pub stacks_reserved_bytes: u64,
}

/// Counts of coroutines and stacks. Takes no lock and allocates nothing.
///
/// # Examples
///
/// ```
/// let metrics = coro::inspect::metrics();
/// println!("{} live, {} parked", metrics.live, metrics.parked);
/// ```
pub fn metrics() -> Metrics {
    let totals = totals();
    let stacks = stack::usage();
    Metrics {
        live: totals.spawned.saturating_sub(totals.ended),
        fresh: totals.spawned.saturating_sub(totals.started),
        parked: totals.parked,
        spawned: totals.spawned,
        stolen: totals.stolen,
        turns: totals.turns,
        stacks_in_use: stacks.in_use as u64,
        stacks_in_use_bytes: stacks.in_use_bytes as u64,
        stacks_pooled: stacks.pooled as u64,
        stacks_pooled_bytes: stacks.pooled_bytes as u64,
        stacks_cold: stacks.cold as u64,
        stacks_resident_bytes: stacks.resident_bytes as u64,
        stacks_reserved_bytes: stacks.reserved_bytes as u64,
    }
}

impl Metrics {
    /// Each field as a member of the same name.
    pub(super) fn write(&self, json: &mut Json) {
        json.object(|json| {
            json.member("live", self.live);
            json.member("fresh", self.fresh);
            json.member("parked", self.parked);
            json.member("spawned", self.spawned);
            json.member("stolen", self.stolen);
            json.member("turns", self.turns);
            json.member("stacks_in_use", self.stacks_in_use);
            json.member("stacks_in_use_bytes", self.stacks_in_use_bytes);
            json.member("stacks_pooled", self.stacks_pooled);
            json.member("stacks_pooled_bytes", self.stacks_pooled_bytes);
            json.member("stacks_cold", self.stacks_cold);
            json.member("stacks_resident_bytes", self.stacks_resident_bytes);
            json.member("stacks_reserved_bytes", self.stacks_reserved_bytes);
        });
    }
}
