//! Idle slots: a cache for each worker, and the shelves that all of them share.
//!
//! ```text
//!   worker's Pool                          shelves, one for each class, under a lock
//!  +--------------------------+   64      +---------------------------+    64
//!  | class 4: [oldest..newest]|  ------>  | warm: [oldest .. newest]  |  -------> cold: pages
//!  |           take, give ^   |  oldest   |       at most 6144        |  oldest   given back
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
//! warm stack may hold as many bytes as its size. Where all neighbours are cold, their page tables go back as well (see
//! [`cold`](super::cold)).
//!
//! **Counting.** `in_use` is what was ever handed out less what is idle. A pool publishes how much it
//! holds by a relaxed store to a line of its own; nothing is shared on the way of [`Pool::take`]. Slots and their bytes
//! are counted in one word (see [`tally`](super::tally)).

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::advise::advise;
use super::class::{Class, PAGE};
use super::cold::{Cold, Run};
use super::region::{self, fresh};
use super::slot::{self, Slot};
use super::stack_pressure;
use super::tally::{AtomicTally, Tally};
use crate::base::append_only_list::AppendOnlyList;
use crate::base::lock::lock;

/// Slots that move between a pool and a shelf, or lose their pages, together.
const BATCH: usize = 64;

/// Idle slots that a pool keeps to itself, for classes up to the default.
const POOL_LIMIT: usize = 1024;

/// Idle slots on a shelf that keep their pages, for classes up to the default.
const WARM_LIMIT: usize = 6144;

/// Retired slots that are made ready together.
const REVIVED_TOGETHER: usize = 512;

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
    cold: Cold,
}

static SHELVES: [Mutex<Shelf>; Class::COUNT] =
    [const { Mutex::new(Shelf { warm: Vec::new(), cold: Cold::new() }) }; Class::COUNT];

/// Slots on all shelves, and those on their way to the cold side.
static SHELVED: AtomicTally = AtomicTally::new();

/// Of those, the cold ones.
static COLD: AtomicTally = AtomicTally::new();

/// What each pool holds, or held when it was dropped, which is nothing.
static POOLS: AppendOnlyList<PoolCount> = AppendOnlyList::new();

/// The slots in a pool, on a line that only its owner writes to.
#[repr(align(128))]
struct PoolCount {
    slots: AtomicTally,
    /// A pool counts here.
    taken: AtomicBool,
}

impl PoolCount {
    /// One that no other pool counts in.
    fn acquire() -> &'static PoolCount {
        // Acquire: pairs with the drop of the pool that had it before.
        let free = |held: &&PoolCount| !held.taken.swap(true, Ordering::Acquire);
        let new = || PoolCount { slots: AtomicTally::new(), taken: AtomicBool::new(true) };
        POOLS.iter().find(free).unwrap_or_else(|| POOLS.add(new()))
    }
}

impl Shelf {
    /// Moves up to `count` slots to `idle`: the warm ones that came last, or else cold ones.
    fn take(&mut self, class: Class, count: usize, idle: &mut Vec<Slot>) {
        if self.warm.is_empty() {
            let before = idle.len();
            idle.extend((0..count).map_while(|_| self.cold.pop(class)));
            COLD.remove(Tally::of(class, idle.len() - before));
        } else {
            idle.extend(self.warm.drain(self.warm.len().saturating_sub(count)..));
        }
    }
}

/// Puts idle slots on their shelf, oldest first, and throws away the pages of what is too much.
fn shelve(class: Class, slots: impl ExactSizeIterator<Item = Slot>) {
    let shelf = &SHELVES[class.index()];
    SHELVED.add(Tally::of(class, slots.len()));
    let mut locked = lock(shelf);
    locked.warm.extend(slots);
    // A whole batch over the limit: fewer would not be worth the system call.
    let surplus = locked.warm.len().saturating_sub(scaled(WARM_LIMIT, class));
    if surplus >= batch(class) {
        let chilled: Vec<Slot> = locked.warm.drain(..surplus).collect();
        // For these long calls nobody has to wait.
        drop(locked);
        chill(&chilled);
        COLD.add(Tally::of(class, chilled.len()));
        let mut locked = lock(shelf);
        chilled.into_iter().for_each(|slot| locked.cold.push(slot));
        let runs = locked.cold.take_runs(class);
        drop(locked);
        retire(class, runs);
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
    if unsafe { advise(libc::MADV_DONTNEED, slots.len(), range) }.is_err() {
        region::retire_no_more();
    }
}

/// Gives the page tables of whole blocks back to the system.
fn retire(class: Class, runs: Vec<Run>) {
    for run in runs {
        let is_retired = region::retire(&run);
        let cold = &mut lock(&SHELVES[class.index()]).cold;
        if is_retired { cold.add_retired(run) } else { cold.put_back(run) }
    }
}

/// Makes some of the retired slots ready. False: there are none, or the kernel refuses.
#[cold]
fn revive(class: Class) -> bool {
    let shelf = &SHELVES[class.index()];
    let Some(run) = lock(shelf).cold.take_retired(class, REVIVED_TOGETHER) else { return false };
    let (ready, refused) = region::revive(class, run);
    let mut shelf = lock(shelf);
    let is_any_ready = !ready.slots().is_empty();
    // SAFETY: S3, their guards are in place.
    unsafe { ready.into_ready() }.for_each(|slot| shelf.cold.push(slot));
    if let Some(rest) = refused {
        shelf.cold.add_retired(rest);
    }
    is_any_ready
}

/// What `get` finds on the shelf, to which retired slots come back as long as there are some.
fn get_or_revive<T>(class: Class, mut get: impl FnMut() -> Option<T>) -> Option<T> {
    loop {
        let found = get();
        if found.is_some() || !revive(class) {
            return found;
        }
    }
}

/// An idle slot from the shelf.
fn unshelve(class: Class) -> Option<Slot> {
    let mut shelf = lock(&SHELVES[class.index()]);
    let one = Tally::of(class, 1);
    let slot = match shelf.warm.pop() {
        Some(slot) => slot,
        None => shelf.cold.pop(class).inspect(|_| COLD.remove(one))?,
    };
    SHELVED.remove(one);
    Some(slot)
}

/// A slot for a coroutine that belongs to no worker.
///
/// # Errors
///
/// `OutOfMemory`, when no slot is idle and the kernel refuses a fresh one; the message names the
/// knob.
pub(crate) fn take(class: Class) -> io::Result<Slot> {
    get_or_revive(class, || unshelve(class)).map_or_else(|| fresh(class), Ok)
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
    if slot::issued(class) > 0 {
        return Ok(());
    }
    match take(class) {
        Ok(slot) => give(slot),
        // Others have taken all that there are, meanwhile.
        Err(_) if slot::issued(class) > 0 => {}
        Err(error) => return Err(error),
    }
    Ok(())
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
                self.held.slots.remove_alone(Tally::of(class, 1));
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
        self.held.slots.add_alone(Tally::of(class, 1));
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

    #[cold]
    fn refill(&mut self, class: Class) -> io::Result<Slot> {
        if let Some(slot) = self.fetch(class) {
            return Ok(slot);
        }
        if stack_pressure::is_announced(class) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        if let Some(slot) = get_or_revive(class, || self.fetch(class)) {
            return Ok(slot);
        }
        // Another worker may have put some on the shelf while the kernel was thinking.
        fresh(class).or_else(|error| self.fetch(class).ok_or(error))
    }

    /// Moves a batch here from the shelf, and takes the newest of it. Where somebody waits for such a
    /// stack it takes that one alone: what is idle here is out of the others' reach.
    fn fetch(&mut self, class: Class) -> Option<Slot> {
        let idle = &mut self.idle[class.index()];
        let mut shelf = lock(&SHELVES[class.index()]);
        let wanted = if stack_pressure::is_announced(class) { 1 } else { batch(class) };
        shelf.take(class, wanted, idle);
        drop(shelf);
        let count = idle.len();
        let slot = idle.pop()?;
        SHELVED.remove(Tally::of(class, count));
        self.held.slots.add_alone(Tally::of(class, count - 1));
        Some(slot)
    }

    /// Moves the oldest `count` slots to the shelf.
    #[cold]
    fn shed(&mut self, class: Class, count: usize) {
        shelve(class, self.idle[class.index()].drain(..count));
        self.held.slots.remove_alone(Tally::of(class, count));
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.flush();
        self.held.taken.store(false, Ordering::Release);
    }
}

/// How many slots there are, and what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Usage {
    /// Slots that have an owner outside this module.
    pub(crate) in_use: usize,
    /// Bytes of addresses that these take.
    pub(crate) in_use_bytes: usize,
    /// Slots that had one and are idle now.
    pub(crate) pooled: usize,
    /// Bytes of addresses that these take.
    pub(crate) pooled_bytes: usize,
    /// Of the idle slots, those on the cold side of a shelf.
    pub(crate) cold: usize,
    /// A page for each slot that is not cold.
    pub(crate) resident_bytes: usize,
    /// Bytes of addresses that the region takes.
    pub(crate) reserved_bytes: usize,
}

/// The present numbers. While others take and give, each is off by what they do meanwhile.
pub(crate) fn usage() -> Usage {
    let in_pools = POOLS.iter().fold(Tally::ZERO, |sum, held| sum.plus(held.slots.get()));
    let pooled = in_pools.plus(SHELVED.get());
    let issued = Class::all()
        .fold(Tally::ZERO, |sum, class| sum.plus(Tally::of(class, slot::issued(class))));
    let in_use = issued.without(pooled);
    let cold = COLD.get().slots().min(pooled.slots());
    Usage {
        in_use: in_use.slots(),
        in_use_bytes: in_use.bytes(),
        pooled: pooled.slots(),
        pooled_bytes: pooled.bytes(),
        cold,
        resident_bytes: (in_use.slots() + pooled.slots() - cold) * PAGE,
        reserved_bytes: slot::region_length(),
    }
}
