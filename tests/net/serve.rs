//! `serve`: a coroutine for each connection, spread over the workers, within limits, and to a good end.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use coro::net::{Server, TcpListener, TcpStream, serve};
use coro::tls;

use crate::{common, echo};

const LONG: Duration = Duration::from_secs(60);

/// A server on this runtime, and where it listens.
fn server_on(
    runtime: &coro::Runtime,
    handler: impl Fn(TcpStream, SocketAddr) + Send + Sync + 'static,
) -> (Server, SocketAddr) {
    let start = move || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (serve(listener, handler), address)
    };
    runtime.go(start).join().unwrap()
}

fn say(address: SocketAddr, word: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(word)?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

/// Connections that stay are spread evenly, whether one accepts or every worker does.
#[test]
fn net_serve_spreads_connections_over_the_workers() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, workers| {
        for per_worker in [false, true] {
            let places = Arc::new(Mutex::new(HashMap::<_, usize>::new()));
            let seen = Arc::clone(&places);
            let (mut server, address) = server_on(runtime, move |stream, _| {
                *seen.lock().unwrap().entry(thread::current().id()).or_default() += 1;
                let _ = (&stream).write_all(b"x");
                let _ = echo(&stream);
            });
            if per_worker {
                server = runtime.go(move || server.per_worker().unwrap()).join().unwrap();
            }
            let clients: Vec<_> = (0..64)
                .map(|_| {
                    let mut stream = TcpStream::connect(address).unwrap();
                    stream.read_exact(&mut [0]).unwrap();
                    stream
                })
                .collect();
            assert_eq!(server.connections(), 64);
            let places = places.lock().unwrap();
            assert_eq!(places.len(), workers);
            let (least, most) = (places.values().min().unwrap(), places.values().max().unwrap());
            // The acceptors are coroutines too.
            assert!(most - least <= 2, "{places:?}");
            drop(clients);
            assert_eq!(server.shutdown(LONG), 0);
        }
    });
}

/// Acceptors that come while the server ends end too. When it has ended, no listener is open. (In a process of its own: in
/// one that somebody else starts, a listener is open until the program is there.)
#[test]
fn net_serve_shutdown_beside_per_worker() {
    let body = || {
        common::on_workers(|runtime, _| {
            for _ in 0..200 {
                // Where no client has its own end.
                let listener = TcpListener::bind("127.0.0.2:0").unwrap();
                let address = listener.local_addr().unwrap();
                let start = || serve(listener, |stream, _| drop(echo(&stream)));
                let server = runtime.go(start).join().unwrap();
                let more = server.clone();
                let accepting = runtime.go(move || more.per_worker().map(drop));
                assert_eq!(server.shutdown(LONG), 0);
                // Refused, if the listener has ended first.
                let _ = accepting.join().unwrap();
                server.join().unwrap();
                let refused = TcpStream::connect(address).unwrap_err();
                assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            }
        });
    };
    common::in_child("net_serve_shutdown_beside_per_worker", common::CHILDS_LIMIT, body);
}

#[test]
fn net_serve_has_a_limit() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (open, most) = (common::Counter::default(), Arc::new(Mutex::new((0, 0))));
        let (count, seen) = (open.clone(), Arc::clone(&most));
        let (server, address) = server_on(runtime, move |stream, _| {
            count.add();
            {
                let mut seen = seen.lock().unwrap();
                seen.0 += 1;
                seen.1 = seen.1.max(seen.0);
            }
            let _ = echo(&stream);
            seen.lock().unwrap().0 -= 1;
        });
        let server = server.limit(3);
        let clients: Vec<_> =
            (0..30).map(|_| runtime.go(move || say(address, b"hello").unwrap())).collect();
        for client in clients {
            assert_eq!(client.join().unwrap(), b"hello");
        }
        assert_eq!(open.get(), 30);
        assert!(most.lock().unwrap().1 <= 3);
        assert_eq!(server.shutdown(LONG), 0);
    });
}

/// Counts when it is dropped, which takes a while.
struct Slow(common::Counter);

impl Drop for Slow {
    fn drop(&mut self) {
        coro::yield_now();
        self.0.add();
    }
}

/// What runs when the server ends may come to its end; what does not is cancelled. The server has ended when all exit
/// handlers have run, once each, and what was stored is dropped. Who comes late is refused.
#[test]
fn net_serve_ends_gracefully() {
    let _watchdog = common::watchdog();
    common::open_files();
    common::on_workers(|runtime, _| {
        for in_time in [true, false] {
            let (ended, open) = (common::Counter::default(), common::Counter::default());
            let (leave, left) = coro::chan::bounded::<()>(0);
            let (count, begun) = (ended.clone(), open.clone());
            let (server, address) = server_on(runtime, move |mut stream, _| {
                tls::set("slow", Slow(count.clone()));
                let count = count.clone();
                tls::at_exit(move || drop(Slow(count)));
                begun.add();
                if in_time {
                    let _ = left.recv();
                    let _ = stream.write_all(b"end");
                } else {
                    let _ = stream.read(&mut [0]);
                    panic!("nothing was sent");
                }
            });
            let clients: Vec<_> = (0..500).map(|_| TcpStream::connect(address).unwrap()).collect();
            open.wait_for(500);
            let ending = {
                let server = server.clone();
                let limit = if in_time { LONG } else { Duration::from_millis(10) };
                thread::spawn(move || server.shutdown(limit))
            };
            if in_time {
                let refused = loop {
                    match TcpStream::connect(address) {
                        Ok(_) => thread::sleep(Duration::from_millis(1)),
                        Err(error) => break error,
                    }
                };
                assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
                drop(leave);
            }
            let cancelled = ending.join().unwrap();
            server.join().unwrap();
            assert_eq!(server.connections(), 0);
            assert_eq!(ended.get(), 2 * open.get());
            assert!(if in_time { cancelled == 0 } else { cancelled >= 500 }, "{cancelled}");
            for mut client in clients {
                let mut text = String::new();
                let all = client.read_to_string(&mut text);
                assert!(!in_time || all.is_ok() && text == "end", "{all:?}, {text}");
            }
        }
    });
}

/// A handler that panics closes its own connection, and the server goes on.
#[test]
fn net_serve_outlives_a_handler_that_panics() {
    let _watchdog = common::watchdog();
    common::quiet();
    let runtime = common::runtime(2);
    let (server, address) = server_on(&runtime, |stream, _| {
        let mut word = [0; 5];
        (&stream).read_exact(&mut word).unwrap();
        if &word == b"panic" {
            common::planned("in a handler");
        }
        (&stream).write_all(&word).unwrap();
    });
    for _ in 0..10 {
        assert_eq!(say(address, b"panic").unwrap_or_default(), b"");
        assert_eq!(say(address, b"hello").unwrap(), b"hello");
    }
    assert_eq!(server.shutdown(LONG), 0);
}

/// A listener that can be used no more ends the server, and the reason is told.
#[test]
fn net_serve_ends_with_its_listener() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(1);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = listener.try_clone().unwrap();
    let server = runtime.go(move || serve(listener, |_, _| ())).join().unwrap();
    thread::sleep(Duration::from_millis(5));
    // SAFETY: an open descriptor.
    unsafe { libc::shutdown(std::os::fd::AsRawFd::as_raw_fd(&other), libc::SHUT_RDWR) };
    assert_eq!(server.join().unwrap_err().kind(), ErrorKind::InvalidInput);
}

/// With too many open files a connection is turned away, this is told once, nothing spins, and it goes on afterwards.
#[test]
fn net_serve_without_descriptors() {
    common::in_child("net_serve_without_descriptors", LONG, || {
        let runtime = common::runtime(1);
        let (server, address) = server_on(&runtime, |stream, _| drop(echo(&stream)));
        // So that each part has what it needs.
        assert_eq!(say(address, b"before").unwrap(), b"before");
        let few = libc::rlimit { rlim_cur: 64, rlim_max: 64 };
        // SAFETY: a live local.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const few) }, 0);
        let mut all: Vec<_> =
            std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
        // Whoever comes now is turned away, and is not left to wait. The server has one worker, which does not spin.
        all.truncate(all.len() - 1);
        let mut late = std::net::TcpStream::connect(address).unwrap();
        assert!(matches!(late.read(&mut [0]), Ok(0) | Err(_)));
        runtime.go(|| ()).join().unwrap();
        drop((late, all));
        // It may still be in its pause.
        while say(address, b"after").is_ok_and(|answer| answer != b"after") {
            thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(server.shutdown(LONG), 0);
    });
}
