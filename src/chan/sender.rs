//! [`Sender`]: the end of a channel that values go into.

use std::fmt;
use std::mem;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::channel::{Attempt, Channel, wake};
use super::error::{SendError, SendTimeoutError, TrySendError};
use super::operation::{Sending, complete};
use crate::task::spend_budget;

/// The end of a channel that values go into. It can be cloned, sent and shared.
///
/// # Examples
///
/// ```
/// let (sender, receiver) = coro::chan::unbounded();
/// let other = sender.clone();
/// coro::go(move || other.send(1).unwrap());
/// assert_eq!(receiver.recv(), Ok(1));
/// # drop(sender);
/// ```
pub struct Sender<T> {
    channel: Arc<Channel<T>>,
}

// What is shared is changed in single steps, and no code of the user's runs within one.
impl<T> UnwindSafe for Sender<T> {}
impl<T> RefUnwindSafe for Sender<T> {}

impl<T> Sender<T> {
    pub(super) fn new(channel: Arc<Channel<T>>) -> Sender<T> {
        Sender { channel }
    }

    /// Sends `value`. Waits while the channel is full, and with a capacity of 0 until a receiver has it.
    ///
    /// # Errors
    ///
    /// The value, if the channel is closed or has no receiver left.
    ///
    /// # Panics
    ///
    /// Unwinds, without calling the panic hook, when the coroutine that waits is cancelled or a
    /// [`timeout`](crate::timeout) around it elapses; the value is dropped then. In a
    /// [`no_suspend`](crate::no_suspend()), where it would wait, and in a process that was forked from one that uses
    /// coroutines.
    ///
    /// # Examples
    ///
    /// ```
    /// let (sender, receiver) = coro::chan::bounded(1);
    /// sender.send("word").unwrap();
    /// assert_eq!(receiver.recv(), Ok("word"));
    /// ```
    #[inline]
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.send_until(value, None).map_err(|error| SendError(error.into_inner()))
    }

    /// Sends `value` if that needs no waiting.
    ///
    /// # Errors
    ///
    /// The value: [`Full`](TrySendError::Full) if there is no room and no receiver waits, or
    /// [`Disconnected`](TrySendError::Disconnected).
    ///
    /// # Examples
    ///
    /// ```
    /// let (sender, _receiver) = coro::chan::bounded(1);
    /// assert!(sender.try_send(1).is_ok());
    /// assert!(sender.try_send(2).is_err());
    /// ```
    #[inline]
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        self.channel.try_send(value)
    }

    /// As [`send`](Sender::send), for `limit` at most.
    ///
    /// # Errors
    ///
    /// The value: [`Timeout`](SendTimeoutError::Timeout) if nobody has made room in time, or
    /// [`Disconnected`](SendTimeoutError::Disconnected).
    ///
    /// # Panics
    ///
    /// As [`send`](Sender::send).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let (sender, receiver) = coro::chan::bounded(0);
    /// coro::go(move || receiver.recv());
    /// assert!(sender.send_timeout(1, Duration::from_secs(60)).is_ok());
    /// ```
    pub fn send_timeout(&self, value: T, limit: Duration) -> Result<(), SendTimeoutError<T>> {
        self.send_until(value, Instant::now().checked_add(limit))
    }

    /// `deadline`: `None` is never.
    #[inline]
    fn send_until(&self, value: T, deadline: Option<Instant>) -> Result<(), SendTimeoutError<T>> {
        spend_budget();
        let mut state = self.channel.state.lock();
        match state.offer(value) {
            Attempt::Done((), wakeup) => {
                drop(state);
                wake(wakeup);
                Ok(())
            }
            Attempt::Closed(value) => Err(SendTimeoutError::Disconnected(value)),
            Attempt::Wait(value) => {
                mem::forget(state);
                // SAFETY: locked, and tried just now.
                unsafe { self.wait_to_send(value, deadline) }
            }
        }
    }

    /// # Safety
    ///
    /// As for [`complete`].
    unsafe fn wait_to_send(
        &self,
        value: T,
        deadline: Option<Instant>,
    ) -> Result<(), SendTimeoutError<T>> {
        let sending = Sending::new(&self.channel, value);
        // SAFETY: the caller's word.
        let is_done = unsafe { complete(&sending, deadline) };
        match sending.give_back() {
            None => Ok(()),
            Some(value) if is_done => Err(SendTimeoutError::Disconnected(value)),
            Some(value) => Err(SendTimeoutError::Timeout(value)),
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
    /// sender.send(1).unwrap();
    /// assert!(sender.close());
    /// assert!(sender.send(2).is_err());
    /// assert_eq!(receiver.iter().collect::<Vec<_>>(), [1]);
    /// ```
    pub fn close(&self) -> bool {
        self.channel.close()
    }

    /// Whether the channel is closed, or has no receiver left.
    ///
    /// # Examples
    ///
    /// ```
    /// let (sender, receiver) = coro::chan::bounded::<i32>(1);
    /// drop(receiver);
    /// assert!(sender.is_closed());
    /// ```
    pub fn is_closed(&self) -> bool {
        self.channel.is_closed()
    }

    /// How many values are in the channel. Those of senders that wait do not count.
    ///
    /// # Examples
    ///
    /// ```
    /// let (sender, _receiver) = coro::chan::bounded(2);
    /// sender.send(1).unwrap();
    /// assert_eq!(sender.len(), 1);
    /// ```
    pub fn len(&self) -> usize {
        self.channel.len()
    }

    /// Whether no value is in the channel.
    ///
    /// # Examples
    ///
    /// ```
    /// let (sender, _receiver) = coro::chan::bounded::<i32>(2);
    /// assert!(sender.is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.channel.is_empty()
    }

    /// Whether there is no room for a value. Always with a capacity of 0.
    ///
    /// # Examples
    ///
    /// ```
    /// let (sender, _receiver) = coro::chan::bounded(1);
    /// sender.send(1).unwrap();
    /// assert!(sender.is_full());
    /// ```
    pub fn is_full(&self) -> bool {
        self.channel.is_full()
    }

    /// How many values the channel holds; `None`: without a limit.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(coro::chan::bounded::<i32>(3).0.capacity(), Some(3));
    /// assert_eq!(coro::chan::unbounded::<i32>().0.capacity(), None);
    /// ```
    pub fn capacity(&self) -> Option<usize> {
        self.channel.capacity()
    }

    /// Whether both are of the same channel.
    ///
    /// # Examples
    ///
    /// ```
    /// let (sender, _receiver) = coro::chan::bounded::<i32>(1);
    /// assert!(sender.same_channel(&sender.clone()));
    /// ```
    pub fn same_channel(&self, other: &Sender<T>) -> bool {
        Arc::ptr_eq(&self.channel, &other.channel)
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        self.channel.add_sender();
        Sender { channel: Arc::clone(&self.channel) }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.channel.remove_sender();
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.channel.debug("Sender", f)
    }
}
