//! The registers of a frame.

use gimli::{Register, X86_64};

/// The registers that a function keeps for its caller, besides the stack pointer.
pub(super) const KEPT: [Register; 6] =
    [X86_64::RBX, X86_64::RBP, X86_64::R12, X86_64::R13, X86_64::R14, X86_64::R15];

/// The registers of a frame that does not run, as far as they are known.
#[derive(Clone, Copy)]
pub(crate) struct Registers {
    /// Where it goes on.
    pub(crate) pc: usize,
    pub(crate) sp: usize,
    /// Those of [`KEPT`].
    pub(super) kept: [Option<usize>; KEPT.len()],
}

impl Registers {
    pub(crate) fn new(pc: usize, sp: usize, rbx: usize, rbp: usize) -> Registers {
        Registers { pc, sp, kept: [Some(rbx), Some(rbp), None, None, None, None] }
    }

    pub(super) fn get(&self, register: Register) -> Option<usize> {
        match register {
            X86_64::RSP => Some(self.sp),
            _ => self.kept[KEPT.iter().position(|kept| *kept == register)?],
        }
    }
}
