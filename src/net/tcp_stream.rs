//! [`TcpStream`]: a TCP connection.

use std::io::{self, Write};
use std::net::{self, Shutdown, SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Type};

use super::halves::{ReadHalf, Stream, WriteHalf, split};
use super::methods::{stream_methods, timeout_methods, ttl_methods};
use super::resolve::first_of;
use super::socket::{Socket, deadline_after, socket_traits, stream_traits};
use crate::io::unknown;
use crate::source::Side;

/// A TCP connection, as [`std::net::TcpStream`]. What would block suspends the coroutine; on a plain thread it blocks
/// the thread.
///
/// Reads and writes take `&TcpStream`, so one coroutine may read while another writes. Of several that read the same
/// connection each gets some of what comes.
///
/// A cancellation and a [`timeout`](crate::timeout) end each wait, by unwinding, and nothing that was read is lost by
/// that: a call that has begun to transfer comes to its end. Only `read_exact`, `write_all` and the like, which are
/// several calls, may have come half way.
///
/// # Examples
///
/// ```
/// use coro::net::{TcpListener, TcpStream};
/// use std::io::{Read, Write};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let address = listener.local_addr()?;
/// let server = coro::go(move || {
///     let (mut stream, _) = listener.accept()?;
///     let mut word = [0; 5];
///     stream.read_exact(&mut word)?;
///     stream.write_all(&word)
/// });
/// let mut stream = TcpStream::connect(address)?;
/// stream.write_all(b"hello")?;
/// let mut echo = String::new();
/// stream.read_to_string(&mut echo)?;
/// assert_eq!(echo, "hello");
/// server.join().unwrap()
/// # ?;
/// # std::io::Result::Ok(())
/// ```
pub struct TcpStream {
    pub(super) socket: Socket<net::TcpStream>,
}

socket_traits!(TcpStream, net::TcpStream);
stream_traits!(TcpStream);

impl TcpStream {
    /// Connects to the first of these addresses at which that succeeds. A name is looked up as by
    /// [`blocking`](crate::blocking()), and no interruption cuts that short.
    ///
    /// # Errors
    ///
    /// What the look-up says, and what the kernel has said of the last address. `InvalidInput`: there was no address.
    ///
    /// # Panics
    ///
    /// Unwinds, without calling the panic hook, when the coroutine that waits is cancelled or a
    /// [`timeout`](crate::timeout) around it elapses. In a [`no_suspend`](crate::no_suspend()).
    ///
    /// # Examples
    ///
    /// ```
    /// let listener = coro::net::TcpListener::bind("127.0.0.1:0")?;
    /// let stream = coro::net::TcpStream::connect(("localhost", listener.local_addr()?.port()))?;
    /// assert_eq!(stream.peer_addr()?, listener.local_addr()?);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn connect(address: impl ToSocketAddrs + Send) -> io::Result<TcpStream> {
        first_of(address, |address| TcpStream::connect_until(address, None))
    }

    /// Connects to this address, for `limit` at most.
    ///
    /// # Errors
    ///
    /// What the kernel says; `TimedOut`; `InvalidInput` for a limit of zero.
    ///
    /// # Panics
    ///
    /// As [`connect`](TcpStream::connect).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let listener = coro::net::TcpListener::bind("127.0.0.1:0")?;
    /// let (address, limit) = (listener.local_addr()?, Duration::from_secs(1));
    /// coro::net::TcpStream::connect_timeout(&address, limit)?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn connect_timeout(address: &SocketAddr, limit: Duration) -> io::Result<TcpStream> {
        TcpStream::connect_until(*address, deadline_after(limit)?)
    }

    fn connect_until(address: SocketAddr, deadline: Option<Instant>) -> io::Result<TcpStream> {
        let domain = Domain::for_address(address);
        let socket = socket2::Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        let begun = socket.connect(&address.into());
        let stream = TcpStream::of_nonblocking(socket.into())?;
        match begun {
            Ok(()) => return Ok(stream),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::EINTR)) => {
            }
            Err(error) => return Err(error),
        }
        if !stream.socket.wait(Side::Write, deadline)? {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "connection timed out"));
        }
        match stream.take_error()? {
            Some(error) => Err(error),
            None => Ok(stream),
        }
    }

    pub(super) fn of_nonblocking(io: net::TcpStream) -> io::Result<TcpStream> {
        Ok(TcpStream { socket: Socket::of_nonblocking(io)? })
    }

    /// The two directions, for two coroutines. When the writing half is dropped, the peer reads the end.
    ///
    /// # Examples
    ///
    /// ```
    /// use coro::net::{TcpListener, TcpStream};
    /// use std::io::{Read, Write};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let client = TcpStream::connect(listener.local_addr()?)?;
    /// let (mut reader, mut writer) = client.split();
    /// let writing = coro::go(move || writer.write_all(b"hello"));
    ///
    /// let (mut server, _) = listener.accept()?;
    /// let mut text = String::new();
    /// server.read_to_string(&mut text)?;
    /// server.write_all(text.to_uppercase().as_bytes())?;
    /// drop(server);
    ///
    /// let mut answer = String::new();
    /// reader.read_to_string(&mut answer)?;
    /// assert_eq!(answer, "HELLO");
    /// writing.join().unwrap()
    /// # ?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn split(self) -> (ReadHalf<TcpStream>, WriteHalf<TcpStream>) {
        split(self)
    }

    /// Reads, and leaves what was read to be read once more.
    ///
    /// # Errors
    ///
    /// What the kernel says; `WouldBlock` when the [read timeout](TcpStream::set_read_timeout) is over.
    ///
    /// # Panics
    ///
    /// As a read: see [`connect`](TcpStream::connect).
    ///
    /// # Examples
    ///
    /// ```
    /// # use coro::net::{TcpListener, TcpStream};
    /// # use std::io::{Read, Write};
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let mut client = TcpStream::connect(listener.local_addr()?)?;
    /// let (mut server, _) = listener.accept()?;
    /// client.write_all(b"x")?;
    /// let (mut seen, mut read) = ([0], [0]);
    /// server.peek(&mut seen)?;
    /// server.read(&mut read)?;
    /// assert_eq!((&seen, &read), (b"x", b"x"));
    /// # std::io::Result::Ok(())
    /// ```
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.run(Side::Read, |io| io.peek(buffer), unknown)
    }

    stream_methods!(
        net::TcpStream,
        r#"# use coro::net::{TcpListener, TcpStream};
# let listener = TcpListener::bind("127.0.0.1:0")?;
let client = TcpStream::connect(listener.local_addr()?)?;
let (server, _) = listener.accept()?;"#
    );

    /// Another descriptor of the same connection, with the same timeouts.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// # Examples
    ///
    /// ```
    /// # use coro::net::{TcpListener, TcpStream};
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let client = TcpStream::connect(listener.local_addr()?)?;
    /// let clone = client.try_clone()?;
    /// assert_eq!(clone.local_addr()?, client.local_addr()?);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn try_clone(&self) -> io::Result<TcpStream> {
        Ok(TcpStream { socket: self.socket.try_clone(net::TcpStream::try_clone)? })
    }

    /// The address of the other end.
    ///
    /// # Errors
    ///
    /// What the kernel says, `NotConnected` among it.
    ///
    /// # Examples
    ///
    /// See [`connect`](TcpStream::connect).
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket.io().peer_addr()
    }

    /// The address of this end.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// # Examples
    ///
    /// See [`try_clone`](TcpStream::try_clone).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.io().local_addr()
    }

    timeout_methods!(
        std::net::TcpStream,
        r#"# let listener = coro::net::TcpListener::bind("127.0.0.1:0")?;
let socket = coro::net::TcpStream::connect(listener.local_addr()?)?;"#,
        "(&socket).read(&mut [0])"
    );

    ttl_methods!(
        std::net::TcpStream,
        r#"# let listener = coro::net::TcpListener::bind("127.0.0.1:0")?;
let socket = coro::net::TcpStream::connect(listener.local_addr()?)?;"#
    );

    /// As [`std::net::TcpStream::set_nodelay`].
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// # Examples
    ///
    /// ```
    /// # use coro::net::{TcpListener, TcpStream};
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let client = TcpStream::connect(listener.local_addr()?)?;
    /// client.set_nodelay(true)?;
    /// assert!(client.nodelay()?);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.socket.io().set_nodelay(nodelay)
    }

    /// As [`std::net::TcpStream::nodelay`].
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// # Examples
    ///
    /// See [`set_nodelay`](TcpStream::set_nodelay).
    pub fn nodelay(&self) -> io::Result<bool> {
        self.socket.io().nodelay()
    }
}

impl Stream for TcpStream {
    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        TcpStream::shutdown(self, how)
    }
}
