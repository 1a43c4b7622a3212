//! Waiting for a time, and for no longer than a time, on tasks and on plain threads.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use crate::record;
use crate::task::{
    Deadline, ParkReason, ThreadParker, current_task, park_thread, wait_on_thread, yield_now,
};
use crate::unwind::{Interruption, panicking};

/// Suspends the coroutine for at least `duration`; [`Duration::MAX`] is for ever. On a plain thread
/// it blocks the thread.
///
/// # Panics
///
/// Unwinds, without calling the panic hook, when the coroutine is cancelled or a [`timeout`] around
/// it elapses.
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
        None => sleep_for_ever(),
    }
}

fn sleep_for_ever() -> ! {
    loop {
        match current_task() {
            Some(task) => task.park(ParkReason::SLEEP),
            None => sleep_on_thread(None),
        }
    }
}

/// Blocks the calling thread until `deadline`.
fn sleep_on_thread(deadline: Option<Instant>) {
    let parker = ThreadParker::here();
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return;
        }
        wait_on_thread(&parker, parker.wakes(), left);
    }
}

/// Suspends the coroutine until `deadline`, or just lets others go first if that is past. On a plain
/// thread it blocks the thread.
///
/// # Panics
///
/// Unwinds, without calling the panic hook, when the coroutine is cancelled or a [`timeout`] around
/// it elapses.
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
    if deadline <= Instant::now() {
        return yield_now();
    }
    match current_task() {
        Some(task) => {
            while Instant::now() < deadline {
                task.park_until(deadline, ParkReason::SLEEP);
            }
        }
        None => sleep_on_thread(Some(deadline)),
    }
}

/// As [`park`](crate::park), but returns after `duration` at the latest.
///
/// # Panics
///
/// Unwinds, without calling the panic hook, when the coroutine is cancelled or a [`timeout`] around
/// it elapses.
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
    let deadline = Instant::now().checked_add(duration);
    match (current_task(), deadline) {
        (Some(task), Some(deadline)) => task.park_until(deadline, ParkReason::PARK),
        (Some(task), None) => task.park(ParkReason::PARK),
        (None, _) => park_thread(Some(duration)),
    }
}

/// A [`timeout`] has elapsed.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// let late = coro::timeout(Duration::from_millis(1), coro::park);
/// assert_eq!(late, Err(coro::Elapsed));
/// println!("{}", coro::Elapsed); // the time limit has elapsed
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time limit has elapsed")
    }
}

impl std::error::Error for Elapsed {}

/// Of kind `TimedOut`.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// fn wait() -> std::io::Result<()> {
///     Ok(coro::timeout(Duration::from_millis(1), coro::park)?)
/// }
/// assert_eq!(wait().unwrap_err().kind(), std::io::ErrorKind::TimedOut);
/// ```
impl From<Elapsed> for io::Error {
    fn from(elapsed: Elapsed) -> io::Error {
        io::Error::new(io::ErrorKind::TimedOut, elapsed)
    }
}

/// Runs `f`, in place, for no longer than `duration`.
///
/// When the time is over, the suspension that `f` is in, or its next one, unwinds `f`: its
/// destructors run, and `timeout` gives [`Elapsed`]. A function that never suspends is not cut short,
/// and one that returns has won, however late. Timeouts nest: each takes the unwinding that is for
/// itself, and if several are due, the outermost takes it.
///
/// The unwinding comes once; code in `f` that catches it goes on. In a program compiled with
/// `panic = "abort"` nothing can be unwound, and `f` runs to its end. [`Duration::MAX`] is no limit.
///
/// On a plain thread it limits what this crate waits for ([`sleep`], [`park`](crate::park),
/// [`wait`](crate::wait), a join), and nothing else.
///
/// Four things to know of it:
///
/// - It unwinds as a panic does. Where C code has called back, in the comparator of a `qsort` say, that aborts
///   the process, and [`shield`](crate::shield) puts it off. In the initialiser of a
///   [`LazyLock`](std::sync::LazyLock) it poisons the lock for good.
/// - In a destructor that a panic runs it limits its own `f`, where
///   [`panicking`](std::thread::panicking) is false meanwhile. What is meant for a frame further out, an
///   outer timeout or a cancellation, waits until the panic is over.
/// - Code that swallows the unwinding of an outer timeout has swallowed those of the timeouts within
///   it as well; they do not elapse any more.
/// - A stack that another library has made is, to this crate, part of its thread. So a timeout that is
///   set on one, and suspended there by that library's means, limits whatever its thread does next. It is
///   never the task's: on such a stack there is no task.
///
/// # Errors
///
/// [`Elapsed`] when the time is over before `f` has returned.
///
/// # Panics
///
/// With whatever `f` panics with.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// coro::go(|| {
///     let never = coro::timeout(Duration::from_millis(2), || loop { coro::park() });
///     assert_eq!(never, Err::<(), _>(coro::Elapsed));
///     assert_eq!(coro::timeout(Duration::from_secs(60), || 42), Ok(42));
/// })
/// .join()
/// .unwrap();
/// ```
pub fn timeout<T>(duration: Duration, f: impl FnOnce() -> T) -> Result<T, Elapsed> {
    let Some(time) = Instant::now().checked_add(duration) else { return Ok(f()) };
    let within = |is_barrier| {
        let deadline = Deadline::new(time, is_barrier);
        (deadline.id, catch_unwind(AssertUnwindSafe(|| deadline.run(f))))
    };
    let (id, outcome) = match panicking() {
        false => within(false),
        true => record::with(|record| {
            let aside = record.set_panics_aside_at_timeout();
            // To unwind further out would be to leave a destructor that one of those panics runs.
            within(aside.any())
        }),
    };
    outcome.map_err(|payload| match payload.downcast_ref::<Interruption>() {
        Some(interruption) if interruption.target == id => Elapsed,
        _ => resume_unwind(payload),
    })
}

/// Ticks every `period`, the first time one period from now. As with Go's `Ticker`, ticks that nobody
/// has waited for are dropped, and the rhythm stays.
///
/// # Panics
///
/// When `period` is zero.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
///
/// coro::go(|| {
///     let start = Instant::now();
///     let mut ticks = coro::interval(Duration::from_millis(2));
///     ticks.tick();
///     ticks.tick();
///     assert!(start.elapsed() >= Duration::from_millis(4));
/// })
/// .join()
/// .unwrap();
/// ```
#[track_caller]
pub fn interval(period: Duration) -> Interval {
    assert!(!period.is_zero(), "an interval's period is longer than zero");
    Interval { period, next: Instant::now().checked_add(period) }
}

/// What ticks; made by [`interval`].
///
/// # Examples
///
/// ```
/// let mut ticks: coro::Interval = coro::interval(std::time::Duration::from_millis(1));
/// let first = ticks.tick();
/// assert!(first <= std::time::Instant::now());
/// ```
#[derive(Debug)]
pub struct Interval {
    period: Duration,
    /// When the next tick is due; never, if that is too far off to be told.
    next: Option<Instant>,
}

impl Interval {
    /// Waits for the next tick, and gives the time at which it was due.
    ///
    /// # Panics
    ///
    /// As [`sleep`].
    ///
    /// # Examples
    ///
    /// ```
    /// let mut ticks = coro::interval(std::time::Duration::from_millis(1));
    /// assert!(ticks.tick() < ticks.tick());
    /// ```
    pub fn tick(&mut self) -> Instant {
        let Some(due) = self.next else { sleep_for_ever() };
        sleep_until(due);
        self.next = tick_after(due, Instant::now(), self.period);
        due
    }

    /// The time between two ticks.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// assert_eq!(coro::interval(Duration::from_secs(1)).period(), Duration::from_secs(1));
    /// ```
    pub fn period(&self) -> Duration {
        self.period
    }
}

/// The first tick after `now`, where one was `due` before; `None`: it is too far off to be told.
pub(crate) fn tick_after(due: Instant, now: Instant, period: Duration) -> Option<Instant> {
    // The latest tick that is due by now, however many have been missed, and then the next one.
    let late = now.saturating_duration_since(due);
    due.checked_add(late - remainder(late, period))?.checked_add(period)
}

/// What is left of `time` after as many whole `period`s as it has.
fn remainder(time: Duration, period: Duration) -> Duration {
    const SECOND: u128 = Duration::from_secs(1).as_nanos();
    let nanos = time.as_nanos() % period.as_nanos();
    // Less than `time`, so neither part is cut off.
    Duration::new((nanos / SECOND) as u64, (nanos % SECOND) as u32)
}
