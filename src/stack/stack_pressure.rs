//! Which classes are under pressure: a scheduler was refused a slot, and waits for one.
//!
//! The scheduler announces the pressure. The first slot of the class that goes to a shelf, where every worker can take
//! it, clears the pressure and calls the scheduler back once, however many tasks wait. If none waits, this costs one
//! load.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::class::Class;

/// The classes under pressure, one bit each.
static UNDER_PRESSURE: AtomicU32 = AtomicU32::new(0);

/// Whom to call when pressure is cleared.
static ON_CLEAR: OnceLock<fn()> = OnceLock::new();

/// Has `call` called when pressure is cleared. The first registration counts.
pub(crate) fn on_clear(call: fn()) {
    ON_CLEAR.get_or_init(|| call);
}

/// Puts a class under pressure. True: it was not before.
pub(crate) fn announce(class: Class) -> bool {
    UNDER_PRESSURE.fetch_or(class.bit(), Ordering::SeqCst) & class.bit() == 0
}

/// Whether this class is under pressure.
#[inline]
pub(crate) fn is_announced(class: Class) -> bool {
    announced() & class.bit() != 0
}

/// The classes under pressure, one bit each.
#[inline]
pub(crate) fn announced() -> u32 {
    UNDER_PRESSURE.load(Ordering::Relaxed)
}

/// A slot has come onto its shelf: ends the pressure on its class.
#[inline]
pub(super) fn clear(class: Class) {
    let bit = class.bit();
    if UNDER_PRESSURE.load(Ordering::SeqCst) & bit != 0
        && UNDER_PRESSURE.fetch_and(!bit, Ordering::SeqCst) & bit != 0
        && let Some(call) = ON_CLEAR.get()
    {
        call();
    }
}
