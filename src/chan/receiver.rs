//! [`Receiver`]: the end of a channel that values come out of.

use std::fmt;
use std::mem;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::channel::{Attempt, Channel, wake};
use super::error::{RecvError, RecvTimeoutError, TryRecvError};
use super::operation::{Receiving, complete};
use crate::task::spend_budget;

/// The end of a channel that values come out of. It can be cloned, sent and shared; each value goes to one receiver.
///
/// # Examples
///
/// ```
/// let (sender, receiver) = coro::chan::unbounded();
/// let workers: Vec<_> = (0..2)
///     .map(|_| {
///         let receiver = receiver.clone();
///         coro::go(move || receiver.iter().sum::<i32>())
///     })
///     .collect();
/// (1..=100).for_each(|i| sender.send(i).unwrap());
/// drop(sender);
/// let sum: i32 = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
/// assert_eq!(sum, 5050);
/// ```
pub struct Receiver<T> {
    channel: Arc<Channel<T>>,
}

// As for `Sender`.
impl<T> UnwindSafe for Receiver<T> {}
impl<T> RefUnwindSafe for Receiver<T> {}

impl<T> Receiver<T> {
    pub(super) fn new(channel: Arc<Channel<T>>) -> Receiver<T> {
        Receiver { channel }
    }

    /// Receives a value. Waits while there is none.
    ///
    /// # Errors
    ///
    /// If the channel is empty, and closed or without a sender.
    ///
    /// # Panics
    ///
    /// Unwinds, without calling the panic hook, when the coroutine that waits is cancelled or a
    /// [`timeout`](crate::timeout) around it elapses; no value is lost then. In a
    /// [`no_suspend`](crate::no_suspend()), where it would wait, and in a process that was forked from one that uses
    /// coroutines.
    ///
    /// # Examples
    ///
    /// ```
    /// let (sender, receiver) = coro::chan::bounded(0);
    /// coro::go(move || sender.send(42).unwrap());
    /// assert_eq!(receiver.recv(), Ok(42));
    /// assert!(receiver.recv().is_err());
    /// ```
    #[inline]
    pub fn recv(&self) -> Result<T, RecvError> {
        self.recv_until(None).map_err(|_| RecvError)
    }

    /// Receives a value if that needs no waiting.
    ///
    /// # Errors
    ///
    /// [`Empty`](TryRecvError::Empty) if there is no value and no sender waits, or
    /// [`Disconnected`](TryRecvError::Disconnected).
    ///
    /// # Examples
    ///
    /// ```
    /// let (sender, receiver) = coro::chan::unbounded();
    /// assert!(receiver.try_recv().is_err());
    /// sender.send(1).unwrap();
    /// assert_eq!(receiver.try_recv(), Ok(1));
    /// ```
    #[inline]
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.channel.try_recv()
    }

    /// As [`recv`](Receiver::recv), for `limit` at most.
    ///
    /// # Errors
    ///
    /// [`Timeout`](RecvTimeoutError::Timeout) if no value has come in time, or
    /// [`Disconnected`](RecvTimeoutError::Disconnected).
    ///
    /// # Panics
    ///
    /// As [`recv`](Receiver::recv).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let (sender, receiver) = coro::chan::bounded(0);
    /// coro::go(move || sender.send(1));
    /// assert_eq!(receiver.recv_timeout(Duration::from_secs(60)), Ok(1));
    /// ```
    pub fn recv_timeout(&self, limit: Duration) -> Result<T, RecvTimeoutError> {
        self.recv_until(Instant::now().checked_add(limit))
    }

    /// `deadline`: `None` is never.
    #[inline]
    fn recv_until(&self, deadline: Option<Instant>) -> Result<T, RecvTimeoutError> {
        spend_budget();
        let mut state = self.channel.state.lock();
        match state.take() {
            Attempt::Done(value, wakeup) => {
                drop(state);
                wake(wakeup);
                Ok(value)
            }
            Attempt::Closed(()) => Err(RecvTimeoutError::Disconnected),
            Attempt::Wait(()) => {
                mem::forget(state);
                // SAFETY: locked, and tried just now.
                unsafe { self.wait_to_recv(deadline) }
            }
        }
    }

    /// # Safety
    ///
    /// As for [`complete`].
    unsafe fn wait_to_recv(&self, deadline: Option<Instant>) -> Result<T, RecvTimeoutError> {
        let receiving = Receiving::new(&self.channel);
        // SAFETY: the caller's word.
        unsafe { complete(&receiving, deadline) };
        match receiving.take() {
            Some(Ok(value)) => Ok(value),
            Some(Err(RecvError)) => Err(RecvTimeoutError::Disconnected),
            None => Err(RecvTimeoutError::Timeout),
        }
    }

    pub(super) fn channel(&self) -> &Channel<T> {
        &self.channel
    }

    /// Closes the channel. What is in it can still be received. False: it was closed.
    ///
    /// # Examples
    ///
    /// ```
    /// let (sender, receiver) = coro::chan::bounded(1);
    /// assert!(receiver.close());
    /// assert_eq!(sender.send(1).unwrap_err().into_inner(), 1);
    /// ```
    pub fn close(&self) -> bool {
        self.channel.close()
    }

    /// Whether the channel is closed, or has no sender left. There may be values in it all the same.
    ///
    /// # Examples
    ///
    /// ```
    /// let (sender, receiver) = coro::chan::bounded::<i32>(1);
    /// drop(sender);
    /// assert!(receiver.is_closed());
    /// ```
    pub fn is_closed(&self) -> bool {
        self.channel.is_closed()
    }

    /// How many values are in the channel. Those of senders that wait do not count.
    ///
    /// # Examples
    ///
    /// ```
    /// let (sender, receiver) = coro::chan::bounded(2);
    /// sender.send(1).unwrap();
    /// assert_eq!(receiver.len(), 1);
    /// ```
    pub fn len(&self) -> usize {
        self.channel.len()
    }

    /// Whether no value is in the channel.
    ///
    /// # Examples
    ///
    /// ```
    /// let (_sender, receiver) = coro::chan::bounded::<i32>(2);
    /// assert!(receiver.is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.channel.is_empty()
    }

    /// Whether there is no room for a value. Always with a capacity of 0.
    ///
    /// # Examples
    ///
    /// ```
    /// let (_sender, receiver) = coro::chan::bounded::<i32>(0);
    /// assert!(receiver.is_full());
    /// ```
    pub fn is_full(&self) -> bool {
        self.channel.is_full()
    }

    /// How many values the channel holds; `None`: without a limit.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(coro::chan::bounded::<i32>(3).1.capacity(), Some(3));
    /// ```
    pub fn capacity(&self) -> Option<usize> {
        self.channel.capacity()
    }

    /// Whether both are of the same channel.
    ///
    /// # Examples
    ///
    /// ```
    /// let (_sender, receiver) = coro::chan::bounded::<i32>(1);
    /// assert!(receiver.same_channel(&receiver.clone()));
    /// ```
    pub fn same_channel(&self, other: &Receiver<T>) -> bool {
        Arc::ptr_eq(&self.channel, &other.channel)
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Receiver<T> {
        self.channel.add_receiver();
        Receiver { channel: Arc::clone(&self.channel) }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.channel.remove_receiver();
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.channel.debug("Receiver", f)
    }
}
