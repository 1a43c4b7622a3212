//! [`Mutex`]: one at a time.

use std::cell::UnsafeCell;
use std::fmt;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use super::mutex_guard::MutexGuard;
use super::raw_lock::RawLock;

/// A value that one coroutine or thread uses at a time.
///
/// [`std::sync::Mutex`] without its poison: a coroutine that is cancelled, or whose
/// [`timeout`](crate::timeout) elapses, unwinds through its guards as a matter of course. A value that must not be left
/// half changed is changed in a [`shield`](crate::shield()), or by code that neither suspends nor panics.
///
/// A guard may be held across a suspension. It stays in its coroutine: it is not `Send`. Whoever locks a mutex that it
/// holds already waits for ever.
///
/// The lock is given to whoever finds it free. A waiter that was woken in vain has it handed over, so nobody starves.
///
/// # Examples
///
/// ```
/// use coro::sync::Mutex;
///
/// static TOTAL: Mutex<u64> = Mutex::new(0);
/// coro::scope(|s| {
///     for i in 0..10 {
///         s.go(move || *TOTAL.lock() += i);
///     }
/// });
/// assert_eq!(*TOTAL.lock(), 45);
/// ```
///
/// A guard does not leave its thread:
///
/// ```compile_fail,E0277
/// static VALUE: coro::sync::Mutex<u8> = coro::sync::Mutex::new(0);
/// let guard = VALUE.lock();
/// coro::go(move || drop(guard));
/// ```
pub struct Mutex<T: ?Sized> {
    raw: RawLock,
    value: UnsafeCell<T>,
}

// SAFETY: N2, the value is used by one at a time, and goes from thread to thread.
unsafe impl<T: ?Sized + Send> Send for Mutex<T> {}
// SAFETY: N2, as above.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}

impl<T> Mutex<T> {
    /// A mutex that is free.
    ///
    /// # Examples
    ///
    /// ```
    /// static MUTEX: coro::sync::Mutex<Vec<u8>> = coro::sync::Mutex::new(Vec::new());
    /// MUTEX.lock().push(1);
    /// ```
    #[track_caller]
    pub const fn new(value: T) -> Mutex<T> {
        Mutex { raw: RawLock::new(), value: UnsafeCell::new(value) }
    }

    /// The value.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(coro::sync::Mutex::new(1).into_inner(), 1);
    /// ```
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits until the mutex is free, and locks it.
    ///
    /// # Panics
    ///
    /// Unwinds, without calling the panic hook, when the coroutine that waits is cancelled or a
    /// [`timeout`](crate::timeout) around it elapses. In a [`no_suspend`](crate::no_suspend()), where it would wait, and
    /// in a process that was forked from one that uses coroutines. A mutex that is free is locked in any case.
    ///
    /// # Examples
    ///
    /// ```
    /// let mutex = coro::sync::Mutex::new(1);
    /// *mutex.lock() += 1;
    /// assert_eq!(*mutex.lock(), 2);
    /// ```
    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.raw.lock();
        // SAFETY: N2, we have just locked it.
        unsafe { self.guard() }
    }

    /// Locks the mutex if it is free.
    ///
    /// # Examples
    ///
    /// ```
    /// let mutex = coro::sync::Mutex::new(1);
    /// let guard = mutex.lock();
    /// assert!(mutex.try_lock().is_none());
    /// drop(guard);
    /// assert!(mutex.try_lock().is_some());
    /// ```
    #[inline]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        // SAFETY: N2, we have just locked it.
        self.raw.try_lock().then(|| unsafe { self.guard() })
    }

    /// As [`lock`](Mutex::lock), for `limit` at most. `None`: it was not free in time.
    ///
    /// # Panics
    ///
    /// As [`lock`](Mutex::lock).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let mutex = coro::sync::Mutex::new(1);
    /// let _guard = mutex.lock();
    /// assert!(mutex.lock_timeout(Duration::from_millis(1)).is_none());
    /// ```
    pub fn lock_timeout(&self, limit: Duration) -> Option<MutexGuard<'_, T>> {
        if let Some(guard) = self.try_lock() {
            return Some(guard);
        }
        let is_locked = self.raw.lock_until(Instant::now().checked_add(limit));
        // SAFETY: N2, we have just locked it.
        is_locked.then(|| unsafe { self.guard() })
    }

    /// The value. Nobody else has it, as the borrow shows, so nothing is locked.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut mutex = coro::sync::Mutex::new(1);
    /// *mutex.get_mut() = 2;
    /// assert_eq!(mutex.into_inner(), 2);
    /// ```
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    /// Whether somebody holds the lock; it may be otherwise when this returns.
    ///
    /// # Examples
    ///
    /// ```
    /// let mutex = coro::sync::Mutex::new(1);
    /// let _guard = mutex.lock();
    /// assert!(mutex.is_locked());
    /// ```
    pub fn is_locked(&self) -> bool {
        self.raw.is_locked()
    }

    /// # Safety
    ///
    /// The caller has taken the lock.
    #[inline(always)]
    unsafe fn guard(&self) -> MutexGuard<'_, T> {
        // SAFETY: a cell is not at null. The caller's word.
        unsafe { MutexGuard::new(&self.raw, NonNull::new_unchecked(self.value.get())) }
    }
}

impl<T: Default> Default for Mutex<T> {
    #[track_caller]
    fn default() -> Mutex<T> {
        Mutex::new(T::default())
    }
}

impl<T> From<T> for Mutex<T> {
    #[track_caller]
    fn from(value: T) -> Mutex<T> {
        Mutex::new(value)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    /// Shows the value if the mutex is free.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Mutex");
        match self.try_lock() {
            Some(guard) => shown.field("data", &&*guard),
            None => shown.field("data", &format_args!("<locked>")),
        };
        shown.finish_non_exhaustive()
    }
}
