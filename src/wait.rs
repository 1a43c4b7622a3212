//! Any future, awaited from straight-line code.

use std::future::{Future, IntoFuture};
use std::pin::pin;
use std::task::{Context, Poll};

use crate::task::poll_or_park;

/// Waits for a future: polls it on the coroutine's own stack, and suspends the coroutine in between.
/// On a plain thread it blocks the thread.
///
/// The future's waker is a reference to the coroutine; a wait allocates nothing. Wakers may be kept,
/// cloned and woken on any thread, for longer than the coroutine lives. The poll itself may suspend the
/// coroutine, in whatever way; a wake-up that comes meanwhile is not lost.
///
/// A wait for what is ready does not suspend. So that a loop of such waits starves nobody, and can be cancelled, each
/// 256th lets other coroutines go first, before it polls.
///
/// # Beside tokio
///
/// tokio's own futures work here, as long as a runtime of tokio drives them. In a *task* of tokio, where there is
/// no coroutine, `wait` blocks the thread as any `block_on` does; and when that task has used up tokio's budget,
/// tokio's futures are ready no more until the task returns, so `wait` hangs. `tokio::task::block_in_place` helps.
/// The guard of tokio's `Handle::enter` is the thread's, and guards of one thread have to end in the reverse order:
/// do not hold one over a suspension ([the nesting rule](crate#the-nesting-rule)).
///
/// # Panics
///
/// With whatever the future panics with. Unwinds, without calling the panic hook, when the coroutine
/// is cancelled or a [`timeout`](crate::timeout) around it elapses; the future is dropped then.
///
/// # Examples
///
/// ```
/// let sum = coro::go(|| {
///     let double = coro::go(|| 21);
///     coro::wait(async { double.await.unwrap() * 2 })
/// });
/// assert_eq!(sum.join().unwrap(), 42);
/// assert_eq!(coro::wait(std::future::ready("on a plain thread")), "on a plain thread");
/// ```
pub fn wait<F: IntoFuture>(future: F) -> F::Output {
    let mut future = pin!(future.into_future());
    loop {
        let poll = |waker: &_| future.as_mut().poll(&mut Context::from_waker(waker));
        if let Poll::Ready(output) = poll_or_park(poll) {
            return output;
        }
    }
}

/// [`wait`] as a method, so that it reads in one line.
///
/// # Examples
///
/// ```
/// use coro::Wait;
///
/// let answer = async { 6 * 7 }.wait();
/// assert_eq!(answer, 42);
/// ```
pub trait Wait: IntoFuture + Sized {
    /// As [`wait`].
    ///
    /// # Panics
    ///
    /// As [`wait`].
    ///
    /// # Examples
    ///
    /// ```
    /// use coro::Wait;
    ///
    /// assert_eq!(coro::go(|| 1).wait().unwrap(), 1);
    /// ```
    fn wait(self) -> Self::Output {
        wait(self)
    }
}

impl<F: IntoFuture> Wait for F {}
