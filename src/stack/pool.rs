//! Idle slots: a cache for each worker, and the shelves that all of them share.
//!
//! ```text
//!   worker's Pool                          shelves, one for each class, under a lock
//!  +--------------------------+   64      +---------------------------+    64
//!  | class 4: [oldest..newest]|  ------>  | warm: [oldest .. newest]  |  -------> cold: pages
//!  |           take, give ^   |  oldest   |       at most 8192        |  oldest   given back
//!  +--------------------------+           +---------------------------+
//!                             <----------------------'  <--------------------------'
//!                              up to 64 newest, else cold ones, when the worker has none
//! ```
//!
//! A worker gives to and takes from its own list, newest first: that stack's top lines are still in
//! the cache. A worker takes the lock only if its list is full or empty, and then moves many slots. So if one worker
//! only starts coroutines and another only ends them, they exchange slots for a fraction of a lock each.
//!
//! **Warm and cold.** An idle stack keeps the pages that it has touched, because the next owner will use
//! some: the first touch of a page costs more than the rest of a short coroutine's life. After a burst the
//! pages must go back to the system. So each list has a limit. Beyond the shelf's limit, the oldest slots
//! lose their pages, 64 slots in one system call. Larger classes have lower limits, because a
//! warm stack may hold as many bytes as its size.
//!
//! **Counting.** `in_use` is what was ever handed out less what is idle. A pool publishes how much it
//! holds by a relaxed store to a line of its own; nothing is shared on the way of [`Pool::take`].

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::advise::advise;
use super::class::Class;
use super::region::fresh;
use super::slot::{self, Slot};
use super::stack_pressure;
use crate::base::append_only_list::AppendOnlyList;
use crate::base::lock::lock;

/// Slots that move between a pool and a shelf, or lose their pages, together.
const BATCH: usize = 64;

/// Idle slots that a pool keeps to itself, for classes up to the default.
const POOL_LIMIT: usize = 1024;

/// Idle slots on a shelf that keep their pages, for classes up to the default.
const WARM_LIMIT: usize = 8192;

/// A limit in slots, lowered for large classes so that it stays the same in bytes.
const fn scaled(limit: usize, class: Class) -> usize {
    limit >> class.index().saturating_sub(Class::DEFAULT.index())
}

/// How many slots to move together; a pool's limit is at least twice as many.
const fn batch(class: Class) -> usize {
    let half = scaled(POOL_LIMIT, class) / 2;
    if half < BATCH { half } else { BATCH }
}

const _: () = assert!(scaled(POOL_LIMIT, Class::LARGEST) >= 2, "a pool can hold a batch and more");

/// The idle slots of one class that belong to no pool.
struct Shelf {
    /// With the pages they have touched, oldest first.
    warm: Vec<Slot>,
    /// Without pages.
    cold: Vec<Slot>,
}

static SHELVES: [Mutex<Shelf>; Class::COUNT] =
    [const { Mutex::new(Shelf { warm: Vec::new(), cold: Vec::new() }) }; Class::COUNT];

/// Slots on all shelves, and those on their way to the cold side.
static SHELVED: AtomicUsize = AtomicUsize::new(0);

/// What each pool holds, or held when it was dropped, which is nothing.
static POOLS: AppendOnlyList<PoolCount> = AppendOnlyList::new();

/// The number of slots in a pool, on a line that only its owner writes to.
#[repr(align(128))]
struct PoolCount {
    slots: AtomicUsize,
    /// A pool counts here.
    taken: AtomicBool,
}

impl PoolCount {
    /// One that no other pool counts in.
    fn acquire() -> &'static PoolCount {
        // Acquire: pairs with the drop of the pool that had it before.
        let free = |held: &&PoolCount| !held.taken.swap(true, Ordering::Acquire);
        let new = || PoolCount { slots: AtomicUsize::new(0), taken: AtomicBool::new(true) };
        POOLS.iter().find(free).unwrap_or_else(|| POOLS.add(new()))
    }
}

impl Shelf {
    /// The list to take from: warm, while there are any.
    fn best(&mut self) -> &mut Vec<Slot> {
        if self.warm.is_empty() { &mut self.cold } else { &mut self.warm }
    }
}

/// Puts idle slots on their shelf, oldest first, and throws away the pages of what is too much.
fn shelve(class: Class, slots: impl ExactSizeIterator<Item = Slot>) {
    let shelf = &SHELVES[class.index()];
    SHELVED.fetch_add(slots.len(), Ordering::Relaxed);
    let mut locked = lock(shelf);
    locked.warm.extend(slots);
    // A whole batch over the limit: fewer would not be worth the system call.
    let surplus = locked.warm.len().saturating_sub(scaled(WARM_LIMIT, class));
    if surplus >= batch(class) {
        let chilled: Vec<Slot> = locked.warm.drain(..surplus).collect();
        // For this long call nobody has to wait.
        drop(locked);
        chill(&chilled);
        lock(shelf).cold.extend(chilled);
    } else {
        drop(locked);
    }
    stack_pressure::clear(class);
}

/// Gives the slots' pages back to the system. The guards stay: they are not part of the ranges.
fn chill(slots: &[Slot]) {
    let range = |i: usize| slots[i].limit()..slots[i].end();
    // Refused for locked memory (mlockall), whose pages the program wants to keep.
    // SAFETY: S4 and S5, the slots are idle and ours.
    let _ = unsafe { advise(libc::MADV_DONTNEED, slots.len(), range) };
}

/// An idle slot from the shelf.
fn unshelve(class: Class) -> Option<Slot> {
    let slot = lock(&SHELVES[class.index()]).best().pop()?;
    SHELVED.fetch_sub(1, Ordering::Relaxed);
    Some(slot)
}

/// A slot for a coroutine that belongs to no worker.
///
/// # Errors
///
/// `OutOfMemory`, when no slot is idle and the kernel refuses a fresh one; the message names the
/// knob.
pub(crate) fn take(class: Class) -> io::Result<Slot> {
    unshelve(class).map_or_else(|| fresh(class), Ok)
}

/// Gives back what [`take`] or a pool gave. Nothing on the slot may be alive any more (S4).
pub(crate) fn give(slot: Slot) {
    shelve(slot.class(), [slot].into_iter());
}

/// Sees to it that there is a slot of this class in the world, idle or in use, so that whoever waits
/// for one does not wait in vain.
///
/// # Errors
///
/// As [`take`].
pub(crate) fn provide(class: Class) -> io::Result<()> {
    if slot::is_issued(class) {
        return Ok(());
    }
    take(class).map(give)
}

/// A worker's idle slots.
pub(crate) struct Pool {
    /// For each class, oldest first.
    idle: [Vec<Slot>; Class::COUNT],
    held: &'static PoolCount,
}

impl Pool {
    /// An empty pool.
    pub(crate) fn new() -> Pool {
        Pool { idle: [const { Vec::new() }; Class::COUNT], held: PoolCount::acquire() }
    }

    /// The idle slot that was used last, or one from the shelf, or a fresh one.
    ///
    /// # Errors
    ///
    /// As for the function [`take`]. In a shortage the kernel is not asked, and there is no message.
    #[inline]
    pub(crate) fn take(&mut self, class: Class) -> io::Result<Slot> {
        match self.idle[class.index()].pop() {
            Some(slot) => {
                self.publish(-1);
                Ok(slot)
            }
            None => self.refill(class),
        }
    }

    /// Takes a slot back. Nothing on it may be alive any more (S4).
    #[inline]
    pub(crate) fn give(&mut self, slot: Slot) {
        let class = slot.class();
        let idle = &mut self.idle[class.index()];
        idle.push(slot);
        let count = idle.len();
        self.publish(1);
        // Where somebody waits for such a stack, it is of no use here.
        if count >= scaled(POOL_LIMIT, class) || stack_pressure::is_announced(class) {
            self.shed(class, batch(class).min(count));
        }
    }

    /// Puts all idle slots on the shelves, for others to take.
    pub(super) fn flush(&mut self) {
        Class::all().for_each(|class| self.empty(class));
    }

    /// Puts those on the shelves for which somebody waits.
    pub(crate) fn give_up(&mut self) {
        Class::all()
            .filter(|class| stack_pressure::is_announced(*class))
            .for_each(|class| self.empty(class));
    }

    fn empty(&mut self, class: Class) {
        let count = self.idle[class.index()].len();
        if count > 0 {
            self.shed(class, count);
        }
    }

    /// Corrects the published number.
    #[inline(always)]
    fn publish(&self, change: isize) {
        // Load and store rather than one atomic addition: nobody else writes. Relaxed, since the
        // number guards nothing.
        let slots = self.held.slots.load(Ordering::Relaxed).wrapping_add_signed(change);
        self.held.slots.store(slots, Ordering::Relaxed);
    }

    #[cold]
    fn refill(&mut self, class: Class) -> io::Result<Slot> {
        if let Some(slot) = self.fetch(class) {
            return Ok(slot);
        }
        if stack_pressure::is_announced(class) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        // Another worker may have put some on the shelf while the kernel was thinking.
        fresh(class).or_else(|error| self.fetch(class).ok_or(error))
    }

    /// Moves a batch here from the shelf, and takes the newest of it. Where somebody waits for such a
    /// stack it takes that one alone: what is idle here is out of the others' reach.
    fn fetch(&mut self, class: Class) -> Option<Slot> {
        let idle = &mut self.idle[class.index()];
        let mut shelf = lock(&SHELVES[class.index()]);
        let best = shelf.best();
        let wanted = if stack_pressure::is_announced(class) { 1 } else { batch(class) };
        let count = best.len().min(wanted);
        idle.extend(best.drain(best.len() - count..));
        drop(shelf);
        let slot = idle.pop()?;
        SHELVED.fetch_sub(count, Ordering::Relaxed);
        self.publish(count as isize - 1);
        Some(slot)
    }

    /// Moves the oldest `count` slots to the shelf.
    #[cold]
    fn shed(&mut self, class: Class, count: usize) {
        shelve(class, self.idle[class.index()].drain(..count));
        self.publish(-(count as isize));
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.flush();
        self.held.taken.store(false, Ordering::Release);
    }
}

/// How many slots there are, and what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Slots that have an owner outside this module.
    pub(crate) in_use: usize,
    /// Slots that had one and are idle now.
    pub(crate) pooled: usize,
    /// Bytes of addresses that the region takes.
    pub(crate) reserved_bytes: usize,
}

/// The present numbers. While others take and give, each is off by what they do meanwhile.
pub(crate) fn usage() -> Usage {
    let in_pools: usize = POOLS.iter().map(|held| held.slots.load(Ordering::Relaxed)).sum();
    let pooled = in_pools + SHELVED.load(Ordering::Relaxed);
    let in_use = slot::issued_in_all().saturating_sub(pooled);
    Usage { in_use, pooled, reserved_bytes: slot::region_length() }
}
