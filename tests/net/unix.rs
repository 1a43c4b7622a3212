//! Unix sockets: streams and datagrams, with paths and abstract names, and peers that have no room.

use std::future::poll_fn;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use coro::net::{UnixDatagram, UnixListener, UnixStream};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use socket2::{Domain, SockAddr, Type};

use crate::futures::block_on;
use crate::{common, moment, transfer_more_than_fits};

const LIMIT: Duration = Duration::from_millis(5);

/// A name that nobody has.
fn name() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("coro-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

fn address() -> SocketAddr {
    SocketAddr::from_abstract_name(name()).unwrap()
}

/// A path that nobody has, and that is removed in the end.
struct TestPath(PathBuf);

impl TestPath {
    fn new() -> TestPath {
        TestPath(std::env::temp_dir().join(name()))
    }
}

impl Drop for TestPath {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Sends back what comes until the end comes.
fn echo(stream: UnixStream) {
    let (mut reader, mut writer) = stream.split();
    std::io::copy(&mut reader, &mut writer).unwrap();
}

#[test]
fn net_unix_echo_of_many_connections() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let path = TestPath::new();
        let listener = UnixListener::bind(&path.0).unwrap();
        let server = runtime.go(move || {
            for stream in &listener {
                let stream = stream.unwrap();
                coro::go(move || echo(stream));
            }
        });
        let talk = |path: &TestPath| {
            let path = path.0.clone();
            move || {
                let mut stream = UnixStream::connect(path).unwrap();
                for word in 0..3u64 {
                    stream.write_all(&word.to_le_bytes()).unwrap();
                    let mut back = [0; 8];
                    stream.read_exact(&mut back).unwrap();
                    assert_eq!(back, word.to_le_bytes());
                }
                // The other direction goes on.
                stream.shutdown(Shutdown::Write).unwrap();
                assert_eq!(stream.read(&mut [0]).unwrap(), 0);
            }
        };
        let clients: Vec<_> = (0..200).map(|_| runtime.go(talk(&path))).collect();
        let thread = thread::spawn(talk(&path));
        clients.into_iter().for_each(|client| client.join().unwrap());
        thread.join().unwrap();
        server.cancel();
        common::assert_cancelled(server.join());
    });
}

/// More than fits into the buffers of the kernel: writes are cut short and wait for room.
#[test]
fn net_unix_partial_writes_lose_nothing() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (client, server) = UnixStream::pair().unwrap();
        transfer_more_than_fits(runtime, client, server, |stream| stream.shutdown(Shutdown::Write));
    });
}

fn send_with_descriptor(stream: &UnixStream, data: &[u8]) {
    let descriptors = [stream.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
    let sent = sendmsg(stream, &[IoSlice::new(data)], &mut ancillary, SendFlags::empty()).unwrap();
    assert_eq!(sent, data.len());
}

/// A read ends with the bytes that a descriptor was sent with, though more is there, of which no event will tell.
#[test]
fn net_unix_a_descriptor_does_not_hide_what_follows() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(1);
    for as_future in [false, true] {
        let (client, server) = UnixStream::pair().unwrap();
        let read = runtime.go(move || {
            let mut text = Vec::new();
            while !text.ends_with(b"end") {
                let mut buffer = [0; 64];
                let length = match as_future {
                    true => coro::wait(poll_fn(|cx| server.poll_read(cx, &mut buffer))).unwrap(),
                    false => (&server).read(&mut buffer).unwrap(),
                };
                text.extend_from_slice(&buffer[..length]);
            }
            text
        });
        moment();
        // On the reader's own worker, so that all is there before the reader goes on.
        let sent = runtime.go(move || {
            send_with_descriptor(&client, b"a descriptor, ");
            (&client).write_all(b"the end").unwrap();
            client
        });
        let _client = sent.join().unwrap();
        assert_eq!(read.join().unwrap(), b"a descriptor, the end");
    }
}

/// A listener at which one connection may wait.
fn small_listener(address: &SocketAddr) -> UnixListener {
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    let name = address.as_abstract_name().unwrap();
    let path = [b"\0", name].concat();
    socket.bind(&SockAddr::unix(std::str::from_utf8(&path).unwrap()).unwrap()).unwrap();
    socket.listen(0).unwrap();
    UnixListener::from(OwnedFd::from(socket))
}

/// Where too many connections wait to be accepted, further ones wait until there is room.
#[test]
fn net_unix_connecting_waits_for_room() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let address = address();
        let listener = small_listener(&address);
        let connect = || {
            let address = address.clone();
            move || UnixStream::connect_addr(&address).map(drop)
        };
        let first = UnixStream::connect_addr(&address).unwrap();
        let waiting: Vec<_> = (0..5).map(|_| runtime.go(connect())).collect();
        let thread = thread::spawn(connect());
        moment();
        assert!(!thread.is_finished());
        assert!(waiting.iter().all(|waiting| !waiting.is_finished()));
        // Neither a limit nor a cancellation has to wait for room.
        let late = {
            let connect = connect();
            runtime.go(move || coro::timeout(LIMIT, connect).is_err())
        };
        assert!(late.join().unwrap());
        assert!(coro::timeout(LIMIT, connect()).is_err());
        let cancelled = runtime.go(connect());
        moment();
        cancelled.cancel();
        common::assert_cancelled(cancelled.join());

        let accepting = runtime.go(move || {
            (0..7).for_each(|_| drop(listener.accept().unwrap()));
            listener
        });
        waiting.into_iter().for_each(|waiting| waiting.join().unwrap().unwrap());
        thread.join().unwrap().unwrap();
        let listener = accepting.join().unwrap();
        drop(first);

        // A listener that goes away while somebody waits.
        let _first = UnixStream::connect_addr(&address).unwrap();
        let waiting = runtime.go(connect());
        moment();
        drop(listener);
        let refused = waiting.join().unwrap().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn net_unix_addresses_and_errors_are_those_of_std() {
    let _watchdog = common::watchdog();
    let check = || {
        let path = TestPath::new();
        let listener = UnixListener::bind(&path.0).unwrap();
        assert_eq!(UnixListener::bind(&path.0).unwrap_err().kind(), ErrorKind::AddrInUse);
        let client = UnixStream::connect(&path.0).unwrap();
        let (server, from) = listener.accept().unwrap();
        assert!(from.is_unnamed() && client.local_addr().unwrap().is_unnamed());
        assert_eq!(server.local_addr().unwrap().as_pathname(), Some(&*path.0));
        assert_eq!(client.peer_addr().unwrap().as_pathname(), Some(&*path.0));

        drop((listener, server));
        assert_eq!((&client).read(&mut [0]).unwrap(), 0);
        assert_eq!((&client).write(&[0]).unwrap_err().kind(), ErrorKind::BrokenPipe);
        let refused = UnixStream::connect(&path.0).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        let missing = UnixStream::connect(TestPath::new().0.clone()).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
        for bad in ["x".repeat(200), "zero\0byte".into()] {
            for refused in [
                UnixStream::connect(&bad).map(drop),
                UnixListener::bind(&bad).map(drop),
                UnixDatagram::bind(&bad).map(drop),
                UnixDatagram::unbound().unwrap().connect(&bad),
                UnixDatagram::unbound().unwrap().send_to(b"", &bad).map(drop),
            ] {
                assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
            }
        }

        // A name may hold anything, also nothing readable.
        let long = SocketAddr::from_abstract_name([&b"\xff\0"[..], name().as_bytes()].concat());
        let long = long.unwrap();
        let listener = UnixListener::bind_addr(&long).unwrap();
        let client = UnixStream::connect_addr(&long).unwrap();
        assert_eq!(client.peer_addr().unwrap().as_abstract_name(), long.as_abstract_name());
        listener.set_nonblocking(true).unwrap();
        listener.accept().unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    };
    check();
    coro::go(check).join().unwrap();
}

#[test]
fn net_unix_limits_and_interruptions() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (client, server) = UnixStream::pair().unwrap();
        let server = Arc::new(server);
        let limited = {
            let server = Arc::clone(&server);
            move || {
                assert!(server.set_write_timeout(Some(Duration::ZERO)).is_err());
                server.set_read_timeout(Some(LIMIT)).unwrap();
                server.set_write_timeout(Some(LIMIT)).unwrap();
                let late = (&*server).read(&mut [0]).unwrap_err();
                assert_eq!(late.kind(), ErrorKind::WouldBlock);
                let full = (&*server).write_all(&vec![0; 4 << 20]).unwrap_err();
                assert_eq!(full.kind(), ErrorKind::WouldBlock);
                server.set_read_timeout(None).unwrap();
                server.set_write_timeout(None).unwrap();
                assert!(coro::timeout(LIMIT, || (&*server).read(&mut [0]).unwrap()).is_err());
                assert!(coro::timeout(LIMIT, || (&*server).write(&[0]).unwrap()).is_err());
            }
        };
        limited.clone()();
        runtime.go(limited).join().unwrap();
        for writes in [false, true] {
            let server = Arc::clone(&server);
            let cancelled = runtime.go(move || match writes {
                true => (&*server).write(&[0]).unwrap(),
                false => (&*server).read(&mut [0]).unwrap(),
            });
            moment();
            cancelled.cancel();
            common::assert_cancelled(cancelled.join());
        }
        let address = address();
        let listener = UnixListener::bind_addr(&address).unwrap();
        let is_late = common::Gate::default();
        let told = is_late.clone();
        let accepting = runtime.go(move || {
            assert!(coro::timeout(LIMIT, || listener.accept()).is_err());
            told.open();
            let accepted = coro::wait(poll_fn(|context| listener.poll_accept(context)));
            accepted.map(drop).unwrap();
            listener.accept().map(drop).unwrap();
        });
        is_late.pass();
        UnixStream::connect_addr(&address).unwrap();
        moment();
        accepting.cancel();
        common::assert_cancelled(accepting.join());

        (&client).write_all(b"x").unwrap();
        let mut byte = [0];
        (&*server).read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
    });
}

#[test]
fn net_unix_conversions_from_and_to_std() {
    let _watchdog = common::watchdog();
    let check = || {
        let (client, server) = UnixStream::pair().unwrap();
        let mut client = std::os::unix::net::UnixStream::from(client);
        let mut server = std::os::unix::net::UnixStream::from(OwnedFd::from(server));
        let reader = thread::spawn(move || {
            let mut text = String::new();
            server.read_to_string(&mut text).map(|_| (text, server))
        });
        // It blocks again: the reader waits for this.
        client.write_all(b"std").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let (text, server) = reader.join().unwrap().unwrap();
        assert_eq!(text, "std");
        let (client, server) = (UnixStream::from(client), UnixStream::from(server));
        (&server).write_all(b"coro").unwrap();
        drop(server);
        let mut text = String::new();
        (&client).read_to_string(&mut text).unwrap();
        assert_eq!(text, "coro");

        let address = address();
        let listener = UnixListener::bind_addr(&address).unwrap();
        let listener = UnixListener::from(std::os::unix::net::UnixListener::from(listener));
        UnixStream::connect_addr(&address).unwrap();
        listener.try_clone().unwrap().accept().unwrap();

        let (one, other) = UnixDatagram::pair().unwrap();
        let other = UnixDatagram::from(std::os::unix::net::UnixDatagram::from(other));
        one.send(b"hello").unwrap();
        assert_eq!(other.recv(&mut [0; 8]).unwrap(), 5);
    };
    check();
    coro::go(check).join().unwrap();
}

#[test]
fn net_unix_cut_and_empty_datagrams() {
    let _watchdog = common::watchdog();
    let check = || {
        let (one, other) = UnixDatagram::pair().unwrap();
        for data in [&b"hello"[..], b"", b"hello, world", b"!"] {
            assert_eq!(one.send(data).unwrap(), data.len());
        }
        let mut buffer = [0; 5];
        assert_eq!(other.recv(&mut buffer).unwrap(), 5);
        assert_eq!(other.recv(&mut buffer).unwrap(), 0);
        assert_eq!(other.recv(&mut buffer).unwrap(), 5);
        assert_eq!(&buffer, b"hello");
        assert_eq!(other.recv(&mut []).unwrap(), 0);
        other.set_nonblocking(true).unwrap();
        assert_eq!(other.recv(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
        let too_long = one.send(&vec![0; 4 << 20]).unwrap_err();
        assert_eq!(too_long.raw_os_error(), Some(libc::EMSGSIZE));
    };
    check();
    coro::go(check).join().unwrap();
}

#[test]
fn net_unix_datagrams_know_where_they_came_from() {
    let _watchdog = common::watchdog();
    let check = || {
        let (path, other_path, address) = (TestPath::new(), TestPath::new(), address());
        let receiver = UnixDatagram::bind(&path.0).unwrap();
        UnixDatagram::bind(&other_path.0).unwrap().send_to(b"path", &path.0).unwrap();
        let named = UnixDatagram::bind_addr(&address).unwrap();
        named.connect(&path.0).unwrap();
        named.send(b"name").unwrap();
        UnixDatagram::unbound().unwrap().send_to(b"nobody", &path.0).unwrap();
        let from = || receiver.recv_from(&mut [0; 8]).unwrap().1;
        assert_eq!(from().as_pathname(), Some(&*other_path.0));
        let sender = from();
        assert_eq!(sender.as_abstract_name(), address.as_abstract_name());
        assert!(from().is_unnamed());
        receiver.send_to_addr(b"back", &sender).unwrap();
        assert_eq!(named.recv(&mut [0; 8]).unwrap(), 4);
    };
    check();
    coro::go(check).join().unwrap();
}

/// The ways to send to a peer that need not have room.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Connected,
    To,
    PollConnected,
    PollTo,
}

const WAYS: [Way; 4] = [Way::Connected, Way::To, Way::PollConnected, Way::PollTo];

fn sender(way: Way, receiver: &SocketAddr) -> UnixDatagram {
    let sender = UnixDatagram::unbound().unwrap();
    if matches!(way, Way::Connected | Way::PollConnected) {
        sender.connect_addr(receiver).unwrap();
    }
    sender
}

fn send(
    way: Way,
    sender: &UnixDatagram,
    receiver: &SocketAddr,
    data: &[u8],
) -> std::io::Result<()> {
    let poll = |context: &mut std::task::Context<'_>| match way {
        Way::PollConnected => sender.poll_send(context, data),
        _ => sender.poll_send_to_addr(context, data, receiver),
    };
    let sent = match way {
        Way::Connected => sender.send(data)?,
        Way::To => sender.send_to_addr(data, receiver)?,
        // On a thread also by an executor that is not ours.
        _ if coro::current().is_none() => block_on(poll_fn(poll))?,
        _ => coro::wait(poll_fn(poll))?,
    };
    assert_eq!(sent, data.len());
    Ok(())
}

/// As many datagrams as the receiver has room for.
fn fill(receiver: &SocketAddr) {
    let sender = UnixDatagram::unbound().unwrap();
    sender.set_nonblocking(true).unwrap();
    while sender.send_to_addr(b"full", receiver).is_ok() {}
}

/// Senders of all ways to one receiver that has room for a few datagrams: all arrive, in the order of their sender.
#[test]
fn net_unix_many_senders_to_one_receiver() {
    let _watchdog = common::watchdog();
    const EACH: u32 = 200;
    common::on_workers(|runtime, _| {
        let address = address();
        let receiver = UnixDatagram::bind_addr(&address).unwrap();
        let sending = |i: usize| {
            let (way, address) = (WAYS[i % 4], address.clone());
            move || {
                let socket = sender(way, &address);
                for number in 0..EACH {
                    let data = [i as u32, number].map(u32::to_le_bytes).concat();
                    send(way, &socket, &address, &data).unwrap();
                }
            }
        };
        let tasks: Vec<_> = (0..8).map(|i| runtime.go(sending(i))).collect();
        let threads: Vec<_> = (8..12).map(|i| thread::spawn(sending(i))).collect();
        let received = runtime.go(move || {
            let mut next = [0; 12];
            for _ in 0..12 * EACH {
                let mut data = [0; 8];
                assert_eq!(receiver.recv(&mut data).unwrap(), 8);
                let [i, number] = [0, 4].map(|at| data[at..at + 4].try_into().unwrap());
                let next = &mut next[u32::from_le_bytes(i) as usize];
                assert_eq!(u32::from_le_bytes(number), *next);
                *next += 1;
            }
        });
        tasks.into_iter().for_each(|task| task.join().unwrap());
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        received.join().unwrap();
    });
}

/// What ends a wait for a peer that has no room: room, a limit, a cancellation, the end of the peer.
#[test]
fn net_unix_a_full_peer_is_waited_for() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        for way in WAYS {
            let address = address();
            let receiver = UnixDatagram::bind_addr(&address).unwrap();
            let socket = Arc::new(sender(way, &address));
            let sending = || {
                let (socket, address) = (Arc::clone(&socket), address.clone());
                move || send(way, &socket, &address, b"waited")
            };
            fill(&address);
            if matches!(way, Way::Connected | Way::To) {
                socket.set_write_timeout(Some(LIMIT)).unwrap();
                let late = |sent: std::io::Result<()>| sent.unwrap_err().kind();
                assert_eq!(late(sending()()), ErrorKind::WouldBlock);
                assert_eq!(late(runtime.go(sending()).join().unwrap()), ErrorKind::WouldBlock);
                socket.set_write_timeout(None).unwrap();
                socket.set_nonblocking(true).unwrap();
                assert_eq!(late(sending()()), ErrorKind::WouldBlock);
                socket.set_nonblocking(false).unwrap();
                assert!(coro::timeout(LIMIT, sending()).is_err());
            }
            let late = {
                let sending = sending();
                runtime.go(move || coro::timeout(LIMIT, sending).is_err())
            };
            assert!(late.join().unwrap());
            let cancelled = runtime.go(sending());
            moment();
            cancelled.cancel();
            common::assert_cancelled(cancelled.join());

            let waiting = runtime.go(sending());
            moment();
            assert!(!waiting.is_finished());
            let mut buffer = [0; 8];
            receiver.recv(&mut buffer).unwrap();
            waiting.join().unwrap().unwrap();
            let waiting = thread::spawn(sending());
            moment();
            assert!(!waiting.is_finished());
            receiver.recv(&mut buffer).unwrap();
            waiting.join().unwrap().unwrap();
            // What was cut short has not been sent.
            receiver.set_nonblocking(true).unwrap();
            let left = std::iter::from_fn(|| {
                receiver.recv(&mut buffer).ok().map(|length| buffer[..length].to_vec())
            });
            assert_eq!(left.filter(|data| data == b"waited").count(), 2);

            fill(&address);
            let waiting = runtime.go(sending());
            moment();
            drop(receiver);
            let refused = waiting.join().unwrap().unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        }
    });
}

/// Whoever waits for a full peer sleeps meanwhile, on a coroutine and on a thread.
#[test]
fn net_unix_waiting_for_a_full_peer_costs_little() {
    let limit = Duration::from_secs(60);
    common::in_child("net_unix_waiting_for_a_full_peer_costs_little", limit, || {
        let runtime = common::runtime(1);
        let datagrams = address();
        let _receiver = UnixDatagram::bind_addr(&datagrams).unwrap();
        fill(&datagrams);
        let connections = address();
        let _listener = small_listener(&connections);
        let _first = UnixStream::connect_addr(&connections).unwrap();

        let patience = Duration::from_millis(500);
        let (start, before) = (Instant::now(), cpu_time());
        let mut tasks = Vec::new();
        let mut threads = Vec::new();
        for way in WAYS {
            let send = |address: &SocketAddr| {
                let address = address.clone();
                let socket = sender(way, &address);
                move || {
                    // The limit of a thread reaches no executor that is not ours.
                    match way {
                        Way::PollConnected | Way::PollTo if coro::current().is_none() => {}
                        _ => drop(coro::timeout(patience, || send(way, &socket, &address, b"x"))),
                    }
                }
            };
            tasks.push(runtime.go(send(&datagrams)));
            threads.push(thread::spawn(send(&datagrams)));
        }
        let connect = || {
            let address = connections.clone();
            move || drop(coro::timeout(patience, || UnixStream::connect_addr(&address)))
        };
        tasks.push(runtime.go(connect()));
        threads.push(thread::spawn(connect()));
        tasks.into_iter().for_each(|task| task.join().unwrap());
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(start.elapsed() >= patience);
        let spent = cpu_time() - before;
        assert!(spent < patience / 2, "{spent:?}");
    });
}

/// What the process has used of its processors.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Two that are connected to each other have no queue that could be full, but a send buffer.
#[test]
fn net_unix_a_full_send_buffer_is_waited_for() {
    let _watchdog = common::watchdog();
    const COUNT: usize = 1000;
    common::on_workers(|runtime, _| {
        let (one, other) = UnixDatagram::pair().unwrap();
        let sending = runtime.go(move || {
            (0..COUNT).for_each(|_| assert_eq!(one.send(&[7; 5000]).unwrap(), 5000));
            one
        });
        moment();
        assert!(!sending.is_finished());
        let mut buffer = vec![0; 6000];
        (0..COUNT).for_each(|_| assert_eq!(other.recv(&mut buffer).unwrap(), 5000));
        let one = sending.join().unwrap();

        // Whoever waits is told that the direction has ended.
        let other = Arc::new(other);
        let waiting = {
            let other = Arc::clone(&other);
            runtime.go(move || other.recv(&mut [0; 8]).unwrap())
        };
        moment();
        other.shutdown(Shutdown::Read).unwrap();
        assert_eq!(waiting.join().unwrap(), 0);
        let (length, from) = other.recv_from(&mut [0; 8]).unwrap();
        assert!(length == 0 && from.is_unnamed());
        assert_eq!(one.send(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
        // The other direction is open.
        other.send(b"back").unwrap();
        assert_eq!(runtime.go(move || one.recv(&mut [0; 8]).unwrap()).join().unwrap(), 4);
    });
}

#[test]
fn net_unix_on_plain_threads() {
    let _watchdog = common::watchdog();
    let (mut client, server) = UnixStream::pair().unwrap();
    let answering = common::spawn_until_blocked(move || echo(server));
    client.write_all(b"hello").unwrap();
    let mut back = [0; 5];
    client.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"hello");
    assert!(coro::timeout(LIMIT, || client.read(&mut back)).is_err());
    drop(client);
    answering.join().unwrap();

    let address = address();
    let listener = UnixListener::bind_addr(&address).unwrap();
    let accepting = common::spawn_until_blocked(move || listener.accept().unwrap());
    let stream = UnixStream::connect_addr(&address).unwrap();
    let (server, _) = accepting.join().unwrap();
    let (reader, writer) = stream.split();
    let stream = reader.unsplit(writer).unwrap();
    drop(server);
    assert_eq!((&stream).read(&mut back).unwrap(), 0);
}
