//! Debuggers and profilers see through a coroutine: gdb by the unwind tables, `perf` by the chain of
//! frame pointers. Both are tried on a program with a `main` of its own, in a build that keeps frame
//! pointers (`tests/frames/walk.rs`), as who profiles with them has to.

mod common;
#[path = "common/nested.rs"]
mod nested;

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use common::watchdog_for;

const LIMIT: std::time::Duration = std::time::Duration::from_secs(180);

/// The program, built once for all tests of this file.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<std::path::PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let program = nested::Program {
            name: "walk",
            source: "tests/frames/walk.rs",
            toolchain: None,
            rustflags: "-Cforce-frame-pointers=yes",
            features: "",
            arguments: if cfg!(debug_assertions) { &[] } else { &["--release"] },
        };
        nested::build(&program).unwrap_or_else(|error| panic!("{error}"))
    })
}

#[test]
fn switch_frame_pointers_lead_to_the_worker_loop() {
    let _watchdog = watchdog_for(LIMIT);
    let output = Command::new(program()).env_remove("CORO_CHECK").arg("walk").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let stdout = common::stdout(&output);
    let moments = [
        "raw start",
        "raw later",
        "raw armed",
        "raw handler",
        "task start",
        "task armed",
        "task handler",
    ];
    assert_eq!(stdout.lines().count(), moments.len(), "{stdout}");
    for (line, moment) in stdout.lines().zip(moments) {
        let counts = line.strip_prefix(moment).and_then(|rest| rest.strip_prefix(": "));
        let counts = counts.unwrap_or_else(|| panic!("{moment} is missing in\n{stdout}"));
        let numbers: Vec<usize> =
            counts.split(' ').filter_map(|word| word.trim_matches(',').parse().ok()).collect();
        // Inside: at least the body, the trampoline, the root frame. Beyond: the switch, who resumed
        // it, and what is below that up to the worker loop or `main`.
        assert!(numbers[0] >= 3 && numbers[1] >= 3, "{moment}: {line}\n{stdout}");
        assert_eq!(numbers[2], 1, "{moment}: {line}\n{stdout}");
    }
}

#[test]
fn switch_gdb_sees_the_whole_stack() {
    let _watchdog = watchdog_for(LIMIT);
    if Command::new("gdb").arg("--version").output().is_err() {
        return eprintln!("switch_gdb_sees_the_whole_stack: skipped, there is no gdb here");
    }
    let mut gdb = Command::new("gdb");
    gdb.env_remove("CORO_CHECK");
    gdb.args(["-nx", "-batch", "-iex", "set debuginfod enabled off", "-ex", "set pagination off"]);
    // After the last stop the program is killed: gdb sometimes stumbles over one whose threads end.
    for go_on in ["run", "continue", "continue", "continue"] {
        gdb.args(["-ex", go_on, "-ex", "echo BACKTRACE\\n", "-ex", "bt"]);
    }
    gdb.arg("--args").arg(program()).arg("stop");
    let output = gdb.output().unwrap();
    let (stdout, stderr) = (common::stdout(&output), common::stderr(&output));
    for complaint in ["corrupt stack", "Backtrace stopped"] {
        assert!(!stdout.contains(complaint) && !stderr.contains(complaint), "{stdout}{stderr}");
    }
    let traces: Vec<_> = stdout.split("BACKTRACE\n").skip(1).collect();
    assert_eq!(traces.len(), 4, "{stdout}{stderr}");
    for (number, trace) in traces.iter().enumerate() {
        // Three stops in a coroutine that `main` resumes, the last of them in a handler; then one in
        // a task. gdb ends a backtrace at `main`.
        let way = match number {
            0..3 => ["frame_that_stops", "coro_", "frame_of_the_resumer", "walk::main"],
            _ => ["frame_that_stops", "coro_", "coro::runtime", "start_thread"],
        };
        let places = way.map(|name| {
            trace.find(name).unwrap_or_else(|| panic!("no {name} at stop {number}:\n{trace}"))
        });
        assert!(places.is_sorted(), "{places:?} at stop {number}:\n{trace}");
    }
}
