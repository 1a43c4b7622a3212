//! When the kernel refuses a stack: who waits for one is told when one is given up.
//!
//! A scheduler that was refused a slot says so, and what it said is forgotten when the next slot gets
//! onto a shelf, where everybody can take it. So there is one call for many who wait, and nothing but
//! a load where nobody does.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Somebody was refused a slot, and none has come onto a shelf since.
static WAITING: AtomicBool = AtomicBool::new(false);

/// What tells those who wait.
static TELL: OnceLock<fn()> = OnceLock::new();

/// Has `tell` called when a slot is to be had for those who wait. The first call counts.
pub(crate) fn on_relief(tell: fn()) {
    TELL.get_or_init(|| tell);
}

/// Says that the caller waits for a slot. True: nobody else did.
pub(crate) fn announce() -> bool {
    !WAITING.swap(true, Ordering::SeqCst)
}

/// Whether somebody waits.
#[inline]
pub(crate) fn is_announced() -> bool {
    WAITING.load(Ordering::Relaxed)
}

/// A slot has come onto a shelf.
#[inline]
pub(super) fn relieve() {
    if WAITING.load(Ordering::SeqCst)
        && WAITING.swap(false, Ordering::SeqCst)
        && let Some(tell) = TELL.get()
    {
        tell();
    }
}
