//! From frame to frame.
//!
//! What is read of the stack is read by the caller's function, which knows what may be read. So a table that is wrong
//! leads to a wrong trace, or to none, and never to a fault.

use std::sync::Arc;

use gimli::UnwindContext;

use super::end::WalkEnd;
use super::registers::Registers;
use super::rule::{self, FrameRule};
use super::tables::Tables;

/// As many frames are walked at most.
const DEEPEST: usize = 256;

/// How many rules are kept, a power of two. Stacks that are alike need a few dozen.
const CACHED: usize = 512;

/// Walks one stack after another, and remembers what it has looked up.
pub(crate) struct Walker {
    tables: Arc<Tables>,
    /// Each in the place that its address is given by.
    rules: Box<[Option<(usize, FrameRule)>]>,
    context: UnwindContext<usize>,
}

impl Walker {
    pub(crate) fn new(tables: Arc<Tables>) -> Walker {
        Walker { tables, rules: vec![None; CACHED].into(), context: UnwindContext::new() }
    }

    /// Walks the stack of these registers, to the first frame that `is_root` says yes to. `visit` gets the address that
    /// each frame goes on at, the innermost first, without the root's. `read` gives the word at an address, or `None`,
    /// if that is not to be read.
    pub(crate) fn walk(
        &mut self,
        mut registers: Registers,
        mut read: impl FnMut(usize) -> Option<usize>,
        mut is_root: impl FnMut(&Registers) -> bool,
        mut visit: impl FnMut(usize),
    ) -> WalkEnd {
        // A return address may lie behind the function whose last instruction is the call.
        let mut is_exact = true;
        for _ in 0..DEEPEST {
            visit(registers.pc);
            let address = registers.pc - usize::from(!is_exact);
            match self.step(address, &registers, &mut read) {
                Ok((caller, exact)) => {
                    if is_root(&caller) {
                        return WalkEnd::Root;
                    }
                    if caller.pc == 0 || (caller.pc, caller.sp) == (registers.pc, registers.sp) {
                        return WalkEnd::BadTable(address);
                    }
                    (registers, is_exact) = (caller, exact);
                }
                Err(end) => return end,
            }
        }
        WalkEnd::TooDeep
    }

    /// The caller's registers, and whether it goes on at an instruction that follows no call.
    fn step(
        &mut self,
        address: usize,
        registers: &Registers,
        read: &mut impl FnMut(usize) -> Option<usize>,
    ) -> Result<(Registers, bool), WalkEnd> {
        let mut is_refused = false;
        let mut read = |at| {
            read(at).or_else(|| {
                is_refused = true;
                None
            })
        };
        let outcome = self.find_and_apply(address, registers, &mut read);
        match outcome {
            Err(WalkEnd::BadTable(_)) if is_refused => Err(WalkEnd::LeavesStack(address)),
            outcome => outcome,
        }
    }

    fn find_and_apply(
        &mut self,
        address: usize,
        registers: &Registers,
        read: &mut impl FnMut(usize) -> Option<usize>,
    ) -> Result<(Registers, bool), WalkEnd> {
        let place = address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (usize::BITS - CACHED.ilog2());
        let apply = |rule: FrameRule, read: &mut _| match rule.apply(registers, read) {
            Some(caller) => Ok((caller, rule.is_interruption)),
            None => Err(WalkEnd::BadTable(address)),
        };
        if let Some((_, rule)) = self.rules[place].filter(|(of, _)| *of == address) {
            return apply(rule, read);
        }
        let object = self.tables.of(address).ok_or(WalkEnd::NoTable(address))?;
        let rules = &mut self.rules;
        rule::look_up(object, address, &mut self.context, |row, functions, is_interruption| {
            match FrameRule::of(row, is_interruption) {
                Some(rule) => {
                    rules[place] = Some((address, rule));
                    apply(rule, read).ok()
                }
                None => {
                    let caller = rule::apply_row(row, functions, registers, read)?;
                    Some((caller, is_interruption))
                }
            }
        })
    }
}
