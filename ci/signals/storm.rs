//! A signal every millisecond for every thread of every process that loads this, so that each system
//! call which blocks is told EINTR sooner or later:
//!
//! ```text
//! rustc --crate-type cdylib -C panic=abort ci/signals/storm.rs -o libstorm.so
//! LD_PRELOAD=./libstorm.so PROGRAM
//! ```
//!
//! The handler does nothing. It is installed without `SA_RESTART`, or the kernel would hide the
//! interruption, and without `SA_ONSTACK`, so that it runs on the stack that it interrupts, a
//! coroutine's included.
//!
//! **Which signal.** SIGURG: by default it is ignored, so a process that has put the default action
//! back lives on, and gdb passes it on without stopping. SIGALRM would be the obvious one, but tests
//! end their children with `alarm`, and a process has one timer for both.
//!
//! **Why a timer for each thread.** A signal to the process goes to the main thread whenever that does
//! not block it, and the workers, which do the waiting that matters, would hardly see one. So
//! `pthread_create` is replaced by one that gives the new thread a timer of its own, until it ends.
//! Threads from before are none: this starts before `main`, and before the constructors of the program.
//!
//! Timers do not outlive `exec` and are not inherited by `fork`. But `LD_PRELOAD` is inherited, so a
//! program that is executed loads this and has its own storm. A process that was only forked has one
//! in the threads that it starts, not in its first.
//!
//! No std: whatever is loaded into a process that counts its allocations, or must do without memory,
//! had better not need any of its own. What it needs of libc it declares itself, as `rustc` alone
//! compiles it.

#![no_std]

use core::ffi::{CStr, c_char, c_int, c_long, c_ulong, c_void};
use core::mem::{size_of, transmute};
use core::ptr;

/// `SIGURG`, `CLOCK_MONOTONIC`, `SIGEV_THREAD_ID`, `RTLD_NEXT`, `SYS_gettid`, `EAGAIN` of x86_64 Linux.
const SIGURG: c_int = 23;
const CLOCK_MONOTONIC: c_int = 1;
const SIGEV_THREAD_ID: c_int = 4;
const RTLD_NEXT: *mut c_void = ptr::without_provenance_mut(usize::MAX);
const SYS_GETTID: c_long = 186;
const EAGAIN: c_int = 11;

const PERIOD_NS: c_long = 1_000_000;

/// `struct sigaction` of glibc.
#[repr(C)]
struct Action {
    handler: extern "C" fn(c_int),
    mask: [c_ulong; 16],
    flags: c_int,
    restorer: usize,
}

/// `struct sigevent` of glibc; 64 bytes, of which the kernel reads the first 20 here.
#[repr(C)]
struct Event {
    value: usize,
    signal: c_int,
    notify: c_int,
    thread: c_int,
    unused: [c_int; 11],
}

/// `struct timespec`.
#[repr(C)]
struct Time {
    seconds: c_long,
    nanoseconds: c_long,
}

/// `struct itimerspec`.
#[repr(C)]
struct Interval {
    every: Time,
    first: Time,
}

const _: () = assert!(size_of::<Action>() == 152 && size_of::<Event>() == 64);

type Timer = *mut c_void;
type Routine = extern "C" fn(*mut c_void) -> *mut c_void;
type Create = unsafe extern "C" fn(*mut usize, *const c_void, Routine, *mut c_void) -> c_int;

#[link(name = "c")]
unsafe extern "C" {
    fn sigaction(signal: c_int, new: *const Action, old: *mut Action) -> c_int;
    fn timer_create(clock: c_int, event: *mut Event, timer: *mut Timer) -> c_int;
    fn timer_settime(timer: Timer, flags: c_int, new: *const Interval, old: *mut Interval)
    -> c_int;
    fn timer_delete(timer: Timer) -> c_int;
    fn syscall(number: c_long, ...) -> c_long;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
    fn malloc(size: usize) -> *mut c_void;
    fn free(memory: *mut c_void);
    fn write(file: c_int, bytes: *const c_void, count: usize) -> isize;
    fn abort() -> !;
}

/// Runs before `main`, on the main thread.
#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = start;

extern "C" fn start() {
    let action = Action { handler: ignore, mask: [0; 16], flags: 0, restorer: 0 };
    // SAFETY: a live local; the handler touches nothing.
    if unsafe { sigaction(SIGURG, &raw const action, ptr::null_mut()) } != 0 {
        give_up(c"storm: sigaction was refused\n");
    }
    let _ = blow();
}

extern "C" fn ignore(_: c_int) {}

/// Starts the calling thread's timer.
fn blow() -> Timer {
    // SAFETY: a system call without arguments.
    let thread = unsafe { syscall(SYS_GETTID) } as c_int;
    let mut event =
        Event { value: 0, signal: SIGURG, notify: SIGEV_THREAD_ID, thread, unused: [0; 11] };
    let mut timer = ptr::null_mut();
    // SAFETY: live locals.
    if unsafe { timer_create(CLOCK_MONOTONIC, &raw mut event, &raw mut timer) } != 0 {
        give_up(c"storm: timer_create was refused\n");
    }
    let period = || Time { seconds: 0, nanoseconds: PERIOD_NS };
    let interval = Interval { every: period(), first: period() };
    // SAFETY: the timer from above, and a live local.
    if unsafe { timer_settime(timer, 0, &raw const interval, ptr::null_mut()) } != 0 {
        give_up(c"storm: timer_settime was refused\n");
    }
    timer
}

/// What a new thread is to run.
struct Start {
    routine: Routine,
    argument: *mut c_void,
}

/// Stands before glibc's, and gives the new thread its timer.
///
/// # Safety
///
/// As for `pthread_create`.
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_create(
    thread: *mut usize,
    attributes: *const c_void,
    routine: Routine,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: a name that ends with 0.
    let real = unsafe { dlsym(RTLD_NEXT, c"pthread_create".as_ptr()) };
    if real.is_null() {
        give_up(c"storm: there is no pthread_create to call\n");
    }
    // SAFETY: the function of this name has this type.
    let real = unsafe { transmute::<*mut c_void, Create>(real) };
    // SAFETY: malloc may be called with any size.
    let start = unsafe { malloc(size_of::<Start>()) }.cast::<Start>();
    if start.is_null() {
        return EAGAIN;
    }
    // SAFETY: fresh memory of the right size, aligned for anything.
    unsafe { start.write(Start { routine, argument }) };
    // SAFETY: the caller's promise; `run` takes what is passed to it here.
    let result = unsafe { real(thread, attributes, run, start.cast()) };
    if result != 0 {
        // SAFETY: no thread was started, so the memory is still ours.
        unsafe { free(start.cast()) };
    }
    result
}

extern "C" fn run(start: *mut c_void) -> *mut c_void {
    let start = start.cast::<Start>();
    // SAFETY: `pthread_create` has written it, and passed it on to this thread alone.
    let Start { routine, argument } = unsafe { start.read() };
    // SAFETY: as above; nobody uses it any more.
    unsafe { free(start.cast()) };
    let timer = blow();
    let result = routine(argument);
    // SAFETY: the timer from above, which nobody else knows.
    unsafe { timer_delete(timer) };
    result
}

/// Without a storm what runs here would prove nothing, so it ends.
fn give_up(why: &CStr) -> ! {
    // SAFETY: a constant's bytes; abort may be called at any time.
    unsafe {
        write(2, why.as_ptr().cast(), why.count_bytes());
        abort()
    }
}

#[panic_handler]
fn panicked(_: &core::panic::PanicInfo<'_>) -> ! {
    give_up(c"storm: panicked\n")
}
