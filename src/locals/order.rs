//! The order list: every stored node, newest first.
//!
//! ```text
//!   newest --> +-------+  older  +-------+  older  +-------+
//!              | node  | ------> | node  | ------> | node  | --> None
//!   None <---- |       | <------ |       | <------ |       |
//!       newer  +-------+  newer  +-------+  newer  +-------+
//!                                    ^
//!   cursor --------------------------+   where `reset` goes on
//! ```
//!
//! The list owns one count of each node in it (L1), so the small array and the table own none.
//!
//! The cursor marks how far a `reset` has come. All nodes from the cursor on were there when the
//! reset began. A node that a `Drop` stores meanwhile goes to the front, where this reset does not come.
//! Whoever removes the node under the cursor moves the cursor to the next older one, so user code may remove any
//! node at any time. A reset within a reset puts the cursor back to the front, and empties the list for both.

use std::cell::Cell;
use std::ptr::NonNull;

use super::node::{Home, Link, NodeHeader};
use super::owner::Ref;

/// A list that owns its nodes. Dropping it drops none of them.
pub(super) struct Order {
    newest: Cell<Link>,
    cursor: Cell<Link>,
}

impl Order {
    pub(super) const fn new() -> Order {
        Order { newest: Cell::new(None), cursor: Cell::new(None) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.newest.get().is_none()
    }

    /// Adds a node, which is in no list, as the newest.
    #[inline]
    pub(super) fn push(&self, node: Ref) {
        self.link(node.into_raw());
    }

    #[inline]
    fn link(&self, node: NonNull<NodeHeader>) {
        // SAFETY: L2, the list owns a count of it from here on.
        let header = unsafe { node.as_ref() };
        let older = self.newest.replace(Some(node));
        header.newer.set(None);
        header.older.set(older);
        if let Some(older) = older {
            // SAFETY: L2, a node in the list.
            unsafe { older.as_ref() }.newer.set(Some(node));
        }
    }

    #[inline]
    fn unlink(&self, node: NonNull<NodeHeader>) {
        // SAFETY: L2, a node in the list.
        let header = unsafe { node.as_ref() };
        let (newer, older) = (header.newer.take(), header.older.take());
        match newer {
            // SAFETY: L2, a node in the list.
            Some(newer) => unsafe { newer.as_ref() }.older.set(older),
            None => self.newest.set(older),
        }
        if let Some(older) = older {
            // SAFETY: L2, a node in the list.
            unsafe { older.as_ref() }.newer.set(newer);
        }
        if self.cursor.get() == Some(node) {
            self.cursor.set(older);
        }
    }

    /// Takes a node out of the list, and with it the list's count.
    ///
    /// # Safety
    ///
    /// `node` is in this list, and nothing but the list leads to it any more (L2).
    #[inline]
    pub(super) unsafe fn remove(&self, node: NonNull<NodeHeader>) -> Ref {
        self.unlink(node);
        // SAFETY: L1, the count that `push` was given.
        unsafe { Ref::from_raw(node) }
    }

    /// Makes a node the newest.
    ///
    /// # Safety
    ///
    /// `node` is in this list.
    #[inline]
    pub(super) unsafe fn renew(&self, node: &Ref) {
        let node = node.as_ptr();
        if self.newest.get() != Some(node) || self.cursor.get() == Some(node) {
            self.unlink(node);
            self.link(node);
        }
    }

    /// The newest node.
    pub(super) fn newest(&self) -> Option<Ref> {
        // SAFETY: L2, a node in the list.
        self.newest.get().map(|node| unsafe { Ref::share(node) })
    }

    /// Puts the cursor on the newest node.
    pub(super) fn rewind(&self) {
        self.cursor.set(self.newest.get());
    }

    /// The node under the cursor, after the cursor has passed over shadowed nodes.
    pub(super) fn under_cursor(&self) -> Option<Ref> {
        while let Some(node) = self.cursor.get() {
            // SAFETY: L2, a node in the list.
            let node = unsafe { Ref::share(node) };
            if node.header().home.get() != Home::Shadowed {
                return Some(node);
            }
            self.cursor.set(node.header().older.get());
        }
        None
    }

    /// The nodes that `wanted` picks, oldest first. `wanted` runs no user code.
    pub(super) fn pick(&self, wanted: impl Fn(&NodeHeader) -> bool) -> Vec<Ref> {
        let mut number = 0;
        self.walk(|node| number += usize::from(wanted(node.header())));
        // The allocator is foreign code, and may store something (L6). So the second walk takes no more nodes than
        // there is room for, and does not allocate.
        let mut picked = Vec::with_capacity(number);
        self.walk(|node| {
            if picked.len() < picked.capacity() && wanted(node.header()) {
                picked.push(node);
            }
        });
        picked.reverse();
        picked
    }

    fn walk(&self, mut visit: impl FnMut(Ref)) {
        let mut link = self.newest.get();
        while let Some(node) = link {
            // SAFETY: L2, a node in the list.
            let node = unsafe { Ref::share(node) };
            link = node.header().older.get();
            visit(node);
        }
    }
}
