//! Cold slots: idle, and without pages. Where whole blocks are cold, their page tables go back too.
//!
//! A page table covers 2 MiB, which is a *block*: eight slots of the default class. The kernel frees the table only when
//! the whole block is mapped anew. So there are two kinds of cold slots:
//!
//! ```text
//!             all of a block, and a gigabyte of such blocks
//!   ready  -------------------------------------------------->  retired
//!   read-write, guarded                                         read-only, no guard, no page table
//!          <--------------------------------------------------
//!             no slot is ready: opened and guarded as fresh ones are
//! ```
//!
//! A retired block is mapped anew over what was there, so at no moment is a hole in the region (S1). It can be read,
//! because a profiler may ask for the record of any slot that was ever issued (R2).
//!
//! A retired run of blocks cuts a mapping in three. So runs that are shorter than a few blocks wait until their neighbours
//! are cold as well, and the number of runs has a limit.
//!
//! Not where a guard is a mapping (see [`guard`](super::guard)), or memory is locked.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::class::Class;
use super::slot::{self, Slot};

/// The binary logarithm of what one page table covers.
const BLOCK_SHIFT: usize = 21;

/// How many bytes of blocks are retired together, at least.
const RETIRED_TOGETHER: usize = 1 << 30;

/// How many blocks a run has at least that touches no retired one.
const SHORTEST_RUN: u32 = 4;

/// How many separate runs of a class may be retired. Each takes up to two mappings.
const MOST_RUNS: usize = 256;

/// The cold slots of one class.
pub(super) struct Cold {
    /// Blocks of which some slots are ready, and which of them.
    partial: BTreeMap<u32, u16>,
    /// Blocks of which all slots are ready.
    whole: BTreeSet<u32>,
    /// How many whole blocks there are when it is worth looking for runs again.
    look_at: usize,
    retired: BTreeSet<u32>,
    /// How many runs the retired blocks are.
    runs: usize,
}

impl Cold {
    pub(super) const fn new() -> Cold {
        Cold {
            partial: BTreeMap::new(),
            whole: BTreeSet::new(),
            look_at: 0,
            retired: BTreeSet::new(),
            runs: 0,
        }
    }

    /// Adds a slot that is ready and has no pages.
    pub(super) fn push(&mut self, slot: Slot) {
        let class = slot.class();
        let each = slots_of_a_block(class);
        let (block, place) = ((slot.index() / each) as u32, slot.index() % each);
        let ready = self.partial.entry(block).or_default();
        *ready |= 1 << place;
        if *ready == all_of_a_block(class) {
            self.partial.remove(&block);
            self.whole.insert(block);
        }
    }

    /// Takes a slot that is ready, from a block of which others are in use, if there is one.
    pub(super) fn pop(&mut self, class: Class) -> Option<Slot> {
        if self.partial.is_empty() {
            let block = self.whole.pop_first()?;
            self.look_at = self.look_at.min(self.whole.len() + blocks_together(class));
            self.partial.insert(block, all_of_a_block(class));
        }
        let mut entry = self.partial.first_entry()?;
        let place = entry.get().trailing_zeros();
        *entry.get_mut() &= !(1 << place);
        let block = *entry.key();
        if *entry.get() == 0 {
            entry.remove();
        }
        let index = block as usize * slots_of_a_block(class) + place as usize;
        // SAFETY: S2, the bit stood for it.
        Some(unsafe { Slot::at(class, index) })
    }

    /// Takes the runs of blocks that are worth retiring, once there are enough of them. They are the caller's to retire.
    pub(super) fn take_runs(&mut self, class: Class) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        if self.whole.len() < self.look_at.max(blocks_together(class)) {
            return runs;
        }
        for &block in &self.whole {
            match runs.last_mut() {
                Some(run) if run.blocks.end == block => run.blocks.end += 1,
                _ => runs.push(Run { class, blocks: block..block + 1 }),
            }
        }
        let mut room = MOST_RUNS.saturating_sub(self.runs);
        runs.retain(|run| {
            let is_new = self.neighbours(&run.blocks) == 0;
            let is_worth_it = !is_new || run.blocks.len() as u32 >= SHORTEST_RUN && room > 0;
            room -= usize::from(is_new && is_worth_it);
            is_worth_it
        });
        for block in runs.iter().flat_map(|run| run.blocks.clone()) {
            self.whole.remove(&block);
        }
        self.look_at = self.whole.len() + blocks_together(class);
        runs
    }

    /// Keeps a run that [`take_runs`](Cold::take_runs) gave, and that the caller could not retire.
    pub(super) fn put_back(&mut self, run: Run) {
        self.whole.extend(run.blocks);
    }

    /// Keeps a run that the caller has retired.
    pub(super) fn add_retired(&mut self, run: Run) {
        self.runs = self.runs + 1 - self.neighbours(&run.blocks);
        self.retired.extend(run.blocks);
    }

    /// Takes up to `most` slots' worth of blocks that lie side by side and are retired. They are the caller's to make
    /// ready.
    pub(super) fn take_retired(&mut self, class: Class, most: usize) -> Option<Run> {
        let most = (most / slots_of_a_block(class)).max(1) as u32;
        let first = *self.retired.first()?;
        let mut blocks = first..first + 1;
        while blocks.end - first < most && self.retired.contains(&blocks.end) {
            blocks.end += 1;
        }
        for block in blocks.clone() {
            self.retired.remove(&block);
        }
        self.runs = self.runs + self.neighbours(&blocks) - 1;
        Some(Run { class, blocks })
    }

    /// Checks the count of runs.
    #[cfg(test)]
    pub(super) fn assert_runs(&self) {
        let begins = |&&block: &&u32| block == 0 || !self.retired.contains(&(block - 1));
        assert_eq!(self.runs, self.retired.iter().filter(begins).count());
    }

    /// How many of the two blocks beside these are retired.
    fn neighbours(&self, blocks: &Range<u32>) -> usize {
        let before = blocks.start.checked_sub(1).is_some_and(|block| self.retired.contains(&block));
        usize::from(before) + usize::from(self.retired.contains(&blocks.end))
    }
}

/// Blocks side by side, all of whose slots are idle.
pub(super) struct Run {
    class: Class,
    blocks: Range<u32>,
}

impl Run {
    /// The indices of its slots.
    pub(super) fn slots(&self) -> Range<usize> {
        let each = slots_of_a_block(self.class);
        self.blocks.start as usize * each..self.blocks.end as usize * each
    }

    /// Its addresses.
    pub(super) fn addresses(&self) -> Range<usize> {
        let slots = self.slots();
        let start = slot::start_of(self.class, slots.start);
        start..start + (slots.len() << self.class.shift())
    }

    /// The blocks of the first `slots` slots, and the rest.
    pub(super) fn split(self, slots: usize) -> (Run, Run) {
        let blocks = (slots / slots_of_a_block(self.class)) as u32;
        let middle = self.blocks.start + blocks.min(self.blocks.len() as u32);
        let Run { class, blocks } = self;
        (Run { class, blocks: blocks.start..middle }, Run { class, blocks: middle..blocks.end })
    }

    /// Its slots, which are ready.
    ///
    /// # Safety
    ///
    /// Their guards are in place (S3).
    pub(super) unsafe fn into_ready(self) -> impl Iterator<Item = Slot> {
        // SAFETY: S2, the run stood for them.
        self.slots().map(move |index| unsafe { Slot::at(self.class, index) })
    }
}

/// The binary logarithm of a block's size: a larger slot is a block.
const fn block_shift(class: Class) -> usize {
    if class.shift() > BLOCK_SHIFT { class.shift() } else { BLOCK_SHIFT }
}

const fn slots_of_a_block(class: Class) -> usize {
    1 << (block_shift(class) - class.shift())
}

const fn all_of_a_block(class: Class) -> u16 {
    u16::MAX >> (16 - slots_of_a_block(class))
}

/// How many blocks are worth looking for runs.
const fn blocks_together(class: Class) -> usize {
    RETIRED_TOGETHER >> block_shift(class)
}
