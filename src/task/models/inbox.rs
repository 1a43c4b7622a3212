//! The inbox and the sleep of the worker behind it: I1, and that a push wakes a worker that sleeps.

use std::cell::Cell;
use std::ptr;

use loom::thread;
use std::sync::Arc;

use crate::base::atomics::{Checked, explore};
use crate::driver::{Events, Woken};
use crate::task::inbox::Linked;
use crate::task::mailbox::Mailbox;

/// A task as far as the inbox knows it.
struct ModelNode {
    link: Cell<*mut ModelNode>,
    /// Written wherever the link is touched, so that loom sees two who do it at once (I1).
    link_is_touched: Checked<()>,
    /// What the pusher did before the push.
    load: Checked<u32>,
}

// SAFETY: I1, which `link_is_touched` checks.
unsafe impl Send for ModelNode {}
// SAFETY: as above.
unsafe impl Sync for ModelNode {}

impl ModelNode {
    fn new() -> ModelNode {
        ModelNode {
            link: Cell::new(ptr::null_mut()),
            link_is_touched: Checked::new(()),
            load: Checked::new(0),
        }
    }
}

impl Linked for ModelNode {
    fn link(&self) -> &Cell<*mut ModelNode> {
        self.link_is_touched.write(|()| ());
        &self.link
    }
}

/// A worker's mailbox, for `N` nodes in all.
struct ModelWorker<const N: usize> {
    mailbox: Mailbox<ModelNode>,
    nodes: [ModelNode; N],
}

impl<const N: usize> ModelWorker<N> {
    fn new() -> Arc<ModelWorker<N>> {
        let nodes = [(); N].map(|()| ModelNode::new());
        Arc::new(ModelWorker { mailbox: Mailbox::new(), nodes })
    }

    /// Leaves a node. True: the mailbox was empty.
    fn push(&self, number: usize) -> bool {
        let node = &self.nodes[number];
        node.load.write(|load| *load = number as u32 + 1);
        // SAFETY: I1, each model pushes a node again only after it was taken.
        unsafe { self.mailbox.push(ptr::from_ref(node).cast_mut()) }
    }

    /// Takes what is there and gives the numbers of the nodes, in order.
    fn take(&self) -> Vec<usize> {
        let mut numbers = Vec::new();
        self.mailbox.take_all(|node| {
            // SAFETY: I1, it was taken; the nodes live as long as the worker.
            let node = unsafe { &*node };
            let number = node.load.write(|load| *load as usize) - 1;
            assert!(ptr::eq(node, &self.nodes[number]));
            numbers.push(number);
        });
        numbers
    }

    /// The worker, until it has taken `wanted` nodes; it sleeps while there are none. Gives them,
    /// and how often it was woken.
    fn work(&self, wanted: usize) -> (Vec<usize>, u32) {
        let (taken, calls) = self.work_until(wanted);
        assert_eq!(taken.len(), wanted);
        (taken, calls)
    }

    /// As [`work`](ModelWorker::work), where there may be more.
    fn work_until(&self, wanted: usize) -> (Vec<usize>, u32) {
        let (mut taken, mut calls) = (Vec::new(), 0);
        loop {
            taken.extend(self.take());
            if taken.len() >= wanted {
                return (taken, calls);
            }
            self.mailbox.sleep().prepare();
            if self.mailbox.is_empty() {
                self.mailbox.sleep().block(None, &mut Events::default());
            }
            calls += u32::from(self.mailbox.sleep().end() == Woken::Called);
        }
    }
}

/// Two push at once: nothing is lost, each one's nodes come in order, and one push alone is told
/// that the inbox was empty.
#[test]
fn loom_inbox_two_pushers() {
    explore(None, &[1, 2, 3], |seen| {
        let worker = ModelWorker::<3>::new();
        let pushers = [&[0, 1][..], &[2]].map(|numbers| {
            let worker = Arc::clone(&worker);
            thread::spawn(move || numbers.iter().filter(|number| worker.push(**number)).count())
        });
        let early = worker.take();
        let told: usize = pushers.into_iter().map(|pusher| pusher.join().unwrap()).sum();
        let late = worker.take();
        let takes_that_found = usize::from(!early.is_empty()) + usize::from(!late.is_empty());
        assert_eq!(told, takes_that_found, "one push for each time that it was empty");
        let taken = [early, late].concat();
        let place = |number| taken.iter().position(|taken| *taken == number).unwrap();
        assert!(taken.len() == 3 && place(0) < place(1) && place(2) < 3);
        seen.note(1 + place(2) as u32);
        assert!(worker.mailbox.is_empty());
    });
}

/// A worker that falls asleep sees the push, or is woken by it.
#[test]
fn loom_inbox_push_races_sleep() {
    explore(None, &[0, 1], |seen| {
        let worker = ModelWorker::<1>::new();
        let pusher = {
            let worker = Arc::clone(&worker);
            thread::spawn(move || assert!(worker.push(0)))
        };
        let (taken, calls) = worker.work(1);
        pusher.join().unwrap();
        assert_eq!(taken, [0]);
        seen.note(calls);
    });
}

/// A worker that sleeps by its word first, and after the first node in its poller. Whoever wakes it may have found it in
/// the one while it goes on to the other. Three forced switches at most.
#[test]
fn loom_inbox_push_races_sleep_in_a_poller() {
    explore(Some(3), &[0, 1, 2], |seen| {
        let worker = ModelWorker::<2>::new();
        let pushers = [0, 1].map(|number| {
            let worker = Arc::clone(&worker);
            thread::spawn(move || worker.push(number))
        });
        let (mut taken, mut calls) = worker.work_until(1);
        worker.mailbox.sleep().poller_or_new().unwrap();
        if taken.len() < 2 {
            let (more, more_calls) = worker.work_until(1);
            taken.extend(more);
            calls += more_calls;
        }
        assert!(pushers.map(|pusher| pusher.join().unwrap()).contains(&true));
        taken.sort_unstable();
        assert_eq!(taken, [0, 1]);
        seen.note(calls);
    });
}

/// Who finds the inbox non-empty wakes nobody, and relies on who found it empty. Three
/// forced switches at most.
#[test]
fn loom_inbox_second_push_relies_on_first() {
    explore(Some(3), &[0, 1, 2], |seen| {
        let worker = ModelWorker::<2>::new();
        let pushers = [0, 1].map(|number| {
            let worker = Arc::clone(&worker);
            thread::spawn(move || worker.push(number))
        });
        let (mut taken, calls) = worker.work(2);
        let told = pushers.map(|pusher| pusher.join().unwrap());
        assert!(told.contains(&true));
        taken.sort_unstable();
        assert_eq!(taken, [0, 1]);
        seen.note(calls);
    });
}

/// A node goes back into the inbox that it was taken from, as a task does that is unparked again.
#[test]
fn loom_inbox_push_again() {
    explore(None, &[0], |seen| {
        let worker = ModelWorker::<2>::new();
        let other = {
            let worker = Arc::clone(&worker);
            thread::spawn(move || worker.push(1))
        };
        worker.push(0);
        let mut taken = worker.take();
        worker.push(0);
        taken.extend(worker.take());
        other.join().unwrap();
        taken.extend(worker.take());
        taken.sort_unstable();
        assert_eq!(taken, [0, 0, 1]);
        seen.note(0);
    });
}
