//! [`Notify`]: waking without a value.

use std::fmt;
use std::time::{Duration, Instant};

use super::waiters::{Crowd, Waiters, Wanted};
use crate::task::{Waiting, spend_budget};

/// Notifications without a value, as tokio's `Notify`: a semaphore with one permit at most, which starts with none.
///
/// [`notify_one`](Notify::notify_one) wakes one that waits, or is kept for the next to come. So whoever looks whether
/// there is something to do, and waits if not, misses nothing. [`notify_waiters`](Notify::notify_waiters) wakes all who
/// wait now, and is not kept.
///
/// # Examples
///
/// ```
/// use coro::sync::Notify;
///
/// static WORK: Notify = Notify::new();
/// let worker = coro::go(|| WORK.wait());
/// WORK.notify_one(); // whether it waits already or not
/// worker.join().unwrap();
/// ```
pub struct Notify {
    /// Whether a notification is kept; only while nobody waits.
    waiters: Waiters<bool>,
}

impl Notify {
    /// Nobody waits, and no notification is kept.
    ///
    /// # Examples
    ///
    /// ```
    /// static NOTIFY: coro::sync::Notify = coro::sync::Notify::new();
    /// NOTIFY.notify_waiters();
    /// ```
    #[track_caller]
    pub const fn new() -> Notify {
        Notify { waiters: Waiters::new(false, Waiting::Notification) }
    }

    /// Wakes the one that has waited longest. If nobody waits, the next [`wait`](Notify::wait) returns at once; several
    /// such notifications are as one.
    ///
    /// # Examples
    ///
    /// ```
    /// let notify = coro::sync::Notify::new();
    /// notify.notify_one();
    /// notify.wait();
    /// ```
    pub fn notify_one(&self) {
        self.waiters.serve(|crowd, first| {
            crowd.state |= first.is_none();
            first.is_some()
        });
    }

    /// Wakes all who wait now. Who comes later is not affected.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let notify = coro::sync::Notify::new();
    /// notify.notify_waiters();
    /// assert!(!notify.wait_timeout(Duration::from_millis(1)));
    /// ```
    pub fn notify_waiters(&self) {
        self.waiters.serve_all();
    }

    /// Waits until it is notified.
    ///
    /// # Panics
    ///
    /// Unwinds, without calling the panic hook, when the coroutine that waits is cancelled or a
    /// [`timeout`](crate::timeout) around it elapses; it has taken no notification then. In a
    /// [`no_suspend`](crate::no_suspend()), where it would wait, and in a process that was forked from one that uses
    /// coroutines.
    ///
    /// # Examples
    ///
    /// See [`Notify`].
    pub fn wait(&self) {
        while !self.wait_until(None) {}
    }

    /// As [`wait`](Notify::wait), for `limit` at most. False: it was not notified in time.
    ///
    /// # Panics
    ///
    /// As [`wait`](Notify::wait).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let notify = coro::sync::Notify::new();
    /// notify.notify_one();
    /// assert!(notify.wait_timeout(Duration::from_millis(1)));
    /// assert!(!notify.wait_timeout(Duration::from_millis(1)));
    /// ```
    pub fn wait_timeout(&self, limit: Duration) -> bool {
        self.wait_until(Instant::now().checked_add(limit))
    }

    fn wait_until(&self, deadline: Option<Instant>) -> bool {
        spend_budget();
        let take = |crowd: &mut Crowd<bool>| std::mem::take(&mut crowd.state);
        if take(&mut self.waiters.lock()) {
            return true;
        }
        self.waiters.wait_or_unwind(Wanted::until(deadline), take, |_| false)
    }
}

impl Default for Notify {
    #[track_caller]
    fn default() -> Notify {
        Notify::new()
    }
}

impl fmt::Debug for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_kept = self.waiters.lock().state;
        f.debug_struct("Notify").field("notified", &is_kept).finish_non_exhaustive()
    }
}
