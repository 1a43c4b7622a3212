//! A coroutine's life, instruction by instruction: at each one the stack can be walked to its end, by
//! the unwind tables, by frame pointers and by a debugger, or else the instruction is one of those that
//! [`step::code`] lists as the exceptions. There are none in our own assembly: the exceptions are
//! corosensei's switch.
//!
//! `tests/frames/step.rs` does the steps, in a process of its own: first as a part of this program, then
//! as one that was built with frame pointers. What it has seen, gdb then has to see too.

mod common;
#[path = "common/nested.rs"]
mod nested;
#[path = "frames/step.rs"]
mod step;

use std::path::{Path, PathBuf};
use std::process::{Command, exit};
use std::sync::OnceLock;
use std::time::Duration;

use common::watchdog_for;
use step::Mode;

const LIMIT: Duration = Duration::from_secs(180);

/// The test that runs itself again to be stepped through.
const BY_TABLES: &str = "switch_single_step_by_the_unwind_tables";

/// The frame that every walk in the child has to reach.
#[inline(never)]
fn frame_of_the_child(mode: Mode) -> ! {
    step::run(mode, frame_of_the_child as *const () as usize);
    exit(0);
}

/// The program with frame pointers, built once for all tests of this file.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let program = nested::Program {
            name: "step",
            source: "tests/frames/step.rs",
            toolchain: None,
            rustflags: "-Cforce-frame-pointers=yes",
            features: "",
            arguments: if cfg!(debug_assertions) { &[] } else { &["--release"] },
        };
        nested::build(&program).unwrap_or_else(|error| panic!("{error}"))
    })
}

/// An instruction at which the program was or a debugger stopped. Addresses count from the trampoline.
#[derive(PartialEq, Eq, Debug)]
struct Stop {
    place: isize,
    chain: Vec<isize>,
}

impl Stop {
    /// From `place return_address return_address ...`.
    fn parse(line: &str) -> Stop {
        let mut numbers = line.split(' ').map(|number| number.parse().expect(line));
        Stop { place: numbers.next().expect(line), chain: numbers.collect() }
    }
}

/// An instruction of ours or of the switch, as the program has met it.
struct Visit {
    /// With the frames that there were.
    stop: Stop,
    /// Whether the unwind tables told of them.
    right: bool,
    name: String,
}

/// Lets a program step through itself, which fails if it sees anything that it should not; what it met.
fn step_through(command: &mut Command) -> Vec<Visit> {
    let output = command.output().unwrap();
    let (stdout, stderr) = (common::stdout(&output), common::stderr(&output));
    let visits: Vec<_> = stdout
        .lines()
        .filter_map(|line| {
            let (tables, visit) = line.split_once("VISIT ")?.1.split_once(' ')?;
            let (stop, name) = visit.split_once(": ")?;
            let right = tables == "right";
            Some(Visit { stop: Stop::parse(stop), right, name: String::from(name) })
        })
        .collect();
    assert!(output.status.success() && visits.len() > 100, "{}\n{stdout}{stderr}", output.status);
    visits
}

#[test]
fn switch_single_step_by_the_unwind_tables() {
    // From one place, so that both have the same frames.
    if let Some(case) = common::child_case() {
        frame_of_the_child(if case == "plain" { Mode::Plain } else { Mode::Tables });
    }
    let _watchdog = watchdog_for(LIMIT);
    step_through(&mut common::child_command(BY_TABLES, "tables"));
}

#[test]
fn switch_single_step_by_frame_pointers() {
    let _watchdog = watchdog_for(LIMIT);
    step_through(Command::new(program()).env_remove("CORO_CHECK").arg("pointers"));
}

/// Lets gdb stop at each of `visits` in a run of `command`, and compares what it sees.
fn compare_with_gdb(visits: &[Visit], command: &Command) {
    let mut places: Vec<_> = visits.iter().map(|visit| visit.stop.place).collect();
    places.sort_unstable();
    places.dedup();
    let places: Vec<_> = places.iter().map(isize::to_string).collect();
    let mut gdb = Command::new("gdb");
    gdb.env_remove("CORO_CHECK");
    gdb.args(["-nx", "-batch", "-iex", "set debuginfod enabled off", "-x"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frames/step.py"))
        .arg("--args")
        .env("STEP_PLACES", places.join(" "));
    let output = common::run_below(&mut gdb, command).output().unwrap();
    let (stdout, stderr) = (common::stdout(&output), common::stderr(&output));
    assert!(output.status.success() && stdout.contains("END"), "{stdout}{stderr}");
    let stops: Vec<_> = stdout
        .lines()
        .filter_map(|line| line.split_once("STOP ")?.1.split_once(": "))
        .map(|(stop, end)| (Stop::parse(stop), end))
        .collect();
    // The same instructions in the same order.
    let met = visits.iter().map(|visit| visit.stop.place);
    assert!(met.eq(stops.iter().map(|(stop, _)| stop.place)), "{stdout}{stderr}");
    for (Visit { stop, right, name }, (seen, end)) in visits.iter().zip(&stops) {
        let whole = seen.chain.starts_with(&stop.chain) && *end == "outermost";
        assert!(whole || !right, "{name}: gdb sees {:?}, {end}, not {:?}", seen.chain, stop.chain);
    }
}

#[test]
fn switch_single_step_in_gdb() {
    let _watchdog = watchdog_for(LIMIT);
    let python = Command::new("gdb").args(["-nx", "-batch", "-ex", "python print(6 * 7)"]).output();
    if !python.is_ok_and(|output| common::stdout(&output).contains("42")) {
        return eprintln!("switch_single_step_in_gdb: skipped, there is no gdb with Python here");
    }
    let visits = step_through(&mut common::child_command(BY_TABLES, "tables"));
    compare_with_gdb(&visits, &common::child_command(BY_TABLES, "plain"));
    let visits = step_through(Command::new(program()).env_remove("CORO_CHECK").arg("pointers"));
    compare_with_gdb(&visits, Command::new(program()).env_remove("CORO_CHECK").arg("plain"));
}
