//! Wait groups: a wait ends at zero, and a misuse is a clear panic.

use std::sync::Arc;
use std::thread;

use coro::sync::WaitGroup;

use crate::common::{self, Counter, planned, quiet};
use crate::{LONG, SHORT, let_others_go_on, spawn_waiting};

#[test]
fn sync_wait_group_waits_until_all_is_done() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (group, done) = (Arc::new(WaitGroup::new()), Counter::default());
        group.wait();
        // The group is used again and again.
        for round in 1..=20 {
            group.add(10);
            let waits: Vec<_> = (0..3)
                .map(|_| {
                    let (group, done) = (Arc::clone(&group), done.clone());
                    runtime.go(move || {
                        group.wait();
                        assert!(done.get() >= 10 * round);
                    })
                })
                .collect();
            for i in 0..10 {
                let (group, done) = (Arc::clone(&group), done.clone());
                let job = move || {
                    coro::yield_now();
                    done.add();
                    group.done();
                };
                if i % 5 == 0 {
                    thread::spawn(job);
                } else {
                    runtime.go(job);
                }
            }
            group.wait();
            assert_eq!(done.get(), 10 * round);
            waits.into_iter().for_each(|wait| wait.join().unwrap());
        }
    });
}

/// A guard counts down also where its coroutine panics or is cancelled.
#[test]
fn sync_wait_group_guards_are_done_when_they_are_dropped() {
    quiet();
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let group = Arc::new(WaitGroup::default());
        type End = fn();
        let ends: [End; 3] = [|| (), coro::park, || planned("a job")];
        let tasks = ends.map(|end| {
            let guard = WaitGroup::guard(Arc::clone(&group));
            runtime.go(move || {
                let _guard = guard;
                end();
            })
        });
        assert!(group.count() >= 1);
        tasks.iter().for_each(|task| task.cancel());
        assert!(group.wait_timeout(LONG));
        tasks.into_iter().for_each(|task| drop(task.join()));
        let lent = WaitGroup::guard(&*group);
        assert_eq!(format!("{group:?}"), "WaitGroup { count: 1, .. }");
        drop(lent);
        assert_eq!(group.count(), 0);
    });
}

#[test]
fn sync_wait_group_misuse_is_a_clear_panic() {
    static GROUP: WaitGroup = WaitGroup::new();
    let _watchdog = common::watchdog();
    let panic = std::panic::catch_unwind(|| GROUP.done()).unwrap_err();
    assert!(common::message(&*panic).contains("more often than"), "below zero");
    assert_eq!(GROUP.count(), 0);
    GROUP.add(usize::MAX);
    let panic = std::panic::catch_unwind(|| GROUP.add(1)).unwrap_err();
    assert!(common::message(&*panic).contains("than it counts"));
    assert_eq!(GROUP.count(), usize::MAX);
}

#[test]
fn sync_wait_group_waits_for_a_limit_at_most() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let group = Arc::new(WaitGroup::new());
        group.add(1);
        assert!(!group.wait_timeout(SHORT));
        let waits = || {
            let group = Arc::clone(&group);
            spawn_waiting(runtime, move || group.wait_timeout(LONG))
        };
        let (cancelled, waits) = (waits(), waits());
        cancelled.cancel();
        common::assert_cancelled(cancelled.join());
        let_others_go_on(runtime);
        assert!(!waits.is_finished());
        group.done();
        assert!(waits.join().unwrap());
    });
}
