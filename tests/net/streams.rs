//! Data through connections: whole, in order, in both directions.

use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use coro::net::{TcpListener, TcpStream};

use crate::{common, echo, pair, transfer_more_than_fits};

/// A thousand connections, each of which sends and gets back three words.
#[test]
fn net_echo_of_a_thousand_connections() {
    let _watchdog = common::watchdog();
    common::open_files();
    common::on_workers(|runtime, _| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = runtime.go(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                coro::go(move || echo(&stream));
            }
        });
        let clients: Vec<_> = (0..1000)
            .map(|i| {
                runtime.go(move || {
                    let mut stream = TcpStream::connect(address).unwrap();
                    for word in [i, i + 1, i + 2].map(u64::to_le_bytes) {
                        stream.write_all(&word).unwrap();
                        let mut back = [0; 8];
                        stream.read_exact(&mut back).unwrap();
                        assert_eq!(back, word);
                    }
                })
            })
            .collect();
        clients.into_iter().for_each(|client| client.join().unwrap());
        server.cancel();
        assert!(server.join().unwrap_err().is_cancelled());
    });
}

/// More than fits into the buffers of the kernel: writes are cut short and wait for room.
#[test]
fn net_partial_writes_lose_nothing() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (client, server) = pair();
        transfer_more_than_fits(runtime, client, server, |stream| stream.shutdown(Shutdown::Write));
    });
}

/// Full duplex on one connection, by two coroutines at each end.
#[test]
fn net_two_directions_at_a_time() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (client, server) = pair();
        let ends = [client, server].map(|stream| {
            let (mut reader, mut writer) = stream.split();
            let read = runtime.go(move || {
                let mut sum = 0u64;
                let mut buffer = [0; 1000];
                loop {
                    match reader.read(&mut buffer).unwrap() {
                        0 => return sum,
                        length => {
                            sum += buffer[..length].iter().map(|&b| u64::from(b)).sum::<u64>()
                        }
                    }
                }
            });
            let written = runtime.go(move || {
                let data: Vec<u8> = (0..1 << 20).map(|i| i as u8).collect();
                writer.write_all(&data).unwrap();
                data.iter().map(|&b| u64::from(b)).sum::<u64>()
            });
            (read, written)
        });
        for (read, written) in ends {
            assert_eq!(read.join().unwrap(), written.join().unwrap());
        }
    });
}

#[test]
fn net_vectored_and_peek() {
    let _watchdog = common::watchdog();
    let check = || {
        let (client, server) = pair();
        let parts = [IoSlice::new(b"one "), IoSlice::new(b""), IoSlice::new(b"two")];
        assert_eq!((&client).write_vectored(&parts).unwrap(), 7);
        let mut seen = [0; 3];
        assert_eq!(server.peek(&mut seen).unwrap(), 3);
        assert_eq!(&seen, b"one");
        let (mut first, mut second) = ([0; 4], [0; 16]);
        let mut parts = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
        assert_eq!((&server).read_vectored(&mut parts).unwrap(), 7);
        assert_eq!((&first, &second[..3]), (b"one ", &b"two"[..]));
        // Nothing to read into takes nothing.
        assert_eq!((&server).read(&mut []).unwrap(), 0);
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(server.peek(&mut seen).unwrap(), 0);
        assert_eq!((&server).read(&mut second).unwrap(), 0);
        assert_eq!((&server).read(&mut second).unwrap(), 0);
    };
    check();
    coro::go(check).join().unwrap();
}

/// The kinds of errors are std's.
#[test]
fn net_errors_are_those_of_std() {
    let _watchdog = common::watchdog();
    let check = || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(TcpListener::bind(address).unwrap_err().kind(), ErrorKind::AddrInUse);
        drop(listener);
        assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        let nowhere: &[SocketAddr] = &[];
        assert_eq!(TcpStream::connect(nowhere).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert!(TcpStream::connect("no such name:80").is_err());
        let zero = TcpStream::connect_timeout(&address, Duration::ZERO).unwrap_err();
        assert_eq!(zero.kind(), ErrorKind::InvalidInput);

        let (client, server) = pair();
        assert!(client.set_read_timeout(Some(Duration::ZERO)).is_err());
        client.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        assert_eq!((&client).read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        let clone = client.try_clone().unwrap();
        assert_eq!(clone.read_timeout().unwrap(), Some(Duration::from_millis(5)));
        client.set_read_timeout(None).unwrap();
        client.set_nonblocking(true).unwrap();
        assert_eq!((&client).read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!((&clone).read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        drop(server);
    };
    check();
    coro::go(check).join().unwrap();
}

/// A listener's queue that is full makes a connect wait, and its limit ends that.
#[test]
fn net_connect_has_a_limit_in_time() {
    let _watchdog = common::watchdog();
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let connect = move || {
        let limit = Duration::from_millis(50);
        let mut open = Vec::new();
        loop {
            match TcpStream::connect_timeout(&address, limit) {
                Ok(stream) => open.push(stream),
                Err(error) => return error.kind(),
            }
        }
    };
    assert_eq!(connect(), ErrorKind::TimedOut);
    assert_eq!(coro::go(connect).join().unwrap(), ErrorKind::TimedOut);
    let late = coro::go(move || {
        coro::timeout(Duration::from_millis(50), || TcpStream::connect(address).map(drop))
    });
    assert!(matches!(late.join().unwrap(), Err(coro::Elapsed)));
}

#[test]
fn net_conversions_from_and_to_std() {
    let _watchdog = common::watchdog();
    let check = || {
        let (client, server) = pair();
        let mut client: std::net::TcpStream = client.into();
        let mut server: std::net::TcpStream = std::os::fd::OwnedFd::from(server).into();
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            server.read_to_string(&mut text).map(|_| (text, server))
        });
        // It blocks again: the reader waits for this.
        client.write_all(b"std").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let (text, server) = reader.join().unwrap().unwrap();
        assert_eq!(text, "std");
        let (client, server) = (TcpStream::from(client), TcpStream::from(server));
        (&server).write_all(b"coro").unwrap();
        drop(server);
        let mut text = String::new();
        (&client).read_to_string(&mut text).unwrap();
        assert_eq!(text, "coro");
    };
    check();
    coro::go(check).join().unwrap();
}

/// The last byte of a run with urgent data in it: a read stops short of that, and the rest is not an edge.
#[test]
fn net_urgent_data_does_not_hide_what_follows() {
    let _watchdog = common::watchdog();
    let (client, server) = pair();
    let reader = coro::go(move || {
        let mut text = Vec::new();
        let mut buffer = [0; 64];
        loop {
            match (&server).read(&mut buffer).unwrap() {
                0 => return text,
                length => text.extend_from_slice(&buffer[..length]),
            }
            if text.ends_with(b"end") {
                return text;
            }
        }
    });
    let socket = socket2::SockRef::from(&client);
    // The reader waits first, so that all comes by events.
    std::thread::sleep(Duration::from_millis(20));
    socket.send(b"before").unwrap();
    socket.send_out_of_band(b"!").unwrap();
    socket.send(b"the end").unwrap();
    assert_eq!(reader.join().unwrap(), b"beforethe end");
}
