//! [`copy`]: from one descriptor to another.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::{Errno, read, write};
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};

use super::async_fd::Async;
use crate::base::signal_action;

/// What bytes can be copied from and to: a descriptor that waits by suspending the coroutine. It is for this crate's own.
///
/// # Examples
///
/// ```
/// fn may_be_copied<T: coro::io::Transfer>() {}
/// may_be_copied::<coro::net::TcpStream>();
/// may_be_copied::<coro::io::Async<std::io::PipeReader>>();
/// ```
pub trait Transfer: AsFd {
    #[doc(hidden)]
    fn read_some(&self, buffer: &mut [u8]) -> io::Result<usize>;

    #[doc(hidden)]
    fn write_some(&self, buffer: &[u8]) -> io::Result<usize>;

    /// Does `operation`, which reads. When it would block, waits, and does it again.
    #[doc(hidden)]
    fn read_by(&self, operation: &mut dyn FnMut() -> io::Result<usize>) -> io::Result<usize>;

    /// Does `operation`, which writes. When it would block, waits, and does it again.
    #[doc(hidden)]
    fn write_by(&self, operation: &mut dyn FnMut() -> io::Result<usize>) -> io::Result<usize>;
}

impl<T: AsFd> Transfer for Async<T> {
    fn read_some(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_with(|io| Ok(read(io, &mut *buffer)?))
    }

    fn write_some(&self, buffer: &[u8]) -> io::Result<usize> {
        self.write_with(|io| Ok(write(io, buffer)?))
    }

    fn read_by(&self, operation: &mut dyn FnMut() -> io::Result<usize>) -> io::Result<usize> {
        self.read_with(|_| operation())
    }

    fn write_by(&self, operation: &mut dyn FnMut() -> io::Result<usize>) -> io::Result<usize> {
        self.write_with(|_| operation())
    }
}

const BUFFER: usize = 16 << 10;
/// What a pipe holds, as the kernel makes it.
const PIPE: usize = 64 << 10;

/// Copies from one connection or pipe to another until the end comes, and gives how many bytes that were.
///
/// Once there is more than a buffer of 16 KiB at a time, the bytes stay in the kernel (`splice`), if it can do that and
/// has a pipe to spare. Not so in a program that ends at a `SIGPIPE`, which that may raise; those of Rust ignore it.
///
/// # Errors
///
/// What a read or a write says. What was read and not written by then is lost, as when an interruption unwinds.
///
/// # Panics
///
/// Unwinds, without calling the panic hook, when the coroutine that waits is cancelled or a
/// [`timeout`](crate::timeout) around it elapses. In a [`no_suspend`](crate::no_suspend()), where it would wait.
///
/// # Examples
///
/// ```
/// use coro::io::{Async, copy};
/// use std::io::{Read, Write};
///
/// let (reader, mut writer) = std::io::pipe()?;
/// let (mut last, middle) = std::io::pipe()?;
/// let (reader, middle) = (Async::new(reader)?, Async::new(middle)?);
/// let copied = coro::go(move || copy(&reader, &middle));
/// writer.write_all(b"hello")?;
/// drop(writer);
/// let mut text = String::new();
/// last.read_to_string(&mut text)?;
/// assert_eq!((copied.join().unwrap()?, &*text), (5, "hello"));
/// # std::io::Result::Ok(())
/// ```
pub fn copy(from: &impl Transfer, to: &impl Transfer) -> io::Result<u64> {
    let mut copied = 0;
    let mut buffer = [0; BUFFER];
    loop {
        let length = from.read_some(&mut buffer)?;
        if length == 0 {
            return Ok(copied);
        }
        write_all(to, &buffer[..length])?;
        copied += length as u64;
        if length == BUFFER
            && matches!(signal_action::is_default(libc::SIGPIPE), Ok(false))
            && let Ok((pipe_reader, pipe_writer)) = pipe_with(PipeFlags::CLOEXEC)
        {
            let pipe = Pipe { reader: pipe_reader, writer: pipe_writer };
            if pipe.copy(from, to, &mut copied)? {
                return Ok(copied);
            }
        }
    }
}

fn write_all(to: &impl Transfer, mut buffer: &[u8]) -> io::Result<()> {
    while !buffer.is_empty() {
        let written = to.write_some(buffer)?;
        buffer = &buffer[written..];
    }
    Ok(())
}

/// A pipe through which the kernel moves bytes.
struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl Pipe {
    /// Copies until the end. False: the kernel cannot do that with these two; the pipe is empty.
    fn copy(&self, from: &impl Transfer, to: &impl Transfer, copied: &mut u64) -> io::Result<bool> {
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        loop {
            let into = || splice(from, None, &self.writer, None, PIPE, flags);
            let length = match from.read_by(&mut || Ok(into()?)) {
                Ok(0) => return Ok(true),
                Ok(length) => length,
                Err(error) if is_refused(&error) => return Ok(false),
                Err(error) => return Err(error),
            };
            let mut moved = 0;
            while moved < length {
                let left = length - moved;
                let out_of = || splice(&self.reader, None, to, None, left, flags);
                match to.write_by(&mut || Ok(out_of()?)) {
                    Ok(length) => moved += length,
                    Err(error) if is_refused(&error) => {
                        self.drain(to, left)?;
                        *copied += length as u64;
                        return Ok(false);
                    }
                    Err(error) => return Err(error),
                }
            }
            *copied += length as u64;
        }
    }

    /// Writes what is left in the pipe by way of a buffer.
    fn drain(&self, to: &impl Transfer, mut left: usize) -> io::Result<()> {
        let mut buffer = [0; BUFFER];
        while left > 0 {
            let length = read(&self.reader, &mut buffer)?;
            write_all(to, &buffer[..length])?;
            left -= length;
        }
        Ok(())
    }
}

/// Whether the kernel says that these two do not go together, or that the call is not allowed, which tells nothing of
/// them. Should it have meant one of them, the read or the write that follows says so.
fn is_refused(error: &io::Error) -> bool {
    let refusals = [Errno::INVAL, Errno::NOSYS, Errno::PERM];
    refusals.iter().any(|refused| error.raw_os_error() == Some(refused.raw_os_error()))
}
