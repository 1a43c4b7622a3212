//! A program that `switch_frames` builds with frame pointers. `walk` follows them from inside a
//! coroutine and compares with what the unwinder says; `stop` raises SIGTRAP for a debugger; `compute` gives a
//! profiler something to see.

use std::arch::asm;
use std::ffi::{c_int, c_void};
use std::hint::black_box;
use std::ops::Range;
use std::time::Duration;

use coro::raw::{Coroutine, Yielder};
use coro::{inspect, tls};

unsafe extern "C" {
    fn _Unwind_Backtrace(
        each: extern "C" fn(*mut c_void, *mut c_void) -> c_int,
        argument: *mut c_void,
    ) -> c_int;
    fn _Unwind_GetIP(context: *mut c_void) -> usize;
}

/// Return addresses, innermost first, as the unwind tables tell them.
fn by_tables() -> Vec<usize> {
    extern "C" fn each(context: *mut c_void, into: *mut c_void) -> c_int {
        // SAFETY: the unwinder's own context, and the vector below.
        unsafe { (*into.cast::<Vec<usize>>()).push(_Unwind_GetIP(context)) };
        0
    }
    let mut addresses = Vec::new();
    // SAFETY: `each` takes what it is given here.
    unsafe { _Unwind_Backtrace(each, (&raw mut addresses).cast()) };
    addresses
}

/// The mapping that the address lies in.
fn mapping_of(address: usize) -> Range<usize> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let ranges = maps.lines().map(|line| {
        let (start, rest) = line.split_once('-').unwrap();
        let end = rest.split(' ').next().unwrap();
        let number = |text| usize::from_str_radix(text, 16).unwrap();
        number(start)..number(end)
    });
    ranges.into_iter().find(|range| range.contains(&address)).unwrap_or(0..0)
}

/// Frame pointer and return address of each frame, innermost first, as the chain of frame pointers
/// tells them: what `perf record --call-graph fp` does.
#[inline(never)]
fn by_frame_pointers() -> Vec<(usize, usize)> {
    let mut frame: usize;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rbp", out(reg) frame, options(nomem, nostack)) };
    let mut frames = Vec::new();
    while frame != 0 && frame.is_multiple_of(8) {
        let mapping = mapping_of(frame);
        if !mapping.contains(&(frame + 15)) {
            break;
        }
        // SAFETY: the sixteen bytes are mapped, as checked above.
        let (above, back) = unsafe { (*(frame as *const usize), *((frame + 8) as *const usize)) };
        frames.push((frame, back));
        frame = above;
    }
    frames
}

/// Compares the two walks; how many frames they agree on beyond the coroutine's stack.
#[inline(never)]
fn walk(moment: &str) {
    let stack = inspect::stack_bounds().expect("called in a coroutine");
    let frames = black_box(by_frame_pointers());
    let tables = black_box(by_tables());
    // The tables' walk begins deeper than the chain's, leaves `walk` from another call, and names
    // also the frames that keep no frame pointer, such as the one that the compiler makes for
    // `catch_unwind`.
    // The chain has one entry of its own, the link from the coroutine's root to its resumer.
    let mut rest = tables.iter();
    let mut links = 0;
    let (mut inside, mut beyond) = (0, 0);
    for (frame, back) in frames.into_iter().skip(1) {
        let mut ahead = rest.clone();
        if ahead.any(|&address| address == back) {
            rest = ahead;
            *(if stack.contains(&frame) { &mut inside } else { &mut beyond }) += 1;
        } else {
            links += 1;
        }
    }
    println!("{moment}: {inside} frames inside, {beyond} beyond, {links} link");
}

/// A raw coroutine that runs `f`.
fn raw(f: impl FnOnce(&Yielder<(), ()>) + 'static) -> Coroutine<(), (), ()> {
    // SAFETY: they are dropped by the functions that make them.
    unsafe { Coroutine::new(256 << 10, |yielder, ()| f(yielder)) }.unwrap()
}

fn walk_everywhere() {
    let coroutine = raw(|yielder| {
        walk("raw start");
        yielder.suspend(());
        walk("raw later");
        tls::at_exit(|| walk("raw handler"));
        walk("raw armed");
    });
    coroutine.resume(());
    coroutine.resume(());
    let task = coro::go(|| {
        walk("task start");
        coro::yield_now();
        tls::at_exit(|| walk("task handler"));
        walk("task armed");
    });
    task.join().unwrap();
}

#[inline(never)]
fn frame_that_stops() {
    // SAFETY: raises SIGTRAP.
    unsafe { asm!("int3", "nop") };
}

#[inline(never)]
fn frame_of_the_resumer(coroutine: &Coroutine<(), (), ()>) {
    black_box(coroutine.resume(()));
}

fn stop_everywhere() {
    let coroutine = raw(|yielder| {
        frame_that_stops();
        yielder.suspend(());
        tls::at_exit(frame_that_stops);
        frame_that_stops();
    });
    frame_of_the_resumer(&coroutine);
    frame_of_the_resumer(&coroutine);
    coro::go(frame_that_stops).join().unwrap();
}

/// How much of the processor's time the process has used.
fn time_used() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a live local.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[inline(never)]
fn frame_that_computes() {
    let end = time_used() + Duration::from_millis(300);
    while time_used() < end {
        (0..10_000).for_each(|n| _ = black_box(n));
    }
}

#[inline(never)]
fn frame_in_between() {
    frame_that_computes();
    black_box(());
}

#[inline(never)]
fn frame_of_the_raw_coroutine(_: &Yielder<(), ()>) {
    frame_in_between();
    black_box(());
}

#[inline(never)]
fn frame_of_the_task() {
    tls::at_exit(frame_of_the_handler);
    frame_in_between();
    black_box(());
}

#[inline(never)]
fn frame_of_the_handler() {
    frame_in_between();
    black_box(1);
}

fn compute_everywhere() {
    frame_of_the_resumer(&raw(frame_of_the_raw_coroutine));
    coro::go(frame_of_the_task).join().unwrap();
}

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("walk") => walk_everywhere(),
        Some("stop") => stop_everywhere(),
        Some("compute") => compute_everywhere(),
        other => panic!("walk, stop or compute, not {other:?}"),
    }
}
