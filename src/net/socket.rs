//! What all sockets have in common: one of std's, non-blocking, with limits in time of its own.

use std::io;
use std::net;
use std::os::fd::AsFd;
use std::os::unix;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustix::io::ioctl_fionbio;
use rustix::net::{RecvFlags, SendFlags};

use super::retry::retry;
use crate::io::{Drained, Limit, Pollable, short};
use crate::source::Side;

/// A socket of std's that does not block its thread.
pub(super) struct Socket<T> {
    pollable: Pollable<T>,
    /// The limits of reads and of writes.
    timeouts: [Timeout; 2],
    /// The user wants `WouldBlock` in place of waits.
    is_nonblocking: AtomicBool,
}

/// A limit in time, in nanoseconds; 0: none.
#[derive(Default)]
struct Timeout(AtomicU64);

impl Timeout {
    fn get(&self) -> Option<Duration> {
        let nanos = self.0.load(Ordering::Relaxed);
        (nanos > 0).then(|| Duration::from_nanos(nanos))
    }

    fn set(&self, limit: Option<Duration>) -> io::Result<()> {
        if limit == Some(Duration::ZERO) {
            return Err(zero_timeout());
        }
        // What is too long to be counted, 584 years, is no limit.
        let nanos = limit.map_or(0, |limit| u64::try_from(limit.as_nanos()).unwrap_or(0));
        self.0.store(nanos, Ordering::Relaxed);
        Ok(())
    }
}

fn zero_timeout() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "a timeout is longer than zero")
}

impl<T: AsFd> Socket<T> {
    /// Takes a socket, and makes it non-blocking.
    ///
    /// # Errors
    ///
    /// What the kernel says if it refuses, and `OutOfMemory`.
    pub(super) fn new(io: T) -> io::Result<Socket<T>> {
        ioctl_fionbio(&io, true)?;
        Socket::of_nonblocking(io)
    }

    /// Takes a socket that is non-blocking.
    ///
    /// # Errors
    ///
    /// `OutOfMemory`.
    pub(super) fn of_nonblocking(io: T) -> io::Result<Socket<T>> {
        let pollable = Pollable::new(io)?;
        let timeouts = Default::default();
        Ok(Socket { pollable, timeouts, is_nonblocking: AtomicBool::new(false) })
    }

    /// Another socket of the same connection, as `duplicate` makes it, with the same limits.
    pub(super) fn try_clone(
        &self,
        duplicate: impl FnOnce(&T) -> io::Result<T>,
    ) -> io::Result<Socket<T>> {
        let clone = Socket::of_nonblocking(duplicate(self.io())?)?;
        for (timeout, own) in clone.timeouts.iter().zip(&self.timeouts) {
            timeout.set(own.get())?;
        }
        clone.set_nonblocking(self.is_nonblocking.load(Ordering::Relaxed));
        Ok(clone)
    }

    pub(super) fn io(&self) -> &T {
        self.pollable.io()
    }

    /// Gives back the socket, which blocks again.
    ///
    /// # Errors
    ///
    /// What the kernel says if it refuses. The socket is closed then.
    pub(super) fn into_std(self) -> io::Result<T> {
        let io = self.pollable.into_io();
        ioctl_fionbio(&io, false)?;
        Ok(io)
    }

    pub(super) fn timeout(&self, side: Side) -> Option<Duration> {
        self.timeouts[side as usize].get()
    }

    /// # Errors
    ///
    /// `InvalidInput` for zero.
    pub(super) fn set_timeout(&self, side: Side, limit: Option<Duration>) -> io::Result<()> {
        self.timeouts[side as usize].set(limit)
    }

    pub(super) fn set_nonblocking(&self, is_nonblocking: bool) {
        self.is_nonblocking.store(is_nonblocking, Ordering::Relaxed);
    }

    fn limit(&self, side: Side) -> Limit {
        match self.timeout(side) {
            _ if self.is_nonblocking.load(Ordering::Relaxed) => Limit::Zero,
            Some(limit) => Limit::For(limit),
            None => Limit::Endless,
        }
    }

    /// Does `operation`, and waits as long as it would block.
    #[inline]
    pub(super) fn run<R>(
        &self,
        side: Side,
        operation: impl FnMut(&T) -> io::Result<R>,
        drained: impl Drained<R>,
    ) -> io::Result<R> {
        self.pollable.run(side, self.limit(side), operation, drained)
    }

    /// As [`run`](Socket::run), where no event tells when to try again.
    pub(super) fn run_with_sleeps<R>(
        &self,
        side: Side,
        mut operation: impl FnMut(&T) -> io::Result<R>,
    ) -> io::Result<R> {
        retry(self.limit(side), || operation(self.io()))
    }

    /// As [`run`](Socket::run), for a future.
    #[inline]
    pub(super) fn poll<R>(
        &self,
        side: Side,
        context: &Context<'_>,
        operation: impl FnMut(&T) -> io::Result<R>,
        drained: impl Drained<R>,
    ) -> Poll<io::Result<R>> {
        self.pollable.poll(side, context, operation, drained)
    }

    /// Waits until a side is ready; false: `deadline` has come before.
    pub(super) fn wait(&self, side: Side, deadline: Option<Instant>) -> io::Result<bool> {
        self.pollable.wait(side, deadline)
    }
}

/// A stream of std's.
pub(super) trait StdStream: AsFd {
    /// A read that gives less than it could take has left nothing.
    const SHORT_READ_DRAINS: bool;
}

impl StdStream for net::TcpStream {
    /// A read also stops short of urgent data, but that comes with an event of its own.
    const SHORT_READ_DRAINS: bool = true;
}

impl StdStream for unix::net::UnixStream {
    /// A read also ends with bytes that descriptors were sent with, and where the sender's credentials change.
    const SHORT_READ_DRAINS: bool = false;
}

impl<T: StdStream> Socket<T> {
    fn drained(side: Side, length: usize) -> impl Drained<usize> {
        let is_short = short(length);
        move |done: &usize| (side == Side::Write || T::SHORT_READ_DRAINS) && is_short(done)
    }

    /// Does `operation`, which moves up to so many bytes.
    #[inline]
    pub(super) fn transfer(
        &self,
        side: Side,
        length: usize,
        operation: impl FnMut(&T) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if length == 0 {
            // No system call is needed to see that, nor readiness.
            return Ok(0);
        }
        self.run(side, operation, Self::drained(side, length))
    }

    /// As [`transfer`](Socket::transfer), for a future.
    #[inline]
    pub(super) fn poll_transfer(
        &self,
        side: Side,
        context: &Context<'_>,
        length: usize,
        operation: impl FnMut(&T) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        if length == 0 {
            return Poll::Ready(Ok(0));
        }
        self.poll(side, context, operation, Self::drained(side, length))
    }

    /// Reads, for a future, into memory that need not be initialised. As many bytes at its start as this gives are
    /// initialised afterwards.
    #[cfg(any(feature = "hyper", feature = "tokio"))]
    pub(super) fn poll_read_uninit(
        &self,
        context: &Context<'_>,
        buffer: &mut [std::mem::MaybeUninit<u8>],
    ) -> Poll<io::Result<usize>> {
        use rustix::net::{RecvFlags, recv};

        let length = buffer.len();
        self.poll_transfer(Side::Read, context, length, |io| {
            let ((initialised, _), _) = recv(io, &mut *buffer, RecvFlags::empty())?;
            Ok(initialised.len())
        })
    }
}

/// How long it is until `limit` is over.
///
/// # Errors
///
/// `InvalidInput` for zero.
pub(super) fn deadline_after(limit: Duration) -> io::Result<Option<Instant>> {
    match limit.is_zero() {
        true => Err(zero_timeout()),
        false => Ok(Instant::now().checked_add(limit)),
    }
}

/// Reads what is there. The C library's `recv` would look, before and after, whether the thread is to be cancelled.
#[inline]
pub(super) fn recv(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::net::recv(socket, buffer, RecvFlags::empty())?.0)
}

/// Writes what there is room for, and raises no `SIGPIPE`. As for [`recv`].
#[inline]
pub(super) fn send(socket: impl AsFd, buffer: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(socket, buffer, SendFlags::NOSIGNAL)?)
}

/// The traits by which a socket is taken for a descriptor, and goes from and to std's type.
macro_rules! socket_traits {
    ($name:ident, $std:ty) => {
        impl std::os::fd::AsFd for $name {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                self.socket.io().as_fd()
            }
        }

        impl std::os::fd::AsRawFd for $name {
            fn as_raw_fd(&self) -> std::os::fd::RawFd {
                self.socket.io().as_raw_fd()
            }
        }

        /// Makes it non-blocking. A plain `Socket` of that kind is expected; others fail at their first use.
        ///
        /// # Panics
        ///
        /// When the kernel refuses, or when there is no memory.
        impl From<std::os::fd::OwnedFd> for $name {
            #[track_caller]
            fn from(fd: std::os::fd::OwnedFd) -> $name {
                $name::from(<$std>::from(fd))
            }
        }

        /// Makes it non-blocking.
        ///
        /// # Panics
        ///
        /// When the kernel refuses, or when there is no memory.
        impl From<$std> for $name {
            #[track_caller]
            fn from(io: $std) -> $name {
                match $crate::net::socket::Socket::new(io) {
                    Ok(socket) => $name { socket },
                    Err(error) => panic!("a socket cannot be used: {error}"),
                }
            }
        }

        /// It blocks again.
        ///
        /// # Panics
        ///
        /// When the kernel refuses.
        impl From<$name> for $std {
            #[track_caller]
            fn from(socket: $name) -> $std {
                match socket.socket.into_std() {
                    Ok(io) => io,
                    Err(error) => panic!("a socket cannot be made blocking: {error}"),
                }
            }
        }

        /// It blocks again.
        ///
        /// # Panics
        ///
        /// When the kernel refuses.
        impl From<$name> for std::os::fd::OwnedFd {
            #[track_caller]
            fn from(socket: $name) -> std::os::fd::OwnedFd {
                <$std>::from(socket).into()
            }
        }

        impl std::os::fd::FromRawFd for $name {
            unsafe fn from_raw_fd(fd: std::os::fd::RawFd) -> $name {
                // SAFETY: S8, the caller's word: it is open and the caller's to give away.
                $name::from(unsafe {
                    <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd)
                })
            }
        }

        impl std::os::fd::IntoRawFd for $name {
            fn into_raw_fd(self) -> std::os::fd::RawFd {
                std::os::fd::OwnedFd::from(self).into_raw_fd()
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.socket.io().fmt(f)
            }
        }
    };
}

/// Reading and writing, of a stream.
macro_rules! stream_traits {
    ($name:ident) => {
        impl $crate::io::Transfer for $name {
            fn read_some(&self, buffer: &mut [u8]) -> std::io::Result<usize> {
                std::io::Read::read(&mut &*self, buffer)
            }

            fn write_some(&self, buffer: &[u8]) -> std::io::Result<usize> {
                std::io::Write::write(&mut &*self, buffer)
            }

            fn read_by(
                &self,
                operation: &mut dyn FnMut() -> std::io::Result<usize>,
            ) -> std::io::Result<usize> {
                self.socket.run(Side::Read, |_| operation(), $crate::io::unknown)
            }

            fn write_by(
                &self,
                operation: &mut dyn FnMut() -> std::io::Result<usize>,
            ) -> std::io::Result<usize> {
                self.socket.run(Side::Write, |_| operation(), $crate::io::unknown)
            }
        }

        impl std::io::Read for &$name {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                let length = buffer.len();
                self.socket.transfer(Side::Read, length, |io| $crate::net::socket::recv(io, buffer))
            }

            fn read_vectored(
                &mut self,
                buffers: &mut [std::io::IoSliceMut<'_>],
            ) -> std::io::Result<usize> {
                let length = buffers.iter().map(|buffer| buffer.len()).sum();
                self.socket.transfer(Side::Read, length, |mut io| io.read_vectored(buffers))
            }
        }

        impl std::io::Read for $name {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                (&*self).read(buffer)
            }

            fn read_vectored(
                &mut self,
                buffers: &mut [std::io::IoSliceMut<'_>],
            ) -> std::io::Result<usize> {
                (&*self).read_vectored(buffers)
            }
        }

        impl std::io::Write for &$name {
            fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
                let length = buffer.len();
                self.socket
                    .transfer(Side::Write, length, |io| $crate::net::socket::send(io, buffer))
            }

            fn write_vectored(
                &mut self,
                buffers: &[std::io::IoSlice<'_>],
            ) -> std::io::Result<usize> {
                let length = buffers.iter().map(|buffer| buffer.len()).sum();
                self.socket.transfer(Side::Write, length, |mut io| io.write_vectored(buffers))
            }

            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }

        impl std::io::Write for $name {
            fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
                (&*self).write(buffer)
            }

            fn write_vectored(
                &mut self,
                buffers: &[std::io::IoSlice<'_>],
            ) -> std::io::Result<usize> {
                (&*self).write_vectored(buffers)
            }

            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
    };
}

pub(super) use {socket_traits, stream_traits};
