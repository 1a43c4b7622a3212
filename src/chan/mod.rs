//! Channels: Go's `chan`, for coroutines and threads alike.
//!
//! Values go from many senders to many receivers, each to one of them, in the order in which they were sent. A channel
//! of capacity 0 is a rendezvous: a sender goes on when a receiver has its value. A coroutine that waits is suspended, a
//! thread is blocked, and both may use the same channel.
//!
//! A channel is closed by [`close`](Sender::close), or when its last sender or its last receiver is dropped. Receivers
//! of a closed channel get what is left and then an error; senders get their value back. When the last receiver goes,
//! the values that are left are dropped.
//!
//! A cancellation and a [`timeout`](crate::timeout) reach whoever waits. A value that was handed over at the same
//! moment counts as received, and the interruption comes at the next suspension: so no value is lost, and none is
//! received twice. A loop that never has to wait steps aside now and then, as with [`wait`](crate::wait()).
//!
//! [`select!`](crate::select) waits for whichever of several operations can be done first, and [`Select`] does where their
//! number is not known before. [`after`], [`at`] and [`tick`] are receivers of times, for a limit or a rhythm. To `async`
//! code on the other side [`recv_async`](Receiver::recv_async) and [`send_async`](Sender::send_async) are futures.
//!
//! The names and the errors are those of the `crossbeam-channel` crate.
//!
//! # Examples
//!
//! ```
//! let (sender, receiver) = coro::chan::bounded(2);
//! for worker in 0..3 {
//!     let sender = sender.clone();
//!     coro::go(move || sender.send(worker * worker).unwrap());
//! }
//! drop(sender); // the receiver's loop ends with the last of the others
//! let mut squares: Vec<i32> = receiver.iter().collect();
//! squares.sort();
//! assert_eq!(squares, [0, 1, 4]);
//! ```

mod clock;
mod error;

mod channel;

mod operation;

mod choose;
mod ready;
mod receiver;
mod sender;

mod future;
mod iter;
mod select;
mod select_macro;
mod times;

use std::panic::Location;
use std::sync::Arc;

use channel::Channel;

pub use error::{
    RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError,
};
pub use future::{RecvFuture, SendFuture};
pub use iter::{IntoIter, Iter, TryIter};
pub use receiver::Receiver;
pub use select::Select;
#[doc(hidden)]
pub use select_macro::parts;
pub use sender::Sender;
pub use times::{after, at, never, tick};

/// A channel that holds up to `capacity` values. With a capacity of 0 each value is handed from the sender to the
/// receiver, and the one waits for the other.
///
/// # Examples
///
/// ```
/// let (sender, receiver) = coro::chan::bounded(0);
/// let echo = coro::go(move || receiver.recv().unwrap());
/// sender.send("hello").unwrap(); // goes on when the coroutine has the word
/// assert_eq!(echo.join().unwrap(), "hello");
/// ```
#[track_caller]
pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    channel(Some(capacity))
}

/// A channel without a limit, whose senders never wait.
///
/// # Examples
///
/// ```
/// let (sender, receiver) = coro::chan::unbounded();
/// (0..1000).for_each(|i| sender.send(i).unwrap());
/// assert_eq!(receiver.try_iter().sum::<i32>(), 499_500);
/// ```
#[track_caller]
pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    channel(None)
}

#[track_caller]
fn channel<T>(capacity: Option<usize>) -> (Sender<T>, Receiver<T>) {
    let channel = Arc::new(Channel::new(capacity, None, Location::caller()));
    (Sender::new(Arc::clone(&channel)), Receiver::new(channel))
}
