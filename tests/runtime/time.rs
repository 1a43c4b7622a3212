//! Time: sleeping no shorter than was said and not for ever, very many timers, and timers that are given
//! up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use coro::{JoinError, JoinHandle};

use crate::common::{self, Counter};

#[test]
fn runtime_sleep_is_never_too_short() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let naps: Vec<_> = (0..200u64)
            .map(|i| {
                runtime.go(move || {
                    let duration = Duration::from_micros(i * 100);
                    let start = Instant::now();
                    coro::sleep(duration);
                    assert!(start.elapsed() >= duration, "{:?}", start.elapsed());
                    let deadline = Instant::now() + duration;
                    coro::sleep_until(deadline);
                    assert!(Instant::now() >= deadline);
                })
            })
            .collect();
        naps.into_iter().for_each(|nap| nap.join().unwrap());
    });
}

#[test]
fn runtime_sleep_zero_lets_others_go_first() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(1);
    let order = runtime.go(|| {
        let ran = Counter::default();
        let inside = ran.clone();
        let other = coro::go(move || inside.add());
        coro::sleep(Duration::ZERO);
        let past = Instant::now().checked_sub(Duration::from_millis(1)).unwrap();
        coro::sleep_until(past);
        coro::sleep_until(Instant::now());
        let ran_before = ran.get();
        other.join().unwrap();
        ran_before
    });
    assert_eq!(order.join().unwrap(), 1);
}

/// For ever is until cancelled, and an unpark is no reason to end it.
#[test]
fn runtime_sleep_for_ever() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        for wait in [
            || coro::sleep(Duration::MAX),
            || coro::sleep(Duration::from_secs(u64::MAX / 2)),
            || coro::sleep(Duration::from_secs(1 << 40)),
            || coro::sleep_until(Instant::now() + Duration::from_secs(1 << 40)),
        ] {
            let (running, woke) = (Counter::default(), Counter::default());
            let sleeper = runtime.go({
                let (running, woke) = (running.clone(), woke.clone());
                move || {
                    running.add();
                    wait();
                    woke.add();
                }
            });
            running.wait_for(1);
            for _ in 0..20 {
                sleeper.handle().unpark();
                runtime.go(coro::yield_now).join().unwrap();
            }
            assert!(!sleeper.is_finished());
            sleeper.cancel();
            assert!(matches!(sleeper.join(), Err(JoinError::Cancelled)));
            assert_eq!(woke.get(), 0);
        }
    });
}

/// The earliest goes first, whatever the order in which they were set.
#[test]
fn runtime_sleepers_wake_in_the_order_of_their_deadlines() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(1);
    let mut lead = Duration::from_millis(200);
    loop {
        let (woken, set) = (Arc::new(AtomicUsize::new(0)), Counter::default());
        let first = Instant::now() + lead;
        let sleepers = [7u32, 2, 9, 0, 4, 1, 8, 3, 6, 5].map(|place| {
            let (woken, set) = (Arc::clone(&woken), set.clone());
            runtime.go(move || {
                set.add();
                coro::sleep_until(first + Duration::from_millis(u64::from(place)));
                (woken.fetch_add(1, Ordering::Relaxed), place as usize)
            })
        });
        // On the same worker, so all of them sleep when it sees the last.
        let all_set = runtime.go(move || {
            set.wait_for(10);
            Instant::now()
        });
        let in_time = all_set.join().unwrap() < first;
        let places = sleepers.map(|sleeper| sleeper.join().unwrap());
        if in_time {
            return places.iter().for_each(|(woken, place)| assert_eq!(woken, place));
        }
        // Some came to the first deadline before all were set: once more, with more time for it.
        lead *= 2;
    }
}

/// A sleeper whose worker is asleep with a later deadline in mind is not overslept: that would be by an
/// hour, which is the watchdog's.
#[test]
fn runtime_a_sooner_timer_is_not_overslept() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let late: Vec<_> =
            (0..8).map(|_| runtime.go(|| coro::sleep(Duration::from_secs(3600)))).collect();
        for _ in 0..20 {
            runtime.go(|| coro::sleep(Duration::from_millis(1))).join().unwrap();
        }
        late.iter().for_each(JoinHandle::cancel);
        late.into_iter().for_each(|late| assert!(late.join().is_err()));
    });
}

/// A timer that is given up leaves nothing behind that would wake a later wait of the same coroutine.
#[test]
fn runtime_a_timer_that_is_given_up_wakes_nobody() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let waited = runtime.go(|| {
            for _ in 0..100 {
                coro::current().unwrap().unpark();
                coro::park_timeout(Duration::from_millis(40)); // returns at once
            }
            let start = Instant::now();
            coro::park_timeout(Duration::from_millis(120));
            start.elapsed()
        });
        let waited = waited.join().unwrap();
        assert!(waited >= Duration::from_millis(120), "woken after {waited:?} by an old timer");
    });
}

/// 100,000 with one deadline; half of them are cancelled before it. In a process of its own, since others need
/// stacks as well.
#[test]
fn runtime_very_many_timers_with_one_deadline() {
    const TEST: &str = "runtime_very_many_timers_with_one_deadline";
    const SLEEPERS: usize = 100_000;
    common::in_child(TEST, common::CHILDS_LIMIT, || {
        let runtime = common::runtime(2);
        let (set, woken, dropped) = (Counter::default(), Counter::default(), Counter::default());
        let deadline = Instant::now() + Duration::from_secs(3);
        let sleepers: Vec<_> = (0..SLEEPERS)
            .map(|_| {
                let (set, woken, local) = (set.clone(), woken.clone(), dropped.on_drop());
                runtime.go(move || {
                    let _local = local;
                    set.add();
                    coro::sleep_until(deadline);
                    woken.add();
                })
            })
            .collect();
        set.wait_for(SLEEPERS);
        sleepers.iter().step_by(2).for_each(JoinHandle::cancel);
        let mut cancelled = 0;
        for (i, sleeper) in sleepers.into_iter().enumerate() {
            match sleeper.join() {
                Ok(()) => assert!(i % 2 == 1 || Instant::now() >= deadline),
                Err(JoinError::Cancelled) => cancelled += 1,
                Err(error) => panic!("{error}"),
            }
        }
        // On a slow machine some come to their deadline before they are cancelled.
        assert!(cancelled <= SLEEPERS / 2);
        assert_eq!((woken.get() + cancelled, dropped.get()), (SLEEPERS, SLEEPERS));
    });
}
