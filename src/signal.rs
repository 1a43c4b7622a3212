//! Waiting for the signals that a process is sent, by the `signal-hook` crate.
//!
//! A signal that is waited for here does what it does by default no more, from the first time on until the process ends.
//! So a server that waits for [`ctrl_c`] can end gracefully.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use signal_hook::consts::{FORBIDDEN, SIGINT};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

use crate::base::lock::lock;
use crate::io::wait_readable;

/// Waits until the process is interrupted: by ctrl-c at its terminal, or by a `SIGINT` from elsewhere.
///
/// An interruption that comes while nobody waits is lost; [`Signals`] keeps it.
///
/// # Errors
///
/// What the kernel says if it refuses the handler or a descriptor.
///
/// # Panics
///
/// Unwinds, without calling the panic hook, when the coroutine that waits is cancelled or a
/// [`timeout`](crate::timeout) around it elapses. In a [`no_suspend`](crate::no_suspend()).
///
/// # Examples
///
/// ```no_run
/// use std::time::Duration;
///
/// let listener = coro::net::TcpListener::bind("127.0.0.1:8080")?;
/// let server = coro::net::serve(listener, |stream, _| drop(stream));
/// coro::signal::ctrl_c()?;
/// server.shutdown(Duration::from_secs(10));
/// # std::io::Result::Ok(())
/// ```
pub fn ctrl_c() -> io::Result<()> {
    Signals::new([SIGINT])?.recv().map(drop)
}

/// Signals that the process is sent, one after another. Several of one kind that come before the first of them is
/// received are as one.
///
/// [`readable`](crate::select) waits for them in a `select!`.
///
/// # Examples
///
/// ```
/// use coro::signal::Signals;
///
/// let signals = Signals::new([libc::SIGUSR1, libc::SIGUSR2])?;
/// let received = coro::go(move || signals.recv());
/// // SAFETY: takes a number.
/// unsafe { libc::raise(libc::SIGUSR2) };
/// assert_eq!(received.join().unwrap()?, libc::SIGUSR2);
/// # std::io::Result::Ok(())
/// ```
pub struct Signals {
    /// Becomes readable when a signal comes.
    pipe: Arc<UnixStream>,
    delivery: Mutex<Delivery>,
}

struct Delivery {
    signals: SignalDelivery<Arc<UnixStream>, SignalOnly>,
    /// Those that have come and were not received.
    pending: VecDeque<i32>,
    /// The other end of the pipe, which each signal writes to.
    writer: UnixStream,
}

impl Signals {
    /// From now on these signals are received here, and do not do what they do by default. Others that have the same are
    /// told as well.
    ///
    /// # Errors
    ///
    /// `InvalidInput` where one of them cannot be waited for: `SIGKILL`, `SIGSTOP`, `SIGILL`, `SIGFPE`, `SIGSEGV`, and what
    /// is no signal. And what the kernel says if it refuses a handler or a descriptor.
    ///
    /// # Examples
    ///
    /// ```
    /// let refused = coro::signal::Signals::new([libc::SIGKILL]).unwrap_err();
    /// assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
    /// ```
    pub fn new(signals: impl IntoIterator<Item = i32>) -> io::Result<Signals> {
        // The handler is part of this program or library, which is not to be unloaded from here on.
        #[cfg(not(target_feature = "crt-static"))]
        crate::stack::keep_loaded();
        let signals: Vec<i32> = signals.into_iter().collect();
        if let Some(refused) = signals.iter().find(|signal| is_refused(**signal)) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("signal {refused} cannot be waited for"),
            ));
        }
        let (pipe, writer) = UnixStream::pair()?;
        writer.set_nonblocking(true)?;
        let (pipe, for_handler) = (Arc::new(pipe), writer.try_clone()?);
        let only = SignalOnly;
        let signals = SignalDelivery::with_pipe(Arc::clone(&pipe), for_handler, only, signals)?;
        let delivery = Delivery { signals, pending: VecDeque::new(), writer };
        Ok(Signals { pipe, delivery: Mutex::new(delivery) })
    }

    /// Waits for the next signal. Of several that wait, one receives it.
    ///
    /// # Errors
    ///
    /// As [`wait_readable`].
    ///
    /// # Panics
    ///
    /// As [`ctrl_c`].
    ///
    /// # Examples
    ///
    /// See [`Signals`].
    pub fn recv(&self) -> io::Result<i32> {
        loop {
            if let Some(signal) = self.try_recv() {
                return Ok(signal);
            }
            wait_readable(&self.pipe)?;
        }
    }

    /// A signal that has come and was not received.
    ///
    /// # Examples
    ///
    /// ```
    /// let signals = coro::signal::Signals::new([libc::SIGUSR1])?;
    /// assert_eq!(signals.try_recv(), None);
    /// // SAFETY: takes a number.
    /// unsafe { libc::raise(libc::SIGUSR1) };
    /// assert_eq!(signals.try_recv(), Some(libc::SIGUSR1));
    /// # std::io::Result::Ok(())
    /// ```
    pub fn try_recv(&self) -> Option<i32> {
        let Delivery { signals, pending, writer } = &mut *lock(&self.delivery);
        for signal in signals.pending() {
            if !pending.contains(&signal) {
                pending.push_back(signal);
            }
        }
        let signal = pending.pop_front();
        if !pending.is_empty() {
            // That has emptied the pipe, and whoever else waits for it is to come. If it is full, it is readable.
            let _ = writer.write(&[0]);
        }
        signal
    }
}

fn is_refused(signal: i32) -> bool {
    FORBIDDEN.contains(&signal) || !(1..=libc::SIGRTMAX()).contains(&signal)
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signals").finish_non_exhaustive()
    }
}
