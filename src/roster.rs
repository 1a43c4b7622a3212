//! A list that only grows, of things that stay for ever.
//!
//! Whoever walks it takes no lock and allocates nothing, and whoever adds to it allocates before it
//! can be seen. So even a global allocator may walk it, whatever the allocation is for.

use std::iter;
use std::sync::OnceLock;

/// See the module's documentation.
pub(crate) struct Roster<T: 'static>(OnceLock<&'static Entry<T>>);

struct Entry<T: 'static> {
    item: T,
    rest: Roster<T>,
}

impl<T> Roster<T> {
    pub(crate) const fn new() -> Roster<T> {
        Roster(OnceLock::new())
    }

    /// Adds `item` at the end.
    pub(crate) fn add(&self, item: T) -> &'static T {
        let entry: &Entry<T> = Box::leak(Box::new(Entry { item, rest: Roster::new() }));
        let mut place = self;
        while place.0.set(entry).is_err() {
            place = &place.0.get().expect("it is taken").rest;
        }
        &entry.item
    }

    /// What is there, in the order in which it came.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &'static T> {
        let first = self.0.get().copied();
        iter::successors(first, |entry| entry.rest.0.get().copied()).map(|entry| &entry.item)
    }
}
