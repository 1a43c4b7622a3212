//! [`UdpSocket`]: a socket for UDP datagrams.

use std::io;
use std::net::{self, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::task::{Context, Poll};

use super::methods::{datagram_methods, timeout_methods, ttl_methods};
use super::resolve::{first_of, resolve_one};
use super::socket::{Socket, socket_traits};
use crate::io::unknown;
use crate::source::Side;

/// A socket for UDP datagrams, as [`std::net::UdpSocket`]. What would block suspends the coroutine; on a plain thread it
/// blocks the thread.
///
/// All calls take `&UdpSocket`, so several coroutines may send and receive at the same time. Of several that receive
/// from the same socket each gets some of the datagrams.
///
/// # Examples
///
/// ```
/// use coro::net::UdpSocket;
///
/// let server = UdpSocket::bind("127.0.0.1:0")?;
/// let address = server.local_addr()?;
/// coro::go(move || {
///     let mut buffer = [0; 1500];
///     loop {
///         let (length, client) = server.recv_from(&mut buffer)?;
///         server.send_to(&buffer[..length], client)?;
///     }
///     # #[allow(unreachable_code)]
///     # std::io::Result::Ok(())
/// });
/// let client = UdpSocket::bind("127.0.0.1:0")?;
/// client.send_to(b"hello", address)?;
/// let mut echo = [0; 16];
/// assert_eq!(client.recv_from(&mut echo)?, (5, address));
/// assert_eq!(&echo[..5], b"hello");
/// # std::io::Result::Ok(())
/// ```
pub struct UdpSocket {
    socket: Socket<net::UdpSocket>,
}

socket_traits!(UdpSocket, net::UdpSocket);

impl UdpSocket {
    /// A socket that has the first of these addresses for which that succeeds. Port 0 is one that the system chooses. A
    /// name is looked up as by [`blocking`](crate::blocking()).
    ///
    /// # Errors
    ///
    /// What the look-up says, and what the kernel has said of the last address. `InvalidInput`: there was no address.
    ///
    /// # Examples
    ///
    /// ```
    /// let socket = coro::net::UdpSocket::bind("127.0.0.1:0")?;
    /// assert_ne!(socket.local_addr()?.port(), 0);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn bind(address: impl ToSocketAddrs + Send) -> io::Result<UdpSocket> {
        let bind = |address| Socket::new(net::UdpSocket::bind::<SocketAddr>(address)?);
        Ok(UdpSocket { socket: first_of(address, bind)? })
    }

    /// From now on, [`send`](UdpSocket::send) sends to the first of these addresses for which that succeeds, and only
    /// its datagrams are received. A name is looked up as by [`blocking`](crate::blocking()).
    ///
    /// # Errors
    ///
    /// As [`bind`](UdpSocket::bind).
    ///
    /// # Examples
    ///
    /// ```
    /// # use coro::net::UdpSocket;
    /// let (one, other) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    /// one.connect(("localhost", other.local_addr()?.port()))?;
    /// assert_eq!(one.peer_addr()?, other.local_addr()?);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn connect(&self, address: impl ToSocketAddrs + Send) -> io::Result<()> {
        first_of(address, |address| self.socket.io().connect(address))
    }

    datagram_methods!(
        SocketAddr,
        net::UdpSocket::recv,
        net::UdpSocket::recv_from,
        r#"# use coro::net::UdpSocket;
let (one, other) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
one.connect(other.local_addr()?)?;"#
    );

    /// Receives a datagram, and leaves it to be received once more.
    ///
    /// # Errors
    ///
    /// As [`recv`](UdpSocket::recv).
    ///
    /// # Panics
    ///
    /// As [`recv`](UdpSocket::recv).
    ///
    /// # Examples
    ///
    /// ```
    /// # use coro::net::UdpSocket;
    /// let (one, other) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    /// one.send_to(b"hello", other.local_addr()?)?;
    /// let mut buffer = [0; 16];
    /// assert_eq!(other.peek(&mut buffer)?, 5);
    /// assert_eq!(other.peek_from(&mut buffer)?, (5, one.local_addr()?));
    /// assert_eq!(other.recv(&mut buffer)?, 5);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.run(Side::Read, |io| io.peek(buffer), unknown)
    }

    /// As [`peek`](UdpSocket::peek); gives also the address of the sender.
    ///
    /// # Errors
    ///
    /// As [`recv`](UdpSocket::recv).
    ///
    /// # Panics
    ///
    /// As [`recv`](UdpSocket::recv).
    ///
    /// # Examples
    ///
    /// See [`peek`](UdpSocket::peek).
    pub fn peek_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.socket.run(Side::Read, |io| io.peek_from(buffer), unknown)
    }

    /// Sends a datagram to this address, or to the first of several. A name is looked up as by
    /// [`blocking`](crate::blocking()), each time.
    ///
    /// # Errors
    ///
    /// What the look-up and the kernel say; `InvalidInput` if there is no address; `WouldBlock` when the
    /// [write timeout](UdpSocket::set_write_timeout) is over.
    ///
    /// # Panics
    ///
    /// As [`recv`](UdpSocket::recv).
    ///
    /// # Examples
    ///
    /// See [`UdpSocket`].
    pub fn send_to(&self, buffer: &[u8], address: impl ToSocketAddrs + Send) -> io::Result<usize> {
        let address = resolve_one(address)?;
        self.socket.run(Side::Write, |io| io.send_to(buffer, address), unknown)
    }

    /// As [`send_to`](UdpSocket::send_to), for futures; otherwise as [`poll_send`](UdpSocket::poll_send).
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// # Examples
    ///
    /// ```
    /// # use coro::net::UdpSocket;
    /// let (one, other) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    /// let address = other.local_addr()?;
    /// let sent = std::future::poll_fn(|context| one.poll_send_to(context, b"hello", address));
    /// assert_eq!(coro::wait(sent)?, 5);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn poll_send_to(
        &self,
        context: &mut Context<'_>,
        buffer: &[u8],
        address: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        self.socket.poll(Side::Write, context, |io| io.send_to(buffer, address), unknown)
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
    /// let socket = coro::net::UdpSocket::bind("127.0.0.1:0")?;
    /// assert_eq!(socket.try_clone()?.local_addr()?, socket.local_addr()?);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn try_clone(&self) -> io::Result<UdpSocket> {
        Ok(UdpSocket { socket: self.socket.try_clone(net::UdpSocket::try_clone)? })
    }

    /// The address of this socket.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// # Examples
    ///
    /// See [`bind`](UdpSocket::bind).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.io().local_addr()
    }

    /// The address that it is [connected](UdpSocket::connect) to.
    ///
    /// # Errors
    ///
    /// What the kernel says, `NotConnected` among it.
    ///
    /// # Examples
    ///
    /// See [`connect`](UdpSocket::connect).
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket.io().peer_addr()
    }

    timeout_methods!(
        std::net::UdpSocket,
        r#"let socket = coro::net::UdpSocket::bind("127.0.0.1:0")?;"#,
        "socket.recv(&mut [0])"
    );

    ttl_methods!(
        std::net::UdpSocket,
        r#"let socket = coro::net::UdpSocket::bind("127.0.0.1:0")?;"#
    );

    /// As [`std::net::UdpSocket::set_broadcast`].
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// # Examples
    ///
    /// ```
    /// let socket = coro::net::UdpSocket::bind("127.0.0.1:0")?;
    /// socket.set_broadcast(true)?;
    /// assert!(socket.broadcast()?);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn set_broadcast(&self, broadcast: bool) -> io::Result<()> {
        self.socket.io().set_broadcast(broadcast)
    }

    /// As [`std::net::UdpSocket::broadcast`].
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// # Examples
    ///
    /// See [`set_broadcast`](UdpSocket::set_broadcast).
    pub fn broadcast(&self) -> io::Result<bool> {
        self.socket.io().broadcast()
    }

    /// As [`std::net::UdpSocket::join_multicast_v4`].
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::net::Ipv4Addr;
    ///
    /// let socket = coro::net::UdpSocket::bind("0.0.0.0:0")?;
    /// let group = Ipv4Addr::new(224, 0, 0, 200);
    /// socket.join_multicast_v4(&group, &Ipv4Addr::LOCALHOST)?;
    /// socket.leave_multicast_v4(&group, &Ipv4Addr::LOCALHOST)?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn join_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.socket.io().join_multicast_v4(group, interface)
    }

    /// As [`std::net::UdpSocket::leave_multicast_v4`].
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// # Examples
    ///
    /// See [`join_multicast_v4`](UdpSocket::join_multicast_v4).
    pub fn leave_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.socket.io().leave_multicast_v4(group, interface)
    }

    /// As [`std::net::UdpSocket::set_multicast_loop_v4`].
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// # Examples
    ///
    /// ```
    /// let socket = coro::net::UdpSocket::bind("127.0.0.1:0")?;
    /// socket.set_multicast_loop_v4(false)?;
    /// assert!(!socket.multicast_loop_v4()?);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn set_multicast_loop_v4(&self, multicast_loop: bool) -> io::Result<()> {
        self.socket.io().set_multicast_loop_v4(multicast_loop)
    }

    /// As [`std::net::UdpSocket::multicast_loop_v4`].
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// # Examples
    ///
    /// See [`set_multicast_loop_v4`](UdpSocket::set_multicast_loop_v4).
    pub fn multicast_loop_v4(&self) -> io::Result<bool> {
        self.socket.io().multicast_loop_v4()
    }

    /// As [`std::net::UdpSocket::set_multicast_ttl_v4`].
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// # Examples
    ///
    /// ```
    /// let socket = coro::net::UdpSocket::bind("127.0.0.1:0")?;
    /// socket.set_multicast_ttl_v4(4)?;
    /// assert_eq!(socket.multicast_ttl_v4()?, 4);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn set_multicast_ttl_v4(&self, ttl: u32) -> io::Result<()> {
        self.socket.io().set_multicast_ttl_v4(ttl)
    }

    /// As [`std::net::UdpSocket::multicast_ttl_v4`].
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// # Examples
    ///
    /// See [`set_multicast_ttl_v4`](UdpSocket::set_multicast_ttl_v4).
    pub fn multicast_ttl_v4(&self) -> io::Result<u32> {
        self.socket.io().multicast_ttl_v4()
    }

    /// As [`std::net::UdpSocket::join_multicast_v6`].
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// # Examples
    ///
    /// ```
    /// # if coro::net::UdpSocket::bind("[::1]:0").is_err() { return Ok(()) } // there is no IPv6
    /// let socket = coro::net::UdpSocket::bind("[::]:0")?;
    /// let group = "ff02::123".parse().unwrap();
    /// socket.join_multicast_v6(&group, 1)?;
    /// socket.leave_multicast_v6(&group, 1)?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn join_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.socket.io().join_multicast_v6(group, interface)
    }

    /// As [`std::net::UdpSocket::leave_multicast_v6`].
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// # Examples
    ///
    /// See [`join_multicast_v6`](UdpSocket::join_multicast_v6).
    pub fn leave_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.socket.io().leave_multicast_v6(group, interface)
    }

    /// As [`std::net::UdpSocket::set_multicast_loop_v6`].
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// # Examples
    ///
    /// ```
    /// # if coro::net::UdpSocket::bind("[::1]:0").is_err() { return Ok(()) } // there is no IPv6
    /// let socket = coro::net::UdpSocket::bind("[::1]:0")?;
    /// socket.set_multicast_loop_v6(false)?;
    /// assert!(!socket.multicast_loop_v6()?);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn set_multicast_loop_v6(&self, multicast_loop: bool) -> io::Result<()> {
        self.socket.io().set_multicast_loop_v6(multicast_loop)
    }

    /// As [`std::net::UdpSocket::multicast_loop_v6`].
    ///
    /// # Errors
    ///
    /// What the kernel says.
    ///
    /// # Examples
    ///
    /// See [`set_multicast_loop_v6`](UdpSocket::set_multicast_loop_v6).
    pub fn multicast_loop_v6(&self) -> io::Result<bool> {
        self.socket.io().multicast_loop_v6()
    }
}
