//! Locks: those of the standard library without their poison, and a short one of our own.
//!
//! No code of the user's runs under a lock of this crate, so no panic leaves what a lock guards half changed.

use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::atomics::Ordering;
use super::futex::Futex;

/// Locks `mutex`, poisoned or not.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits on `condvar` until it is notified, and locks the mutex again.
pub(crate) fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condvar.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

const FREE: u32 = 0;
const HELD: u32 = 1;
/// Held, and a thread may wait for it in the kernel.
const AWAITED: u32 = 2;

/// How often a thread looks again before it waits in the kernel: longer than the lock is held.
const SPINS: u32 = if cfg!(coro_loom) { 0 } else { 64 };

/// A lock that is held for a few dozen instructions, and never across a suspension. A thread that finds it held spins
/// for a moment, and then waits in the kernel, for its holder may have lost its CPU. (U. Drepper, "Futexes Are Tricky",
/// 2011, the third mutex.)
///
/// - **K1** The content is reached through a guard, and there is one guard at a time.
pub(crate) struct ShortLock<T> {
    word: Futex,
    value: UnsafeCell<T>,
}

// SAFETY: K1, the value goes from thread to thread.
unsafe impl<T: Send> Send for ShortLock<T> {}
// SAFETY: K1, as above.
unsafe impl<T: Send> Sync for ShortLock<T> {}

impl<T> ShortLock<T> {
    #[cfg(not(coro_loom))]
    pub(crate) const fn new(value: T) -> ShortLock<T> {
        ShortLock { word: Futex::new(FREE), value: UnsafeCell::new(value) }
    }

    #[cfg(coro_loom)]
    pub(crate) fn new(value: T) -> ShortLock<T> {
        ShortLock { word: Futex::new(FREE), value: UnsafeCell::new(value) }
    }

    #[inline]
    pub(crate) fn lock(&self) -> ShortGuard<'_, T> {
        // Acquire: pairs with the guard's drop.
        if self.word.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.lock_held();
        }
        ShortGuard { lock: self }
    }

    /// The guard of a caller that has locked it and forgotten the guard.
    ///
    /// # Safety
    ///
    /// The caller holds the lock, and has no other guard of it (K1).
    #[inline]
    pub(crate) unsafe fn held(&self) -> ShortGuard<'_, T> {
        ShortGuard { lock: self }
    }

    #[cold]
    fn lock_held(&self) {
        for _ in 0..SPINS {
            std::hint::spin_loop();
            if self.word.load(Ordering::Relaxed) == FREE
                && self
                    .word
                    .compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed)
                    .is_ok()
            {
                return;
            }
        }
        // From here on it counts as awaited, also when we have it: there may be others.
        while self.word.swap(AWAITED, Ordering::Acquire) != FREE {
            self.word.wait(AWAITED, None);
        }
    }
}

/// The right to use what a [`ShortLock`] guards, until it is dropped.
pub(crate) struct ShortGuard<'a, T> {
    lock: &'a ShortLock<T>,
}

impl<T> Deref for ShortGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: K1.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for ShortGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: K1.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for ShortGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // Release: pairs with `lock`.
        if self.lock.word.swap(FREE, Ordering::Release) == AWAITED {
            self.lock.word.wake();
        }
    }
}

#[cfg(all(test, coro_loom))]
mod tests {
    use loom::thread;
    use std::sync::Arc;

    use super::ShortLock;
    use crate::base::atomics::{Checked, explore};

    /// Three threads go through the lock, and none of them waits for ever.
    #[test]
    fn loom_short_lock_admits_one_at_a_time() {
        explore(Some(3), &[3], |seen| {
            let lock = Arc::new(ShortLock::new(()));
            let count = Arc::new(Checked::new(0));
            let pass = |lock: &ShortLock<()>, count: &Checked<u32>| {
                let _held = lock.lock();
                count.write(|count| *count += 1);
            };
            let others = [(); 2].map(|()| {
                let (lock, count) = (Arc::clone(&lock), Arc::clone(&count));
                thread::spawn(move || pass(&lock, &count))
            });
            pass(&lock, &count);
            others.into_iter().for_each(|other| other.join().unwrap());
            seen.note(count.read(|count| *count));
        });
    }
}
