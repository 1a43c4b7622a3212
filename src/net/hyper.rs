//! Streams as hyper's input and output.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};

use super::tcp_stream::TcpStream;
use super::unix_stream::UnixStream;

macro_rules! hyper_traits {
    ($name:ident) => {
        impl Read for $name {
            fn poll_read(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                mut cursor: ReadBufCursor<'_>,
            ) -> Poll<io::Result<()>> {
                // SAFETY: S8, it is written to only.
                let unfilled = unsafe { cursor.as_mut() };
                let length = ready!(self.socket.poll_read_uninit(context, unfilled))?;
                // SAFETY: S8, the kernel has written so many.
                unsafe { cursor.advance(length) };
                Poll::Ready(Ok(()))
            }
        }

        impl Write for $name {
            fn poll_write(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                buffer: &[u8],
            ) -> Poll<io::Result<usize>> {
                $name::poll_write(&self, context, buffer)
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                buffers: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                $name::poll_write_vectored(&self, context, buffers)
            }

            fn is_write_vectored(&self) -> bool {
                true
            }

            fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }

            fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(self.shutdown(Shutdown::Write))
            }
        }
    };
}

hyper_traits!(TcpStream);
hyper_traits!(UnixStream);
