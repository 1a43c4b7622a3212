//! [`TcpListener`]: a TCP socket that connections come to.

use std::io;
use std::net::{self, SocketAddr, ToSocketAddrs};
use std::os::fd::AsFd;
use std::task::{Context, Poll};

use rustix::net::{SocketFlags, acceptfrom_with};
use socket2::{Domain, Protocol, Type};

use super::methods::{socket_methods, ttl_methods};
use super::resolve::first_of;
use super::socket::{Socket, socket_traits};
use super::tcp_stream::TcpStream;
use crate::io::unknown;
use crate::source::Side;

/// How many connections may wait for `accept`; the kernel takes no more than `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A TCP socket that listens for connections, as [`std::net::TcpListener`]. [`accept`](TcpListener::accept) suspends the
/// coroutine; on a plain thread it blocks the thread. Several may accept at the same time.
///
/// # Examples
///
/// ```
/// use std::io::{Read, Write};
///
/// let listener = coro::net::TcpListener::bind("127.0.0.1:0")?;
/// let address = listener.local_addr()?;
/// coro::go(move || {
///     for stream in listener.incoming() {
///         let mut stream = stream?;
///         coro::go(move || stream.write_all(b"hello"));
///     }
///     Ok::<_, std::io::Error>(())
/// });
/// let mut text = String::new();
/// coro::net::TcpStream::connect(address)?.read_to_string(&mut text)?;
/// assert_eq!(text, "hello");
/// # std::io::Result::Ok(())
/// ```
pub struct TcpListener {
    socket: Socket<net::TcpListener>,
}

socket_traits!(TcpListener, net::TcpListener);

impl TcpListener {
    /// Listens at the first of these addresses at which that succeeds. Port 0 is one that the system chooses. Up to
    /// 4096 connections may wait to be accepted, or as many as `net.core.somaxconn` says, if that is less. A name is
    /// looked up as by [`blocking`](crate::blocking()).
    ///
    /// # Errors
    ///
    /// What the look-up says, and what the kernel has said of the last address. `InvalidInput`: there was no address.
    ///
    /// # Examples
    ///
    /// ```
    /// let listener = coro::net::TcpListener::bind("127.0.0.1:0")?;
    /// let taken = coro::net::TcpListener::bind(listener.local_addr()?).unwrap_err();
    /// assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn bind(address: impl ToSocketAddrs + Send) -> io::Result<TcpListener> {
        first_of(address, |address| TcpListener::listen(address, false))
    }

    /// Listens at this address, beside others that have the same and `reuse_port`.
    pub(super) fn listen(address: SocketAddr, reuse_port: bool) -> io::Result<TcpListener> {
        let domain = Domain::for_address(address);
        let socket = socket2::Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if reuse_port {
            socket.set_reuse_port(true)?;
        }
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(TcpListener { socket: Socket::of_nonblocking(socket.into())? })
    }

    /// Waits for a connection, and gives it with the address that it comes from.
    ///
    /// # Errors
    ///
    /// What the kernel says. Some errors are of one connection, as `ConnectionAborted`, and some pass, as too many open
    /// files.
    ///
    /// # Panics
    ///
    /// Unwinds, without calling the panic hook, when the coroutine that waits is cancelled or a
    /// [`timeout`](crate::timeout) around it elapses; no connection is lost by that. In a
    /// [`no_suspend`](crate::no_suspend()), where it would wait.
    ///
    /// # Examples
    ///
    /// ```
    /// let listener = coro::net::TcpListener::bind("127.0.0.1:0")?;
    /// let client = coro::net::TcpStream::connect(listener.local_addr()?)?;
    /// let (_stream, from) = listener.accept()?;
    /// assert_eq!(from, client.local_addr()?);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.socket.run(Side::Read, accept, unknown)
    }

    /// As [`accept`](TcpListener::accept), for futures. Of several futures that poll one listener, the one that has
    /// polled last is woken.
    ///
    /// # Errors
    ///
    /// As [`accept`](TcpListener::accept).
    ///
    /// # Examples
    ///
    /// ```
    /// let listener = coro::net::TcpListener::bind("127.0.0.1:0")?;
    /// let _client = coro::net::TcpStream::connect(listener.local_addr()?)?;
    /// coro::wait(std::future::poll_fn(|context| listener.poll_accept(context)))?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn poll_accept(
        &self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        self.socket.poll(Side::Read, context, accept, unknown)
    }

    /// Accepts for ever.
    ///
    /// # Examples
    ///
    /// See [`TcpListener`].
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }

    /// The address that it listens at.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// # Examples
    ///
    /// ```
    /// let listener = coro::net::TcpListener::bind("127.0.0.1:0")?;
    /// assert_ne!(listener.local_addr()?.port(), 0);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.io().local_addr()
    }

    /// Another descriptor of the same socket. Each connection comes to one of the two.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// # Examples
    ///
    /// ```
    /// let listener = coro::net::TcpListener::bind("127.0.0.1:0")?;
    /// let other = listener.try_clone()?;
    /// assert_eq!(listener.local_addr()?, other.local_addr()?);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn try_clone(&self) -> io::Result<TcpListener> {
        Ok(TcpListener { socket: self.socket.try_clone(net::TcpListener::try_clone)? })
    }

    socket_methods!(
        std::net::TcpListener,
        r#"let socket = coro::net::TcpListener::bind("127.0.0.1:0")?;"#,
        "socket.accept()"
    );

    ttl_methods!(
        std::net::TcpListener,
        r#"let socket = coro::net::TcpListener::bind("127.0.0.1:0")?;"#
    );
}

/// One system call, by which the new socket is non-blocking already.
fn accept(listener: &net::TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (fd, address) = acceptfrom_with(listener.as_fd(), flags)?;
    let stream = TcpStream::of_nonblocking(fd.into())?;
    match address.and_then(|address| SocketAddr::try_from(address).ok()) {
        Some(address) => Ok((stream, address)),
        None => stream.peer_addr().map(|address| (stream, address)),
    }
}

/// Accepts for ever; made by [`TcpListener::incoming`].
///
/// # Examples
///
/// See [`TcpListener`].
#[derive(Debug)]
pub struct Incoming<'a> {
    listener: &'a TcpListener,
}

impl Iterator for Incoming<'_> {
    type Item = io::Result<TcpStream>;

    fn next(&mut self) -> Option<io::Result<TcpStream>> {
        Some(self.listener.accept().map(|(stream, _)| stream))
    }
}

impl std::iter::FusedIterator for Incoming<'_> {}
