//! Looking at coroutines from inside and outside, without changing anything.

use std::ops::Range;

use crate::base::id::Id;
pub use crate::goexit::ExitTarget;
use crate::record::{self, Record, stack_pointer};
use crate::{runtime, stack};

/// Where the function of the running coroutine is going to return to. `None` on a plain thread.
///
/// While the exit handlers run, it is [`ExitTarget::Goexit`]: that is what comes after them.
///
/// # Examples
///
/// ```
/// use coro::inspect::{ExitTarget, exit_target};
///
/// coro::go(|| {
///     assert_eq!(exit_target(), Some(ExitTarget::Goexit));
///     coro::tls::at_exit(|| assert_eq!(exit_target(), Some(ExitTarget::Goexit)));
///     assert_eq!(exit_target(), Some(ExitTarget::Cleanup));
/// })
/// .join()
/// .unwrap();
/// ```
pub fn exit_target() -> Option<ExitTarget> {
    record::with(|record| record.exit_target())
}

/// The stack of the running coroutine: from the guard's end to where its colour begins. `None` on
/// any other stack.
///
/// # Examples
///
/// ```
/// coro::go(|| {
///     let on_stack = 0u8;
///     let bounds = coro::inspect::stack_bounds().unwrap();
///     assert!(bounds.contains(&(&raw const on_stack as usize)));
/// })
/// .join()
/// .unwrap();
/// assert_eq!(coro::inspect::stack_bounds(), None);
/// ```
pub fn stack_bounds() -> Option<Range<usize>> {
    stack::bounds_of(stack_pointer())
}

/// The address of the hidden record of the running coroutine. `None` on any other stack.
///
/// # Examples
///
/// ```
/// coro::go(|| {
///     let record = coro::inspect::record_address().unwrap();
///     assert!(coro::inspect::stack_bounds().unwrap().contains(&record));
/// })
/// .join()
/// .unwrap();
/// ```
pub fn record_address() -> Option<usize> {
    stack::ceiling_of(stack_pointer()).map(|ceiling| record::record_below(ceiling.get()).addr())
}

/// Whose stack an address lies on, for profilers: the id of the coroutine that runs or is suspended
/// there, or of the last one that did. `None` for an address that is on no coroutine's stack.
///
/// May be called on any thread and in a signal handler, with any address.
///
/// # Examples
///
/// ```
/// use coro::{inspect, tls};
///
/// coro::go(|| {
///     let on_stack = 0u8;
///     assert_eq!(inspect::id_at(&raw const on_stack as usize), Some(tls::id()));
/// })
/// .join()
/// .unwrap();
/// assert_eq!(inspect::id_at(0x1000), None);
/// ```
pub fn id_at(sp: usize) -> Option<Id> {
    Record::id_at(sp)
}

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
    /// Stacks that carry a coroutine. One that has ended gives its stack back just after its
    /// [`join`](crate::JoinHandle::join) returns, so for a moment it may still be counted here.
    pub stacks_in_use: u64,
    /// Stacks that carried one and are kept for the next.
    pub stacks_pooled: u64,
    /// Bytes of address space that are reserved for stacks.
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
    let totals = runtime::totals();
    let stacks = stack::usage();
    Metrics {
        live: totals.spawned.saturating_sub(totals.ended),
        fresh: totals.spawned.saturating_sub(totals.started),
        parked: totals.parked,
        spawned: totals.spawned,
        stolen: totals.stolen,
        stacks_in_use: stacks.in_use as u64,
        stacks_pooled: stacks.pooled as u64,
        stacks_reserved_bytes: stacks.reserved_bytes as u64,
    }
}
