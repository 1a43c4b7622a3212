//! What becomes of a coroutine: its value, or why there is none.

use std::any::Any;
use std::fmt;
use std::io;

/// Why a coroutine gave no value.
///
/// # Examples
///
/// ```
/// use coro::JoinError;
///
/// match coro::go(|| panic!("too bad")).join() {
///     Err(JoinError::Panicked(payload)) => {
///         assert_eq!(payload.downcast_ref::<&str>(), Some(&"too bad"));
///     }
///     other => unreachable!("{other:?}"),
/// }
/// ```
///
/// As that of a thread, the payload of a coroutine's panic need not be `Sync`. So a `JoinError` is not `Sync`, and
/// `?` does not make a `Box<dyn Error + Send + Sync>` of it, nor an error of the `anyhow` crate. An [`io::Error`]
/// of it goes into both:
///
/// ```
/// fn answer() -> Result<u32, Box<dyn std::error::Error + Send + Sync>> {
///     Ok(coro::go(|| 42).join().map_err(std::io::Error::from)?)
/// }
/// assert_eq!(answer().unwrap(), 42);
/// ```
pub enum JoinError {
    /// It panicked, with this payload. A coroutine that joins itself gets this too, with a
    /// `String` that says so.
    Panicked(Box<dyn Any + Send>),
    /// It was cancelled, before it started or while it ran.
    Cancelled,
}

impl JoinError {
    /// Whether the coroutine was cancelled.
    ///
    /// # Examples
    ///
    /// ```
    /// let parked = coro::go(coro::park);
    /// parked.cancel();
    /// assert!(parked.join().unwrap_err().is_cancelled());
    /// ```
    pub fn is_cancelled(&self) -> bool {
        matches!(self, JoinError::Cancelled)
    }

    /// Whether the coroutine panicked.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(coro::go(|| panic!("too bad")).join().unwrap_err().is_panic());
    /// ```
    pub fn is_panic(&self) -> bool {
        matches!(self, JoinError::Panicked(_))
    }

    /// The payload that the coroutine panicked with, for
    /// [`resume_unwind`](std::panic::resume_unwind), say.
    ///
    /// # Panics
    ///
    /// If it did not panic.
    ///
    /// # Examples
    ///
    /// ```
    /// let error = coro::go(|| panic!("too bad")).join().unwrap_err();
    /// assert_eq!(error.into_panic().downcast_ref::<&str>(), Some(&"too bad"));
    /// ```
    #[track_caller]
    pub fn into_panic(self) -> Box<dyn Any + Send> {
        match self {
            JoinError::Panicked(payload) => payload,
            JoinError::Cancelled => panic!("the coroutine did not panic: it was cancelled"),
        }
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinError::Panicked(payload) => {
                f.debug_tuple("Panicked").field(&panic_message(&**payload)).finish()
            }
            JoinError::Cancelled => f.write_str("Cancelled"),
        }
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinError::Panicked(payload) => {
                write!(f, "the coroutine panicked: {}", panic_message(&**payload))
            }
            JoinError::Cancelled => f.write_str("the coroutine was cancelled"),
        }
    }
}

impl std::error::Error for JoinError {}

/// The message alone, of kind `Other`: an `io::Error` is `Sync`, and a payload need not be. Not
/// `Interrupted` for a cancelled one, since std's loops try again after that.
///
/// # Examples
///
/// ```
/// fn answer() -> std::io::Result<u32> {
///     Ok(coro::go(|| panic!("too bad")).join()?)
/// }
/// assert_eq!(answer().unwrap_err().to_string(), "the coroutine panicked: too bad");
/// ```
impl From<JoinError> for io::Error {
    fn from(error: JoinError) -> io::Error {
        io::Error::other(error.to_string())
    }
}

fn panic_message(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(a payload that is no string)")
}

/// What becomes of a task.
pub(super) type Outcome<T> = Result<T, JoinError>;
