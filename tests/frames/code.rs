//! The code that is stepped through: our own assembly, and corosensei's switch with what a walk of the
//! stack can count on at each of its instructions.
//!
//! The switch is inline assembly. It lies in the middle of other functions, in as many copies as the
//! compiler made, and has no symbol; so it is recognised by its bytes. A version of corosensei that
//! writes it in another way is not recognised, and then the test misses instructions of this table.
//!
//! # By the unwind tables
//!
//! Inline assembly cannot say what it does to the stack: the tables of the function around it describe
//! its beginning and its end. What they are worth in between depends on the register by which that
//! function finds its own frame.
//!
//! - **RSP**, in a build without frame pointers: they are wrong from the first PUSH on.
//! - **RBP**, in a build with them: they are right for as long as RBP is the function's own. While RBP
//!   and RSP belong to different stacks, they tell of RBP's.
//!
//! Where they are wrong a walk may end early, show frames that are none, or read where nothing is
//! mapped. The root frame has tables of its own, and they hold as soon as both registers are the
//! coroutine's.
//!
//! # By frame pointers
//!
//! At each instruction RBP points to a frame of one of the two stacks, and from there the chain has
//! every frame that keeps a frame pointer; a coroutine's goes on into its resumer's. While RBP is the
//! resumer's and the instruction is not, the walk misses the function that resumes, as it misses the
//! caller at the first instruction of any function.

use std::ffi::c_void;
use std::fmt;

unsafe extern "C" {
    fn _Unwind_FindEnclosingFunction(return_address: *const c_void) -> *const c_void;

    /// The parts of our assembly, declared as the crate declares them.
    fn coro_trampoline(
        record: *const (),
        argument: *mut (),
        function: unsafe extern "C" fn(*mut ()),
    );
    safe static coro_goexit: u8;
    safe static coro_cleanup: u8;

    /// By the linker: where the program begins, and where its code ends.
    safe static __executable_start: u8;
    safe static etext: u8;
}

/// Where the function begins that the instruction at `pc` belongs to, as the unwind tables know it.
pub(crate) fn function_at(pc: usize) -> usize {
    // SAFETY: any address will do. It is taken for a return address, so the byte before it counts.
    unsafe { _Unwind_FindEnclosingFunction((pc + 1) as *const c_void) }.addr()
}

/// Whether `pc` lies in the program itself and not in a library.
pub(crate) fn is_of_the_program(pc: usize) -> bool {
    ((&raw const __executable_start).addr()..(&raw const etext).addr()).contains(&pc)
}

/// Whether the instruction at `pc` is the POP of `push 1; pop rax`.
///
/// So LLVM loads a small constant at `opt-level = "z"`. In a build with frame pointers a function may do so
/// before its own PUSH of RBP, and then its unwind tables miss the constant on the stack (LLVM 22).
///
/// # Safety
///
/// At `pc` is code, with more of it on both sides.
pub(crate) unsafe fn pops_a_constant(pc: usize) -> bool {
    // SAFETY: the caller's word.
    let byte = |at: usize| unsafe { *(at as *const u8) };
    let opcode = if byte(pc) == 0x41 { byte(pc + 1) } else { byte(pc) };
    byte(pc - 2) == 0x6a && matches!(opcode, 0x58..=0x5f)
}

/// Our own assembly.
pub(crate) struct Trampoline;

impl Trampoline {
    pub(crate) fn start() -> usize {
        coro_trampoline as *const () as usize
    }

    /// Where in the trampoline `pc` lies, seen from its first byte.
    pub(crate) fn offset_of(pc: usize) -> Option<usize> {
        let start = Trampoline::start();
        (pc >= start && function_at(pc) == start).then(|| pc - start)
    }

    /// Where its part that is named `goexit` begins, and `cleanup`.
    pub(crate) fn goexit() -> usize {
        (&raw const coro_goexit).addr() - Trampoline::start()
    }

    pub(crate) fn cleanup() -> usize {
        (&raw const coro_cleanup).addr() - Trampoline::start()
    }
}

/// Whether the unwind tables lead from an instruction to the outermost frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tables {
    /// In every build.
    Right,
    /// Where the function around it finds its frame by RBP.
    RightByRbp,
    /// In no build.
    Wrong,
}

/// One of the two stacks that take part in a switch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Resumer,
    Coroutine,
}

use Side::{Coroutine, Resumer};
use Tables::{Right, RightByRbp, Wrong};

pub(crate) struct Instruction {
    /// In hexadecimal; a dot stands for any digit.
    code: &'static str,
    pub(crate) text: &'static str,
    pub(crate) tables: Tables,
    /// Whose frame RBP points to when the instruction is about to run.
    pub(crate) rbp: Side,
}

const fn instruction(
    code: &'static str,
    text: &'static str,
    tables: Tables,
    rbp: Side,
) -> Instruction {
    Instruction { code, text, tables, rbp }
}

/// Instructions that follow each other in memory.
pub(crate) struct Block {
    pub(crate) name: &'static str,
    pub(crate) instructions: &'static [Instruction],
}

/// `switch_and_link`. Its CALL leads to `ROOT`, or into the second half of `SUSPEND`; both RETs lead
/// back to its end.
const RESUME: Block = Block {
    name: "resume",
    instructions: &[
        instruction("53", "push rbx", Right, Resumer),
        instruction("ff 12", "call [rdx]", RightByRbp, Resumer),
        instruction("5b", "pop rbx", RightByRbp, Resumer),
    ],
};

/// `stack_init_trampoline`, the root frame of a coroutine.
const ROOT: Block = Block {
    name: "root",
    instructions: &[
        instruction("55", "push rbp", RightByRbp, Resumer),
        instruction("48 89 66 f0", "mov [rsi - 16], rsp", Wrong, Resumer),
        instruction("48 83 ee 10", "sub rsi, 16", Wrong, Resumer),
        instruction("48 8d 62 08", "lea rsp, [rdx + 8]", Wrong, Resumer),
        instruction("48 89 f5", "mov rbp, rsi", Wrong, Resumer),
        instruction("48 89 e2", "mov rdx, rsp", Right, Coroutine),
        instruction("48 8d 0d .. .. .. ..", "lea rcx, [rip + ...]", Right, Coroutine),
        instruction("51", "push rcx", Right, Coroutine),
        instruction("ff 66 08", "jmp [rsi + 8]", Right, Coroutine),
    ],
};

/// `switch_yield`: out with the RET, back in behind it.
const SUSPEND: Block = Block {
    name: "suspend",
    instructions: &[
        instruction("55", "push rbp", Right, Coroutine),
        instruction("53", "push rbx", RightByRbp, Coroutine),
        instruction("48 8d 05 .. .. .. ..", "lea rax, [rip + ...]", RightByRbp, Coroutine),
        instruction("50", "push rax", RightByRbp, Coroutine),
        instruction("48 89 e6", "mov rsi, rsp", RightByRbp, Coroutine),
        instruction("48 8b 22", "mov rsp, [rdx]", RightByRbp, Coroutine),
        instruction("5d", "pop rbp", RightByRbp, Coroutine),
        instruction("c3", "ret", Wrong, Resumer),
        instruction("55", "push rbp, again", Wrong, Resumer),
        instruction("48 89 66 f0", "mov [rsi - 16], rsp", Wrong, Resumer),
        instruction("48 8d 62 08", "lea rsp, [rdx + 8]", Wrong, Resumer),
        instruction("5b", "pop rbx", Wrong, Resumer),
        instruction("5d", "pop rbp, again", Wrong, Resumer),
    ],
};

/// `switch_and_reset`: out for the last time.
const END: Block = Block {
    name: "end",
    instructions: &[
        instruction("4. 8b 2.", "mov rsp, [...]", Right, Coroutine),
        instruction("5d", "pop rbp", RightByRbp, Coroutine),
        instruction("c3", "ret", Wrong, Resumer),
    ],
};

pub(crate) const BLOCKS: [Block; 4] = [RESUME, ROOT, SUSPEND, END];

/// An instruction of the switch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    block: usize,
    index: usize,
}

impl Place {
    /// The CALL of [`RESUME`]: the last word of the resumer's that belongs to its frames.
    pub(crate) const CALL: Place = Place { block: 0, index: 1 };
    /// The JMP of [`ROOT`], which stands for a call.
    pub(crate) const JMP: Place = Place { block: 1, index: ROOT.instructions.len() - 1 };

    pub(crate) fn all() -> impl Iterator<Item = Place> {
        BLOCKS.iter().enumerate().flat_map(|(block, Block { instructions, .. })| {
            (0..instructions.len()).map(move |index| Place { block, index })
        })
    }

    pub(crate) fn instruction(self) -> &'static Instruction {
        &BLOCKS[self.block].instructions[self.index]
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", BLOCKS[self.block].name, self.instruction().text)
    }
}

/// The bytes of a block, ready to be compared.
struct Pattern {
    /// Which bits of each byte count, and their values.
    bytes: Vec<(u8, u8)>,
    /// Where each instruction begins.
    starts: Vec<usize>,
}

impl Pattern {
    fn of(block: &Block) -> Pattern {
        let mut pattern = Pattern { bytes: Vec::new(), starts: Vec::new() };
        for instruction in block.instructions {
            pattern.starts.push(pattern.bytes.len());
            pattern.bytes.extend(instruction.code.split(' ').map(|byte| {
                byte.chars().fold((0, 0), |(mask, value), digit| match digit.to_digit(16) {
                    Some(digit) => (mask << 4 | 0xf, value << 4 | digit as u8),
                    None => (mask << 4, value << 4),
                })
            }));
        }
        pattern
    }

    /// Which instruction of the block begins at `pc`.
    ///
    /// # Safety
    ///
    /// At `pc` is code, with more of it on both sides.
    unsafe fn index_at(&self, pc: usize) -> Option<usize> {
        self.starts.iter().position(|start| {
            let first = (pc - start) as *const u8;
            self.bytes.iter().enumerate().all(|(offset, (mask, value))| {
                // SAFETY: the caller's word, and a block is no longer than 40 bytes.
                let byte = unsafe { *first.wrapping_add(offset) };
                byte & mask == *value
            })
        })
    }
}

/// Recognises the instructions of the switch. Does not allocate once it is made.
pub(crate) struct Finder(Vec<Pattern>);

impl Finder {
    pub(crate) fn new() -> Finder {
        Finder(BLOCKS.iter().map(Pattern::of).collect())
    }

    /// The instruction of the switch that begins at `pc`.
    ///
    /// # Safety
    ///
    /// At `pc` is code, with more of it on both sides.
    pub(crate) unsafe fn place_of(&self, pc: usize) -> Option<Place> {
        self.0.iter().enumerate().find_map(|(block, pattern)| {
            // SAFETY: the caller's word.
            unsafe { pattern.index_at(pc) }.map(|index| Place { block, index })
        })
    }
}
