//! A list of waiters whose nodes lie on the stacks of those that wait, so that to wait allocates nothing.
//!
//! The list is part of a state under a lock. Whoever waits links its node under the lock, and unlinks it under the
//! lock before it leaves, also when it is interrupted. Whoever wakes a waiter unlinks the node first, hands over what
//! there is to hand over, and tells the node that the wait has ended.
//!
//! - **Q1** A node is linked, unlinked and told under the lock of its list, and does not leave its place before it is
//!   unlinked by its owner or told. So every node in a list may be touched by whoever holds the lock.
//! - **Q2** To tell a node is the last touch of it, because its owner may leave then. What is needed to wake the owner
//!   is taken before.
//!
//! Whoever waits in several lists at a time has a node in each, and one [`Claim`]. A node whose claim is taken is passed
//! over. So one of them is told, or none.

use std::cell::Cell;
use std::ptr;
use std::task::Waker;

use super::header::BorrowedTask;
use super::waiter::Waiter;
use super::wake::Wakeup;
use crate::base::atomics::{AtomicU32, Ordering};

/// How a wait has ended that nothing has cut short.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WaitEnd {
    /// What was waited for is there, or was handed over.
    Served,
    /// It will not come.
    Closed,
}

const WAITS: u32 = 0;
const SERVED: u32 = 1;
const CLOSED: u32 = 2;

/// What the nodes of one wait in several lists have in common: the first list that takes one of them has it.
pub(crate) struct Claim {
    is_taken: AtomicU32,
}

impl Claim {
    pub(crate) fn new() -> Claim {
        Claim { is_taken: AtomicU32::new(0) }
    }

    /// Whether one of the nodes was taken. It is told before the lock of its list is free again.
    pub(crate) fn is_taken(&self) -> bool {
        self.is_taken.load(Ordering::Relaxed) != 0
    }

    /// True: nobody has taken it before.
    fn take(&self) -> bool {
        // Relaxed: what is handed over is published by the lock of the list.
        self.is_taken.compare_exchange(0, 1, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// A place in a list, on the stack of whoever waits.
pub(crate) struct WaitNode {
    /// Taken by whoever tells the node.
    waiter: Cell<Option<Waiter<BorrowedTask>>>,
    /// Null: it waits in no other list.
    claim: *const Claim,
    /// Where a value is handed over, if there is one.
    slot: *mut (),
    end: AtomicU32,
    previous: Cell<*const WaitNode>,
    next: Cell<*const WaitNode>,
    is_linked: Cell<bool>,
}

impl WaitNode {
    #[inline]
    pub(super) fn new(waiter: Waiter<BorrowedTask>, slot: *mut ()) -> WaitNode {
        WaitNode {
            waiter: Cell::new(Some(waiter)),
            claim: ptr::null(),
            slot,
            end: AtomicU32::new(WAITS),
            previous: Cell::new(ptr::null()),
            next: Cell::new(ptr::null()),
            is_linked: Cell::new(false),
        }
    }

    /// The node of a future, whose waker is `waker`.
    pub(crate) fn of_waker(waker: Waker, slot: *mut ()) -> WaitNode {
        WaitNode::new(Waiter::Waker(waker), slot)
    }

    /// One of several nodes, which have this claim and stay no longer than it does.
    #[inline]
    pub(super) fn with_claim(self, claim: *const Claim) -> WaitNode {
        WaitNode { claim, ..self }
    }

    /// Puts another waker in the place of the one that it has, which it gives back. Under the lock of the list, of a
    /// node that was not told.
    pub(crate) fn replace_waker(&self, waker: Waker) -> Option<Waker> {
        match self.waiter.replace(Some(Waiter::Waker(waker))) {
            Some(Waiter::Waker(before)) => Some(before),
            _ => None,
        }
    }

    /// How the wait has ended; `None`: it has not.
    #[inline]
    pub(crate) fn end(&self) -> Option<WaitEnd> {
        // Acquire: pairs with `tell`.
        match self.end.load(Ordering::Acquire) {
            WAITS => None,
            SERVED => Some(WaitEnd::Served),
            _ => Some(WaitEnd::Closed),
        }
    }
}

/// Waiters in the order in which they came.
pub(crate) struct WaitList {
    first: *const WaitNode,
    last: *const WaitNode,
}

// SAFETY: Q1, whoever has the list has the lock.
unsafe impl Send for WaitList {}

impl Default for WaitList {
    fn default() -> WaitList {
        WaitList::new()
    }
}

impl WaitList {
    pub(crate) const fn new() -> WaitList {
        WaitList { first: ptr::null(), last: ptr::null() }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_null()
    }

    /// Links `node` at the end.
    ///
    /// # Safety
    ///
    /// The node is in no list, and stays where it is until it is unlinked or told (Q1).
    #[inline]
    pub(crate) unsafe fn push(&mut self, node: *const WaitNode) {
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

    /// Unlinks `node`, whose owner waits no more. `Some`: somebody has told it before, and that counts.
    ///
    /// # Safety
    ///
    /// It was linked to this list.
    pub(crate) unsafe fn give_up(&mut self, node: &WaitNode) -> Option<WaitEnd> {
        if node.is_linked.get() {
            self.unlink(node);
        }
        node.end()
    }

    /// Takes the waiter that came first.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<Taken<'_>> {
        loop {
            // SAFETY: Q1.
            let first = unsafe { self.first.as_ref() }?;
            self.unlink(first);
            // SAFETY: Q1, the claim stays as long as its nodes.
            if unsafe { first.claim.as_ref() }.is_none_or(Claim::take) {
                return Some(Taken(first));
            }
        }
    }

    /// The slot of the waiter that came first.
    #[inline]
    #[cfg_attr(coro_loom, allow(dead_code))]
    pub(crate) fn first_slot(&self) -> Option<*mut ()> {
        // SAFETY: Q1.
        unsafe { self.first.as_ref() }.map(|first| first.slot)
    }

    #[inline]
    fn unlink(&mut self, node: &WaitNode) {
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

/// A waiter that was taken from its list, which is still locked. It has to be told.
#[must_use = "it waits until it is told"]
pub(crate) struct Taken<'a>(&'a WaitNode);

impl Taken<'_> {
    /// Where its owner wants the value, or has it.
    #[inline]
    pub(crate) fn slot(&self) -> *mut () {
        self.0.slot
    }

    /// Tells it how its wait has ended.
    ///
    /// # Safety
    ///
    /// The wake-up is used, or dropped, before the calling code is suspended and before code of the user's runs.
    #[inline]
    pub(crate) unsafe fn tell(self, end: WaitEnd) -> Wakeup {
        // SAFETY: Q2, it waits until it is told; the caller's word.
        let wakeup = unsafe { self.0.waiter.take().expect("it is told once").wakeup() };
        let end = match end {
            WaitEnd::Served => SERVED,
            WaitEnd::Closed => CLOSED,
        };
        // Release: pairs with `WaitNode::end`.
        self.0.end.store(end, Ordering::Release);
        wakeup
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::ptr;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    use proptest::prelude::*;

    use super::{Claim, WaitEnd, WaitList, WaitNode, Waiter};

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

    /// A wait in two lists is served by one of them; the other passes it over, and serves who comes behind.
    #[test]
    fn a_claim_is_taken_by_one_list() {
        let woken = Arc::new(AtomicUsize::new(usize::MAX));
        let node = |number| {
            let noted = Arc::new(Noted { number, woken: Arc::clone(&woken) });
            WaitNode::new(Waiter::Waker(Waker::from(noted)), ptr::null_mut())
        };
        let claim = Claim::new();
        let both = [node(0).with_claim(&claim), node(0).with_claim(&claim)];
        let behind = node(1);
        let (mut first, mut second) = (WaitList::new(), WaitList::new());
        // SAFETY: Q1, they are in no list, and outlive these.
        unsafe {
            first.push(&both[0]);
            second.push(&both[1]);
            second.push(&behind);
        }
        for (list, number) in [(&mut first, 0), (&mut second, 1)] {
            // SAFETY: Q2, it is woken at once.
            unsafe { list.take().expect("somebody waits").tell(WaitEnd::Served) }.wake();
            assert_eq!(woken.load(Ordering::Relaxed), number);
            assert!(claim.is_taken() && list.take().is_none());
        }
        // SAFETY: Q1, each was linked to this list.
        let ends = unsafe { [first.give_up(&both[0]), second.give_up(&both[1])] };
        assert_eq!(ends, [Some(WaitEnd::Served), None]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 8 } else { 256 }, failure_persistence: None, ..ProptestConfig::default() })]

        /// Waiters that come, leave and are woken in any order: the one that came first is woken first.
        #[test]
        fn waiters_are_woken_in_the_order_in_which_they_came(steps in steps()) {
            let woken = Arc::new(AtomicUsize::new(usize::MAX));
            let node = |number| {
                let noted = Arc::new(Noted { number, woken: Arc::clone(&woken) });
                WaitNode::new(Waiter::Waker(Waker::from(noted)), ptr::null_mut())
            };
            let nodes: Vec<WaitNode> = (0..NODES).map(node).collect();
            let mut list = WaitList::default();
            let (mut model, mut told) = (VecDeque::new(), Vec::new());
            for step in steps {
                match step {
                    Step::Push(number) if !model.contains(&number) && !told.contains(&number) => {
                        // SAFETY: Q1, it is in no list, and outlives this one.
                        unsafe { list.push(&nodes[number]) };
                        model.push_back(number);
                    }
                    Step::Push(_) => {}
                    Step::Remove(number) => {
                        // SAFETY: Q1, there is no other list.
                        let end = unsafe { list.give_up(&nodes[number]) };
                        prop_assert_eq!(end.is_none(), !told.contains(&number));
                        model.retain(|other| *other != number);
                    }
                    Step::Pop => {
                        let taken = list.take();
                        prop_assert_eq!(taken.is_some(), !model.is_empty());
                        if let Some(taken) = taken {
                            // SAFETY: Q2, it is woken at once.
                            unsafe { taken.tell(WaitEnd::Served) }.wake();
                            let first = model.pop_front().unwrap();
                            told.push(first);
                            prop_assert_eq!(woken.load(Ordering::Relaxed), first);
                            prop_assert_eq!(nodes[first].end(), Some(WaitEnd::Served));
                        }
                    }
                }
            }
        }
    }
}
