//! A program that steps through the life of a coroutine, from the first switch to the last, and looks
//! back at each instruction. `switch_single_step` runs it as a part of itself, and, built with frame
//! pointers, as a program of its own.
//!
//! ```text
//!    code     which instructions of ours and of the switch there are
//!    shadow   which frames there are at an instruction: what was called and has not returned
//!    walks    which frames the unwind tables tell of, and the frame pointers
//!    trap     stops at each instruction and compares
//! ```

mod code;
mod shadow;
mod trap;
mod walks;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::hint::black_box;
use std::iter;
use std::ops::Range;

use coro::raw::{Coroutine, Yielder};
use coro::{inspect, tls};

use code::{Place, Trampoline, function_at, is_of_the_program};
pub(crate) use trap::Mode;
use trap::{Report, Spot, Visit, single_step};

/// What the return address of the coroutine's function names when it returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Exit {
    Goexit,
    Cleanup,
    /// Goexit again, because all that was stored is gone.
    Restored,
}

thread_local! {
    /// The stack of the coroutine that runs, as it sees it.
    static STACK: RefCell<Range<usize>> = const { RefCell::new(0..0) };
}

/// The frame that each walk from inside has to pass.
#[inline(never)]
fn frame_of_the_resumer(coroutine: &Coroutine<(), (), ()>) {
    black_box(coroutine.resume(()));
}

fn body(exit: Exit) -> Coroutine<(), (), ()> {
    let body = move |yielder: &Yielder<(), ()>, ()| {
        STACK.set(inspect::stack_bounds().expect("called in a coroutine"));
        yielder.suspend(());
        if exit != Exit::Goexit {
            tls::at_exit(|| assert_ne!(black_box(tls::id()).get(), 0));
        }
        if exit == Exit::Restored {
            tls::unload();
        }
        yielder.suspend(());
    };
    // SAFETY: whoever has it runs it to its end.
    unsafe { Coroutine::new(256 << 10, body) }.expect("a stack")
}

/// From the first resume to the end.
fn life(mode: Mode, exit: Exit) -> Report {
    let coroutine = body(exit);
    let report = single_step(mode, || {
        for _ in 0..3 {
            frame_of_the_resumer(&coroutine);
        }
    });
    assert!(coroutine.is_done());
    report
}

fn name(spot: Spot) -> String {
    match spot {
        Spot::Ours(offset) => {
            let [goexit, cleanup] = [Trampoline::goexit(), Trampoline::cleanup()];
            let (part, start) = match offset {
                _ if offset >= cleanup => ("cleanup", cleanup),
                _ if offset >= goexit => ("goexit", goexit),
                _ => ("trampoline", 0),
            };
            format!("{part}+{:#x}", offset - start)
        }
        Spot::Switch(place) => place.to_string(),
    }
}

/// What must hold of every life, whatever the walks have said.
fn check(report: &Report, mode: Mode, exit: Exit, outermost: usize) {
    assert_eq!(report.coroutine, STACK.take(), "the stack that RSP was on");

    // All of our instructions ran, but the NOP, and all of the switch's.
    let visited: BTreeSet<String> = report.visits.iter().map(|visit| name(visit.spot)).collect();
    for place in Place::all() {
        assert!(visited.contains(&place.to_string()), "{exit:?}: {place} was not seen");
    }
    let ours = visited.len() - Place::all().count();
    assert_eq!(ours, if exit == Exit::Cleanup { 13 } else { 10 }, "{exit:?}: {visited:?}");

    for visit in &report.visits {
        let name = name(visit.spot);
        let chain = report.chain(visit);
        // The instruction itself may be the resumer's, where the compiler put the switch into it.
        let calls = iter::once(visit.pc).chain(chain.iter().map(|link| link.return_address - 1));
        let functions: Vec<usize> = calls.map(function_at).collect();
        let position = |function| functions.iter().position(|&other| other == function);
        let resumer = position(frame_of_the_resumer as *const () as usize);
        let outermost = position(outermost);
        assert!(
            resumer.is_some() && resumer < outermost && outermost < Some(chain.len()),
            "{exit:?}, {name}: {resumer:?} and {outermost:?} of {}",
            chain.len()
        );
        if mode != Mode::TablesAndPointers {
            continue;
        }
        assert!(outermost.is_some_and(|depth| chain[depth].linked), "{exit:?}, {name}");
        // The rule for frame pointers in our assembly: the chain misses one frame, that of the caller,
        // at the PUSH and the MOV that begin it and at the RET that ends it, and none anywhere else.
        if let Spot::Ours(offset) = visit.spot {
            let outside = [0, 1, Trampoline::goexit() + 1].contains(&offset);
            assert_eq!(chain[0].linked, !outside, "{exit:?}, {name}");
        }
    }
}

/// Says where the walks went wrong, in words that a disassembler's listing can be read with.
fn complain(report: &Report, exit: Exit) {
    for failure in &report.failures {
        let function = function_at(failure.pc);
        let spot = report.visits.iter().find(|visit| visit.pc == failure.pc);
        println!(
            "{exit:?}: at {} (trampoline{:+}, {:#x} in its function), behind {} frames: \
             {}: {:#x}, not {:#x}",
            spot.map_or(String::from("an instruction"), |visit| name(visit.spot)),
            failure.pc.wrapping_sub(Trampoline::start()) as isize,
            failure.pc - function,
            failure.astray.depth,
            failure.astray.what,
            failure.astray.found,
            failure.astray.expected,
        );
    }
}

/// One line for each visit: where, whether the walk by the tables was right, and the return addresses
/// in the program. All count from the trampoline, so that they mean the same in another process.
fn tell(report: &Report, visit: &Visit) {
    let relative = |address: usize| address.wrapping_sub(Trampoline::start()) as isize;
    let right = if visit.right { "right" } else { "wrong" };
    print!("VISIT {right} {}", relative(visit.pc));
    let addresses = report.chain(visit).iter().map(|link| link.return_address);
    for address in addresses.take_while(|&address| is_of_the_program(address)) {
        print!(" {}", relative(address));
    }
    println!(": {}", name(visit.spot));
}

/// Steps through a life for each exit. `outermost` is the function that every walk must reach.
pub(crate) fn run(mode: Mode, outermost: usize) {
    if mode != Mode::Plain {
        // Beforehand, so that what happens once in a process is not among the steps.
        life(Mode::Plain, Exit::Cleanup);
    }
    for exit in [Exit::Goexit, Exit::Cleanup, Exit::Restored] {
        // Afresh each time, or the compiler makes a loop for each mode, with other addresses.
        let mode = black_box(mode);
        let report = life(mode, exit);
        if mode == Mode::Plain {
            continue;
        }
        complain(&report, exit);
        assert!(report.failures.is_empty(), "{exit:?}: {} steps", report.steps);
        check(&report, mode, exit, outermost);
        println!("STEPS {}", report.steps);
        report.visits.iter().for_each(|visit| tell(&report, visit));
    }
}

#[allow(dead_code, reason = "the program's; as a module there is none")]
fn main() {
    let mode = match std::env::args().nth(1).as_deref() {
        Some("plain") => Mode::Plain,
        Some("tables") => Mode::Tables,
        Some("pointers") => Mode::TablesAndPointers,
        other => panic!("plain, tables or pointers, not {other:?}"),
    };
    run(mode, main as *const () as usize);
}
