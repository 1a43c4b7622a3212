//! The writer's guards of an `RwLock`.

use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use super::mutex_guard::shows_its_value;
use super::permits::{ALL, Permits};
use super::rw_lock_read_guard::RwLockReadGuard;

/// Gives a writer's permits back.
fn release_writer(permits: &Permits) {
    permits.holder.set(0);
    permits.release(ALL);
}

/// The right to write what an [`RwLock`](super::RwLock) guards; releases the lock when it is dropped.
///
/// # Examples
///
/// ```
/// let lock = coro::sync::RwLock::new(1);
/// let mut guard = lock.write();
/// *guard += 1;
/// ```
#[must_use = "the lock is released when the guard is dropped"]
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    value: NonNull<T>,
    permits: &'a Permits,
    _value: PhantomData<&'a mut T>,
}

// SAFETY: shared, it gives shared access to the value.
unsafe impl<T: ?Sized + Sync> Sync for RwLockWriteGuard<'_, T> {}

impl<'a, T: ?Sized> RwLockWriteGuard<'a, T> {
    /// # Safety
    ///
    /// The caller has locked for writing, and gives that to the guard. The value is what is locked, and lives as
    /// long.
    pub(super) unsafe fn new(permits: &'a Permits, value: NonNull<T>) -> RwLockWriteGuard<'a, T> {
        RwLockWriteGuard { value, permits, _value: PhantomData }
    }

    /// Goes on as a reader, with no writer in between.
    ///
    /// # Examples
    ///
    /// ```
    /// use coro::sync::{RwLock, RwLockWriteGuard};
    ///
    /// let lock = RwLock::new(1);
    /// let reader = RwLockWriteGuard::downgrade(lock.write());
    /// assert_eq!(*reader + *lock.read(), 2);
    /// ```
    pub fn downgrade(guard: RwLockWriteGuard<'a, T>) -> RwLockReadGuard<'a, T> {
        let guard = ManuallyDrop::new(guard);
        guard.permits.holder.set(0);
        guard.permits.release(ALL - 1);
        // SAFETY: N6, one is left.
        unsafe { RwLockReadGuard::new(guard.permits, guard.value) }
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
    /// use coro::sync::{RwLock, RwLockWriteGuard};
    ///
    /// let lock = RwLock::new((1, "word"));
    /// let number = RwLockWriteGuard::map(lock.write(), |pair| &mut pair.0);
    /// assert_eq!(*number, 1);
    /// ```
    pub fn map<U: ?Sized>(
        mut guard: RwLockWriteGuard<'a, T>,
        f: impl FnOnce(&mut T) -> &mut U,
    ) -> MappedRwLockWriteGuard<'a, U> {
        let part = NonNull::from(f(&mut guard));
        MappedRwLockWriteGuard::new(part, ManuallyDrop::new(guard).permits)
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
    /// use coro::sync::{RwLock, RwLockWriteGuard};
    ///
    /// let lock = RwLock::new(vec![1]);
    /// assert!(RwLockWriteGuard::filter_map(lock.write(), |values| values.get_mut(1)).is_err());
    /// assert!(RwLockWriteGuard::filter_map(lock.write(), |values| values.get_mut(0)).is_ok());
    /// ```
    pub fn filter_map<U: ?Sized>(
        mut guard: RwLockWriteGuard<'a, T>,
        f: impl FnOnce(&mut T) -> Option<&mut U>,
    ) -> Result<MappedRwLockWriteGuard<'a, U>, RwLockWriteGuard<'a, T>> {
        match f(&mut guard).map(NonNull::from) {
            Some(part) => Ok(MappedRwLockWriteGuard::new(part, ManuallyDrop::new(guard).permits)),
            None => Err(guard),
        }
    }
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: N6, we hold the lock for writing.
        unsafe { self.value.as_ref() }
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: N6, we hold the lock for writing.
        unsafe { self.value.as_mut() }
    }
}

impl<T: ?Sized> Drop for RwLockWriteGuard<'_, T> {
    fn drop(&mut self) {
        release_writer(self.permits);
    }
}

/// The right to write a part of what an [`RwLock`](super::RwLock) guards, from [`RwLockWriteGuard::map`]; releases the lock when it is
/// dropped.
///
/// # Examples
///
/// ```
/// use coro::sync::{MappedRwLockWriteGuard, RwLock, RwLockWriteGuard};
///
/// fn first(lock: &RwLock<[u8; 2]>) -> MappedRwLockWriteGuard<'_, u8> {
///     RwLockWriteGuard::map(lock.write(), |array| &mut array[0])
/// }
/// assert_eq!(*first(&RwLock::new([1, 2])), 1);
/// ```
#[must_use = "the lock is released when the guard is dropped"]
pub struct MappedRwLockWriteGuard<'a, T: ?Sized> {
    part: NonNull<T>,
    permits: &'a Permits,
    _part: PhantomData<&'a mut T>,
}

// SAFETY: shared, it gives shared access to the part.
unsafe impl<T: ?Sized + Sync> Sync for MappedRwLockWriteGuard<'_, T> {}

impl<'a, T: ?Sized> MappedRwLockWriteGuard<'a, T> {
    /// The lock, which is held, is given to the guard.
    fn new(part: NonNull<T>, permits: &'a Permits) -> MappedRwLockWriteGuard<'a, T> {
        MappedRwLockWriteGuard { part, permits, _part: PhantomData }
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
    /// use coro::sync::{MappedRwLockWriteGuard, RwLock, RwLockWriteGuard};
    ///
    /// let lock = RwLock::new([(1, 2)]);
    /// let pair = RwLockWriteGuard::map(lock.write(), |array| &mut array[0]);
    /// assert_eq!(*MappedRwLockWriteGuard::map(pair, |pair| &mut pair.1), 2);
    /// ```
    pub fn map<U: ?Sized>(
        mut guard: MappedRwLockWriteGuard<'a, T>,
        f: impl FnOnce(&mut T) -> &mut U,
    ) -> MappedRwLockWriteGuard<'a, U> {
        let part = NonNull::from(f(&mut guard));
        MappedRwLockWriteGuard::new(part, ManuallyDrop::new(guard).permits)
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
    /// use coro::sync::{MappedRwLockWriteGuard, RwLock, RwLockWriteGuard};
    ///
    /// let lock = RwLock::new((vec![1], 2));
    /// let values = RwLockWriteGuard::map(lock.write(), |pair| &mut pair.0);
    /// assert!(MappedRwLockWriteGuard::filter_map(values, |values| values.get_mut(1)).is_err());
    /// ```
    pub fn filter_map<U: ?Sized>(
        mut guard: MappedRwLockWriteGuard<'a, T>,
        f: impl FnOnce(&mut T) -> Option<&mut U>,
    ) -> Result<MappedRwLockWriteGuard<'a, U>, MappedRwLockWriteGuard<'a, T>> {
        match f(&mut guard).map(NonNull::from) {
            Some(part) => Ok(MappedRwLockWriteGuard::new(part, ManuallyDrop::new(guard).permits)),
            None => Err(guard),
        }
    }
}

impl<T: ?Sized> Deref for MappedRwLockWriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: N6, we hold the lock for writing, and the part is one of what it guards.
        unsafe { self.part.as_ref() }
    }
}

impl<T: ?Sized> DerefMut for MappedRwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: N6, as above.
        unsafe { self.part.as_mut() }
    }
}

impl<T: ?Sized> Drop for MappedRwLockWriteGuard<'_, T> {
    fn drop(&mut self) {
        release_writer(self.permits);
    }
}

shows_its_value!(RwLockWriteGuard, MappedRwLockWriteGuard);
