//! What `get` and `try_get` give: a handle of the value, or the reason why there is none.

use std::any::type_name;
use std::error::Error;
use std::fmt;
use std::ops::Deref;
use std::panic::{RefUnwindSafe, UnwindSafe};

use crate::locals::Held;

/// A value that is, or was, stored in the running coroutine.
///
/// It shares the value with the store, as an [`Rc`](std::rc::Rc) does: while a `Data` is held, the
/// value lives, even when it has been replaced or deleted and when its coroutine has ended. The last
/// one to let go drops it. A clone costs an increment.
///
/// It cannot leave its thread, which is where its coroutine stays:
///
/// ```compile_fail,E0277
/// let data = coro::tls::get::<u32>("key");
/// std::thread::spawn(move || data);
/// ```
///
/// ```compile_fail,E0277
/// let data = coro::tls::get::<u32>("key");
/// std::thread::scope(|scope| {
///     scope.spawn(|| data.as_deref().copied());
/// });
/// ```
///
/// # Examples
///
/// ```
/// use coro::tls;
///
/// tls::set("greeting", String::from("hello"));
/// let data = tls::get::<String>("greeting").unwrap();
/// tls::del("greeting");
/// assert_eq!(data.len(), 5);
/// assert_eq!(format!("{data}, {data:?}"), r#"hello, "hello""#);
/// ```
pub struct Data<V: 'static>(Held<V>);

impl<V> Data<V> {
    #[inline(always)]
    pub(super) fn new(held: Held<V>) -> Data<V> {
        Data(held)
    }
}

impl<V> Deref for Data<V> {
    type Target = V;

    #[inline(always)]
    fn deref(&self) -> &V {
        self.0.value()
    }
}

impl<V> AsRef<V> for Data<V> {
    #[inline]
    fn as_ref(&self) -> &V {
        self
    }
}

impl<V> Clone for Data<V> {
    #[inline]
    fn clone(&self) -> Self {
        Data(self.0.clone())
    }
}

impl<V: fmt::Debug> fmt::Debug for Data<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        V::fmt(self, f)
    }
}

impl<V: fmt::Display> fmt::Display for Data<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        V::fmt(self, f)
    }
}

// As an `Rc`, it points to the value, which stays where it is when the `Data` moves.
impl<V> Unpin for Data<V> {}

// A `Data` shares the value and a count. No panic can leave a count half changed.
impl<V: RefUnwindSafe> UnwindSafe for Data<V> {}
impl<V: RefUnwindSafe> RefUnwindSafe for Data<V> {}

/// What is stored is of another type than the one that was asked for; from [`try_get`](super::try_get).
///
/// The types are named as by [`std::any::type_name`]: for people, since two types may have the same name.
///
/// # Examples
///
/// ```
/// use coro::tls;
///
/// tls::set("answer", 42);
/// let error = tls::try_get::<u32>("answer").unwrap_err();
/// assert_eq!((error.stored(), error.wanted()), ("i32", "u32"));
/// assert_eq!(error.to_string(), "the value stored under this key is of type i32, not u32");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WrongType {
    stored: &'static str,
    wanted: &'static str,
}

impl WrongType {
    pub(super) fn new<V>(stored: &'static str) -> WrongType {
        WrongType { stored, wanted: type_name::<V>() }
    }

    /// The name of the type of what is stored.
    ///
    /// # Examples
    ///
    /// ```
    /// coro::tls::set("word", "a");
    /// assert_eq!(coro::tls::try_get::<char>("word").unwrap_err().stored(), "&str");
    /// ```
    pub fn stored(&self) -> &'static str {
        self.stored
    }

    /// The name of the type that was asked for.
    ///
    /// # Examples
    ///
    /// ```
    /// coro::tls::set("word", "a");
    /// assert_eq!(coro::tls::try_get::<char>("word").unwrap_err().wanted(), "char");
    /// ```
    pub fn wanted(&self) -> &'static str {
        self.wanted
    }
}

impl fmt::Display for WrongType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let WrongType { stored, wanted } = self;
        write!(f, "the value stored under this key is of type {stored}, not {wanted}")
    }
}

impl Error for WrongType {}
