//! [`MutexGuard`] and [`MappedMutexGuard`]: the right to use what a mutex guards, or a part of it.

use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use super::raw_lock::RawLock;

/// The right to use what a [`Mutex`](super::Mutex) guards; releases the lock when it is dropped.
///
/// # Examples
///
/// ```
/// let mutex = coro::sync::Mutex::new(vec![1, 2]);
/// let mut guard = mutex.lock();
/// guard.push(3);
/// assert_eq!(guard.len(), 3);
/// ```
#[must_use = "the lock is released when the guard is dropped"]
pub struct MutexGuard<'a, T: ?Sized> {
    value: NonNull<T>,
    raw: &'a RawLock,
    _value: PhantomData<&'a mut T>,
}

// SAFETY: shared, it gives shared access to the value.
unsafe impl<T: ?Sized + Sync> Sync for MutexGuard<'_, T> {}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    /// # Safety
    ///
    /// The caller has taken the lock, and gives it to the guard. The value is what it guards, and lives as long.
    #[inline(always)]
    pub(super) unsafe fn new(raw: &'a RawLock, value: NonNull<T>) -> MutexGuard<'a, T> {
        MutexGuard { value, raw, _value: PhantomData }
    }

    /// Of what a guard is made.
    pub(super) fn parts(guard: &MutexGuard<'a, T>) -> (&'a RawLock, NonNull<T>) {
        (guard.raw, guard.value)
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
    /// use coro::sync::{Mutex, MutexGuard};
    ///
    /// let mutex = Mutex::new((1, "word"));
    /// let mut number = MutexGuard::map(mutex.lock(), |pair| &mut pair.0);
    /// *number += 1;
    /// drop(number);
    /// assert_eq!(mutex.lock().0, 2);
    /// ```
    pub fn map<U: ?Sized>(
        mut guard: MutexGuard<'a, T>,
        f: impl FnOnce(&mut T) -> &mut U,
    ) -> MappedMutexGuard<'a, U> {
        let part = NonNull::from(f(&mut guard));
        MappedMutexGuard::new(part, ManuallyDrop::new(guard).raw)
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
    /// use coro::sync::{Mutex, MutexGuard};
    ///
    /// let mutex = Mutex::new(vec![1]);
    /// assert!(MutexGuard::filter_map(mutex.lock(), |values| values.get_mut(1)).is_err());
    /// assert!(MutexGuard::filter_map(mutex.lock(), |values| values.get_mut(0)).is_ok());
    /// ```
    pub fn filter_map<U: ?Sized>(
        mut guard: MutexGuard<'a, T>,
        f: impl FnOnce(&mut T) -> Option<&mut U>,
    ) -> Result<MappedMutexGuard<'a, U>, MutexGuard<'a, T>> {
        match f(&mut guard).map(NonNull::from) {
            Some(part) => Ok(MappedMutexGuard::new(part, ManuallyDrop::new(guard).raw)),
            None => Err(guard),
        }
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: N2, we hold the lock.
        unsafe { self.value.as_ref() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: N2, we hold the lock.
        unsafe { self.value.as_mut() }
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.raw.unlock();
    }
}

/// The right to use a part of what a [`Mutex`](super::Mutex) guards, from [`MutexGuard::map`]; releases the lock when it is dropped.
///
/// # Examples
///
/// ```
/// use coro::sync::{MappedMutexGuard, Mutex, MutexGuard};
///
/// fn first(mutex: &Mutex<[u8; 2]>) -> MappedMutexGuard<'_, u8> {
///     MutexGuard::map(mutex.lock(), |array| &mut array[0])
/// }
/// assert_eq!(*first(&Mutex::new([1, 2])), 1);
/// ```
#[must_use = "the lock is released when the guard is dropped"]
pub struct MappedMutexGuard<'a, T: ?Sized> {
    part: NonNull<T>,
    raw: &'a RawLock,
    _part: PhantomData<&'a mut T>,
}

// SAFETY: shared, it gives shared access to the part.
unsafe impl<T: ?Sized + Sync> Sync for MappedMutexGuard<'_, T> {}

impl<'a, T: ?Sized> MappedMutexGuard<'a, T> {
    /// The lock, which is held, is given to the guard.
    fn new(part: NonNull<T>, raw: &'a RawLock) -> MappedMutexGuard<'a, T> {
        MappedMutexGuard { part, raw, _part: PhantomData }
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
    /// use coro::sync::{MappedMutexGuard, Mutex, MutexGuard};
    ///
    /// let mutex = Mutex::new([(1, 2)]);
    /// let pair = MutexGuard::map(mutex.lock(), |array| &mut array[0]);
    /// assert_eq!(*MappedMutexGuard::map(pair, |pair| &mut pair.1), 2);
    /// ```
    pub fn map<U: ?Sized>(
        mut guard: MappedMutexGuard<'a, T>,
        f: impl FnOnce(&mut T) -> &mut U,
    ) -> MappedMutexGuard<'a, U> {
        let part = NonNull::from(f(&mut guard));
        MappedMutexGuard::new(part, ManuallyDrop::new(guard).raw)
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
    /// use coro::sync::{MappedMutexGuard, Mutex, MutexGuard};
    ///
    /// let mutex = Mutex::new((vec![1], 2));
    /// let values = MutexGuard::map(mutex.lock(), |pair| &mut pair.0);
    /// assert!(MappedMutexGuard::filter_map(values, |values| values.get_mut(1)).is_err());
    /// ```
    pub fn filter_map<U: ?Sized>(
        mut guard: MappedMutexGuard<'a, T>,
        f: impl FnOnce(&mut T) -> Option<&mut U>,
    ) -> Result<MappedMutexGuard<'a, U>, MappedMutexGuard<'a, T>> {
        match f(&mut guard).map(NonNull::from) {
            Some(part) => Ok(MappedMutexGuard::new(part, ManuallyDrop::new(guard).raw)),
            None => Err(guard),
        }
    }
}

impl<T: ?Sized> Deref for MappedMutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: N2, we hold the lock, and the part is one of what it guards.
        unsafe { self.part.as_ref() }
    }
}

impl<T: ?Sized> DerefMut for MappedMutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: N2, as above.
        unsafe { self.part.as_mut() }
    }
}

impl<T: ?Sized> Drop for MappedMutexGuard<'_, T> {
    fn drop(&mut self) {
        self.raw.unlock();
    }
}

macro_rules! shows_its_value {
    ($($guard:ident),*) => {$(
        impl<T: ?Sized + fmt::Debug> fmt::Debug for $guard<'_, T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&**self, f)
            }
        }

        impl<T: ?Sized + fmt::Display> fmt::Display for $guard<'_, T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&**self, f)
            }
        }
    )*};
}

pub(super) use shows_its_value;

shows_its_value!(MutexGuard, MappedMutexGuard);
