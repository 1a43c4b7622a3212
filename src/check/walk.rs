//! The frames of the running coroutine, from the suspension to the root of its stack.
//!
//! ```text
//!   high  | the worker's loop      |  not looked at
//!         +------------------------+
//!
//!         +------------------------+ <- bounds.end      a task's slot
//!         | root, frames           |
//!         | Coroutine::resume      |
//!         +------------------------+
//!
//!         +------------------------+                    a raw coroutine's slot
//!         | root, frames           |
//!         | the suspension         |
//!         | the checker's frames   | <- inside          not looked at
//!         +------------------------+
//! ```
//!
//! A frame is known by its return address, and its place by its stack pointer. The walk allocates nothing
//! and takes no lock, since it is done at every suspension.

use std::ops::Range;

/// The part of the running stacks whose frames count.
#[derive(Clone)]
pub(super) struct Section {
    /// The stack pointer of a function of the checker's. Frames further in are the checker's too.
    pub(super) inside: usize,
    /// The stack whose root is the last frame.
    pub(super) root: Range<usize>,
}

impl Section {
    /// Calls `visit` with the return address of each frame, the innermost first. False: the frames could not
    /// be followed to the root.
    pub(super) fn walk(&self, mut visit: impl FnMut(usize)) -> bool {
        let mut has_begun = false;
        let mut is_on_root = false;
        let mut is_whole = false;
        each_frame(|address, stack_pointer| {
            has_begun |= stack_pointer > self.inside;
            if !has_begun {
                return true;
            }
            let is_here = self.root.contains(&stack_pointer);
            is_whole = is_on_root && !is_here;
            is_on_root |= is_here;
            if !is_whole {
                visit(address);
            }
            !is_whole
        });
        is_whole
    }

    /// A number that stands for this chain of calls.
    pub(super) fn hash(&self) -> u64 {
        let mut hash = 0;
        self.walk(|address| {
            hash = (hash ^ address as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            hash ^= hash >> 32;
        });
        hash
    }
}

/// Calls `visit` with the return address and the stack pointer of each frame of the thread, this function's
/// first, until it gives false.
pub(super) fn each_frame(mut visit: impl FnMut(usize, usize) -> bool) {
    let visit = |frame: &backtrace::Frame| visit(frame.ip().addr(), frame.sp().addr());
    // SAFETY: on Linux the walk is `_Unwind_Backtrace`, which any number of threads may call at a time.
    unsafe { backtrace::trace_unsynchronized(visit) };
}
