//! The frames of a task that is suspended.
//!
//! A task may be suspended while it resumes a raw coroutine, which may have resumed another. Then its frames lie on
//! several stacks, the innermost on that of the innermost coroutine. Each record names its resumer.
//!
//! - **V2** A task's stacks are read by its worker between two turns, so they do not change. What is read lies between
//!   a stack's guard and its end.

use std::ops::Range;

use super::header::Listed;
use super::stack::SwitchReason;
use crate::coroutine::StackPointerPlace;
use crate::frames::{Registers, WalkEnd, Walker};
use crate::{goexit, record, stack};

/// What walks the stacks of tasks.
pub(crate) struct TaskWalker {
    walker: Walker,
    /// `None`: nobody knows.
    place: Option<StackPointerPlace<(), SwitchReason>>,
}

impl TaskWalker {
    pub(crate) fn new(walker: Walker) -> TaskWalker {
        TaskWalker { walker, place: StackPointerPlace::find() }
    }

    /// Walks the frames of a task, and calls `visit` with the address that each goes on at, the innermost first. Gives
    /// where the walk has ended, and how many bytes of its stacks the task uses. By the task's worker.
    pub(crate) fn walk(
        &mut self,
        task: &Listed,
        visit: impl FnMut(usize),
    ) -> (WalkEnd, Option<usize>) {
        let unknown = (WalkEnd::UnknownSwitch, None);
        let Some(place) = self.place else { return unknown };
        // SAFETY: C2, the list is its worker's, and between two turns each task in it is suspended.
        let Some(registers) = (unsafe { task.task_stack().engine.registers(place) }) else {
            return unknown;
        };
        let used = stacks(registers.sp).map(|(sp, bounds)| bounds.end - sp).sum();
        let own = stack::bounds_of(task.stack.get().addr());
        let is_root = |caller: &Registers| {
            goexit::is_return_address(caller.pc)
                && own.as_ref().is_some_and(|own| own.contains(&caller.sp))
        };
        let mut near = own.clone().unwrap_or_default();
        let read = |address: usize| {
            let holds = |range: &Range<usize>| {
                address.is_multiple_of(8) && range.start <= address && address + 8 <= range.end
            };
            if !holds(&near) {
                near = stacks(registers.sp).map(|(_, bounds)| bounds).find(holds)?;
            }
            // SAFETY: V2.
            Some(unsafe { read_word(address) })
        };
        (self.walker.walk(registers, read, is_root, visit), Some(used))
    }
}

/// The stacks that a suspended task has frames on, the innermost first, whose stack pointer is `sp`: the stack pointer
/// of each, or one that is near it, and its bounds.
fn stacks(sp: usize) -> impl Iterator<Item = (usize, Range<usize>)> {
    let mut next = sp;
    std::iter::from_fn(move || {
        let (sp, bounds) = (next, stack::bounds_of(next)?);
        // SAFETY: R1, the stack is in use, and suspended for as long as we look.
        next = unsafe { record::at(sp) }.map_or(0, |record| record.resumer.get());
        Some((sp, bounds))
    })
}

/// The word at an address. An address sanitizer does not see it: a table that is wrong may lead between two variables.
///
/// # Safety
///
/// The address is a multiple of 8, and readable.
unsafe fn read_word(address: usize) -> usize {
    let word: usize;
    // SAFETY: the caller's word.
    unsafe {
        std::arch::asm!("mov {}, [{}]", out(reg) word, in(reg) address,
            options(pure, readonly, nostack, preserves_flags));
    }
    word
}
