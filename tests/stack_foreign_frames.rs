//! C code near the end of a coroutine's stack: it works, or the overflow is reported. C compilers touch
//! no pages of a large frame in order, so the guard has to be larger than every such frame. Otherwise
//! a frame reaches over the guard, and the function writes into the slot below.
//!
//! ```text
//!       parked        parked          the tested one
//!   +---+--------+---+--------+------+----------------------------+
//!   | g | ###### | g | ###### |  g   |        | <- distance -> sp |
//!   +---+--------+---+--------+------+----------------------------+
//!                      compared       limit
//! ```
//!
//! Each attempt is a forked process: it may end in an abort, and the function starts as cold as in a
//! fresh program. Other rounds come after a first call in the parent. What was loaded in the first call
//! no longer needs stack, so other frames come to lie at the stack's end.

#![cfg(target_env = "gnu")]

mod common;

#[path = "foreign_frames/functions.rs"]
mod functions;

use std::arch::asm;
use std::ffi::{c_int, c_void};
use std::fs::File;
use std::hint::black_box;
use std::io::{Read as _, Seek as _};
use std::ops::Range;
use std::os::fd::{AsRawFd as _, FromRawFd as _};
use std::ptr;
use std::sync::mpsc;

use coro::{Builder, JoinHandle, Runtime, inspect, tls};

use common::{Counter, in_child, say};
use functions::{BLOCK_SIGNALS, FUNCTIONS, Function, prepare_process, prepare_thread};

#[test]
#[cfg_attr(coro_asan, ignore = "forks, and overflows on purpose")]
fn stack_c_functions_near_the_end_work_or_overflow() {
    const NAME: &str = "stack_c_functions_near_the_end_work_or_overflow";
    in_child(NAME, common::CHILDS_LIMIT, || test_all(Builder::new, true));
}

#[test]
#[cfg_attr(coro_asan, ignore = "forks, and overflows on purpose")]
fn stack_c_functions_on_the_smallest_stack_work_or_overflow() {
    const NAME: &str = "stack_c_functions_on_the_smallest_stack_work_or_overflow";
    in_child(NAME, common::CHILDS_LIMIT, || {
        test_all(|| Builder::new().stack_size(16 << 10), false);
    });
}

/// Tests all functions on stacks as `builder` gives them. If these are `large`, every function has to
/// work where it has the most room.
fn test_all(builder: fn() -> Builder, large: bool) {
    if common::is_checked() {
        return eprintln!("skipped, the checker's frames are on the stacks too");
    }
    let runtime = common::runtime(1);
    // On the worker: the resolver's state is the thread's.
    let name_server = prepare_process();
    runtime.go(move || prepare_thread(name_server)).join().unwrap();
    let neighbours = Neighbours::park(&runtime, builder);
    let mut failures = Vec::new();
    for (warm, check) in ROUNDS {
        for &(name, function) in FUNCTIONS {
            if warm {
                // Where there is room for all of them.
                let task = Builder::new().stack_size(1 << 20).spawn_on(&runtime, function);
                assert!(task.unwrap().join().unwrap(), "{name}: wrong result in the parent");
            }
            let attempts = attempt_all(&runtime, builder, &neighbours, function, check);
            let worked = attempts.iter().any(|(_, outcome)| *outcome == Outcome::Works);
            assert!(worked || !large, "{name}: works at no distance: {attempts:?}");
            for (distance, outcome) in attempts {
                let dies = outcome == Outcome::Dies && BLOCK_SIGNALS.contains(&name);
                if !dies && let Some(how) = outcome.failure() {
                    failures.push(format!(
                        "{name} (warm: {warm}, {check:?}) at {distance} bytes: {how}"
                    ));
                }
            }
        }
    }
    neighbours.end();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// How many bytes from the limit the stack pointer stands when a function is called: in small steps
/// where most frames end, in larger ones up to the largest.
fn distances() -> impl Iterator<Item = usize> {
    let near = (96..8 << 10).step_by(96);
    let middle = (8 << 10..32 << 10).step_by(512);
    let far = (32 << 10..=96 << 10).step_by(2 << 10);
    near.chain(middle).chain(far)
}

/// A function that has worked at this many distances in a row has room enough at all that follow.
const ENOUGH: usize = 12;

/// Calls `function` at all distances, each time in a process of its own, on one new coroutine.
fn attempt_all(
    runtime: &Runtime,
    builder: fn() -> Builder,
    neighbours: &Neighbours,
    function: Function,
    check: Check,
) -> Vec<(usize, Outcome)> {
    let stacks = neighbours.stacks.clone();
    let body = move || {
        let bounds = inspect::stack_bounds().unwrap();
        let below = Snapshot::below(&bounds, &stacks);
        // Above the highest place come the frames that are on the stack already, and what they call.
        let room = (ptr::from_ref(&below).addr() - bounds.start).saturating_sub(2 << 10);
        let (mut attempts, mut in_a_row) = (Vec::new(), 0);
        for distance in distances().take_while(|&distance| distance <= room) {
            let outcome = attempt(function, bounds.start + distance, &below, check);
            in_a_row = if outcome == Outcome::Works { in_a_row + 1 } else { 0 };
            attempts.push((distance, outcome));
            if in_a_row == ENOUGH {
                break;
            }
        }
        attempts
    };
    builder().spawn_on(runtime, body).unwrap().join().unwrap()
}

#[derive(PartialEq, Debug)]
enum Outcome {
    Works,
    Overflows,
    /// By SIGSEGV, without a report.
    Dies,
    Fails(String),
}

impl Outcome {
    fn failure(self) -> Option<String> {
        match self {
            Outcome::Works | Outcome::Overflows => None,
            Outcome::Dies => Some(String::from("SIGSEGV outside of its guard, or no report of it")),
            Outcome::Fails(how) => Some(how),
        }
    }
}

/// How a write to a neighbour's stack is found out.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Check {
    /// The bytes are compared after the call. This sees what the kernel has written for the function too.
    Compare,
    /// The memory is read-only during the call. This sees what was written before the guard was touched.
    Protect,
}

/// Whether each function is called in the parent first, and how its writes are found out.
const ROUNDS: [(bool, Check); 4] = [
    (false, Check::Compare),
    (false, Check::Protect),
    (true, Check::Compare),
    (true, Check::Protect),
];

/// What a forked process ends with.
const WORKS: c_int = 0;
const WRONG: c_int = 1;
const CHANGED: c_int = 2;

/// Calls `function` with the stack pointer at `sp`, on this stack, in a forked process.
fn attempt(function: Function, sp: usize, below: &[Snapshot], check: Check) -> Outcome {
    // SAFETY: a name that ends; the descriptor is the file's alone.
    let mut errors = unsafe {
        let descriptor = libc::memfd_create(c"stderr".as_ptr(), 0);
        assert!(descriptor >= 0);
        File::from_raw_fd(descriptor)
    };
    // SAFETY: the new process has this thread alone, and does nothing that another would have to.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        // SAFETY: the process has one thread. Its end is an alarm, if it hangs: the watchdog has no
        // thread here.
        unsafe {
            libc::alarm(100);
            libc::dup2(errors.as_raw_fd(), libc::STDERR_FILENO);
        }
        if check == Check::Protect {
            below.iter().for_each(Snapshot::protect);
        }
        let right = call_at(sp, function);
        // From here on there is room again.
        let changed = below.iter().find_map(Snapshot::change);
        if let Some(change) = &changed {
            say(format_args!("{change}"));
        }
        let status = match (changed, right) {
            (Some(_), _) => CHANGED,
            (None, true) => WORKS,
            (None, false) => WRONG,
        };
        // SAFETY: ends this process, without the parent's destructors.
        unsafe { libc::_exit(status) };
    }
    let status = common::wait_for_forked(pid);
    let mut text = String::new();
    errors.rewind().unwrap();
    errors.read_to_string(&mut text).unwrap();
    let reported = text
        .strip_prefix(&format!("coroutine {} overflowed its stack (", tls::id()))
        .is_some_and(|rest| rest.ends_with(")\n") && rest.lines().count() == 1);
    if libc::WIFSIGNALED(status) {
        match libc::WTERMSIG(status) {
            libc::SIGABRT if reported => Outcome::Overflows,
            libc::SIGSEGV if text.is_empty() => Outcome::Dies,
            signal => Outcome::Fails(format!("ended by signal {signal}: {text}")),
        }
    } else {
        match libc::WEXITSTATUS(status) {
            WORKS => Outcome::Works,
            WRONG => Outcome::Fails(String::from("wrong result")),
            CHANGED => Outcome::Fails(text),
            other => Outcome::Fails(format!("ended with {other}: {text}")),
        }
    }
}

/// Calls `function` with the stack pointer at `sp`, a multiple of 16 below this frame on this stack.
fn call_at(sp: usize, function: Function) -> bool {
    struct Call {
        function: Function,
        right: bool,
    }
    extern "C" fn enter(call: &mut Call) {
        call.right = (call.function)();
    }
    let mut call = Call { function, right: false };
    // SAFETY: the stack below this frame is free, and `enter` does not unwind. It leaves r12 as it was.
    unsafe {
        asm!(
            "mov r12, rsp",
            "mov rsp, {sp}",
            "call {enter}",
            "mov rsp, r12",
            sp = in(reg) sp,
            enter = in(reg) enter as extern "C" fn(&mut Call),
            in("rdi") &raw mut call,
            out("r12") _,
            clobber_abi("C"),
        );
    }
    call.right
}

/// Coroutines that are parked, each with frames over most of its stack.
struct Neighbours {
    stacks: Vec<Range<usize>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Neighbours {
    /// As many as reach over [`REACH`] when their stacks are small.
    const COUNT: usize = 12;

    fn park(runtime: &Runtime, builder: fn() -> Builder) -> Neighbours {
        let parked = Counter::default();
        let (send, receive) = mpsc::channel();
        let spawn = |_| {
            let (parked, send) = (parked.clone(), send.clone());
            let body = move || {
                let bounds = inspect::stack_bounds().unwrap();
                let limit = bounds.start;
                send.send(bounds).unwrap();
                park_below(0xA5A5_A5A5_0000_0000, limit, &parked);
            };
            builder().spawn_on(runtime, body).unwrap()
        };
        let tasks: Vec<_> = (0..Neighbours::COUNT).map(spawn).collect();
        parked.wait_for(tasks.len());
        let stacks = receive.iter().take(tasks.len()).collect();
        Neighbours { stacks, tasks }
    }

    fn end(self) {
        for task in self.tasks {
            task.handle().unpark();
            task.join().unwrap();
        }
    }
}

/// Parks where the stack is nearly used up, once, and then checks every frame on its way up.
#[inline(never)]
fn park_below(pattern: u64, limit: usize, parked: &Counter) {
    let frame = black_box([pattern; 64]);
    if frame.as_ptr().addr() > limit + (5 << 10) {
        park_below(pattern + 1, limit, parked);
    } else {
        parked.add();
        coro::park();
    }
    assert_eq!(black_box(&frame), &[pattern; 64]);
}

/// How far below its limit a function may write to be found out.
const REACH: usize = 192 << 10;

/// A neighbour's stack as it was before the attempts.
struct Snapshot {
    start: usize,
    bytes: Vec<u8>,
}

impl Snapshot {
    /// Those of the neighbours below the stack with these bounds, the nearest first. For a coroutine: all
    /// run on one worker, so the neighbours stay parked while it runs.
    fn below(bounds: &Range<usize>, stacks: &[Range<usize>]) -> Vec<Snapshot> {
        let mut below: Vec<_> = stacks.iter().filter(|stack| stack.end < bounds.start).collect();
        below.sort_by_key(|stack| bounds.start - stack.start);
        let slot = below[0].start - below[1].start;
        assert_eq!(bounds.start - below[0].start, slot, "the nearest is the next slot's");
        let near = below.into_iter().take_while(|stack| bounds.start - stack.end < REACH);
        near.map(Snapshot::of).collect()
    }

    fn of(stack: &Range<usize>) -> Snapshot {
        // Above where the stack begins, up to the next guard, lie some unused bytes.
        let len = stack.end.next_multiple_of(4096) - stack.start;
        let mut bytes = vec![0; len];
        // SAFETY: the stack of a coroutine that is parked, which nobody writes to.
        unsafe { ptr::copy_nonoverlapping(stack.start as *const u8, bytes.as_mut_ptr(), len) };
        Snapshot { start: stack.start, bytes }
    }

    /// Makes the neighbour's stack read-only.
    fn protect(&self) {
        let start = self.start as *mut c_void;
        // SAFETY: whole pages. In this process nobody runs there.
        assert_eq!(unsafe { libc::mprotect(start, self.bytes.len(), libc::PROT_READ) }, 0);
    }

    /// What is different now.
    fn change(&self) -> Option<String> {
        let now = self.start as *const c_void;
        // SAFETY: as in `of`, in a process that has a copy of all.
        let same = unsafe { libc::memcmp(now, self.bytes.as_ptr().cast(), self.bytes.len()) } == 0;
        if same {
            return None;
        }
        let now = Snapshot::of(&(self.start..self.start + self.bytes.len()));
        let mut different =
            (0..self.bytes.len()).filter(|&index| now.bytes[index] != self.bytes[index]);
        let first = different.next()?;
        let last = different.next_back().unwrap_or(first);
        let end = self.bytes.len();
        let (from, to) = (end - last, end - first);
        Some(format!("a neighbour's bytes {from} to {to} below its slot's end have changed"))
    }
}
