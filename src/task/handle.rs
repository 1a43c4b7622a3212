//! [`Handle`]: what anybody may hold of a coroutine, to unpark or to cancel it.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::panic::{RefUnwindSafe, UnwindSafe};

use super::current::current_task;
use super::header::TaskRef;
use crate::base::id::Id;

/// A handle of a running or finished coroutine that does not own its value: it can be cloned, sent
/// and shared. From [`current`] or [`JoinHandle::handle`](crate::JoinHandle::handle).
///
/// # Examples
///
/// ```
/// use std::sync::mpsc;
///
/// let (send, receive) = mpsc::channel();
/// let sleeper = coro::go(move || {
///     send.send(coro::current().unwrap()).unwrap();
///     coro::park();
/// });
/// let handle: coro::Handle = receive.recv().unwrap();
/// assert_eq!(handle.id(), sleeper.id());
/// handle.unpark();
/// sleeper.join().unwrap();
/// ```
#[derive(Clone)]
pub struct Handle {
    task: TaskRef,
}

// As for `JoinHandle`; there is no value.
impl UnwindSafe for Handle {}
impl RefUnwindSafe for Handle {}

/// Handles are equal when they are of the same coroutine.
///
/// # Examples
///
/// ```
/// let (one, other) = (coro::go(coro::park), coro::go(coro::park));
/// assert_eq!(one.handle(), one.handle());
/// assert_ne!(one.handle(), other.handle());
/// # one.cancel();
/// # other.cancel();
/// ```
impl PartialEq for Handle {
    fn eq(&self, other: &Handle) -> bool {
        self.id() == other.id()
    }
}

impl Eq for Handle {}

impl Hash for Handle {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id().hash(state);
    }
}

impl Handle {
    pub(super) fn new(task: &TaskRef) -> Handle {
        Handle { task: TaskRef::clone(task) }
    }

    /// Makes the coroutine's present [`park`](crate::park) return, or its next one if it is not
    /// parked, or if a cancellation or a [`timeout`](crate::timeout) unwinds the present one all the same.
    /// Several calls before that count as one.
    ///
    /// What was done before `unpark` is visible after the `park` that it ends.
    ///
    /// # Examples
    ///
    /// ```
    /// coro::go(|| {
    ///     coro::current().unwrap().unpark();
    ///     coro::park(); // returns at once
    /// })
    /// .join()
    /// .unwrap();
    /// ```
    pub fn unpark(&self) {
        self.task.unpark();
    }

    /// The identity that the coroutine was started with.
    ///
    /// # Examples
    ///
    /// ```
    /// coro::go(|| assert_eq!(coro::current().unwrap().id(), coro::tls::id())).join().unwrap();
    /// ```
    pub fn id(&self) -> Id {
        self.task.id()
    }

    /// The name given by [`Builder::name`](crate::Builder::name).
    ///
    /// # Examples
    ///
    /// ```
    /// let named = coro::Builder::new().name("accept").spawn(|| ())?;
    /// assert_eq!(named.handle().name(), Some("accept"));
    /// # std::io::Result::Ok(())
    /// ```
    pub fn name(&self) -> Option<&str> {
        self.task.name()
    }

    /// As [`JoinHandle::cancel`](crate::JoinHandle::cancel).
    ///
    /// # Examples
    ///
    /// ```
    /// let parked = coro::go(coro::park);
    /// parked.handle().cancel();
    /// assert!(parked.join().is_err());
    /// ```
    pub fn cancel(&self) {
        self.task.cancel();
    }

    /// Whether the coroutine has ended and its cleanup is over.
    ///
    /// # Examples
    ///
    /// ```
    /// coro::go(|| assert!(!coro::current().unwrap().is_finished())).join().unwrap();
    /// ```
    pub fn is_finished(&self) -> bool {
        self.task.is_done()
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("id", &self.id()).field("name", &self.name()).finish()
    }
}

/// A handle of the coroutine that calls; `None` outside of one.
///
/// In a [`raw::Coroutine`](crate::raw::Coroutine) it is that of the coroutine that resumed it.
///
/// # Examples
///
/// ```
/// assert!(coro::current().is_none());
/// coro::go(|| assert!(coro::current().is_some())).join().unwrap();
/// ```
pub fn current() -> Option<Handle> {
    current_task().map(|task| Handle::new(&task))
}
