//! Sockets that suspend the coroutine where those of [`std::net`] and [`std::os::unix::net`] block its thread, with the
//! same names, methods, traits and kinds of errors. On a plain thread they block the thread.
//!
//! The methods `poll_*` are for futures. With the feature `tokio`, the streams and their halves are
//! `tokio::io::{AsyncRead, AsyncWrite}`; with the feature `hyper`, the streams are `hyper::rt::{Read, Write}`.

mod resolve;
mod retry;
mod socket;

mod halves;
mod methods;

mod tcp_stream;
mod udp_socket;
mod unix_datagram;
mod unix_stream;

mod tcp_listener;
mod unix_listener;

mod serve;

#[cfg(feature = "hyper")]
mod hyper;
#[cfg(feature = "tokio")]
mod tokio;

pub use halves::{ReadHalf, Stream, WriteHalf};
pub use serve::{Server, serve};
pub use tcp_listener::{Incoming, TcpListener};
pub use tcp_stream::TcpStream;
pub use udp_socket::UdpSocket;
pub use unix_datagram::UnixDatagram;
pub use unix_listener::{UnixIncoming, UnixListener};
pub use unix_stream::UnixStream;
