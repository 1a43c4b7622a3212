//! [`Async`]: input and output on a descriptor of any kind.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::task::{Context, Poll};

use rustix::fs::{FileType, OFlags, fcntl_getfl, fcntl_setfl, fstat};

use super::pollable::{Limit, Pollable, unknown};
use crate::source::Side;

/// A descriptor whose reads and writes suspend the coroutine, and not its thread: a pipe, a terminal, a child's output,
/// an inotify or a timer descriptor, or the socket of another library. On a plain thread they block the thread. For
/// sockets of std's kinds see [`net`](crate::net).
///
/// # `O_NONBLOCK`
///
/// The descriptor is switched to non-blocking. That is a property of the open file, and so of everybody who shares it:
/// duplicates of the descriptor, and for a terminal the shell and other programs. [`into_inner`](Async::into_inner) and
/// the drop switch it back, if it was blocking before; where the process is killed, nobody does.
///
/// # Examples
///
/// ```
/// use coro::io::Async;
/// use std::io::{Read, Write};
///
/// let (reader, writer) = std::io::pipe()?;
/// let (reader, writer) = (Async::new(reader)?, Async::new(writer)?);
/// let echo = coro::go(move || {
///     let mut text = String::new();
///     (&reader).read_to_string(&mut text).map(|_| text)
/// });
/// (&writer).write_all(b"hello")?;
/// drop(writer);
/// assert_eq!(echo.join().unwrap()?, "hello");
/// # std::io::Result::Ok(())
/// ```
pub struct Async<T: AsFd> {
    /// Taken by [`into_inner`](Async::into_inner).
    pollable: Option<Pollable<T>>,
    /// It was blocking before.
    was_blocking: bool,
}

/// Of what is taken by the call that consumes the whole.
const TAKEN_AT_THE_END: &str = "it is taken by `into_inner`";

impl<T: AsFd> Async<T> {
    /// Takes `io`, and switches its descriptor to non-blocking. It borrows nothing, because an `Async` may be forgotten,
    /// and the descriptor is not to be closed then; to share what it takes, put that into an `Arc`.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a regular file, a directory and a block device, which are always ready and block nevertheless:
    /// use [`blocking`](crate::blocking()) for them. And what the kernel says if it refuses.
    ///
    /// # Examples
    ///
    /// ```
    /// use coro::io::Async;
    ///
    /// let (reader, _writer) = std::io::pipe()?;
    /// assert!(Async::new(reader).is_ok());
    ///
    /// let file = std::fs::File::open("Cargo.toml")?;
    /// let refused = Async::new(file).unwrap_err();
    /// assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn new(io: T) -> io::Result<Async<T>>
    where
        T: 'static,
    {
        let kind = match FileType::from_raw_mode(fstat(&io)?.st_mode) {
            FileType::RegularFile => Some("a regular file"),
            FileType::Directory => Some("a directory"),
            FileType::BlockDevice => Some("a block device"),
            _ => None,
        };
        if let Some(kind) = kind {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{kind} cannot be waited for; read and write it in `coro::blocking`"),
            ));
        }
        let flags = fcntl_getfl(&io)?;
        let was_blocking = !flags.contains(OFlags::NONBLOCK);
        let pollable = Pollable::new(io)?;
        if was_blocking {
            fcntl_setfl(pollable.io(), flags | OFlags::NONBLOCK)?;
        }
        Ok(Async { pollable: Some(pollable), was_blocking })
    }

    /// What was taken. A read or write on it does not block, and does not wait: it gives `WouldBlock`.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::Read;
    ///
    /// let (reader, _writer) = std::io::pipe()?;
    /// let reader = coro::io::Async::new(reader)?;
    /// let empty = reader.get_ref().read(&mut [0]).unwrap_err();
    /// assert_eq!(empty.kind(), std::io::ErrorKind::WouldBlock);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn get_ref(&self) -> &T {
        self.pollable().io()
    }

    fn pollable(&self) -> &Pollable<T> {
        self.pollable.as_ref().expect(TAKEN_AT_THE_END)
    }

    /// What was taken, to be changed.
    ///
    /// # Safety
    ///
    /// The descriptor stays the same, and open.
    ///
    /// # Examples
    ///
    /// ```
    /// let (reader, _writer) = std::io::pipe()?;
    /// let mut reader = coro::io::Async::new(reader)?;
    /// // SAFETY: it is looked at only.
    /// let _pipe: &mut std::io::PipeReader = unsafe { reader.get_mut() };
    /// # std::io::Result::Ok(())
    /// ```
    pub unsafe fn get_mut(&mut self) -> &mut T {
        // SAFETY: E2, the caller's word.
        unsafe { self.pollable.as_mut().expect(TAKEN_AT_THE_END).io_mut() }
    }

    /// Gives back what was taken, blocking if it was so before.
    ///
    /// # Errors
    ///
    /// What the kernel says if it refuses to switch it back. Then what was taken is dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// let (reader, _writer) = std::io::pipe()?;
    /// let reader = coro::io::Async::new(reader)?;
    /// let _pipe: std::io::PipeReader = reader.into_inner()?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn into_inner(mut self) -> io::Result<T> {
        let restored = self.restore();
        let pollable = self.pollable.take().expect(TAKEN_AT_THE_END);
        restored.map(|()| pollable.into_io())
    }

    /// Does `operation`, and waits as long as it would block.
    fn wait_and<R>(
        &mut self,
        side: Side,
        operation: impl FnMut(&mut T) -> io::Result<R>,
    ) -> io::Result<R>
    where
        T: IoSafe,
    {
        let pollable = self.pollable.as_mut().expect(TAKEN_AT_THE_END);
        // SAFETY: E2, it keeps its descriptor.
        unsafe { pollable.run_mut(side, operation) }
    }

    fn restore(&self) -> io::Result<()> {
        if self.was_blocking {
            let flags = fcntl_getfl(self.get_ref())?;
            fcntl_setfl(self.get_ref(), flags & !OFlags::NONBLOCK)?;
        }
        Ok(())
    }

    /// Waits until a read would not block.
    ///
    /// # Errors
    ///
    /// As [`wait_readable`](super::wait_readable).
    ///
    /// # Panics
    ///
    /// As [`wait_readable`](super::wait_readable).
    ///
    /// # Examples
    ///
    /// ```
    /// let (reader, writer) = std::io::pipe()?;
    /// drop(writer);
    /// coro::io::Async::new(reader)?.readable()?; // its end
    /// # std::io::Result::Ok(())
    /// ```
    pub fn readable(&self) -> io::Result<()> {
        super::wait_readable(self)
    }

    /// Waits until a write would not block.
    ///
    /// # Errors
    ///
    /// As [`wait_readable`](super::wait_readable).
    ///
    /// # Panics
    ///
    /// As [`wait_readable`](super::wait_readable).
    ///
    /// # Examples
    ///
    /// ```
    /// let (_reader, writer) = std::io::pipe()?;
    /// coro::io::Async::new(writer)?.writable()?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn writable(&self) -> io::Result<()> {
        super::wait_writable(self)
    }

    /// Does `operation`, which reads. When it gives `WouldBlock`, waits until a read would not block, and does it again.
    ///
    /// # Errors
    ///
    /// What `operation` says, and as [`wait_readable`](super::wait_readable).
    ///
    /// # Panics
    ///
    /// As [`wait_readable`](super::wait_readable).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::Read;
    ///
    /// let (reader, writer) = std::io::pipe()?;
    /// drop(writer);
    /// let reader = coro::io::Async::new(reader)?;
    /// assert_eq!(reader.read_with(|mut pipe| pipe.read(&mut [0]))?, 0);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn read_with<R>(&self, operation: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        self.pollable().run(Side::Read, Limit::Endless, operation, unknown)
    }

    /// Does `operation`, which writes. When it gives `WouldBlock`, waits until a write would not block, and does it
    /// again.
    ///
    /// # Errors
    ///
    /// What `operation` says, and as [`wait_readable`](super::wait_readable).
    ///
    /// # Panics
    ///
    /// As [`wait_readable`](super::wait_readable).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::Write;
    ///
    /// let (_reader, writer) = std::io::pipe()?;
    /// let writer = coro::io::Async::new(writer)?;
    /// assert_eq!(writer.write_with(|mut pipe| pipe.write(b"hello"))?, 5);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn write_with<R>(&self, operation: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        self.pollable().run(Side::Write, Limit::Endless, operation, unknown)
    }

    /// As [`read_with`](Async::read_with), for futures. Of several futures that poll one descriptor to read from it, the
    /// one that has polled last is woken.
    ///
    /// # Errors
    ///
    /// As [`read_with`](Async::read_with).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::Read;
    ///
    /// let (reader, writer) = std::io::pipe()?;
    /// drop(writer);
    /// let reader = coro::io::Async::new(reader)?;
    /// let end = std::future::poll_fn(|context| {
    ///     reader.poll_read_with(context, |mut pipe| pipe.read(&mut [0]))
    /// });
    /// assert_eq!(coro::wait(end)?, 0);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn poll_read_with<R>(
        &self,
        context: &mut Context<'_>,
        operation: impl FnMut(&T) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        self.pollable().poll(Side::Read, context, operation, unknown)
    }

    /// As [`write_with`](Async::write_with), for futures. Of several futures that poll one descriptor to write to it,
    /// the one that has polled last is woken.
    ///
    /// # Errors
    ///
    /// As [`write_with`](Async::write_with).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::Write;
    ///
    /// let (_reader, writer) = std::io::pipe()?;
    /// let writer = coro::io::Async::new(writer)?;
    /// let written = std::future::poll_fn(|context| {
    ///     writer.poll_write_with(context, |mut pipe| pipe.write(b"hello"))
    /// });
    /// assert_eq!(coro::wait(written)?, 5);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn poll_write_with<R>(
        &self,
        context: &mut Context<'_>,
        operation: impl FnMut(&T) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        self.pollable().poll(Side::Write, context, operation, unknown)
    }
}

impl<T: AsFd> Drop for Async<T> {
    fn drop(&mut self) {
        if self.pollable.is_some() {
            // If it is refused there is nobody to tell.
            let _ = self.restore();
        }
    }
}

impl<T: AsFd> AsFd for Async<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.get_ref().as_fd()
    }
}

impl<T: AsFd + fmt::Debug> fmt::Debug for Async<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Async").field(self.get_ref()).finish()
    }
}

impl<T: AsFd> Read for &Async<T>
where
    for<'a> &'a T: Read,
{
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        self.read_with(|mut io| io.read(buffer))
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.read_with(|mut io| io.read_vectored(buffers))
    }
}

impl<T: AsFd + IoSafe + Read> Read for Async<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        self.wait_and(Side::Read, |io| io.read(buffer))
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.wait_and(Side::Read, |io| io.read_vectored(buffers))
    }
}

impl<T: AsFd> Write for &Async<T>
where
    for<'a> &'a T: Write,
{
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        self.write_with(|mut io| io.write(buffer))
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.write_with(|mut io| io.write_vectored(buffers))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_with(|mut io| io.flush())
    }
}

impl<T: AsFd + IoSafe + Write> Write for Async<T> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        self.wait_and(Side::Write, |io| io.write(buffer))
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.wait_and(Side::Write, |io| io.write_vectored(buffers))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.wait_and(Side::Write, |io| io.flush())
    }
}

/// What keeps its descriptor, whatever is done to it by its own methods.
///
/// # Safety
///
/// No method of [`Read`], [`Write`] and [`AsFd`] closes the descriptor or puts another in its place.
///
/// # Examples
///
/// ```
/// use std::os::fd::{AsFd, BorrowedFd};
///
/// struct Terminal(std::fs::File);
///
/// impl AsFd for Terminal {
///     fn as_fd(&self) -> BorrowedFd<'_> {
///         self.0.as_fd()
///     }
/// }
///
/// // SAFETY: the file is never replaced.
/// unsafe impl coro::io::IoSafe for Terminal {}
/// ```
pub unsafe trait IoSafe {}

macro_rules! io_safe {
    ($($type:ty),* $(,)?) => {
        $(
            // SAFETY: E2, std's type keeps its descriptor.
            unsafe impl IoSafe for $type {}
        )*
    };
}

io_safe!(
    std::fs::File,
    std::io::PipeReader,
    std::io::PipeWriter,
    std::io::Stdin,
    std::io::Stdout,
    std::io::Stderr,
    std::net::TcpStream,
    std::os::unix::net::UnixStream,
    std::process::ChildStdin,
    std::process::ChildStdout,
    std::process::ChildStderr,
);

// SAFETY: E2, what it refers to cannot be replaced through it.
unsafe impl<T: ?Sized> IoSafe for &T {}
// SAFETY: E2, as for what is in it.
unsafe impl<T: IoSafe + ?Sized> IoSafe for Box<T> {}
// SAFETY: E2, what is in it cannot be replaced through it.
unsafe impl<T: ?Sized> IoSafe for std::sync::Arc<T> {}
