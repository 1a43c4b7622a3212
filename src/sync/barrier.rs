//! [`Barrier`]: all go on when all are there.

use std::cell::Cell;
use std::fmt;
use std::time::{Duration, Instant};

use super::waiters::{Crowd, Waiters, Wanted};
use crate::task::{Waiting, spend_budget};

/// A barrier: [`std::sync::Barrier`] for coroutines and threads alike. It serves again and again.
///
/// A coroutine that is interrupted while it waits, or whose limit is over, does not count as one that has come.
///
/// # Examples
///
/// ```
/// use coro::sync::Barrier;
///
/// static BARRIER: Barrier = Barrier::new(3);
/// let tasks: Vec<_> = (0..3).map(|_| coro::go(|| BARRIER.wait().is_leader())).collect();
/// let leaders = tasks.into_iter().map(|task| task.join().unwrap());
/// assert_eq!(leaders.filter(|is_leader| *is_leader).count(), 1);
/// ```
pub struct Barrier {
    count: usize,
    waiters: Waiters<Arrivals>,
}

struct Arrivals {
    /// How many wait.
    count: usize,
    /// How often all were there.
    generation: u64,
}

/// What a [`Barrier`] gives to those who go on.
///
/// # Examples
///
/// ```
/// assert!(coro::sync::Barrier::new(1).wait().is_leader());
/// ```
#[derive(Debug)]
pub struct BarrierWaitResult(bool);

impl BarrierWaitResult {
    /// Whether this is the one of them that came last. There is one each time.
    ///
    /// # Examples
    ///
    /// See [`BarrierWaitResult`].
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.0
    }
}

impl Barrier {
    /// A barrier for so many. 0 is as 1.
    ///
    /// # Examples
    ///
    /// ```
    /// static BARRIER: coro::sync::Barrier = coro::sync::Barrier::new(1);
    /// BARRIER.wait();
    /// ```
    #[track_caller]
    pub const fn new(count: usize) -> Barrier {
        let arrivals = Arrivals { count: 0, generation: 0 };
        Barrier { count, waiters: Waiters::new(arrivals, Waiting::Barrier) }
    }

    /// Waits until all are there.
    ///
    /// # Panics
    ///
    /// Unwinds, without calling the panic hook, when the coroutine that waits is cancelled or a
    /// [`timeout`](crate::timeout) around it elapses. In a [`no_suspend`](crate::no_suspend()), where it would wait, and
    /// in a process that was forked from one that uses coroutines.
    ///
    /// # Examples
    ///
    /// See [`Barrier`].
    pub fn wait(&self) -> BarrierWaitResult {
        self.wait_until(None).expect("it has no limit")
    }

    /// As [`wait`](Barrier::wait), for `limit` at most. `None`: not all have come in time, and the caller does not
    /// count as one that has.
    ///
    /// # Panics
    ///
    /// As [`wait`](Barrier::wait).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let barrier = coro::sync::Barrier::new(2);
    /// assert!(barrier.wait_timeout(Duration::from_millis(1)).is_none());
    /// ```
    pub fn wait_timeout(&self, limit: Duration) -> Option<BarrierWaitResult> {
        self.wait_until(Instant::now().checked_add(limit))
    }

    fn wait_until(&self, deadline: Option<Instant>) -> Option<BarrierWaitResult> {
        spend_budget();
        // Bound to a name: the lock is free again before anybody is served.
        let led = self.lead(&mut self.waiters.lock());
        if let Some(before) = led {
            return Some(self.open(before));
        }
        let (mut led, generation) = (None, Cell::new(0));
        let waited = self.waiters.wait(
            Wanted::until(deadline),
            |crowd| {
                led = self.lead(crowd);
                if led.is_none() {
                    crowd.state.count += 1;
                    generation.set(crowd.state.generation);
                }
                led.is_some()
            },
            |crowd| {
                // Later than the last has come, all go on.
                let is_through = crowd.state.generation != generation.get();
                crowd.state.count -= usize::from(!is_through);
                is_through
            },
        );
        match (waited, led) {
            (Ok(()), Some(before)) => Some(self.open(before)),
            (Ok(()), None) => Some(BarrierWaitResult(false)),
            (Err(gave_up), _) => {
                gave_up.interrupt();
                None
            }
        }
    }

    /// If the caller is the last to come: begins the next generation, and gives the ticket before which all go on.
    fn lead(&self, crowd: &mut Crowd<Arrivals>) -> Option<u64> {
        if crowd.state.count + 1 < self.count {
            return None;
        }
        crowd.state.count = 0;
        crowd.state.generation += 1;
        Some(crowd.next)
    }

    fn open(&self, before: u64) -> BarrierWaitResult {
        self.waiters.serve_before(before);
        BarrierWaitResult(true)
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier").field("count", &self.count).finish_non_exhaustive()
    }
}
