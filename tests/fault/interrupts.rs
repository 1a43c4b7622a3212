//! A system call that a signal has interrupted (EINTR) is made again, so nothing is lost.
//!
//! `ci/signals.sh` runs the whole suite while every thread gets a signal each millisecond. What is here
//! needs more than that: a report that has to wait, because stderr is a pipe that is full.

use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::process::{Child, ExitStatus, Stdio, exit};
use std::ptr;
use std::time::Duration;

use coro::Runtime;

use crate::common;

/// Handles SIGUSR1 by doing nothing, and has the kernel tell of it: no `SA_RESTART`.
fn handle_signal() {
    extern "C" fn ignore(_: libc::c_int) {}
    // SAFETY: a live local of the right type; the handler touches nothing.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = ignore as *const () as usize;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &raw const action, ptr::null_mut()), 0);
    }
}

/// A pipe into which no more fits; what is in it is all `.`.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, writer) = io::pipe().unwrap();
    let set_flags = |flags: libc::c_int| {
        // SAFETY: our own descriptor.
        assert_eq!(unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETFL, flags) }, 0);
    };
    set_flags(libc::O_NONBLOCK);
    // By the byte at last: a page that has begun takes no larger piece.
    for piece in [4096, 1] {
        while match (&writer).write(&[b'.'; 4096][..piece]) {
            Ok(_) => true,
            Err(error) => error.kind() == ErrorKind::Interrupted,
        } {}
    }
    set_flags(0);
    (reader, writer)
}

/// The thread that blocks in a write to stderr, as soon as there is one. `None` if the kernel does not tell
/// what a thread of another process does, as where nobody may trace anybody.
fn writing_thread(child: &mut Child) -> Option<libc::pid_t> {
    loop {
        let threads = fs::read_dir(format!("/proc/{}/task", child.id())).unwrap().flatten();
        for thread in threads {
            // The call's number and its arguments; "running" while it is in none.
            let call = match fs::read_to_string(thread.path().join("syscall")) {
                Err(error) if error.kind() == ErrorKind::PermissionDenied => return None,
                call => call.unwrap_or_default(),
            };
            if call.starts_with(&format!("{} {:#x} ", libc::SYS_write, libc::STDERR_FILENO)) {
                return Some(thread.file_name().to_str().unwrap().parse().unwrap());
            }
        }
        assert!(child.try_wait().unwrap().is_none(), "it has ended, and told nothing");
        std::thread::yield_now();
    }
}

/// Sends the thread a signal, and waits until it has been delivered.
fn interrupt(child: &Child, thread: libc::pid_t) {
    let pid = child.id() as libc::pid_t;
    // SAFETY: takes numbers; the process is a child of ours that nobody has waited for.
    unsafe { libc::syscall(libc::SYS_tgkill, pid, thread, libc::SIGUSR1) };
    let is_pending = || {
        let status = fs::read_to_string(format!("/proc/{pid}/task/{thread}/status"));
        let pending = status.ok().and_then(|status| {
            let (_, rest) = status.split_once("\nSigPnd:")?;
            u64::from_str_radix(rest.split_whitespace().next()?, 16).ok()
        });
        pending.is_some_and(|pending| pending & 1 << (libc::SIGUSR1 - 1) != 0)
    };
    while is_pending() {
        std::thread::yield_now();
    }
}

/// Interrupts the report that the child makes, ten times, before anybody reads it; if it can be seen.
fn report_of(test: &str, case: &str) -> (ExitStatus, String) {
    let (reader, writer) = full_pipe();
    let mut command = common::child_command(test, case);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(writer).spawn().unwrap();
    // It holds the pipe's other end, and the last of those must be the child's.
    drop(command);
    match writing_thread(&mut child) {
        Some(thread) => (0..10).for_each(|_| interrupt(&child, thread)),
        None => eprintln!("{test}: the report is not interrupted, for nobody may trace the child"),
    }
    // The report comes first: what a thread has not written when its process exits is lost.
    let mut reader = BufReader::new(reader);
    let mut all = String::new();
    reader.read_line(&mut all).unwrap();
    // The coroutine that holds its worker waits for this.
    drop(child.stdin.take());
    reader.read_to_string(&mut all).unwrap();
    (child.wait().unwrap(), all.trim_start_matches('.').to_owned())
}

#[test]
fn fault_a_report_is_interrupted() {
    let _watchdog = common::watchdog();
    const TEST: &str = "fault_a_report_is_interrupted";
    if common::is_child("held") {
        handle_signal();
        let runtime =
            Runtime::builder().workers(1).watch(Duration::from_millis(10)).build().unwrap();
        let holds = runtime.go(|| io::stdin().read_to_end(&mut Vec::new()).unwrap());
        holds.join().unwrap();
        runtime.shutdown();
        exit(0);
    }
    let (status, told) = report_of(TEST, "held");
    assert!(status.success(), "{status}\n{told}");
    assert!(told.starts_with("coro: coroutine 1, spawned at "), "{told:?}");
    assert!(told.ends_with(" without suspending\n"), "{told:?}");
}

#[test]
fn fault_the_report_of_an_overflow_is_interrupted() {
    fn overflow(depth: u64) -> u64 {
        std::hint::black_box([depth; 64]);
        if depth == u64::MAX { 0 } else { overflow(depth + 1) + 1 }
    }
    let _watchdog = common::watchdog();
    const TEST: &str = "fault_the_report_of_an_overflow_is_interrupted";
    if common::is_child("overflow") {
        handle_signal();
        let _ = common::runtime(1).go(|| overflow(0)).join();
        unreachable!("it has overflowed");
    }
    let (status, told) = report_of(TEST, "overflow");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGABRT));
    assert_eq!(told, "coroutine 1 overflowed its stack (256 KiB)\n");
}
