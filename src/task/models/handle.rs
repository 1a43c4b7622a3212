//! The end of a task against what its handle does meanwhile: T5, T6 and T7.

use loom::thread;
use std::sync::Arc;

use super::{ModelBlock, Waiter};
use crate::base::atomics::{Parker, explore};
use crate::task::state::{DONE, Detach, Finish, JOINER};

/// A task that stores its outcome and ends, on a worker of its own.
fn run_to_the_end(task: &Arc<ModelBlock>) -> thread::JoinHandle<Finish> {
    let task = Arc::clone(task);
    thread::spawn(move || {
        task.bind();
        task.store_outcome();
        task.finish()
    })
}

/// The numbers by which the models note how the task ended.
fn outcome(how: Finish) -> u32 {
    match how {
        Finish::Released => 0,
        Finish::LastReference => 1,
        Finish::WaiterSet => 2,
        Finish::JoinerSet => 3,
    }
}

/// The other outcomes begin here.
const OTHERS: u32 = 8;

/// A thread that joins is told, or sees that it need not wait.
#[test]
fn loom_finish_races_join() {
    explore(None, &[0, 2], |seen| {
        let task = ModelBlock::started();
        let end = run_to_the_end(&task);
        task.join_as_thread();
        task.drop_reference();
        seen.note(outcome(end.join().unwrap()));
        task.assert_freed();
    });
}

/// A handle that is polled again takes its waiter back, or finds that the task has it.
#[test]
fn loom_finish_races_poll_again() {
    explore(None, &[0, 2, OTHERS, OTHERS + 1, OTHERS + 2], |seen| {
        let task = ModelBlock::started();
        let end = run_to_the_end(&task);
        let wakers = [Parker::new(), Parker::new()];
        let polls = wakers.iter().take_while(|waker| !task.poll(waker.unparker())).count();
        seen.note(OTHERS + polls as u32);
        if polls == 2 {
            // Of two wakers the last one counts.
            wakers[1].park();
            assert!(task.poll(wakers[0].unparker()));
        }
        task.drop_reference();
        seen.note(outcome(end.join().unwrap()));
        task.assert_freed();
    });
}

/// A handle that was polled, and is then joined, fills a cell that the task may be at.
#[test]
fn loom_finish_races_join_after_poll() {
    explore(None, &[0, 2, OTHERS, OTHERS + 1], |seen| {
        let task = ModelBlock::started();
        let end = run_to_the_end(&task);
        let ready = task.poll(Parker::new().unparker());
        seen.note(OTHERS + u32::from(ready));
        if !ready {
            task.join_as_thread();
        }
        task.drop_reference();
        seen.note(outcome(end.join().unwrap()));
        task.assert_freed();
    });
}

/// The handle goes, polled or not, while the task ends: the block is freed by one of the two, and
/// the outcome is dropped by the one that T5 names. The waker that a poll left goes before the block,
/// even where nobody is left who waits for it.
#[test]
fn loom_finish_races_detach() {
    for polled in [false, true] {
        let outcomes: &[u32] = if polled { &[2, OTHERS] } else { &[0, 1, OTHERS] };
        explore(None, outcomes, move |seen| {
            let task = ModelBlock::started();
            let waker = Parker::new();
            if polled {
                assert!(!task.poll(waker.unparker()));
            }
            let end = run_to_the_end(&task);
            if task.detach() == Detach::OutcomeLeft {
                seen.note(OTHERS);
            }
            seen.note(outcome(end.join().unwrap()));
            task.assert_freed();
        });
    }
}

/// The handle goes while the outcome is being stored: exactly one of the two drops it.
#[test]
fn loom_complete_races_detach() {
    explore(None, &[OTHERS, OTHERS + 1], |seen| {
        let task = ModelBlock::started();
        let store = {
            let task = Arc::clone(&task);
            thread::spawn(move || task.store_outcome())
        };
        let left_to_the_handle = task.detach() == Detach::OutcomeLeft;
        let handed_over = store.join().unwrap();
        assert_eq!(left_to_the_handle, handed_over);
        seen.note(OTHERS + u32::from(handed_over));
        assert_eq!(task.finish(), Finish::LastReference);
        task.assert_freed();
    });
}

/// An outcome that needs no drop is never marked COMPLETE; a handle that goes leaves it.
#[test]
fn loom_finish_races_detach_without_outcome() {
    explore(None, &[0, 1, OTHERS, OTHERS + 1], |seen| {
        let task = ModelBlock::started();
        let end = {
            let task = Arc::clone(&task);
            thread::spawn(move || task.finish())
        };
        match task.detach() {
            Detach::Detached => seen.note(OTHERS),
            Detach::LastReference => seen.note(OTHERS + 1),
            Detach::OutcomeLeft => panic!("nothing was handed over"),
        }
        seen.note(outcome(end.join().unwrap()));
        task.assert_freed();
    });
}

/// A task on another worker joins: it stays until it is let go, for what waits is its bare address.
#[test]
fn loom_finish_races_joiner() {
    explore(None, &[0, 3, OTHERS, OTHERS + 1], |seen| {
        let task = ModelBlock::started();
        let joiner = ModelBlock::started();
        joiner.bind();
        let end = run_to_the_end(&task);
        if task.register(Waiter::Task(Arc::clone(&joiner)), JOINER) {
            let mut parks = 0;
            while !task.state().load().has(DONE) {
                joiner.wait();
                parks = 1;
            }
            task.withdraw();
            seen.note(OTHERS + parks);
        }
        // The joiner may end now, block and all.
        task.take_outcome();
        task.drop_reference();
        joiner.free();
        seen.note(outcome(end.join().unwrap()));
        task.assert_freed();
    });
}

/// A task that joins is cancelled, and unwound out of the join: it takes the cell back, or waits
/// for the other to let it go.
#[test]
fn loom_finish_races_joiner_that_leaves() {
    explore(None, &[0, 3, OTHERS], |seen| {
        let task = ModelBlock::started();
        let joiner = ModelBlock::started();
        joiner.bind();
        let end = run_to_the_end(&task);
        if task.register(Waiter::Task(Arc::clone(&joiner)), JOINER) {
            task.withdraw();
        }
        if task.detach() == Detach::OutcomeLeft {
            seen.note(OTHERS);
        }
        joiner.free();
        seen.note(outcome(end.join().unwrap()));
        task.assert_freed();
    });
}
