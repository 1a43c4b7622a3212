//! The functions of `tls` one after another, over and over, with deep recursion in between; what the
//! next owner of a stack finds there; and ids.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fmt::Debug;
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use coro::inspect::{self, ExitTarget, exit_target};
use coro::raw::State;
use coro::{JoinError, Runtime, tls};

use crate::common::{self, Counter, is_planned, on_workers, planned, quiet, runtime, watchdog};

const ROUNDS: usize = 1000;

/// Frames of [`deep`], each of more than a hundred bytes, and with AddressSanitizer of several hundred.
const DEPTH: usize = if cfg!(coro_asan) { 100 } else { 200 };

/// Runs `f` that many frames further down the stack.
fn deep<R>(levels: usize, f: impl FnOnce() -> R) -> R {
    #[inline(never)]
    fn descend(levels: usize, f: &mut dyn FnMut()) {
        let frame = black_box([levels as u8; 96]);
        if levels == 0 {
            f();
        } else {
            descend(levels - 1, f);
        }
        assert_eq!(black_box(frame)[95], levels as u8);
    }

    let (mut f, mut result) = (Some(f), None);
    descend(levels, &mut || result = f.take().map(|f| f()));
    result.expect("it was called")
}

/// What happened in one round, in order.
#[derive(Clone, Default)]
struct Log(Rc<RefCell<Vec<String>>>);

impl Log {
    fn note(&self, event: impl Into<String>) {
        self.0.borrow_mut().push(event.into());
    }

    #[track_caller]
    fn expect<const N: usize>(&self, events: [&str; N]) {
        assert_eq!(self.0.take(), events);
    }

    fn value(&self, name: &'static str) -> Noted {
        Noted(name, self.clone())
    }
}

/// A value that notes its name when it is dropped.
struct Noted(&'static str, Log);

impl Drop for Noted {
    fn drop(&mut self) {
        self.1.note(self.0);
    }
}

fn name(key: u32) -> Option<&'static str> {
    deep(DEPTH, || tls::get::<Noted>(key).map(|found| found.0))
}

/// Everything that go-tls can do, and what must come of it. Gives the two ids that were in force.
/// What it leaves behind is checked when it is dropped, which `exits` counts.
fn round(exits: &Counter) -> [tls::Id; 2] {
    let log = Log::default();
    let id = tls::id();
    assert_eq!(deep(DEPTH, tls::id), id);
    assert_eq!(exit_target(), Some(ExitTarget::Goexit));

    // Nothing is there, and looking stores nothing.
    assert_eq!(name(1), None);
    assert!(!deep(DEPTH, || tls::del(1u32)));
    assert!(tls::take::<Noted>(1u32).is_none());
    assert_eq!(exit_target(), Some(ExitTarget::Goexit));

    // Set, get, replace, delete.
    deep(DEPTH, || tls::set(1u32, log.value("one")));
    assert_eq!(exit_target(), Some(ExitTarget::Cleanup));
    assert_eq!(name(1), Some("one"));
    assert!(tls::get::<u32>(1u32).is_none(), "another type");
    assert!(tls::get::<Noted>(1u64).is_none(), "another key");
    tls::set(1u32, log.value("one again"));
    log.expect(["one"]);
    assert_eq!(name(1), Some("one again"));
    deep(DEPTH, || tls::set(1u32, 5u32));
    log.expect(["one again"]);
    assert_eq!(tls::take::<u32>(1u32), Some(5));
    tls::set(1u32, log.value("third"));
    assert!(deep(DEPTH, || tls::del(1u32)));
    assert!(!tls::del(1u32));
    log.expect(["third"]);

    // Reset: the newest goes first, the handlers stay.
    let handler = log.value("captured");
    tls::at_exit(move || handler.1.note("not to run: unloaded"));
    for (key, name) in (0..7).zip(["a", "b", "c", "d", "e", "f", "g"]) {
        deep(key * 20, || tls::set(key as u32, log.value(name)));
    }
    tls::set(2u32, log.value("c again"));
    log.expect(["c"]);
    deep(DEPTH, tls::reset);
    log.expect(["c again", "g", "f", "e", "d", "b", "a"]);
    assert!((0..7).all(|key| name(key).is_none()));
    assert_eq!(tls::id(), id, "reset keeps the id");
    assert_eq!(exit_target(), Some(ExitTarget::Cleanup), "the handler is still there");

    // Unload: all goes, the handler is not run, and the coroutine is as new.
    tls::set(1u32, log.value("one"));
    tls::set(2u32, log.value("two"));
    deep(DEPTH, tls::unload);
    log.expect(["captured", "two", "one"]);
    assert_eq!(exit_target(), Some(ExitTarget::Goexit));
    let renewed = tls::id();
    assert_ne!(renewed, id);
    assert_eq!(name(1), None);

    // And it goes on as before.
    deep(DEPTH, || tls::set(1u32, log.value("one")));
    let (first, exits) = (log.clone(), exits.clone());
    deep(DEPTH, || tls::at_exit(move || first.note("handler registered first")));
    tls::set(2u32, Last(log.clone(), exits));
    let last = log.clone();
    deep(DEPTH, || tls::at_exit(move || last.note("handler registered last")));
    assert_eq!(exit_target(), Some(ExitTarget::Cleanup));
    log.expect([]);
    [id, renewed]
}

/// Dropped first of the values that a round leaves; looks at what the handlers have done.
struct Last(Log, Counter);

impl Drop for Last {
    fn drop(&mut self) {
        self.0.expect(["handler registered last", "handler registered first"]);
        assert!(tls::get::<Noted>(1u32).is_some(), "an older value is still there");
        self.1.add();
    }
}

/// Checks that no id comes twice.
fn all_different<T: Eq + std::hash::Hash + Debug + Copy>(ids: impl IntoIterator<Item = T>) {
    let mut seen = HashSet::new();
    for id in ids {
        assert!(seen.insert(id), "{id:?} was given out twice");
    }
}

#[test]
fn tls_thousand_rounds_in_coroutines() {
    let _watchdog = watchdog();
    on_workers(|runtime, _| {
        let exits = Counter::default();
        let start = |_| {
            let exits = exits.clone();
            runtime.go(move || round(&exits))
        };
        let handles: Vec<_> = (0..ROUNDS).map(start).collect();
        all_different(handles.into_iter().flat_map(|handle| handle.join().unwrap()));
        assert_eq!(exits.get(), ROUNDS);
    });
}

#[test]
fn tls_thousand_rounds_one_after_another_on_one_stack() {
    let _watchdog = watchdog();
    let (exits, mut ids) = (Counter::default(), Vec::new());
    let mut records = HashSet::new();
    for done in 0..ROUNDS {
        let exits_inside = exits.clone();
        let coroutine =
            common::raw(256 << 10, move |_, ()| (inspect::record_address(), round(&exits_inside)))
                .unwrap();
        let State::<(), _>::Done((record, new)) = coroutine.resume(()) else { unreachable!() };
        assert_eq!(exits.get(), done + 1, "cleanup is over when resume returns");
        records.insert(record);
        ids.extend(new);
    }
    all_different(ids);
    assert!(records.len() < 50, "the stacks are reused: {}", records.len());
}

#[test]
fn tls_thousand_rounds_in_one_coroutine() {
    let _watchdog = watchdog();
    let coroutine = coroutine_of_rounds(&runtime(1));
    all_different(coroutine);
}

/// Rounds that end in `unload`, so that the next one starts with nothing.
fn coroutine_of_rounds(runtime: &Runtime) -> Vec<tls::Id> {
    let exits = Counter::default();
    let handle = runtime.go(move || {
        let mut ids = Vec::new();
        for _ in 0..ROUNDS {
            ids.push(round(&exits)[0]);
            // Not by the value's `Drop`, which would look for what the handlers have done.
            std::mem::forget(tls::take::<Last>(2u32).unwrap());
            tls::unload();
            coro::yield_now();
        }
        assert_eq!(exits.get(), 0);
        ids
    });
    handle.join().unwrap()
}

coro::local! {
    static MINE: Cell<u32> = const { Cell::new(0) };
}

/// Fails unless the running coroutine is as new.
fn assert_nothing_there() {
    assert_eq!(exit_target(), Some(ExitTarget::Goexit));
    for key in 0..10u32 {
        assert!(tls::get::<Rc<u32>>(key).is_none());
        assert!(!tls::del(key));
    }
    assert!(tls::get::<&str>("word").is_none());
    // Wrapping in `inherit` takes over what is inheritable here; there must be nothing.
    assert!(tls::inherit(|| exit_target() == Some(ExitTarget::Goexit))());
    assert_eq!(MINE.get(), 0);
    tls::unload();
    assert_eq!(exit_target(), Some(ExitTarget::Goexit));
}

/// Leaves as much as possible behind; `exits` counts what is cleaned up: thirteen things.
fn leave_traces(exits: &Counter) {
    for key in 0..10u32 {
        tls::set(key, (Rc::new(key), exits.on_drop()));
    }
    tls::set_inheritable("word", "inheritable");
    MINE.set(7);
    let (first, second) = (exits.clone(), exits.clone());
    tls::at_exit(move || first.add());
    tls::at_exit(move || second.add());
    let third = exits.on_drop();
    tls::at_exit(move || {
        let _third = third;
        planned("a handler of the former owner");
    });
    tls::set(3u32, (Rc::new(3), ())); // drops what was there
}

/// How the former owner of a stack ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Return,
    Panic,
    Cancel,
}

#[test]
fn tls_a_reused_stack_shows_nothing_of_its_former_owner() {
    let _watchdog = watchdog();
    quiet();
    let runtime = runtime(1);
    let exits = Counter::default();
    let (mut ids, mut reused, mut last) = (Vec::new(), 0, None);
    for turn in 0..900 {
        let end = [End::Return, End::Panic, End::Cancel][turn % 3];
        let exits_inside = exits.clone();
        let (send, receive) = mpsc::channel();
        let builder = coro::Builder::new().name("former");
        let owner = move || {
            let before = tls::id();
            assert_nothing_there();
            leave_traces(&exits_inside);
            let name = coro::current().unwrap().name().map(str::to_owned);
            send.send((before, tls::id(), inspect::record_address(), name)).unwrap();
            match end {
                End::Return => {}
                End::Panic => planned("the former owner"),
                End::Cancel => loop {
                    coro::park();
                },
            }
        };
        // Every other one has a name, which the next must not have.
        let named = turn % 2 == 0;
        let handle = if named {
            // Spawned on the runtime of the coroutine that calls.
            runtime.go(move || builder.spawn(owner).unwrap()).join().unwrap()
        } else {
            runtime.go(owner)
        };
        let (before, after, record, name) = receive.recv().unwrap();
        if end == End::Cancel {
            handle.cancel();
        }
        match (end, handle.join()) {
            (End::Return, Ok(())) | (End::Cancel, Err(JoinError::Cancelled)) => {}
            (End::Panic, Err(JoinError::Panicked(payload))) => {
                assert!(is_planned(&*payload, "the former owner"));
            }
            (end, outcome) => panic!("{end:?} gave {outcome:?}"),
        }
        assert_eq!(exits.get(), 13 * (turn + 1));
        assert_eq!(name.as_deref(), named.then_some("former"));
        reused += usize::from(last == record);
        last = record;
        ids.extend([before, after]);
    }
    all_different(ids);
    assert!(reused > 600, "the stack was reused only {reused} times");
}

#[test]
fn tls_a_reused_stack_shows_nothing_of_a_dropped_raw_coroutine() {
    let _watchdog = watchdog();
    quiet();
    let exits = Counter::default();
    let (mut ids, mut reused, mut last) = (Vec::new(), 0, None);
    for turn in 0..500 {
        let exits_inside = exits.clone();
        let coroutine = common::raw::<(), _, ()>(64 << 10, move |yielder, ()| {
            assert_nothing_there();
            leave_traces(&exits_inside);
            yielder.suspend((tls::id(), inspect::record_address()));
        })
        .unwrap();
        let State::Yielded((id, record)) = coroutine.resume(()) else { unreachable!() };
        assert_eq!(exits.get(), 13 * turn + 1, "one value was replaced");
        drop(coroutine);
        assert_eq!(exits.get(), 13 * (turn + 1));
        reused += usize::from(last == record);
        last = record;
        ids.push(id);
    }
    all_different(ids);
    assert!(reused > 400, "the stack was reused only {reused} times");
}

#[test]
fn tls_ids_are_never_zero_and_never_given_twice() {
    let _watchdog = watchdog();
    const EACH: usize = 3000; // more than a thread reserves at a time
    on_workers(|runtime, _| {
        let next = Arc::new(AtomicUsize::new(0));
        let mut ids: Vec<u64> = Vec::new();
        let coroutines: Vec<_> = (0..EACH)
            .map(|_| {
                runtime.go(|| {
                    let first = tls::id();
                    tls::unload();
                    let second = tls::id();
                    assert_eq!(coro::current().unwrap().id(), first, "the one it started with");
                    let child = coro::go(tls::id);
                    let named = child.id();
                    assert_eq!(child.join().unwrap(), named);
                    [first, second, tls::id(), named]
                })
            })
            .collect();
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let next = Arc::clone(&next);
                thread::spawn(move || {
                    let mut ids = vec![tls::id(), tls::id()];
                    while next.fetch_add(1, Ordering::Relaxed) < EACH {
                        tls::unload();
                        ids.push(tls::id());
                        let raw = common::raw::<(), (), _>(16 << 10, |_, ()| tls::id());
                        let State::Done(id) = raw.unwrap().resume(()) else { unreachable!() };
                        ids.push(id);
                    }
                    ids
                })
            })
            .collect();
        for thread in threads {
            let of_thread = thread.join().unwrap();
            assert_eq!(of_thread[0], of_thread[1], "it stays until unload");
            ids.extend(of_thread[1..].iter().map(|id| id.get()));
        }
        for coroutine in coroutines {
            let id = coroutine.id();
            let [first, second, third, child] = coroutine.join().unwrap();
            assert_eq!((id, second), (first, third));
            ids.extend([first.get(), second.get(), child.get()]);
        }
        ids.push(tls::id().get());
        assert!(!ids.contains(&0));
        assert!(ids.len() > 5 * EACH);
        all_different(ids);
    });
}

#[test]
fn tls_ids_of_threads_stay_and_change_with_unload() {
    let _watchdog = watchdog();
    let id = tls::id();
    tls::set(1, 1);
    tls::reset();
    assert_eq!(tls::id(), id);
    assert!(catch_unwind(AssertUnwindSafe(|| std::panic::resume_unwind(Box::new(())))).is_err());
    assert_eq!(tls::id(), id);
    tls::unload();
    assert_ne!(tls::id(), id);
    assert_eq!(tls::id().to_string(), tls::id().get().to_string());
    assert_eq!(format!("{:?}", tls::id()), format!("Id({})", tls::id()));
    assert!(id < tls::id(), "ids of one thread grow");
}

#[test]
fn tls_id_at_follows_unload() {
    let _watchdog = watchdog();
    let (address, first, second) = runtime(1)
        .go(|| {
            let here = &raw const *black_box(&0u8) as usize;
            let sp = inspect::stack_bounds().unwrap().end - 1;
            assert!(inspect::id_at(here).is_none(), "a constant is on no stack");
            let first = tls::id();
            assert_eq!(inspect::id_at(sp), Some(first));
            tls::unload();
            assert_eq!(inspect::id_at(sp), Some(tls::id()));
            (sp, first, tls::id())
        })
        .join()
        .unwrap();
    assert_ne!(first, second);
    assert_eq!(inspect::id_at(address), Some(second), "the last one that was there");
}

/// What a scope that is inherited covers comes back as it was, private or inheritable, whatever
/// happens inside; and heirs see what is there at their time (CASES 32).
#[test]
fn tls_scope_inheritable_restores_whatever_happens() {
    let _watchdog = watchdog();
    quiet();
    fn here() -> Option<u32> {
        tls::get::<u32>("key").map(|value| *value)
    }
    fn inherited() -> Option<u32> {
        thread::spawn(tls::inherit(here)).join().unwrap()
    }
    let acts: [fn(); 8] = [
        || (),
        || tls::set("key", 30u32),
        || tls::set_inheritable("key", 31u32),
        || assert!(tls::del("key")),
        || assert_eq!(tls::take::<u32>("key"), Some(10)),
        tls::reset,
        tls::unload,
        || planned("in the scope"),
    ];
    let before: [fn(); 3] = [|| (), || tls::set("key", 1u32), || tls::set_inheritable("key", 2u32)];
    on_workers(|runtime, _| {
        for (before, act) in before.iter().flat_map(|before| acts.map(|act| (*before, act))) {
            let rounds = runtime.go(move || {
                before();
                let then = (here(), inherited());
                let outcome = catch_unwind(|| {
                    tls::scope_inheritable("key", 10u32, || {
                        assert_eq!((here(), inherited()), (Some(10), Some(10)));
                        tls::scope("key", 20u32, || {
                            assert_eq!((here(), inherited()), (Some(20), None));
                            tls::scope_inheritable("key", 21u32, || {
                                assert_eq!(inherited(), Some(21));
                            });
                        });
                        assert_eq!((here(), inherited()), (Some(10), Some(10)));
                        assert_eq!(
                            coro::go(here).join().unwrap(),
                            None,
                            "plain go inherits nothing"
                        );
                        act();
                    });
                });
                if let Err(payload) = outcome {
                    assert!(is_planned(&*payload, "in the scope"));
                }
                assert_eq!((here(), inherited()), then);
            });
            rounds.join().unwrap();
        }
    });
}
