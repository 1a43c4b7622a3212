//! Coroutines before `main` take no report of an overflow away, neither std's of its threads nor ours.

mod common;
#[path = "common/nested.rs"]
mod nested;

use std::process::Command;
use std::time::Duration;

#[test]
#[cfg_attr(coro_asan, ignore = "AddressSanitizer reports overflows by itself")]
fn stack_overflows_are_told_after_coroutines_before_main() {
    // Long, because the program has to be built.
    let _watchdog = common::watchdog_for(Duration::from_secs(180));
    let program = nested::Program {
        name: "before-main",
        source: "tests/before_main/program.rs",
        toolchain: None,
        rustflags: "",
        features: "",
        arguments: if cfg!(debug_assertions) { &[] } else { &["--release"] },
    };
    let program = nested::build(&program).unwrap_or_else(|error| panic!("{error}"));
    let run = |first: &str, overflows: &str| {
        // No core file of a process that is to abort.
        let mut shell = Command::new("sh");
        shell.args(["-c", "ulimit -c 0; exec \"$0\" \"$@\""]).arg(&program);
        shell.args([first, overflows]).env_remove("CORO_CHECK").output().unwrap()
    };
    for first in ["none", "raw", "task"] {
        for (overflows, told) in [
            ("thread", "thread 'plain'"),
            ("main", "thread 'main'"),
            ("coroutine", "coroutine "),
            ("raw coroutine", "coroutine "),
        ] {
            let output = run(first, overflows);
            let stderr = common::stderr(&output);
            assert_eq!(
                common::signal(&output),
                Some(libc::SIGABRT),
                "{first}, {overflows}: {stderr}"
            );
            assert!(stderr.contains(told), "{first}, {overflows}: {stderr}");
            assert!(stderr.contains("overflowed its stack"), "{first}, {overflows}: {stderr}");
        }
    }
}
