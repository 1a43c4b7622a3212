//! Memory that runs out: the n-th allocation fails, for every n, alone and with all that come after.
//! What comes of it is a result, an error, or an abort with a message; never a crash, a hang, or a
//! wrong result.
//!
//! Each n is a child of its own. The allocator fails only between [`arm`] and the end of the case, so
//! the test harness is spared.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::io;
use std::process::Output;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use coro::inspect::CoroutineState;
use coro::raw::State;
use coro::{Builder, JoinError, Runtime, inspect, tls};

/// How many allocations have been asked for since [`arm`]. Before that it is far from any n.
static ASKED: AtomicUsize = AtomicUsize::new(FAR);
/// The first that fails, and one past the last.
static FIRST: AtomicUsize = AtomicUsize::new(usize::MAX);
static END: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Counting from here no failure is ever met.
const FAR: usize = usize::MAX / 2;

thread_local! {
    /// How many allocations of this thread do not fail. Without a destructor, so it is there for whoever allocates.
    static LEFT: Cell<usize> = const { Cell::new(usize::MAX) };
}

struct Failing;

#[global_allocator]
static FAILING: Failing = Failing;

impl Failing {
    fn fails() -> bool {
        let n = ASKED.fetch_add(1, Ordering::Relaxed);
        let meant =
            n < FAR && n >= FIRST.load(Ordering::Relaxed) && n < END.load(Ordering::Relaxed);
        let left = LEFT.get();
        if left < usize::MAX {
            LEFT.set(left.saturating_sub(1));
        }
        meant || left == 0
    }
}

// SAFETY: it is the system's allocator, or null, which an allocator may answer.
unsafe impl GlobalAlloc for Failing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's word.
        if Self::fails() { ptr::null_mut() } else { unsafe { System.alloc(layout) } }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's word.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's word.
        if Self::fails() { ptr::null_mut() } else { unsafe { System.realloc(block, layout, size) } }
    }
}

/// Starts the count.
fn arm(first: usize, end: usize) {
    FIRST.store(first, Ordering::Relaxed);
    END.store(end, Ordering::Relaxed);
    ASKED.store(0, Ordering::Relaxed);
}

/// Ends it, and tells how many allocations there were.
fn disarm() -> usize {
    ASKED.swap(FAR, Ordering::Relaxed)
}

/// A runtime that is made, works, and is shut down.
fn run_runtime() -> io::Result<()> {
    let runtime = Runtime::builder().workers(2).build()?;
    run_tasks(&runtime)?;
    runtime.shutdown();
    Ok(())
}

/// Spawning, storing, handlers, timers, joining and cancelling.
fn run_tasks(runtime: &Runtime) -> io::Result<()> {
    let handles: Vec<_> = (0..3u32)
        .map(|i| {
            runtime.go(move || {
                for key in 0..8u32 {
                    tls::set(key, key + i);
                }
                tls::at_exit(|| tls::set("late", 1));
                tls::set_inheritable("heirloom", i);
                let heir = coro::go(tls::inherit(|| *tls::get::<u32>("heirloom").unwrap()));
                coro::sleep(Duration::from_micros(10));
                let named = Builder::new().name("named").stack_size(32 << 10).spawn(move || i)?;
                let scoped = tls::scope("key", i, || *tls::get::<u32>("key").unwrap());
                let inner = heir.join().unwrap() + named.join().unwrap() + scoped;
                io::Result::Ok(inner + *tls::get::<u32>(7u32).unwrap())
            })
        })
        .collect();
    for (i, handle) in (0..).zip(handles) {
        assert_eq!(handle.join().unwrap()?, 4 * i + 7, "a failure may not give a wrong result");
    }
    let sleeper = runtime.go(|| coro::sleep(Duration::MAX));
    sleeper.cancel();
    assert!(matches!(sleeper.join(), Err(JoinError::Cancelled)));
    Ok(())
}

/// A raw coroutine, on a thread that stores something itself.
fn run_by_hand() -> io::Result<()> {
    tls::set("thread", 1);
    let raw_coroutine = common::raw(64 << 10, |yielder, first: u32| {
        tls::set("key", first);
        tls::at_exit(|| ());
        let second = yielder.suspend(first + 1);
        *tls::get::<u32>("key").unwrap() + second
    })?;
    assert_eq!(raw_coroutine.resume(5), State::Yielded(6));
    assert_eq!(raw_coroutine.resume(7), State::Done(12));
    assert!(tls::del("thread"));
    Ok(())
}

/// A panic, whose report and payload need memory as well.
fn run_panic() -> io::Result<()> {
    let runtime = Runtime::builder().workers(1).build()?;
    let panicked = runtime.go(|| {
        tls::at_exit(|| common::planned("in a handler"));
        common::planned("in a coroutine");
    });
    match panicked.join() {
        Err(JoinError::Panicked(payload)) => {
            assert!(common::is_planned(&*payload, "in a coroutine"));
        }
        other => panic!("{other:?}"),
    }
    Ok(())
}

/// A child without `CORO_CHECK`, whose start takes 100,000 allocations.
fn unchecked_child(test: &str, case: &str) -> Output {
    common::child_command(test, case).env_remove("CORO_CHECK").output().unwrap()
}

/// Runs `case` as a child for each n, until there is no n-th allocation.
fn for_every_allocation(test: &str, case: fn() -> io::Result<()>) {
    let _watchdog = common::watchdog();
    if let Some(range) = common::child_case() {
        let (first, end) = range.split_once("..").unwrap();
        common::quiet();
        arm(first.parse().unwrap(), end.parse().unwrap());
        let result = case();
        let asked = disarm();
        println!("{}, {asked} allocations", if result.is_ok() { "finished" } else { "refused" });
        return;
    }
    let count = |output: &std::process::Output| -> Option<usize> {
        let stdout = common::stdout(output);
        stdout.split(" allocations").next()?.rsplit(' ').next()?.parse().ok()
    };
    let never = unchecked_child(test, &format!("{0}..{0}", usize::MAX));
    assert!(never.status.success(), "{}", common::stderr(&never));
    let total = count(&never).expect("it says how many");
    assert!(total > 3, "only {total} allocations are no test");

    let (mut finished, mut aborted) = (0, 0);
    for n in 0..total {
        for end in [n + 1, usize::MAX] {
            let output = unchecked_child(test, &format!("{n}..{end}"));
            let stderr = common::stderr(&output);
            match (output.status.code(), common::signal(&output)) {
                // It came through, or was told so in an `io::Error`, or the count was lower.
                (Some(0), _) => finished += 1,
                (_, Some(libc::SIGABRT)) => {
                    assert!(stderr.contains("memory allocation of"), "{n}..{end}: {stderr}");
                    aborted += 1;
                }
                _ => panic!("{n}..{end}: {} {stderr}", output.status),
            }
        }
    }
    // Most of what the allocator refuses cannot be done without.
    assert!(aborted > finished, "{aborted} aborted, {finished} finished");
}

#[test]
fn fault_allocation_fails_while_a_runtime_lives() {
    for_every_allocation("fault_allocation_fails_while_a_runtime_lives", run_runtime);
}

#[test]
fn fault_allocation_fails_in_a_coroutine_made_by_hand() {
    for_every_allocation("fault_allocation_fails_in_a_coroutine_made_by_hand", run_by_hand);
}

#[test]
fn fault_allocation_fails_in_a_panic() {
    for_every_allocation("fault_allocation_fails_in_a_panic", run_panic);
}

/// The report of an overflow has its line on the signal stack: it may interrupt the allocator itself.
#[test]
fn fault_overflow_report_allocates_nothing() {
    const NAME: &str = "fault_overflow_report_allocates_nothing";
    fn overflow(depth: u64) -> u64 {
        let frame = black_box([depth; 64]);
        if depth == u64::MAX { 0 } else { overflow(depth + 1) + black_box(&frame)[3] }
    }
    let _watchdog = common::watchdog();
    if common::is_child("overflow") {
        let task = Builder::new().name("no memory").spawn(|| {
            LEFT.set(0);
            overflow(0)
        });
        drop(task.unwrap().join());
    }
    let output = common::child(NAME, "overflow");
    assert_eq!(common::signal(&output), Some(libc::SIGABRT), "{output:?}");
    let stderr = common::stderr(&output);
    assert!(stderr.ends_with(" 'no memory' overflowed its stack (256 KiB)\n"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

/// A worker that is refused memory lists fewer coroutines, and the dump counts the others. The worker goes on.
#[test]
fn fault_allocation_fails_on_a_worker_during_a_dump() {
    const COUNT: usize = 20;
    fn parks(depth: usize) {
        match depth {
            0 => coro::park(),
            _ => parks(depth - 1),
        }
        black_box(depth);
    }
    common::in_child(
        "fault_allocation_fails_on_a_worker_during_a_dump",
        common::CHILDS_LIMIT,
        || {
            let runtime = common::runtime(1);
            let start = |n: usize| {
                let body = move || {
                    inspect::label("number", n);
                    parks(n);
                };
                Builder::new().name(format!("number {n}")).spawn_on(&runtime, body).unwrap()
            };
            let coroutines: Vec<_> = (0..COUNT).map(start).collect();
            while inspect::dump().in_state(CoroutineState::Parked).len() < COUNT {}
            let mut worst = 0;
            for allowed in 0.. {
                runtime.go(move || LEFT.set(allowed)).join().unwrap();
                let dump = inspect::dump();
                runtime.go(|| LEFT.set(usize::MAX)).join().unwrap();
                let unlisted = dump.unlisted();
                assert_eq!(dump.len() + unlisted, COUNT, "{allowed}: {dump}");
                if unlisted == 0 {
                    break;
                }
                worst = worst.max(unlisted);
                let remark = format!("coro: there was no memory to list {unlisted} coroutines\n");
                assert!(dump.to_string().contains(&remark), "{allowed}: {dump}");
                for one in dump.coroutines() {
                    let number =
                        coroutines.binary_search_by_key(&one.id(), |one| one.id()).unwrap();
                    assert_eq!(one.name(), Some(&*format!("number {number}")));
                    assert_eq!(one.labels().next(), Some(("number", &*number.to_string())));
                }
            }
            assert_eq!(worst, COUNT);
            coroutines.iter().for_each(|one| one.handle().unpark());
            coroutines.into_iter().for_each(|one| one.join().unwrap());
        },
    );
}
