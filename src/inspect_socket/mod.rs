//! `CORO_INSPECT`: a Unix socket on which the process tells of its coroutines.
//!
//! One thread of the library listens, and serves a few clients at a time. A client sends a [request](request), which is one
//! line, and has one answer. It can change nothing. The socket is for the user who runs the process, and for root.
//!
//! | file | its one idea |
//! |---|---|
//! | `path` | what the variable says |
//! | `bind` | a socket's file that nobody else may open, in place of one whose process has died |
//! | `file` | the file goes when the process ends, and a forked process has no part in it |
//! | `request` | what can be asked |
//! | `serve` | clients, each within its limits |
//!
//! docs/inspect.md has the protocol, for those who write a client.

mod bind;
mod file;
mod path;
mod request;
mod serve;

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::base::env::variable;
use crate::base::lock::lock;
use crate::base::report;
use crate::thread;

pub(crate) use request::Request;

const NAME: &str = "CORO_INSPECT";

/// How many threads serve: none, or one.
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// Serves from now on at the path that `CORO_INSPECT` names, if it does. Where that path cannot be had, a line on stderr
/// says why, once, and the program goes on.
///
/// # Errors
///
/// What the system says, where it refuses the thread.
///
/// # Panics
///
/// When `CORO_INSPECT` holds nonsense.
#[track_caller]
pub(crate) fn start(answer: fn(Request) -> String) -> io::Result<()> {
    let Some(path) = variable(NAME, path::EXPECTED, path::parse) else { return Ok(()) };
    static TRIED: Mutex<bool> = Mutex::new(false);
    let mut tried = lock(&TRIED);
    if *tried {
        return Ok(());
    }
    let listener = match bind::bind(&path) {
        Ok(listener) => listener,
        Err(error) => {
            *tried = true;
            report::line(format_args!("coro: {NAME}={path:?}: {error}; nothing is served there"));
            return Ok(());
        }
    };
    // What runs at the exit is part of this program or library, which is not to be unloaded from here on.
    #[cfg(not(target_feature = "crt-static"))]
    crate::stack::keep_loaded();
    file::own(&listener, path);
    if let Err(error) = thread::spawn("inspect", move || serve::serve(&listener, answer)) {
        file::give_up();
        return Err(error);
    }
    *tried = true;
    THREADS.store(1, Ordering::Relaxed);
    Ok(())
}

/// How many threads serve.
pub(crate) fn threads() -> usize {
    THREADS.load(Ordering::Relaxed)
}
