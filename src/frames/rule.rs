//! What a table says of one address: where the caller's registers are, when the execution stands there.
//!
//! Most rules are sums of a register and a constant, and are kept ([`FrameRule`]). Some are little programs (DWARF
//! expressions), which are run each time.

use gimli::{
    CfaRule, EhFrame, EhFrameHdr, EndianSlice, EvaluationResult, Expression, LittleEndian,
    Location, Register, RegisterRule, UnwindContext, UnwindExpression, UnwindSection,
    UnwindTableRow, Value, X86_64,
};

use super::end::WalkEnd;
use super::registers::{KEPT, Registers};
use super::tables::ObjectTables;

type Bytes<'a> = EndianSlice<'a, LittleEndian>;
pub(super) type Row = UnwindTableRow<usize>;

/// Where a register of the caller is.
#[derive(Clone, Copy)]
enum RegisterPlace {
    /// Where it was.
    Same,
    /// In memory, so far from the frame's end.
    At(i64),
    Lost,
}

/// What holds at one address. The end of a frame is the caller's stack pointer.
#[derive(Clone, Copy)]
pub(super) struct FrameRule {
    /// The frame's end: what the register holds, and so much.
    end: (Register, i64),
    kept: [RegisterPlace; KEPT.len()],
    /// Where the return address is, from the frame's end.
    return_address: i64,
    /// What is returned to was not left by a call, but by a signal or a switch.
    pub(super) is_interruption: bool,
}

/// Looks `address` up. `with` gets the row of the table, what its expressions are read from, and whether this is the
/// frame of a signal handler, or of what describes itself as one.
pub(super) fn look_up<T>(
    object: &ObjectTables,
    address: usize,
    context: &mut UnwindContext<usize>,
    with: impl FnOnce(&Row, &EhFrame<Bytes<'_>>, bool) -> Option<T>,
) -> Result<T, WalkEnd> {
    let bad = WalkEnd::BadTable(address);
    let index = EhFrameHdr::new(&object.index, LittleEndian);
    let index = index.parse(&object.bases, 8).map_err(|_| bad)?;
    let functions = EhFrame::new(&object.functions, LittleEndian);
    let table = index.table().ok_or(bad)?;
    let get_cie = EhFrame::cie_from_offset;
    let entry = table
        .fde_for_address(&functions, &object.bases, address as u64, get_cie)
        .map_err(|_| WalkEnd::NoTable(address))?;
    let row = entry
        .unwind_info_for_address(&functions, &object.bases, context, address as u64)
        .map_err(|_| bad)?;
    with(row, &functions, entry.is_signal_trampoline()).ok_or(bad)
}

impl FrameRule {
    /// `None`: the row has an expression, or no return address.
    pub(super) fn of(row: &Row, is_interruption: bool) -> Option<FrameRule> {
        let CfaRule::RegisterAndOffset { register, offset } = *row.cfa() else { return None };
        let RegisterRule::Offset(return_address) = row.register(X86_64::RA)? else { return None };
        let mut kept = [RegisterPlace::Same; KEPT.len()];
        for (place, register) in kept.iter_mut().zip(KEPT) {
            *place = match row.register(register) {
                None | Some(RegisterRule::SameValue) => RegisterPlace::Same,
                Some(RegisterRule::Undefined) => RegisterPlace::Lost,
                Some(RegisterRule::Offset(offset)) => RegisterPlace::At(offset),
                Some(_) => return None,
            };
        }
        Some(FrameRule { end: (register, offset), kept, return_address, is_interruption })
    }

    /// The caller's registers. `None`: something is not known, or is not to be read.
    pub(super) fn apply(
        &self,
        registers: &Registers,
        read: &mut impl FnMut(usize) -> Option<usize>,
    ) -> Option<Registers> {
        let (register, offset) = self.end;
        let end = registers.get(register)?.checked_add_signed(offset as isize)?;
        let mut at = |offset: i64| read(end.checked_add_signed(offset as isize)?);
        let mut caller = Registers { pc: at(self.return_address)?, sp: end, kept: registers.kept };
        for (value, place) in caller.kept.iter_mut().zip(self.kept) {
            match place {
                RegisterPlace::Same => {}
                RegisterPlace::At(offset) => *value = Some(at(offset)?),
                RegisterPlace::Lost => *value = None,
            }
        }
        Some(caller)
    }
}

/// As [`FrameRule::apply`], for a row of any kind.
pub(super) fn apply_row(
    row: &Row,
    functions: &EhFrame<Bytes<'_>>,
    registers: &Registers,
    read: &mut impl FnMut(usize) -> Option<usize>,
) -> Option<Registers> {
    let end = match row.cfa() {
        CfaRule::RegisterAndOffset { register, offset } => {
            registers.get(*register)?.checked_add_signed(*offset as isize)?
        }
        CfaRule::Expression(expression) => evaluate(expression, functions, None, registers, read)?,
    };
    let mut value = |register, before| match row.register(register) {
        None | Some(RegisterRule::SameValue) => before,
        Some(RegisterRule::Offset(offset)) => read(end.checked_add_signed(offset as isize)?),
        Some(RegisterRule::ValOffset(offset)) => end.checked_add_signed(offset as isize),
        Some(RegisterRule::Register(other)) => registers.get(other),
        Some(RegisterRule::Expression(expression)) => {
            let at = evaluate(&expression, functions, Some(end), registers, read)?;
            read(at)
        }
        Some(RegisterRule::ValExpression(expression)) => {
            evaluate(&expression, functions, Some(end), registers, read)
        }
        Some(_) => None,
    };
    let mut kept = registers.kept;
    for (kept, register) in kept.iter_mut().zip(KEPT) {
        *kept = value(register, *kept);
    }
    Some(Registers { pc: value(X86_64::RA, None)?, sp: end, kept })
}

/// What an expression gives. Those of registers begin with the frame's end.
fn evaluate(
    expression: &UnwindExpression<usize>,
    functions: &EhFrame<Bytes<'_>>,
    end: Option<usize>,
    registers: &Registers,
    read: &mut impl FnMut(usize) -> Option<usize>,
) -> Option<usize> {
    let encoding = gimli::Encoding { address_size: 8, format: gimli::Format::Dwarf32, version: 4 };
    let expression: Expression<Bytes<'_>> = expression.get(functions).ok()?;
    let mut evaluation = expression.evaluation(encoding);
    // A loop in one is cut short.
    evaluation.set_max_iterations(1000);
    if let Some(end) = end {
        evaluation.set_initial_value(end as u64);
    }
    let mut state = evaluation.evaluate().ok()?;
    loop {
        state = match state {
            EvaluationResult::Complete => break,
            EvaluationResult::RequiresMemory { address, size: 8, space: None, .. } => {
                let word = read(address as usize)?;
                evaluation.resume_with_memory(Value::Generic(word as u64)).ok()?
            }
            EvaluationResult::RequiresRegister { register, .. } => {
                let value = registers.get(register)?;
                evaluation.resume_with_register(Value::Generic(value as u64)).ok()?
            }
            _ => return None,
        };
    }
    match evaluation.result().first()?.location {
        Location::Address { address } => Some(address as usize),
        _ => None,
    }
}
