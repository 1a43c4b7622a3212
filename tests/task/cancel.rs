//! Cancelling: at every moment of a coroutine's life, what is unwound, what is not, and what `join`
//! says. (How cancelling goes with handles and storage is in `task_product`.)
//!
//! On one worker "it is parked" can be forced without guessing: a coroutine that is spawned later
//! runs only when the other has left its stack. On two and four workers the same steps race.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use coro::{JoinError, JoinHandle, Runtime, tls};

use crate::common::{self, Counter, Gate, assert_cancelled};

const LONG: Duration = Duration::from_secs(3600);

/// Waits until `running` says that the coroutine has begun, and, on one worker, until it is suspended.
fn wait_until_suspended(runtime: &Runtime, running: &Counter) {
    running.wait_for(1);
    runtime.go(|| ()).join().unwrap();
}

/// Everything that suspends, each for ever or nearly so.
fn waits() -> Vec<(&'static str, fn())> {
    vec![
        ("park", coro::park),
        ("park_timeout(long)", || coro::park_timeout(LONG)),
        ("park_timeout(MAX)", || coro::park_timeout(Duration::MAX)),
        ("sleep(long)", || coro::sleep(LONG)),
        ("sleep(MAX)", || coro::sleep(Duration::MAX)),
        ("sleep_until", || coro::sleep_until(Instant::now() + LONG)),
        ("yield_now", || {
            loop {
                coro::yield_now();
            }
        }),
        ("sleep(0)", || {
            loop {
                coro::sleep(Duration::ZERO);
            }
        }),
        ("join", || {
            /// Ends the one that is joined.
            struct Ends(coro::Handle);
            impl Drop for Ends {
                fn drop(&mut self) {
                    self.0.cancel();
                }
            }
            let other = coro::go(|| coro::sleep(LONG));
            let _ends = Ends(other.handle());
            let _ = other.join();
        }),
    ]
}

#[test]
fn task_cancel_in_every_kind_of_wait() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, workers| {
        for (name, wait) in waits() {
            let (running, dropped) = (Counter::default(), Counter::default());
            let (sender, order) = mpsc::channel();
            let handle = runtime.go({
                let (running, dropped) = (running.clone(), dropped.clone());
                move || {
                    struct Tells(mpsc::Sender<u32>, u32);
                    impl Drop for Tells {
                        fn drop(&mut self) {
                            self.0.send(self.1).unwrap();
                        }
                    }
                    #[inline(never)]
                    fn inner(sender: &mpsc::Sender<u32>, wait: fn()) {
                        let _third = Tells(sender.clone(), 3);
                        let _fourth = Tells(sender.clone(), 4);
                        wait();
                        unreachable!("nothing but the cancellation ends this wait");
                    }
                    tls::set("counted", dropped.on_drop());
                    let _first = Tells(sender.clone(), 1);
                    let _second = Tells(sender.clone(), 2);
                    running.add();
                    inner(&sender, wait);
                }
            });
            wait_until_suspended(runtime, &running);
            handle.cancel();
            assert_cancelled(handle.join());
            let order: Vec<_> = order.iter().collect();
            assert_eq!(order, [4, 3, 2, 1], "newest first: {name} on {workers} workers");
            assert_eq!(dropped.get(), 1, "{name} on {workers} workers");
        }
    });
}

#[test]
fn task_cancel_before_the_start() {
    let _watchdog = common::watchdog();
    common::quiet();
    struct DropsLate(Counter, bool);
    impl Drop for DropsLate {
        fn drop(&mut self) {
            // The closure of a fresh coroutine is dropped in the coroutine, where one may suspend.
            coro::yield_now();
            coro::sleep(Duration::from_millis(1));
            self.0.add();
            if self.1 {
                common::planned("in a capture");
            }
        }
    }
    common::on_workers(|runtime, workers| {
        let (ran, dropped) = (Counter::default(), Counter::default());
        let occupied = common::occupy(runtime, workers);
        let handles: Vec<_> = (0..100)
            .map(|i| {
                let (ran, capture) = (ran.clone(), DropsLate(dropped.clone(), i % 2 == 0));
                runtime.go(move || {
                    let _capture = capture;
                    ran.add();
                })
            })
            .collect();
        handles.iter().for_each(JoinHandle::cancel);
        drop(occupied);
        handles.into_iter().for_each(|handle| assert_cancelled(handle.join()));
        assert_eq!((ran.get(), dropped.get()), (0, 100), "on {workers} workers");
    });
}

#[test]
fn task_cancel_while_running_comes_at_the_next_suspension() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        for (_, wait) in waits() {
            let (running, go_on, after) = (Counter::default(), Gate::default(), Counter::default());
            let handle = runtime.go({
                let (running, go_on, after) = (running.clone(), go_on.clone(), after.clone());
                move || {
                    running.add();
                    go_on.block();
                    after.add(); // still running: cancelling does not interrupt
                    wait();
                    after.add();
                }
            });
            running.wait_for(1);
            handle.cancel();
            go_on.open();
            assert_cancelled(handle.join());
            assert_eq!(after.get(), 1);
        }
    });
}

#[test]
fn task_cancel_without_any_suspension_changes_nothing() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (running, go_on) = (Counter::default(), Gate::default());
        let handle = runtime.go({
            let (running, go_on) = (running.clone(), go_on.clone());
            move || {
                running.add();
                go_on.block();
                "a value"
            }
        });
        running.wait_for(1);
        handle.cancel();
        go_on.open();
        assert_eq!(handle.join().unwrap(), "a value");
    });
}

#[test]
fn task_cancel_after_the_end() {
    let _watchdog = common::watchdog();
    common::quiet();
    common::on_workers(|runtime, _| {
        let returned = runtime.go(|| 7);
        let panicked = runtime.go(|| common::planned("too bad"));
        while !returned.is_finished() || !panicked.is_finished() {
            coro::yield_now();
        }
        returned.cancel();
        panicked.cancel();
        assert_eq!(returned.join().unwrap(), 7);
        match panicked.join() {
            Err(JoinError::Panicked(payload)) => assert!(common::is_planned(&*payload, "too bad")),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn task_cancel_inside_a_destructor() {
    let _watchdog = common::watchdog();
    struct Waits(Counter);
    impl Drop for Waits {
        fn drop(&mut self) {
            self.0.add();
            loop {
                coro::park();
            }
        }
    }
    common::on_workers(|runtime, _| {
        let (running, dropped) = (Counter::default(), Counter::default());
        let handle = runtime.go({
            let (running, dropped) = (running.clone(), dropped.clone());
            move || {
                let _older = dropped.on_drop();
                // The destructor that is interrupted is not run again; its neighbour still is.
                let _pair = (Waits(running), dropped.on_drop());
            }
        });
        wait_until_suspended(runtime, &running);
        handle.cancel();
        assert_cancelled(handle.join());
        assert_eq!((running.get(), dropped.get()), (1, 2));
    });
}

/// To unwind a destructor that runs because of a panic would abort the process.
#[test]
fn task_cancel_inside_a_destructor_that_a_panic_runs() {
    let _watchdog = common::watchdog();
    common::quiet();
    struct Waits(Counter, Gate);
    impl Drop for Waits {
        fn drop(&mut self) {
            self.0.add();
            self.1.pass();
            self.0.add();
        }
    }
    common::on_workers(|runtime, _| {
        for caught in [false, true] {
            let (steps, go_on) = (Counter::default(), Gate::default());
            let handle = runtime.go({
                let (steps, go_on) = (steps.clone(), go_on.clone());
                move || {
                    let _outer = steps.on_drop();
                    let fails = || {
                        let _waits = Waits(steps.clone(), go_on);
                        common::planned("before the cancellation");
                    };
                    if caught {
                        catch_unwind(AssertUnwindSafe(fails)).unwrap_err();
                        coro::park(); // here it can be delivered
                        unreachable!("a cancellation is not lost");
                    }
                    fails();
                }
            });
            wait_until_suspended(runtime, &steps);
            handle.cancel();
            go_on.open();
            match handle.join() {
                Err(JoinError::Cancelled) if caught => {}
                Err(JoinError::Panicked(payload)) if !caught => {
                    assert!(common::is_planned(&*payload, "before the cancellation"));
                }
                other => panic!("caught: {caught}: {other:?}"),
            }
            assert_eq!(steps.get(), 3, "the destructor went on to its end");
        }
    });
}

#[test]
fn task_cancel_during_cleanup_spares_the_value_and_the_rest() {
    let _watchdog = common::watchdog();
    struct Waits(Counter);
    impl Drop for Waits {
        fn drop(&mut self) {
            self.0.add();
            coro::sleep(LONG);
        }
    }
    common::on_workers(|runtime, _| {
        for in_handler in [true, false] {
            let (running, cleaned) = (Counter::default(), Counter::default());
            let handle = runtime.go({
                let (running, cleaned) = (running.clone(), cleaned.clone());
                move || {
                    tls::set("first", cleaned.on_drop());
                    let older = cleaned.clone();
                    tls::at_exit(move || older.add());
                    if in_handler {
                        tls::at_exit(move || {
                            running.add();
                            loop {
                                coro::park();
                            }
                        });
                    } else {
                        tls::set("last", Waits(running));
                    }
                    "a value"
                }
            });
            wait_until_suspended(runtime, &running);
            assert!(!handle.is_finished(), "`join` returns after cleanup");
            handle.cancel();
            assert_eq!(handle.join().unwrap(), "a value");
            assert_eq!(cleaned.get(), 2);
        }
    });
}

#[test]
fn task_cancel_is_delivered_once_and_no_panic_is_reported() {
    let _watchdog = common::watchdog();
    static REPORTED: AtomicUsize = AtomicUsize::new(0);
    if common::is_child("hook") {
        std::panic::set_hook(Box::new(|_| {
            REPORTED.fetch_add(1, Ordering::Relaxed);
        }));
        common::on_workers(|runtime, _| {
            let (running, caught) = (Counter::default(), Counter::default());
            let handle = runtime.go({
                let (running, caught) = (running.clone(), caught.clone());
                move || {
                    running.add();
                    loop {
                        match catch_unwind(coro::park) {
                            Err(_) => break caught.add(),
                            Ok(()) => continue,
                        }
                    }
                    // Swallowed: it comes no more, and everything works as before.
                    coro::yield_now();
                    coro::sleep(Duration::from_millis(1));
                    coro::go(coro::yield_now).join().unwrap();
                    coro::park_timeout(Duration::from_millis(1));
                    coro::current().unwrap().cancel();
                    coro::yield_now();
                    tls::set("key", 1);
                    "went on"
                }
            });
            wait_until_suspended(runtime, &running);
            // Many may ask, and ask again.
            std::thread::scope(|threads| {
                for _ in 0..8 {
                    let control = handle.handle();
                    threads.spawn(move || control.cancel());
                }
            });
            handle.cancel();
            assert_eq!(handle.join().unwrap(), "went on");
            assert_eq!(caught.get(), 1);
        });
        let reported = REPORTED.load(Ordering::Relaxed);
        drop(std::panic::take_hook());
        assert_eq!(reported, 0, "a cancellation is no panic");
        return;
    }
    // The hook belongs to the process.
    let output = common::child("task_cancel_is_delivered_once_and_no_panic_is_reported", "hook");
    assert!(output.status.success(), "{}", common::stderr(&output));
}

#[test]
fn task_cancel_oneself() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let dropped = Counter::default();
        let local = dropped.on_drop();
        let handle = runtime.go(move || {
            let _local = local;
            coro::current().unwrap().cancel();
            coro::yield_now();
            unreachable!("yielding is a suspension");
        });
        assert_cancelled::<()>(handle.join());
        assert_eq!(dropped.get(), 1);
    });
}

#[test]
fn task_cancel_one_of_many() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let go_on = Gate::default();
        let handles: Vec<_> = (0..300)
            .map(|i| {
                let go_on = go_on.clone();
                runtime.go(move || {
                    go_on.pass();
                    i
                })
            })
            .collect();
        handles.iter().skip(1).step_by(3).for_each(JoinHandle::cancel);
        // The cancelled ones end while the others cannot.
        while handles.iter().filter(|handle| handle.is_finished()).count() < 100 {
            coro::yield_now();
        }
        go_on.open();
        for (i, handle) in handles.into_iter().enumerate() {
            match handle.join() {
                Ok(value) => assert!(i % 3 != 1 && value == i),
                Err(JoinError::Cancelled) => assert_eq!(i % 3, 1),
                Err(error) => panic!("{error}"),
            }
        }
    });
}

/// The one that is joined goes on without the other, detached.
#[test]
fn task_cancel_the_one_that_joins() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (running, go_on, ended) = (Counter::default(), Gate::default(), Counter::default());
        let joined = runtime.go({
            let (go_on, value) = (go_on.clone(), ended.on_drop());
            move || {
                go_on.pass();
                value
            }
        });
        let control = joined.handle();
        let joiner = runtime.go({
            let running = running.clone();
            move || {
                running.add();
                joined.join().map(drop)
            }
        });
        wait_until_suspended(runtime, &running);
        joiner.cancel();
        assert_cancelled(joiner.join());
        assert!(!control.is_finished() && ended.get() == 0);
        go_on.open();
        ended.wait_for(1);
        while !control.is_finished() {
            coro::yield_now();
        }
        assert_eq!(ended.get(), 1, "its value was dropped when it ended, once");
    });
}

/// A call in a raw coroutine suspends the task that resumed it, and unwinds both.
#[test]
fn task_cancel_unwinds_through_coroutines_made_by_hand() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (running, steps) = (Counter::default(), Counter::default());
        let handle = runtime.go({
            let (running, steps) = (running.clone(), steps.clone());
            move || {
                tls::set("outer", steps.on_drop());
                let _outer = steps.on_drop();
                let raw_coroutine = common::raw::<(), (), ()>(64 * 1024, move |_, ()| {
                    tls::set("inner", steps.on_drop());
                    let _inner = steps.on_drop();
                    running.add();
                    loop {
                        coro::park();
                    }
                })
                .unwrap();
                raw_coroutine.resume(());
            }
        });
        wait_until_suspended(runtime, &running);
        handle.cancel();
        assert_cancelled(handle.join());
        assert_eq!(steps.get(), 4);
    });
}

/// std counts panics per thread, so while one coroutine is suspended inside a destructor that a
/// panic runs, its neighbours cannot be unwound. The cancellation must reach them when they can.
#[test]
fn task_cancel_beside_a_coroutine_that_is_suspended_while_unwinding() {
    let _watchdog = common::watchdog();
    common::quiet();
    struct Waits(Counter, Gate);
    impl Drop for Waits {
        fn drop(&mut self) {
            self.0.add();
            self.1.pass();
        }
    }
    let runtime = common::runtime(1);
    let (unwinding, go_on) = (Counter::default(), Gate::default());
    let neighbour = runtime.go({
        let (unwinding, go_on) = (unwinding.clone(), go_on.clone());
        move || {
            let _waits = Waits(unwinding, go_on);
            common::planned("a neighbour");
        }
    });
    unwinding.wait_for(1);
    let (running, dropped) = (Counter::default(), Counter::default());
    let handle = runtime.go({
        let (running, local) = (running.clone(), dropped.on_drop());
        move || {
            let _local = local;
            running.add();
            loop {
                coro::park();
            }
        }
    });
    wait_until_suspended(&runtime, &running);
    handle.cancel();
    // Let it run a few times, to no avail.
    for _ in 0..10 {
        runtime.go(coro::yield_now).join().unwrap();
    }
    go_on.open();
    assert!(matches!(neighbour.join(), Err(JoinError::Panicked(_))));
    let patience = Instant::now() + Duration::from_secs(10);
    while !handle.is_finished() {
        assert!(Instant::now() < patience, "the cancellation was lost");
        coro::yield_now();
    }
    assert_cancelled(handle.join());
    assert_eq!(dropped.get(), 1);
}

/// Cancelling and ending race: it is one of the two, and everything is dropped once.
#[test]
fn task_cancel_racing_the_end() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, workers| {
        let (mut values, mut cancelled) = (0, 0);
        let (made, dropped) = (Counter::default(), Counter::default());
        for round in 0..2000 {
            let go_on = Gate::default();
            let handle = runtime.go({
                let (go_on, made, dropped) = (go_on.clone(), made.clone(), dropped.clone());
                move || {
                    made.add();
                    let value = dropped.on_drop();
                    go_on.pass();
                    value
                }
            });
            if round % 2 == 0 {
                go_on.open();
                handle.cancel();
            } else {
                handle.cancel();
                go_on.open();
            }
            match handle.join() {
                Ok(_) => values += 1,
                Err(JoinError::Cancelled) => cancelled += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(values + cancelled, 2000);
        assert_eq!(made.get(), dropped.get(), "on {workers} workers");
    });
}
