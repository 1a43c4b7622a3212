//! How a coroutine with carries may end, and what becomes of them: suspended once more, dropped once, before the join.

use std::cell::RefCell;
use std::future::Future;
use std::mem;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Wake};
use std::time::Duration;

use coro::hook::{Attached, attach};
use coro::{JoinError, JoinHandle, Runtime, tls};

use crate::common::{self, Counter, Gate, planned, quiet, watchdog};
use crate::{CURRENT, Calls, Current, Log, Noting, logged};

/// Starts a coroutine that attaches three carries and then calls `f`; one of them is held by its stack, one by its
/// storage, one by nobody.
fn start<T: Send + 'static>(
    runtime: &Runtime,
    log: &Log,
    f: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let log = log.clone();
    runtime.go(move || {
        tls::at_exit({
            let log = log.clone();
            move || log.note("handler")
        });
        mem::forget(Noting::attach("a", &log));
        tls::set("held", Noting::attach("b", &log));
        let _c = Noting::attach("c", &log);
        f()
    })
}

#[test]
fn hook_every_end_suspends_and_drops_once_before_the_join() {
    let _watchdog = watchdog();
    quiet();
    let end = "xc handler xb -a xa";
    common::on_workers(|runtime, _| {
        let log = Log::default();
        start(runtime, &log, || ()).join().unwrap();
        assert_eq!(log.take(), end, "it returns");

        assert!(start(runtime, &log, || planned("it panics")).join().unwrap_err().is_panic());
        assert_eq!(log.take(), end, "it panics");

        let parked = start(runtime, &log, || coro::timeout(Duration::from_millis(1), coro::park));
        assert!(parked.join().unwrap().is_err());
        assert_eq!(log.take(), format!("-c -b -a +a +b +c {end}"), "a timeout");

        let gate = Gate::default();
        let parked = start(runtime, &log, {
            let gate = gate.clone();
            move || {
                gate.open();
                coro::sleep(Duration::MAX);
            }
        });
        gate.pass();
        parked.cancel();
        assert!(matches!(parked.join(), Err(JoinError::Cancelled)));
        // Cancelled before it has slept, it has not been suspended.
        let ends = [end.to_owned(), format!("-c -b -a +a +b +c {end}")];
        assert!(ends.contains(&log.take()), "a cancellation");
    });
}

#[test]
fn hook_a_shutdown_ends_carries_as_well() {
    let _watchdog = watchdog();
    for workers in common::WORKERS {
        let runtime = common::runtime(workers);
        let (calls, dropped, ready) = (Counter::default(), Counter::default(), Counter::default());
        for _ in 0..100 {
            let (calls, dropped, ready) = (calls.clone(), dropped.clone(), ready.clone());
            runtime.go(move || {
                let suspend = move || calls.add();
                attach(Calls { suspend, resume: || (), _dropped: dropped.on_drop() }).keep();
                ready.add();
                coro::sleep(Duration::MAX);
            });
        }
        ready.wait_for(100);
        runtime.shutdown();
        assert_eq!(dropped.get(), 100);
        assert!(calls.get() >= 100, "each at its end, at least");
    }
}

/// The thread is as it was, whatever the coroutine has left behind.
#[test]
fn hook_the_last_suspension_leaves_the_thread_clean() {
    let _watchdog = watchdog();
    let runtime = common::runtime(1);
    runtime.go(|| Current::set(7).keep()).join().unwrap();
    runtime.go(|| assert_eq!(CURRENT.get(), 0)).join().unwrap();
}

/// A handler and the `Drop` of a value find the state that the coroutine had, and may suspend and attach.
#[test]
fn hook_carries_hold_through_the_cleanup() {
    let _watchdog = watchdog();
    let log = logged(|log| {
        tls::at_exit(move || {
            assert_eq!(CURRENT.get(), 7);
            coro::yield_now();
            assert_eq!(CURRENT.get(), 7);
            Noting::attach("late", &log).keep();
            coro::yield_now();
        });
        Current::set(7).keep();
    });
    assert_eq!(log.take(), "-late +late -late xlate");
}

/// A waker that is called at the very end is no part of the coroutine, whose carries are gone.
#[test]
fn hook_a_waker_at_the_end_attaches_to_nobody() {
    let _watchdog = watchdog();
    struct Attaches(Log, Gate);
    impl Wake for Attaches {
        fn wake(self: Arc<Self>) {
            Noting::attach("waker", &self.0).keep();
            coro::yield_now();
            self.1.open();
        }
    }
    let (log, gate, go) = (Log::default(), Gate::default(), Gate::default());
    let runtime = common::runtime(1);
    let mut task = runtime.go({
        let (log, go) = (log.clone(), go.clone());
        move || {
            Noting::attach("a", &log).keep();
            go.block();
        }
    });
    let waker = Arc::new(Attaches(log.clone(), gate.clone())).into();
    assert!(pin!(&mut task).poll(&mut Context::from_waker(&waker)).is_pending());
    go.open();
    gate.pass();
    task.join().unwrap();
    assert_eq!(log.take(), "-a xa xwaker");
}

/// What stands for a carry may be dropped by another coroutine of the same thread, or when its coroutine has ended.
#[test]
fn hook_detached_by_a_neighbour() {
    let _watchdog = watchdog();
    thread_local! {
        static LEFT: RefCell<Option<Attached>> = const { RefCell::new(None) };
    }
    let log = Log::default();
    let runtime = common::runtime(1);
    let parked = runtime.go({
        let log = log.clone();
        move || {
            LEFT.set(Some(Noting::attach("a", &log)));
            coro::park();
            log.note("goes on");
            LEFT.set(Some(Noting::attach("b", &log)));
        }
    });
    while !log.take().contains("-a") {
        coro::yield_now();
    }
    runtime.go(|| drop(LEFT.take())).join().unwrap();
    assert_eq!(log.take(), "xa");
    parked.handle().unpark();
    parked.join().unwrap();
    assert_eq!(log.take(), "goes on -b xb");
    runtime.go(|| drop(LEFT.take())).join().unwrap();
    assert_eq!(log.take(), "");
}

/// One that owns what stands for another detaches that with itself.
#[test]
fn hook_a_carry_may_own_another() {
    let _watchdog = watchdog();
    let log = Log::default();
    let dropped = Counter::default();
    let runtime = common::runtime(1);
    let task = runtime.go({
        let (log, dropped) = (log.clone(), dropped.clone());
        move || {
            let inner = RefCell::new(Some(Noting::attach("inner", &log)));
            let outer = Rc::new(RefCell::new(None));
            let own = Rc::clone(&outer);
            let suspend = move || {
                inner.take(); // the first time
                own.take(); // itself
            };
            *outer.borrow_mut() =
                Some(attach(Calls { suspend, resume: || (), _dropped: dropped.on_drop() }));
            coro::yield_now();
            assert_eq!((log.take(), dropped.get()), (String::from("xinner"), 1));
            coro::yield_now();
        }
    });
    task.join().unwrap();
    assert_eq!((log.take(), dropped.get()), (String::new(), 1));
}
