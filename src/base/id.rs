//! Identity of coroutines and threads.
//!
//! An [`Id`] is a number that no other coroutine or thread of the process has, had or will have.
//! Numbers come from one 64-bit counter, so they cannot run out: at a billion a second they last
//! five hundred years.
//!
//! Spawning takes ids from a range that its thread has reserved, so that the shared counter is
//! touched once in [`RANGE`] spawns. The id of a plain thread is taken from the counter itself,
//! because a signal handler may ask for it, and a handler that interrupts a half-done reservation
//! would hand out one number twice.

use std::cell::Cell;
use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// How many ids a thread reserves at a time.
const RANGE: u64 = 1024;

/// The next id that nobody has reserved.
static NEXT: AtomicU64 = AtomicU64::new(1);

thread_local! {
    /// The ids that this thread has reserved and not yet given out: first, and one past the last.
    static RESERVED: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

/// The identity of a coroutine or of a thread: never zero, never used twice in a process.
///
/// # Examples
///
/// ```
/// use coro::tls;
///
/// let here = tls::id();
/// let there = coro::go(tls::id).join().unwrap();
/// assert_ne!(here, there);
/// assert_eq!(here, tls::id());
/// println!("coroutine {there}");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(NonZeroU64);

impl Id {
    /// The id as a number.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_ne!(coro::tls::id().get(), 0);
    /// ```
    #[inline]
    pub fn get(self) -> u64 {
        self.0.get()
    }

    /// An id for a coroutine, from the calling thread's range. Not for signal handlers.
    #[inline]
    pub(crate) fn next() -> Id {
        RESERVED.with(|reserved| {
            let (first, end) = reserved.get();
            if first == end {
                let first = NEXT.fetch_add(RANGE, Ordering::Relaxed);
                reserved.set((first + 1, first + RANGE));
                Id::from_raw(first)
            } else {
                reserved.set((first + 1, end));
                Id::from_raw(first)
            }
        })
    }

    /// An id from the shared counter: one atomic addition, safe in a signal handler.
    pub(crate) fn next_shared() -> Id {
        Id::from_raw(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The id of this number, if it is one.
    #[inline]
    pub(crate) fn from_number(number: u64) -> Option<Id> {
        NonZeroU64::new(number).map(Id)
    }

    /// The id that a record holds as a number.
    #[inline]
    pub(crate) fn from_raw(number: u64) -> Id {
        Id(NonZeroU64::new(number).expect("ids start at 1"))
    }
}

/// The identity of a runtime.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct RuntimeId(NonZeroU32);

impl RuntimeId {
    pub(crate) fn next() -> RuntimeId {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        RuntimeId(NonZeroU32::new(number).expect("no process starts so many runtimes"))
    }

    pub(crate) fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Id({})", self.0)
    }
}
