//! [`Condvar`]: waiting for what a mutex guards to change.

use std::fmt;
use std::mem;
use std::time::{Duration, Instant};

use super::mutex_guard::MutexGuard;
use super::waiters::{Waiters, Wanted};
use crate::task::Waiting;

/// A condition variable: [`std::sync::Condvar`] for coroutines and threads alike.
///
/// A notification is given to one that waits at that moment, and is not kept. If the coroutine that was notified is
/// interrupted before it has the lock again, the notification goes to the next. A wait may also return without one, so
/// a condition is waited for in a loop, or by [`wait_while`](Condvar::wait_while).
///
/// # Examples
///
/// ```
/// use coro::sync::{Condvar, Mutex};
///
/// static READY: Mutex<bool> = Mutex::new(false);
/// static CHANGED: Condvar = Condvar::new();
///
/// coro::go(|| {
///     *READY.lock() = true;
///     CHANGED.notify_one();
/// });
/// let ready = CHANGED.wait_while(READY.lock(), |ready| !*ready);
/// assert!(*ready);
/// ```
pub struct Condvar {
    waiters: Waiters<()>,
}

/// Whether a wait on a [`Condvar`] has reached its limit.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use coro::sync::{Condvar, Mutex};
///
/// let (mutex, condvar) = (Mutex::new(()), Condvar::new());
/// let (_guard, result) = condvar.wait_timeout(mutex.lock(), Duration::from_millis(1));
/// assert!(result.timed_out());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// Whether nobody has notified the caller in time.
    ///
    /// # Examples
    ///
    /// See [`WaitTimeoutResult`].
    #[must_use]
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

/// A notification that goes to the next, unless it is forgotten.
struct PassOn<'a>(&'a Condvar);

impl Drop for PassOn<'_> {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Condvar {
    /// A condition variable that nobody waits on.
    ///
    /// # Examples
    ///
    /// ```
    /// static CHANGED: coro::sync::Condvar = coro::sync::Condvar::new();
    /// CHANGED.notify_all();
    /// ```
    #[track_caller]
    pub const fn new() -> Condvar {
        Condvar { waiters: Waiters::new((), Waiting::Condition) }
    }

    /// Releases the lock, waits until it is notified, and locks again.
    ///
    /// # Panics
    ///
    /// Unwinds, without calling the panic hook, when the coroutine is cancelled or a [`timeout`](crate::timeout) around
    /// it elapses; the lock is released then. In a [`no_suspend`](crate::no_suspend()), and in a process that was forked
    /// from one that uses coroutines.
    ///
    /// # Examples
    ///
    /// ```
    /// use coro::sync::{Condvar, Mutex};
    ///
    /// let (mutex, changed) = (Mutex::new(0), Condvar::new());
    /// coro::scope(|s| {
    ///     s.go(|| {
    ///         *mutex.lock() = 7;
    ///         changed.notify_all();
    ///     });
    ///     let mut value = mutex.lock();
    ///     while *value == 0 {
    ///         value = changed.wait(value);
    ///     }
    ///     assert_eq!(*value, 7);
    /// });
    /// ```
    pub fn wait<'a, T: ?Sized>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.wait_until(guard, None).0
    }

    /// As [`wait`](Condvar::wait), again and again while `condition` says so of the value.
    ///
    /// # Panics
    ///
    /// As [`wait`](Condvar::wait), and with whatever `condition` panics with.
    ///
    /// # Examples
    ///
    /// See [`Condvar`].
    pub fn wait_while<'a, T: ?Sized>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> MutexGuard<'a, T> {
        while condition(&mut guard) {
            guard = self.wait(guard);
        }
        guard
    }

    /// As [`wait`](Condvar::wait), for `limit` at most. Locking again is not limited.
    ///
    /// # Panics
    ///
    /// As [`wait`](Condvar::wait).
    ///
    /// # Examples
    ///
    /// See [`WaitTimeoutResult`].
    pub fn wait_timeout<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        limit: Duration,
    ) -> (MutexGuard<'a, T>, WaitTimeoutResult) {
        self.wait_until(guard, Instant::now().checked_add(limit))
    }

    /// As [`wait_while`](Condvar::wait_while), for `limit` at most, all waits taken together. It has
    /// [timed out](WaitTimeoutResult::timed_out) if `condition` still says so of the value.
    ///
    /// # Panics
    ///
    /// As [`wait_while`](Condvar::wait_while).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use coro::sync::{Condvar, Mutex};
    ///
    /// let (mutex, changed) = (Mutex::new(0), Condvar::new());
    /// let limit = Duration::from_millis(1);
    /// let (value, result) = changed.wait_timeout_while(mutex.lock(), limit, |value| *value == 0);
    /// assert!(result.timed_out() && *value == 0);
    /// ```
    pub fn wait_timeout_while<'a, T: ?Sized>(
        &self,
        mut guard: MutexGuard<'a, T>,
        limit: Duration,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> (MutexGuard<'a, T>, WaitTimeoutResult) {
        let deadline = Instant::now().checked_add(limit);
        let mut is_over = false;
        loop {
            if !condition(&mut guard) {
                return (guard, WaitTimeoutResult(false));
            }
            if is_over {
                return (guard, WaitTimeoutResult(true));
            }
            (guard, WaitTimeoutResult(is_over)) = self.wait_until(guard, deadline);
        }
    }

    fn wait_until<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        deadline: Option<Instant>,
    ) -> (MutexGuard<'a, T>, WaitTimeoutResult) {
        let (raw, value) = MutexGuard::parts(&guard);
        let wanted = Wanted::until(deadline);
        let waited = self.waiters.wait_after(wanted, |_| false, || drop(guard), |_| false);
        let result = WaitTimeoutResult(waited.is_err());
        match waited {
            Ok(()) => {
                let pass_on = PassOn(self);
                raw.lock();
                mem::forget(pass_on);
            }
            Err(gave_up) => {
                gave_up.interrupt();
                raw.lock();
            }
        }
        // SAFETY: N2, we have just locked it. They were a guard's, so the value lives as long.
        (unsafe { MutexGuard::new(raw, value) }, result)
    }

    /// Wakes one of those who wait, the one that came first. If nobody waits, nothing happens.
    ///
    /// # Examples
    ///
    /// See [`Condvar`].
    pub fn notify_one(&self) {
        self.waiters.serve(|_, first| first.is_some());
    }

    /// Wakes all who wait.
    ///
    /// # Examples
    ///
    /// See [`wait`](Condvar::wait).
    pub fn notify_all(&self) {
        self.waiters.serve_all();
    }
}

impl Default for Condvar {
    #[track_caller]
    fn default() -> Condvar {
        Condvar::new()
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condvar").finish_non_exhaustive()
    }
}
