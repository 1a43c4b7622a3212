//! A number of slots and their bytes, in one word: so a pool counts both with one addition.
//!
//! ```text
//!   63              32 31              0
//!  +------------------+-----------------+
//!  | bytes / 128 KiB  | slots           |
//!  +------------------+-----------------+
//! ```

use std::sync::atomic::{AtomicU64, Ordering};

use super::class::{Class, SMALLEST_SHIFT};

/// Slots, and the bytes of addresses that they take.
#[derive(Clone, Copy)]
pub(super) struct Tally(u64);

impl Tally {
    const BYTES: u32 = 32;

    pub(super) const ZERO: Tally = Tally(0);

    /// So many slots of a class. The region has room for 2^24 slots, and for 2^27 times 128 KiB.
    #[inline(always)]
    pub(super) const fn of(class: Class, slots: usize) -> Tally {
        Tally(slots as u64 * (1 + (1 << (Tally::BYTES as usize + class.index()))))
    }

    pub(super) fn slots(self) -> usize {
        self.0 as u32 as usize
    }

    pub(super) fn bytes(self) -> usize {
        ((self.0 >> Tally::BYTES) as usize) << SMALLEST_SHIFT
    }

    pub(super) fn plus(self, other: Tally) -> Tally {
        Tally(self.0.wrapping_add(other.0))
    }

    /// What is left without `other`. Where the two were read at different moments, `other` may be more.
    pub(super) fn without(self, other: Tally) -> Tally {
        let slots = self.slots().saturating_sub(other.slots()) as u64;
        let bytes = (self.0 >> Tally::BYTES).saturating_sub(other.0 >> Tally::BYTES);
        Tally(bytes << Tally::BYTES | slots)
    }
}

/// A tally that several threads read. Relaxed throughout: it guards nothing.
pub(super) struct AtomicTally(AtomicU64);

impl AtomicTally {
    pub(super) const fn new() -> AtomicTally {
        AtomicTally(AtomicU64::new(0))
    }

    pub(super) fn get(&self) -> Tally {
        Tally(self.0.load(Ordering::Relaxed))
    }

    pub(super) fn add(&self, more: Tally) {
        self.0.fetch_add(more.0, Ordering::Relaxed);
    }

    pub(super) fn remove(&self, less: Tally) {
        self.0.fetch_sub(less.0, Ordering::Relaxed);
    }

    /// As [`add`](AtomicTally::add), where no other thread writes.
    #[inline(always)]
    pub(super) fn add_alone(&self, more: Tally) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more.0), Ordering::Relaxed);
    }

    /// As [`remove`](AtomicTally::remove), where no other thread writes.
    #[inline(always)]
    pub(super) fn remove_alone(&self, less: Tally) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(less.0), Ordering::Relaxed);
    }
}
