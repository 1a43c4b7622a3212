//! Telling AddressSanitizer that nothing is left of a stack's former owner.
//!
//! Code that is built for it marks the gaps around a frame's locals when the frame is entered, and
//! takes the marks back when it returns. A coroutine's root frame does not return: the last switch
//! goes away from it for good. Its marks would be found by the next owner of the slot, whose frames
//! lie elsewhere.

use super::slot::Slot;

/// Takes back what marks there are on a slot that nothing lives on (S4). Nothing at all, but with the
/// feature `sanitizer`.
#[inline(always)]
pub(crate) fn unmark(slot: &Slot) {
    #[cfg(feature = "sanitizer")]
    {
        unsafe extern "C" {
            fn __asan_unpoison_memory_region(start: *const std::ffi::c_void, size: usize);
        }
        let start = std::ptr::without_provenance(slot.limit());
        // SAFETY: S4, S5, the marks of an empty stack of ours; it reads and writes nothing else.
        unsafe { __asan_unpoison_memory_region(start, slot.ceiling() - slot.limit()) };
    }
    #[cfg(not(feature = "sanitizer"))]
    let _ = slot;
}
