//! `CORO_DUMP`.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::common::{self, child_command};

/// Parks two coroutines, says so, and waits for the end of its input.
pub(crate) fn park_and_wait() -> ! {
    let runtime = common::runtime(1);
    let parked: Vec<_> = (0..2).map(|_| runtime.go(coro::park)).collect();
    drop(crate::dump_when_parked(&parked));
    common::say(format_args!("parked"));
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    std::process::exit(0);
}

#[test]
fn dump_for_a_signal() {
    let _watchdog = common::watchdog();
    const TEST: &str = "dump_for_a_signal";
    if common::is_child(TEST) {
        park_and_wait();
    }
    for (value, signal) in
        [("SIGQUIT", libc::SIGQUIT), ("USR1", libc::SIGUSR1), ("12", libc::SIGUSR2)]
    {
        let mut child = child_command(TEST, TEST)
            .env("CORO_DUMP", value)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut next_line = || {
            let mut line = String::new();
            assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "{value}: it has ended");
            line
        };
        while next_line() != "parked\n" {}
        // It goes on, so the second signal has another dump.
        for _ in 0..2 {
            // SAFETY: our own child, which was not waited for.
            unsafe { libc::kill(child.id() as i32, signal) };
            while next_line() != "coro: 2 coroutines have started, 0 are fresh\n" {}
            assert_eq!(next_line(), "\n");
            assert_eq!(next_line(), "2 parked, waiting for park\n");
            assert!(next_line().starts_with("  spawned at tests/dump/signals.rs:"));
        }
        drop(child.stdin.take());
        // What it still has to say is read, or it could not end.
        std::io::copy(&mut stderr, &mut std::io::sink()).unwrap();
        assert!(child.wait().unwrap().success(), "{value}");
    }
}

#[test]
fn dump_for_nonsense_is_a_panic() {
    let _watchdog = common::watchdog();
    const TEST: &str = "dump_for_nonsense_is_a_panic";
    if common::is_child(TEST) {
        coro::go(|| ()).join().unwrap();
        std::process::exit(0);
    }
    for value in ["SIGWHAT", "0", "-1", "65", "SIGKILL", "9", "yes"] {
        let output = child_command(TEST, TEST).env("CORO_DUMP", value).output().unwrap();
        let said = common::stderr(&output) + &common::stdout(&output);
        assert!(!output.status.success(), "{value}: {said}");
        let expected =
            format!("CORO_DUMP=\"{value}\": expected the name of a signal, such as SIGQUIT");
        assert!(said.contains(&expected), "{value}: {said}");
    }
    let output = child_command(TEST, TEST).env("CORO_DUMP", "").output().unwrap();
    assert!(output.status.success());
}
