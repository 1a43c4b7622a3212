//! Receivers of times, for a select or a loop.

use std::panic::Location;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::channel::Channel;
use super::clock::Clock;
use super::receiver::Receiver;

/// A receiver of one value, the time, once `duration` is over. Unlike a timer, it costs nothing before.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
///
/// let start = Instant::now();
/// let due = coro::chan::after(Duration::from_millis(2)).recv().unwrap();
/// assert!(due - start >= Duration::from_millis(2));
/// ```
#[track_caller]
pub fn after(duration: Duration) -> Receiver<Instant> {
    times(Instant::now().checked_add(duration), None)
}

/// A receiver of one value, the time, once `instant` has come.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
///
/// let instant = Instant::now() + Duration::from_millis(2);
/// assert_eq!(coro::chan::at(instant).recv(), Ok(instant));
/// ```
#[track_caller]
pub fn at(instant: Instant) -> Receiver<Instant> {
    times(Some(instant), None)
}

/// A receiver of a value every `period`, the first one period from now: the time at which it was due. As with Go's
/// `Ticker`, values that nobody has received in time are dropped, and the rhythm stays.
///
/// # Panics
///
/// When `period` is zero.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// let ticks = coro::chan::tick(Duration::from_millis(1));
/// assert!(ticks.recv().unwrap() < ticks.recv().unwrap());
/// ```
#[track_caller]
pub fn tick(period: Duration) -> Receiver<Instant> {
    assert!(!period.is_zero(), "a tick's period is longer than zero");
    times(Instant::now().checked_add(period), Some(period))
}

/// A receiver of nothing: a [`recv`](Receiver::recv) waits for ever.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use coro::chan::{Receiver, after, never};
///
/// // A limit, or none.
/// let limit = |limit: Option<Duration>| limit.map_or_else(never, after);
/// assert!(limit(None).try_recv().is_err());
/// assert!(limit(Some(Duration::ZERO)).try_recv().is_ok());
/// ```
#[track_caller]
pub fn never<T>() -> Receiver<T> {
    Receiver::new(Arc::new(Channel::new(Some(0), None, Location::caller())))
}

#[track_caller]
fn times(next: Option<Instant>, period: Option<Duration>) -> Receiver<Instant> {
    let clock = Clock::new(next, period, |due| due);
    Receiver::new(Arc::new(Channel::new(Some(1), Some(clock), Location::caller())))
}
