//! The frames that there really are, kept up to date instruction by instruction.
//!
//! Whoever sees each instruction run needs no tables to know who called whom: a CALL leaves a return
//! address at RSP, and that frame lives until RSP has risen above it. The shadow holds the *places*
//! of the return addresses and not their values, so a rewritten one is seen as what it is now.
//!
//! Two jumps stand for calls, with a return address that was pushed by hand: the root frame's to a
//! coroutine's first function, and `cleanup`'s to the function that does it. The CALL of the switch is
//! where the resumer's frames end for as long as the coroutine runs.

use std::iter;
use std::ops::Range;
use std::ptr;

use super::code::{Finder, Place, Side, Trampoline};

/// The registers that a function keeps for its caller, as in [`REGISTERS`].
pub(crate) type Kept = [usize; 6];

/// Their numbers in the unwind tables: RBX, RBP, R12 to R15.
pub(crate) const REGISTERS: [i32; 6] = [3, 6, 12, 13, 14, 15];

/// What an instruction found that is about to run.
#[derive(Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) pc: usize,
    pub(crate) rsp: usize,
    pub(crate) kept: Kept,
}

impl Moment {
    pub(crate) fn of(context: &libc::ucontext_t) -> Moment {
        use libc::{REG_R12, REG_R13, REG_R14, REG_R15, REG_RBP, REG_RBX, REG_RIP, REG_RSP};
        let register = |number: i32| context.uc_mcontext.gregs[number as usize] as usize;
        Moment {
            pc: register(REG_RIP),
            rsp: register(REG_RSP),
            kept: [REG_RBX, REG_RBP, REG_R12, REG_R13, REG_R14, REG_R15].map(register),
        }
    }

    pub(crate) fn rbp(&self) -> usize {
        self.kept[1]
    }
}

/// How a frame came to be, and so what can be told of its caller.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// By a call: the caller gets all registers back.
    Call,
    /// By the root's jump. The root runs nothing more, so only its RBP matters.
    Root,
    /// By the switch. It gives its function RBX and RBP back, and the others count as used up.
    Switch,
}

impl Kind {
    /// Whether a register of the caller's is kept.
    pub(crate) fn keeps(self, register: i32) -> bool {
        match self {
            Kind::Call => true,
            Kind::Root => register == 6,
            Kind::Switch => register == 3 || register == 6,
        }
    }
}

/// A frame that some function waits behind.
#[derive(Clone, Copy)]
pub(crate) struct Frame {
    /// Where the return address lies.
    pub(crate) slot: usize,
    /// The caller's registers, as they were at the call.
    pub(crate) kept: Kept,
    pub(crate) kind: Kind,
    /// Whether the chain of frame pointers has it: the caller's RBP was pushed below the return address,
    /// and RBP was set to point there.
    pub(crate) linked: bool,
}

impl Frame {
    /// What the slot says now.
    pub(crate) fn return_address(&self) -> usize {
        // SAFETY: the frame is alive, or the shadow would have forgotten it.
        unsafe { word(self.slot) }
    }
}

/// A word of a stack that is in use.
///
/// # Safety
///
/// There is one at `address`.
pub(crate) unsafe fn word(address: usize) -> usize {
    // SAFETY: the caller's word; what a walk that is lost takes for an address may be odd.
    unsafe { (address as *const usize).read_unaligned() }
}

/// More frames than there will be, because the handler cannot allocate.
const FRAMES: usize = 1000;

/// The frames of a thread and of the coroutine that it resumes.
pub(crate) struct Shadow {
    thread: Range<usize>,
    /// Outermost first.
    resumer: Vec<Frame>,
    coroutine: Vec<Frame>,
    finder: Finder,
}

impl Shadow {
    /// Begins with the frames that the calling thread has, outermost first.
    pub(crate) fn new(mut resumer: Vec<Frame>) -> Shadow {
        resumer.reserve(FRAMES);
        let coroutine = Vec::with_capacity(FRAMES);
        Shadow { thread: stack_of_the_thread(), resumer, coroutine, finder: Finder::new() }
    }

    /// The thread's own stack.
    pub(crate) fn thread(&self) -> &Range<usize> {
        &self.thread
    }

    /// The stack that an address lies on.
    pub(crate) fn side_of(&self, address: usize) -> Side {
        if self.thread.contains(&address) { Side::Resumer } else { Side::Coroutine }
    }

    /// The instruction of the switch at `pc`, which is about to run.
    pub(crate) fn place_of(&self, pc: usize) -> Option<Place> {
        // SAFETY: what runs is code, and neither begins nor ends its mapping.
        unsafe { self.finder.place_of(pc) }
    }

    /// Takes note of what the instruction at `before.pc` has done. There is none at the first moment.
    pub(crate) fn follow(&mut self, before: Option<&Moment>, now: &Moment) {
        let frames = match self.side_of(now.rsp) {
            Side::Resumer => &mut self.resumer,
            Side::Coroutine => &mut self.coroutine,
        };
        while frames.last().is_some_and(|frame| frame.slot < now.rsp) {
            frames.pop();
        }
        let Some(before) = before else { return };
        if let Some(kind) = call_between(&self.finder, before, now) {
            assert!(frames.len() < frames.capacity(), "the shadow is full");
            // Both ways on from the switch begin with a PUSH of the resumer's RBP.
            let linked = kind == Kind::Switch;
            frames.push(Frame { slot: now.rsp, kept: before.kept, kind, linked });
        }
        // SAFETY: it ran, and there is more code behind it.
        let code = unsafe { *(before.pc as *const [u8; 3]) };
        match (frames.last_mut(), code) {
            // mov rbp, rsp
            (Some(last), [0x48, 0x89, 0xe5]) if last.slot == now.rsp + 8 => last.linked = true,
            // pop rbp, leave
            (Some(last), [0x5d | 0xc9, ..]) if last.slot == now.rsp => last.linked = false,
            _ => {}
        }
    }

    /// The frames that code on a stack has behind it, innermost first.
    pub(crate) fn frames(&self, side: Side) -> impl Iterator<Item = &Frame> + Clone {
        let inside: &[Frame] = match side {
            Side::Resumer => &[],
            Side::Coroutine => &self.coroutine,
        };
        iter::chain(inside.iter().rev(), self.resumer.iter().rev())
    }

    /// Those that the chain of frame pointers has which begins on a stack.
    pub(crate) fn linked(&self, side: Side) -> impl Iterator<Item = &Frame> + Clone {
        // The resumer's RBP knows nothing yet, or nothing any more, of the switch.
        let named = move |frame: &&Frame| {
            frame.linked && (side == Side::Coroutine || frame.kind != Kind::Switch)
        };
        self.frames(side).filter(named)
    }
}

/// What stands for a call among the instructions, if the one at `before.pc` does.
fn call_between(finder: &Finder, before: &Moment, now: &Moment) -> Option<Kind> {
    // SAFETY: what ran is code, in the middle of more.
    let (place, calls) = unsafe { (finder.place_of(before.pc), is_call(before.pc)) };
    let leaves_ours = || {
        let [from, to] = [before.pc, now.pc].map(Trampoline::offset_of);
        now.rsp == before.rsp && from.is_some() && to.is_none()
    };
    match place {
        Some(Place::CALL) => Some(Kind::Switch),
        Some(Place::JMP) => Some(Kind::Root),
        _ => (calls || leaves_ours()).then_some(Kind::Call),
    }
}

/// Whether the instruction at `pc` is a CALL.
///
/// It takes the opcode to tell. A PUSH too moves RSP by a word, which may be the address of the next
/// instruction; and a CALL too may go on a few bytes further down, where the next function begins.
///
/// # Safety
///
/// At `pc` is code, with more of it behind.
unsafe fn is_call(pc: usize) -> bool {
    // SAFETY: the caller's word; there are no more prefixes than three before a CALL.
    let code = unsafe { *(pc as *const [u8; 5]) };
    let mut code =
        code.into_iter().skip_while(|byte| matches!(byte, 0x3e | 0x40..=0x4f | 0x66 | 0x67 | 0xf2));
    match code.next() {
        Some(0xe8) => true,
        Some(0xff) => code.next().is_some_and(|operand| operand >> 3 & 7 == 2),
        _ => false,
    }
}

fn stack_of_the_thread() -> Range<usize> {
    let (mut low, mut size) = (ptr::null_mut(), 0);
    // SAFETY: asks for the attributes of the calling thread, into live locals.
    unsafe {
        let mut attributes = std::mem::zeroed();
        assert_eq!(libc::pthread_getattr_np(libc::pthread_self(), &raw mut attributes), 0);
        let got = libc::pthread_attr_getstack(&raw const attributes, &raw mut low, &raw mut size);
        assert_eq!(got, 0);
        libc::pthread_attr_destroy(&raw mut attributes);
    }
    low.addr()..low.addr() + size
}
