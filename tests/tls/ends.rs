//! Cleanup happens exactly once, however a coroutine or a thread ends, and whatever it has stored: the
//! product of all ends and all that can be left behind, with the list of everything that goes, in
//! order.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use coro::raw::State;
use coro::tls::{self, Data};
use coro::{JoinError, Runtime};

use crate::common::{
    self, WORKERS, child, is_child, occupy, planned, quiet, reported, runtime, signal, watchdog,
};

/// How it ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Return,
    Panic,
    /// Cancelled while it is parked.
    Cancel,
    /// Cancelled by itself; it finds out when it suspends next.
    CancelRunning,
    /// Catches the cancellation and returns.
    CancelCaught,
    /// Its runtime is shut down while it is parked.
    Shutdown,
    ThreadReturn,
    ThreadPanic,
    RawReturn,
    RawPanic,
    /// Dropped while it is suspended.
    RawDrop,
    /// The same, by an unwinding.
    RawDropUnwinding,
    /// Dropped by the task that resumed it, when that is cancelled.
    RawInCancelledTask,
}

const ENDS: [End; 13] = [
    End::Return,
    End::Panic,
    End::Cancel,
    End::CancelRunning,
    End::CancelCaught,
    End::Shutdown,
    End::ThreadReturn,
    End::ThreadPanic,
    End::RawReturn,
    End::RawPanic,
    End::RawDrop,
    End::RawDropUnwinding,
    End::RawInCancelledTask,
];

/// What is left behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Left {
    Nothing,
    Keyed,
    /// More than fit into the record.
    Many,
    Typed,
    Inherited,
    Handler,
    PanickingHandler,
    PanickingDrop,
    StoringHandler,
    /// Open when it ends, unless it returns.
    Scope,
    /// A value that is also held on the stack.
    Held,
    Unloaded,
    All,
}

const LEFT: [Left; 13] = [
    Left::Nothing,
    Left::Keyed,
    Left::Many,
    Left::Typed,
    Left::Inherited,
    Left::Handler,
    Left::PanickingHandler,
    Left::PanickingDrop,
    Left::StoringHandler,
    Left::Scope,
    Left::Held,
    Left::Unloaded,
    Left::All,
];

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<&'static str>>>);

impl Log {
    fn note(&self, event: &'static str) {
        self.0.lock().unwrap().push(event);
    }

    fn value(&self, name: &'static str) -> Noted {
        Noted { name, log: self.clone(), panics: false }
    }

    fn panicking(&self, name: &'static str) -> Noted {
        Noted { panics: true, name, log: self.clone() }
    }
}

struct Noted {
    name: &'static str,
    log: Log,
    panics: bool,
}

impl Clone for Noted {
    fn clone(&self) -> Noted {
        self.log.value("clone")
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        self.log.note(self.name);
        if self.panics {
            planned("a Drop");
        }
    }
}

coro::local! {
    static TYPED: RefCell<Option<Noted>> = const { RefCell::new(None) };
}

impl Left {
    /// Leaves it, and goes on with `end` while what is not stored is still there.
    fn leave(self, log: &Log, end: impl FnOnce()) {
        let stack = log.value("stack");
        match self {
            Left::Nothing => end(),
            Left::Keyed => {
                tls::set(1, log.value("replaced"));
                tls::set(1, log.value("keyed"));
                end();
            }
            Left::Many => {
                for (key, name) in (0..7).zip(["m0", "m1", "m2", "m3", "m4", "m5", "m6"]) {
                    tls::set(key, log.value(name));
                }
                end();
            }
            Left::Typed => {
                TYPED.set(Some(log.value("typed")));
                end();
            }
            Left::Inherited => {
                tls::set_inheritable("word", log.value("original"));
                let install = tls::inherit(|| ());
                drop(tls::inherit(|| ())); // with a clone
                tls::del("word");
                install();
                end();
            }
            Left::Handler => {
                let (log, captured) = (log.clone(), log.value("captured"));
                tls::at_exit(move || {
                    let _captured = captured;
                    log.note("handler");
                });
                end();
            }
            Left::PanickingHandler => {
                let captured = log.value("captured");
                tls::at_exit(move || {
                    let _captured = captured;
                    planned("a handler");
                });
                end();
            }
            Left::PanickingDrop => {
                tls::set("older", log.value("older"));
                tls::set("bad", log.panicking("bad"));
                end();
            }
            Left::StoringHandler => {
                let log = log.clone();
                tls::at_exit(move || {
                    let late = log.clone();
                    tls::set("late", late.value("late"));
                    tls::at_exit(move || late.note("late handler"));
                });
                end();
            }
            Left::Scope => {
                tls::set("key", log.value("hidden"));
                tls::scope("key", log.value("scoped"), end);
            }
            Left::Held => {
                tls::set("key", log.value("held"));
                let held: Data<Noted> = tls::get("key").unwrap();
                tls::del("key");
                let twice = held.clone();
                end();
                drop((held, twice));
            }
            Left::Unloaded => {
                tls::set("key", log.value("unloaded"));
                tls::at_exit(|| unreachable!("unloaded"));
                tls::unload();
                end();
            }
            Left::All => {
                let all = &LEFT[..LEFT.len() - 2]; // not unloaded, and not this
                let nested = all.iter().fold(Box::new(end) as Box<dyn FnOnce()>, |inner, left| {
                    Box::new(move || left.leave(log, inner))
                });
                nested();
            }
        }
        drop(stack);
    }

    /// What the log says in the end.
    fn expected(self) -> Vec<&'static str> {
        match self {
            Left::Nothing => vec!["stack"],
            Left::Keyed => vec!["replaced", "stack", "keyed"],
            Left::Many => vec!["stack", "m6", "m5", "m4", "m3", "m2", "m1", "m0"],
            Left::Typed => vec!["stack", "typed"],
            Left::Inherited => vec!["clone", "original", "stack", "clone"],
            Left::Handler => vec!["stack", "handler", "captured"],
            Left::PanickingHandler => vec!["stack", "captured"],
            Left::PanickingDrop => vec!["stack", "bad", "older"],
            Left::StoringHandler => vec!["stack", "late handler", "late"],
            Left::Scope => vec!["scoped", "stack", "hidden"],
            Left::Held => vec!["held", "stack"],
            Left::Unloaded => vec!["unloaded", "stack"],
            Left::All => expected_of_all(),
        }
    }
}

/// The frames are one inside the other: the last of the list is the outermost, and stores first.
fn expected_of_all() -> Vec<&'static str> {
    let mut expected = Vec::new();
    // While they are being stored, from the outermost to the innermost.
    expected.extend(["clone", "original", "m1", "replaced"]);
    // The frames, from the innermost; what is held, and the scope, go before their frame.
    expected.extend(["stack"; 9]);
    expected.extend(["scoped", "stack", "held", "stack", "stack"]);
    // Handlers, newest first; the one that stores registers another, which is next.
    expected.extend(["handler", "captured", "captured", "late handler"]);
    // Values, newest first.
    expected.extend(["late", "keyed", "m6", "m5", "m4", "m3", "m2", "m0"]);
    expected.extend(["typed", "clone", "bad", "older", "hidden"]);
    expected
}

impl End {
    /// Runs `left` so that it ends this way; tells when all of it is over.
    fn run(self, left: Left, log: &Log, runtime: Runtime) {
        let of_body = log.clone();
        let (started, starts) = mpsc::channel();
        let park = move || {
            started.send(()).unwrap();
            loop {
                coro::park();
            }
        };
        let suspended = || {
            let log = log.clone();
            let raw = common::raw::<(), (), ()>(256 << 10, move |yielder, ()| {
                left.leave(&log, || yielder.suspend(()));
            })
            .unwrap();
            assert_eq!(raw.resume(()), State::Yielded(()));
            raw
        };
        match self {
            End::Return => runtime.go(move || left.leave(&of_body, || ())).join().unwrap(),
            End::Panic => {
                let body = move || left.leave(&of_body, || planned("the body"));
                assert!(matches!(runtime.go(body).join(), Err(JoinError::Panicked(_))));
            }
            End::Cancel => {
                let handle = runtime.go(move || left.leave(&of_body, park));
                starts.recv().unwrap();
                handle.cancel();
                assert!(matches!(handle.join(), Err(JoinError::Cancelled)));
            }
            End::CancelRunning => {
                let handle = runtime.go(move || {
                    left.leave(&of_body, || {
                        coro::current().unwrap().cancel();
                        coro::yield_now();
                    });
                });
                assert!(matches!(handle.join(), Err(JoinError::Cancelled)));
            }
            End::CancelCaught => {
                let handle = runtime.go(move || {
                    left.leave(&of_body, || {
                        assert!(catch_unwind(AssertUnwindSafe(park)).is_err());
                        coro::yield_now(); // it comes once
                    });
                });
                starts.recv().unwrap();
                handle.cancel();
                handle.join().unwrap();
            }
            End::Shutdown => {
                let handle = runtime.go(move || left.leave(&of_body, park));
                starts.recv().unwrap();
                runtime.shutdown();
                assert!(matches!(handle.join(), Err(JoinError::Cancelled)));
            }
            End::ThreadReturn => {
                thread::spawn(move || left.leave(&of_body, || ())).join().unwrap();
            }
            End::ThreadPanic => {
                let body = move || left.leave(&of_body, || planned("the body"));
                assert!(thread::spawn(body).join().is_err());
            }
            End::RawReturn => assert_eq!(suspended().resume(()), State::Done(())),
            End::RawPanic => {
                let raw = common::raw::<(), (), ()>(256 << 10, move |_, ()| {
                    left.leave(&of_body, || planned("the body"));
                })
                .unwrap();
                assert!(catch_unwind(AssertUnwindSafe(|| raw.resume(()))).is_err());
                assert!(raw.is_done());
                drop(raw);
            }
            End::RawDrop => drop(suspended()),
            End::RawDropUnwinding => {
                let outcome = catch_unwind(AssertUnwindSafe(|| {
                    let _raw = suspended();
                    planned("whoever holds it");
                }));
                assert!(outcome.is_err());
            }
            End::RawInCancelledTask => {
                let handle = runtime.go(move || {
                    let raw = common::raw::<(), (), ()>(256 << 10, move |_, ()| {
                        left.leave(&of_body, park); // parks the task
                    })
                    .unwrap();
                    raw.resume(());
                });
                starts.recv().unwrap();
                handle.cancel();
                assert!(matches!(handle.join(), Err(JoinError::Cancelled)));
            }
        }
    }
}

#[test]
fn tls_cleanup_happens_once_at_every_end_whatever_is_left() {
    let _watchdog = watchdog();
    quiet();
    for workers in WORKERS {
        for end in ENDS {
            for left in LEFT {
                let log = Log::default();
                end.run(left, &log, runtime(workers));
                let happened = std::mem::take(&mut *log.0.lock().unwrap());
                assert_eq!(happened, left.expected(), "{end:?}, {left:?}, {workers} workers");
                assert_eq!(Arc::strong_count(&log.0), 1, "{end:?}, {left:?}: a leak");
            }
        }
    }
}

/// What was never started has stored nothing; what it was to inherit is dropped, once, unrun.
#[test]
fn tls_what_never_ran_inherits_nothing_and_drops_it() {
    let _watchdog = watchdog();
    for workers in WORKERS {
        let log = Log::default();
        let runtime = runtime(workers);
        let inside = log.clone();
        tls::set_inheritable("word", log.value("original"));
        let cancelled = tls::inherit(move || inside.note("ran"));
        let inside = log.clone();
        let mut raw = common::raw::<(), (), ()>(64 << 10, move |_, ()| inside.note("ran"));
        let inside = log.clone();
        let dropped = tls::inherit(move || inside.note("ran"));
        let busy = occupy(&runtime, workers);
        let fresh = runtime.go(cancelled);
        fresh.cancel();
        drop(busy);
        assert!(matches!(fresh.join(), Err(JoinError::Cancelled)));
        runtime.shutdown();
        drop(dropped);
        assert!(!raw.as_mut().unwrap().is_done());
        drop(raw);
        tls::unload();
        assert_eq!(*log.0.lock().unwrap(), ["clone", "clone", "original"]);
        assert_eq!(Arc::strong_count(&log.0), 1);
    }
}

/// A value that is held lives on after its coroutine, and its stack, have ended.
#[test]
fn tls_data_outlives_its_coroutine() {
    let _watchdog = watchdog();
    let log = Log::default();
    let take_out = |end: End| {
        let log = log.clone();
        let raw = common::raw::<(), Data<Noted>, Data<Noted>>(64 << 10, move |yielder, ()| {
            tls::set("key", log.value("value"));
            let held = tls::get::<Noted>("key").unwrap();
            if end == End::RawDrop {
                yielder.suspend(held.clone());
            }
            held
        })
        .unwrap();
        match raw.resume(()) {
            State::Yielded(held) | State::Done(held) => held,
        }
    };
    for end in [End::RawReturn, End::RawDrop] {
        let held = take_out(end);
        // Another coroutine uses the stack meanwhile.
        let mut next = common::raw::<(), (), ()>(64 << 10, |_, ()| tls::set("key", [7; 100]));
        assert_eq!(next.as_mut().unwrap().resume(()), State::Done(()));
        assert_eq!(held.name, "value");
        let clone = held.clone();
        drop(held);
        assert!(log.0.lock().unwrap().is_empty());
        drop(clone);
        assert_eq!(std::mem::take(&mut *log.0.lock().unwrap()), ["value"]);
    }
}

#[test]
fn tls_panics_in_cleanup_are_reported_once_each() {
    let _watchdog = watchdog();
    const CASE: &str = "count";
    if is_child(CASE) {
        quiet();
        on_every_kind_of_end();
        return;
    }
    let output = child("tls_panics_in_cleanup_are_reported_once_each", CASE);
    assert_eq!(signal(&output), None, "{output:?}");
    assert!(output.status.success(), "{output:?}");
}

/// Counts what the panic hook hears of, in a process where nobody else panics.
fn on_every_kind_of_end() {
    let store = || {
        for key in 0..5 {
            tls::set(key, Log::default().panicking("value"));
            tls::at_exit(|| planned("a handler"));
        }
    };
    let count = |what: &str, expected: usize, run: &dyn Fn()| {
        let before = reported();
        run();
        assert_eq!(reported() - before, expected, "{what}");
    };
    let runtime = runtime(2);
    count("return", 10, &|| runtime.go(store).join().unwrap());
    count("panic", 11, &|| {
        let panicking = move || {
            store();
            planned("the body");
        };
        assert!(runtime.go(panicking).join().is_err());
    });
    count("cancel", 10, &|| {
        let parked = runtime.go(move || {
            store();
            coro::current().unwrap().cancel();
            coro::park();
        });
        assert!(matches!(parked.join(), Err(coro::JoinError::Cancelled)));
    });
    count("unload", 5, &|| {
        // Handlers are not run, so only the values are heard of.
        runtime.go(move || (store(), tls::unload())).join().unwrap();
    });
    count("reset", 10, &|| {
        runtime.go(move || (store(), tls::reset())).join().unwrap();
    });
    count("thread", 10, &|| thread::spawn(store).join().unwrap());
    count("dropped raw coroutine", 10, &|| {
        let suspended = common::raw::<(), (), ()>(64 << 10, move |yielder, ()| {
            store();
            yielder.suspend(());
        });
        assert_eq!(suspended.unwrap().resume(()), State::Yielded(()));
    });
}
