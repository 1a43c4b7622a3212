//! A forked process has none of its parent's workers, so it cannot run coroutines. It is told so,
//! instead of waiting for threads that do not exist.
//!
//! - **F1** No task is spawned or suspended in a forked process.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

static FORKED: AtomicBool = AtomicBool::new(false);

extern "C" fn in_child() {
    FORKED.store(true, Ordering::Relaxed);
}

/// Notices forks from now on.
pub(crate) fn watch() -> io::Result<()> {
    static REGISTERED: OnceLock<i32> = OnceLock::new();
    // SAFETY: the handler is a function that stores one flag.
    let error =
        *REGISTERED.get_or_init(|| unsafe { libc::pthread_atfork(None, None, Some(in_child)) });
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

/// # Panics
///
/// In a process that was forked after the first runtime was started.
#[inline]
pub(crate) fn check() {
    if FORKED.load(Ordering::Relaxed) {
        forked();
    }
}

#[cold]
fn forked() -> ! {
    panic!(
        "coroutines cannot be used in a process that was forked from one that uses them: its \
         worker threads exist only in the parent; exec, or fork before the first coroutine"
    );
}
