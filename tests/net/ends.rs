//! How waits end: by the end of the data, a reset, a limit, a cancellation, the end of a runtime.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use coro::net::{TcpListener, TcpStream};

use crate::{common, moment, pair};

/// Data and the end of it in one event, before anybody reads and while somebody does. The end is found again and again.
#[test]
fn net_data_and_end_at_once() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        for round in 0..50 {
            let (mut client, mut server) = pair();
            let read = move || {
                let mut buffer = [0; 64];
                let mut length = 0;
                let mut ends = 0;
                while ends < 3 {
                    let now = server.read(&mut buffer).unwrap();
                    length += now;
                    ends += usize::from(now == 0);
                }
                length
            };
            let reader = if round % 2 == 0 {
                let reader = runtime.go(read);
                moment();
                client.write_all(b"hello").unwrap();
                drop(client);
                reader
            } else {
                client.write_all(b"hello").unwrap();
                drop(client);
                runtime.go(read)
            };
            assert_eq!(reader.join().unwrap(), 5);
        }
    });
}

/// The end comes while nobody reads, after the socket has been waited for.
#[test]
fn net_end_while_nobody_reads() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (mut client, mut server) = pair();
        let read = runtime.go(move || {
            let mut buffer = [0; 64];
            let first = server.read(&mut buffer).unwrap();
            coro::sleep(Duration::from_millis(20));
            (first, server.read(&mut buffer).unwrap(), server.read(&mut buffer).unwrap())
        });
        moment();
        client.write_all(b"hello").unwrap();
        moment();
        drop(client);
        assert_eq!(read.join().unwrap(), (5, 0, 0));
    });
}

/// A reset while one coroutine waits to read and another to write.
#[test]
fn net_reset_while_both_sides_wait() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (client, server) = pair();
        let server = Arc::new(server);
        let reader = {
            let server = Arc::clone(&server);
            runtime.go(move || (&*server).read(&mut [0; 64]).map_err(|error| error.kind()))
        };
        let writer = {
            let server = Arc::clone(&server);
            runtime.go(move || {
                let full = vec![0; 1 << 20];
                loop {
                    if let Err(error) = (&*server).write(&full) {
                        return error.kind();
                    }
                }
            })
        };
        moment();
        // With something unread, and at once, it is a reset.
        socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        let reset = |kind| matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe);
        assert!(reset(writer.join().unwrap()));
        let read = reader.join().unwrap();
        assert!(read == Ok(0) || read.is_err_and(reset), "{read:?}");
    });
}

/// Two that read one connection, and one that shuts it down: each byte once, and all of them go on.
#[test]
fn net_two_read_and_a_shutdown_wakes_both() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (mut client, server) = pair();
        let server = Arc::new(server);
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let server = Arc::clone(&server);
                runtime.go(move || {
                    let mut all = 0;
                    loop {
                        match (&*server).read(&mut [0; 3]).unwrap() {
                            0 => return all,
                            length => all += length,
                        }
                    }
                })
            })
            .collect();
        for _ in 0..100 {
            client.write_all(b"0123456789").unwrap();
            coro::yield_now();
        }
        // What is there is read before the end.
        client.shutdown(Shutdown::Write).unwrap();
        let all: usize = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
        assert_eq!(all, 1000);

        let (_client, server) = pair();
        let server = Arc::new(server);
        let waiting = {
            let server = Arc::clone(&server);
            runtime.go(move || (&*server).read(&mut [0]).unwrap())
        };
        moment();
        server.shutdown(Shutdown::Both).unwrap();
        assert_eq!(waiting.join().unwrap(), 0);
    });
}

/// A cancellation and a timeout end every kind of wait, and the socket can be used again.
#[test]
fn net_interruptions_reach_every_wait() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let limit = Duration::from_millis(5);
        let (client, server) = pair();
        let server = Arc::new(server);
        let full = Arc::new(vec![0u8; 1 << 20]);
        let write_until_late = {
            let (server, full) = (Arc::clone(&server), Arc::clone(&full));
            runtime.go(move || {
                coro::timeout(limit, || {
                    loop {
                        (&*server).write_all(&full).unwrap();
                    }
                })
            })
        };
        assert_eq!(write_until_late.join().unwrap(), Err::<(), _>(coro::Elapsed));
        let read_until_late = {
            let server = Arc::clone(&server);
            runtime.go(move || coro::timeout(limit, || (&*server).read(&mut [0]).unwrap()))
        };
        assert_eq!(read_until_late.join().unwrap(), Err(coro::Elapsed));
        for writes in [false, true] {
            let (server, full) = (Arc::clone(&server), Arc::clone(&full));
            let cancelled = runtime.go(move || {
                loop {
                    if writes {
                        (&*server).write_all(&full).unwrap();
                    } else {
                        (&*server).read_exact(&mut [0]).unwrap();
                    }
                }
            });
            moment();
            cancelled.cancel();
            common::assert_cancelled(cancelled.join());
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let is_late = common::Gate::default();
        let told = is_late.clone();
        let accepting = runtime.go(move || {
            assert!(coro::timeout(limit, || listener.accept()).is_err());
            told.open();
            listener.accept().map(drop).unwrap();
            listener.accept().map(drop).unwrap();
        });
        is_late.pass();
        TcpStream::connect(address).unwrap();
        moment();
        accepting.cancel();
        common::assert_cancelled(accepting.join());

        // What was sent before the wait was cut short is still there.
        (&client).write_all(b"x").unwrap();
        let mut byte = [0];
        (&*server).read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
    });
}

/// A limit and the data come at the same time: either the data or the limit, and what was not taken is still there.
#[test]
fn net_a_limit_against_readiness_loses_nothing() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (mut client, server) = pair();
        let reader = runtime.go(move || {
            let (mut seen, mut late) = (0u32, 0u32);
            let limit = Duration::from_micros(200);
            server.set_read_timeout(Some(limit)).unwrap();
            loop {
                let mut byte = [0];
                let read = if late % 2 == 0 {
                    (&server).read(&mut byte)
                } else {
                    // Taken by the read, or left for the next one.
                    match coro::timeout(limit, || (&server).read(&mut byte)) {
                        Ok(read) => read,
                        Err(late) => Err(late.into()),
                    }
                };
                match read {
                    Ok(0) => return (seen, late),
                    Ok(_) => {
                        assert_eq!(byte[0], seen as u8);
                        seen += 1;
                    }
                    Err(error) => {
                        let kind = error.kind();
                        assert!(matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut));
                        late += 1;
                    }
                }
            }
        });
        for i in 0..500u32 {
            client.write_all(&[i as u8]).unwrap();
            thread::sleep(Duration::from_micros(200));
        }
        drop(client);
        assert_eq!(reader.join().unwrap().0, 500);
    });
}

/// A runtime ends while its coroutines wait for sockets that others go on to use.
#[test]
fn net_a_runtime_ends_while_its_coroutines_wait() {
    let _watchdog = common::watchdog();
    for workers in common::WORKERS {
        let (client, server) = pair();
        let server = Arc::new(server);
        let other = common::runtime(1);
        // It waits first, and the ending runtime's coroutine takes the side over.
        let stays = {
            let server = Arc::clone(&server);
            other.go(move || {
                let mut byte = [0];
                (&*server).read_exact(&mut byte).unwrap();
                byte[0]
            })
        };
        moment();
        let ends = common::runtime(workers);
        let goes = {
            let server = Arc::clone(&server);
            ends.go(move || (&*server).read(&mut [0]).unwrap())
        };
        moment();
        ends.shutdown();
        common::assert_cancelled(goes.join());
        (&client).write_all(b"x").unwrap();
        assert_eq!(stays.join().unwrap(), b'x');
        // And once more, by a later worker, which may have the mailbox of the one that ended.
        let later = common::runtime(workers);
        let read = {
            let server = Arc::clone(&server);
            later.go(move || (&*server).read(&mut [0; 8]).unwrap())
        };
        moment();
        (&client).write_all(b"yz").unwrap();
        assert_eq!(read.join().unwrap(), 2);
    }
}

/// What a shutdown tells of a coroutine that goes on waiting for a connection: which one.
#[test]
fn net_reports_name_the_descriptor_and_its_peer() {
    let _watchdog = common::watchdog();
    const TEST: &str = "net_reports_name_the_descriptor_and_its_peer";
    if common::is_child(TEST) {
        let runtime = common::runtime(1);
        let (client, server) = pair();
        let peer = client.local_addr().unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&server);
        common::say(format_args!("expect: input on descriptor {number} to {peer};"));
        let begun = common::Counter::default();
        let begins = begun.clone();
        runtime.go(move || {
            coro::shield(|| {
                begins.add();
                (&server).read(&mut [0]).map(drop)
            })
        });
        begun.wait_for(1);
        runtime.shutdown_timeout(Duration::from_millis(50));
        std::process::exit(0);
    }
    let output = common::child(TEST, TEST);
    let said = common::stderr(&output);
    let line = |start: &str| said.lines().find_map(|line| line.strip_prefix(start));
    let expected = line("expect: ").unwrap_or_else(|| panic!("{said}"));
    let told = line("coro: ").unwrap_or_else(|| panic!("{said}"));
    assert!(told.contains(expected), "{said}");
}
