//! The two directions of a connection, for two coroutines.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;

/// A connection whose directions can be ended one by one. It is for this crate's own.
///
/// # Examples
///
/// ```
/// fn is_stream<S: coro::net::Stream>() {}
/// is_stream::<coro::net::TcpStream>();
/// is_stream::<coro::net::UnixStream>();
/// ```
pub trait Stream: Sized {
    #[doc(hidden)]
    fn shutdown(&self, how: Shutdown) -> io::Result<()>;
}

/// The direction from which one reads; made by [`TcpStream::split`](super::TcpStream::split) and
/// [`UnixStream::split`](super::UnixStream::split). The connection is closed when both halves are dropped.
///
/// # Examples
///
/// See [`TcpStream::split`](super::TcpStream::split).
pub struct ReadHalf<S> {
    stream: Arc<S>,
}

/// The direction to which one writes; made by [`TcpStream::split`](super::TcpStream::split) and
/// [`UnixStream::split`](super::UnixStream::split). When it is dropped, the peer reads the end.
///
/// # Examples
///
/// See [`TcpStream::split`](super::TcpStream::split).
pub struct WriteHalf<S: Stream> {
    /// Taken by [`ReadHalf::unsplit`].
    stream: Option<Arc<S>>,
}

const TAKEN_AT_THE_END: &str = "it is taken by `unsplit`";

pub(super) fn split<S: Stream>(stream: S) -> (ReadHalf<S>, WriteHalf<S>) {
    let stream = Arc::new(stream);
    (ReadHalf { stream: Arc::clone(&stream) }, WriteHalf { stream: Some(stream) })
}

impl<S: Stream> ReadHalf<S> {
    /// The connection, for what concerns both directions.
    ///
    /// # Examples
    ///
    /// ```
    /// # use coro::net::{TcpListener, TcpStream};
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let (reader, writer) = TcpStream::connect(listener.local_addr()?)?.split();
    /// assert_eq!(reader.get_ref().local_addr()?, writer.get_ref().local_addr()?);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// Makes one of the two halves again.
    ///
    /// # Errors
    ///
    /// Both halves, if they are not of the same connection.
    ///
    /// # Examples
    ///
    /// ```
    /// # use coro::net::{TcpListener, TcpStream};
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let (reader, writer) = TcpStream::connect(listener.local_addr()?)?.split();
    /// let _stream: TcpStream = reader.unsplit(writer).unwrap();
    /// # std::io::Result::Ok(())
    /// ```
    pub fn unsplit(self, mut writer: WriteHalf<S>) -> Result<S, (ReadHalf<S>, WriteHalf<S>)> {
        if !Arc::ptr_eq(&self.stream, writer.stream.as_ref().expect(TAKEN_AT_THE_END)) {
            return Err((self, writer));
        }
        drop(writer.stream.take());
        Ok(Arc::into_inner(self.stream).expect("there are two halves"))
    }
}

impl<S: Stream> WriteHalf<S> {
    /// The connection, for what concerns both directions.
    ///
    /// # Examples
    ///
    /// See [`ReadHalf::get_ref`].
    pub fn get_ref(&self) -> &S {
        self.stream.as_ref().expect(TAKEN_AT_THE_END)
    }
}

impl<S: Stream> Drop for WriteHalf<S> {
    fn drop(&mut self) {
        if let Some(stream) = &self.stream {
            // It is refused where the connection is gone, and then the peer knows.
            let _ = stream.shutdown(Shutdown::Write);
        }
    }
}

impl<S> Read for ReadHalf<S>
where
    for<'a> &'a S: Read,
{
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self.stream).read(buffer)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self.stream).read_vectored(buffers)
    }
}

impl<S: Stream> Write for WriteHalf<S>
where
    for<'a> &'a S: Write,
{
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.get_ref().write(buffer)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.get_ref().write_vectored(buffers)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.get_ref().flush()
    }
}

impl<S: fmt::Debug> fmt::Debug for ReadHalf<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReadHalf").field(&self.stream).finish()
    }
}

impl<S: Stream + fmt::Debug> fmt::Debug for WriteHalf<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WriteHalf").field(self.get_ref()).finish()
    }
}
