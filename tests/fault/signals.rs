//! Signals at any moment of a switch: the handler asks who runs and walks the stack, thousands of
//! times a second, and nothing is torn.
//!
//! The handler runs on whatever stack it interrupts, as a profiler's does without `SA_ONSTACK`.
//!
//! It asks at every moment. It walks the stack by the unwind tables only where it has interrupted code
//! of the coroutine and not the switch: corosensei's tables describe the switch at its ends, and in
//! between they are wrong. `tests/frames/code.rs` says where.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, compiler_fence};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use coro::raw::State;
use coro::{inspect, tls};

use crate::common::{self, in_child};

const LIMIT: Duration = common::CHILDS_LIMIT;

/// How many times the handler has to run on a coroutine's stack before the storm is over, and how many
/// stacks it has to walk, where it does so.
const ENOUGH: usize = 2000;
const ENOUGH_WALKS: u64 = 101;

static CALLS: AtomicUsize = AtomicUsize::new(0);
static ON_COROUTINES: AtomicUsize = AtomicUsize::new(0);
static FRAMES: AtomicU64 = AtomicU64::new(0);
/// Answers of the handler that contradict each other.
static WRONG: AtomicUsize = AtomicUsize::new(0);
/// Whether the handler also walks the stack by the unwind tables.
static WALK: AtomicBool = AtomicBool::new(false);
static OVER: AtomicBool = AtomicBool::new(false);
static WALKS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The thread runs code of a coroutine, for as long as this is set.
    static COMPUTING: Cell<bool> = const { Cell::new(false) };
}

/// Stays in the coroutine's own code for a while, with calls that look for the record.
fn compute() -> u64 {
    COMPUTING.set(true);
    compiler_fence(Ordering::SeqCst);
    // Where it is this code that the signals are to meet, it is most of what is done.
    let calls = if WALK.load(Ordering::Relaxed) { 1000 } else { 200 };
    let sum = (0..calls).map(|_| std::hint::black_box(tls::id()).get()).fold(0, u64::wrapping_add);
    compiler_fence(Ordering::SeqCst);
    COMPUTING.set(false);
    sum
}

unsafe extern "C" {
    fn _Unwind_Backtrace(
        each: extern "C" fn(*mut c_void, *mut c_void) -> c_int,
        argument: *mut c_void,
    ) -> c_int;
    fn _Unwind_GetIP(context: *mut c_void) -> usize;
}

/// How many frames the unwind tables tell of, from here on. No allocation.
fn depth() -> u64 {
    extern "C" fn each(context: *mut c_void, count: *mut c_void) -> c_int {
        // SAFETY: the unwinder's own context, and the counter below.
        unsafe {
            assert_ne!(_Unwind_GetIP(context), 1);
            *count.cast::<u64>() += 1;
        }
        0
    }
    let mut count = 0_u64;
    // SAFETY: `each` takes what it is given here.
    unsafe { _Unwind_Backtrace(each, (&raw mut count).cast()) };
    count
}

extern "C" fn on_signal(_: c_int) {
    // SAFETY: the thread's errno.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above; what is interrupted must find it again.
    let saved = unsafe { *errno };
    let here = (&raw const saved).addr();
    let id = tls::id();
    let by_address = inspect::id_at(here);
    match inspect::stack_bounds() {
        Some(bounds) => {
            ON_COROUTINES.fetch_add(1, Ordering::Relaxed);
            let record = inspect::record_address();
            let consistent = bounds.contains(&here)
                && by_address == Some(id)
                && record.is_some_and(|record| bounds.contains(&record));
            if !consistent || tls::id() != id {
                WRONG.fetch_add(1, Ordering::Relaxed);
            }
        }
        None if by_address.is_some() => drop(WRONG.fetch_add(1, Ordering::Relaxed)),
        None => {}
    }
    if WALK.load(Ordering::Relaxed) && COMPUTING.get() {
        WALKS.fetch_add(1, Ordering::Relaxed);
        let frames = depth();
        // This handler, the signal frame, and something that was interrupted.
        if frames < 3 {
            WRONG.fetch_add(1, Ordering::Relaxed);
        }
        FRAMES.fetch_add(frames, Ordering::Relaxed);
    }
    CALLS.fetch_add(1, Ordering::Relaxed);
    // SAFETY: as above.
    unsafe { *errno = saved };
}

fn handle(signal: c_int) {
    // SAFETY: a live local of the right type; the handler allocates nothing and takes no lock.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_signal as *const () as usize;
        action.sa_flags = libc::SA_RESTART;
        assert_eq!(libc::sigaction(signal, &action, ptr::null_mut()), 0);
    }
    // The unwinder's tables are loaded, and the thread has its id, before the first signal.
    assert!(depth() > 2 && tls::id().get() > 0);
}

/// Switches in every way there is, until the storm is over; how often.
fn switches(number: usize) -> usize {
    let mut rounds = 0;
    while !OVER.load(Ordering::Relaxed) {
        rounds += 1;
        let id = tls::id();
        std::hint::black_box(compute());
        coro::yield_now();
        let me = coro::current().unwrap();
        me.unpark();
        coro::park();
        let inner = common::raw(32 << 10, |yielder, n: usize| {
            tls::set("n", n);
            tls::at_exit(|| {
                std::hint::black_box(compute());
            });
            std::hint::black_box(compute());
            yielder.suspend(n + 1) + 2
        })
        .unwrap();
        assert_eq!(inner.resume(number), State::Yielded(number + 1));
        assert_eq!(inner.resume(number), State::Done(number + 2));
        let child = coro::go(move || {
            tls::set("number", number);
            *tls::get::<usize>("number").unwrap()
        });
        assert_eq!(child.join().unwrap(), number);
        if rounds % 16 == 0 {
            common::quiet();
            let caught = std::panic::catch_unwind(|| common::planned("in a storm"));
            assert!(caught.is_err());
        }
        assert_eq!(tls::id(), id);
    }
    rounds
}

/// Runs coroutines on two workers while `storm` sends signals to their threads.
fn under(signal: c_int, storm: impl FnOnce(&[libc::pthread_t])) {
    handle(signal);
    let runtime = common::runtime(2);
    // Both workers are held at once, so these are the two of them.
    let (send, threads) = mpsc::channel();
    let up = common::Counter::default();
    let held: Vec<_> = (0..2)
        .map(|_| {
            let (send, up) = (send.clone(), up.clone());
            runtime.go(move || {
                // SAFETY: asks for a number.
                send.send(unsafe { libc::pthread_self() }).unwrap();
                up.add();
                while up.get() < 2 {
                    std::hint::spin_loop();
                }
            })
        })
        .collect();
    held.into_iter().for_each(|task| task.join().unwrap());
    drop(send);
    let threads: Vec<_> = threads.iter().collect();
    assert!(threads.len() == 2 && threads[0] != threads[1]);
    let tasks: Vec<_> = (0..8).map(|number| runtime.go(move || switches(number))).collect();
    storm(&threads);
    OVER.store(true, Ordering::Relaxed);
    let rounds: usize = tasks.into_iter().map(|task| task.join().unwrap()).sum();
    runtime.shutdown();
    assert!(rounds > 0);
    assert_eq!(WRONG.load(Ordering::Relaxed), 0);
    let on_coroutines = ON_COROUTINES.load(Ordering::Relaxed);
    assert!(on_coroutines >= ENOUGH && CALLS.load(Ordering::Relaxed) >= on_coroutines);
    // From a coroutine's function to the thread's start it is more than ten frames.
    if WALK.load(Ordering::Relaxed) {
        let (frames, walks) = (FRAMES.load(Ordering::Relaxed), WALKS.load(Ordering::Relaxed));
        assert!(frames > 10 * walks, "{frames} frames in {walks} walks");
    }
}

fn is_enough() -> bool {
    let walks = WALKS.load(Ordering::Relaxed);
    let walked = walks >= ENOUGH_WALKS || !WALK.load(Ordering::Relaxed);
    ON_COROUTINES.load(Ordering::Relaxed) >= ENOUGH && walked
}

fn storm_of_sigusr1(threads: &[libc::pthread_t]) {
    while !is_enough() {
        for &thread in threads {
            // SAFETY: the workers' threads, which live until the runtime ends.
            unsafe { libc::pthread_kill(thread, libc::SIGUSR1) };
        }
        // Lets the workers run on where there are fewer cores than threads.
        thread::yield_now();
    }
}

/// What a profiler does: the kernel sends SIGPROF to whichever thread is using the CPU. Its clock is
/// too slow for a storm, so the same signal is also sent by hand.
fn storm_of_sigprof(threads: &[libc::pthread_t]) {
    let set_timer = |tv_usec| {
        let every = libc::timeval { tv_sec: 0, tv_usec };
        let timer = libc::itimerval { it_interval: every, it_value: every };
        // SAFETY: a live local of the right type.
        assert_eq!(unsafe { libc::setitimer(libc::ITIMER_PROF, &timer, ptr::null_mut()) }, 0);
    };
    set_timer(1000);
    while !is_enough() {
        for &thread in threads {
            // SAFETY: the workers' threads, which live until the runtime ends.
            unsafe { libc::pthread_kill(thread, libc::SIGPROF) };
        }
        thread::yield_now();
    }
    set_timer(0);
}

#[test]
fn fault_a_storm_of_sigusr1_while_switching() {
    in_child("fault_a_storm_of_sigusr1_while_switching", LIMIT, || {
        under(libc::SIGUSR1, storm_of_sigusr1);
    });
}

#[test]
fn fault_a_storm_of_sigprof_while_switching() {
    in_child("fault_a_storm_of_sigprof_while_switching", LIMIT, || {
        under(libc::SIGPROF, storm_of_sigprof);
    });
}

#[test]
fn fault_a_storm_of_sigusr1_with_backtraces() {
    in_child("fault_a_storm_of_sigusr1_with_backtraces", LIMIT, || {
        WALK.store(true, Ordering::Relaxed);
        under(libc::SIGUSR1, storm_of_sigusr1);
    });
}

#[test]
fn fault_a_storm_of_sigprof_with_backtraces() {
    in_child("fault_a_storm_of_sigprof_with_backtraces", LIMIT, || {
        WALK.store(true, Ordering::Relaxed);
        under(libc::SIGPROF, storm_of_sigprof);
    });
}

/// On a signal stack of its own the handler is on no coroutine: it gets the thread's id, and never
/// reads a record that is not there.
#[test]
fn fault_a_handler_on_a_signal_stack_is_on_no_coroutine() {
    in_child("fault_a_handler_on_a_signal_stack_is_on_no_coroutine", LIMIT, || {
        static SEEN: AtomicU64 = AtomicU64::new(0);
        extern "C" fn ask(_: c_int) {
            let outside = inspect::stack_bounds().is_none() && inspect::record_address().is_none();
            let target = inspect::exit_target().is_none();
            let id = tls::id().get();
            SEEN.store(if outside && target { id } else { u64::MAX }, Ordering::Relaxed);
        }
        // SAFETY: a live local of the right type; the handler reads, and stores a number.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = ask as *const () as usize;
            action.sa_flags = libc::SA_ONSTACK;
            assert_eq!(libc::sigaction(libc::SIGUSR2, &action, ptr::null_mut()), 0);
        }
        let runtime = common::runtime(1);
        let ask_there = || {
            // SAFETY: a signal to this thread.
            unsafe { libc::raise(libc::SIGUSR2) };
            (tls::id().get(), SEEN.load(Ordering::Relaxed))
        };
        let (first, worker) = runtime.go(ask_there).join().unwrap();
        let (second, again) = runtime.go(ask_there).join().unwrap();
        assert!(worker != first && worker != second && first != second && worker != u64::MAX);
        assert_eq!(worker, again, "the id of the worker's thread");
    });
}
