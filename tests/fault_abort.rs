//! What the documentation promises to programs that are compiled with `panic = "abort"`. The program is
//! `tests/abort/program.rs`: each case is a run of it.

mod common;
#[path = "common/nested.rs"]
mod nested;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::Duration;

use common::watchdog_for;

/// Long, because the program has to be built.
const LIMIT: Duration = Duration::from_secs(180);

/// The program, built once for all tests of this file.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let program = nested::Program {
            name: "abort",
            source: "tests/abort/program.rs",
            toolchain: None,
            rustflags: "",
            features: "",
            arguments: if cfg!(debug_assertions) {
                &["--config=profile.dev.panic='abort'"]
            } else {
                &["--config=profile.release.panic='abort'", "--release"]
            },
        };
        nested::build(&program).unwrap_or_else(|error| panic!("{error}"))
    })
}

fn run(case: &str) -> Output {
    // No core file of a process that is to abort.
    let shell = "ulimit -c 0; exec \"$0\" \"$1\"";
    Command::new("sh")
        .env_remove("CORO_CHECK")
        .args(["-c", shell])
        .arg(program())
        .arg(case)
        .output()
        .unwrap()
}

#[track_caller]
fn assert_kept(case: &str) {
    let _watchdog = watchdog_for(LIMIT);
    let output = run(case);
    assert!(output.status.success(), "{}\n{}", output.status, common::stderr(&output));
    assert_eq!(common::stdout(&output), "kept\n");
}

/// Whatever the panic, the process ends there: nothing is cleaned up, and nobody joins.
#[track_caller]
fn assert_aborts(case: &str) {
    let _watchdog = watchdog_for(LIMIT);
    let output = run(case);
    assert_eq!(common::signal(&output), Some(libc::SIGABRT), "{output:?}");
    assert_eq!(common::stdout(&output), "");
}

#[test]
fn fault_abort_coroutines_end_and_are_cleaned_up() {
    assert_kept("ends");
}

#[test]
fn fault_abort_what_a_timeout_limits_runs_to_its_end() {
    assert_kept("timeouts");
}

#[test]
fn fault_abort_a_parked_coroutine_is_not_cancelled() {
    assert_kept("cancel a parked one");
}

#[test]
fn fault_abort_a_fresh_coroutine_is_cancelled() {
    assert_kept("cancel a fresh one");
}

#[test]
fn fault_abort_a_shutdown_leaves_what_is_suspended() {
    assert_kept("shutdown");
}

/// One that runs to its end needs no unwinding. One that is suspended in the end cannot be ended.
#[test]
fn fault_abort_a_raw_coroutine_runs_to_its_end() {
    assert_kept("raw");
    let output = run("raw, suspended");
    assert_eq!(common::signal(&output), Some(libc::SIGABRT), "{output:?}");
    let told = "cannot be ended: the program was compiled with panic = \"abort\"";
    assert!(common::stderr(&output).contains(told), "{output:?}");
}

#[test]
fn fault_abort_a_panic_ends_the_process() {
    assert_aborts("panic");
    assert_aborts("panic in a handler");
    assert_aborts("resume_unwind");
}
