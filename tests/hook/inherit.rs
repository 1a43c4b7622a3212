//! What a coroutine inherits of the carries of the one that starts it.

use std::time::Duration;

use coro::hook::{Carry, attach};
use coro::{Builder, JoinSet, Place};

use crate::common::{self, Counter, OnDrop, planned, quiet, watchdog};
use crate::{CURRENT, Current, Log, Noting, logged};

/// Every way to start a coroutine inherits, and the child carries on by itself.
#[test]
fn hook_children_inherit_however_they_are_started() {
    let _watchdog = watchdog();
    common::on_workers(|runtime, workers| {
        let child = || {
            for _ in 0..20 {
                assert_eq!(CURRENT.get(), 7);
                coro::yield_now();
            }
            // And so do its own.
            coro::go(|| assert_eq!(CURRENT.get(), 7)).join().unwrap();
        };
        let parent = runtime.go(move || {
            Current::set(7).keep();
            let mut children = JoinSet::new();
            for _ in 0..10 {
                children.insert(coro::go(child));
                children.insert(Builder::new().name("named").spawn(child).unwrap());
                let place = Builder::new().place(Place::Worker(workers - 1));
                children.insert(place.spawn(child).unwrap());
            }
            coro::scope(|s| _ = s.go(child));
            while let Some(child) = children.join_next() {
                child.unwrap();
            }
            assert_eq!(CURRENT.get(), 7);
        });
        parent.join().unwrap();
        assert_eq!(runtime.go(|| CURRENT.get()).join().unwrap(), 0);
    });
}

#[test]
fn hook_another_runtimes_coroutine_inherits_too() {
    let _watchdog = watchdog();
    let (one, other) = (common::runtime(1), common::runtime(1));
    one.go(move || {
        Current::set(7).keep();
        assert_eq!(other.go(|| CURRENT.get()).join().unwrap(), 7);
    })
    .join()
    .unwrap();
}

/// Notes what is asked of it, and gives a carry of another name.
struct Parent(&'static str, Log);

impl Carry for Parent {
    fn suspend(&mut self) {}
    fn resume(&mut self) {}
    fn inherit(&self) -> Option<Box<dyn Carry + Send>> {
        self.1.note(&format!("?{}", self.0));
        Some(Box::new(Noting { name: self.0, log: self.1.clone() }))
    }
}

#[test]
fn hook_inherited_carries_begin_with_resume_and_keep_their_order() {
    let _watchdog = watchdog();
    logged(|log| {
        let _a = attach(Parent("a", log.clone()));
        // It inherits nothing, and what it notes is not the child's.
        let _quiet = Current::set(1);
        let _b = attach(Parent("b", log.clone()));
        let child = coro::go({
            let log = log.clone();
            move || {
                log.note("begins");
                let _own = Noting::attach("own", &log);
                coro::yield_now();
            }
        });
        assert_eq!(log.take(), "?a ?b");
        child.join().unwrap();
        assert_eq!(log.take(), "+a +b begins -own -b -a +a +b +own xown -b -a xb xa");
    });
}

/// By default nothing is inherited.
#[test]
fn hook_nothing_is_inherited_unasked() {
    let _watchdog = watchdog();
    let log = logged(|log| {
        let _a = Noting::attach("a", &log);
        coro::go(coro::yield_now).join().unwrap();
    });
    assert_eq!(log.take(), "-a +a xa");
}

/// Counts the drops of what is inherited.
struct Counted(Counter, #[allow(dead_code)] OnDrop);

impl Carry for Counted {
    fn suspend(&mut self) {}
    fn resume(&mut self) {}
    fn inherit(&self) -> Option<Box<dyn Carry + Send>> {
        Some(Box::new(Counted(self.0.clone(), self.0.on_drop())))
    }
}

/// A child that never starts, or is cancelled before it does, drops what it was to inherit.
#[test]
fn hook_what_is_not_started_drops_what_it_was_to_inherit() {
    let _watchdog = watchdog();
    let dropped = Counter::default();
    let (runtime, other) = (common::runtime(1), common::runtime(1));
    other.shutdown();
    runtime
        .go({
            let dropped = dropped.clone();
            move || {
                attach(Counted(dropped.clone(), dropped.on_drop())).keep();
                let cancelled = coro::go(|| unreachable!("it is cancelled before it starts"));
                cancelled.cancel();
                assert!(cancelled.join().unwrap_err().is_cancelled());
                assert_eq!(dropped.get(), 1);
                let discarded = Builder::new().name("discarded").spawn_on(&other, || ()).unwrap();
                assert!(discarded.join().unwrap_err().is_cancelled());
                assert_eq!(dropped.get(), 2);
            }
        })
        .join()
        .unwrap();
    assert_eq!(dropped.get(), 3);
}

/// A panic in `inherit` is one of `go`, and the carry goes on.
#[test]
fn hook_a_panic_in_inherit_is_the_spawners() {
    let _watchdog = watchdog();
    quiet();
    struct Panics(Log);
    impl Carry for Panics {
        fn suspend(&mut self) {
            self.0.note("-");
        }
        fn resume(&mut self) {
            self.0.note("+");
        }
        fn inherit(&self) -> Option<Box<dyn Carry + Send>> {
            planned("in inherit")
        }
    }
    let log = logged(|log| {
        let _attached = attach(Panics(log));
        let spawn = || drop(coro::go(|| unreachable!("it was not started")));
        let payload = std::panic::catch_unwind(spawn).unwrap_err();
        assert!(common::is_planned(&*payload, "in inherit"));
        let scope = || coro::scope(|s| _ = s.go(|| unreachable!("it was not started")));
        assert!(std::panic::catch_unwind(scope).is_err(), "and nobody waits for it");
        coro::yield_now();
    });
    assert_eq!(log.take(), "- +");
}

/// One that suspends in `inherit` cannot be taken from the thread, so it is detached, and a line says so.
#[test]
fn hook_one_that_suspends_in_inherit_is_detached() {
    const TEST: &str = "hook_one_that_suspends_in_inherit_is_detached";
    struct Suspends(Log);
    impl Carry for Suspends {
        fn suspend(&mut self) {
            self.0.note("-");
        }
        fn resume(&mut self) {
            self.0.note("+");
        }
        fn inherit(&self) -> Option<Box<dyn Carry + Send>> {
            coro::sleep(Duration::from_millis(1));
            None
        }
    }
    impl Drop for Suspends {
        fn drop(&mut self) {
            self.0.note("x");
        }
    }
    let _watchdog = watchdog();
    if common::is_child(TEST) {
        let log = Log::default();
        let task = Builder::new().name("asks").spawn({
            let log = log.clone();
            move || {
                attach(Suspends(log.clone())).keep();
                coro::go(|| ()).join().unwrap();
                assert_eq!(log.take(), "x");
                coro::yield_now();
            }
        });
        task.unwrap().join().unwrap();
        assert_eq!(log.take(), "");
        return;
    }
    let output = common::child(TEST, TEST);
    assert!(output.status.success(), "{output:?}");
    let said = common::stderr(&output);
    assert!(
        said.contains("'asks'")
            && said.contains("suspended its coroutine in `inherit`, and is detached"),
        "{said}"
    );
}
