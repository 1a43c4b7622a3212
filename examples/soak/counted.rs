//! Values and exit handlers that are counted: when they come to be, when they run, when they go.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use coro::tls;

/// Values that were made, and those of them that were dropped.
pub(crate) static MADE: AtomicU64 = AtomicU64::new(0);
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Handlers that were registered; those that began to run; those that `unload` had to drop, by the
/// count of who called it; and those that are gone, whether they ran or not.
pub(crate) static REGISTERED: AtomicU64 = AtomicU64::new(0);
static RUN: AtomicU64 = AtomicU64::new(0);
static UNLOADED: AtomicU64 = AtomicU64::new(0);
static GONE: AtomicU64 = AtomicU64::new(0);

/// A value that counts its drop.
pub(crate) struct Counted(pub(crate) u64);

impl Counted {
    pub(crate) fn new(number: u64) -> Counted {
        MADE.fetch_add(1, Relaxed);
        Counted(number)
    }
}

impl Clone for Counted {
    fn clone(&self) -> Counted {
        Counted::new(self.0)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, Relaxed);
    }
}

/// What a handler captures, so that it is counted when it goes, run or not.
struct Captured;

impl Drop for Captured {
    fn drop(&mut self) {
        GONE.fetch_add(1, Relaxed);
    }
}

/// Registers a handler that is counted.
pub(crate) fn at_exit(f: impl FnOnce() + 'static) {
    REGISTERED.fetch_add(1, Relaxed);
    let captured = Captured;
    tls::at_exit(move || {
        let _captured = captured;
        RUN.fetch_add(1, Relaxed);
        f();
    });
}

/// [`tls::unload`], where so many counted handlers wait.
pub(crate) fn unload(handlers: u64) {
    UNLOADED.fetch_add(handlers, Relaxed);
    tls::unload();
}

/// Checks the counts; when no coroutine lives and no player plays.
pub(crate) fn balance() {
    let read = |count: &AtomicU64| count.load(Relaxed);
    assert_eq!(read(&DROPPED), read(&MADE), "each value is dropped once");
    assert_eq!(read(&GONE), read(&REGISTERED), "no handler is leaked");
    assert_eq!(
        read(&RUN) + read(&UNLOADED),
        read(&REGISTERED),
        "each handler is run once, or dropped by `unload`"
    );
}
