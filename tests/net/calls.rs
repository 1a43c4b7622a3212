//! How many system calls the work on a connection takes, as strace counts them in a process of its own.

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{self, SocketAddr};
use std::process::{Command, Stdio, exit};
use std::thread;
use std::time::Duration;

use coro::net::TcpStream;
use coro::{Builder, Place};

use crate::{common, echo};

const LIMIT: Duration = Duration::from_secs(120);
const ADDRESS: &str = "CORO_TEST_ADDRESS";

/// The calls that a child of `test` makes, by name, while a peer of plain threads that listens at the address which the
/// child is told does its part. `None`: they cannot be counted here.
fn calls_of_child(test: &str, peer: impl FnOnce(net::TcpListener)) -> Option<HashMap<String, u64>> {
    let probe = Command::new("strace").args(["-o", "/dev/null", "true"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        eprintln!("{test}: skipped, there is no strace here, or it may trace nothing");
        return None;
    }
    let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
    let counts = std::env::temp_dir().join(format!("coro-{test}-{}", std::process::id()));
    let mut strace = Command::new("strace");
    strace.args(["-f", "-c", "-U", "calls,name", "-o"]).arg(&counts);
    common::run_below(&mut strace, &common::child_command(test, test));
    strace.env(ADDRESS, listener.local_addr().unwrap().to_string()).stdout(Stdio::null());
    let mut running = strace.spawn().unwrap();
    peer(listener);
    assert!(running.wait().unwrap().success());
    let table = fs::read_to_string(&counts).unwrap();
    fs::remove_file(&counts).unwrap();
    let line = |line: &str| {
        let (calls, name) = line.trim().split_once(char::is_whitespace)?;
        Some((name.trim().to_owned(), calls.parse().ok()?))
    };
    Some(table.lines().filter_map(line).collect())
}

fn peer_address() -> SocketAddr {
    std::env::var(ADDRESS).unwrap().parse().unwrap()
}

/// A request that is answered costs a read, a write, and a share of the call that fetches events.
#[test]
#[cfg_attr(coro_asan, ignore = "AddressSanitizer looks for leaks, and cannot while it is traced")]
fn net_a_request_and_its_answer_are_two_calls() {
    const NAME: &str = "net_a_request_and_its_answer_are_two_calls";
    const CONNECTIONS: u64 = 8;
    const ROUNDS: u64 = 500;
    let _watchdog = common::watchdog_for(LIMIT);
    if common::is_child(NAME) {
        let runtime = common::runtime(1);
        let echoing: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                let stream = TcpStream::connect(peer_address()).unwrap();
                runtime.go(move || echo(&stream).unwrap())
            })
            .collect();
        echoing.into_iter().for_each(|task| task.join().unwrap());
        exit(0);
    }
    let Some(calls) = calls_of_child(NAME, |listener| {
        let mut streams: Vec<_> = (0..CONNECTIONS).map(|_| listener.accept().unwrap().0).collect();
        let mut buffer = [0; 64];
        for _ in 0..ROUNDS {
            streams.iter_mut().for_each(|stream| stream.write_all(&buffer).unwrap());
            streams.iter_mut().for_each(|stream| stream.read_exact(&mut buffer).unwrap());
        }
    }) else {
        return;
    };
    let count = |name| calls.get(name).copied().unwrap_or(0);
    let answers = CONNECTIONS * ROUNDS;
    assert_eq!(count("sendto"), answers, "{calls:?}");
    // And of each connection the first one, which finds nothing yet, and the last one, which finds the end.
    assert!((answers..=answers + 2 * CONNECTIONS).contains(&count("recvfrom")), "{calls:?}");
    assert!(count("epoll_ctl") <= 2 * CONNECTIONS + 1, "{calls:?}");
    // No other call grows with the number of answers, but for the monitor's, which goes by the clock.
    for name in ["futex", "read", "write", "poll", "ioctl", "clock_gettime"] {
        assert!(count(name) < answers / 10, "{name}: {calls:?}");
    }
}

/// The halves of a connection on two workers, which talk at the same time: each registers its own side, once.
#[test]
#[cfg_attr(coro_asan, ignore = "AddressSanitizer looks for leaks, and cannot while it is traced")]
fn net_halves_on_two_workers_register_once() {
    const NAME: &str = "net_halves_on_two_workers_register_once";
    const LENGTH: usize = 16 << 20;
    let _watchdog = common::watchdog_for(LIMIT);
    if common::is_child(NAME) {
        let runtime = common::runtime(2);
        let (mut reader, mut writer) = TcpStream::connect(peer_address()).unwrap().split();
        let on = |worker| Builder::new().place(Place::Worker(worker));
        let read = on(0).spawn_on(&runtime, move || {
            let mut buffer = [0; 4096];
            (0..LENGTH / buffer.len()).for_each(|_| reader.read_exact(&mut buffer).unwrap());
        });
        let written = on(1).spawn_on(&runtime, move || {
            let buffer = [0; 4096];
            (0..LENGTH / buffer.len()).for_each(|_| writer.write_all(&buffer).unwrap());
        });
        read.unwrap().join().unwrap();
        written.unwrap().join().unwrap();
        exit(0);
    }
    let Some(calls) = calls_of_child(NAME, |listener| {
        let stream = listener.accept().unwrap().0;
        let mut halves = [stream.try_clone().unwrap(), stream];
        let [reader, writer] = &mut halves;
        thread::scope(|scope| {
            // In small pieces and small waits, so that both sides of the child find nothing again and again.
            scope.spawn(|| {
                let mut buffer = [0; 1 << 16];
                for _ in 0..LENGTH / buffer.len() {
                    reader.read_exact(&mut buffer).unwrap();
                    thread::yield_now();
                }
            });
            scope.spawn(|| {
                let buffer = [0; 1 << 12];
                for _ in 0..LENGTH / buffer.len() {
                    writer.write_all(&buffer).unwrap();
                    thread::yield_now();
                }
            });
        });
    }) else {
        return;
    };
    let count = |name| calls.get(name).copied().unwrap_or(0);
    assert!(count("epoll_pwait2") > 100, "both sides have waited: {calls:?}");
    // One for the wake-up of each worker's epoll instance, and two for each side at most.
    assert!(count("epoll_ctl") <= 2 + 4, "{calls:?}");
}
