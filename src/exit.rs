//! Leaving the process from anywhere, when every coroutine has been cleaned up.
//!
//! `std::process::exit` destroys the thread-locals of the thread that calls it, and on a worker these are lent to
//! coroutines that are suspended. So the process is left from a thread that is no worker.
//!
//! ```text
//!   exit(7) in a coroutine      a new thread                         main
//!     |  starts the thread ---->  |                                    |
//!     |  waits                    |  cancels all, waits for them       |  its join gives an error,
//!     |  is unwound               |                                    |  it returns
//!                                 |                                    |  waits in `hold`
//!                                 |  std::process::exit(7) <---------->|  or libc::exit(7)
//! ```
//!
//! Cancelling ends what other threads wait for, so these may well come to an end of their own meanwhile, with a
//! status of their own. A handler that the C library calls at the process' end has them wait, and gives the status.

use std::cell::Cell;
use std::process;
use std::sync::{Condvar, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use crate::base::id::Id;
use crate::base::lock::{lock, wait};
use crate::base::report;
use crate::blocking;
use crate::fork;
use crate::runtime;
use crate::task::{ParkReason, current_task, hook, park_for, shield};
use crate::unwind::Interruption;

/// How long the coroutines have to end.
const PATIENCE: Duration = Duration::from_secs(3);

/// The status of the first call.
static STATUS: OnceLock<i32> = OnceLock::new();

/// Whether the coroutines have ended, or have had their time.
static OVER: Mutex<bool> = Mutex::new(false);
static IS_OVER: Condvar = Condvar::new();

thread_local! {
    /// Whether the calling thread is the one that leaves the process.
    static LEAVES: Cell<bool> = const { Cell::new(false) };
}

/// Ends the process with this status, after ending all coroutines: each is cancelled, the calling one too, and
/// has three seconds for its destructors and exit handlers. Those that take longer are named on stderr.
///
/// [`std::process::exit`] ends them without any of that, and it is unsound in a coroutine if a thread-local of
/// the program suspends in its destructor: see [the nesting rule](crate#the-nesting-rule).
///
/// What has not started is dropped unrun, in all runtimes of the process. On a plain thread, and in the function
/// of [`blocking`](crate::blocking()), `exit` does the same; a plain thread is not unwound, as with
/// `std::process::exit`, and its thread-locals are destroyed. Of several calls the first one's status counts,
/// also if `main` returns meanwhile.
///
/// The process is left from another thread than the coroutine's. Where the system grants none, it is left at
/// once, with a line on stderr and without what is run at an exit; so is a process that was forked from one
/// that uses coroutines.
///
/// # Examples
///
/// ```
/// coro::go(|| {
///     coro::tls::at_exit(|| println!("cleaned up"));
///     coro::go(|| coro::exit(0));
///     coro::sleep(std::time::Duration::MAX);
/// })
/// .join()
/// .unwrap_err();
/// ```
pub fn exit(status: i32) -> ! {
    if fork::is_child() {
        // SAFETY: S8, takes a number.
        unsafe { libc::_exit(status) }
    }
    let is_first = STATUS.set(status).is_ok();
    if is_first {
        // Where it is refused, the process ends with the status of whoever comes first.
        // SAFETY: S8, a function without arguments.
        unsafe { libc::atexit(hold) };
    }
    let (is_task, is_call) =
        (current_task().is_some(), blocking::is_here() || hook::is_called_here());
    if is_first && (is_task || is_call) {
        start_leaving(status);
    } else if is_first {
        shield(|| leave(status));
    }
    if is_call {
        // Its coroutine goes on with the unwinding.
        let interruption = Interruption { target: Id::next(), note: |_, _| () };
        std::panic::resume_unwind(interruption.deliver());
    }
    loop {
        if is_task { park_for(ParkReason::EXIT) } else { thread::park() }
    }
}

/// Has another thread leave the process.
fn start_leaving(status: i32) {
    if let Err(error) = crate::thread::spawn("coro-exit", move || leave(status)) {
        report::line(format_args!(
            "coro: no thread to leave the process from: {error}; it ends with {status}, and nothing is cleaned \
             up; see ulimit -u and pids.max of the cgroup"
        ));
        // SAFETY: S8, takes a number.
        unsafe { libc::_exit(status) }
    }
}

/// Ends the coroutines, and then the process.
fn leave(status: i32) -> ! {
    LEAVES.set(true);
    runtime::shutdown_all(PATIENCE);
    *lock(&OVER) = true;
    IS_OVER.notify_all();
    process::exit(status)
}

/// Called at the process' end. If another thread than the one that leaves has come to it, it waits until that
/// one is ready, and takes the status from it.
extern "C" fn hold() {
    let Some(&status) = STATUS.get() else { return };
    if LEAVES.get() {
        return;
    }
    let mut over = lock(&OVER);
    while !*over {
        over = wait(&IS_OVER, over);
    }
    drop(over);
    // glibc allows it in a handler: the rest of them follow, and this status is the one that counts.
    // SAFETY: S8, takes a number.
    unsafe { libc::exit(status) }
}
