//! Debuggers and profilers see through a coroutine: gdb by the unwind tables, `perf` by these or by the chain of
//! frame pointers. All are tried on a program with a `main` of its own, in a build that keeps frame
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

/// What `perf` has sampled of the program, a trace after another: by frame pointers (`fp`) or by the unwind tables
/// (`dwarf`). Or why it has not.
fn sampled_by_perf(way: &str) -> Result<String, String> {
    let file = std::env::temp_dir().join(format!("coro-perf-{}-{way}", std::process::id()));
    let run = |command: &mut Command| {
        let output = command.output().map_err(|error| error.to_string())?;
        let is_well = output.status.success();
        if is_well { Ok(common::stdout(&output)) } else { Err(common::stderr(&output)) }
    };
    let mut record = Command::new("perf");
    record.env_remove("CORO_CHECK").args(["record", "-q", "-e", "cpu-clock:u", "-F", "499"]);
    run(record.args(["--call-graph", way, "-o"]).arg(&file).arg(program()).arg("compute"))?;
    let mut script = Command::new("perf");
    script.args(["script", "--no-inline", "-F", "ip,sym", "-i"]).arg(&file);
    let said = run(&mut script).expect("what it has recorded it can read");
    std::fs::remove_file(&file).unwrap();
    Ok(said)
}

/// By frame pointers it sees the coroutine's frames, and those of whoever has resumed it. By the unwind tables it sees the
/// coroutine's alone, for of each sample it keeps a copy of the stack that runs.
#[test]
fn switch_perf_sees_the_whole_stack() {
    let _watchdog = watchdog_for(LIMIT);
    // The raw coroutine that `main` resumes, and a task and its handler, which a worker resumes.
    let ways = [("fp", ["walk::main", "start_thread"]), ("dwarf", ["stack_init_trampoline"; 2])];
    for (way, roots) in ways {
        let said = match sampled_by_perf(way) {
            Ok(said) => said,
            Err(why) => {
                return eprintln!(
                    "switch_perf_sees_the_whole_stack: skipped, perf cannot record here: {why}"
                );
            }
        };
        let traces: Vec<_> =
            said.split("\n\n").filter(|trace| trace.contains("frame_that_computes")).collect();
        let count = |outer: &str, root: &str| {
            let places =
                ["frame_that_computes", "frame_in_between", outer, "coro_trampoline", root];
            let reaches_root = |trace: &&&str| {
                let places = places.map(|place| trace.find(place));
                places.is_sorted() && places[0].is_some()
            };
            traces.iter().filter(reaches_root).count()
        };
        let counts = [
            count("frame_of_the_raw_coroutine", roots[0]),
            count("frame_of_the_task", roots[1]),
            count("frame_of_the_handler", roots[1]),
        ];
        // The kernel may sample where a frame is not made yet, or the system's clock is read.
        let (whole, all) = (counts.iter().sum::<usize>(), traces.len());
        assert!(
            whole * 10 > all * 9 && counts.iter().all(|n| n * 10 > all),
            "{way}: {counts:?} of {all} in {said}"
        );
    }
}
