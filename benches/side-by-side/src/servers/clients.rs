//! The clients: one thread around epoll, for all ways of asking.
//!
//! A server's answers to one request are all of the same length, so answers are counted by their bytes. The first answer
//! is looked at as a whole, and of the others the first line.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use super::{Asking, Load};

const PIPELINED: usize = 16;
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
const REQUEST_ALONE: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200";

pub(super) struct Clients {
    address: SocketAddr,
    epoll: rustix::fd::OwnedFd,
    connections: Vec<Connection>,
    /// What is sent at once, and how many bytes come back for it.
    request: Vec<u8>,
    answer: usize,
    /// How many requests that is.
    batch: u64,
    alone: bool,
    is_http: bool,
    buffer: Vec<u8>,
    ready: Vec<Event>,
}

struct Connection {
    stream: TcpStream,
    got: usize,
}

impl Clients {
    pub(super) fn new(address: SocketAddr, load: Load) -> Clients {
        let (request, batch) = match load.asking {
            Asking::Echo => (vec![b'x'; 64], 1),
            Asking::OneByOne | Asking::Paced => (REQUEST.to_vec(), 1),
            Asking::Pipelined => (REQUEST.repeat(PIPELINED), PIPELINED),
            Asking::Alone => (REQUEST_ALONE.to_vec(), 1),
        };
        let is_http = load.asking != Asking::Echo;
        let alone = load.asking == Asking::Alone;
        let answer = match (is_http, alone) {
            (false, _) => request.len(),
            (true, false) => batch * answer_length(address, REQUEST),
            (true, true) => answer_length(address, REQUEST_ALONE),
        };
        let mut clients = Clients {
            address,
            epoll: epoll::create(CreateFlags::CLOEXEC).expect("an epoll"),
            connections: Vec::new(),
            request,
            answer,
            batch: batch as u64,
            alone,
            is_http,
            buffer: vec![0; 64 << 10],
            ready: Vec::with_capacity(load.connections),
        };
        for index in 0..load.connections {
            let connection = clients.connect(index);
            clients.connections.push(connection);
        }
        clients
    }

    fn connect(&self, index: usize) -> Connection {
        let stream = TcpStream::connect(self.address).expect("a connection");
        stream.set_nodelay(true).expect("no delay");
        stream.set_nonblocking(true).expect("non-blocking");
        let data = EventData::new_u64(index as u64);
        epoll::add(&self.epoll, &stream, data, EventFlags::IN).expect("a place in it");
        Connection { stream, got: 0 }
    }

    fn send(&mut self, index: usize) {
        // Fewer bytes than any socket's buffer holds.
        self.connections[index].stream.write_all(&self.request).expect("it is sent");
    }

    /// Waits for answers, and gives the connections that have theirs. Not for longer than `limit`, if there is one.
    fn answered(&mut self, limit: Option<Duration>, answered: &mut Vec<usize>) {
        answered.clear();
        let limit = limit.map(|limit| Timespec {
            tv_sec: limit.as_secs() as i64,
            tv_nsec: i64::from(limit.subsec_nanos()),
        });
        self.ready.clear();
        epoll::wait(&self.epoll, spare_capacity(&mut self.ready), limit.as_ref()).expect("events");
        for event in &self.ready {
            let index = event.data.u64() as usize;
            let connection = &mut self.connections[index];
            let length = match connection.stream.read(&mut self.buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => panic!("an answer: {error}"),
            };
            assert!(length > 0, "the server has closed a connection");
            if self.is_http && connection.got == 0 && length >= OK.len() {
                assert!(self.buffer.starts_with(OK), "an answer that is no success");
            }
            connection.got += length;
            assert!(connection.got <= self.answer, "an answer of another length");
            if connection.got == self.answer {
                connection.got = 0;
                answered.push(index);
            }
        }
    }

    /// Asks on all connections, again when there is an answer, for so long. Gives how many answers came.
    pub(super) fn ask(&mut self, limit: Duration) -> u64 {
        let (begin, mut answers) = (Instant::now(), 0);
        let mut waiting = self.connections.len();
        (0..waiting).for_each(|index| self.send(index));
        let mut answered = Vec::new();
        let mut counts = true;
        while waiting > 0 {
            self.answered(None, &mut answered);
            // What is on its way when the time is over is not counted, and waited for: the connections are used again.
            counts &= begin.elapsed() < limit;
            for &index in &answered {
                answers += u64::from(counts) * self.batch;
                if self.alone {
                    self.connections[index] = self.connect(index);
                }
                if counts {
                    self.send(index);
                } else {
                    waiting -= 1;
                }
            }
        }
        answers
    }

    /// Asks so many times a second, for so long, at times that are fixed beforehand. Gives for each answer how long after
    /// the time for its request it came: a server that is late makes the requests behind late, and that counts.
    pub(super) fn keep_schedule(&mut self, rate: f64, limit: Duration) -> Vec<Duration> {
        let count = (rate * limit.as_secs_f64()) as u64;
        let due = |number: u64| Duration::from_secs_f64(number as f64 / rate);
        let mut latencies = Vec::with_capacity(count as usize);
        let mut idle: VecDeque<usize> = (0..self.connections.len()).collect();
        let mut asked = vec![Duration::ZERO; self.connections.len()];
        let mut answered = Vec::new();
        let (begin, mut next) = (Instant::now(), 0);
        while latencies.len() < count as usize {
            let now = begin.elapsed();
            while next < count && due(next) <= now {
                let Some(index) = idle.pop_front() else { break };
                asked[index] = due(next);
                next += 1;
                self.send(index);
            }
            // Until the next request is due, if there is a connection for it.
            let wait = (next < count && !idle.is_empty())
                .then(|| due(next).saturating_sub(begin.elapsed()));
            self.answered(wait, &mut answered);
            let now = begin.elapsed();
            for &index in &answered {
                latencies.push(now - asked[index]);
                idle.push_back(index);
            }
        }
        latencies
    }
}

/// How many bytes there are in the answer to a request.
fn answer_length(address: SocketAddr, request: &[u8]) -> usize {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.write_all(request).expect("it is sent");
    let mut bytes = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let length = stream.read(&mut buffer).expect("an answer");
        assert!(length > 0, "the server has closed a connection");
        bytes.extend_from_slice(&buffer[..length]);
        if let Some(length) = length_of(&bytes) {
            assert!(bytes.starts_with(OK), "an answer that is no success");
            return length;
        }
    }
}

/// The length of an answer, if its head is whole.
fn length_of(bytes: &[u8]) -> Option<usize> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let head = match response.parse(bytes).expect("an answer of HTTP") {
        httparse::Status::Complete(head) => head,
        httparse::Status::Partial => return None,
    };
    let length = response
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"))
        .and_then(|header| std::str::from_utf8(header.value).ok()?.trim().parse::<usize>().ok());
    Some(head + length.expect("a length in an answer"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_an_answer_is_head_and_body() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n";
        assert_eq!(length_of(answer), Some(answer.len()));
        assert_eq!(length_of(&answer[..20]), None);
    }
}
