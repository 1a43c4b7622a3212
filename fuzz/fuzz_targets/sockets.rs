#![no_main]
//! Tasks and a thread that read from and write to the same few sockets in every way, are cancelled, and close them: what was
//! written is read, in order and once, and nothing hangs.
//!
//! What comes out of a run depends on the threads, so there is no model of each step. Each direction of a connection
//! carries the bytes 0, 1, 2 and so on. Whoever writes or reads holds the lock of that direction, and counts. In the end,
//! when all write no more, what is left is read, and the two counts are equal.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use arbitrary::Arbitrary;
use coro::chan::after;
use coro::io::{Async, wait_readable, wait_writable};
use coro::sync::Mutex;
use goexit_fuzz::harness::{self, Input, Players};
use libfuzzer_sys::fuzz_target;

const PAIRS: usize = 2;

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Step {
    Yield,
    /// Writes so many hundred bytes to an end.
    Write(u8, u8),
    /// Reads up to so many hundred bytes, once.
    Read(u8, u8),
    /// The same, within so many microseconds.
    ReadTimeout(u8, u8),
    WriteTimeout(u8, u8),
    /// Reads what is there when it is ready, from this end or that.
    Select(u8, u8, u8),
    WaitReadable(u8, u8),
    WaitWritable(u8, u8),
    /// Reads as a future.
    AwaitRead(u8, u8),
    /// A pair that is made and closed here, so that its numbers are used again.
    Other(u8),
}

#[derive(Arbitrary, Debug)]
struct Program {
    workers: u8,
    /// One for each task; the last is for a thread.
    bodies: Vec<Vec<Step>>,
    /// Which tasks are cancelled, in between.
    cancels: Vec<u8>,
}

/// One end of a pair, and how many bytes have gone out of it and come in.
struct End {
    socket: Async<UnixStream>,
    written: Mutex<usize>,
    read: Mutex<usize>,
}

impl End {
    fn new(socket: UnixStream) -> End {
        let socket = Async::new(socket).expect("a descriptor");
        End { socket, written: Mutex::new(0), read: Mutex::new(0) }
    }

    /// Writes the next bytes. False: the other end reads no more.
    fn write(&self, length: usize) -> bool {
        let mut written = self.written.lock();
        let end = *written + length;
        while *written < end {
            let bytes: Vec<u8> = (*written..end).map(|i| i as u8).collect();
            // It has written nothing if it is cut short.
            match (&self.socket).write(&bytes) {
                Ok(length) => *written += length,
                Err(_) => return false,
            }
        }
        true
    }

    fn read(&self, length: usize) -> usize {
        let mut read = self.read.lock();
        let mut buffer = vec![0; length];
        let length = (&self.socket).read(&mut buffer).expect("the end is no error");
        Self::check(&mut read, &buffer[..length])
    }

    fn check(read: &mut usize, bytes: &[u8]) -> usize {
        for &byte in bytes {
            assert_eq!(byte, *read as u8, "byte {read}");
            *read += 1;
        }
        bytes.len()
    }
}

type World = Vec<[End; 2]>;

fn end(world: &World, which: u8) -> &End {
    let which = usize::from(which);
    &world[which / 2 % PAIRS][which % 2]
}

fn micros(n: u8) -> Duration {
    Duration::from_micros(u64::from(n))
}

fn play(world: &Arc<World>, steps: &[Step]) {
    for &step in steps {
        match step {
            Step::Yield => coro::yield_now(),
            Step::Write(to, hundreds) => _ = end(world, to).write(usize::from(hundreds) * 100),
            Step::Read(from, hundreds) => _ = end(world, from).read(usize::from(hundreds) * 100),
            Step::ReadTimeout(from, limit) => {
                _ = coro::timeout(micros(limit), || end(world, from).read(1000));
            }
            Step::WriteTimeout(to, limit) => {
                _ = coro::timeout(micros(limit), || end(world, to).write(100_000));
            }
            Step::Select(one, other, limit) => {
                let (one, other) = (end(world, one), end(world, other));
                let ready = coro::select! {
                    readable(one.socket) => Some(one),
                    readable(other.socket) => Some(other),
                    recv(after(micros(limit))) -> _ => None,
                };
                if let Some(end) = ready {
                    let mut read = end.read.lock();
                    let mut buffer = [0; 500];
                    // Somebody else may have been faster.
                    match end.socket.get_ref().read(&mut buffer) {
                        Ok(length) => _ = End::check(&mut read, &buffer[..length]),
                        Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                    }
                }
            }
            Step::WaitReadable(from, limit) => {
                _ = coro::timeout(micros(limit), || wait_readable(&end(world, from).socket));
            }
            Step::WaitWritable(to, limit) => {
                _ = coro::timeout(micros(limit), || wait_writable(&end(world, to).socket));
            }
            Step::AwaitRead(from, limit) => {
                let end = end(world, from);
                let mut read = end.read.lock();
                let mut buffer = [0; 300];
                let poll = std::future::poll_fn(|context| {
                    end.socket.poll_read_with(context, |mut socket| socket.read(&mut buffer))
                });
                if let Ok(length) = coro::timeout(micros(limit), || coro::wait(poll)) {
                    End::check(&mut read, &buffer[..length.expect("the end is no error")]);
                }
            }
            Step::Other(limit) => {
                let (one, other) = UnixStream::pair().expect("a pair");
                let (one, other) = (End::new(one), End::new(other));
                let reads = coro::go(move || other.read(10));
                if limit % 2 == 0 {
                    one.write(5);
                } else {
                    drop(one);
                }
                _ = coro::timeout(micros(limit), || reads.join());
            }
        }
    }
}

fuzz_target!(init: harness::init(), |program: Program| {
    let _input = Input::begin();
    let pair = || {
        let (one, other) = UnixStream::pair().expect("a pair");
        [End::new(one), End::new(other)]
    };
    let world: Arc<World> = Arc::new((0..PAIRS).map(|_| pair()).collect());
    let players =
        Players::start(program.workers, &world, program.bodies, 6, &program.cancels, play);
    // Whoever waits to read finds the end; whoever waits to write, that nobody reads.
    let ends = || world.iter().flatten();
    for end in ends() {
        end.socket.get_ref().shutdown(Shutdown::Write).expect("an open socket");
    }
    players.join();
    for [one, other] in &*world {
        for (from, to) in [(one, other), (other, one)] {
            while to.read(1 << 16) > 0 {}
            assert_eq!(*from.written.lock(), *to.read.lock());
        }
    }
    harness::settle();
});
