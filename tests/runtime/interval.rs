//! Intervals: when they tick, what they leave out, and that the rhythm stays.

use std::panic::catch_unwind;
use std::thread;
use std::time::{Duration, Instant};

use coro::{Elapsed, Interval, JoinError};

use crate::common::{self, Counter};

const PERIOD: Duration = Duration::from_millis(2);
const LONG: Duration = Duration::from_secs(3600);

/// Runs `f` on a plain thread and in a coroutine of each runtime that matters.
fn everywhere(f: impl Fn() + Clone + Send + 'static) {
    f();
    common::on_workers(|runtime, _| runtime.go(f.clone()).join().unwrap());
}

/// Keeps the calling thread busy until `time`.
fn spin_until(time: Instant) {
    while Instant::now() < time {
        std::hint::spin_loop();
    }
}

/// How many periods lie between two ticks, which must be a whole number of them.
fn periods(from: Instant, to: Instant, period: Duration) -> u128 {
    let between = to.duration_since(from).as_nanos();
    assert_eq!(between % period.as_nanos(), 0, "off the beat");
    between / period.as_nanos()
}

#[test]
fn runtime_interval_ticks_when_due_and_in_rhythm() {
    let _watchdog = common::watchdog();
    everywhere(|| {
        let before = Instant::now();
        let mut ticks = coro::interval(PERIOD);
        let after = Instant::now();
        assert_eq!(ticks.period(), PERIOD);
        let first = ticks.tick();
        assert!((before + PERIOD..=after + PERIOD).contains(&first), "one period from now");
        let mut last = first;
        for _ in 0..20 {
            let due = ticks.tick();
            assert!(Instant::now() >= due, "never too early");
            assert!(periods(last, due, PERIOD) >= 1);
            last = due;
        }
    });
}

/// Ticks that nobody has waited for are dropped, but for one; as with Go's ticker.
#[test]
fn runtime_interval_skips_what_was_missed() {
    let _watchdog = common::watchdog();
    everywhere(|| {
        let mut ticks = coro::interval(PERIOD);
        let first = ticks.tick();
        for missed in [1u32, 3, 10] {
            let begin = ticks.tick();
            // The next is due within a period, and then so many more are.
            spin_until(Instant::now() + PERIOD * (missed + 1));
            let now = Instant::now();
            let late = ticks.tick();
            assert!(late < now, "the one that is overdue comes at once");
            let next = ticks.tick();
            assert!(periods(first, late, PERIOD) < periods(first, next, PERIOD));
            assert!(next > now, "none between is made up for");
            assert!(periods(begin, next, PERIOD) > u128::from(missed));
        }
    });
}

/// More ticks may be missed than 32 bits count.
#[test]
fn runtime_interval_misses_very_many() {
    let _watchdog = common::watchdog();
    let mut ticks = coro::interval(Duration::from_nanos(1));
    ticks.tick();
    thread::sleep(Duration::from_nanos(u64::from(u32::MAX)) + Duration::from_millis(10));
    let overdue = ticks.tick();
    let next = ticks.tick();
    assert!(next > overdue, "it ticks on");
    assert!(ticks.tick() > next, "and on");
}

/// A period beyond the clock's end never ticks, and can be given up.
#[test]
fn runtime_interval_of_ages() {
    let _watchdog = common::watchdog();
    everywhere(|| {
        for period in [Duration::MAX, Duration::from_secs(u64::MAX / 2), LONG] {
            let mut ticks = coro::interval(period);
            assert_eq!(ticks.period(), period);
            for _ in 0..3 {
                assert_eq!(coro::timeout(PERIOD, || ticks.tick()), Err(Elapsed));
            }
        }
    });
    common::on_workers(|runtime, _| {
        for period in [Duration::MAX, LONG] {
            let (begun, dropped) = (Counter::default(), Counter::default());
            let ticking = runtime.go({
                let (begun, local) = (begun.clone(), dropped.on_drop());
                move || {
                    let _local = local;
                    begun.add();
                    coro::interval(period).tick();
                }
            });
            begun.wait_for(1);
            ticking.handle().unpark();
            ticking.cancel();
            assert!(matches!(ticking.join(), Err(JoinError::Cancelled)));
            assert_eq!(dropped.get(), 1);
        }
    });
}

/// One that was given up is still due when it was.
#[test]
fn runtime_interval_given_up_loses_no_tick() {
    let _watchdog = common::watchdog();
    everywhere(|| {
        let mut ticks = coro::interval(LONG);
        let before = format!("{ticks:?}");
        assert_eq!(coro::timeout(PERIOD, || ticks.tick()), Err(Elapsed));
        assert_eq!(format!("{ticks:?}"), before);
    });
}

/// Two of one worker, of different periods, beside one that yields for ever.
#[test]
fn runtime_interval_many_at_once() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let busy = runtime.go(|| {
            loop {
                coro::yield_now();
            }
        });
        let tickers: Vec<_> = (1..=4)
            .map(|n| {
                runtime.go(move || {
                    let period = PERIOD * n;
                    let mut ticks: Interval = coro::interval(period);
                    let first = ticks.tick();
                    (0..5).map(|_| ticks.tick()).fold(first, |last, due| {
                        assert!(periods(last, due, period) >= 1);
                        due
                    });
                })
            })
            .collect();
        tickers.into_iter().for_each(|ticker| ticker.join().unwrap());
        busy.cancel();
    });
}

#[test]
fn runtime_interval_of_zero_is_refused() {
    let payload = catch_unwind(|| coro::interval(Duration::ZERO)).unwrap_err();
    assert_eq!(common::message(&*payload), "an interval's period is longer than zero");
}
