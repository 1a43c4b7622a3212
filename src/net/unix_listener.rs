//! [`UnixListener`]: a Unix socket that connections come to.

use std::io;
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;
use std::task::{Context, Poll};

use super::methods::socket_methods;
use super::socket::{Socket, socket_traits};
use super::unix_stream::UnixStream;
use crate::io::unknown;
use crate::source::Side;

/// A Unix socket that listens for connections, as [`std::os::unix::net::UnixListener`].
/// [`accept`](UnixListener::accept) suspends the coroutine; on a plain thread it blocks the thread. Several may accept at
/// the same time.
///
/// # Examples
///
/// ```
/// use coro::net::{UnixListener, UnixStream};
/// use std::io::{Read, Write};
///
/// # let path = std::env::temp_dir().join(format!("coro-listener-{}", std::process::id()));
/// let listener = UnixListener::bind(&path)?;
/// coro::go(move || {
///     for stream in listener.incoming() {
///         let mut stream = stream?;
///         coro::go(move || stream.write_all(b"hello"));
///     }
///     Ok::<_, std::io::Error>(())
/// });
/// let mut text = String::new();
/// UnixStream::connect(&path)?.read_to_string(&mut text)?;
/// assert_eq!(text, "hello");
/// # std::fs::remove_file(path)?;
/// # std::io::Result::Ok(())
/// ```
pub struct UnixListener {
    socket: Socket<net::UnixListener>,
}

socket_traits!(UnixListener, net::UnixListener);

impl UnixListener {
    /// Listens at `path`, which must not exist; nothing removes it later. As many connections may wait to be accepted as
    /// `net.core.somaxconn` says.
    ///
    /// # Errors
    ///
    /// What the kernel says: `AddrInUse` if the path exists. `InvalidInput` if it is too long or has a zero byte in it.
    ///
    /// # Examples
    ///
    /// ```
    /// use coro::net::UnixListener;
    ///
    /// # let path = std::env::temp_dir().join(format!("coro-bind-{}", std::process::id()));
    /// let listener = UnixListener::bind(&path)?;
    /// assert_eq!(listener.local_addr()?.as_pathname(), Some(&*path));
    /// let taken = UnixListener::bind(&path).unwrap_err();
    /// assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
    /// # std::fs::remove_file(path)?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn bind(path: impl AsRef<Path>) -> io::Result<UnixListener> {
        UnixListener::bind_addr(&SocketAddr::from_pathname(path)?)
    }

    /// As [`bind`](UnixListener::bind), at an address, which may be an
    /// [abstract name](std::os::linux::net::SocketAddrExt).
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// # Examples
    ///
    /// See [`UnixStream::connect_addr`].
    pub fn bind_addr(address: &SocketAddr) -> io::Result<UnixListener> {
        Ok(UnixListener { socket: Socket::new(net::UnixListener::bind_addr(address)?)? })
    }

    /// Waits for a connection, and gives it with the address that it comes from, which has no name as a rule.
    ///
    /// # Errors
    ///
    /// What the kernel says. Some errors pass, as too many open files.
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
    /// use coro::net::{UnixListener, UnixStream};
    ///
    /// # let path = std::env::temp_dir().join(format!("coro-accept-{}", std::process::id()));
    /// let listener = UnixListener::bind(&path)?;
    /// let _client = UnixStream::connect(&path)?;
    /// let (_stream, from) = listener.accept()?;
    /// assert!(from.is_unnamed());
    /// # std::fs::remove_file(path)?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
        self.socket.run(Side::Read, accept, unknown)
    }

    /// As [`accept`](UnixListener::accept), for futures. Of several futures that poll one listener, the one that has
    /// polled last is woken.
    ///
    /// # Errors
    ///
    /// As [`accept`](UnixListener::accept).
    ///
    /// # Examples
    ///
    /// ```
    /// use coro::net::{UnixListener, UnixStream};
    ///
    /// # let path = std::env::temp_dir().join(format!("coro-poll-accept-{}", std::process::id()));
    /// let listener = UnixListener::bind(&path)?;
    /// let _client = UnixStream::connect(&path)?;
    /// coro::wait(std::future::poll_fn(|context| listener.poll_accept(context)))?;
    /// # std::fs::remove_file(path)?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn poll_accept(
        &self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<(UnixStream, SocketAddr)>> {
        self.socket.poll(Side::Read, context, accept, unknown)
    }

    /// Accepts for ever.
    ///
    /// # Examples
    ///
    /// See [`UnixListener`].
    pub fn incoming(&self) -> UnixIncoming<'_> {
        UnixIncoming { listener: self }
    }

    /// The address that it listens at.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// # Examples
    ///
    /// See [`bind`](UnixListener::bind).
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
    /// # let path = std::env::temp_dir().join(format!("coro-clone-{}", std::process::id()));
    /// let other = coro::net::UnixListener::bind(&path)?.try_clone()?;
    /// assert_eq!(other.local_addr()?.as_pathname(), Some(&*path));
    /// # std::fs::remove_file(path)?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn try_clone(&self) -> io::Result<UnixListener> {
        Ok(UnixListener { socket: self.socket.try_clone(net::UnixListener::try_clone)? })
    }

    socket_methods!(
        std::os::unix::net::UnixListener,
        r#"# use std::os::{linux::net::SocketAddrExt, unix::net::SocketAddr};
# let address = SocketAddr::from_abstract_name(format!("coro-{}", std::process::id()))?;
let socket = coro::net::UnixListener::bind_addr(&address)?;"#,
        "socket.accept()"
    );
}

fn accept(listener: &net::UnixListener) -> io::Result<(UnixStream, SocketAddr)> {
    let (io, address) = listener.accept()?;
    Ok((UnixStream::new(io)?, address))
}

/// Accepts for ever; made by [`UnixListener::incoming`].
///
/// # Examples
///
/// See [`UnixListener`].
#[derive(Debug)]
pub struct UnixIncoming<'a> {
    listener: &'a UnixListener,
}

impl Iterator for UnixIncoming<'_> {
    type Item = io::Result<UnixStream>;

    fn next(&mut self) -> Option<io::Result<UnixStream>> {
        Some(self.listener.accept().map(|(stream, _)| stream))
    }
}

impl std::iter::FusedIterator for UnixIncoming<'_> {}

impl<'a> IntoIterator for &'a UnixListener {
    type Item = io::Result<UnixStream>;
    type IntoIter = UnixIncoming<'a>;

    fn into_iter(self) -> UnixIncoming<'a> {
        self.incoming()
    }
}
