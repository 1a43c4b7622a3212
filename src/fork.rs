//! A forked process has none of its parent's workers, so it cannot run coroutines. It gets an error,
//! instead of a wait for threads that do not exist.
//!
//! - **F1** No task is spawned, suspended or ended in a forked process.
//!
//! A spawn or a suspension panics there. When a coroutine ends there, its worker's loop would go on, and would run
//! the parent's queue a second time. So the process ends instead.

use std::fmt;
use std::io;
use std::sync::OnceLock;

use crate::base::process::{self, FORKED};

extern "C" fn in_child() {
    process::note(FORKED);
}

/// Notices forks from now on.
pub(crate) fn watch() -> io::Result<()> {
    static REGISTERED: OnceLock<i32> = OnceLock::new();
    // SAFETY: the handler is a function that stores one flag.
    let error =
        *REGISTERED.get_or_init(|| unsafe { libc::pthread_atfork(None, None, Some(in_child)) });
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

/// Whether this process was forked after the first runtime was started.
#[inline]
pub(crate) fn is_child() -> bool {
    process::is(FORKED)
}

/// # Panics
///
/// In a process that was forked after the first runtime was started.
#[inline]
#[track_caller]
pub(crate) fn check() {
    if is_child() {
        forked();
    }
}

/// Ends a forked process in which the coroutine `what` has ended, with the status of a process that has
/// panicked. Nothing that is registered for an exit runs.
#[cold]
pub(crate) fn end(what: impl fmt::Display) -> ! {
    const STATUS: i32 = 101;
    crate::base::report::line(format_args!(
        "coro: {what} has ended in a forked process, whose thread would go on with the parent's \
         work; that process exits with {STATUS}; exec or _exit in it"
    ));
    // SAFETY: takes a number.
    unsafe { libc::_exit(STATUS) }
}

#[cold]
#[track_caller]
fn forked() -> ! {
    panic!(
        "coroutines cannot be used in a process that was forked from one that uses them: its \
         worker threads exist only in the parent; exec, or fork before the first coroutine"
    );
}
