//! Raising and lowering std's count of a thread's panics.
//!
//! std has no function for that. But what moves the count is public:
//!
//! - [`resume_unwind`] raises the count of the thread that it is called on.
//! - [`catch_unwind`] lowers the count of the thread that catches the exception, and the exception may
//!   have come from any thread.
//!
//! ```text
//!   raise    resume_unwind under a frame of ours, which takes the exception and does not catch it
//!   lower    _Unwind_RaiseException of such an exception, under catch_unwind
//! ```
//!
//! Such an exception is a [`Credit`]: a count that was raised on one thread, and may be lowered on
//! another. std promises none of this, so [`works`] tries it out.
//!
//! # Invariants
//!
//! - **U1** The intercepting frame returns an exception of std's that nobody has caught.
//! - **U2** A credit is raised once, under a `catch_unwind` that nothing lies in between.

use std::arch::global_asm;
use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;
use std::thread;

global_asm!(
    include_str!("../../asm/intercept.s"),
    PERSONALITY = sym personality,
);

/// An exception of the unwinder's.
#[repr(C)]
pub(super) struct Exception {
    opaque: [u8; 0],
}

/// A frame that the unwinder is visiting.
#[repr(C)]
struct Frame {
    opaque: [u8; 0],
}

unsafe extern "C-unwind" {
    /// Calls `function` and returns the exception that it unwinds with; null if it returns.
    fn coro_intercept(function: extern "C-unwind" fn()) -> *mut Exception;
    // Level I of the Itanium C++ ABI. std links the library that has it.
    fn _Unwind_RaiseException(exception: *mut Exception) -> c_int;
}

unsafe extern "C" {
    safe static coro_intercepted: u8;
    fn _Unwind_SetGR(frame: *mut Frame, register: c_int, value: usize);
    fn _Unwind_SetIP(frame: *mut Frame, address: usize);
}

// Actions and answers of a personality routine, from the same document.
const SEARCH_PHASE: c_int = 1;
const FORCED: c_int = 8;
const HANDLER_FOUND: c_int = 6;
const INSTALL_CONTEXT: c_int = 7;
const CONTINUE: c_int = 8;
/// RAX, as DWARF numbers it.
const RAX: c_int = 0;

/// Tells the unwinder what the intercepting frame does: it stops every exception.
unsafe extern "C" fn personality(
    _version: c_int,
    actions: c_int,
    _class: u64,
    exception: *mut Exception,
    frame: *mut Frame,
) -> c_int {
    if actions & FORCED != 0 {
        return CONTINUE; // the thread is being ended: nothing can stop that
    }
    if actions & SEARCH_PHASE != 0 {
        return HANDLER_FOUND;
    }
    // SAFETY: U1, the unwinder lends us the frame, and there it can go on with an exception in RAX.
    unsafe {
        _Unwind_SetGR(frame, RAX, exception.addr());
        _Unwind_SetIP(frame, (&raw const coro_intercepted).addr());
    }
    INSTALL_CONTEXT
}

/// The payload of a credit. Of no size, so that only the exception is allocated.
struct Raised;

/// A panic that was counted on some thread, as an exception that nobody has caught.
pub(super) struct Credit(NonNull<Exception>);

// SAFETY: U1, an exception may be caught on another thread, and its payload is empty.
unsafe impl Send for Credit {}

/// Raises the calling thread's count by one. `None`: nothing was intercepted.
pub(super) fn raise() -> Option<Credit> {
    extern "C-unwind" fn unwind() {
        resume_unwind(Box::new(Raised));
    }
    // SAFETY: U1, the function does nothing but unwind.
    NonNull::new(unsafe { coro_intercept(unwind) }).map(Credit)
}

/// Lowers the calling thread's count by one. False: it was not that credit that was caught.
pub(super) fn lower(credit: Credit) -> bool {
    // SAFETY: U2.
    let raise = || unsafe { _Unwind_RaiseException(credit.0.as_ptr()) };
    catch_unwind(AssertUnwindSafe(raise)).is_err_and(|payload| payload.is::<Raised>())
}

/// Whether the calling coroutine, or the thread where there is none, is unwinding from a panic.
#[inline(always)]
pub(crate) fn panicking() -> bool {
    thread::panicking()
}

/// Whether the count can be moved: tried out on a thread that is not panicking.
pub(super) fn works() -> bool {
    let moved = || {
        let (first, second) = (raise()?, raise()?);
        let raised = panicking();
        let still_raised = lower(first) && panicking();
        let lowered = lower(second) && !panicking();
        Some(raised && still_raised && lowered)
    };
    // What was not intercepted arrives here.
    catch_unwind(AssertUnwindSafe(moved)).is_ok_and(|moved| moved == Some(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raised_count_is_seen_and_a_lowered_one_is_gone() {
        assert!(works());
        assert!(!panicking());
        let credits: Vec<_> = (0..100).map(|_| raise().expect("it is intercepted")).collect();
        assert!(panicking());
        for credit in credits {
            assert!(panicking());
            assert!(lower(credit));
        }
        assert!(!panicking());
    }

    #[test]
    fn a_credit_may_be_lowered_on_another_thread() {
        let credit = raise().expect("it is intercepted");
        thread::spawn(move || {
            let other = raise().expect("it is intercepted");
            assert!(lower(credit) && !panicking());
            other
        })
        .join()
        .map(|other| assert!(panicking() && lower(other) && !panicking()))
        .expect("the other thread does not panic");
    }
}
