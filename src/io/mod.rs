//! Descriptors of any kind: waiting until they are ready, and input and output that suspends the coroutine.
//!
//! [`wait_readable`] and [`wait_writable`] wait for any descriptor. [`Async`] reads and writes one: a pipe, a terminal,
//! a child's output, a timer. [`copy`] moves bytes from one to another. Sockets are in [`net`](crate::net).

mod pollable;
mod readiness;

mod async_fd;

mod copy;

pub use async_fd::{Async, IoSafe};
pub use copy::{Transfer, copy};
pub use readiness::{wait_readable, wait_writable};

pub(crate) use pollable::{Drained, Limit, Pollable, register_elsewhere, short, unknown};
