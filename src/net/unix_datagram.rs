//! [`UnixDatagram`]: a socket for datagrams between processes of one machine.

use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;
use std::task::{Context, Poll};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;

use super::methods::{datagram_methods, timeout_methods};
use super::retry::poll_retry;
use super::socket::{Socket, socket_traits};
use crate::io::unknown;
use crate::source::Side;

/// A socket for datagrams between processes of one machine, as [`std::os::unix::net::UnixDatagram`]. What would block
/// suspends the coroutine; on a plain thread it blocks the thread. No datagram is lost on its way: who sends waits until
/// the receiver has room.
///
/// All calls take `&UnixDatagram`, so several coroutines may send and receive at the same time. Of several that receive
/// from the same socket each gets some of the datagrams.
///
/// # Examples
///
/// ```
/// use coro::net::UnixDatagram;
///
/// # let path = std::env::temp_dir().join(format!("coro-datagram-{}", std::process::id()));
/// let receiver = UnixDatagram::bind(&path)?;
/// let sending = coro::go({
///     let path = path.clone();
///     move || UnixDatagram::unbound()?.send_to(b"hello", path)
/// });
/// let mut buffer = [0; 16];
/// let (length, from) = receiver.recv_from(&mut buffer)?;
/// assert_eq!(&buffer[..length], b"hello");
/// assert!(from.is_unnamed());
/// sending.join().unwrap()
/// # ?;
/// # std::fs::remove_file(path)?;
/// # std::io::Result::Ok(())
/// ```
pub struct UnixDatagram {
    socket: Socket<net::UnixDatagram>,
}

socket_traits!(UnixDatagram, net::UnixDatagram);

impl UnixDatagram {
    /// A socket at `path`, which must not exist; nothing removes it later.
    ///
    /// # Errors
    ///
    /// What the kernel says: `AddrInUse` if the path exists. `InvalidInput` if it is too long or has a zero byte in it.
    ///
    /// # Examples
    ///
    /// ```
    /// # let path = std::env::temp_dir().join(format!("coro-bind-{}", std::process::id()));
    /// let socket = coro::net::UnixDatagram::bind(&path)?;
    /// assert_eq!(socket.local_addr()?.as_pathname(), Some(&*path));
    /// # std::fs::remove_file(path)?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn bind(path: impl AsRef<Path>) -> io::Result<UnixDatagram> {
        UnixDatagram::new(net::UnixDatagram::bind(path)?)
    }

    /// A socket at an address, which may be an [abstract name](std::os::linux::net::SocketAddrExt).
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// # Examples
    ///
    /// ```
    /// use coro::net::UnixDatagram;
    /// use std::os::{linux::net::SocketAddrExt, unix::net::SocketAddr};
    ///
    /// # let name = format!("coro-datagram-addr-{}", std::process::id());
    /// let address = SocketAddr::from_abstract_name(name.as_bytes())?;
    /// let receiver = UnixDatagram::bind_addr(&address)?;
    /// let sender = UnixDatagram::unbound()?;
    /// sender.send_to_addr(b"one", &address)?;
    /// sender.connect_addr(&address)?;
    /// sender.send(b"two")?;
    /// assert_eq!(sender.peer_addr()?.as_abstract_name(), Some(name.as_bytes()));
    ///
    /// let mut buffer = [0; 3];
    /// receiver.recv(&mut buffer)?;
    /// assert_eq!(&buffer, b"one");
    /// receiver.recv(&mut buffer)?;
    /// assert_eq!(&buffer, b"two");
    /// # std::io::Result::Ok(())
    /// ```
    pub fn bind_addr(address: &SocketAddr) -> io::Result<UnixDatagram> {
        UnixDatagram::new(net::UnixDatagram::bind_addr(address)?)
    }

    /// A socket without a name: nobody can send to it, unless it is [connected](UnixDatagram::pair) already.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// # Examples
    ///
    /// See [`bind_addr`](UnixDatagram::bind_addr).
    pub fn unbound() -> io::Result<UnixDatagram> {
        UnixDatagram::new(net::UnixDatagram::unbound()?)
    }

    /// Two sockets without a name that are connected to each other.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// # Examples
    ///
    /// See [`recv`](UnixDatagram::recv).
    pub fn pair() -> io::Result<(UnixDatagram, UnixDatagram)> {
        let (one, other) = net::UnixDatagram::pair()?;
        Ok((UnixDatagram::new(one)?, UnixDatagram::new(other)?))
    }

    fn new(io: net::UnixDatagram) -> io::Result<UnixDatagram> {
        Ok(UnixDatagram { socket: Socket::new(io)? })
    }

    /// From now on, [`send`](UnixDatagram::send) sends to the socket at `path`, and only its datagrams are received.
    ///
    /// # Errors
    ///
    /// What the kernel says, and `InvalidInput` if the path is too long or has a zero byte in it.
    ///
    /// # Examples
    ///
    /// ```
    /// use coro::net::UnixDatagram;
    ///
    /// # let path = std::env::temp_dir().join(format!("coro-datagram-peer-{}", std::process::id()));
    /// let receiver = UnixDatagram::bind(&path)?;
    /// let sender = UnixDatagram::unbound()?;
    /// sender.connect(&path)?;
    /// sender.send(b"hello")?;
    /// assert_eq!(receiver.recv(&mut [0; 16])?, 5);
    /// # std::fs::remove_file(path)?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn connect(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.socket.io().connect(path)
    }

    /// As [`connect`](UnixDatagram::connect), to an address, which may be an
    /// [abstract name](std::os::linux::net::SocketAddrExt).
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// # Examples
    ///
    /// See [`bind_addr`](UnixDatagram::bind_addr).
    pub fn connect_addr(&self, address: &SocketAddr) -> io::Result<()> {
        self.socket.io().connect_addr(address)
    }

    datagram_methods!(
        SocketAddr,
        recv,
        recv_from,
        r#"let (one, other) = coro::net::UnixDatagram::pair()?;"#
    );

    /// Sends a datagram to the socket at `path`.
    ///
    /// If the receiver has no room, this tries again after ever longer sleeps, up to 10 ms each, because the kernel does
    /// not tell when there is room. [`send`](UnixDatagram::send) on a connected socket is woken at once.
    ///
    /// # Errors
    ///
    /// What the kernel says; `InvalidInput` if the path is too long or has a zero byte in it; `WouldBlock` when the
    /// [write timeout](UnixDatagram::set_write_timeout) is over.
    ///
    /// # Panics
    ///
    /// As [`recv`](UnixDatagram::recv).
    ///
    /// # Examples
    ///
    /// See [`UnixDatagram`].
    pub fn send_to(&self, buffer: &[u8], path: impl AsRef<Path>) -> io::Result<usize> {
        let path = path.as_ref();
        self.socket.run_with_sleeps(Side::Write, |io| io.send_to(buffer, path))
    }

    /// As [`send_to`](UnixDatagram::send_to), to an address, which may be an
    /// [abstract name](std::os::linux::net::SocketAddrExt).
    ///
    /// # Errors
    ///
    /// As [`send_to`](UnixDatagram::send_to).
    ///
    /// # Panics
    ///
    /// As [`recv`](UnixDatagram::recv).
    ///
    /// # Examples
    ///
    /// See [`bind_addr`](UnixDatagram::bind_addr).
    pub fn send_to_addr(&self, buffer: &[u8], address: &SocketAddr) -> io::Result<usize> {
        self.socket.run_with_sleeps(Side::Write, |io| io.send_to_addr(buffer, address))
    }

    /// As [`send_to`](UnixDatagram::send_to), for futures. If the receiver has no room, the future is woken 10 ms later,
    /// by a coroutine.
    ///
    /// # Errors
    ///
    /// As [`send_to`](UnixDatagram::send_to), and `OutOfMemory` if that coroutine cannot be started.
    ///
    /// # Examples
    ///
    /// ```
    /// use coro::net::UnixDatagram;
    ///
    /// # let path = std::env::temp_dir().join(format!("coro-poll-send-to-{}", std::process::id()));
    /// let receiver = UnixDatagram::bind(&path)?;
    /// let sender = UnixDatagram::unbound()?;
    /// coro::wait(std::future::poll_fn(|context| sender.poll_send_to(context, b"hello", &path)))?;
    /// assert_eq!(receiver.recv(&mut [0; 16])?, 5);
    /// # std::fs::remove_file(path)?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn poll_send_to(
        &self,
        context: &mut Context<'_>,
        buffer: &[u8],
        path: impl AsRef<Path>,
    ) -> Poll<io::Result<usize>> {
        poll_retry(context, || self.socket.io().send_to(buffer, path))
    }

    /// As [`poll_send_to`](UnixDatagram::poll_send_to), to an address, which may be an
    /// [abstract name](std::os::linux::net::SocketAddrExt).
    ///
    /// # Errors
    ///
    /// As [`poll_send_to`](UnixDatagram::poll_send_to).
    ///
    /// # Examples
    ///
    /// See [`poll_send_to`](UnixDatagram::poll_send_to).
    pub fn poll_send_to_addr(
        &self,
        context: &mut Context<'_>,
        buffer: &[u8],
        address: &SocketAddr,
    ) -> Poll<io::Result<usize>> {
        poll_retry(context, || self.socket.io().send_to_addr(buffer, address))
    }

    /// Ends one direction of this socket, or both. Whoever waits for it goes on: a receive gives 0, a send an error. The
    /// peer is not told of an end of sending.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// # Examples
    ///
    /// ```
    /// let (one, other) = coro::net::UnixDatagram::pair()?;
    /// one.shutdown(std::net::Shutdown::Both)?;
    /// assert_eq!(one.recv(&mut [0; 16])?, 0);
    /// assert_eq!(other.send(b"hello").unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.socket.io().shutdown(how)
    }

    /// Another descriptor of the same socket, with the same timeouts. Each datagram comes to one of the two.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// # Examples
    ///
    /// ```
    /// let (one, other) = coro::net::UnixDatagram::pair()?;
    /// one.try_clone()?.send(b"hello")?;
    /// assert_eq!(other.recv(&mut [0; 16])?, 5);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn try_clone(&self) -> io::Result<UnixDatagram> {
        Ok(UnixDatagram { socket: self.socket.try_clone(net::UnixDatagram::try_clone)? })
    }

    /// The address of this socket.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// # Examples
    ///
    /// See [`bind`](UnixDatagram::bind).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.io().local_addr()
    }

    /// The address that it is [connected](UnixDatagram::connect) to.
    ///
    /// # Errors
    ///
    /// What the kernel says, `NotConnected` among it.
    ///
    /// # Examples
    ///
    /// See [`bind_addr`](UnixDatagram::bind_addr).
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket.io().peer_addr()
    }

    timeout_methods!(
        std::os::unix::net::UnixDatagram,
        r#"let (socket, _peer) = coro::net::UnixDatagram::pair()?;"#,
        "socket.recv(&mut [0])"
    );
}

fn recv(io: &net::UnixDatagram, buffer: &mut [u8]) -> io::Result<usize> {
    io.recv(buffer).or_else(|error| {
        check_end(io, error)?;
        Ok(0)
    })
}

fn recv_from(io: &net::UnixDatagram, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
    io.recv_from(buffer).or_else(|error| {
        check_end(io, error)?;
        let nobody = SocketAddr::from_pathname("")?;
        Ok((0, nobody))
    })
}

/// Whether a receive has failed because its direction has ended: then a blocking one gives 0, but a non-blocking one
/// gives `EAGAIN`, again and again. (Linux, net/unix/af_unix.c: `__unix_dgram_recvmsg`.)
///
/// # Errors
///
/// The receive's, if it has another reason.
fn check_end(io: &net::UnixDatagram, error: io::Error) -> io::Result<()> {
    let mut descriptors = [PollFd::new(io, PollFlags::RDHUP)];
    if error.kind() == ErrorKind::WouldBlock {
        retry_on_intr(|| poll(&mut descriptors, Some(&Timespec::default())))?;
    }
    match descriptors[0].revents().contains(PollFlags::RDHUP) {
        true => Ok(()),
        false => Err(error),
    }
}
