//! When the kernel refuses a stack: who waits for one is told when one is given up.
//!
//! A scheduler that was refused a slot says so, and what it said is forgotten when the next slot of
//! that class gets onto a shelf, where everybody can take it. So there is one call for many who wait,
//! and nothing but a load where nobody does.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::class::Class;

/// The classes of which somebody was refused a slot, and none has come onto a shelf since; one bit
/// each.
static SHORT: AtomicU32 = AtomicU32::new(0);

/// What tells those who wait.
static TELL: OnceLock<fn()> = OnceLock::new();

/// Has `tell` called when a slot is to be had for those who wait. The first call counts.
pub(crate) fn on_relief(tell: fn()) {
    TELL.get_or_init(|| tell);
}

/// Says that the caller waits for a slot. True: nobody else did.
pub(crate) fn announce(class: Class) -> bool {
    SHORT.fetch_or(class.bit(), Ordering::SeqCst) & class.bit() == 0
}

/// Whether somebody waits for a slot of this class.
#[inline]
pub(crate) fn is_announced(class: Class) -> bool {
    announced() & class.bit() != 0
}

/// The classes for whose slots somebody waits, one bit each.
#[inline]
pub(crate) fn announced() -> u32 {
    SHORT.load(Ordering::Relaxed)
}

/// A slot has come onto its shelf.
#[inline]
pub(super) fn relieve(class: Class) {
    let bit = class.bit();
    if SHORT.load(Ordering::SeqCst) & bit != 0
        && SHORT.fetch_and(!bit, Ordering::SeqCst) & bit != 0
        && let Some(tell) = TELL.get()
    {
        tell();
    }
}
