//! `tools/gdb/coro.py`, on a live process and on a core file.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::common::{self, child_command, child_command_with_core_file};
use crate::frames::{in_a_raw_coroutine, middle};

/// The coroutines that gdb is to find, on a worker that does nothing, but for the last, which holds its own.
fn stand_and_wait() -> ! {
    let (runtime, held) = (common::runtime(1), common::runtime(1));
    let coroutines = [
        coro::Builder::new().name("deep").spawn_on(&runtime, || _ = middle(2)).unwrap(),
        runtime.go(in_a_raw_coroutine),
        runtime.go(|| coro::sleep(common::CHILDS_LIMIT * 2)),
    ];
    drop(crate::dump_when_parked(&coroutines));
    let begun = common::Gate::default();
    let holds = {
        let begun = begun.clone();
        held.go(move || holds_its_worker(&begun))
    };
    begun.block();
    for id in coroutines.iter().map(|one| one.id()).chain([holds.id()]) {
        common::say(format_args!("coroutine {id}"));
    }
    common::say(format_args!("ready"));
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    std::process::exit(0);
}

#[inline(never)]
fn holds_its_worker(begun: &common::Gate) {
    begun.open();
    std::thread::sleep(common::CHILDS_LIMIT * 2);
    std::hint::black_box(begun);
}

/// A child that stands, and the ids of its coroutines.
fn start(command: &mut Command) -> (Child, Vec<u64>) {
    let mut child =
        command.stdin(Stdio::piped()).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let ids = lines
        .take_while(|line| line != "ready")
        .filter_map(|line| line.strip_prefix("coroutine ")?.parse().ok())
        .collect();
    (child, ids)
}

/// What gdb prints for these commands, with the script loaded.
fn gdb(program: &[&str], commands: &[String]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/gdb/coro.py");
    let mut gdb = Command::new("gdb");
    gdb.env_remove("CORO_CHECK").stdin(Stdio::null());
    gdb.args(["-nx", "-batch", "-iex", "set debuginfod enabled off"])
        .args(program)
        .arg("-x")
        .arg(script);
    commands.iter().for_each(|command| _ = gdb.args(["-ex", command]));
    let output = gdb.output().unwrap();
    common::stdout(&output) + &common::stderr(&output)
}

/// Checks what gdb prints for [`commands`].
fn check(said: &str, ids: &[u64]) {
    let line = |start: String| {
        let found = said.lines().find(|line| line.starts_with(&start));
        found.unwrap_or_else(|| panic!("no line begins with {start}: {said}"))
    };
    let [deep, raw, sleeps, holds] = ids else { panic!("{ids:?}: {said}") };
    let listed =
        line(format!("coroutine {deep} 'deep', parked: Park, spawned at tests/dump/gdb.rs:"));
    assert!(listed.contains("in dump::frames::stands_here at tests/dump/frames.rs:"), "{listed}");
    line(format!("coroutine {raw}, parked: Park, spawned at tests/dump/gdb.rs:"));
    line(format!("coroutine {sleeps}, parked: Sleep, spawned at tests/dump/gdb.rs:"));
    let listed = line(format!("coroutine {holds}, running, spawned at tests/dump/gdb.rs:"));
    assert!(!listed.contains("dump::gdb::stand_and_wait"), "{listed}");
    assert!(said.contains("4 coroutines have started"), "{said}");
    // Their backtraces, one after another.
    let trace_of = |command: &str| {
        let trace = said.split(&format!("[{command}]")).nth(1).unwrap().split('[').next().unwrap();
        let names = [
            "stands_here",
            "middle",
            "in_another",
            "in_a_raw_coroutine",
            "sleep",
            "holds_its_worker",
        ];
        let frames =
            trace.lines().filter_map(|line| line.split_once(" in ")?.1.split(" at ").next());
        let mut found: Vec<&str> = frames
            .filter_map(|frame| {
                names.into_iter().find(|name| frame.ends_with(&format!("::{name}")))
            })
            .collect();
        found.dedup();
        found
    };
    assert_eq!(trace_of("deep"), ["stands_here", "middle"], "{said}");
    assert_eq!(
        trace_of("raw"),
        ["stands_here", "middle", "in_another", "in_a_raw_coroutine"],
        "{said}"
    );
    assert!(trace_of("holds").ends_with(&["holds_its_worker"]), "{said}");
    // Any command may look at a frame.
    assert!(said.contains("in dump::frames::middle (n=0) at tests/dump/frames.rs:"), "{said}");
    assert!(said.contains("no started coroutine has the id 123456789"), "{said}");
}

fn commands(ids: &[u64]) -> Vec<String> {
    let echo = |name: &str| format!("echo [{name}]\\n");
    let of = |index: usize, command: &str| format!("coroutine {} {command}", ids[index]);
    vec![
        "coroutines".into(),
        echo("deep"),
        of(0, "bt"),
        echo("raw"),
        of(1, "backtrace"),
        echo("holds"),
        of(3, "bt"),
        echo("end"),
        of(0, "frame function dump::frames::middle"),
        "coroutine 123456789 bt".into(),
    ]
}

fn has_gdb(test: &str) -> bool {
    let python = Command::new("gdb").args(["-nx", "-batch", "-ex", "python print(6 * 7)"]).output();
    let has = python.is_ok_and(|output| common::stdout(&output).contains("42"));
    if !has {
        eprintln!("{test}: skipped, there is no gdb with Python here");
    }
    has
}

/// A directory that is removed when this is dropped.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("coro-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Directory(path)
    }

    /// A core file in it.
    fn core(&self) -> Option<PathBuf> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        let mut paths = entries.map(|entry| entry.unwrap().path());
        paths.find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("core"))
    }
}

fn check_core(core: &Path, ids: &[u64]) {
    let program = std::env::current_exe().unwrap();
    let said = gdb(&[program.to_str().unwrap(), core.to_str().unwrap()], &commands(ids));
    check(&said, ids);
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "the release profile has no debug information of types")]
#[cfg_attr(coro_asan, ignore = "AddressSanitizer maps more than gdb can write to a file")]
fn dump_by_gdb_of_a_process_and_of_its_gcore() {
    let _watchdog = common::watchdog();
    const TEST: &str = "dump_by_gdb_of_a_process_and_of_its_gcore";
    if common::is_child(TEST) {
        stand_and_wait();
    }
    if !has_gdb(TEST) {
        return;
    }
    let directory = Directory::new("gcore");
    let path = directory.0.join("core");
    // gdb's own core file ends a mapping at the first page that cannot be read, such as a guard marker.
    let (mut child, ids) = start(child_command(TEST, TEST).env("CORO_GUARD", "mprotect"));
    let mut at_the_process = commands(&ids);
    at_the_process.push(format!("generate-core-file {}", path.display()));
    let said = gdb(&["-p", &child.id().to_string()], &at_the_process);
    check(&said, &ids);
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success(), "it goes on when gdb has left");
    // What was never used of the address range for stacks is not in it.
    let size = std::fs::metadata(&path).unwrap().len();
    assert!(size < 1 << 30, "{size} bytes");
    check_core(&path, &ids);
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "the release profile has no debug information of types")]
#[cfg_attr(coro_asan, ignore = "AddressSanitizer leaves no core file")]
fn dump_by_gdb_of_the_kernels_core_file() {
    let _watchdog = common::watchdog();
    const TEST: &str = "dump_by_gdb_of_the_kernels_core_file";
    if common::is_child(TEST) {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: a live limit.
        unsafe {
            libc::getrlimit(libc::RLIMIT_CORE, &raw mut limit);
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_CORE, &raw const limit);
        }
        stand_and_wait();
    }
    if !has_gdb(TEST) {
        return;
    }
    let directory = Directory::new("core");
    let (mut child, ids) =
        start(child_command_with_core_file(TEST, TEST).current_dir(&directory.0));
    // SAFETY: our own child, which was not waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGABRT) };
    child.wait().unwrap();
    match directory.core() {
        Some(core) => check_core(&core, &ids),
        None => {
            eprintln!("{TEST}: skipped, the kernel leaves no core file in the working directory")
        }
    }
}
