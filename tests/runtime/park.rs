//! Parking and waking: the token, its races with a timeout and with other waits, and a great many
//! chances to lose a wake-up. A lost one is a hang, which the watchdog reports.

use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use coro::{Handle, Runtime};

use crate::common::{self, Counter, Gate};

/// Long enough to be told from a park that returned at once.
const SHORT: Duration = Duration::from_millis(30);

/// Starts a coroutine and gives its handle as well.
fn spawn<T: Send + 'static>(
    runtime: &Runtime,
    f: impl FnOnce() -> T + Send + 'static,
) -> (coro::JoinHandle<T>, Handle) {
    let joined = runtime.go(f);
    let handle = joined.handle();
    (joined, handle)
}

#[test]
fn runtime_unpark_before_park_is_remembered() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, workers| {
        // Before it has started.
        let occupied = common::occupy(runtime, workers);
        let (joined, handle) = spawn(runtime, coro::park);
        handle.unpark();
        drop(occupied);
        joined.join().unwrap();

        // While it runs, by a thread.
        let (running, go_on) = (Counter::default(), Gate::default());
        let (joined, handle) = spawn(runtime, {
            let (running, go_on) = (running.clone(), go_on.clone());
            move || {
                running.add();
                go_on.block();
                coro::park();
            }
        });
        running.wait_for(1);
        handle.unpark();
        go_on.open();
        joined.join().unwrap();

        // While it is queued: yielding does not use the token up.
        let by_itself = runtime.go(|| {
            coro::current().unwrap().unpark();
            for _ in 0..100 {
                coro::yield_now();
            }
            coro::park();
        });
        by_itself.join().unwrap();
    });
}

#[test]
fn runtime_unpark_twice_counts_once() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, workers| {
        let waited = runtime.go(|| {
            let me = coro::current().unwrap();
            me.unpark();
            me.clone().unpark();
            coro::park();
            let start = Instant::now();
            coro::park_timeout(SHORT);
            start.elapsed()
        });
        assert!(waited.join().unwrap() >= SHORT, "the second token was a token too many");

        // The same while it is parked.
        let (sender, receiver) = mpsc::channel();
        let (joined, handle) = spawn(runtime, move || {
            sender.send(()).unwrap();
            coro::park();
            let start = Instant::now();
            coro::park_timeout(SHORT);
            start.elapsed()
        });
        receiver.recv().unwrap();
        runtime.go(|| ()).join().unwrap(); // on one worker it is parked by now
        runtime
            .go(move || {
                handle.unpark();
                handle.unpark();
            })
            .join()
            .unwrap();
        let waited = joined.join().unwrap();
        // With more workers it may have run between the two.
        assert!(workers > 1 || waited >= SHORT, "the second token was a token too many");
    });
}

/// A coroutine that has just parked is woken before its worker has got round to showing that it is
/// parked: by another thread, by another coroutine of the worker, by a cancellation. It wakes once.
#[test]
fn runtime_unpark_right_after_the_park_wakes_once() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(1);
    let (up, woken, stop) = (Counter::default(), Counter::default(), Gate::default());
    let (parks, handle) = spawn(&runtime, {
        let (up, woken, stop) = (up.clone(), woken.clone(), stop.clone());
        move || {
            up.add();
            while !stop.is_open() {
                let _cancelled = catch_unwind(coro::park);
                woken.add();
            }
        }
    });
    let ways: [fn(&Handle); 3] = [
        |handle| thread::scope(|threads| threads.spawn(|| handle.unpark()).join().unwrap()),
        Handle::unpark,
        Handle::cancel,
    ];
    let wakes = runtime.go({
        let (woken, handle) = (woken.clone(), handle.clone());
        move || {
            up.wait_for(1);
            for (number, way) in (1..).zip(ways) {
                // It wakes and parks, and then it is our turn again.
                handle.unpark();
                coro::yield_now();
                way(&handle);
                for _ in 0..10 {
                    coro::yield_now();
                }
                assert_eq!(woken.get(), 2 * number, "once for each of the two");
            }
        }
    });
    wakes.join().unwrap();
    stop.open();
    handle.unpark();
    parks.join().unwrap();
}

/// The park that a token ends, and the park after it, which must wait.
#[test]
fn runtime_park_waits_when_there_is_no_token() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (step, released) = (Counter::default(), Arc::new(AtomicUsize::new(0)));
        let (joined, handle) = spawn(runtime, {
            let (step, released) = (step.clone(), Arc::clone(&released));
            move || {
                for round in 1..=100 {
                    step.add();
                    while released.load(Ordering::Acquire) < round {
                        coro::park();
                    }
                }
            }
        });
        for round in 1..=100 {
            step.wait_for(round);
            assert_eq!(step.get(), round, "it does not go on by itself");
            released.store(round, Ordering::Release);
            handle.unpark();
        }
        joined.join().unwrap();
    });
}

/// `Handle::unpark`: "or its next one if it is not parked". A coroutine that sleeps or joins is not
/// in `park`, so the token is for the `park` that follows.
#[test]
fn runtime_unpark_during_another_wait_is_kept_for_park() {
    let _watchdog = common::watchdog();
    fn check(runtime: &Runtime, wait: impl FnOnce() + Send + 'static) {
        let running = Counter::default();
        let (joined, handle) = spawn(runtime, {
            let running = running.clone();
            move || {
                running.add();
                wait();
                // If the token is lost, nobody ends this.
                coro::park();
            }
        });
        running.wait_for(1);
        runtime.go(|| ()).join().unwrap();
        handle.unpark();
        joined.join().unwrap();
    }
    for workers in common::WORKERS {
        let runtime = common::runtime(workers);
        check(&runtime, || coro::sleep(SHORT));
        check(&runtime, || coro::sleep_until(Instant::now() + SHORT));
        let gate = Gate::default();
        let other = runtime.go({
            let gate = gate.clone();
            move || gate.pass()
        });
        let opener = runtime.go(move || {
            coro::sleep(SHORT);
            gate.open();
        });
        check(&runtime, || other.join().unwrap());
        opener.join().unwrap();
    }
}

#[test]
fn runtime_park_timeout_waits_as_long_as_it_says() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let waited = runtime.go(|| {
            let start = Instant::now();
            coro::park_timeout(SHORT);
            start.elapsed()
        });
        assert!(waited.join().unwrap() >= SHORT);
        runtime.go(|| coro::park_timeout(Duration::ZERO)).join().unwrap();
        // With a token it does not wait at all, nor is the timer left behind.
        let (joined, handle) = spawn(runtime, || {
            coro::park_timeout(Duration::MAX);
            coro::current().unwrap().unpark();
            coro::park_timeout(Duration::from_secs(3600));
        });
        handle.unpark();
        joined.join().unwrap();
    });
}

/// An `unpark` and the timeout come at the same time; afterwards there is one token or none, and the
/// coroutine is neither lost nor run twice.
#[test]
fn runtime_unpark_races_a_timeout() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        const ROUNDS: usize = 1000;
        let returned = Counter::default();
        let (joined, handle) = spawn(runtime, {
            let returned = returned.clone();
            move || {
                for round in 0..ROUNDS {
                    coro::park_timeout(Duration::from_micros(round as u64 % 150));
                    returned.add();
                }
            }
        });
        let mut seen = 0;
        while seen < ROUNDS {
            handle.unpark();
            let now = returned.get();
            if now == seen {
                thread::yield_now();
            }
            seen = now;
        }
        joined.join().unwrap();
        assert_eq!(returned.get(), ROUNDS);
    });
}

/// "What was done before `unpark` is visible after the `park` that it ends."
#[test]
fn runtime_unpark_publishes_what_was_done_before() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        const ROUNDS: usize = 5000;
        // Relaxed: nothing but the token orders the two.
        let (data, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (joined, handle) = spawn(runtime, {
            let (data, done) = (Arc::clone(&data), Arc::clone(&done));
            move || {
                for round in 1..=ROUNDS {
                    while data.load(Ordering::Relaxed) < round {
                        coro::park();
                    }
                    done.store(round, Ordering::Release);
                }
            }
        });
        for round in 1..=ROUNDS {
            data.store(round, Ordering::Relaxed);
            handle.unpark();
            while done.load(Ordering::Acquire) < round {
                thread::yield_now();
            }
        }
        joined.join().unwrap();
    });
}

/// Two coroutines wake each other, on whatever workers they came to be.
#[test]
fn runtime_ping_pong_loses_nothing() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        const ROUNDS: usize = 5000;
        let turn = Arc::new(AtomicUsize::new(0));
        let players: Vec<_> = (0..2)
            .map(|me| {
                let turn = Arc::clone(&turn);
                let (send, receive) = mpsc::channel::<Handle>();
                let joined = runtime.go(move || {
                    let other = receive.recv().unwrap();
                    for round in 0..ROUNDS {
                        while turn.load(Ordering::Acquire) != 2 * round + me {
                            coro::park();
                        }
                        turn.store(2 * round + me + 1, Ordering::Release);
                        other.unpark();
                    }
                });
                (joined, send)
            })
            .collect();
        players[0].1.send(players[1].0.handle()).unwrap();
        players[1].1.send(players[0].0.handle()).unwrap();
        players.into_iter().for_each(|(joined, _)| joined.join().unwrap());
        assert_eq!(turn.load(Ordering::Relaxed), 2 * ROUNDS);
    });
}

/// One at a time from outside: the workers fall asleep and are woken, over and over.
#[test]
fn runtime_spawn_to_sleeping_workers() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        for round in 0..3000 {
            assert_eq!(runtime.go(move || round).join().unwrap(), round);
        }
        // And with another thread that spawns at its own pace.
        thread::scope(|threads| {
            for _ in 0..2 {
                threads.spawn(|| {
                    for round in 0..1000 {
                        assert_eq!(runtime.go(move || round).join().unwrap(), round);
                    }
                });
            }
        });
    });
}

/// A coroutine that is parked on one worker while the spawning goes on at another.
#[test]
fn runtime_spawn_from_coroutines_wakes_others() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let total = runtime.go(|| {
            let mut total = 0;
            for round in 0..2000u64 {
                let one = coro::go(move || round);
                let two = coro::go(move || {
                    coro::yield_now();
                    round
                });
                total += one.join().unwrap() + two.join().unwrap();
            }
            total
        });
        assert_eq!(total.join().unwrap(), 1999 * 2000);
    });
}

/// Unparks from several threads at once, of one that is always on the point of parking.
#[test]
fn runtime_unpark_stampede() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (wanted, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (joined, handle) = spawn(runtime, {
            let (wanted, stop) = (Arc::clone(&wanted), Arc::clone(&stop));
            move || {
                let mut taken = 0;
                while !stop.load(Ordering::Acquire) || wanted.load(Ordering::Acquire) > 0 {
                    if wanted.load(Ordering::Acquire) > 0 {
                        wanted.fetch_sub(1, Ordering::AcqRel);
                        taken += 1;
                    } else {
                        coro::park();
                    }
                }
                taken
            }
        });
        thread::scope(|threads| {
            for _ in 0..3 {
                threads.spawn(|| {
                    for _ in 0..2000 {
                        wanted.fetch_add(1, Ordering::AcqRel);
                        handle.unpark();
                    }
                });
            }
        });
        stop.store(true, Ordering::Release);
        handle.unpark();
        assert_eq!(joined.join().unwrap(), 6000);
    });
}

/// On a plain thread the functions are those of `std::thread`, token and all.
#[test]
fn runtime_park_on_a_plain_thread() {
    let _watchdog = common::watchdog();
    thread::current().unpark();
    coro::park();
    let start = Instant::now();
    coro::park_timeout(SHORT);
    coro::yield_now();
    coro::sleep(SHORT);
    coro::sleep_until(Instant::now() + SHORT);
    coro::sleep_until(start);
    assert!(start.elapsed() >= 2 * SHORT);
}

/// A plain thread's token is its own code's: no wait of the library's takes it.
#[test]
fn runtime_waits_on_a_plain_thread_leave_its_token() {
    let _watchdog = common::watchdog();
    const SHORT: Duration = Duration::from_millis(2);
    let runtime = common::runtime(1);
    let mut ticks = coro::interval(SHORT);
    let pending = || coro::timeout(SHORT, || coro::wait(std::future::pending::<()>()));
    let of_a_set = || {
        let mut set = coro::JoinSet::new();
        set.insert(runtime.go(|| coro::sleep(SHORT)));
        set.join_next().unwrap().unwrap();
    };
    let of_a_shutdown = || {
        let runtime = common::runtime(1);
        runtime.go(|| coro::shield(|| coro::sleep(SHORT)));
        runtime.shutdown();
    };
    let waits: [&mut dyn FnMut(); 8] = [
        &mut || coro::sleep(SHORT),
        &mut || _ = ticks.tick(),
        &mut || runtime.go(|| coro::sleep(SHORT)).join().unwrap(),
        &mut || coro::wait(runtime.go(|| coro::sleep(SHORT))).unwrap(),
        &mut || assert_eq!(pending(), Err(coro::Elapsed)),
        &mut || coro::scope(|s| _ = s.go(|| coro::sleep(SHORT))),
        &mut { of_a_set },
        &mut { of_a_shutdown },
    ];
    for wait in waits {
        thread::current().unpark();
        wait();
        // The token is there: neither of these waits for the next.
        thread::park();
        thread::current().unpark();
        coro::park();
    }
}

/// What wakes a wait inside another is not lost to the other.
#[test]
fn runtime_nested_waits_on_a_plain_thread_lose_no_wake_up() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(1);
    for _ in 0..100 {
        let (send, receive) = futures_channel::oneshot::channel();
        let mut receive = std::pin::pin!(receive);
        let mut sender = Some(send);
        // The outer one is woken while the inner one waits.
        let value = coro::wait(std::future::poll_fn(|context| {
            let polled = std::future::Future::poll(receive.as_mut(), context);
            if let Some(send) = sender.take() {
                runtime.go(move || send.send(5).unwrap()).join().unwrap();
                runtime.go(coro::yield_now).join().unwrap();
            }
            polled
        }));
        assert_eq!(value, Ok(5));
    }
}
