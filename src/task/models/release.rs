//! References: T1. The block is freed once, and after everyone else's last look at it.

use loom::thread;
use std::sync::Arc;

use super::ModelBlock;
use crate::base::atomics::explore;
use crate::task::state::{DONE, Finish, RELEASED};

/// Two wakers and the task let go at once, and each of them can be the last. The handle is gone.
/// Three forced switches at most, which is what twenty seconds allow.
#[test]
fn loom_last_reference_frees_once() {
    explore(Some(3), &[0, 1], |seen| {
        let task = ModelBlock::started();
        task.bind();
        let wakers = [(); 2].map(|()| {
            task.state().add_reference();
            let task = Arc::clone(&task);
            thread::spawn(move || {
                task.notify(0);
                task.drop_reference()
            })
        });
        task.detach();
        let how = task.finish();
        let last = wakers.map(|waker| waker.join().unwrap());
        let freed = last.iter().filter(|last| **last).count();
        assert_eq!(freed, usize::from(how != Finish::LastReference));
        seen.note(freed as u32);
        task.assert_freed();
    });
}

/// A task whose joiner is on its own worker is DONE and RELEASED in one step, while others let go.
/// Bounded as above.
#[test]
fn loom_release_races_wakers() {
    explore(Some(3), &[0], |seen| {
        let task = ModelBlock::started();
        task.bind();
        let wakers = [(); 2].map(|()| {
            task.state().add_reference();
            let task = Arc::clone(&task);
            thread::spawn(move || {
                task.notify(0);
                task.drop_reference()
            })
        });
        assert!(!task.state().release());
        assert!(task.state().load().has(DONE | RELEASED));
        let by_handle = task.drop_reference();
        let by_wakers = wakers.map(|waker| waker.join().unwrap());
        let freed = by_wakers.into_iter().chain([by_handle]).filter(|last| *last).count();
        assert_eq!(freed, 1);
        seen.note(0);
        task.assert_freed();
    });
}

/// A clone is made from a reference that is on its way out elsewhere: the count never misses one.
#[test]
fn loom_clone_races_last_reference() {
    explore(None, &[0, 1], |seen| {
        let task = ModelBlock::started();
        task.bind();
        task.state().add_reference();
        let waker = {
            let task = Arc::clone(&task);
            thread::spawn(move || {
                task.state().add_reference();
                let first = task.drop_reference();
                first | task.drop_reference()
            })
        };
        task.detach();
        let by_task = task.finish() == Finish::LastReference;
        assert_ne!(waker.join().unwrap(), by_task);
        seen.note(u32::from(by_task));
        task.assert_freed();
    });
}
