//! [`LazyLock`]: a value that is made when it is first used.
//!
//! - **N8** The initialiser is taken by the one whose turn it is in the `OnceLock`.

use std::cell::Cell;
use std::fmt;
use std::ops::Deref;
use std::panic::UnwindSafe;

use super::once_lock::OnceLock;
use crate::task::shield;

/// A value that is made when it is first used: [`std::sync::LazyLock`] for coroutines and threads alike.
///
/// The initialiser may suspend; the others that want the value wait for it. It runs once, and in a
/// [`shield`](crate::shield()): a cancellation or a [`timeout`](crate::timeout) that came in the middle would leave no
/// way to make the value. For the same reason an initialiser that panics poisons the lock, as std's: each use of it
/// panics from then on.
///
/// # Examples
///
/// ```
/// use coro::sync::LazyLock;
///
/// static WORDS: LazyLock<Vec<&str>> = LazyLock::new(|| "one two".split(' ').collect());
/// assert_eq!(coro::go(|| WORDS.len()).join().unwrap(), 2);
/// ```
pub struct LazyLock<T, F = fn() -> T> {
    once: OnceLock<T>,
    init: Cell<Option<F>>,
}

// SAFETY: N8, one thread at a time has the initialiser, which goes there from another.
unsafe impl<T: Send + Sync, F: Send> Sync for LazyLock<T, F> {}

impl<T: UnwindSafe, F: UnwindSafe> UnwindSafe for LazyLock<T, F> {}
impl<T: std::panic::RefUnwindSafe + UnwindSafe, F: UnwindSafe> std::panic::RefUnwindSafe
    for LazyLock<T, F>
{
}

impl<T, F: FnOnce() -> T> LazyLock<T, F> {
    /// A value that `init` is to make.
    ///
    /// # Examples
    ///
    /// ```
    /// let lazy = coro::sync::LazyLock::new(|| 6 * 7);
    /// assert_eq!(*lazy, 42);
    /// ```
    #[track_caller]
    pub const fn new(init: F) -> LazyLock<T, F> {
        LazyLock { once: OnceLock::new(), init: Cell::new(Some(init)) }
    }

    /// The value, made now if it was not before. As `&*this`.
    ///
    /// # Panics
    ///
    /// With whatever the initialiser panics with, and from then on each time. When the initialiser itself wants the
    /// value. Unwinds, without calling the panic hook, when a coroutine that waits for the initialiser of another is
    /// cancelled or a [`timeout`](crate::timeout) around it elapses. In a [`no_suspend`](crate::no_suspend()), where it
    /// would wait, and in a process that was forked from one that uses coroutines.
    ///
    /// # Examples
    ///
    /// ```
    /// use coro::sync::LazyLock;
    ///
    /// let lazy = LazyLock::new(|| 6 * 7);
    /// assert_eq!(LazyLock::force(&lazy), &42);
    /// ```
    #[inline]
    #[track_caller]
    pub fn force(this: &LazyLock<T, F>) -> &T {
        this.once.get_or_init(|| {
            // N8: nobody else is here.
            let init = this.init.take().expect("the initialiser of this LazyLock has panicked");
            shield(init)
        })
    }
}

impl<T, F: FnOnce() -> T> Deref for LazyLock<T, F> {
    type Target = T;

    #[inline]
    #[track_caller]
    fn deref(&self) -> &T {
        LazyLock::force(self)
    }
}

impl<T: Default> Default for LazyLock<T> {
    #[track_caller]
    fn default() -> LazyLock<T> {
        LazyLock::new(T::default)
    }
}

impl<T: fmt::Debug, F> fmt::Debug for LazyLock<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_tuple("LazyLock");
        match self.once.get() {
            Some(value) => shown.field(value),
            None => shown.field(&format_args!("<uninit>")),
        };
        shown.finish()
    }
}
