//! [`WaitGroup`]: waiting until a count is zero.

use std::fmt;
use std::ops::Deref;
use std::time::{Duration, Instant};

use super::waiters::{Crowd, Waiters, Wanted};
use crate::task::{Waiting, spend_budget};

/// Go's `sync.WaitGroup`: a count of what is still to be done, and a wait until it is zero.
///
/// Where the coroutines are started in one place, a [`scope`](crate::scope()) or a [`JoinSet`](crate::JoinSet) says the
/// same with less. A [guard](WaitGroup::guard) counts down also if its coroutine panics or is cancelled.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
///
/// use coro::sync::WaitGroup;
///
/// let group = Arc::new(WaitGroup::new());
/// for _ in 0..3 {
///     let guard = WaitGroup::guard(Arc::clone(&group));
///     coro::go(move || drop(guard));
/// }
/// group.wait();
/// assert_eq!(group.count(), 0);
/// ```
pub struct WaitGroup {
    waiters: Waiters<usize>,
}

impl WaitGroup {
    /// A group whose count is zero.
    ///
    /// # Examples
    ///
    /// ```
    /// static GROUP: coro::sync::WaitGroup = coro::sync::WaitGroup::new();
    /// GROUP.wait();
    /// ```
    #[track_caller]
    pub const fn new() -> WaitGroup {
        WaitGroup { waiters: Waiters::new(0, Waiting::WaitGroup) }
    }

    /// Counts `count` more that are to be done. Before they begin, so that nobody finds a zero in between.
    ///
    /// # Panics
    ///
    /// When the count would be more than a `usize` counts.
    ///
    /// # Examples
    ///
    /// ```
    /// let group = coro::sync::WaitGroup::new();
    /// group.add(2);
    /// group.done();
    /// group.done();
    /// group.wait();
    /// ```
    #[track_caller]
    pub fn add(&self, count: usize) {
        let sum = {
            let mut crowd = self.waiters.lock();
            let sum = crowd.state.checked_add(count);
            crowd.state = sum.unwrap_or(crowd.state);
            sum
        };
        assert!(sum.is_some(), "a wait group would have more to do than it counts");
    }

    /// Counts one as done. At zero, all who wait go on.
    ///
    /// # Panics
    ///
    /// When the count is zero.
    ///
    /// # Examples
    ///
    /// See [`add`](WaitGroup::add).
    #[track_caller]
    pub fn done(&self) {
        let (left, next) = {
            let mut crowd = self.waiters.lock();
            let left = crowd.state.checked_sub(1);
            crowd.state = left.unwrap_or(0);
            (left, crowd.next)
        };
        match left {
            Some(0) => self.waiters.serve_before(next),
            Some(_) => {}
            None => panic!("`done` was called more often than a wait group was added to"),
        }
    }

    /// Waits until the count is zero.
    ///
    /// # Panics
    ///
    /// Unwinds, without calling the panic hook, when the coroutine that waits is cancelled or a
    /// [`timeout`](crate::timeout) around it elapses. In a [`no_suspend`](crate::no_suspend()), where it would wait, and
    /// in a process that was forked from one that uses coroutines.
    ///
    /// # Examples
    ///
    /// See [`WaitGroup`].
    pub fn wait(&self) {
        while !self.wait_until(None) {}
    }

    /// As [`wait`](WaitGroup::wait), for `limit` at most. False: the count was not zero in time.
    ///
    /// # Panics
    ///
    /// As [`wait`](WaitGroup::wait).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let group = coro::sync::WaitGroup::new();
    /// let guard = coro::sync::WaitGroup::guard(&group);
    /// assert!(!group.wait_timeout(Duration::from_millis(1)));
    /// drop(guard);
    /// assert!(group.wait_timeout(Duration::from_millis(1)));
    /// ```
    pub fn wait_timeout(&self, limit: Duration) -> bool {
        self.wait_until(Instant::now().checked_add(limit))
    }

    fn wait_until(&self, deadline: Option<Instant>) -> bool {
        spend_budget();
        if self.count() == 0 {
            return true;
        }
        let is_over = |crowd: &mut Crowd<usize>| crowd.state == 0;
        self.waiters.wait_or_unwind(Wanted::until(deadline), is_over, is_over)
    }

    /// The count.
    ///
    /// # Examples
    ///
    /// ```
    /// let group = coro::sync::WaitGroup::new();
    /// group.add(2);
    /// assert_eq!(group.count(), 2);
    /// ```
    pub fn count(&self) -> usize {
        self.waiters.lock().state
    }

    /// Counts one more, which is done when the guard is dropped. The group may be lent, or owned by an
    /// [`Arc`](std::sync::Arc).
    ///
    /// # Panics
    ///
    /// As [`add`](WaitGroup::add).
    ///
    /// # Examples
    ///
    /// See [`WaitGroup`].
    #[track_caller]
    pub fn guard<G: Deref<Target = WaitGroup>>(group: G) -> WaitGroupGuard<G> {
        group.add(1);
        WaitGroupGuard(group)
    }
}

impl Default for WaitGroup {
    #[track_caller]
    fn default() -> WaitGroup {
        WaitGroup::new()
    }
}

impl fmt::Debug for WaitGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitGroup").field("count", &self.count()).finish_non_exhaustive()
    }
}

/// One that is to be done, from [`WaitGroup::guard`]; it is when this is dropped.
///
/// # Examples
///
/// ```
/// let group = coro::sync::WaitGroup::new();
/// let guard = coro::sync::WaitGroup::guard(&group);
/// assert_eq!(group.count(), 1);
/// drop(guard);
/// assert_eq!(group.count(), 0);
/// ```
#[must_use = "it is done when this is dropped"]
#[derive(Debug)]
pub struct WaitGroupGuard<G: Deref<Target = WaitGroup>>(G);

impl<G: Deref<Target = WaitGroup>> Drop for WaitGroupGuard<G> {
    fn drop(&mut self) {
        self.0.done();
    }
}
