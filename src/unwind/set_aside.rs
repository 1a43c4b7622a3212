//! Panics for each coroutine, though std counts them by thread.
//!
//! std keeps the number of a thread's panics that are under way. [`thread::panicking`](std::thread::panicking)
//! reads it, and so does every `std::sync::Mutex`, to know whether a guard that is dropped poisons the
//! lock. A coroutine that is suspended in a destructor in the middle of its unwinding would leave its
//! panics to its neighbours. So a switch sets them aside, and restores them when the coroutine goes on.
//!
//! ```text
//!   switch away    lower the thread's count to zero, with credits of the bank's; keep their number
//!   come back      raise the count as often; the credits that this makes go to the bank
//! ```
//!
//! Each step takes some microseconds. A coroutine that is not in the middle of a panic takes none.
//!
//! If the bank cannot be opened, panics stay with their thread. Then no coroutine is unwound by this crate while
//! its thread is panicking, because the panic may be its own.

use super::bank;
use super::panic_count::{lower, panicking, raise};
use crate::base::report;

/// More panics than this one inside another are taken for a count that is broken.
const MOST: u32 = 1 << 16;

/// Sets the calling thread's panics aside, and gives their number, for [`restore`]. Afterwards the thread
/// is not panicking, unless the bank is closed: then nothing changes, and the number is 0.
#[cold]
pub(crate) fn set_aside() -> u32 {
    let Some(credits) = bank::open() else { return 0 };
    let mut count = 0;
    while panicking() {
        if count == MOST || !lower(credits.lend()) {
            broken("cannot be lowered");
        }
        count += 1;
    }
    count
}

/// Restores as many panics of the calling thread as [`set_aside`] has told.
#[cold]
pub(crate) fn restore(count: u32) {
    for _ in 0..count {
        match raise() {
            // A process that was forked to call `exec`, or a panic hook that is running, counts none.
            Some(credit) if panicking() => bank::take_back(credit),
            _ => broken("cannot be raised"),
        }
    }
}

/// Lowers the calling thread's count to zero, for good: `whose` function has ended and caught its panics,
/// so none should be left.
#[cold]
pub(crate) fn clear(whose: impl std::fmt::Display) {
    let count = set_aside();
    bank::write_off(count);
    if count > 0 {
        report::line(format_args!(
            "coro: {whose} has ended, and {count} of its panics were still counted; was it suspended in \
             a panic hook?"
        ));
    }
}

/// Checks, in debug builds, that a coroutine which has switched away has left none of its panics.
#[inline]
pub(crate) fn assert_calm() {
    if cfg!(debug_assertions) && panicking() && !bank::shares_panics() {
        broken("was left by a coroutine");
    }
}

#[cold]
fn broken(how: &str) -> ! {
    report::line(format_args!(
        "coro: the thread's count of panics {how}; a coroutine that was suspended in the middle of its \
         unwinding cannot go on"
    ));
    std::process::abort()
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn what_is_set_aside_is_not_seen_and_comes_back() {
        struct SetsAside;
        impl Drop for SetsAside {
            fn drop(&mut self) {
                let count = set_aside();
                assert_eq!((count, panicking()), (1, false));
                let inner = catch_unwind(|| panic!("caught while another is set aside"));
                assert!(inner.is_err() && !panicking());
                restore(count);
                assert!(panicking());
            }
        }
        let outer = catch_unwind(|| {
            let _sets_aside = SetsAside;
            panic!("set aside in a destructor");
        });
        assert!(outer.is_err() && !panicking());
    }
}
