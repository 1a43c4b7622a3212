//! Stops behind every instruction of a thread.
//!
//! With the trap flag set, the CPU raises a debug exception behind each instruction, and the kernel
//! makes a SIGTRAP of it. The handler sees the registers, compares both walks with the frames that
//! there really are, and returns to the next instruction. The flag comes back with the other registers;
//! the switch leaves the flags alone, so it stays set on either stack.
//!
//! The handler runs on the stack that it has interrupted, wherever RSP points (no `SA_ONSTACK`). That
//! is a profiler's situation. It shows that what lies below RSP is free at each instruction, and the
//! crate can be asked whose stack this is, which it answers by RSP: on a signal stack it would tell of
//! that one.

use std::arch::naked_asm;
use std::ffi::{c_int, c_void};
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use coro::{inspect, tls};

use super::code::{
    Instruction, Place, Side, Tables, Trampoline, function_at, is_of_the_program, pops_a_constant,
};
use super::shadow::{Frame, Moment, Shadow};
use super::walks::{self, Astray};

/// An instruction of ours or of the switch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spot {
    /// Of the trampoline, with its offset.
    Ours(usize),
    Switch(Place),
}

/// One time that a [`Spot`] was reached.
pub(crate) struct Visit {
    pub(crate) spot: Spot,
    pub(crate) pc: usize,
    /// Whether the walk by the tables was right.
    pub(crate) right: bool,
    /// The frames that there were: a part of [`Report::chains`].
    chain: Range<usize>,
}

/// A frame, as it is reported.
#[derive(Clone, Copy)]
pub(crate) struct Link {
    pub(crate) return_address: usize,
    /// Whether the chain of frame pointers has it.
    pub(crate) linked: bool,
}

impl Link {
    fn of(frame: &Frame) -> Link {
        Link { return_address: frame.return_address(), linked: frame.linked }
    }
}

/// Where a walk went wrong.
pub(crate) struct Failure {
    pub(crate) pc: usize,
    pub(crate) astray: Astray,
}

/// What was seen from the first step to the last.
pub(crate) struct Report {
    pub(crate) steps: usize,
    pub(crate) visits: Vec<Visit>,
    chains: Vec<Link>,
    pub(crate) failures: Vec<Failure>,
    /// The stack that was not the thread's.
    pub(crate) coroutine: Range<usize>,
}

impl Report {
    /// The frames that there were at a visit, innermost first.
    pub(crate) fn chain(&self, visit: &Visit) -> &[Link] {
        &self.chains[visit.chain.clone()]
    }
}

/// More than will be needed, because the handler cannot allocate.
const VISITS: usize = 1000;
const CHAINS: usize = 100 * VISITS;

/// Adds to a list that must not grow.
fn put<T>(list: &mut Vec<T>, item: T) {
    assert!(list.len() < list.capacity(), "a list of the handler is full");
    list.push(item);
}

struct Stepper {
    shadow: Shadow,
    thread: tls::Id,
    frame_pointers: bool,
    before: Option<Moment>,
    report: Report,
}

/// What the handler works on, for as long as the trap flag is set.
static STEPPER: AtomicPtr<Stepper> = AtomicPtr::new(ptr::null_mut());

extern "C" fn on_trap(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel's context; and `single_step` waits, with the stepper on its frame.
    let (stepper, now) = unsafe {
        (&mut *STEPPER.load(Ordering::Relaxed), Moment::of(&*context.cast::<libc::ucontext_t>()))
    };
    stepper.step(now);
}

impl Stepper {
    fn step(&mut self, now: Moment) {
        self.report.steps += 1;
        self.shadow.follow(self.before.as_ref(), &now);
        self.before = Some(now);
        for result in [self.ask_whose_stack(&now), self.walk(&now)] {
            // One failure brings others; the first ones will do.
            let failures = &mut self.report.failures;
            if let Err(astray) = result
                && failures.len() < failures.capacity()
            {
                failures.push(Failure { pc: now.pc, astray });
            }
        }
    }

    /// RSP lies on one of the two stacks, and the crate knows on which.
    fn ask_whose_stack(&mut self, now: &Moment) -> Result<(), Astray> {
        let bounds = inspect::stack_bounds();
        let (id, id_there) = (tls::id(), inspect::id_at(now.rsp));
        let found = bounds.as_ref().map_or(0, |bounds| bounds.start);
        let agreed = match (self.shadow.side_of(now.rsp), bounds) {
            (Side::Resumer, None) => id == self.thread && id_there.is_none(),
            (Side::Coroutine, Some(bounds)) => {
                let known = &mut self.report.coroutine;
                if *known == (0..0) {
                    *known = bounds.clone();
                }
                let is_known = bounds == *known && known.contains(&now.rsp);
                is_known && id_there == Some(id) && id != self.thread
            }
            _ => false,
        };
        let astray = Astray { what: "whose stack", depth: 0, expected: now.rsp, found };
        if agreed { Ok(()) } else { Err(astray) }
    }

    fn walk(&mut self, now: &Moment) -> Result<(), Astray> {
        let side = self.shadow.side_of(now.rsp);
        if let Some(place) = self.shadow.place_of(now.pc) {
            let Instruction { tables, rbp, .. } = *place.instruction();
            let told = self.told_by_tables(now, [side, rbp]);
            self.note(now, Spot::Switch(place), told.is_some(), told.unwrap_or(side));
            let wanted = match tables {
                Tables::Right => true,
                Tables::Wrong => false,
                Tables::RightByRbp => told.is_some() || self.frame_pointers,
            };
            walks::check("tables at the switch", 0, wanted.into(), told.is_some().into())?;
            self.by_pointers(now, rbp)
        } else if let Some(offset) = Trampoline::offset_of(now.pc) {
            let walked = walks::by_tables(now, self.shadow.frames(side));
            self.note(now, Spot::Ours(offset), walked.is_ok(), side);
            walked?;
            self.by_pointers(now, side)
        } else if is_of_the_program(now.pc)
            && function_at(now.pc) != 0
            // SAFETY: the processor is there.
            && !(self.frame_pointers && unsafe { pops_a_constant(now.pc) })
        {
            walks::by_tables(now, self.shadow.frames(side))
        } else {
            // The C library's tables are not ours to judge; the linker's stubs for calls of it may have
            // none at all.
            Ok(())
        }
    }

    /// Which of the stacks the tables tell the truth of, if they do of one. Where they are wrong the
    /// unwinder may fault, so a copy of the process tries.
    fn told_by_tables(&self, now: &Moment, sides: [Side; 2]) -> Option<Side> {
        /// What the copy says of the first side, of the second, and of neither.
        const TOLD: [c_int; 3] = [10, 11, 12];

        // SAFETY: the copy, of this thread alone, walks and ends. By the bare system call, because the
        // C library's would run what the crate has registered for a fork.
        unsafe {
            let child = libc::syscall(libc::SYS_fork) as libc::pid_t;
            assert!(child >= 0, "a process to try a walk");
            if child == 0 {
                libc::signal(libc::SIGSEGV, libc::SIG_DFL);
                libc::signal(libc::SIGBUS, libc::SIG_DFL);
                libc::prctl(libc::PR_SET_DUMPABLE, 0);
                let is_told = |&side| walks::by_tables(now, self.shadow.frames(side)).is_ok();
                libc::_exit(TOLD[sides.iter().position(is_told).unwrap_or(2)]);
            }
            let mut status = 0;
            while libc::waitpid(child, &raw mut status, 0) != child {
                assert_eq!(*libc::__errno_location(), libc::EINTR);
            }
            let said = libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
            sides.into_iter().zip(TOLD).find(|&(_, told)| said == Some(told)).map(|(side, _)| side)
        }
    }

    fn by_pointers(&self, now: &Moment, side: Side) -> Result<(), Astray> {
        if !self.frame_pointers {
            return Ok(());
        }
        let stacks = [self.shadow.thread(), &self.report.coroutine];
        walks::by_pointers(now.rbp(), self.shadow.linked(side), stacks)
    }

    fn note(&mut self, now: &Moment, spot: Spot, right: bool, side: Side) {
        let start = self.report.chains.len();
        for frame in self.shadow.frames(side) {
            put(&mut self.report.chains, Link::of(frame));
        }
        let chain = start..self.report.chains.len();
        put(&mut self.report.visits, Visit { spot, pc: now.pc, right, chain });
    }
}

/// Puts `flag` in place of the trap flag. The first trap comes behind the RET.
#[unsafe(naked)]
extern "C" fn set_trap(flag: usize) {
    naked_asm!(
        ".cfi_startproc",
        "pushfq",
        ".cfi_adjust_cfa_offset 8",
        "and qword ptr [rsp], ~{TRAP}",
        "or [rsp], rdi",
        "popfq",
        ".cfi_adjust_cfa_offset -8",
        "ret",
        ".cfi_endproc",
        TRAP = const TRAP,
    );
}

const TRAP: usize = 1 << 8;

/// What is done to the code that runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Nothing. It has the same frames as when it is stepped through.
    Plain,
    /// Steps, and walks by the tables.
    Tables,
    /// Steps, and walks by the tables and by frame pointers, which the build must have kept.
    TablesAndPointers,
}

/// Runs `f`, and stops behind each of this thread's instructions. Nothing in `f` may unwind, or block
/// SIGTRAP.
#[inline(never)]
pub(crate) fn single_step(mode: Mode, f: impl FnOnce()) -> Report {
    let mut stepper = Stepper {
        shadow: Shadow::new(walks::frames_of_the_caller()),
        thread: tls::id(),
        frame_pointers: mode == Mode::TablesAndPointers,
        before: None,
        report: Report {
            steps: 0,
            visits: Vec::with_capacity(VISITS),
            chains: Vec::with_capacity(CHAINS),
            failures: Vec::with_capacity(20),
            coroutine: 0..0,
        },
    };
    STEPPER.store(&raw mut stepper, Ordering::Relaxed);
    // SAFETY: live locals; while the flag is set, the stepper is the handler's alone.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_trap as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        assert_eq!(libc::sigaction(libc::SIGTRAP, &raw const action, ptr::null_mut()), 0);
        set_trap(if mode == Mode::Plain { 0 } else { TRAP });
        f();
        set_trap(0);
    }
    stepper.report
}
