//! Why a value was not sent or not received. Named and shaped as those of the `crossbeam-channel` crate and of
//! [`std::sync::mpsc`].

use std::error::Error;
use std::fmt;

/// The channel is closed, or has no receiver left. The value comes back.
///
/// # Examples
///
/// ```
/// let (sender, receiver) = coro::chan::bounded(1);
/// drop(receiver);
/// assert_eq!(sender.send("word").unwrap_err().into_inner(), "word");
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SendError<T>(pub T);

/// Why [`try_send`](super::Sender::try_send) did not send. The value comes back.
///
/// # Examples
///
/// ```
/// use coro::chan::{TrySendError, bounded};
///
/// let (sender, _receiver) = bounded(1);
/// sender.try_send(1).unwrap();
/// assert_eq!(sender.try_send(2), Err(TrySendError::Full(2)));
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TrySendError<T> {
    /// There is no room, and no receiver waits.
    Full(T),
    /// The channel is closed, or has no receiver left.
    Disconnected(T),
}

/// Why [`send_timeout`](super::Sender::send_timeout) did not send. The value comes back.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use coro::chan::{SendTimeoutError, bounded};
///
/// let (sender, _receiver) = bounded(0);
/// let refused = sender.send_timeout(1, Duration::from_millis(1));
/// assert_eq!(refused, Err(SendTimeoutError::Timeout(1)));
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SendTimeoutError<T> {
    /// Nobody has made room in time.
    Timeout(T),
    /// The channel is closed, or has no receiver left.
    Disconnected(T),
}

/// The channel is empty, and closed or without a sender.
///
/// # Examples
///
/// ```
/// use coro::chan::{RecvError, bounded};
///
/// let (sender, receiver) = bounded(1);
/// sender.send(1).unwrap();
/// drop(sender);
/// assert_eq!(receiver.recv(), Ok(1));
/// assert_eq!(receiver.recv(), Err(RecvError));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecvError;

/// Why [`try_recv`](super::Receiver::try_recv) has received nothing.
///
/// # Examples
///
/// ```
/// use coro::chan::{TryRecvError, bounded};
///
/// let (sender, receiver) = bounded::<i32>(1);
/// assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
/// drop(sender);
/// assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TryRecvError {
    /// There is no value, and no sender waits.
    Empty,
    /// The channel is empty, and closed or without a sender.
    Disconnected,
}

/// Why [`recv_timeout`](super::Receiver::recv_timeout) has received nothing.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use coro::chan::{RecvTimeoutError, bounded};
///
/// let (_sender, receiver) = bounded::<i32>(1);
/// let nothing = receiver.recv_timeout(Duration::from_millis(1));
/// assert_eq!(nothing, Err(RecvTimeoutError::Timeout));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecvTimeoutError {
    /// No value has come in time.
    Timeout,
    /// The channel is empty, and closed or without a sender.
    Disconnected,
}

const CLOSED_TO_SENDERS: &str = "sending on a closed channel";
const CLOSED_TO_RECEIVERS: &str = "receiving on an empty and closed channel";

impl<T> SendError<T> {
    /// The value.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(coro::chan::SendError(1).into_inner(), 1);
    /// ```
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> TrySendError<T> {
    /// The value.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(coro::chan::TrySendError::Full(1).into_inner(), 1);
    /// ```
    pub fn into_inner(self) -> T {
        match self {
            TrySendError::Full(value) | TrySendError::Disconnected(value) => value,
        }
    }
}

impl<T> SendTimeoutError<T> {
    /// The value.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(coro::chan::SendTimeoutError::Timeout(1).into_inner(), 1);
    /// ```
    pub fn into_inner(self) -> T {
        match self {
            SendTimeoutError::Timeout(value) | SendTimeoutError::Disconnected(value) => value,
        }
    }
}

// Without the value, which need not be `Debug`.
impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SendError(..)")
    }
}

impl<T> fmt::Debug for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TrySendError::Full(_) => "Full(..)",
            TrySendError::Disconnected(_) => "Disconnected(..)",
        })
    }
}

impl<T> fmt::Debug for SendTimeoutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SendTimeoutError::Timeout(_) => "Timeout(..)",
            SendTimeoutError::Disconnected(_) => "Disconnected(..)",
        })
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(CLOSED_TO_SENDERS)
    }
}

impl<T> fmt::Display for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TrySendError::Full(_) => "sending on a full channel",
            TrySendError::Disconnected(_) => CLOSED_TO_SENDERS,
        })
    }
}

impl<T> fmt::Display for SendTimeoutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SendTimeoutError::Timeout(_) => "timed out waiting to send",
            SendTimeoutError::Disconnected(_) => CLOSED_TO_SENDERS,
        })
    }
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(CLOSED_TO_RECEIVERS)
    }
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TryRecvError::Empty => "receiving on an empty channel",
            TryRecvError::Disconnected => CLOSED_TO_RECEIVERS,
        })
    }
}

impl fmt::Display for RecvTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RecvTimeoutError::Timeout => "timed out waiting to receive",
            RecvTimeoutError::Disconnected => CLOSED_TO_RECEIVERS,
        })
    }
}

impl<T> Error for SendError<T> {}
impl<T> Error for TrySendError<T> {}
impl<T> Error for SendTimeoutError<T> {}
impl Error for RecvError {}
impl Error for TryRecvError {}
impl Error for RecvTimeoutError {}

impl<T> From<SendError<T>> for TrySendError<T> {
    fn from(error: SendError<T>) -> TrySendError<T> {
        TrySendError::Disconnected(error.0)
    }
}

impl<T> From<SendError<T>> for SendTimeoutError<T> {
    fn from(error: SendError<T>) -> SendTimeoutError<T> {
        SendTimeoutError::Disconnected(error.0)
    }
}

impl From<RecvError> for TryRecvError {
    fn from(_: RecvError) -> TryRecvError {
        TryRecvError::Disconnected
    }
}

impl From<RecvError> for RecvTimeoutError {
    fn from(_: RecvError) -> RecvTimeoutError {
        RecvTimeoutError::Disconnected
    }
}
