//! The reader's guards of an `RwLock`.

use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::NonNull;

use super::mutex_guard::shows_its_value;
use super::permits::Permits;

/// The right to read what an [`RwLock`](super::RwLock) guards; releases the lock when it is dropped.
///
/// # Examples
///
/// ```
/// let lock = coro::sync::RwLock::new(1);
/// let guard = lock.read();
/// assert_eq!(*guard, 1);
/// ```
#[must_use = "the lock is released when the guard is dropped"]
pub struct RwLockReadGuard<'a, T: ?Sized> {
    value: NonNull<T>,
    permits: &'a Permits,
    _value: PhantomData<&'a T>,
}

// SAFETY: shared, it gives shared access to the value.
unsafe impl<T: ?Sized + Sync> Sync for RwLockReadGuard<'_, T> {}

impl<'a, T: ?Sized> RwLockReadGuard<'a, T> {
    /// # Safety
    ///
    /// The caller has locked for reading, and gives that to the guard. The value is what is locked, and lives as
    /// long.
    pub(super) unsafe fn new(permits: &'a Permits, value: NonNull<T>) -> RwLockReadGuard<'a, T> {
        RwLockReadGuard { value, permits, _value: PhantomData }
    }

    /// A guard of a part of the value.
    ///
    /// # Panics
    ///
    /// With whatever `f` panics with; the lock is released.
    ///
    /// # Examples
    ///
    /// ```
    /// use coro::sync::{RwLock, RwLockReadGuard};
    ///
    /// let lock = RwLock::new((1, "word"));
    /// let number = RwLockReadGuard::map(lock.read(), |pair| &pair.0);
    /// assert_eq!(*number, 1);
    /// ```
    pub fn map<U: ?Sized>(
        guard: RwLockReadGuard<'a, T>,
        f: impl FnOnce(&T) -> &U,
    ) -> MappedRwLockReadGuard<'a, U> {
        let part = NonNull::from(f(&guard));
        MappedRwLockReadGuard::new(part, ManuallyDrop::new(guard).permits)
    }

    /// A guard of a part of the value, if there is one.
    ///
    /// # Errors
    ///
    /// The guard of the whole, if `f` gives `None`.
    ///
    /// # Panics
    ///
    /// With whatever `f` panics with; the lock is released.
    ///
    /// # Examples
    ///
    /// ```
    /// use coro::sync::{RwLock, RwLockReadGuard};
    ///
    /// let lock = RwLock::new(vec![1]);
    /// assert!(RwLockReadGuard::filter_map(lock.read(), |values| values.get(1)).is_err());
    /// assert!(RwLockReadGuard::filter_map(lock.read(), |values| values.get(0)).is_ok());
    /// ```
    pub fn filter_map<U: ?Sized>(
        guard: RwLockReadGuard<'a, T>,
        f: impl FnOnce(&T) -> Option<&U>,
    ) -> Result<MappedRwLockReadGuard<'a, U>, RwLockReadGuard<'a, T>> {
        match f(&guard).map(NonNull::from) {
            Some(part) => Ok(MappedRwLockReadGuard::new(part, ManuallyDrop::new(guard).permits)),
            None => Err(guard),
        }
    }
}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: N6, we hold the lock for reading.
        unsafe { self.value.as_ref() }
    }
}

impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    fn drop(&mut self) {
        self.permits.release(1);
    }
}

/// The right to read a part of what an [`RwLock`](super::RwLock) guards, from [`RwLockReadGuard::map`]; releases the lock when it is
/// dropped.
///
/// # Examples
///
/// ```
/// use coro::sync::{MappedRwLockReadGuard, RwLock, RwLockReadGuard};
///
/// fn first(lock: &RwLock<[u8; 2]>) -> MappedRwLockReadGuard<'_, u8> {
///     RwLockReadGuard::map(lock.read(), |array| &array[0])
/// }
/// assert_eq!(*first(&RwLock::new([1, 2])), 1);
/// ```
#[must_use = "the lock is released when the guard is dropped"]
pub struct MappedRwLockReadGuard<'a, T: ?Sized> {
    part: NonNull<T>,
    permits: &'a Permits,
    _part: PhantomData<&'a T>,
}

// SAFETY: shared, it gives shared access to the part.
unsafe impl<T: ?Sized + Sync> Sync for MappedRwLockReadGuard<'_, T> {}

impl<'a, T: ?Sized> MappedRwLockReadGuard<'a, T> {
    /// The lock, which is held, is given to the guard.
    fn new(part: NonNull<T>, permits: &'a Permits) -> MappedRwLockReadGuard<'a, T> {
        MappedRwLockReadGuard { part, permits, _part: PhantomData }
    }

    /// A guard of a part of the part.
    ///
    /// # Panics
    ///
    /// With whatever `f` panics with; the lock is released.
    ///
    /// # Examples
    ///
    /// ```
    /// use coro::sync::{MappedRwLockReadGuard, RwLock, RwLockReadGuard};
    ///
    /// let lock = RwLock::new([(1, 2)]);
    /// let pair = RwLockReadGuard::map(lock.read(), |array| &array[0]);
    /// assert_eq!(*MappedRwLockReadGuard::map(pair, |pair| &pair.1), 2);
    /// ```
    pub fn map<U: ?Sized>(
        guard: MappedRwLockReadGuard<'a, T>,
        f: impl FnOnce(&T) -> &U,
    ) -> MappedRwLockReadGuard<'a, U> {
        let part = NonNull::from(f(&guard));
        MappedRwLockReadGuard::new(part, ManuallyDrop::new(guard).permits)
    }

    /// A guard of a part of the part, if there is one.
    ///
    /// # Errors
    ///
    /// The guard as it was, if `f` gives `None`.
    ///
    /// # Panics
    ///
    /// With whatever `f` panics with; the lock is released.
    ///
    /// # Examples
    ///
    /// ```
    /// use coro::sync::{MappedRwLockReadGuard, RwLock, RwLockReadGuard};
    ///
    /// let lock = RwLock::new((vec![1], 2));
    /// let values = RwLockReadGuard::map(lock.read(), |pair| &pair.0);
    /// assert!(MappedRwLockReadGuard::filter_map(values, |values| values.get(1)).is_err());
    /// ```
    pub fn filter_map<U: ?Sized>(
        guard: MappedRwLockReadGuard<'a, T>,
        f: impl FnOnce(&T) -> Option<&U>,
    ) -> Result<MappedRwLockReadGuard<'a, U>, MappedRwLockReadGuard<'a, T>> {
        match f(&guard).map(NonNull::from) {
            Some(part) => Ok(MappedRwLockReadGuard::new(part, ManuallyDrop::new(guard).permits)),
            None => Err(guard),
        }
    }
}

impl<T: ?Sized> Deref for MappedRwLockReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: N6, we hold the lock for reading, and the part is one of what it guards.
        unsafe { self.part.as_ref() }
    }
}

impl<T: ?Sized> Drop for MappedRwLockReadGuard<'_, T> {
    fn drop(&mut self) {
        self.permits.release(1);
    }
}

shows_its_value!(RwLockReadGuard, MappedRwLockReadGuard);
