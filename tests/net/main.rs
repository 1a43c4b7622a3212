//! Sockets and other descriptors: that what comes is seen and nothing is lost, whoever waits, wherever it moves, and
//! however the wait ends. Each on 1, 2 and 4 workers where workers matter.

#[path = "../common/mod.rs"]
mod common;

#[cfg(any(feature = "hyper", feature = "tokio"))]
mod async_traits;
mod calls;
mod copy;
mod descriptors;
mod ends;
mod futures;
mod kernel;
mod places;
mod select;
mod serve;
mod signals;
mod streams;
mod udp;
mod unix;

use std::io::{Read, Write};

use coro::net::{TcpListener, TcpStream};

/// Both ends of a connection.
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("its address");
    let client = TcpStream::connect(address).expect("a connection");
    let (server, _) = listener.accept().expect("its other end");
    (client, server)
}

/// For somebody else to come to wait. What is promised does not depend on it.
fn moment() {
    std::thread::sleep(std::time::Duration::from_millis(2));
}

/// Sends back what comes until the end comes.
fn echo(mut stream: &TcpStream) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            length => stream.write_all(&buffer[..length])?,
        }
    }
}

/// Writes 8 MiB at one end, ends that direction by `end`, and reads all of it at the other, which then answers.
fn transfer_more_than_fits<S: Read + Write + Send + 'static>(
    runtime: &coro::Runtime,
    mut client: S,
    mut server: S,
    end: fn(&S) -> std::io::Result<()>,
) {
    const LENGTH: usize = 8 << 20;
    let byte = |i: usize| (i * 31 % 251) as u8;
    let writer = runtime.go(move || {
        let data: Vec<u8> = (0..LENGTH).map(byte).collect();
        client.write_all(&data).unwrap();
        end(&client).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        answer
    });
    let reader = runtime.go(move || {
        let mut data = Vec::new();
        server.read_to_end(&mut data).unwrap();
        assert_eq!(data.len(), LENGTH);
        assert!(data.iter().enumerate().all(|(i, &seen)| seen == byte(i)));
        // The other direction is still open.
        server.write_all(b"all of it").unwrap();
    });
    reader.join().unwrap();
    assert_eq!(writer.join().unwrap(), "all of it");
}
