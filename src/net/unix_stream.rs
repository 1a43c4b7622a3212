//! [`UnixStream`]: a connection between processes of one machine.

use std::io::{self, Write};
use std::net::Shutdown;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::halves::{ReadHalf, Stream, WriteHalf, split};
use super::methods::{stream_methods, timeout_methods};
use super::retry::retry;
use super::socket::{Socket, socket_traits, stream_traits};
use crate::io::Limit;
use crate::source::Side;

/// A connection between processes of one machine, as [`std::os::unix::net::UnixStream`]. What would block suspends the
/// coroutine; on a plain thread it blocks the thread.
///
/// Reads and writes take `&UnixStream`, so one coroutine may read while another writes. What is said of interruptions at
/// [`TcpStream`](super::TcpStream) holds here too.
///
/// # Examples
///
/// ```
/// use coro::net::UnixStream;
/// use std::io::{Read, Write};
///
/// let (mut client, mut server) = UnixStream::pair()?;
/// let echo = coro::go(move || {
///     let mut word = [0; 5];
///     server.read_exact(&mut word)?;
///     server.write_all(&word)
/// });
/// client.write_all(b"hello")?;
/// let mut answer = String::new();
/// client.read_to_string(&mut answer)?;
/// assert_eq!(answer, "hello");
/// echo.join().unwrap()
/// # ?;
/// # std::io::Result::Ok(())
/// ```
pub struct UnixStream {
    pub(super) socket: Socket<net::UnixStream>,
}

socket_traits!(UnixStream, net::UnixStream);
stream_traits!(UnixStream);

impl UnixStream {
    /// Connects to the listener at `path`.
    ///
    /// If too many connections wait there to be accepted, this tries again after ever longer sleeps, up to 10 ms each,
    /// because the kernel does not tell when there is room. So, other than with blocking sockets, whoever has waited
    /// longest need not be the next.
    ///
    /// # Errors
    ///
    /// What the kernel says, and `InvalidInput` if the path is too long or has a zero byte in it.
    ///
    /// # Panics
    ///
    /// Unwinds, without calling the panic hook, when the coroutine that waits is cancelled or a
    /// [`timeout`](crate::timeout) around it elapses. In a [`no_suspend`](crate::no_suspend()), where it would wait.
    ///
    /// # Examples
    ///
    /// ```
    /// use coro::net::{UnixListener, UnixStream};
    ///
    /// # let path = std::env::temp_dir().join(format!("coro-connect-{}", std::process::id()));
    /// let _listener = UnixListener::bind(&path)?;
    /// let stream = UnixStream::connect(&path)?;
    /// assert_eq!(stream.peer_addr()?.as_pathname(), Some(&*path));
    /// # std::fs::remove_file(path)?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn connect(path: impl AsRef<Path>) -> io::Result<UnixStream> {
        UnixStream::connect_addr(&SocketAddr::from_pathname(path)?)
    }

    /// As [`connect`](UnixStream::connect), to an address, which may be an
    /// [abstract name](std::os::linux::net::SocketAddrExt).
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// # Panics
    ///
    /// As [`connect`](UnixStream::connect).
    ///
    /// # Examples
    ///
    /// ```
    /// use coro::net::{UnixListener, UnixStream};
    /// use std::os::{linux::net::SocketAddrExt, unix::net::SocketAddr};
    ///
    /// # let name = format!("coro-connect-addr-{}", std::process::id());
    /// let address = SocketAddr::from_abstract_name(name.as_bytes())?;
    /// let _listener = UnixListener::bind_addr(&address)?;
    /// UnixStream::connect_addr(&address)?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn connect_addr(address: &SocketAddr) -> io::Result<UnixStream> {
        let address = match (address.as_pathname(), address.as_abstract_name()) {
            (Some(path), _) => SocketAddrUnix::new(path)?,
            (_, Some(name)) => SocketAddrUnix::new_abstract_name(name)?,
            (None, None) => SocketAddrUnix::new_unnamed(),
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        retry(Limit::Endless, || Ok(connect(&socket, &address)?))?;
        Ok(UnixStream { socket: Socket::of_nonblocking(socket.into())? })
    }

    /// Two ends of a connection without a name.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// # Examples
    ///
    /// See [`UnixStream`].
    pub fn pair() -> io::Result<(UnixStream, UnixStream)> {
        let (one, other) = net::UnixStream::pair()?;
        Ok((UnixStream::new(one)?, UnixStream::new(other)?))
    }

    pub(super) fn new(io: net::UnixStream) -> io::Result<UnixStream> {
        Ok(UnixStream { socket: Socket::new(io)? })
    }

    /// The two directions, for two coroutines. When the writing half is dropped, the peer reads the end.
    ///
    /// # Examples
    ///
    /// ```
    /// use coro::net::UnixStream;
    /// use std::io::{Read, Write};
    ///
    /// let (client, mut server) = UnixStream::pair()?;
    /// let (mut reader, mut writer) = client.split();
    /// let writing = coro::go(move || writer.write_all(b"hello"));
    ///
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
    pub fn split(self) -> (ReadHalf<UnixStream>, WriteHalf<UnixStream>) {
        split(self)
    }

    stream_methods!(net::UnixStream, r#"let (client, server) = coro::net::UnixStream::pair()?;"#);

    /// Another descriptor of the same connection, with the same timeouts.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::{Read, Write};
    ///
    /// let (client, mut server) = coro::net::UnixStream::pair()?;
    /// client.try_clone()?.write_all(b"x")?;
    /// server.read_exact(&mut [0])?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn try_clone(&self) -> io::Result<UnixStream> {
        Ok(UnixStream { socket: self.socket.try_clone(net::UnixStream::try_clone)? })
    }

    /// The address of the other end.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// # Examples
    ///
    /// See [`connect`](UnixStream::connect).
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
    /// ```
    /// let (client, _server) = coro::net::UnixStream::pair()?;
    /// assert!(client.local_addr()?.is_unnamed());
    /// # std::io::Result::Ok(())
    /// ```
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.io().local_addr()
    }

    timeout_methods!(
        std::os::unix::net::UnixStream,
        r#"let (socket, _peer) = coro::net::UnixStream::pair()?;"#,
        "(&socket).read(&mut [0])"
    );
}

impl Stream for UnixStream {
    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        UnixStream::shutdown(self, how)
    }
}
