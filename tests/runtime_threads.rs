//! Threads that the system refuses: an error or fewer workers, never a hang, and nothing left over.
//!
//! The executable has a `pthread_create` of its own, which the linker prefers to the C library's. It
//! passes calls on to that, counts the threads that live, and refuses new ones beyond a limit, as
//! the kernel does under RLIMIT_NPROC or in a full cgroup. (The limit itself does not bind root.)

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::HashSet;
use std::ffi::c_void;
use std::io;
use std::panic::catch_unwind;
use std::process::Command;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::thread;

use coro::{Builder, Runtime};

use common::Counter;

/// How many blocks of memory are allocated.
static BLOCKS: AtomicIsize = AtomicIsize::new(0);

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: it is the system's allocator, and counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BLOCKS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's word.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        BLOCKS.fetch_sub(1, Ordering::Relaxed);
        // SAFETY: the caller's word.
        unsafe { System.dealloc(block, layout) }
    }
}

type Start = extern "C" fn(*mut c_void) -> *mut c_void;
type Create = unsafe extern "C" fn(
    *mut libc::pthread_t,
    *const libc::pthread_attr_t,
    Start,
    *mut c_void,
) -> libc::c_int;

/// How many more threads may live.
static ALLOWED: AtomicIsize = AtomicIsize::new(isize::MAX / 2);

extern "C" fn run_counted(start: *mut c_void) -> *mut c_void {
    // SAFETY: boxed below for this thread.
    let (start, argument) = *unsafe { Box::from_raw(start.cast::<(Start, *mut c_void)>()) };
    let result = start(argument);
    // Thread-local destructors still run after this, but nothing of them makes threads.
    ALLOWED.fetch_add(1, Ordering::SeqCst);
    result
}

#[cfg(coro_asan)]
unsafe extern "C" {
    /// AddressSanitizer's, which has to know of every thread, and calls the C library's.
    fn __interceptor_pthread_create(
        thread: *mut libc::pthread_t,
        attributes: *const libc::pthread_attr_t,
        start: Start,
        argument: *mut c_void,
    ) -> libc::c_int;
}

/// The function that ours stands before.
fn next() -> Create {
    #[cfg(coro_asan)]
    return __interceptor_pthread_create;
    #[cfg(not(coro_asan))]
    // SAFETY: the next function of this name is the C library's, and has this type.
    unsafe {
        let next = libc::dlsym(libc::RTLD_NEXT, c"pthread_create".as_ptr());
        assert!(!next.is_null());
        std::mem::transmute::<*mut c_void, Create>(next)
    }
}

/// See the module's documentation.
///
/// # Safety
///
/// As for the function of the same name in the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_create(
    thread: *mut libc::pthread_t,
    attributes: *const libc::pthread_attr_t,
    start: Start,
    argument: *mut c_void,
) -> libc::c_int {
    if ALLOWED.fetch_sub(1, Ordering::SeqCst) <= 0 {
        ALLOWED.fetch_add(1, Ordering::SeqCst);
        return libc::EAGAIN;
    }
    let counted = Box::into_raw(Box::new((start, argument)));
    // SAFETY: the caller's word; `counted` is for the new thread, which takes it over.
    let status = unsafe { next()(thread, attributes, run_counted, counted.cast()) };
    if status != 0 {
        ALLOWED.fetch_add(1, Ordering::SeqCst);
        // SAFETY: there is no thread that would take it over.
        drop(unsafe { Box::from_raw(counted) });
    }
    status
}

/// From now on `n` more threads may live.
fn allow(n: isize) {
    ALLOWED.store(n, Ordering::SeqCst);
}

/// How many of those that [`allow`] allowed are left.
fn allowed() -> isize {
    ALLOWED.load(Ordering::SeqCst)
}

/// Runs itself as a child for `case`, with what the environment should say about workers; true in
/// the child.
fn in_child(test: &str, case: &str, workers: &str) -> bool {
    if common::is_child(case) {
        return true;
    }
    if common::child_case().is_none() {
        let output = common::child_command(test, case)
            .env("CORO_WORKERS", workers)
            .env_remove("CORO_CHECK") // it has a thread
            .output()
            .unwrap();
        assert!(output.status.success(), "{case}: {}", common::stderr(&output));
    }
    false
}

#[test]
fn runtime_thread_refused_is_an_error_and_leaves_nothing() {
    let _watchdog = common::watchdog();
    if !in_child("runtime_thread_refused_is_an_error_and_leaves_nothing", "own", "1") {
        return;
    }
    for workers in [1, 2, 4, 9] {
        for granted in 0..workers {
            allow(granted);
            let error = Runtime::builder().workers(workers as usize).build().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
            let refused = format!("no thread for worker {} of {workers}: ", granted + 1);
            let message = error.to_string();
            assert!(message.starts_with(&refused), "{message}");
            for knob in ["(os error 11); see ulimit -u", "pids.max", "CORO_WORKERS"] {
                assert!(message.contains(knob), "{message}");
            }
            assert_eq!(allowed(), granted, "those that were granted have ended");
        }
        // One more, and it works.
        allow(workers);
        let runtime = Runtime::builder().workers(workers as usize).build().unwrap();
        assert_eq!((allowed(), runtime.go(|| 5).join().unwrap()), (0, 5));
        runtime.shutdown();
        assert_eq!(allowed(), workers);
    }
    // Over and over: what was made for workers that never were is used again.
    let refuse = || {
        allow(1);
        Runtime::builder().workers(4).build().unwrap_err();
    };
    (0..20).for_each(|_| refuse());
    let before = BLOCKS.load(Ordering::SeqCst);
    (0..500).for_each(|_| refuse());
    let more = BLOCKS.load(Ordering::SeqCst) - before;
    assert!(more < 100, "500 refusals have left {more} blocks of memory behind");
    allow(100);
    common::on_workers(|runtime, _| assert_eq!(runtime.go(|| 6).join().unwrap(), 6));
}

#[test]
fn runtime_default_makes_do_with_fewer_workers() {
    let _watchdog = common::watchdog();
    // Asked for 8: halved until it can be had.
    for (granted, workers) in [(1, 1), (2, 2), (3, 2), (4, 4), (7, 4), (8, 8)] {
        let case = format!("granted {granted}");
        if in_child("runtime_default_makes_do_with_fewer_workers", &case, "8") {
            allow(granted);
            let first = coro::go(|| 1).join().unwrap();
            // The monitor has one of those that are left.
            assert_eq!(allowed(), (granted - workers - 1).max(0));
            // As many run at once as there are workers.
            let arrived = Counter::default();
            let meet: Vec<_> = (0..workers)
                .map(|_| {
                    let arrived = arrived.clone();
                    coro::go(move || {
                        arrived.add();
                        while arrived.get() < workers as usize {
                            thread::yield_now();
                        }
                        thread::current().id()
                    })
                })
                .collect();
            let threads: HashSet<_> = meet.into_iter().map(|one| one.join().unwrap()).collect();
            assert_eq!((first, threads.len()), (1, workers as usize));
            let many: Vec<_> = (0..1000).map(|i| coro::go(move || i)).collect();
            assert_eq!(many.into_iter().map(|one| one.join().unwrap()).sum::<i32>(), 499_500);
        }
    }
}

#[test]
fn runtime_default_refused_altogether() {
    let _watchdog = common::watchdog();
    if !in_child("runtime_default_refused_altogether", "none", "4") {
        return;
    }
    common::quiet();
    allow(0);
    for _ in 0..3 {
        let dropped = Counter::default();
        let capture = dropped.on_drop();
        let error = Builder::new().spawn(move || drop(capture)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(dropped.get(), 1);

        let (capture, hook) = (dropped.on_drop(), std::panic::take_hook());
        std::panic::set_hook(Box::new(|_| {}));
        let refused = catch_unwind(std::panic::AssertUnwindSafe(|| coro::go(|| drop(capture))));
        std::panic::set_hook(hook);
        let payload = refused.map(drop).unwrap_err();
        let message = common::message(&*payload);
        assert!(message.starts_with("no coroutine can be started: "), "{message}");
        assert!(message.contains("temporarily unavailable"), "the reason is given: {message}");
        assert_eq!(dropped.get(), 2);
    }
    // A refusal is not for ever.
    allow(2);
    assert_eq!(coro::go(|| 1).join().unwrap(), 1);
    assert_eq!(allowed(), 0);
}

/// What a coroutine prints, and the message of its panic, goes to the process' own output, and not to that of the test
/// which happened to start the workers.
#[test]
fn runtime_threads_hand_no_test_the_output_of_others() {
    let _watchdog = common::watchdog();
    const TEST: &str = "runtime_threads_hand_no_test_the_output_of_others";
    if common::is_child("prints") {
        let panics = coro::go(|| {
            println!("by println, on a worker");
            coro::blocking(|| println!("by println, on a thread for blocking calls"));
            panic!("by a panic");
        });
        assert!(panics.join().unwrap_err().is_panic());
        return;
    }
    // Without `--nocapture`, so what the test itself prints is shown only if it fails.
    let mut captured = Command::new(std::env::current_exe().unwrap());
    captured.args([TEST, "--exact", "--test-threads=1"]).env("CORO_TEST_CHILD", "prints");
    let output = captured.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = common::stdout(&output) + &common::stderr(&output);
    for what in ["on a worker", "on a thread for blocking calls", "by a panic"] {
        assert!(said.contains(what), "no {what} in: {said}");
    }
}
