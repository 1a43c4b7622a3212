//! A list that only grows, of things that stay for ever.
//!
//! Whoever walks it takes no lock and allocates nothing, and whoever adds to it allocates before it
//! can be seen. So even a global allocator may walk it, whatever the allocation is for.

use std::iter;
use std::sync::OnceLock;

/// A linked list that only grows. Its entries are leaked.
pub(crate) struct AppendOnlyList<T: 'static>(OnceLock<&'static ListEntry<T>>);

struct ListEntry<T: 'static> {
    item: T,
    rest: AppendOnlyList<T>,
}

impl<T> AppendOnlyList<T> {
    pub(crate) const fn new() -> AppendOnlyList<T> {
        AppendOnlyList(OnceLock::new())
    }

    /// Adds `item` at the end.
    pub(crate) fn add(&self, item: T) -> &'static T {
        let entry: &ListEntry<T> =
            Box::leak(Box::new(ListEntry { item, rest: AppendOnlyList::new() }));
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
