//! AddressSanitizer sees a write past the end of an array on a coroutine's stack, and knows in which
//! frame it was: a run of the suite under it (`ci/asan.sh`) that finds nothing means something.
//!
//! Each case is such a write in a child, which has to die of it. The frame can only be named where
//! the sanitizer was told of the switch to the coroutine's stack (the feature `sanitizer`).

use std::hint::black_box;
use std::panic::catch_unwind;
use std::process::exit;

use coro::tls;

use crate::common;

const LENGTH: usize = 32;

/// Writes one byte of an array of [`LENGTH`], or what comes after it.
#[inline(never)]
fn frame_with_an_array(index: usize) {
    let mut array = [0_u8; LENGTH];
    let start = black_box(array.as_mut_ptr());
    // SAFETY: none if `index` is `LENGTH`. AddressSanitizer has to find that bug.
    unsafe { start.add(index).write_volatile(1) };
    black_box(&array);
}

fn in_a_task(index: usize) {
    common::runtime(1).go(move || frame_with_an_array(index)).join().unwrap();
}

fn after_switches(index: usize) {
    let runtime = common::runtime(2);
    let switches = move || {
        (0..10).for_each(|_| coro::yield_now());
        frame_with_an_array(index);
    };
    let tasks = [runtime.go(switches), runtime.go(switches)];
    tasks.into_iter().for_each(|task| task.join().unwrap());
}

fn in_cleanup(index: usize) {
    let registers = move || tls::at_exit(move || frame_with_an_array(index));
    common::runtime(1).go(registers).join().unwrap();
}

fn after_a_panic(index: usize) {
    common::quiet();
    let panics = move || {
        assert!(catch_unwind(|| common::planned("caught")).is_err());
        frame_with_an_array(index);
    };
    common::runtime(1).go(panics).join().unwrap();
}

fn raw_in_a_task(index: usize) {
    let nested = move || {
        let body = move |yielder: &coro::raw::Yielder<(), ()>, ()| {
            yielder.suspend(());
            frame_with_an_array(index);
        };
        let coroutine = common::raw(64 << 10, body).unwrap();
        coroutine.resume(());
        coroutine.resume(());
    };
    common::runtime(1).go(nested).join().unwrap();
}

/// Back on the worker's own stack, or here a plain thread's.
fn after_it_on_the_thread(index: usize) {
    let coroutine = common::raw::<(), (), ()>(64 << 10, |_, ()| ()).unwrap();
    coroutine.resume(());
    frame_with_an_array(index);
}

type Case = (&'static str, fn(usize));

const CASES: [Case; 6] = [
    ("in a task", in_a_task),
    ("after switches", after_switches),
    ("in cleanup", in_cleanup),
    ("after a panic", after_a_panic),
    ("raw, in a task", raw_in_a_task),
    ("after it on the thread", after_it_on_the_thread),
];

#[test]
fn fault_a_write_past_an_array_is_reported() {
    if cfg!(not(coro_asan)) {
        return eprintln!("fault_a_write_past_an_array_is_reported: skipped, it needs ci/asan.sh");
    }
    let _watchdog = common::watchdog();
    if let Some(child) = common::child_case() {
        let (_, run) = CASES.iter().find(|(name, _)| *name == child).expect("a case");
        // Within the array there is nothing to report.
        run(LENGTH - 1);
        run(LENGTH);
        exit(0);
    }
    for (case, _) in CASES {
        let test = "fault_a_write_past_an_array_is_reported";
        let output = common::child(test, case);
        let stderr = common::stderr(&output);
        assert!(!output.status.success(), "{case}: the write went unseen");
        assert_eq!(stderr.matches("ERROR: AddressSanitizer").count(), 1, "{case}: {stderr}");
        for part in
            ["stack-buffer-overflow", "WRITE of size 1", "located in stack of thread", "'array'"]
        {
            assert!(stderr.contains(part), "{case}: {part} is missing in\n{stderr}");
        }
        // First in the backtrace, and the owner of the array.
        let named = stderr.matches("frame_with_an_array").count();
        assert!(named >= 2, "{case}: named {named} times in\n{stderr}");
    }
}
