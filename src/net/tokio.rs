//! Streams, and their halves, as tokio's input and output.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::halves::{ReadHalf, WriteHalf};
use super::tcp_stream::TcpStream;
use super::unix_stream::UnixStream;

/// `$stream` is the stream of `$this`, which is a `&$name`.
macro_rules! read_trait {
    ($name:ty, $this:ident => $stream:expr) => {
        impl AsyncRead for $name {
            fn poll_read(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                buffer: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                let $this = &*self;
                // SAFETY: S8, it is written to only.
                let unfilled = unsafe { buffer.unfilled_mut() };
                let length = ready!($stream.socket.poll_read_uninit(context, unfilled))?;
                // SAFETY: S8, the kernel has written so many.
                unsafe { buffer.assume_init(length) };
                buffer.advance(length);
                Poll::Ready(Ok(()))
            }
        }
    };
}

macro_rules! write_trait {
    ($name:ty, $this:ident => $stream:expr) => {
        impl AsyncWrite for $name {
            fn poll_write(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                buffer: &[u8],
            ) -> Poll<io::Result<usize>> {
                let $this = &*self;
                $stream.poll_write(context, buffer)
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                buffers: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                let $this = &*self;
                $stream.poll_write_vectored(context, buffers)
            }

            fn is_write_vectored(&self) -> bool {
                true
            }

            fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }

            fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                let $this = &*self;
                Poll::Ready($stream.shutdown(Shutdown::Write))
            }
        }
    };
}

macro_rules! tokio_traits {
    ($stream:ident) => {
        read_trait!($stream, stream => stream);
        write_trait!($stream, stream => stream);
        read_trait!(ReadHalf<$stream>, half => half.get_ref());
        write_trait!(WriteHalf<$stream>, half => half.get_ref());
    };
}

tokio_traits!(TcpStream);
tokio_traits!(UnixStream);
