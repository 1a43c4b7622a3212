//! Many coroutines with a slot each: the load of mgkanani/gls, whose full size `examples/gls.rs` runs;
//! and what jtolds/gls and v2pro/plz/gls do: scoped values and inheritance.

use std::alloc::{GlobalAlloc, Layout, System};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use coro::{Runtime, tls};

use crate::common::{
    self, Counter, child, is_child, occupy, on_workers, planned, quiet, runtime, watchdog,
};

/// Coroutines a round, and rounds of each kind.
const COROUTINES: usize = if cfg!(debug_assertions) { 10_000 } else { 100_000 };
const ROUNDS: usize = 3;

/// How a round treats its slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Kept,
    Deleted,
    /// With values that count their drops, and a handler.
    Counted,
}

/// Of the 40 operations, these store.
const STORES: usize = 10;

/// Does the 40 operations on the running coroutine's slot; every seventh coroutine lets others go
/// first in the middle of them.
fn operations<V: 'static>(turn: usize, make: impl Fn(u32) -> V, number: fn(&V) -> u32) {
    for i in 4..44u32 {
        if i % 4 == 0 {
            tls::set("slot", make(i));
        } else {
            let found = number(&tls::get::<V>("slot").expect("it was stored"));
            assert!(found < i && found >= i - 3, "{found} is not ours at {i}");
        }
        if turn.is_multiple_of(7) && i % 9 == 0 {
            coro::yield_now();
        }
    }
}

fn round(runtime: &Runtime, kind: Kind) {
    let (drops, handlers) = (Counter::default(), Counter::default());
    let start = |turn| {
        let (drops, handlers) = (drops.clone(), handlers.clone());
        runtime.go(move || {
            assert!(!tls::del("slot"), "somebody else's");
            if kind == Kind::Counted {
                let make = |number| (number, drops.on_drop());
                tls::at_exit(move || {
                    let last = tls::get::<(u32, common::OnDrop)>("slot").expect("it is kept");
                    assert_eq!(last.0, 40);
                    handlers.add();
                });
                operations(turn, make, |value| value.0);
            } else {
                operations(turn, |number| number, |number| *number);
            }
            if kind == Kind::Deleted {
                assert!(tls::del("slot"));
                assert!(tls::get::<u32>("slot").is_none());
            }
        })
    };
    let all: Vec<_> = (0..COROUTINES).map(start).collect();
    all.into_iter().for_each(|handle| handle.join().unwrap());
    let expected = if kind == Kind::Counted { COROUTINES } else { 0 };
    assert_eq!((drops.get(), handlers.get()), (STORES * expected, expected));
}

/// How many bytes are allocated, and in how many blocks.
static BYTES: AtomicUsize = AtomicUsize::new(0);
static BLOCKS: AtomicUsize = AtomicUsize::new(0);

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: it is the system's allocator, and counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        BLOCKS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's word.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        BLOCKS.fetch_sub(1, Ordering::Relaxed);
        // SAFETY: the caller's word.
        unsafe { System.dealloc(block, layout) }
    }
}

/// What is allocated: what the process has resident besides is the system allocator's stock, and stacks.
fn allocated() -> (usize, usize) {
    (BYTES.load(Ordering::Relaxed), BLOCKS.load(Ordering::Relaxed))
}

#[test]
fn tls_slots_never_cross_and_memory_stays_flat() {
    let _watchdog = watchdog();
    const CASE: &str = "load";
    if !is_child(CASE) {
        // In a process of its own, whose memory nobody else uses.
        let output = child("tls_slots_never_cross_and_memory_stays_flat", CASE);
        assert!(output.status.success(), "{output:?}");
        return;
    }
    for workers in [1, 2] {
        let runtime = runtime(workers);
        for kind in [Kind::Kept, Kind::Deleted, Kind::Counted] {
            round(&runtime, kind);
            let (bytes, blocks) = allocated();
            (0..ROUNDS).for_each(|_| round(&runtime, kind));
            let (bytes_now, blocks_now) = allocated();
            let grown = bytes_now.saturating_sub(bytes);
            let more = blocks_now.saturating_sub(blocks);
            // To lose a word, or a block, of each coroutine would be more. What a queue has grown by stays.
            let flat = grown < COROUTINES * ROUNDS * 8 && more < COROUTINES * ROUNDS / 10;
            assert!(flat, "{kind:?}, {workers} workers: {grown} bytes and {more} blocks more");
        }
    }
}

fn value(key: &'static str) -> Option<usize> {
    tls::get::<usize>(key).map(|value| *value)
}

/// Opens scopes one in the other, and looks at every level on the way in and on the way out.
fn nest(level: usize, deepest: usize, before: Option<usize>) {
    assert_eq!(value("level"), before);
    tls::scope("level", level, || {
        assert_eq!(value("level"), Some(level));
        coro::yield_now();
        match level % 4 {
            0 => tls::set("level", level + 1000),
            1 => assert!(tls::del("level")),
            2 => tls::reset(),
            _ => {}
        }
        let inside = match level % 4 {
            0 => Some(level + 1000),
            1 | 2 => None,
            _ => Some(level),
        };
        if level < deepest {
            nest(level + 1, deepest, inside);
        }
        assert_eq!(value("level"), inside);
    });
    assert_eq!(value("level"), before);
}

#[test]
fn tls_scopes_nest_and_restore() {
    let _watchdog = watchdog();
    on_workers(|runtime, _| {
        let start = |turn: usize| {
            runtime.go(move || {
                if turn.is_multiple_of(2) {
                    tls::set("level", turn + 5000);
                }
                nest(0, 50, value("level"));
                let outcome = catch_unwind(AssertUnwindSafe(|| {
                    tls::scope("level", 1usize, || {
                        tls::scope("other", 2usize, || {
                            assert_eq!((value("level"), value("other")), (Some(1), Some(2)));
                            coro::yield_now();
                            std::panic::resume_unwind(Box::new("out of both"));
                        })
                    })
                }));
                assert!(outcome.is_err());
                let before = turn.is_multiple_of(2).then_some(turn + 5000);
                assert_eq!((value("level"), value("other")), (before, None));
            })
        };
        let all: Vec<_> = (0..50).map(start).collect();
        all.into_iter().for_each(|handle| handle.join().unwrap());
    });
}

#[test]
fn tls_a_plain_go_inherits_nothing_and_an_heir_a_snapshot() {
    let _watchdog = watchdog();
    on_workers(|runtime, workers| {
        let busy = occupy(runtime, workers);
        tls::set_inheritable("a", 1usize);
        tls::set_inheritable("b", 2usize);
        tls::set_inheritable("c", 3usize);
        tls::set("private", 4usize);
        tls::at_exit(|| ());
        let look = || ["a", "b", "c", "private"].map(value);
        let (plain, heir) = (runtime.go(look), runtime.go(tls::inherit(look)));
        // All this is too late for the heir, which has not even started.
        tls::set_inheritable("a", 10usize);
        tls::del("b");
        tls::set("c", 30usize);
        let second = runtime.go(tls::inherit(look));
        let third = tls::scope("a", 100usize, || runtime.go(tls::inherit(look)));
        drop(busy);
        assert_eq!(plain.join().unwrap(), [None; 4]);
        assert_eq!(heir.join().unwrap(), [Some(1), Some(2), Some(3), None]);
        assert_eq!(second.join().unwrap(), [Some(10), None, None, None], "c is private again");
        assert_eq!(third.join().unwrap(), [None; 4], "a scope hides what is inheritable");
        assert_eq!(look(), [Some(10), None, Some(30), Some(4)]);
        tls::unload();
    });
}

/// What an heir does with its copies is its own business.
#[test]
fn tls_heirs_have_copies_of_their_own() {
    let _watchdog = watchdog();
    on_workers(|runtime, _| {
        tls::set_inheritable("counter", 0usize);
        let work = |by: usize| {
            tls::inherit(move || {
                for _ in 0..20 {
                    let now = *tls::get::<usize>("counter").unwrap();
                    coro::yield_now();
                    tls::set("counter", now + by);
                }
                value("counter")
            })
        };
        let heirs: Vec<_> = (0..50).map(|by| runtime.go(work(by))).collect();
        for (by, heir) in heirs.into_iter().enumerate() {
            assert_eq!(heir.join().unwrap(), Some(20 * by));
        }
        assert_eq!(thread::spawn(work(3)).join().unwrap(), Some(60));
        assert_eq!(value("counter"), Some(0));
        tls::unload();
    });
}

/// Ten generations, each of which adds a value, and two children each.
#[test]
fn tls_values_are_handed_down_through_generations() {
    fn generation(age: usize) -> usize {
        for older in 0..10 {
            let expected = (older < age).then_some(older * 7);
            assert_eq!(tls::get::<usize>(older).map(|value| *value), expected);
        }
        if age == 10 {
            return 1;
        }
        tls::set_inheritable(age, age * 7);
        let children = [(); 2].map(|()| coro::go(tls::inherit(move || generation(age + 1))));
        let stranger = coro::go(|| (0..10usize).all(|key| tls::get::<usize>(key).is_none()));
        assert!(stranger.join().unwrap());
        children.into_iter().map(|child| child.join().unwrap()).sum()
    }

    let _watchdog = watchdog();
    on_workers(|runtime, _| {
        assert_eq!(runtime.go(|| generation(0)).join().unwrap(), 1 << 10);
    });
}

/// Counts how often it is cloned, and how often it is dropped.
struct Counted {
    clones: Arc<AtomicUsize>,
    drops: Counter,
}

impl Clone for Counted {
    fn clone(&self) -> Counted {
        self.clones.fetch_add(1, Ordering::Relaxed);
        Counted { clones: Arc::clone(&self.clones), drops: self.drops.clone() }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.drops.add();
    }
}

#[test]
fn tls_each_heirloom_is_cloned_once_and_dropped_once() {
    let _watchdog = watchdog();
    quiet();
    const HEIRS: usize = 100;
    const VALUES: usize = 8;
    on_workers(|runtime, _| {
        let counted = Counted { clones: Arc::default(), drops: Counter::default() };
        let (clones, drops) = (Arc::clone(&counted.clones), counted.drops.clone());
        let parent = runtime.go(move || {
            for key in 0..VALUES {
                let (clones, drops) = (Arc::clone(&counted.clones), counted.drops.clone());
                tls::set_inheritable(key, Counted { clones, drops });
            }
            let heirs: Vec<_> = (0..HEIRS)
                .map(|turn| {
                    let body = tls::inherit(move || {
                        assert!((0..VALUES).all(|key| tls::get::<Counted>(key).is_some()));
                        if turn % 3 == 1 {
                            planned("an heir");
                        }
                    });
                    // Every third is not even called.
                    if turn % 3 == 0 { Err(body) } else { Ok(coro::go(body)) }
                })
                .collect();
            heirs.into_iter().flatten().map(|heir| heir.join().is_ok()).collect()
        });
        let finished: Vec<bool> = parent.join().unwrap();
        assert_eq!(finished.iter().filter(|&&fine| fine).count(), 33);
        assert_eq!(finished.len(), 66);
        assert_eq!(clones.load(Ordering::Relaxed), HEIRS * VALUES);
        // The clones, the originals, and the one that they were made from.
        assert_eq!(drops.get(), HEIRS * VALUES + VALUES + 1);
    });
}

#[test]
fn tls_an_heir_may_borrow() {
    let _watchdog = watchdog();
    let word = String::from("borrowed");
    tls::set_inheritable("length", word.len());
    let fits = coro::scope(|scope| {
        let heir = scope.go(tls::inherit(|| value("length") == Some(word.len())));
        let stranger = scope.go(|| value("length").is_none() && !word.is_empty());
        heir.join().unwrap() && stranger.join().unwrap()
    });
    assert!(fits);
    assert!(tls::inherit(|| word.len() == 8)());
    tls::unload();
}
