//! What handlers and destructors may do at the end of a coroutine, and in which order everything goes:
//! one scenario after another, each on every kind of stack that has a store. What happens must be the
//! same everywhere, to the last event.

use std::cell::{Cell, RefCell};
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use coro::inspect::{self, ExitTarget, exit_target};
use coro::raw::State;
use coro::tls;

use crate::common::{self, WORKERS, planned, quiet, runtime, watchdog};

/// What happened, in order, on whatever thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn note(&self, event: impl Into<String>) {
        self.0.lock().unwrap().push(event.into());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    /// A value that notes `name` when it is dropped.
    fn value(&self, name: &'static str) -> Noted {
        self.acting(name, || ())
    }

    /// A value that notes `name` when it is dropped, and then does something.
    fn acting(&self, name: &'static str, act: impl FnMut() + Send + 'static) -> Noted {
        Noted { name, log: self.clone(), act: Box::new(act) }
    }

    /// Registers a handler that notes `name` and then does something.
    fn at_exit(&self, name: &'static str, act: impl FnOnce() + 'static) {
        let log = self.clone();
        tls::at_exit(move || {
            log.note(name);
            act();
        });
    }
}

struct Noted {
    name: &'static str,
    log: Log,
    act: Box<dyn FnMut() + Send>,
}

impl Drop for Noted {
    fn drop(&mut self) {
        self.log.note(self.name);
        (self.act)();
    }
}

/// The name of the value under a key, if one is there.
fn at(key: &'static str) -> &'static str {
    tls::get::<Noted>(key).map_or("nothing", |found| found.name)
}

/// A body, and what must be in the log when it has ended and its cleanup is over.
type Scenario = (fn(Log), &'static [&'static str]);

/// Runs the body on every kind of stack, and compares.
#[track_caller]
fn everywhere((body, expected): Scenario) {
    quiet();
    let check = |place: &str, run: &dyn Fn(Log)| {
        let log = Log::default();
        run(log.clone());
        assert_eq!(log.take(), expected, "{place}");
        assert_eq!(Arc::strong_count(&log.0), 1, "{place}: something was leaked");
    };
    for workers in WORKERS {
        let runtime = runtime(workers);
        check(&format!("task, {workers} workers"), &|log| {
            runtime.go(move || body(log)).join().unwrap();
        });
        check(&format!("raw coroutine in a task, {workers} workers"), &|log| {
            runtime.go(move || in_raw(body, log)).join().unwrap();
        });
    }
    check("raw coroutine", &|log| in_raw(body, log));
    check("raw coroutine in another", &|log| in_raw(move |log| in_raw(body, log), log));
    check("thread", &|log| thread::spawn(move || body(log)).join().unwrap());
}

fn in_raw(body: impl FnOnce(Log) + 'static, log: Log) {
    let coroutine = common::raw::<(), (), ()>(256 << 10, move |_, ()| body(log));
    assert_eq!(coroutine.unwrap().resume(()), State::Done(()));
}

#[test]
fn tls_handlers_run_newest_first_with_all_data_there() {
    let _watchdog = watchdog();
    everywhere((
        |log| {
            tls::set("a", log.value("value a"));
            for name in ["first", "second", "third"] {
                let inside = log.clone();
                log.at_exit(name, move || inside.note(at("a")));
            }
            tls::set("b", log.value("value b"));
            let (inside, id) = (log.clone(), tls::id());
            log.at_exit("newest", move || {
                inside.note(at("b"));
                assert_eq!(tls::id(), id);
                assert_ne!(exit_target(), Some(ExitTarget::Cleanup), "it has happened");
            });
            log.note("body");
        },
        &[
            "body", "newest", "value b", "third", "value a", "second", "value a", "first",
            "value a", "value b", "value a",
        ],
    ));
}

#[test]
fn tls_handlers_run_on_the_stack_of_their_coroutine() {
    let _watchdog = watchdog();
    everywhere((
        |log| {
            let (record, thread) = (inspect::record_address(), thread::current().id());
            let check = move || {
                assert_eq!(inspect::record_address(), record);
                assert_eq!(thread::current().id(), thread);
            };
            log.at_exit("handler", check);
            tls::set(1, log.acting("value", check));
        },
        &["handler", "value"],
    ));
}

#[test]
fn tls_a_handler_that_registers_handlers_is_followed_by_them() {
    let _watchdog = watchdog();
    everywhere((
        |log| {
            log.at_exit("last of all", || ());
            let inside = log.clone();
            log.at_exit("registering", move || {
                let deeper = inside.clone();
                inside.at_exit("inner first", || ());
                inside.at_exit("inner second", move || {
                    deeper.at_exit("innermost", || ());
                });
            });
            tls::set(1, log.value("value"));
        },
        &["registering", "inner second", "innermost", "inner first", "last of all", "value"],
    ));
}

#[test]
fn tls_a_handler_that_stores_replaces_and_deletes() {
    let _watchdog = watchdog();
    everywhere((
        |log| {
            for (key, name) in [("a", "a"), ("b", "b"), ("c", "c"), ("d", "d")] {
                tls::set(key, log.value(name));
            }
            let inside = log.clone();
            log.at_exit("handler", move || {
                assert!(tls::del("b"));
                tls::set("a", inside.value("a again"));
                tls::set("e", inside.value("e"));
                assert_eq!((at("a"), at("b"), at("e")), ("a again", "nothing", "e"));
                drop(tls::take::<Noted>("c").unwrap());
                inside.note("end of handler");
            });
        },
        &["handler", "b", "a", "c", "end of handler", "e", "a again", "d"],
    ));
}

#[test]
fn tls_a_handler_that_resets_drops_the_data_and_keeps_the_handlers() {
    let _watchdog = watchdog();
    everywhere((
        |log| {
            let inside = log.clone();
            log.at_exit("finds", move || inside.note(at("a")));
            let inside = log.clone();
            log.at_exit("resets", move || {
                tls::reset();
                inside.note("end of reset");
            });
            tls::set("a", log.value("a"));
            tls::set("b", log.value("b"));
        },
        &["resets", "b", "a", "end of reset", "finds", "nothing"],
    ));
}

#[test]
fn tls_a_handler_that_unloads_ends_it_all_and_may_begin_anew() {
    let _watchdog = watchdog();
    everywhere((
        |log| {
            let captured = log.value("captured");
            tls::at_exit(move || {
                let _captured = &captured;
                unreachable!("unloaded");
            });
            let inside = log.clone();
            log.at_exit("unloads", move || {
                let id = tls::id();
                tls::unload();
                assert_ne!(tls::id(), id);
                inside.note("unloaded");
                tls::set("late", inside.value("late value"));
                inside.at_exit("late handler", || ());
            });
            tls::set("a", log.value("a"));
            tls::set("b", log.value("b"));
        },
        &["unloads", "captured", "b", "a", "unloaded", "late handler", "late value"],
    ));
}

#[test]
fn tls_a_handler_that_spawns_joins_sleeps_and_yields() {
    let _watchdog = watchdog();
    everywhere((
        |log| {
            log.at_exit("after it", || ());
            let inside = log.clone();
            log.at_exit("spawns", move || {
                let id = tls::id();
                let (of_child, log) = (inside.clone(), inside.clone());
                let child = coro::go(move || {
                    of_child.note(at("a"));
                    let nested = of_child.clone();
                    of_child.at_exit("handler of the child", move || nested.note("done"));
                    tls::id()
                });
                assert_ne!(child.join().unwrap(), id);
                let start = Instant::now();
                coro::sleep(Duration::from_millis(2));
                assert!(start.elapsed() >= Duration::from_millis(2));
                coro::yield_now();
                assert_eq!(tls::id(), id);
                log.note(at("a"));
            });
            tls::set("a", log.value("a"));
        },
        &["spawns", "nothing", "handler of the child", "done", "a", "after it", "a"],
    ));
}

#[test]
fn tls_a_handler_may_open_scopes_and_hand_down() {
    let _watchdog = watchdog();
    everywhere((
        |log| {
            tls::set("a", log.value("a"));
            tls::set_inheritable("word", "inherited");
            let inside = log.clone();
            log.at_exit("handler", move || {
                tls::scope("a", inside.value("scoped"), || inside.note(at("a")));
                inside.note(at("a"));
                let word = || tls::get::<&str>("word").map_or("none", |word| *word);
                let heir = thread::spawn(tls::inherit(word)).join().unwrap();
                inside.note(heir);
                inside.note(coro::go(tls::inherit(word)).join().unwrap());
                inside.note(coro::go(word).join().unwrap());
            });
        },
        &["handler", "scoped", "scoped", "a", "inherited", "inherited", "none", "a"],
    ));
}

#[test]
fn tls_what_a_scope_restores_is_free_at_once() {
    let _watchdog = watchdog();
    everywhere((
        |log| {
            tls::set("key", log.value("hidden"));
            let inside = log.clone();
            let taking = log.acting("scoped", move || {
                inside.note(at("key"));
                drop(tls::take::<Noted>("key").expect("nobody holds it"));
                inside.note("taken");
            });
            tls::scope("key", taking, || ());
            tls::set("older", log.value("older"));
            tls::scope("older", log.acting("resetting", tls::reset), || {
                tls::set("newer", log.value("newer"));
            });
        },
        &["scoped", "hidden", "hidden", "taken", "resetting", "newer", "older"],
    ));
}

#[test]
fn tls_a_drop_may_use_everything() {
    let _watchdog = watchdog();
    everywhere((
        |log| {
            tls::set("old", log.value("old"));
            let inside = log.clone();
            let deep = log.acting("acting", move || {
                assert_eq!((at("newest"), at("acting")), ("nothing", "nothing"), "both are gone");
                inside.note(at("old"));
                tls::set("stored", inside.value("stored"));
                tls::set("old", inside.value("old again"));
                tls::del("old");
                let of_handler = inside.clone();
                inside.at_exit("registered", move || of_handler.note(at("stored")));
                tls::scope("stored", inside.value("scoped"), || inside.note(at("stored")));
                coro::yield_now();
            });
            tls::set("acting", deep);
            tls::set("newest", log.value("newest"));
            log.at_exit("handler", || ());
        },
        &[
            "handler",
            "newest",
            "acting",
            "old",
            "old",
            "old again",
            "scoped",
            "scoped",
            "registered",
            "stored",
            "stored",
        ],
    ));
}

#[test]
fn tls_a_drop_may_reset_unload_and_spawn() {
    let _watchdog = watchdog();
    everywhere((
        |log| {
            for (key, name) in [("a", "a"), ("b", "b")] {
                tls::set(key, log.value(name));
            }
            let inside = log.clone();
            tls::set(
                "unloading",
                log.acting("unloading", move || {
                    inside.at_exit("not run", || unreachable!("unloaded"));
                    tls::unload();
                    inside.note("unloaded");
                    tls::set("late", inside.value("late"));
                }),
            );
            tls::set("c", log.value("c"));
            tls::set("resetting", log.acting("resetting", || tls::del("c").then_some(()).unwrap()));
            let inside = log.clone();
            tls::set(
                "spawning",
                log.acting("spawning", move || {
                    let log = inside.clone();
                    coro::go(move || tls::set(1, log.value("of the child"))).join().unwrap();
                }),
            );
        },
        &["spawning", "of the child", "resetting", "c", "unloading", "b", "a", "unloaded", "late"],
    ));
}

#[test]
fn tls_panics_in_handlers_and_drops_stop_nothing() {
    let _watchdog = watchdog();
    everywhere((
        |log| {
            tls::set("first", log.value("first value"));
            tls::set("bad", log.acting("bad value", || planned("a Drop")));
            log.at_exit("first handler", || ());
            log.at_exit("bad handler", || planned("a handler"));
            tls::set("bad too", log.acting("bad value too", || planned("another Drop")));
            let log_inside = log.clone();
            log.at_exit("bad handler too", move || {
                log_inside.at_exit("registered by a bad handler", || planned("registered"));
                let _captured = log_inside.value("captured");
                planned("another handler")
            });
            tls::set("last", log.value("last value"));
        },
        &[
            "bad handler too",
            "captured",
            "registered by a bad handler",
            "bad handler",
            "first handler",
            "last value",
            "bad value too",
            "bad value",
            "first value",
        ],
    ));
}

/// A payload that panics when it is dropped, with a payload that panics when it is dropped.
struct Bomb(u32, Log);

impl Drop for Bomb {
    fn drop(&mut self) {
        self.1.note(format!("bomb {}", self.0));
        if self.0 > 0 {
            std::panic::panic_any(common::Payload(Box::new(Bomb(self.0 - 1, self.1.clone()))));
        }
    }
}

#[test]
fn tls_a_payload_that_panics_when_dropped_stops_nothing() {
    let _watchdog = watchdog();
    quiet();
    let log = Log::default();
    let inside = log.clone();
    runtime(1)
        .go(move || {
            tls::set(1, inside.value("value"));
            inside.at_exit("last", || ());
            let of_handler = inside.clone();
            inside.at_exit("bad", move || {
                std::panic::panic_any(common::Payload(Box::new(Bomb(1, of_handler))));
            });
        })
        .join()
        .unwrap();
    // What the payload's Drop throws is forgotten, and so never dropped.
    assert_eq!(log.take(), ["bad", "bomb 1", "last", "value"]);
}

#[test]
fn tls_panics_reach_the_caller_of_set_take_del_and_not_of_reset_unload() {
    let _watchdog = watchdog();
    everywhere((
        |log| {
            let bad = || log.acting("bad", || planned("a Drop"));
            let panics = |f: &dyn Fn()| catch_unwind(AssertUnwindSafe(f)).is_err();
            let good = || log.value("good");
            tls::set("k", bad());
            assert!(panics(&|| tls::set("k", good())));
            assert_eq!(at("k"), "good");
            tls::set("k", bad());
            assert!(panics(&|| assert!(tls::del("k"))));
            assert_eq!(at("k"), "nothing");
            tls::set("k", bad());
            assert!(panics(&|| drop(tls::take::<Noted>("k"))));
            assert_eq!(at("k"), "nothing");
            log.note("quiet ones");
            tls::set("j", good());
            tls::set("k", bad());
            tls::reset();
            tls::set("j", good());
            tls::set("k", bad());
            let captured = bad();
            tls::at_exit(move || drop(captured));
            tls::unload();
            log.note("end");
        },
        &["bad", "good", "bad", "bad", "quiet ones", "bad", "good", "bad", "bad", "good", "end"],
    ));
}

#[test]
fn tls_reset_and_unload_by_a_drop_during_reset() {
    let _watchdog = watchdog();
    everywhere((
        |log| {
            for (key, name) in [("a", "a"), ("b", "b"), ("c", "c")] {
                tls::set(key, log.value(name));
            }
            let inside = log.clone();
            tls::set(
                "d",
                log.acting("d", move || {
                    tls::set("new", inside.value("new"));
                    tls::set("b", inside.value("b again"));
                    inside.note("d done");
                }),
            );
            tls::reset();
            assert_eq!((at("new"), at("b"), at("a")), ("new", "b again", "nothing"));
            log.note("after reset");
            let inside = log.clone();
            tls::set(
                "e",
                log.acting("e", move || {
                    tls::unload();
                    inside.note("unloaded");
                }),
            );
            tls::reset();
            log.note("end");
        },
        &["d", "b", "d done", "c", "a", "after reset", "e", "b again", "new", "unloaded", "end"],
    ));
}

/// Registers itself anew each time it runs.
fn again(log: Log, round: usize) {
    tls::at_exit(move || {
        // In the sixteenth round nothing can be stored any more, and all the rest works.
        let refused = round == 16;
        tls::set(round, log.clone());
        assert_eq!(tls::get::<Log>(round).is_none(), refused);
        assert!(!refused || NUMBER.try_with(|_| ()).is_err());
        assert_eq!(tls::id(), coro::current().unwrap().id());
        assert_eq!(tls::scope("scoped", 1, || tls::get::<i32>("scoped").is_none()), refused);
        // Last, since a handler's panic is reported and goes no further.
        log.note(format!("handler {round}"));
        again(log, round + 1);
    });
}

/// Stores itself anew each time it is dropped.
struct Undying(Log, usize);

impl Drop for Undying {
    fn drop(&mut self) {
        self.0.note(format!("value {}", self.1));
        if self.1 < 100 {
            tls::set("undying", Undying(self.0.clone(), self.1 + 1));
        }
    }
}

#[test]
fn tls_what_is_stored_in_the_seventeenth_round_is_refused() {
    let _watchdog = watchdog();
    let log = Log::default();
    let inside = log.clone();
    runtime(2).go(move || again(inside, 0)).join().unwrap();
    assert_eq!(Arc::strong_count(&log.0), 1, "nothing is left behind");
    // Of round 0, and one each of the sixteen rounds that it starts.
    let handlers = log.take();
    assert_eq!(handlers, (0..17).map(|n| format!("handler {n}")).collect::<Vec<_>>());
    // The refused value is dropped at once, and so is what its Drop stores, and so on; the one that
    // is nested in more than sixteen is forgotten, which is why its log is not released.
    let inside = log.clone();
    runtime(2).go(move || tls::set("undying", Undying(inside, 0))).join().unwrap();
    let values = log.take();
    assert!(values.len() > 17 && values.len() < 40, "{}", values.len());
    assert_eq!(values, (0..values.len()).map(|n| format!("value {n}")).collect::<Vec<_>>());
    assert_eq!(Arc::strong_count(&log.0), 2, "exactly one is forgotten");
}

coro::local! {
    static FIRST: RefCell<Option<Noted>> = const { RefCell::new(None) };
    static SECOND: RefCell<Option<Noted>> = RefCell::new(None);
    static THIRD: RefCell<Option<Noted>> = RefCell::new(None);
    static TRACED: Traced = Traced::new();
    static NUMBER: Cell<u32> = const { Cell::new(0) };
    static TRACE: RefCell<Option<Log>> = const { RefCell::new(None) };
}

#[test]
fn tls_typed_and_keyed_values_are_dropped_newest_first() {
    let _watchdog = watchdog();
    everywhere((
        |log| {
            tls::set("a", log.value("keyed a"));
            SECOND.set(Some(log.value("typed second")));
            tls::set("b", log.value("keyed b"));
            THIRD.with_borrow_mut(|third| *third = Some(log.value("typed third")));
            FIRST.set(Some(log.value("typed first")));
            for (key, name) in (0..6).zip(["k0", "k1", "k2", "k3", "k4", "k5"]) {
                tls::set(key, log.value(name));
            }
            // A replaced value is new; one that a typed local holds is as old as the local.
            tls::set("a", log.value("keyed a again"));
            SECOND.set(Some(log.value("typed second again")));
        },
        &[
            "keyed a",
            "typed second",
            "keyed a again",
            "k5",
            "k4",
            "k3",
            "k2",
            "k1",
            "k0",
            "typed first",
            "typed third",
            "keyed b",
            "typed second again",
        ],
    ));
}

/// Made by the initialiser of a local, with a number; the first one uses its own local while it is
/// dropped.
struct Traced(Log, u32);

impl Traced {
    fn new() -> Traced {
        let number = NUMBER.replace(NUMBER.get() + 1);
        Traced(TRACE.with_borrow(|log| log.clone().unwrap()), number)
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        self.0.note(format!("traced {}", self.1));
        if self.1 == 0 {
            TRACED.with(|anew| anew.0.note(format!("made anew: {}", anew.1)));
        }
    }
}

#[test]
fn tls_a_local_that_is_used_while_it_is_dropped_is_made_anew() {
    let _watchdog = watchdog();
    everywhere((
        |log| {
            TRACE.set(Some(log.clone()));
            NUMBER.set(0);
            TRACED.with(|traced| assert_eq!(traced.1, 0));
            tls::set("newer", log.value("newer"));
            log.note("body");
        },
        &["body", "newer", "traced 0", "made anew: 1", "traced 1"],
    ));
}

#[test]
fn tls_a_key_is_dropped_once_even_if_its_value_panics() {
    /// A key that notes when it is dropped.
    struct Key(Noted);

    impl PartialEq for Key {
        fn eq(&self, other: &Key) -> bool {
            self.0.name == other.0.name
        }
    }

    impl Eq for Key {}

    impl Hash for Key {
        fn hash<H: Hasher>(&self, state: &mut H) {
            self.0.name.hash(state);
        }
    }

    let _watchdog = watchdog();
    everywhere((
        |log| {
            tls::set(Key(log.value("key a")), log.acting("value a", || planned("a value's Drop")));
            let bad_key = log.acting("key b", || planned("a key's Drop"));
            tls::set(Key(bad_key), log.value("value b"));
            tls::set(Key(log.value("key c")), log.value("value c"));
        },
        &["value c", "key c", "value b", "key b", "value a", "key a"],
    ));
}
