//! An HTTP/1.1 server: keep-alive and pipelining, a coroutine for each connection and one for each request, which has its
//! context wherever it is needed.
//!
//! ```text
//! cargo run --release --example httpd -- 127.0.0.1:8080
//! curl http://127.0.0.1:8080/ ; curl http://127.0.0.1:8080/metrics ; curl http://127.0.0.1:8080/debug/coroutines
//! ```
//!
//! - A handler is plain code. Deep inside it finds the request's id, and the trace that the request is part of.
//! - However a request ends, by a panic say, its exit handler writes the access log.
//! - What a client may take up is limited: lengths, and times.
//! - After ctrl-c no connection is accepted, idle ones are closed, and requests come to their end.

mod access_log;
mod context;
mod pages;
mod request;

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use access_log::AccessLog;
use coro::chan::{Receiver, bounded};
use coro::net::{TcpListener, TcpStream, serve};
use request::{Request, parse};

/// How long a client may take to send a request that it has begun, how long to take an answer, and how long it may be idle.
const LIMIT: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(60);
const MAX_CONNECTIONS: usize = 20_000;

/// Cancels a coroutine when it is dropped, which is too late for one that has ended.
struct CancelOnDrop(coro::Handle);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Answers one request, in a coroutine of its own: a panic is an answer too. It is cancelled with its connection.
fn answer(request: &Request<'_>, out: &mut Vec<u8>, log: &AccessLog) {
    let served = coro::scope(|scope| {
        let serving = scope.go(|| {
            context::begin(request, log);
            let (status, body) = pages::handle(request);
            context::set_status(status);
            (status, body)
        });
        let _cancel = CancelOnDrop(serving.handle());
        serving.join()
    });
    let (status, body) = served.unwrap_or((500, b"".into()));
    respond(out, status, &body, request.keep_alive);
}

/// Appends these parts. There are several at each request, and `write!` has more to look at.
pub(crate) fn put(out: &mut Vec<u8>, parts: &[&str]) {
    parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
}

fn respond(out: &mut Vec<u8>, status: u16, body: &[u8], keep_alive: bool) {
    let end = if keep_alive { "" } else { "connection: close\r\n" };
    let (mut status_digits, mut length_digits) = (itoa::Buffer::new(), itoa::Buffer::new());
    let (status, length) = (status_digits.format(status), length_digits.format(body.len()));
    put(out, &["HTTP/1.1 ", status, " \r\ncontent-length: ", length, "\r\n", end, "\r\n"]);
    out.extend_from_slice(body);
}

/// Answers what is whole in `buffer`, takes it out, and tells whether the connection stays open.
fn answer_all(buffer: &mut Vec<u8>, out: &mut Vec<u8>, log: &AccessLog) -> bool {
    let (mut used, mut stays_open) = (0, true);
    while stays_open {
        match parse(&buffer[used..]) {
            Ok(Some(request)) => {
                answer(&request, out, log);
                used += request.length;
                stays_open = request.keep_alive;
            }
            Ok(None) => break,
            Err(status) => {
                respond(out, status, b"", false);
                stays_open = false;
            }
        }
    }
    log.pass_on();
    buffer.drain(..used);
    stays_open
}

/// Serves a connection until its client closes it, breaks the rules or is too slow, or the server ends.
fn connection(mut stream: TcpStream, end: &Receiver<()>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(LIMIT))?;
    let (mut part, mut buffer, mut out) = ([0; 4096], Vec::new(), Vec::new());
    let log = AccessLog::default();
    // Since when a part of a request is there.
    let mut begun: Option<Instant> = None;
    loop {
        let left = begun.map_or(LIMIT, |begun| LIMIT.saturating_sub(begun.elapsed()));
        // Zero is an error, and the time is over.
        stream.set_read_timeout(Some(left))?;
        if begun.is_none() {
            coro::select! {
                readable(stream) => {}
                recv(end) -> _ => return Ok(()),
                default(IDLE) => return Ok(()),
            }
        }
        match stream.read(&mut part)? {
            0 => return Ok(()),
            length => buffer.extend_from_slice(&part[..length]),
        }
        // What came at once is answered at once.
        let stays_open = answer_all(&mut buffer, &mut out, &log) && !end.is_closed();
        stream.write_all(&out)?;
        if !stays_open {
            return Ok(());
        }
        if buffer.is_empty() {
            begun = None;
        } else if begun.is_none() || !out.is_empty() {
            begun = Some(Instant::now());
        }
        out.clear();
    }
}

/// Serves until ctrl-c.
pub(crate) fn run(address: &str) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    println!("http://{}", listener.local_addr()?);
    coro::go(|| access_log::write());
    let (ending, end) = bounded::<()>(0);
    // An error is the client's, or its connection's, and that is over.
    let server = serve(listener, move |stream, _| connection(stream, &end).unwrap_or(()));
    let server = server.limit(MAX_CONNECTIONS);
    coro::signal::ctrl_c()?;
    drop(ending);
    server.shutdown(LIMIT);
    access_log::flush();
    Ok(())
}

#[cfg_attr(test, allow(dead_code))]
fn main() -> io::Result<()> {
    run(&std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".into()))
}
