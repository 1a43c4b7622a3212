//! Sockets that wander between workers, runtimes and threads, and descriptors whose number is used again.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use coro::net::TcpStream;

use crate::{common, echo, pair};

/// A connection that a coroutine of another runtime, or a plain thread, takes over after each word.
#[test]
fn net_a_connection_wanders() {
    let _watchdog = common::watchdog();
    let runtimes: Vec<_> = common::WORKERS.map(common::runtime).into();
    let (client, server) = pair();
    let answering = runtimes[1].go(move || echo(&server));
    let mut stream = client;
    for round in 0..200u32 {
        let step = move || {
            let word = round.to_le_bytes();
            let mut back = [0; 4];
            stream.write_all(&word).unwrap();
            stream.read_exact(&mut back).unwrap();
            assert_eq!(back, word);
            stream
        };
        stream = match round % 4 {
            3 => thread::spawn(step).join().unwrap(),
            i => runtimes[i as usize].go(step).join().unwrap(),
        };
    }
    drop(stream);
    answering.join().unwrap().unwrap();
}

/// Coroutines of two runtimes and a thread wait for one connection at a time, and each byte goes to one of them.
#[test]
fn net_readers_everywhere_share_a_connection() {
    let _watchdog = common::watchdog();
    let runtimes: Vec<_> = common::WORKERS.map(common::runtime).into();
    let (mut client, server) = pair();
    let server = Arc::new(server);
    let read = || {
        let server = Arc::clone(&server);
        move || {
            let mut all = 0;
            loop {
                match (&*server).read(&mut [0; 7]).unwrap() {
                    0 => return all,
                    length => all += length,
                }
            }
        }
    };
    let tasks: Vec<_> = (0..6).map(|i| runtimes[i % 3].go(read())).collect();
    let thread = thread::spawn(read());
    for _ in 0..1000 {
        client.write_all(b"0123456789").unwrap();
        coro::yield_now();
    }
    drop(client);
    let by_tasks: usize = tasks.into_iter().map(|task| task.join().unwrap()).sum();
    assert_eq!(by_tasks + thread.join().unwrap(), 10_000);
}

/// A number that is used again at once: nobody is woken for, or finds, what was the former descriptor's.
#[test]
fn net_a_number_that_is_used_again_meets_no_stranger() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let rounds: Vec<_> = (0..4u8)
            .map(|_| {
                runtime.go(move || {
                    let mut numbers = std::collections::HashSet::new();
                    for round in 0..200u32 {
                        let (client, server) = pair();
                        numbers.insert(server.as_raw_fd());
                        let word = round.to_le_bytes();
                        let reader = coro::go(move || {
                            let mut seen = [0; 4];
                            (&server).read_exact(&mut seen).unwrap();
                            // Closed while an event of it may be on its way.
                            (seen, server)
                        });
                        coro::yield_now();
                        (&client).write_all(&word).unwrap();
                        let (seen, server) = reader.join().unwrap();
                        assert_eq!(seen, word);
                        (&client).write_all(b"for nobody").unwrap();
                        drop(server);
                    }
                    numbers.len()
                })
            })
            .collect();
        let different: usize = rounds.into_iter().map(|round| round.join().unwrap()).sum();
        assert!(different < 4 * 200, "no number was used again");
    });
}

/// On plain threads the same calls block the thread, and a timeout limits them.
#[test]
fn net_on_plain_threads() {
    let _watchdog = common::watchdog();
    let (client, server) = pair();
    let answering = common::spawn_until_blocked(move || echo(&server));
    let mut stream: TcpStream = client;
    stream.write_all(b"hello").unwrap();
    let mut back = [0; 5];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"hello");
    let late = coro::timeout(Duration::from_millis(5), || stream.read(&mut back));
    assert!(late.is_err());
    drop(stream);
    answering.join().unwrap().unwrap();
}

/// A loop of reads that never wait lets others go first now and then, and can be cancelled.
#[test]
fn net_reads_that_never_wait_starve_nobody() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(1);
    let zero = coro::io::Async::new(std::fs::File::open("/dev/zero").unwrap()).unwrap();
    let reads = common::Counter::default();
    let endless = {
        let reads = reads.clone();
        runtime.go(move || {
            loop {
                (&zero).read_exact(&mut [0; 8]).unwrap();
                reads.add();
            }
        })
    };
    reads.wait_for(1);
    runtime.go(|| ()).join().unwrap();
    endless.cancel();
    common::assert_cancelled(endless.join());
}

/// A worker that always has something to do sees events nevertheless.
#[test]
fn net_a_busy_worker_sees_events() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(1);
    let (client, server) = pair();
    let is_over = common::Gate::default();
    let busy: Vec<_> = (0..3)
        .map(|_| {
            let is_over = is_over.clone();
            runtime.go(move || is_over.pass())
        })
        .collect();
    let answering = runtime.go(move || echo(&server));
    let mut stream = client;
    for round in 0..20u8 {
        stream.write_all(&[round]).unwrap();
        let mut back = [0];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(back, [round]);
    }
    is_over.open();
    busy.into_iter().for_each(|busy| busy.join().unwrap());
    drop(stream);
    answering.join().unwrap().unwrap();
}
