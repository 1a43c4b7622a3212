//! UDP: every datagram whole or cut, from where it came, to one receiver.

use std::future::poll_fn;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use coro::net::UdpSocket;

use crate::{common, moment};

fn bind() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// Two that are connected to each other.
fn pair() -> (UdpSocket, UdpSocket) {
    let ((one, address_of_one), (other, address_of_other)) = (bind(), bind());
    one.connect(address_of_other).unwrap();
    other.connect(address_of_one).unwrap();
    (one, other)
}

/// Sends a hundred numbers, each after the answer to the one before: a receiver that is too slow would lose some.
fn count_to_100(socket: &UdpSocket, receiver: SocketAddr) {
    for i in 0..100u32 {
        socket.send_to(&i.to_le_bytes(), receiver).unwrap();
        let mut back = [0; 8];
        assert_eq!(socket.recv_from(&mut back).unwrap(), (4, receiver));
        assert_eq!(back[..4], i.to_le_bytes());
    }
}

#[test]
fn net_udp_many_senders_to_one_receiver() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (socket, receiver) = bind();
        // Two that receive from the same socket.
        let socket = Arc::new(socket);
        let receiving: Vec<_> = (0..2)
            .map(|_| {
                let socket = Arc::clone(&socket);
                runtime.go(move || {
                    let mut buffer = [0; 8];
                    loop {
                        let (length, from) = socket.recv_from(&mut buffer).unwrap();
                        socket.send_to(&buffer[..length], from).unwrap();
                    }
                })
            })
            .collect();
        let senders: Vec<_> =
            (0..20).map(|_| runtime.go(move || count_to_100(&bind().0, receiver))).collect();
        let thread = thread::spawn(move || count_to_100(&bind().0, receiver));
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        thread.join().unwrap();
        for receiving in receiving {
            receiving.cancel();
            common::assert_cancelled(receiving.join().map(|never: std::convert::Infallible| never));
        }
    });
}

/// What is longer than the buffer is cut, an empty datagram is one, and nothing is mixed.
#[test]
fn net_udp_cut_and_empty_datagrams() {
    let _watchdog = common::watchdog();
    let check = || {
        let (one, other) = pair();
        for data in [&b"hello"[..], b"", b"hello, world", b"!"] {
            assert_eq!(one.send(data).unwrap(), data.len());
        }
        let mut buffer = [0; 5];
        assert_eq!(other.peek(&mut buffer).unwrap(), 5);
        assert_eq!(other.peek_from(&mut buffer).unwrap(), (5, one.local_addr().unwrap()));
        assert_eq!(other.recv(&mut buffer).unwrap(), 5);
        assert_eq!(other.recv(&mut buffer).unwrap(), 0);
        assert_eq!(other.recv(&mut buffer).unwrap(), 5);
        assert_eq!(&buffer, b"hello");
        // A buffer of no length takes the whole datagram.
        assert_eq!(other.recv(&mut []).unwrap(), 0);
        other.set_nonblocking(true).unwrap();
        assert_eq!(other.recv(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
        let too_long = one.send(&[0; 70_000]).unwrap_err();
        assert_eq!(too_long.raw_os_error(), Some(libc::EMSGSIZE));
    };
    check();
    coro::go(check).join().unwrap();
}

#[test]
fn net_udp_connected_receives_from_its_peer_alone() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (one, other) = pair();
        let address = other.local_addr().unwrap();
        let received = runtime.go(move || other.recv(&mut [0; 8]).unwrap());
        bind().0.send_to(b"a stranger's", address).unwrap();
        moment();
        assert!(!received.is_finished());
        one.send(b"peer").unwrap();
        assert_eq!(received.join().unwrap(), 4);
    });
}

/// A port that nobody has: who waits is told.
#[test]
fn net_udp_a_peer_that_is_gone_is_an_error() {
    let _watchdog = common::watchdog();
    let check = || {
        let (one, other) = pair();
        drop(other);
        one.send(b"hello").unwrap();
        assert_eq!(one.recv(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        one.send(b"hello").unwrap();
        assert_eq!(one.take_error().unwrap().unwrap().kind(), ErrorKind::ConnectionRefused);
        one
    };
    let one = Arc::new(check());
    coro::go(check).join().unwrap();
    // While somebody waits.
    let waiting = {
        let one = Arc::clone(&one);
        coro::go(move || one.recv(&mut [0; 8]).unwrap_err().kind())
    };
    moment();
    one.send(b"hello").unwrap();
    assert_eq!(waiting.join().unwrap(), ErrorKind::ConnectionRefused);
}

#[test]
fn net_udp_names_are_looked_up() {
    let _watchdog = common::watchdog();
    let check = || {
        let (receiver, address) = bind();
        let sender = UdpSocket::bind(("localhost", 0)).unwrap();
        if sender.local_addr().unwrap().is_ipv4() {
            sender.send_to(b"hello", ("localhost", address.port())).unwrap();
            assert_eq!(receiver.recv(&mut [0; 8]).unwrap(), 5);
        }
        let sender = bind().0;
        sender.connect(("localhost", address.port())).unwrap();
        assert_eq!(sender.peer_addr().unwrap(), address);
        let nowhere: &[SocketAddr] = &[];
        for refused in [
            UdpSocket::bind(nowhere).map(drop),
            sender.connect(nowhere),
            sender.send_to(b"", nowhere).map(drop),
        ] {
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        assert!(sender.send_to(b"", "no such name:80").is_err());
    };
    check();
    coro::go(check).join().unwrap();
}

#[test]
fn net_udp_limits_and_interruptions_lose_nothing() {
    let _watchdog = common::watchdog();
    let limit = Duration::from_millis(5);
    common::on_workers(|runtime, _| {
        let (one, other) = pair();
        let other = Arc::new(other);
        let limited = {
            let other = Arc::clone(&other);
            move || {
                assert!(other.set_read_timeout(Some(Duration::ZERO)).is_err());
                other.set_read_timeout(Some(limit)).unwrap();
                let late = other.recv(&mut [0; 8]).unwrap_err();
                assert_eq!(late.kind(), ErrorKind::WouldBlock);
                assert_eq!(other.try_clone().unwrap().read_timeout().unwrap(), Some(limit));
                other.set_read_timeout(None).unwrap();
                let late = coro::timeout(limit, || other.recv_from(&mut [0; 8]).unwrap());
                assert_eq!(late, Err(coro::Elapsed));
            }
        };
        limited.clone()();
        runtime.go(limited).join().unwrap();
        let cancelled = {
            let other = Arc::clone(&other);
            runtime.go(move || other.recv(&mut [0; 8]).unwrap())
        };
        moment();
        cancelled.cancel();
        common::assert_cancelled(cancelled.join());
        one.send(b"hello").unwrap();
        assert_eq!(runtime.go(move || other.recv(&mut [0; 8]).unwrap()).join().unwrap(), 5);
    });
}

#[test]
fn net_udp_futures() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let ((one, address_of_one), (other, address)) = (bind(), bind());
        let echo = runtime.go(move || {
            coro::wait(async {
                let mut buffer = [0; 8];
                for _ in 0..2 {
                    let received = poll_fn(|context| other.poll_recv_from(context, &mut buffer));
                    let (length, from) = received.await.unwrap();
                    let data = &buffer[..length];
                    poll_fn(|context| other.poll_send_to(context, data, from)).await.unwrap();
                }
            })
        });
        coro::wait(async {
            let mut buffer = [0; 8];
            poll_fn(|context| one.poll_send_to(context, b"", address)).await.unwrap();
            let received = poll_fn(|context| one.poll_recv_from(context, &mut buffer));
            assert_eq!(received.await.unwrap(), (0, address));
            one.connect(address).unwrap();
            poll_fn(|context| one.poll_send(context, b"hello")).await.unwrap();
            let received = poll_fn(|context| one.poll_recv(context, &mut buffer));
            assert_eq!(received.await.unwrap(), 5);
        });
        assert_eq!(one.local_addr().unwrap(), address_of_one);
        echo.join().unwrap();
    });
}

#[test]
fn net_udp_on_plain_threads_and_as_std() {
    let _watchdog = common::watchdog();
    let (one, other) = pair();
    let receiving = common::spawn_until_blocked(move || {
        let length = other.recv(&mut [0; 8]).unwrap();
        (length, other)
    });
    one.send(b"hello").unwrap();
    let (length, other) = receiving.join().unwrap();
    assert_eq!(length, 5);
    let late = coro::timeout(Duration::from_millis(5), || other.recv(&mut [0; 8]).unwrap());
    assert_eq!(late, Err(coro::Elapsed));

    // It blocks again.
    let std = std::net::UdpSocket::from(other);
    let receiving = common::spawn_until_blocked(move || {
        let length = std.recv(&mut [0; 8]).unwrap();
        (length, std)
    });
    one.send(b"std").unwrap();
    let (length, std) = receiving.join().unwrap();
    assert_eq!(length, 3);
    let fd = std::os::fd::OwnedFd::from(UdpSocket::from(std));
    let other = UdpSocket::from(fd);
    let receiving = coro::go(move || other.recv(&mut [0; 8]).unwrap());
    one.send(b"coro").unwrap();
    assert_eq!(receiving.join().unwrap(), 4);
}
