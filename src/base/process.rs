//! What is unusual about the process, in one byte. What every program does often looks at the whole byte, once, and goes
//! on if it is zero.

use std::sync::atomic::{AtomicU8, Ordering};

/// It was forked from one that uses coroutines.
pub(crate) const FORKED: u8 = 1 << 0;
/// A coroutine has had a [`Carry`](crate::hook::Carry).
pub(crate) const CARRIES: u8 = 1 << 1;

static UNUSUAL: AtomicU8 = AtomicU8::new(0);

/// Notes what is so from now on. May be called in a process that was just forked.
pub(crate) fn note(what: u8) {
    // Relaxed: whoever it is meant for is on this thread, or hears of it by what hands over the rest.
    UNUSUAL.fetch_or(what, Ordering::Relaxed);
}

#[inline(always)]
pub(crate) fn is(what: u8) -> bool {
    UNUSUAL.load(Ordering::Relaxed) & what != 0
}

/// Whether nothing was noted.
#[inline(always)]
pub(crate) fn is_ordinary() -> bool {
    UNUSUAL.load(Ordering::Relaxed) == 0
}
