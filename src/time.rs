//! Waiting for a time, on tasks and on plain threads.

use std::thread;
use std::time::{Duration, Instant};

use crate::runtime::Timer;
use crate::task::current_task;

/// Suspends the coroutine for at least `duration`; [`Duration::MAX`] is for ever. On a plain thread:
/// [`std::thread::sleep`].
///
/// # Panics
///
/// Unwinds, without calling the panic hook, when the coroutine is cancelled.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
///
/// let start = Instant::now();
/// let naps: Vec<_> =
///     (0..1000).map(|_| coro::go(|| coro::sleep(Duration::from_millis(10)))).collect();
/// naps.into_iter().for_each(|nap| nap.join().unwrap());
/// assert!(start.elapsed() >= Duration::from_millis(10));
/// ```
pub fn sleep(duration: Duration) {
    match Instant::now().checked_add(duration) {
        Some(deadline) => sleep_until(deadline),
        None => loop {
            crate::task::park();
        },
    }
}

/// Suspends the coroutine until `deadline`, or not at all if that is past. On a plain thread it
/// blocks the thread.
///
/// # Panics
///
/// Unwinds, without calling the panic hook, when the coroutine is cancelled.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
///
/// let deadline = Instant::now() + Duration::from_millis(5);
/// coro::go(move || coro::sleep_until(deadline)).join().unwrap();
/// assert!(Instant::now() >= deadline);
/// ```
pub fn sleep_until(deadline: Instant) {
    let Some(task) = current_task() else {
        return thread::sleep(deadline.saturating_duration_since(Instant::now()));
    };
    if deadline <= Instant::now() {
        return task.yield_now();
    }
    let _timer = Timer::set(&task, deadline);
    while Instant::now() < deadline {
        task.park();
    }
}

/// As [`park`](crate::park), but returns after `duration` at the latest.
///
/// # Panics
///
/// Unwinds, without calling the panic hook, when the coroutine is cancelled.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
///
/// coro::go(|| {
///     let start = Instant::now();
///     coro::park_timeout(Duration::from_millis(5));
///     assert!(start.elapsed() >= Duration::from_millis(5)); // nobody has unparked us
/// })
/// .join()
/// .unwrap();
/// ```
pub fn park_timeout(duration: Duration) {
    let Some(task) = current_task() else { return thread::park_timeout(duration) };
    match Instant::now().checked_add(duration) {
        Some(deadline) => {
            let _timer = Timer::set(&task, deadline);
            task.park();
        }
        None => task.park(),
    }
}
