//! Typed statics, of which each coroutine has its own value: `local!` and [`LocalKey`].
//!
//! The value is stored under the address of the static. So a declaration costs one function pointer, and nothing is
//! registered at the first use. The value lies in the same store as those of [`set`](super::set), and is dropped
//! with them.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::ptr;
use std::sync::atomic::AtomicPtr;

use super::storing;
use crate::locals::{Block, Fixed, Held, Kind, Locals, MOST};
use crate::record;
use crate::stack::Class;

const _: () =
    assert!(Class::LARGEST_SIZE < MOST as usize, "what is lent on a stack has a frame on it (L1)");

/// Declares statics of which each coroutine, and each plain thread, has a value of its own.
///
/// The syntax is that of [`std::thread_local!`], and a static is a [`LocalKey`]. A value is
/// initialised when its coroutine first uses it, and dropped when the coroutine ends, in the order
/// that [`tls`](crate::tls) describes. An initialiser in a `const` block is evaluated by the
/// compiler, and the value copied.
///
/// # Examples
///
/// ```
/// use std::cell::{Cell, RefCell};
///
/// coro::local! {
///     /// How often this coroutine has asked.
///     pub static ASKED: Cell<u32> = const { Cell::new(0) };
///     static NAMES: RefCell<Vec<String>> = RefCell::new(vec![String::from("Ada")]);
/// }
///
/// ASKED.set(ASKED.get() + 1);
/// NAMES.with_borrow_mut(|names| names.push(String::from("Grace")));
/// assert_eq!(NAMES.with_borrow(Vec::len), 2);
///
/// let elsewhere = coro::go(|| (ASKED.get(), NAMES.take().len())).join().unwrap();
/// assert_eq!(elsewhere, (0, 1));
/// assert_eq!(ASKED.get(), 1);
/// ```
#[macro_export]
macro_rules! local {
    () => {};
    (
        $(#[$attribute:meta])* $visibility:vis static $name:ident : $type:ty = const $init:block
        $(; $($rest:tt)*)?
    ) => {
        $(#[$attribute])*
        $visibility static $name: $crate::tls::LocalKey<$type> =
            $crate::tls::LocalKey::__new(|| const $init);
        $($crate::local! { $($rest)* })?
    };
    (
        $(#[$attribute:meta])* $visibility:vis static $name:ident : $type:ty = $init:expr
        $(; $($rest:tt)*)?
    ) => {
        $(#[$attribute])*
        $visibility static $name: $crate::tls::LocalKey<$type> =
            $crate::tls::LocalKey::__new(|| $init);
        $($crate::local! { $($rest)* })?
    };
}

/// A typed static of which each coroutine has its own value; declared by [`local!`](crate::local).
///
/// Its methods are those of [`std::thread::LocalKey`]. They differ in what they belong to, the
/// coroutine instead of the thread, and at the end: while a value is being dropped its key can be used
/// again, and makes a new value, which is dropped in the next round.
///
/// An initialiser may use the store, and even the key that it initialises; then the value of the
/// outer initialiser replaces that of the inner.
///
/// # Examples
///
/// ```
/// coro::local! {
///     static NUMBER: u64 = coro::tls::id().get();
/// }
///
/// let mine = NUMBER.with(|number| *number);
/// assert_eq!(mine, coro::tls::id().get());
/// assert_ne!(coro::go(|| NUMBER.with(|number| *number)).join().unwrap(), mine);
/// ```
pub struct LocalKey<T: 'static> {
    init: fn() -> T,
    /// The address of a key stands for its type (L3): no two keys have the same address, and none has two types. What
    /// can change is not merged with what is equal, and a pointer that can change makes `T` invariant.
    _unique: AtomicPtr<fn(T) -> T>,
}

/// The value of a [`LocalKey`] cannot be had: the cleanup of its coroutine or thread is over, or in
/// its last round.
///
/// # Examples
///
/// ```
/// use std::sync::mpsc;
///
/// coro::local! {
///     static LOCAL: u32 = 1;
/// }
///
/// /// Dropped by the thread after the storage has been cleaned up.
/// struct Late(mpsc::Sender<bool>);
///
/// impl Drop for Late {
///     fn drop(&mut self) {
///         self.0.send(LOCAL.try_with(|_| ()).is_err()).unwrap();
///     }
/// }
///
/// thread_local! {
///     static LATE: std::cell::OnceCell<Late> = const { std::cell::OnceCell::new() };
/// }
///
/// let (sender, receiver) = mpsc::channel();
/// std::thread::spawn(move || {
///     LATE.with(|late| late.set(Late(sender)).ok());
///     LOCAL.with(|_| ());
/// })
/// .join()
/// .unwrap();
/// assert!(receiver.recv().unwrap());
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct AccessError;

impl fmt::Debug for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessError").finish()
    }
}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a coroutine-local value cannot be accessed after cleanup")
    }
}

impl Error for AccessError {}

#[cold]
#[track_caller]
fn inaccessible() -> ! {
    panic!("{AccessError}")
}

impl<T: 'static> LocalKey<T> {
    /// For `local!`.
    ///
    /// A constant is no key, since the address of a constant is not its own:
    ///
    /// ```compile_fail,E0492
    /// const KEY: &coro::tls::LocalKey<u8> = &coro::tls::LocalKey::__new(|| 1);
    /// ```
    ///
    /// Nor is a key one of two types:
    ///
    /// ```compile_fail
    /// type Any = for<'a> fn(&'a u8);
    /// type Lasting = fn(&'static u8);
    /// fn other(key: &'static coro::tls::LocalKey<Any>) -> &'static coro::tls::LocalKey<Lasting> {
    ///     key
    /// }
    /// ```
    #[doc(hidden)]
    pub const fn __new(init: fn() -> T) -> LocalKey<T> {
        LocalKey { init, _unique: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Runs `f` with the value, which is initialised if this is its first use.
    ///
    /// The value stays alive until `f` returns, even if `f` resets or unloads the store.
    ///
    /// # Panics
    ///
    /// With the message of [`AccessError`] if the value cannot be had, and if the initialiser or `f`
    /// panics.
    ///
    /// # Examples
    ///
    /// ```
    /// coro::local! {
    ///     static GREETING: String = String::from("hello");
    /// }
    /// assert_eq!(GREETING.with(|greeting| greeting.len()), 5);
    /// ```
    ///
    /// The reference does not leave `f`:
    ///
    /// ```compile_fail
    /// coro::local! {
    ///     static GREETING: String = String::from("hello");
    /// }
    /// let greeting: &str = GREETING.with(|greeting| greeting.as_str());
    /// ```
    #[inline]
    #[track_caller]
    pub fn with<F, R>(&'static self, f: F) -> R
    where
        F: FnOnce(&T) -> R,
    {
        match self.at_hand() {
            Some(held) => f(held.value()),
            None => self.with_other(f).unwrap_or_else(|_| inaccessible()),
        }
    }

    /// Runs `f` with the value, which is initialised if this is its first use.
    ///
    /// # Errors
    ///
    /// [`AccessError`] if the value cannot be had; `f` is not run then.
    ///
    /// # Panics
    ///
    /// If the initialiser or `f` panics.
    ///
    /// # Examples
    ///
    /// ```
    /// coro::local! {
    ///     static GREETING: String = String::from("hello");
    /// }
    /// assert_eq!(GREETING.try_with(|greeting| greeting.len()), Ok(5));
    /// ```
    #[inline]
    pub fn try_with<F, R>(&'static self, f: F) -> Result<R, AccessError>
    where
        F: FnOnce(&T) -> R,
    {
        match self.at_hand() {
            Some(held) => Ok(f(held.value())),
            None => self.with_other(f),
        }
    }

    /// The value, if it is among the first five of a coroutine. For the length of a call.
    #[inline(always)]
    fn at_hand(&'static self) -> Option<Held<T>> {
        record::with_coroutine(|record| {
            // SAFETY: L3, a key stores values of its own type, and its address is not another's; L1, on a coroutine's
            // stack, and no caller keeps it.
            unsafe { record.locals().get_fixed(Fixed::of(self)) }
        })?
    }

    /// The value, if there is one.
    fn stored(&'static self) -> Option<Held<T>> {
        record::with(|record| record.locals().get(&Fixed::of(self)))
    }

    /// Runs `f` with a value that is not at hand: with the first one, if there is none and it is not refused.
    ///
    /// `f` is called here, and not where the two ways meet. There the compiler would no longer know that the count was
    /// raised just before, and could not leave it as it is.
    #[inline(never)]
    fn with_other<R>(&'static self, f: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        let held = self.stored().or_else(|| self.first()).ok_or(AccessError)?;
        Ok(f(held.value()))
    }

    /// Stores the first value, unless that is refused.
    #[cold]
    fn first(&'static self) -> Option<Held<T>> {
        let store = |locals: &Locals| {
            if locals.refuses() {
                return None;
            }
            let block = Block::new(Fixed::of(self), Kind::PRIVATE);
            let node = fill!(block.value() = (self.init)());
            locals.insert(node)
        };
        record::with(|record| storing(record, store))
    }

    /// Runs `f` with the value there is, or else stores `value` without running the initialiser.
    #[inline]
    #[track_caller]
    fn put<V>(&'static self, value: V, wrap: fn(V) -> T, f: impl FnOnce(&T, V)) {
        if let Some(held) = self.at_hand().or_else(|| self.stored()) {
            return f(held.value(), value);
        }
        let block = Block::new(Fixed::of(self), Kind::PRIVATE);
        let node = fill!(block.value() = wrap(value));
        if record::with(|record| storing(record, |locals| locals.insert(node))).is_none() {
            inaccessible();
        }
    }
}

impl<T: 'static> LocalKey<Cell<T>> {
    /// Sets the contained value. The initialiser is not run if this is the first use.
    ///
    /// # Panics
    ///
    /// With the message of [`AccessError`] if the value cannot be had.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::cell::Cell;
    ///
    /// coro::local! {
    ///     static LEVEL: Cell<u8> = panic!("not run");
    /// }
    /// LEVEL.set(3);
    /// assert_eq!(LEVEL.get(), 3);
    /// ```
    #[inline]
    #[track_caller]
    pub fn set(&'static self, value: T) {
        self.put(value, Cell::new, |cell, value| cell.set(value));
    }

    /// A copy of the contained value.
    ///
    /// # Panics
    ///
    /// As [`with`](LocalKey::with).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::cell::Cell;
    ///
    /// coro::local! {
    ///     static LEVEL: Cell<u8> = const { Cell::new(1) };
    /// }
    /// assert_eq!(LEVEL.get(), 1);
    /// ```
    #[inline]
    #[track_caller]
    pub fn get(&'static self) -> T
    where
        T: Copy,
    {
        self.with(Cell::get)
    }

    /// Takes the contained value and leaves the default in its place.
    ///
    /// # Panics
    ///
    /// As [`with`](LocalKey::with).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::cell::Cell;
    ///
    /// coro::local! {
    ///     static NEXT: Cell<Option<u8>> = const { Cell::new(Some(1)) };
    /// }
    /// assert_eq!(NEXT.take(), Some(1));
    /// assert_eq!(NEXT.take(), None);
    /// ```
    #[inline]
    #[track_caller]
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(Cell::take)
    }

    /// Replaces the contained value and gives back the old one.
    ///
    /// # Panics
    ///
    /// As [`with`](LocalKey::with).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::cell::Cell;
    ///
    /// coro::local! {
    ///     static LEVEL: Cell<u8> = const { Cell::new(1) };
    /// }
    /// assert_eq!(LEVEL.replace(2), 1);
    /// assert_eq!(LEVEL.replace(3), 2);
    /// ```
    #[inline]
    #[track_caller]
    pub fn replace(&'static self, value: T) -> T {
        self.with(|cell| cell.replace(value))
    }
}

impl<T: 'static> LocalKey<RefCell<T>> {
    /// Runs `f` with the contained value borrowed.
    ///
    /// # Panics
    ///
    /// As [`with`](LocalKey::with), and if the value is mutably borrowed.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::cell::RefCell;
    ///
    /// coro::local! {
    ///     static PATH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// }
    /// assert!(PATH.with_borrow(|path| path.is_empty()));
    /// ```
    #[inline]
    #[track_caller]
    pub fn with_borrow<F, R>(&'static self, f: F) -> R
    where
        F: FnOnce(&T) -> R,
    {
        self.with(|cell| f(&cell.borrow()))
    }

    /// Runs `f` with the contained value mutably borrowed.
    ///
    /// # Panics
    ///
    /// As [`with`](LocalKey::with), and if the value is borrowed.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::cell::RefCell;
    ///
    /// coro::local! {
    ///     static PATH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// }
    /// PATH.with_borrow_mut(|path| path.push(1));
    /// assert_eq!(PATH.take(), [1]);
    /// ```
    #[inline]
    #[track_caller]
    pub fn with_borrow_mut<F, R>(&'static self, f: F) -> R
    where
        F: FnOnce(&mut T) -> R,
    {
        self.with(|cell| f(&mut cell.borrow_mut()))
    }

    /// Sets the contained value. The initialiser is not run if this is the first use.
    ///
    /// # Panics
    ///
    /// With the message of [`AccessError`] if the value cannot be had, and if it is borrowed.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::cell::RefCell;
    ///
    /// coro::local! {
    ///     static USER: RefCell<String> = panic!("not run");
    /// }
    /// USER.set(String::from("Ada"));
    /// assert_eq!(USER.with_borrow(String::len), 3);
    /// ```
    #[inline]
    #[track_caller]
    pub fn set(&'static self, value: T) {
        self.put(value, RefCell::new, |cell, value| *cell.borrow_mut() = value);
    }

    /// Takes the contained value and leaves the default in its place.
    ///
    /// # Panics
    ///
    /// As [`with`](LocalKey::with), and if the value is borrowed.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::cell::RefCell;
    ///
    /// coro::local! {
    ///     static WORDS: RefCell<Vec<&'static str>> = RefCell::new(vec!["a", "b"]);
    /// }
    /// assert_eq!(WORDS.take(), ["a", "b"]);
    /// assert!(WORDS.take().is_empty());
    /// ```
    #[inline]
    #[track_caller]
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(RefCell::take)
    }

    /// Replaces the contained value and gives back the old one.
    ///
    /// # Panics
    ///
    /// As [`with`](LocalKey::with), and if the value is borrowed.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::cell::RefCell;
    ///
    /// coro::local! {
    ///     static USER: RefCell<&'static str> = const { RefCell::new("Ada") };
    /// }
    /// assert_eq!(USER.replace("Grace"), "Ada");
    /// assert_eq!(USER.replace("Alan"), "Grace");
    /// ```
    #[inline]
    #[track_caller]
    pub fn replace(&'static self, value: T) -> T {
        self.with(|cell| cell.replace(value))
    }
}

impl<T: 'static> fmt::Debug for LocalKey<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKey").finish_non_exhaustive()
    }
}
