//! Sending and receiving as futures, for code on the other side of a channel that is `async`.
//!
//! A future that is dropped gives up its wait. If a value has been handed over to a [`RecvFuture`] by then, it goes
//! back to the channel, as the next to be received: so a dropped future loses nothing.

use std::fmt;
use std::marker::PhantomPinned;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::channel::wake;
use super::error::{RecvError, SendError};
use super::operation::{Operation, Receiving, Sending};
use super::receiver::Receiver;
use super::sender::Sender;
use crate::fork;
use crate::runtime::go;
use crate::task::{JoinHandle, WaitNode};
use crate::time::sleep_until;

/// A node of a future, in the list of its channel.
#[derive(Default)]
struct FutureNode {
    /// It stays here for as long as it is linked.
    node: Option<WaitNode>,
    /// The time at which there will be a value, if it is known, and who wakes the future then.
    alarm: Option<(Instant, JoinHandle<()>)>,
}

impl FutureNode {
    /// Polls the operation, which stays where it is, with this node, until it is done or [`leave`](FutureNode::leave)
    /// was called.
    fn poll(&mut self, operation: &impl Operation, context: &Context<'_>) -> Poll<()> {
        // A waker is anybody's code: it is cloned and dropped while no lock is held.
        if self.node.is_some() {
            if self.is_told(operation, context.waker().clone()) {
                return Poll::Ready(());
            }
            if self.alarm.as_ref().is_none_or(|(time, _)| *time > Instant::now()) {
                return Poll::Pending;
            }
            // The time has come.
            if self.leave(operation) {
                return Poll::Ready(());
            }
        }
        self.begin(operation, context)
    }

    fn begin(&mut self, operation: &impl Operation, context: &Context<'_>) -> Poll<()> {
        fork::check();
        let waker = context.waker().clone();
        let node = self.node.insert(WaitNode::of_waker(waker, operation.slot()));
        operation.channel().lock();
        // SAFETY: locked until it is unlocked; Q1, the future is pinned, and gives the node up before it goes.
        let (done, time) = unsafe {
            let done = operation.attempt();
            let time = if done.is_none() { operation.link(node) } else { None };
            operation.channel().unlock();
            (done, time)
        };
        if let Some(wakeup) = done {
            self.node = None;
            wake(wakeup);
            return Poll::Ready(());
        }
        self.alarm = time.map(|time| {
            let alarm = context.waker().clone();
            let wakes = go(move || {
                sleep_until(time);
                alarm.wake();
            });
            (time, wakes)
        });
        Poll::Pending
    }

    /// Whether the wait has ended. If not, `waker` takes the place of the last one.
    fn is_told(&mut self, operation: &impl Operation, waker: Waker) -> bool {
        let Some(node) = &self.node else { return false };
        operation.channel().lock();
        let before = if node.end().is_none() { node.replace_waker(waker) } else { None };
        // SAFETY: locked just now.
        unsafe { operation.channel().unlock() };
        drop(before);
        match node.end() {
            Some(end) => {
                operation.finish(end);
                self.node = None;
                true
            }
            None => false,
        }
    }

    /// Leaves the list. True: the wait had ended before, and the operation is done.
    fn leave(&mut self, operation: &impl Operation) -> bool {
        if let Some((_, alarm)) = self.alarm.take() {
            alarm.cancel();
        }
        let Some(node) = &self.node else { return false };
        // SAFETY: it was linked to this channel.
        let end = unsafe { operation.give_up(node) };
        self.node = None;
        end.inspect(|end| operation.finish(*end)).is_some()
    }
}

/// A receive that is awaited. By [`Receiver::recv_async`].
///
/// # Examples
///
/// ```
/// let (sender, receiver) = coro::chan::bounded(0);
/// coro::go(move || sender.send(1));
/// let received = async { receiver.recv_async().await };
/// assert_eq!(coro::wait(received), Ok(1));
/// ```
#[must_use = "futures do nothing unless they are awaited"]
pub struct RecvFuture<'a, T> {
    receiving: Receiving<'a, T>,
    node: FutureNode,
    /// The node is in a list.
    _pinned: PhantomPinned,
}

/// A send that is awaited. By [`Sender::send_async`].
///
/// # Examples
///
/// ```
/// let (sender, receiver) = coro::chan::bounded(0);
/// let received = coro::go(move || receiver.recv());
/// let send = async { sender.send_async(1).await };
/// assert_eq!(coro::wait(send), Ok(()));
/// assert_eq!(received.join().unwrap(), Ok(1));
/// ```
#[must_use = "futures do nothing unless they are awaited"]
pub struct SendFuture<'a, T> {
    sending: Sending<'a, T>,
    node: FutureNode,
    /// The node is in a list.
    _pinned: PhantomPinned,
}

// SAFETY: the node is touched under the lock of its list, and by the owner of the future.
unsafe impl<T: Send> Send for RecvFuture<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for SendFuture<'_, T> {}
// SAFETY: a shared reference to it shows nothing.
unsafe impl<T: Send> Sync for RecvFuture<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for SendFuture<'_, T> {}

impl<T> Receiver<T> {
    /// [`recv`](Receiver::recv) as a future, for `async` code, on whatever executor it runs.
    ///
    /// A future that is dropped has received nothing: what was handed over to it at the last moment is the next value
    /// to be received.
    ///
    /// # Examples
    ///
    /// ```
    /// let (sender, receiver) = coro::chan::unbounded();
    /// sender.send(1).unwrap();
    /// assert_eq!(coro::wait(receiver.recv_async()), Ok(1));
    /// drop(sender);
    /// assert!(coro::wait(receiver.recv_async()).is_err());
    /// ```
    pub fn recv_async(&self) -> RecvFuture<'_, T> {
        let receiving = Receiving::new(self.channel());
        RecvFuture { receiving, node: FutureNode::default(), _pinned: PhantomPinned }
    }
}

impl<T> Sender<T> {
    /// [`send`](Sender::send) as a future, for `async` code, on whatever executor it runs.
    ///
    /// A future that is dropped before it is ready has sent its value, or drops it.
    ///
    /// # Examples
    ///
    /// ```
    /// let (sender, receiver) = coro::chan::bounded(1);
    /// assert_eq!(coro::wait(sender.send_async("word")), Ok(()));
    /// assert_eq!(receiver.recv(), Ok("word"));
    /// ```
    pub fn send_async(&self, value: T) -> SendFuture<'_, T> {
        let sending = Sending::new(self.channel(), value);
        SendFuture { sending, node: FutureNode::default(), _pinned: PhantomPinned }
    }
}

const POLLED: &str = "a future was polled after it was ready";

impl<T> Future for RecvFuture<'_, T> {
    type Output = Result<T, RecvError>;

    /// # Panics
    ///
    /// When polled again after it was ready, and in a process that was forked from one that uses coroutines.
    #[track_caller]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: nothing is moved.
        let this = unsafe { self.get_unchecked_mut() };
        assert!(this.receiving.is_pending(), "{POLLED}");
        this.node.poll(&this.receiving, context).map(|()| this.receiving.take().expect(POLLED))
    }
}

impl<T> Future for SendFuture<'_, T> {
    type Output = Result<(), SendError<T>>;

    /// # Panics
    ///
    /// When polled again after it was ready, and in a process that was forked from one that uses coroutines.
    #[track_caller]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: nothing is moved.
        let this = unsafe { self.get_unchecked_mut() };
        assert!(this.sending.is_pending(), "{POLLED}");
        this.node.poll(&this.sending, context).map(|()| this.sending.take().expect(POLLED))
    }
}

impl<T> Drop for RecvFuture<'_, T> {
    fn drop(&mut self) {
        if self.node.leave(&self.receiving)
            && let Some(Ok(value)) = self.receiving.take()
        {
            self.receiving.channel.give_back(value);
        }
    }
}

impl<T> Drop for SendFuture<'_, T> {
    fn drop(&mut self) {
        self.node.leave(&self.sending);
    }
}

impl<T> fmt::Debug for RecvFuture<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvFuture").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for SendFuture<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendFuture").finish_non_exhaustive()
    }
}
