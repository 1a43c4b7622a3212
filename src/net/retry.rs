//! Trying again after a sleep, where no event tells when a call would no longer block.
//!
//! Two queues are of that kind, both of Unix sockets and both of the peer: its connections that wait to be accepted,
//! and its datagrams, if the sender is not connected to it. A blocking call sleeps in the kernel until there is room. A
//! non-blocking call gives `EAGAIN`, and epoll does not tell of such a queue: the sender's own socket is writable all
//! the time. (Linux, net/unix/af_unix.c: `unix_stream_connect`, `unix_dgram_sendmsg`, `unix_dgram_poll`.)
//!
//! A thread of [`blocking`](crate::blocking()) in place of the sleeps would be woken at once. But each call that waits
//! would take a thread, of which there is a limited number, and no interruption would end it.

use std::io::{self, ErrorKind};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::io::Limit;
use crate::runtime::Builder;
use crate::task::spend_budget;
use crate::time::{sleep, sleep_until};

/// The first sleep. Each later one is twice as long, up to [`LONGEST`].
const SHORTEST: Duration = Duration::from_micros(50);
const LONGEST: Duration = Duration::from_millis(10);

/// Does `operation`, as often as it takes, with a sleep before each repetition.
///
/// An interruption unwinds out of it, between two attempts.
///
/// # Errors
///
/// What `operation` says, also `WouldBlock` when the limit is over.
pub(super) fn retry<R>(
    limit: Limit,
    mut operation: impl FnMut() -> io::Result<R>,
) -> io::Result<R> {
    spend_budget();
    let deadline = match limit {
        Limit::Zero => return operation(),
        Limit::For(limit) => Instant::now().checked_add(limit),
        Limit::Endless => None,
    };
    let mut pause = SHORTEST;
    loop {
        let done = operation();
        let now = match &done {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Instant::now(),
            _ => return done,
        };
        if deadline.is_some_and(|deadline| deadline <= now) {
            return done;
        }
        let next = now + pause;
        sleep_until(deadline.map_or(next, |deadline| deadline.min(next)));
        pause = LONGEST.min(pause * 2);
    }
}

/// Does `operation` once, for a future. If it would block, a coroutine wakes the future after a sleep.
///
/// # Errors
///
/// What `operation` says, and why that coroutine cannot be started.
pub(super) fn poll_retry<R>(
    context: &Context<'_>,
    operation: impl FnOnce() -> io::Result<R>,
) -> Poll<io::Result<R>> {
    let done = operation();
    if !matches!(&done, Err(error) if error.kind() == ErrorKind::WouldBlock) {
        return Poll::Ready(done);
    }
    let waker = context.waker().clone();
    let wake = move || {
        sleep(LONGEST);
        waker.wake();
    };
    // Nobody joins it.
    drop(Builder::new().spawn(wake)?);
    Poll::Pending
}
