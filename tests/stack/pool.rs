//! Many stacks: how many mappings and how much memory they take, and that both come back.
//!
//! Each test runs in a process of its own, because it looks at the whole process.

#[path = "../common/memory.rs"]
mod memory;

use std::ops::Range;
use std::time::Duration;

use coro::inspect::{self, metrics};
use coro::raw::State;
use coro::{JoinHandle, Runtime};

use crate::common::{self, in_child, watchdog_for};
use memory::{Stacks, markers_work, mprotect_forced};

/// A great many coroutines, and AddressSanitizer takes its time for each.
const LIMIT: Duration = Duration::from_secs(300);

/// The size of a stack that has not been asked for another, with its guard.
const SLOT: usize = 256 << 10;

/// Idle stacks on the shelf that keep their pages, and those that a worker keeps to itself. Both move by 64.
const WARM: usize = 8192 + 64;
const WARM_OF_A_WORKER: usize = 1024 + 64;

/// How many mappings there are in all, and how many of them meet `range`.
fn count_mappings(range: Range<usize>) -> (usize, usize) {
    let all = memory::mappings("maps");
    let met =
        all.iter().filter(|(mapping, _)| mapping.start < range.end && range.start < mapping.end);
    (all.len(), met.count())
}

/// Starts `count` coroutines that note their stacks, and waits until all of them are parked.
fn park_many(runtime: &Runtime, count: usize, stacks: &'static Stacks) -> Vec<JoinHandle<()>> {
    let before = metrics().parked;
    let park = || {
        stacks.note_mine();
        coro::park();
    };
    let parked: Vec<_> = (0..count).map(|_| runtime.go(park)).collect();
    while metrics().parked < before + count as u64 {
        std::thread::yield_now();
    }
    parked
}

fn end_all(parked: Vec<JoinHandle<()>>) {
    for handle in &parked {
        handle.handle().unpark();
    }
    for handle in parked {
        handle.join().unwrap();
    }
}

#[test]
fn stack_200_000_parked_coroutines_take_fewer_than_ten_mappings() {
    in_child("stack_200_000_parked_coroutines_take_fewer_than_ten_mappings", LIMIT, || {
        const COUNT: usize = 200_000;
        static STACKS: Stacks = Stacks::new();
        // Guards by `mprotect` are mappings of their own: the kernel allows some 30,000.
        if !markers_work() {
            return;
        }
        let runtime = common::runtime(2);
        let (before, _) = count_mappings(0..0);
        let parked = park_many(&runtime, COUNT, &STACKS);
        let stacks = STACKS.extent();
        let (after, with_stacks) = count_mappings(stacks.clone());
        assert!(with_stacks < 10, "{with_stacks} mappings at {stacks:x?}");
        assert!(stacks.len() >= COUNT * SLOT && metrics().stacks_in_use >= COUNT as u64);
        // The others are the allocator's and the threads'. None of them is for one coroutine, or for ten.
        let elsewhere = (after - with_stacks).saturating_sub(before);
        assert!(elsewhere < COUNT / 100, "{elsewhere} mappings more, outside of {stacks:x?}");
        end_all(parked);
    });
}

#[test]
fn stack_2_000_coroutines_in_turn_touch_a_handful_of_stacks() {
    in_child("stack_2_000_coroutines_in_turn_touch_a_handful_of_stacks", LIMIT, || {
        for workers in common::WORKERS {
            let runtime = common::runtime(workers);
            let stacks = || metrics().stacks_in_use + metrics().stacks_pooled;
            let before = stacks();
            for number in 0..2000 {
                assert_eq!(runtime.go(move || number).join().unwrap(), number);
            }
            let grown = stacks() - before;
            assert!(grown <= 4 * workers as u64, "{workers} workers: {grown} stacks");
        }
        // Raw ones likewise.
        let before = metrics().stacks_pooled + metrics().stacks_in_use;
        for number in 0..2000 {
            let mut coroutine = common::raw(1 << 20, |_: &coro::raw::Yielder<_, ()>, n| n);
            let state = coroutine.as_mut().unwrap().resume(number);
            assert_eq!(state, State::Done(number));
        }
        let grown = metrics().stacks_pooled + metrics().stacks_in_use - before;
        assert!(grown <= 2, "{grown} stacks of raw coroutines");
    });
}

/// Fresh coroutines need no stack, however many they are.
#[test]
fn stack_fresh_coroutines_have_none() {
    in_child("stack_fresh_coroutines_have_none", LIMIT, || {
        let runtime = common::runtime(1);
        let (release, blocked) = std::sync::mpsc::channel::<()>();
        let (up, ready) = std::sync::mpsc::channel();
        let blocker = runtime.go(move || {
            up.send(()).unwrap();
            blocked.recv().unwrap();
        });
        ready.recv().unwrap();
        let before = metrics();
        let fresh: Vec<_> = (0..100_000).map(|_| runtime.go(|| ())).collect();
        let now = metrics();
        assert_eq!(now.fresh - before.fresh, 100_000);
        assert_eq!(now.stacks_in_use, before.stacks_in_use);
        release.send(()).unwrap();
        blocker.join().unwrap();
        fresh.into_iter().for_each(|handle| handle.join().unwrap());
        let after = metrics();
        let stacks = after.stacks_in_use + after.stacks_pooled;
        assert!(stacks <= 4, "{stacks} stacks for 100,000 short coroutines, one after another");
    });
}

/// The stacks are looked at one by one: what else of the process is resident is not the stacks' doing.
#[test]
fn stack_residence_falls_after_a_burst_of_100_000() {
    in_child("stack_residence_falls_after_a_burst_of_100_000", LIMIT, || {
        const WORKERS: usize = 2;
        static STACKS: Stacks = Stacks::new();
        // Guards by `mprotect`: some 30,000 at most, see above.
        let count = if markers_work() { 100_000 } else { 20_000 };
        let runtime = common::runtime(WORKERS);
        for _ in 0..3 {
            let parked = park_many(&runtime, count, &STACKS);
            // A page for each at least: the test would measure nothing otherwise.
            assert!(STACKS.with_pages() >= count);
            end_all(parked);
            assert_eq!(metrics().live, 0);
            let kept = STACKS.with_pages();
            let most = WARM + WORKERS * WARM_OF_A_WORKER;
            assert!(kept <= most, "{kept} stacks keep their pages after {count} coroutines");
        }
        // A coroutine is joined a moment before its stack is idle; a worker that has ended is not.
        runtime.shutdown();
        let metrics = metrics();
        assert!(metrics.stacks_pooled >= count as u64 && metrics.stacks_in_use == 0, "{metrics:?}");
        assert_eq!(metrics.stacks_pooled_bytes, metrics.stacks_pooled * SLOT as u64);
        // A worker takes 64 cold ones at a time, and may have used one of them.
        let (counted, found) = (metrics.stacks_resident_bytes / 4096, STACKS.with_pages() as u64);
        let taken_unused = counted.checked_sub(found).expect("a stack with pages is not cold");
        assert!(taken_unused <= WORKERS as u64 * 63, "{counted} and not {found} keep their pages");
    });
}

/// A stack that was deep gives back what it touched, once enough others are idle.
#[test]
fn stack_pages_of_large_idle_stacks_go_back() {
    in_child("stack_pages_of_large_idle_stacks_go_back", LIMIT, || {
        const SIZE: usize = 64 << 20;
        static STACKS: Stacks = Stacks::new();
        // 64 stacks of 64 MiB, with a page touched in each MiB.
        let mut coroutines: Vec<_> = (0..64)
            .map(|_| {
                let coroutine = common::raw::<(), (), ()>(SIZE, |yielder, ()| {
                    STACKS.note_mine();
                    let bounds = inspect::stack_bounds().unwrap();
                    for page in (bounds.start..bounds.end - (1 << 20)).step_by(1 << 20) {
                        // SAFETY: our own stack, far below the stack pointer.
                        unsafe { (page as *mut u8).write_volatile(1) };
                    }
                    yielder.suspend(());
                })
                .unwrap();
                coroutine.resume(());
                coroutine
            })
            .collect();
        assert_eq!(STACKS.with_pages(), 64);
        for coroutine in &mut coroutines {
            coroutine.resume(());
        }
        drop(coroutines);
        let kept = STACKS.with_pages();
        // The limit for this size is 16 warm stacks.
        assert!(kept <= 16, "{kept} keep their pages");
    });
}

#[test]
fn stack_locked_memory_falls_back_to_mprotect() {
    in_child("stack_locked_memory_falls_back_to_mprotect", LIMIT, || {
        static STACKS: Stacks = Stacks::new();
        let limit = libc::rlimit { rlim_cur: 256 << 20, rlim_max: 256 << 20 };
        let runtime = common::runtime(1);
        let guards = || {
            let task = runtime.go(|| {
                let bounds = inspect::stack_bounds().unwrap();
                (bounds.start & !((256 << 10) - 1), bounds.start)
            });
            let coroutine = common::raw::<(), _, ()>(1 << 20, |yielder, ()| {
                let limit = inspect::stack_bounds().unwrap().start;
                yielder.suspend((limit & !((1 << 20) - 1), limit));
            })
            .unwrap();
            let State::Yielded(raw_coroutine) = coroutine.resume(()) else { unreachable!() };
            for (start, limit) in [task.join().unwrap(), raw_coroutine] {
                for page in (start..limit).step_by(4096) {
                    assert!(!is_writable(page), "{page:#x}");
                }
                assert!(is_writable(limit));
            }
            coroutine
        };
        let unlocked = guards();
        // SAFETY: changes this process alone.
        let locked = unsafe {
            libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit);
            libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE)
        };
        if locked != 0 {
            let error = std::io::Error::last_os_error();
            eprintln!("stack_locked_memory_falls_back_to_mprotect: skipped, mlockall: {error}");
            return;
        }
        // More than were made ready before, so fresh ones are needed, with the memory locked.
        let locked: Vec<_> = (0..40).map(|_| guards()).collect();
        let parked = park_many(&runtime, 100, &STACKS);
        end_all(parked);
        // SAFETY: changes this process alone.
        unsafe { libc::munlockall() };
        let again: Vec<_> = (0..100).map(|_| guards()).collect();
        drop((unlocked, locked, again));
    });
}

/// The same when memory was locked before the first coroutine.
#[test]
fn stack_memory_locked_from_the_start() {
    in_child("stack_memory_locked_from_the_start", LIMIT, || {
        static STACKS: Stacks = Stacks::new();
        // SAFETY: changes this process alone.
        if unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE) } != 0 {
            let error = std::io::Error::last_os_error();
            eprintln!("stack_memory_locked_from_the_start: skipped, mlockall: {error}");
            return;
        }
        let runtime = match Runtime::builder().workers(1).build() {
            Ok(runtime) => runtime,
            // Without the right to lock as much as one likes, the limit is met; it is named.
            Err(error) => {
                assert!(error.to_string().contains("ulimit -l"), "{error}");
                return;
            }
        };
        end_all(park_many(&runtime, 20, &STACKS));
        let overflown = runtime.go(|| {
            let limit = inspect::stack_bounds().unwrap().start;
            is_writable(limit) && !is_writable(limit - 1)
        });
        assert!(overflown.join().unwrap());
    });
}

/// Asks the kernel, without a fault, whether a byte can be written.
fn is_writable(address: usize) -> bool {
    let mut ends = [0; 2];
    // SAFETY: two descriptors and one byte of our own; the kernel checks `address` itself.
    unsafe {
        assert_eq!(libc::pipe(ends.as_mut_ptr()), 0);
        let byte = 0_u8;
        assert_eq!(libc::write(ends[1], (&raw const byte).cast(), 1), 1);
        let result = libc::read(ends[0], address as *mut _, 1);
        let errno = *libc::__errno_location();
        libc::close(ends[0]);
        libc::close(ends[1]);
        assert!(result == 1 || errno == libc::EFAULT, "read: errno {errno}");
        result == 1
    }
}

#[test]
fn stack_pools_with_mprotect_guards() {
    let _watchdog = watchdog_for(LIMIT);
    if mprotect_forced() || common::child_case().is_some() {
        return;
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .arg("pool::")
        .env("CORO_GUARD", "mprotect")
        .output()
        .unwrap();
    let said = common::stdout(&output);
    assert!(output.status.success() && !said.contains("ok. 0 passed"), "{said}");
}
