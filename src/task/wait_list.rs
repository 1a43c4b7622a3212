//! A list of waiters whose nodes lie on the stacks of those that wait, so that to wait allocates nothing.
//!
//! The list is part of a state under a lock. Whoever waits links its node under the lock, and unlinks it under the
//! lock before it leaves, also when it is interrupted. Whoever wakes a waiter unlinks the node first.
//!
//! - **Q1** A node is linked and unlinked under the lock of its list, and does not leave its place while it is linked.
//!   So every node in a list may be touched by whoever holds the lock.
//! - **Q2** A waiter that is taken from a list is held by a counted reference from before its node is unlinked. The
//!   node is not touched afterwards, because its owner may leave.

use std::cell::Cell;
use std::ptr;
use std::sync::Mutex;

use super::header::{BorrowedTask, TaskRef};
use super::waiter::Waiter;
use crate::base::lock::lock;

/// A place in a list, on the stack of whoever waits.
pub(super) struct Node {
    waiter: Waiter<BorrowedTask>,
    previous: Cell<*const Node>,
    next: Cell<*const Node>,
    is_linked: Cell<bool>,
}

impl Node {
    pub(super) fn new(waiter: Waiter<BorrowedTask>) -> Node {
        let (previous, next) = (Cell::new(ptr::null()), Cell::new(ptr::null()));
        Node { waiter, previous, next, is_linked: Cell::new(false) }
    }
}

/// Waiters in the order in which they came.
pub(crate) struct WaitList {
    first: *const Node,
    last: *const Node,
}

// SAFETY: Q1, whoever has the list has the lock.
unsafe impl Send for WaitList {}

impl Default for WaitList {
    fn default() -> WaitList {
        WaitList { first: ptr::null(), last: ptr::null() }
    }
}

impl WaitList {
    /// Links `node` at the end.
    ///
    /// # Safety
    ///
    /// The node is in no list, and stays where it is until it is unlinked (Q1).
    pub(super) unsafe fn push(&mut self, node: *const Node) {
        // SAFETY: Q1, the caller's word.
        let linked = unsafe { &*node };
        linked.is_linked.set(true);
        linked.previous.set(self.last);
        linked.next.set(ptr::null());
        // SAFETY: Q1.
        match unsafe { self.last.as_ref() } {
            Some(last) => last.next.set(node),
            None => self.first = node,
        }
        self.last = node;
    }

    /// Unlinks `node`, unless somebody has taken its waiter.
    ///
    /// # Safety
    ///
    /// It was linked to this list.
    pub(super) unsafe fn remove(&mut self, node: &Node) {
        if node.is_linked.get() {
            self.unlink(node);
        }
    }

    /// Takes the waiter that came first.
    pub(crate) fn pop(&mut self) -> Option<Waiter<TaskRef>> {
        // SAFETY: Q1.
        let first = unsafe { self.first.as_ref() }?;
        // SAFETY: Q2, its owner waits for as long as it is linked.
        let waiter = unsafe { first.waiter.hold() };
        self.unlink(first);
        Some(waiter)
    }

    /// Wakes all waiters of a list that is part of what `mutex` guards. Each is woken when the lock is free again.
    pub(crate) fn wake_all<T>(mutex: &Mutex<T>, list: fn(&mut T) -> &mut WaitList) {
        loop {
            let waiter = list(&mut lock(mutex)).pop();
            let Some(waiter) = waiter else { return };
            waiter.wake();
        }
    }

    fn unlink(&mut self, node: &Node) {
        let (previous, next) = (node.previous.get(), node.next.get());
        // SAFETY: Q1.
        match unsafe { previous.as_ref() } {
            Some(previous) => previous.next.set(next),
            None => self.first = next,
        }
        // SAFETY: Q1.
        match unsafe { next.as_ref() } {
            Some(next) => next.previous.set(previous),
            None => self.last = previous,
        }
        node.is_linked.set(false);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    use proptest::prelude::*;

    use super::{Node, WaitList, Waiter};

    /// Tells its number when it is woken.
    struct Noted {
        number: usize,
        woken: Arc<AtomicUsize>,
    }

    impl Wake for Noted {
        fn wake(self: Arc<Self>) {
            self.woken.store(self.number, Ordering::Relaxed);
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(usize),
        Remove(usize),
        Pop,
    }

    const NODES: usize = 6;

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..NODES).prop_map(Step::Push),
            (0..NODES).prop_map(Step::Remove),
            Just(Step::Pop),
        ];
        prop::collection::vec(step, 0..40)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 8 } else { 256 }, failure_persistence: None, ..ProptestConfig::default() })]

        /// Waiters that come, leave and are woken in any order: the one that came first is woken first.
        #[test]
        fn waiters_are_woken_in_the_order_in_which_they_came(steps in steps()) {
            let woken = Arc::new(AtomicUsize::new(usize::MAX));
            let node = |number| {
                let noted = Arc::new(Noted { number, woken: Arc::clone(&woken) });
                Node::new(Waiter::Waker(Waker::from(noted)))
            };
            let nodes: Vec<Node> = (0..NODES).map(node).collect();
            let mut list = WaitList::default();
            let mut model = VecDeque::new();
            for step in steps {
                match step {
                    Step::Push(number) if !model.contains(&number) => {
                        // SAFETY: Q1, it is in no list, and outlives this one.
                        unsafe { list.push(&nodes[number]) };
                        model.push_back(number);
                    }
                    Step::Push(_) => {}
                    Step::Remove(number) => {
                        // SAFETY: Q1, there is no other list.
                        unsafe { list.remove(&nodes[number]) };
                        model.retain(|other| *other != number);
                    }
                    Step::Pop => {
                        let waiter = list.pop();
                        prop_assert_eq!(waiter.is_some(), !model.is_empty());
                        if let Some(waiter) = waiter {
                            waiter.wake();
                            prop_assert_eq!(Some(woken.load(Ordering::Relaxed)), model.pop_front());
                        }
                    }
                }
            }
        }
    }
}
