//! Parking against unparking and cancelling: T2, T3, T4, and that no token is lost or used twice.

use loom::sync::atomic::AtomicBool;
use loom::thread;
use std::sync::Arc;

use super::{ModelBlock, Parked};
use crate::base::atomics::{Checked, Ordering, explore};
use crate::task::state::{CANCEL, NOTIFIED, TOKEN, WOKEN};

const AT_ONCE: u32 = 0;
const EARLY: u32 = 1;
const UNPARKED: u32 = 2;
/// A token is left when all is over.
const LEFT: u32 = 3;
/// None is.
const NONE_LEFT: u32 = 4;

fn outcome(how: Parked) -> u32 {
    match how {
        Parked::Token => AT_ONCE,
        Parked::Early => EARLY,
        Parked::Unparked => UNPARKED,
    }
}

/// What was done before the unpark is seen after the park, however the park ends.
#[test]
fn loom_unpark_races_park() {
    explore(None, &[AT_ONCE, EARLY, UNPARKED], |seen| {
        let task = ModelBlock::started();
        let gift = Arc::new(Checked::new(0));
        task.bind();
        let unparker = {
            let (task, gift) = (Arc::clone(&task), Arc::clone(&gift));
            thread::spawn(move || {
                gift.write(|gift| *gift = 7);
                task.notify(TOKEN)
            })
        };
        let how = task.park();
        gift.read(|gift| assert_eq!(*gift, 7));
        seen.note(outcome(how));
        let queued = unparker.join().unwrap();
        assert_eq!(queued, how == Parked::Unparked);
        assert_eq!(task.state().take(NOTIFIED | TOKEN), 0);
    });
}

/// Two that unpark at once queue the task once; what comes too late is one token for later.
#[test]
fn loom_token_is_taken_once() {
    explore(None, &[AT_ONCE, EARLY, UNPARKED, LEFT, NONE_LEFT], |seen| {
        let task = ModelBlock::started();
        task.bind();
        let unparkers = [(); 2].map(|()| {
            let task = Arc::clone(&task);
            thread::spawn(move || task.notify(TOKEN))
        });
        let how = task.park();
        seen.note(outcome(how));
        let queued = unparkers.map(|unparker| unparker.join().unwrap());
        assert_eq!(queued.contains(&true), how == Parked::Unparked);
        let left = task.state().take(NOTIFIED | TOKEN) != 0;
        seen.note(if left { LEFT } else { NONE_LEFT });
        assert_eq!(task.state().take(NOTIFIED | TOKEN), 0);
    });
}

/// The task parks for good unless it is cancelled, so a cancellation that goes under, be it in an
/// unpark at the same time, leaves it parked.
#[test]
fn loom_cancel_races_park() {
    explore(None, &[AT_ONCE, EARLY, UNPARKED], |seen| {
        let task = ModelBlock::started();
        task.bind();
        let others = [TOKEN, CANCEL].map(|also| {
            let task = Arc::clone(&task);
            thread::spawn(move || task.notify(also))
        });
        let mut parks = 0;
        while !task.state().load().has(CANCEL) {
            seen.note(outcome(task.park()));
            parks += 1;
        }
        assert!(parks <= 2, "there is a token more than there were unparks");
        let queued = others.map(|other| usize::from(other.join().unwrap()));
        assert!(queued.iter().sum::<usize>() <= parks);
    });
}

/// The token that `Handle::unpark` leaves is for a `park` of the task's own, that of a future's waker for
/// the `wait` that polls it. A wait for something else that it comes upon looks round once, and leaves it.
#[test]
fn loom_token_outlasts_another_wait() {
    for token in [TOKEN, WOKEN] {
        explore(None, &[AT_ONCE, EARLY, UNPARKED], move |seen| {
            let task = ModelBlock::started();
            task.bind();
            let unparker = {
                let task = Arc::clone(&task);
                thread::spawn(move || task.notify(token))
            };
            let over = Arc::new(AtomicBool::new(false));
            let waker = {
                let (task, over) = (Arc::clone(&task), Arc::clone(&over));
                thread::spawn(move || {
                    over.store(true, Ordering::Relaxed);
                    task.notify(0)
                })
            };
            while !over.load(Ordering::Relaxed) {
                task.wait();
            }
            seen.note(outcome(task.wait_with(token)));
            unparker.join().unwrap();
            waker.join().unwrap();
        });
    }
}
