//! [`Semaphore`]: so many at a time.

use std::fmt;
use std::mem::ManuallyDrop;
use std::time::{Duration, Instant};

use super::permits::Permits;
use crate::task::{Waiting, spend_budget};

/// Permits, of which there is a number: whoever has one may go on, and gives it back in the end.
///
/// Permits are given in the order in which they were asked for. So whoever asks for many is not starved by those who
/// ask for few; who comes later waits meanwhile, also if there are permits left.
///
/// A loop that never has to wait steps aside now and then, as with [`wait`](crate::wait()).
///
/// # Examples
///
/// ```
/// use coro::sync::Semaphore;
///
/// static CONNECTIONS: Semaphore = Semaphore::new(2);
/// coro::scope(|s| {
///     for _ in 0..10 {
///         s.go(|| {
///             let _permit = CONNECTIONS.acquire();
///             coro::yield_now(); // two at a time are here
///         });
///     }
/// });
/// assert_eq!(CONNECTIONS.available_permits(), 2);
/// ```
pub struct Semaphore {
    permits: Permits,
}

impl Semaphore {
    /// A semaphore with so many permits.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(coro::sync::Semaphore::new(3).available_permits(), 3);
    /// ```
    #[track_caller]
    pub const fn new(permits: usize) -> Semaphore {
        Semaphore { permits: Permits::new(permits, Waiting::Permit) }
    }

    /// Waits for a permit.
    ///
    /// # Panics
    ///
    /// Unwinds, without calling the panic hook, when the coroutine that waits is cancelled or a
    /// [`timeout`](crate::timeout) around it elapses; it has taken no permit then. In a
    /// [`no_suspend`](crate::no_suspend()), where it would wait, and in a process that was forked from one that uses
    /// coroutines.
    ///
    /// # Examples
    ///
    /// ```
    /// let semaphore = coro::sync::Semaphore::new(1);
    /// let permit = semaphore.acquire();
    /// assert_eq!(semaphore.available_permits(), 0);
    /// drop(permit);
    /// assert_eq!(semaphore.available_permits(), 1);
    /// ```
    pub fn acquire(&self) -> SemaphorePermit<'_> {
        self.acquire_many(1)
    }

    /// Waits for `count` permits, and takes them all at once. It waits for ever if there are never as many.
    ///
    /// # Panics
    ///
    /// As [`acquire`](Semaphore::acquire).
    ///
    /// # Examples
    ///
    /// ```
    /// let semaphore = coro::sync::Semaphore::new(3);
    /// let _permits = semaphore.acquire_many(2);
    /// assert_eq!(semaphore.available_permits(), 1);
    /// ```
    pub fn acquire_many(&self, count: usize) -> SemaphorePermit<'_> {
        spend_budget();
        self.permits.acquire(count);
        self.permit(count)
    }

    /// Takes a permit if there is one and nobody waits.
    ///
    /// # Examples
    ///
    /// ```
    /// let semaphore = coro::sync::Semaphore::new(1);
    /// let _permit = semaphore.try_acquire().unwrap();
    /// assert!(semaphore.try_acquire().is_none());
    /// ```
    pub fn try_acquire(&self) -> Option<SemaphorePermit<'_>> {
        self.try_acquire_many(1)
    }

    /// Takes `count` permits if there are as many and nobody waits.
    ///
    /// # Examples
    ///
    /// ```
    /// let semaphore = coro::sync::Semaphore::new(2);
    /// assert!(semaphore.try_acquire_many(3).is_none());
    /// assert!(semaphore.try_acquire_many(2).is_some());
    /// ```
    pub fn try_acquire_many(&self, count: usize) -> Option<SemaphorePermit<'_>> {
        self.permits.try_acquire(count).then(|| self.permit(count))
    }

    /// As [`acquire`](Semaphore::acquire), for `limit` at most. `None`: there was no permit in time.
    ///
    /// # Panics
    ///
    /// As [`acquire`](Semaphore::acquire).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let semaphore = coro::sync::Semaphore::new(0);
    /// assert!(semaphore.acquire_timeout(Duration::from_millis(1)).is_none());
    /// ```
    pub fn acquire_timeout(&self, limit: Duration) -> Option<SemaphorePermit<'_>> {
        self.acquire_many_timeout(1, limit)
    }

    /// As [`acquire_many`](Semaphore::acquire_many), for `limit` at most. `None`: there were not enough in time.
    ///
    /// # Panics
    ///
    /// As [`acquire`](Semaphore::acquire).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let semaphore = coro::sync::Semaphore::new(1);
    /// assert!(semaphore.acquire_many_timeout(2, Duration::from_millis(1)).is_none());
    /// assert_eq!(semaphore.available_permits(), 1);
    /// ```
    pub fn acquire_many_timeout(
        &self,
        count: usize,
        limit: Duration,
    ) -> Option<SemaphorePermit<'_>> {
        spend_budget();
        let deadline = Instant::now().checked_add(limit);
        self.permits.acquire_until(count, deadline).then(|| self.permit(count))
    }

    /// Adds permits.
    ///
    /// # Panics
    ///
    /// When there would be more than a `usize` counts.
    ///
    /// # Examples
    ///
    /// ```
    /// let semaphore = coro::sync::Semaphore::new(0);
    /// semaphore.add_permits(2);
    /// assert_eq!(semaphore.available_permits(), 2);
    /// ```
    #[track_caller]
    pub fn add_permits(&self, count: usize) {
        assert!(self.permits.release(count), "a semaphore would have more permits than it counts");
    }

    /// How many permits nobody has. Some may be meant for one that waits for more.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(coro::sync::Semaphore::new(3).available_permits(), 3);
    /// ```
    pub fn available_permits(&self) -> usize {
        self.permits.available()
    }

    fn permit(&self, count: usize) -> SemaphorePermit<'_> {
        SemaphorePermit { semaphore: self, count }
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let available = self.available_permits();
        f.debug_struct("Semaphore").field("permits", &available).finish_non_exhaustive()
    }
}

/// Permits of a [`Semaphore`], which are given back when this is dropped, on whatever thread.
///
/// # Examples
///
/// ```
/// static SEMAPHORE: coro::sync::Semaphore = coro::sync::Semaphore::new(1);
/// let permit = SEMAPHORE.acquire();
/// coro::go(move || drop(permit)).join().unwrap();
/// assert!(SEMAPHORE.try_acquire().is_some());
/// ```
#[must_use = "the permits are given back when this is dropped"]
#[derive(Debug)]
pub struct SemaphorePermit<'a> {
    semaphore: &'a Semaphore,
    count: usize,
}

impl SemaphorePermit<'_> {
    /// Does not give the permits back: there are so many fewer from now on.
    ///
    /// # Examples
    ///
    /// ```
    /// let semaphore = coro::sync::Semaphore::new(1);
    /// semaphore.acquire().forget();
    /// assert_eq!(semaphore.available_permits(), 0);
    /// ```
    pub fn forget(self) {
        let _ = ManuallyDrop::new(self);
    }

    /// How many permits these are.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(coro::sync::Semaphore::new(3).acquire_many(2).count(), 2);
    /// ```
    pub fn count(&self) -> usize {
        self.count
    }
}

impl Drop for SemaphorePermit<'_> {
    fn drop(&mut self) {
        // If others were added meanwhile and the count is at its end, these are lost.
        self.semaphore.permits.release(self.count);
    }
}
