//! ureq's way to the network, by coro: its resolver, its connector, its transport.

use std::io::{self, Read, Write};

use coro::net::TcpStream;
use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

/// Looks names up where that may block.
#[derive(Default, Debug)]
pub struct Resolve(DefaultResolver);

impl Resolver for Resolve {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        coro::blocking(|| self.0.resolve(uri, config, timeout))
    }
}

/// Connects, for whatever is to go on top of it.
#[derive(Debug)]
pub struct Connect;

impl Connector for Connect {
    type Out = Connection;

    fn connect(
        &self,
        details: &ConnectionDetails,
        _: Option<()>,
    ) -> Result<Option<Connection>, Error> {
        let buffers = LazyBuffers::new(
            details.config.input_buffer_size(),
            details.config.output_buffer_size(),
        );
        let mut failure = Error::HostNotFound;
        for address in &details.addrs {
            let connected = match details.timeout.not_zero() {
                Some(limit) => TcpStream::connect_timeout(address, *limit),
                None => TcpStream::connect(*address),
            };
            match connected {
                Ok(stream) => return Ok(Some(Connection { stream, buffers })),
                Err(error) => failure = ureq_error(error, details.timeout),
            }
        }
        Err(failure)
    }
}

/// One of coro's, as ureq sees it.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffers: LazyBuffers,
}

impl Transport for Connection {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let timeout = timeout.for_write();
        self.stream.set_write_timeout(timeout.not_zero().map(|limit| *limit))?;
        let written = self.stream.write_all(&self.buffers.output()[..amount]);
        written.map_err(|error| ureq_error(error, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let timeout = timeout.for_read();
        self.stream.set_read_timeout(timeout.not_zero().map(|limit| *limit))?;
        let read = self.stream.read(self.buffers.input_append_buf());
        let amount = read.map_err(|error| ureq_error(error, timeout))?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    /// ureq asks this while it holds a lock of std's. If it suspended, the next coroutine of this thread that wants the
    /// lock would block the thread, for ever.
    fn is_open(&mut self) -> bool {
        coro::no_suspend(|| {
            let _ = self.stream.set_nonblocking(true);
            let peeked = self.stream.peek(&mut [0]);
            let _ = self.stream.set_nonblocking(false);
            peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
        })
    }
}

fn ureq_error(error: io::Error, timeout: NextTimeout) -> Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::Timeout(timeout.reason),
        _ => error.into(),
    }
}
