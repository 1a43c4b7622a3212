//! [`RwLock`]: many who read, or one who writes.
//!
//! - **N6** Permits are conserved: who reads has one and who writes has all, from the moment of locking until the guard
//!   is dropped. So nobody reads while somebody writes, and one writes at a time.

use std::cell::UnsafeCell;
use std::fmt;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use super::permits::{ALL, Permits};
use super::rw_lock_read_guard::RwLockReadGuard;
use super::rw_lock_write_guard::RwLockWriteGuard;
use crate::task::{LockHolder, Waiting};

/// A value that many read at a time, or one writes: [`std::sync::RwLock`] without its poison, for coroutines and
/// threads alike. There is no poison for the reason that is given at [`Mutex`](super::Mutex).
///
/// The lock is given in the order in which it was asked for. A reader that comes after a waiting writer waits, so
/// writers are not starved. Therefore a coroutine that reads already, and reads once more, waits for ever if a writer
/// has come in between.
///
/// # Examples
///
/// ```
/// use coro::sync::RwLock;
///
/// static LIMITS: RwLock<(u32, u32)> = RwLock::new((0, 10));
/// coro::scope(|s| {
///     s.go(|| *LIMITS.write() = (5, 15));
///     s.go(|| {
///         let limits = LIMITS.read();
///         assert_eq!(limits.1 - limits.0, 10);
///     });
/// });
/// ```
pub struct RwLock<T: ?Sized> {
    permits: Permits,
    value: UnsafeCell<T>,
}

// SAFETY: N6, the value goes from thread to thread.
unsafe impl<T: ?Sized + Send> Send for RwLock<T> {}
// SAFETY: N6, and readers share it.
unsafe impl<T: ?Sized + Send + Sync> Sync for RwLock<T> {}

impl<T> RwLock<T> {
    /// A lock that is free.
    ///
    /// # Examples
    ///
    /// ```
    /// static LOCK: coro::sync::RwLock<u8> = coro::sync::RwLock::new(1);
    /// assert_eq!(*LOCK.read(), 1);
    /// ```
    #[track_caller]
    pub const fn new(value: T) -> RwLock<T> {
        RwLock { permits: Permits::new(ALL, Waiting::Lock), value: UnsafeCell::new(value) }
    }

    /// The value.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(coro::sync::RwLock::new(1).into_inner(), 1);
    /// ```
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Waits until nobody writes, and locks for reading.
    ///
    /// # Panics
    ///
    /// Unwinds, without calling the panic hook, when the coroutine that waits is cancelled or a
    /// [`timeout`](crate::timeout) around it elapses. In a [`no_suspend`](crate::no_suspend()), where it would wait, and
    /// in a process that was forked from one that uses coroutines.
    ///
    /// # Examples
    ///
    /// ```
    /// let lock = coro::sync::RwLock::new(1);
    /// let (first, second) = (lock.read(), lock.read());
    /// assert_eq!(*first + *second, 2);
    /// ```
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        self.permits.acquire(1);
        self.reader()
    }

    /// Locks for reading if nobody writes or waits.
    ///
    /// # Examples
    ///
    /// ```
    /// let lock = coro::sync::RwLock::new(1);
    /// let _writer = lock.write();
    /// assert!(lock.try_read().is_none());
    /// ```
    pub fn try_read(&self) -> Option<RwLockReadGuard<'_, T>> {
        self.permits.try_acquire(1).then(|| self.reader())
    }

    /// As [`read`](RwLock::read), for `limit` at most. `None`: it could not be locked in time.
    ///
    /// # Panics
    ///
    /// As [`read`](RwLock::read).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let lock = coro::sync::RwLock::new(1);
    /// let _writer = lock.write();
    /// assert!(lock.read_timeout(Duration::from_millis(1)).is_none());
    /// ```
    pub fn read_timeout(&self, limit: Duration) -> Option<RwLockReadGuard<'_, T>> {
        let deadline = Instant::now().checked_add(limit);
        self.permits.acquire_until(1, deadline).then(|| self.reader())
    }

    /// Waits until nobody reads or writes, and locks for writing.
    ///
    /// # Panics
    ///
    /// As [`read`](RwLock::read).
    ///
    /// # Examples
    ///
    /// ```
    /// let lock = coro::sync::RwLock::new(1);
    /// *lock.write() += 1;
    /// assert_eq!(*lock.read(), 2);
    /// ```
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.permits.acquire(ALL);
        self.writer()
    }

    /// Locks for writing if nobody reads, writes or waits.
    ///
    /// # Examples
    ///
    /// ```
    /// let lock = coro::sync::RwLock::new(1);
    /// let _reader = lock.read();
    /// assert!(lock.try_write().is_none());
    /// ```
    pub fn try_write(&self) -> Option<RwLockWriteGuard<'_, T>> {
        self.permits.try_acquire(ALL).then(|| self.writer())
    }

    /// As [`write`](RwLock::write), for `limit` at most. `None`: it could not be locked in time.
    ///
    /// # Panics
    ///
    /// As [`read`](RwLock::read).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let lock = coro::sync::RwLock::new(1);
    /// let _reader = lock.read();
    /// assert!(lock.write_timeout(Duration::from_millis(1)).is_none());
    /// ```
    pub fn write_timeout(&self, limit: Duration) -> Option<RwLockWriteGuard<'_, T>> {
        let deadline = Instant::now().checked_add(limit);
        self.permits.acquire_until(ALL, deadline).then(|| self.writer())
    }

    /// The value. Nobody else has it, as the borrow shows, so nothing is locked.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut lock = coro::sync::RwLock::new(1);
    /// *lock.get_mut() = 2;
    /// assert_eq!(lock.into_inner(), 2);
    /// ```
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    fn reader(&self) -> RwLockReadGuard<'_, T> {
        // SAFETY: N6, we have just got one.
        unsafe { RwLockReadGuard::new(&self.permits, self.value()) }
    }

    fn writer(&self) -> RwLockWriteGuard<'_, T> {
        self.permits.holder.set(LockHolder::here());
        // SAFETY: N6, we have just got all.
        unsafe { RwLockWriteGuard::new(&self.permits, self.value()) }
    }

    fn value(&self) -> NonNull<T> {
        // SAFETY: a cell is not at null.
        unsafe { NonNull::new_unchecked(self.value.get()) }
    }
}

impl<T: Default> Default for RwLock<T> {
    #[track_caller]
    fn default() -> RwLock<T> {
        RwLock::new(T::default())
    }
}

impl<T> From<T> for RwLock<T> {
    #[track_caller]
    fn from(value: T) -> RwLock<T> {
        RwLock::new(value)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    /// Shows the value if nobody writes or waits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("RwLock");
        match self.try_read() {
            Some(guard) => shown.field("data", &&*guard),
            None => shown.field("data", &format_args!("<locked>")),
        };
        shown.finish_non_exhaustive()
    }
}
