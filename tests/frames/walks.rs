//! The two ways to walk a stack, each compared with the frames that there really are.
//!
//! By the unwind tables, with libgcc's unwinder, which a panic and `std::backtrace` use. Of each frame it
//! must know all that it finds the next by, or would enter a landing pad with: the return address, the
//! stack pointer, and the registers that a function keeps for its caller.
//!
//! By frame pointers, as a profiler does it in the kernel: RBP points to the caller's RBP, and the
//! return address lies above.
//!
//! Neither allocates or takes a lock, so both may run in a signal handler that has interrupted anything.

use std::arch::asm;
use std::ffi::{c_int, c_void};
use std::ops::Range;

use super::shadow::{Frame, Kind, Moment, REGISTERS, word};

unsafe extern "C" {
    fn _Unwind_Backtrace(
        each: extern "C" fn(*mut c_void, *mut c_void) -> c_int,
        argument: *mut c_void,
    ) -> c_int;
    fn _Unwind_GetIPInfo(context: *mut c_void, interrupted: *mut c_int) -> usize;
    fn _Unwind_GetCFA(context: *mut c_void) -> usize;
    fn _Unwind_GetGR(context: *mut c_void, register: c_int) -> usize;
}

/// What a callback of the unwinder returns so that the walk goes on, and so that it ends.
const GO_ON: c_int = 0;
const STOP: c_int = 5;

/// Where a walk and the truth part.
#[derive(Clone, Copy)]
pub(crate) struct Astray {
    pub(crate) what: &'static str,
    /// How many frames they agreed on.
    pub(crate) depth: usize,
    pub(crate) expected: usize,
    pub(crate) found: usize,
}

/// Compares what a walk has found, behind `depth` frames, with what it had to find.
pub(crate) fn check(
    what: &'static str,
    depth: usize,
    expected: usize,
    found: usize,
) -> Result<(), Astray> {
    if expected == found { Ok(()) } else { Err(Astray { what, depth, expected, found }) }
}

/// One frame, as the unwinder shows it to its callback.
struct Shown {
    pc: usize,
    /// Whether `pc` is the next instruction of code that a signal has interrupted, and so no return
    /// address.
    interrupted: bool,
    /// What RSP is there.
    rsp: usize,
    context: *mut c_void,
}

impl Shown {
    /// # Safety
    ///
    /// `context` is what the unwinder passes to its callback, which is running.
    unsafe fn of(context: *mut c_void) -> Shown {
        let mut interrupted = 0;
        // SAFETY: the caller's word.
        let (pc, rsp) =
            unsafe { (_Unwind_GetIPInfo(context, &raw mut interrupted), _Unwind_GetCFA(context)) };
        Shown { pc, interrupted: interrupted != 0, rsp, context }
    }

    fn register(&self, number: c_int) -> usize {
        // SAFETY: the callback that got the context is still running.
        unsafe { _Unwind_GetGR(self.context, number) }
    }
}

/// A walk by the tables that is under way.
struct Walk<'a, I> {
    from: &'a Moment,
    /// Whether it has come out of the signal handler that does the walk.
    begun: bool,
    /// Those that it has to find yet.
    frames: I,
    depth: usize,
    astray: Option<Astray>,
}

impl<'a, I: Iterator<Item = &'a Frame>> Walk<'_, I> {
    fn compare(&mut self, shown: &Shown) -> Result<(), Astray> {
        let check = |what, expected, found| check(what, self.depth, expected, found);
        if !self.begun {
            self.begun = shown.interrupted && shown.pc == self.from.pc;
            return if self.begun { check("rsp", self.from.rsp, shown.rsp) } else { Ok(()) };
        }
        let Some(frame) = self.frames.next() else {
            // Beyond the thread's first function the unwinder may show one frame of nothing.
            return check("one frame too many", 0, shown.pc);
        };
        check("return address", frame.return_address(), shown.pc)?;
        match frame.kind {
            // The root's tables speak of the moment when RBX, which lies above the return address,
            // has been popped too.
            Kind::Switch if shown.rsp == frame.slot + 16 => {}
            _ => check("rsp of a caller", frame.slot + 8, shown.rsp)?,
        }
        for (&number, &kept) in REGISTERS.iter().zip(&frame.kept) {
            if frame.kind.keeps(number) {
                check("register of a caller", kept, shown.register(number))?;
            }
        }
        self.depth += 1;
        Ok(())
    }
}

/// Walks by the unwind tables from `from`, which a signal has interrupted and whose handler is the
/// caller. `frames` are those that it has to find.
pub(crate) fn by_tables<'a, I>(from: &Moment, frames: I) -> Result<(), Astray>
where
    I: Iterator<Item = &'a Frame>,
{
    extern "C" fn each<'a, I>(context: *mut c_void, walk: *mut c_void) -> c_int
    where
        I: Iterator<Item = &'a Frame>,
    {
        // SAFETY: the unwinder's context, and the walk below.
        let (walk, shown) = unsafe { (&mut *walk.cast::<Walk<'_, I>>(), Shown::of(context)) };
        match walk.compare(&shown) {
            Ok(()) => GO_ON,
            Err(astray) => {
                walk.astray = Some(astray);
                STOP
            }
        }
    }
    let mut walk = Walk { from, begun: false, frames, depth: 0, astray: None };
    // SAFETY: `each` takes what it is given here.
    unsafe { _Unwind_Backtrace(each::<I>, (&raw mut walk).cast()) };
    match (walk.astray, walk.frames.next()) {
        (Some(astray), _) => Err(astray),
        (None, Some(missed)) => check("the end came early", walk.depth, missed.return_address(), 0),
        (None, None) => Ok(()),
    }
}

/// Walks from `rbp` by frame pointers. `frames` are those that it has to find, and `stacks` are where
/// frames may be.
pub(crate) fn by_pointers<'a>(
    rbp: usize,
    frames: impl Iterator<Item = &'a Frame>,
    stacks: [&Range<usize>; 2],
) -> Result<(), Astray> {
    let next = |record: usize| {
        let whole = [record, record.wrapping_add(7)];
        let exists = stacks.iter().any(|stack| whole.iter().all(|byte| stack.contains(byte)));
        // SAFETY: both stacks are in use, so what lies on them can be read.
        exists.then(|| unsafe { word(record) })
    };
    let mut record = rbp;
    let mut depth = 0;
    for frame in frames {
        if frame.kind == Kind::Switch {
            // The coroutine's link to its resumer is an entry of its own, and has no return address.
            record = next(record).unwrap_or(0);
        }
        check("frame pointer", depth, frame.slot - 8, record)?;
        record = next(record).unwrap_or(0);
        depth += 1;
    }
    check("one frame pointer too many", depth, 0, next(record).map_or(0, |_| record))
}

/// The frames that the caller has behind it, outermost first, and some that are over by the time that
/// this returns.
///
/// They come from the tables, at a call, where every compiler has them right; and at each place that
/// they name lies the return address. Which of them the chain of frame pointers has, that chain says.
#[inline(never)]
pub(crate) fn frames_of_the_caller() -> Vec<Frame> {
    extern "C" fn each(context: *mut c_void, frames: *mut c_void) -> c_int {
        // SAFETY: the unwinder's context, and the vector below.
        let (frames, shown) = unsafe { (&mut *frames.cast::<Vec<Frame>>(), Shown::of(context)) };
        if shown.pc != 0 {
            let kept = REGISTERS.map(|number| shown.register(number));
            let frame = Frame { slot: shown.rsp - 8, kept, kind: Kind::Call, linked: false };
            assert_eq!(frame.return_address(), shown.pc);
            frames.push(frame);
        }
        GO_ON
    }
    let mut frames: Vec<Frame> = Vec::new();
    // SAFETY: `each` takes what it is given here.
    unsafe { _Unwind_Backtrace(each, (&raw mut frames).cast()) };

    let mut record: usize;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rbp", out(reg) record, options(nomem, nostack)) };
    for frame in &mut frames {
        if frame.slot - 8 == record {
            frame.linked = true;
            // SAFETY: below the return address of a frame that is alive.
            record = unsafe { word(record) };
        }
    }
    frames.reverse();
    frames
}
