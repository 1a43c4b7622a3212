//! The memory of stacks: sizes, guards, depth, what a reused stack shows.
//!
//! `stack_passes_with_mprotect_guards` runs the whole file a second time with the other kind of
//! guard (`CORO_GUARD=mprotect`).

mod common;
#[path = "common/memory.rs"]
mod memory;

use std::collections::HashSet;
use std::fs;
use std::hint::black_box;
use std::io;
use std::ops::Range;
use std::process::Command;

use coro::raw::State;
use coro::{Builder, Runtime, inspect, tls};

use common::{Counter, is_child, watchdog};
use memory::{markers_work, mprotect_forced};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const LARGEST: usize = 64 * MIB;
const GUARD: usize = 80 * KIB;

/// What a slot has besides the bytes that were asked for, by the documentation.
const TAKEN: usize = GUARD + 8 * KIB;

/// The slot of a stack with so many usable bytes.
fn slot_for(size: usize) -> usize {
    (size + TAKEN).next_power_of_two()
}

/// Asks the kernel, without a fault, whether a byte can be written. Fit for a forked process.
fn is_writable(address: usize) -> bool {
    let mut ends = [0; 2];
    // SAFETY: two descriptors and one byte of our own; the kernel checks `address` itself.
    unsafe {
        if libc::pipe(ends.as_mut_ptr()) != 0 {
            libc::abort();
        }
        let byte = 0_u8;
        libc::write(ends[1], (&raw const byte).cast(), 1);
        let result = libc::read(ends[0], address as *mut _, 1);
        let errno = *libc::__errno_location();
        libc::close(ends[0]);
        libc::close(ends[1]);
        if result != 1 && errno != libc::EFAULT {
            libc::abort();
        }
        result == 1
    }
}

/// The guard below `limit` is closed to system calls, and the stack above it is not.
#[track_caller]
fn assert_guarded(limit: usize, guard: usize) {
    for page in (limit - guard..limit).step_by(4096) {
        assert!(!is_writable(page) && !is_writable(page + 4095), "{page:#x} of {limit:#x}");
    }
    assert!(is_writable(limit), "{limit:#x}");
}

/// The entry of `/proc/self/maps` or `smaps` that covers an address.
fn mapping_of(address: usize, entries: &[(Range<usize>, String)]) -> &str {
    let covers = |(range, _): &&(Range<usize>, String)| range.contains(&address);
    let (_, entry) = entries.iter().find(covers).expect("it is mapped");
    entry
}

/// What a coroutine of this size sees of its stack: its bounds, and where the record lies.
fn look(size: usize) -> (Range<usize>, usize) {
    let coroutine = common::raw::<(), (), _>(size, |_, ()| {
        (inspect::stack_bounds().unwrap(), inspect::record_address().unwrap())
    })
    .unwrap();
    match coroutine.resume(()) {
        State::Done(seen) => seen,
        State::Yielded(()) => unreachable!("not asked to suspend"),
    }
}

#[track_caller]
fn assert_refused<T>(result: io::Result<T>, size: usize) {
    let Err(error) = result else { panic!("stack_size({size}) was granted") };
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
    let message = error.to_string();
    for part in ["stack_size", &size.to_string(), "64 MiB"] {
        assert!(message.contains(part), "no {part} in: {message}");
    }
}

#[test]
fn stack_sizes_out_of_range_are_refused() {
    let _watchdog = watchdog();
    for size in [0, LARGEST + 1, 1 << 32, isize::MAX as usize, usize::MAX - 4095, usize::MAX] {
        let runs = Counter::default();
        let counter = runs.clone();
        assert_refused(Builder::new().stack_size(size).spawn(move || counter.add()), size);
        assert_refused(Runtime::builder().stack_size(size).workers(1).build(), size);
        assert_refused(common::raw::<(), (), ()>(size, |_, ()| ()), size);
        assert_eq!(runs.get(), 0);
    }
}

#[test]
fn stack_sizes_are_rounded_up() {
    let _watchdog = watchdog();
    let around = |size: usize| [size - 1, size, size + 1];
    let limits = (17..=27).map(|shift| (1_usize << shift) - TAKEN);
    let powers = (14..=26).map(|shift| 1_usize << shift);
    let sizes =
        limits.chain(powers).flat_map(around).chain([1, 2, 100, 4095, 4097, 300_001, 5_000_000]);
    for size in sizes.filter(|&size| size <= LARGEST) {
        let slot = slot_for(size);
        let (bounds, record) = look(size);
        // The slot is aligned to its size, and what lies between is usable.
        assert_eq!(bounds.start & !(slot - 1), (bounds.end - 1) & !(slot - 1), "{size}");
        assert!(bounds.contains(&record) && bounds.len() < slot, "{size}");
        assert!(record - bounds.start >= size, "{size}: {bounds:x?}");
        assert_eq!(bounds.start % slot, GUARD, "{size}");
        assert_guarded(bounds.start, GUARD);
    }
}

#[test]
fn stack_size_of_a_task_is_that_of_builder_or_runtime() {
    let _watchdog = watchdog();
    let size = || {
        let bounds = inspect::stack_bounds().unwrap();
        (GUARD + bounds.len()).next_power_of_two()
    };
    assert_eq!(coro::go(size).join().unwrap(), 256 * KIB);
    let runtime = Runtime::builder().workers(1).stack_size(40 * KIB).build().unwrap();
    assert_eq!(runtime.go(size).join().unwrap(), 128 * KIB);
    let nested = runtime.go(move || {
        let other = Builder::new().stack_size(MIB + 1).spawn(size).unwrap().join().unwrap();
        (coro::go(size).join().unwrap(), other)
    });
    assert_eq!(nested.join().unwrap(), (128 * KIB, 2 * MIB));
}

#[test]
fn stack_of_the_smallest_size_carries_a_coroutine() {
    let _watchdog = watchdog();
    // More than there are colours, so that the narrowest is among them.
    let tasks: Vec<_> = (0..40)
        .map(|number| {
            let task = Builder::new().stack_size(1).spawn(move || {
                tls::set("number", number);
                coro::yield_now();
                *tls::get::<i32>("number").unwrap()
            });
            task.unwrap()
        })
        .collect();
    for (number, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.join().unwrap(), number as i32);
    }
}

/// Goes down until the stack reaches `bytes` below `top`, and checks each frame on the way back.
#[inline(never)]
fn descend(top: usize, bytes: usize, depth: u64) -> u64 {
    let mut frame = [depth; 64];
    black_box(&mut frame);
    let here = (&raw const frame).addr();
    let below = if top - here >= bytes { 0 } else { descend(top, bytes, depth + 1) };
    assert!(frame.iter().all(|&word| word == depth), "frame {depth} was overwritten");
    below + 1
}

#[test]
fn stack_recursion_of_500_kb() {
    let _watchdog = watchdog();
    let deep = |bytes: usize| {
        move || {
            let parents = [0xA5_u8; 1000];
            let frames = descend((&raw const parents).addr(), bytes, 1);
            assert!(black_box(&parents).iter().all(|&byte| byte == 0xA5));
            frames
        }
    };
    let task = Builder::new().stack_size(MIB).spawn(deep(500_000)).unwrap();
    assert!(task.join().unwrap() > 100);
    assert!(coro::go(deep(160 * KIB)).join().unwrap() > 100);
    let task = Builder::new().stack_size(LARGEST).spawn(deep(LARGEST - 4 * KIB)).unwrap();
    assert!(task.join().unwrap() > 1000);
}

#[test]
fn stack_contents_survive_switches_at_any_depth() {
    let _watchdog = watchdog();
    fn down(depth: u64) -> u64 {
        let mut frame = [depth; 32];
        black_box(&mut frame);
        coro::yield_now();
        let below = if depth == 100 { 0 } else { down(depth + 1) };
        coro::yield_now();
        assert!(frame.iter().all(|&word| word == depth));
        below + 1
    }
    common::on_workers(|runtime, _| {
        let tasks: Vec<_> = (0..20).map(|_| runtime.go(|| down(1))).collect();
        for task in tasks {
            assert_eq!(task.join().unwrap(), 100);
        }
    });
}

#[test]
fn stack_guards_are_closed_on_every_stack() {
    let _watchdog = watchdog();
    for size in [1, 32 * KIB, 64 * KIB, 256 * KIB, MIB] {
        // Many at once, so that they come from several chunks.
        let mut stacks = HashSet::new();
        let coroutines: Vec<_> = (0..100)
            .map(|_| {
                let coroutine = common::raw::<(), usize, ()>(size, |yielder, ()| {
                    yielder.suspend(inspect::stack_bounds().unwrap().start);
                })
                .unwrap();
                let State::Yielded(limit) = coroutine.resume(()) else { unreachable!() };
                assert!(stacks.insert(limit), "{limit:#x} belongs to two coroutines");
                assert_guarded(limit, GUARD);
                coroutine
            })
            .collect();
        drop(coroutines);
        // Idle, and used again.
        for &limit in &stacks {
            assert_guarded(limit, GUARD);
        }
        for _ in 0..200 {
            let (bounds, _) = look(size);
            assert_guarded(bounds.start, GUARD);
        }
    }
}

/// Stops an address from being known to the optimiser.
fn write_byte(address: usize) {
    // SAFETY: the caller's own memory, or a guard, which faults.
    unsafe { (black_box(address) as *mut u8).write_volatile(1) };
}

#[test]
fn stack_guards_survive_fork_and_page_release() {
    let _watchdog = watchdog();
    let task = coro::go(|| {
        let bounds = inspect::stack_bounds().unwrap();
        let guard = bounds.start % (256 * KIB);
        // What gives pages back: here to the lower half of the stack, which nothing is on.
        let (start, length) = (bounds.start, 64 * KIB);
        write_byte(start);
        // SAFETY: our own stack, far below the stack pointer.
        let result = unsafe { libc::madvise(start as *mut _, length, libc::MADV_DONTNEED) };
        assert_eq!(result, 0);
        assert_guarded(start, guard);
        // SAFETY: the forked process makes system calls and exits.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let closed = (start - guard..start).step_by(4096).all(|page| !is_writable(page));
            let status = i32::from(!closed || !is_writable(start));
            // SAFETY: ends the forked process.
            unsafe { libc::_exit(status) };
        }
        let status = common::wait_for_forked(pid);
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "{status:#x}");
        assert_guarded(start, guard);
    });
    task.join().unwrap();
}

#[test]
fn stack_guards_are_of_the_kind_that_was_asked_for() {
    let _watchdog = watchdog();
    let (bounds, _) = look(256 * KIB);
    // One look for both: another test may have the mapping grow.
    let entries = memory::mappings("maps");
    let (guard, stack) =
        (mapping_of(bounds.start - 1, &entries), mapping_of(bounds.start, &entries));
    assert!(stack.contains(" rw-p "), "{stack}");
    if markers_work() {
        assert_eq!(guard, stack, "a marker is no mapping of its own");
    } else {
        assert!(guard.contains(" ---p "), "{guard}");
    }
}

#[test]
fn stack_region_takes_no_huge_pages() {
    let _watchdog = watchdog();
    let (bounds, _) = look(LARGEST);
    if !fs::exists("/sys/kernel/mm/transparent_hugepage").unwrap() {
        return eprintln!("stack_region_takes_no_huge_pages: skipped, this kernel has none");
    }
    let entries = memory::mappings("smaps");
    let entry = mapping_of(bounds.start, &entries);
    let flags = entry.lines().find(|line| line.starts_with("VmFlags:")).expect("VmFlags");
    assert!(flags.split(' ').any(|flag| flag == "nh"), "{entry}");
}

#[test]
fn stack_used_again_shows_nothing_of_its_former_owner() {
    let _watchdog = watchdog();
    // One worker, one after another: the hot stack is used at once.
    let runtime = common::runtime(1);
    let handlers = Counter::default();
    let mut places = HashSet::new();
    let mut ids = HashSet::new();
    for round in 0..200_usize {
        let counter = handlers.clone();
        let task = runtime.go(move || {
            assert_eq!(inspect::exit_target(), Some(inspect::ExitTarget::Goexit));
            assert_eq!(tls::get::<usize>("mine").as_deref(), None);
            assert_eq!(coro::current().unwrap().name(), None);
            let id = tls::id();
            assert_eq!(inspect::id_at(inspect::record_address().unwrap()), Some(id));
            tls::set("mine", round);
            assert_eq!(tls::get::<usize>("mine").as_deref(), Some(&round), "as new, not closed");
            tls::at_exit(move || counter.add());
            (id, inspect::record_address().unwrap())
        });
        let (id, place) = task.join().unwrap();
        assert!(ids.insert(id), "{id} was used twice");
        places.insert(place);
        assert_eq!(handlers.get(), round + 1, "each owner's handler runs once");
    }
    assert!(places.len() <= 2, "{} stacks for one coroutine at a time", places.len());
}

#[test]
fn stack_id_at_tells_whose_stack_an_address_is_on() {
    let _watchdog = watchdog();
    let coroutine = common::raw::<(), _, ()>(64 * KIB, |yielder, ()| {
        yielder.suspend((tls::id(), inspect::stack_bounds().unwrap()));
    })
    .unwrap();
    let State::Yielded((id, bounds)) = coroutine.resume(()) else { unreachable!() };
    assert_ne!(id, tls::id());
    let slot = bounds.start & !(64 * KIB - 1);
    for address in [slot, bounds.start, bounds.end - 1, slot + 64 * KIB - 1] {
        assert_eq!(inspect::id_at(address), Some(id), "{address:#x}");
    }
    for stray in [0, 1, 0x1000, (&raw const coroutine).addr(), usize::MAX, 1 << 63] {
        assert_eq!(inspect::id_at(stray), None, "{stray:#x}");
    }
}

#[test]
fn stack_guard_variable_refuses_nonsense() {
    const NAME: &str = "stack_guard_variable_refuses_nonsense";
    let _watchdog = watchdog();
    if is_child("spawn") {
        coro::go(|| ()).join().unwrap();
        return;
    }
    if is_child("raw") {
        let _ = common::raw::<(), (), ()>(1, |_, ()| ());
        return;
    }
    for (case, value) in [("spawn", "nonsense"), ("raw", "MPROTECT"), ("spawn", "1")] {
        let output = common::child_command(NAME, case).env("CORO_GUARD", value).output().unwrap();
        assert_eq!(output.status.code(), Some(101), "{output:?}");
        let said = common::stdout(&output) + &common::stderr(&output);
        let message = format!("CORO_GUARD={value:?}: expected madvise or mprotect");
        assert!(said.contains(&message), "{said}");
    }
    for value in ["", "madvise", "mprotect"] {
        if value == "madvise" && !markers_work() {
            continue;
        }
        let command = &mut common::child_command(NAME, "spawn");
        let output = command.env("CORO_GUARD", value).output().unwrap();
        assert!(output.status.success(), "{value}: {output:?}");
    }
}

#[test]
fn stack_passes_with_mprotect_guards() {
    let _watchdog = watchdog();
    if mprotect_forced() || common::child_case().is_some() {
        return;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .env("CORO_GUARD", "mprotect")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", common::stdout(&output));
}
