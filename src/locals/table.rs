//! A chained hash table, for the names that the small array has no room for.
//!
//! The chains run through the nodes, so the table allocates only when it grows. Each node keeps its name's hash.
//! So growing, removing and finding candidates run no user code.
//!
//! ```text
//!   links --> +---+---+---+---+      next       next
//!             | o | o | o | o | --> [node] --> [node] --> None
//!             +---+---+---+---+
//!               hash & mask
//! ```
//!
//! The table owns no node; the order list does (L1, L2).

use std::cell::Cell;
use std::ptr::NonNull;

use super::node::{Link, NodeHeader};
use super::owner::Ref;

/// How many buckets the first table has.
const FIRST: usize = 16;

/// A hash table of nodes; nothing is allocated while it is empty and new.
pub(super) struct Table {
    /// `mask + 1` buckets, a leaked box; `None` before the first node and after `release`.
    links: Cell<Option<NonNull<Cell<Link>>>>,
    mask: Cell<u32>,
    len: Cell<u32>,
}

impl Table {
    pub(super) const fn new() -> Table {
        Table { links: Cell::new(None), mask: Cell::new(0), len: Cell::new(0) }
    }

    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.len.get() == 0
    }

    /// The buckets. Not to be kept while foreign code runs, the allocator included (L6).
    fn buckets(&self) -> &[Cell<Link>] {
        match self.links.get() {
            // SAFETY: L6, the box lives until `grow` or `release` puts another in its place.
            Some(links) => unsafe {
                NonNull::slice_from_raw_parts(links, self.mask.get() as usize + 1).as_ref()
            },
            None => &[],
        }
    }

    /// The bucket of a hash. There must be one.
    fn bucket(&self, hash: u64) -> &Cell<Link> {
        &self.buckets()[(hash & u64::from(self.mask.get())) as usize]
    }

    /// The first node whose hash may be `hash`; `next` leads on.
    pub(super) fn first(&self, hash: u64) -> Link {
        if self.is_empty() { None } else { self.bucket(hash).get() }
    }

    /// Adds a node whose hash is set, after making room for it.
    pub(super) fn insert(&self, node: &Ref) {
        while self.len.get() as usize >= self.buckets().len() {
            self.grow();
        }
        self.push(node.as_ptr());
        self.len.set(self.len.get() + 1);
    }

    fn push(&self, node: NonNull<NodeHeader>) {
        // SAFETY: L2, a node that is stored or being stored.
        let header = unsafe { node.as_ref() };
        header.next.set(self.bucket(header.hash.get()).replace(Some(node)));
    }

    /// Removes a node that is in the table.
    pub(super) fn remove(&self, node: &Ref) {
        self.pointer_to(node).set(node.header().next.take());
        self.len.set(self.len.get() - 1);
    }

    /// Puts one node in the place of another that is in the table.
    pub(super) fn substitute(&self, old: &Ref, new: &Ref) {
        self.pointer_to(old).set(Some(new.as_ptr()));
        new.header().hash.set(old.header().hash.get());
        new.header().next.set(old.header().next.take());
    }

    /// The cell that points to a node in the table: its bucket, or the `next` of the one before it.
    fn pointer_to(&self, node: &Ref) -> &Cell<Link> {
        let mut cell = self.bucket(node.header().hash.get());
        loop {
            match cell.get() {
                Some(found) if found == node.as_ptr() => return cell,
                // SAFETY: L2, a node in the table.
                Some(other) => cell = unsafe { &(*other.as_ptr()).next },
                None => unreachable!("a node of the table is in the bucket of its hash"),
            }
        }
    }

    /// Doubles the number of buckets.
    #[cold]
    fn grow(&self) {
        let room = self.buckets().len();
        let wanted = if room == 0 { FIRST } else { room * 2 };
        let mask = u32::try_from(wanted - 1).expect("coro: more than 2^32 keys in one coroutine");
        let new: Box<[Cell<Link>]> = (0..wanted).map(|_| Cell::new(None)).collect();
        if self.buckets().len() != room {
            // The allocator has stored something itself, and the table has grown meanwhile.
            return;
        }
        let old = (self.links.get(), room);
        self.links.set(Some(NonNull::from(Box::leak(new)).cast()));
        self.mask.set(mask);
        if let (Some(links), room) = old {
            // SAFETY: L6, the box that was leaked here and is no longer reachable through `links`.
            let old = unsafe { into_box(links, room) };
            for bucket in &old {
                let mut link = bucket.get();
                while let Some(node) = link {
                    // SAFETY: L2, a node in the table.
                    link = unsafe { node.as_ref() }.next.get();
                    self.push(node);
                }
            }
        }
    }

    /// Gives the memory back, if the table is empty.
    pub(super) fn release(&self) {
        if self.is_empty() {
            let room = self.buckets().len();
            self.mask.set(0);
            if let Some(links) = self.links.take() {
                // SAFETY: L6, the box that was leaked in `grow`, and nothing leads to it any more.
                drop(unsafe { into_box(links, room) });
            }
        }
    }

    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.buckets().len()
    }
}

/// # Safety
///
/// `links` is the start of a leaked box of `room` buckets, which nobody else frees.
unsafe fn into_box(links: NonNull<Cell<Link>>, room: usize) -> Box<[Cell<Link>]> {
    // SAFETY: the caller's word.
    unsafe { Box::from_raw(NonNull::slice_from_raw_parts(links, room).as_ptr()) }
}
