//! The payloads that unwind a coroutine although nothing went wrong in it.

use std::any::Any;

use super::Payload;
use crate::base::id::Id;

/// The payload that unwinds a coroutine from a suspension: a cancellation, or an elapsed timeout.
pub(crate) struct Interruption {
    /// The coroutine that is cancelled, or the timeout that has elapsed. Not an address: a payload can be
    /// kept for longer than either lives.
    pub(crate) target: Id,
    /// Notes whether the interruption was delivered. One that was not comes at the next suspension.
    pub(crate) note: fn(Id, bool),
}

impl Interruption {
    /// The payload of an unwinding that begins now.
    pub(crate) fn deliver(self) -> Payload {
        (self.note)(self.target, true);
        Box::new(self)
    }
}

/// The payload that unwinds a raw coroutine that is dropped while it is suspended.
pub(crate) struct Dropped;

/// Whether a payload that [`catch_unwind`](std::panic::catch_unwind) has caught is this crate's, and not a
/// panic's: a coroutine is cancelled, a [`timeout`](crate::timeout) has elapsed, or a
/// [raw coroutine](crate::raw) is being ended.
///
/// Code that catches panics and goes on should let these pass, with
/// [`resume_unwind`](std::panic::resume_unwind). If it does not, a cancellation is lost.
///
/// # Examples
///
/// ```
/// use std::panic::{catch_unwind, resume_unwind};
///
/// let coroutine = coro::go(|| {
///     let caught = catch_unwind(|| coro::sleep(std::time::Duration::MAX)).unwrap_err();
///     assert!(coro::is_interruption(&caught));
///     resume_unwind(caught);
/// });
/// coroutine.cancel();
/// assert!(coroutine.join().unwrap_err().is_cancelled());
///
/// let caught = catch_unwind(|| panic!("a panic")).unwrap_err();
/// assert!(!coro::is_interruption(&caught));
/// ```
pub fn is_interruption(payload: &(dyn Any + Send)) -> bool {
    // A reference to the box is taken for one to a payload of the box's type.
    let payload = payload.downcast_ref::<Payload>().map_or(payload, |boxed| &**boxed);
    payload.is::<Interruption>() || payload.is::<Dropped>()
}
