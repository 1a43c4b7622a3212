//! Starting a thread of the library's own.
//!
//! When a test runs, std captures what its thread prints, and a thread inherits this capture from the thread that
//! starts it. A worker that was started by the first test would send it the output and the panics of all
//! coroutines. So the library's threads are started from a thread that std has not started, and that has no
//! capture.

use std::ffi::c_void;
use std::io;
use std::ptr;
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};

use crate::base::lock::lock;

/// Starts a thread that runs `f`.
///
/// # Errors
///
/// What the system says, where it grants no thread.
pub(crate) fn spawn(name: &str, f: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    let f = Arc::new(Mutex::new(Some(f)));
    let start = || {
        let f = Arc::clone(&f);
        Builder::new().name(name.to_owned()).spawn(move || {
            let f = lock(&f).take();
            f.expect("it is started once")();
        })
    };
    // If the system grants one more thread only, it is the one that runs `f`.
    call_elsewhere(&start).and_then(Result::ok).map_or_else(start, Ok)
}

/// Calls `f` on another thread and waits for it. `None`: there is no thread.
fn call_elsewhere<T: Send, F: Fn() -> T + Sync>(f: &F) -> Option<T> {
    struct Call<'a, F, T> {
        f: &'a F,
        value: Option<T>,
    }
    extern "C" fn run<T: Send, F: Fn() -> T + Sync>(call: *mut c_void) -> *mut c_void {
        // SAFETY: S8, the caller's, which waits.
        let call = unsafe { &mut *call.cast::<Call<'_, F, T>>() };
        call.value = Some((call.f)());
        ptr::null_mut()
    }
    let mut call = Call { f, value: None };
    let mut thread = 0;
    // SAFETY: S8, `call` stays until the thread was joined.
    unsafe {
        if libc::pthread_create(&mut thread, ptr::null(), run::<T, F>, (&raw mut call).cast()) != 0
        {
            return None;
        }
        libc::pthread_join(thread, ptr::null_mut());
    }
    call.value
}
