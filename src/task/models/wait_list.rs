//! A hand-over against a waiter that gives up: Q1, Q2, and that exactly one of the two has the value.
//!
//! List, node and lock are the real ones.

use std::ptr;
use std::sync::Arc;
use std::task::Waker;

use loom::thread;

use crate::base::atomics::{Checked, explore};
use crate::base::lock::ShortLock;
use crate::task::wait_list::{Claim, WaitEnd, WaitList, WaitNode};
use crate::task::waiter::Waiter;

const SERVED: u32 = 0;
const GAVE_UP: u32 = 1;

/// A node in a list, with what is handed over in its slot.
struct ModelPlace {
    node: WaitNode,
    slot: Checked<u32>,
}

// SAFETY: Q1, whoever touches the node has the list's lock.
unsafe impl Send for ModelPlace {}
// SAFETY: as above.
unsafe impl Sync for ModelPlace {}

/// One waits and gives up at some moment; another hands a value over, if it finds somebody who waits.
#[test]
fn loom_hand_over_races_giving_up() {
    explore(None, &[SERVED, GAVE_UP], |seen| {
        let list = Arc::new(ShortLock::new(WaitList::new()));
        let place = Arc::new(ModelPlace {
            node: WaitNode::new(Waiter::Waker(Waker::noop().clone()), ptr::null_mut()),
            slot: Checked::new(0),
        });
        let gives = {
            let (list, place) = (Arc::clone(&list), Arc::clone(&place));
            thread::spawn(move || {
                let mut list = list.lock();
                let Some(taken) = list.take() else { return false };
                place.slot.write(|slot| *slot = 7);
                // SAFETY: Q2, it is dropped at once.
                drop(unsafe { taken.tell(WaitEnd::Served) });
                true
            })
        };
        // SAFETY: Q1, it is unlinked or told below, and outlives the list's use.
        unsafe { list.lock().push(&place.node) };
        // SAFETY: Q1, it was linked to this list.
        let end = place.node.end().or_else(|| unsafe { list.lock().give_up(&place.node) });
        let is_served = end == Some(WaitEnd::Served);
        if is_served {
            place.slot.read(|slot| assert_eq!(*slot, 7));
        }
        let given = gives.join().unwrap();
        assert_eq!(given, is_served, "the value has one owner");
        seen.note(if is_served { SERVED } else { GAVE_UP });
    });
}

/// One waits in two lists at once, and gives up at some moment; in each list somebody hands something over. At most one
/// of them does, and the one who waits sees it.
#[test]
fn loom_hand_over_from_two_lists_is_one() {
    const BY_FIRST: u32 = 0;
    const BY_SECOND: u32 = 1;
    const BY_NONE: u32 = 2;

    struct ModelChoice {
        claim: Claim,
        nodes: [WaitNode; 2],
    }
    // SAFETY: Q1, as above.
    unsafe impl Send for ModelChoice {}
    // SAFETY: as above.
    unsafe impl Sync for ModelChoice {}

    explore(Some(3), &[BY_FIRST, BY_SECOND, BY_NONE], |seen| {
        let lists = [(); 2].map(|()| Arc::new(ShortLock::new(WaitList::new())));
        let choice = Arc::new_cyclic(|choice: &std::sync::Weak<ModelChoice>| {
            let claim =
                choice.as_ptr().cast::<u8>().wrapping_add(std::mem::offset_of!(ModelChoice, claim));
            let node = || {
                WaitNode::new(Waiter::Waker(Waker::noop().clone()), ptr::null_mut())
                    .with_claim(claim.cast())
            };
            ModelChoice { claim: Claim::new(), nodes: [node(), node()] }
        });
        {
            // In one order, and all before anybody is let in.
            let [mut first, mut second] = [lists[0].lock(), lists[1].lock()];
            // SAFETY: Q1, each is unlinked or told below, and outlives the lists' use.
            unsafe {
                first.push(&choice.nodes[0]);
                second.push(&choice.nodes[1]);
            }
        }
        let givers = lists.clone().map(|list| {
            thread::spawn(move || {
                let mut list = list.lock();
                let Some(taken) = list.take() else { return false };
                // SAFETY: Q2, it is dropped at once.
                drop(unsafe { taken.tell(WaitEnd::Served) });
                true
            })
        });
        let ends = [0, 1].map(|i| {
            // SAFETY: Q1, it was linked to this list.
            unsafe { lists[i].lock().give_up(&choice.nodes[i]) }.is_some()
        });
        let given = givers.map(|giver| giver.join().unwrap());
        assert_eq!(ends, given, "what was handed over has arrived");
        assert_eq!(choice.claim.is_taken(), ends != [false, false]);
        seen.note(match ends {
            [true, false] => BY_FIRST,
            [false, true] => BY_SECOND,
            [false, false] => BY_NONE,
            [true, true] => panic!("it was served twice"),
        });
    });
}
