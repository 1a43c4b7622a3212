//! The end: of a runtime, with everything that may live in it; of `main`, with coroutines parked; of the
//! process, from inside a coroutine.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use coro::{JoinError, JoinHandle, Runtime, tls};

use crate::common::{self, Counter, Gate, assert_cancelled};

const LONG: Duration = Duration::from_secs(3600);

/// Fresh ones are dropped unrun, suspended ones are unwound, all cleanup is run.
#[test]
fn task_shutdown_ends_everything() {
    let _watchdog = common::watchdog();
    let end_by: [fn(Runtime); 2] = [|runtime| runtime.shutdown(), drop];
    for workers in common::WORKERS {
        for end in end_by {
            let runtime = common::runtime(workers);
            let (dropped, ran, handled) =
                (Counter::default(), Counter::default(), Counter::default());
            let waits: [fn(); 3] = [
                || {
                    loop {
                        coro::park();
                    }
                },
                || coro::sleep(LONG),
                || {
                    // The child may be fresh when the shutdown comes, and end before its parent waits.
                    let _ = coro::go(|| coro::sleep(LONG)).join();
                    coro::sleep(LONG);
                },
            ];
            let mut suspended = Vec::new();
            for i in 0..100 {
                let (dropped, ran, handled) = (dropped.clone(), ran.clone(), handled.clone());
                suspended.push(runtime.go(move || {
                    let _local = dropped.on_drop();
                    tls::set("data", dropped.on_drop());
                    tls::at_exit(move || {
                        // A handler may suspend, even now.
                        coro::yield_now();
                        coro::sleep(Duration::from_micros(1));
                        handled.add();
                    });
                    ran.add();
                    waits[i % waits.len()]();
                }));
            }
            ran.wait_for(100);
            let gate = Gate::default();
            let blocked = Counter::default();
            let running: Vec<_> = (0..workers)
                .map(|_| {
                    let (gate, blocked) = (gate.clone(), blocked.clone());
                    runtime.go(move || {
                        blocked.add();
                        gate.block();
                        "ran to its end"
                    })
                })
                .collect();
            blocked.wait_for(workers);
            let fresh: Vec<_> = (0..100)
                .map(|_| {
                    let (capture, ran) = (dropped.on_drop(), ran.clone());
                    runtime.go(move || {
                        let _capture = capture;
                        ran.add();
                    })
                })
                .collect();

            let ending = common::spawn_until_blocked(move || end(runtime));
            gate.open();
            ending.join().unwrap();
            assert_eq!((ran.get(), dropped.get(), handled.get()), (100, 300, 100));
            for handle in suspended.into_iter().chain(fresh) {
                assert!(handle.is_finished(), "all has ended when the shutdown is over");
                handle.cancel();
                handle.handle().unpark();
                assert_cancelled(handle.join());
            }
            for handle in running {
                assert_eq!(handle.join().unwrap(), "ran to its end");
            }
        }
    }
}

/// Those that wait in a worker's own queue, spawned by a coroutine, are dropped unrun as well.
#[test]
fn task_shutdown_drops_what_is_fresh_on_a_worker() {
    let _watchdog = common::watchdog();
    common::on_workers(|_, workers| {
        let runtime = common::runtime(workers);
        let (ran, dropped) = (Counter::default(), Counter::default());
        let (inside, spawned) = (Counter::default(), Counter::default());
        let gate = Gate::default();
        for _ in 0..workers {
            let (ran, dropped) = (ran.clone(), dropped.clone());
            let (inside, spawned, gate) = (inside.clone(), spawned.clone(), gate.clone());
            runtime.go(move || {
                inside.add();
                // With every worker in here nobody steals what is spawned now.
                while inside.get() < workers {
                    std::thread::yield_now();
                }
                for _ in 0..100 {
                    let (ran, capture) = (ran.clone(), dropped.on_drop());
                    coro::go(move || {
                        let _capture = capture;
                        ran.add();
                    });
                }
                spawned.add();
                gate.block();
            });
        }
        spawned.wait_for(workers);
        let shutdown = common::spawn_until_blocked(move || runtime.shutdown());
        gate.open();
        shutdown.join().unwrap();
        assert_eq!((ran.get(), dropped.get()), (0, 100 * workers), "on {workers} workers");
    });
}

/// The threads are joined: what they keep in thread-locals is gone too.
#[test]
fn task_shutdown_joins_the_threads() {
    let _watchdog = common::watchdog();
    thread_local! {
        static KEPT: RefCell<Vec<common::OnDrop>> = const { RefCell::new(Vec::new()) };
    }
    common::on_workers(|_, workers| {
        let runtime = common::runtime(workers);
        let (inside, gone) = (Counter::default(), Counter::default());
        for _ in 0..workers {
            let (inside, kept) = (inside.clone(), gone.on_drop());
            runtime.go(move || {
                KEPT.with_borrow_mut(|all| all.push(kept));
                inside.add();
                // Every worker is held until each has one.
                while inside.get() < workers {
                    std::thread::yield_now();
                }
            });
        }
        inside.wait_for(workers);
        assert_eq!(gone.get(), 0);
        runtime.shutdown();
        assert_eq!(gone.get(), workers);
    });
}

/// Spawned while a runtime shuts down, by whatever of the coroutine's end: each runs or is dropped.
#[test]
fn task_shutdown_while_its_coroutines_spawn() {
    let _watchdog = common::watchdog();
    #[derive(Clone, Default)]
    struct Tally {
        spawned: Counter,
        captures: Counter,
        ran: Counter,
        handles: Arc<Mutex<Vec<JoinHandle<()>>>>,
    }
    impl Tally {
        fn spawn(&self, generations: u32) {
            let (tally, capture) = (self.clone(), self.captures.on_drop());
            self.spawned.add();
            let handle = coro::go(move || {
                let _capture = capture;
                tally.ran.add();
                if generations > 0 {
                    tally.spawn(generations - 1);
                }
            });
            self.handles.lock().unwrap().push(handle);
        }
    }
    struct SpawnsInDrop(Tally);
    impl Drop for SpawnsInDrop {
        fn drop(&mut self) {
            self.0.spawn(3);
        }
    }
    common::on_workers(|_, workers| {
        let runtime = common::runtime(workers);
        let (tally, running) = (Tally::default(), Counter::default());
        for _ in 0..200 {
            let (tally, running) = (tally.clone(), running.clone());
            runtime.go(move || {
                let _local = SpawnsInDrop(tally.clone());
                tls::set("spawns", SpawnsInDrop(tally.clone()));
                tls::at_exit(move || tally.spawn(3));
                running.add();
                coro::sleep(LONG);
            });
        }
        running.wait_for(200);
        // One that is dropped unrun spawns too.
        let occupied = common::occupy(&runtime, workers);
        let capture = SpawnsInDrop(tally.clone());
        let unrun = runtime.go(move || {
            let _capture = capture;
        });
        unrun.cancel();
        drop(occupied);
        runtime.shutdown();

        let spawned = tally.spawned.get();
        assert!(spawned >= 601, "{spawned}");
        assert_eq!(tally.captures.get(), spawned, "on {workers} workers");
        let handles = std::mem::take(&mut *tally.handles.lock().unwrap());
        assert_eq!(handles.len(), spawned);
        let finished = handles.into_iter().filter(JoinHandle::is_finished);
        let values = finished.map(JoinHandle::join).filter(Result::is_ok).count();
        assert_eq!(values, tally.ran.get());
        assert_eq!(Arc::strong_count(&tally.handles), 1, "nothing is leaked");
    });
}

/// A coroutine that always spawns its successor ends with the runtime all the same.
#[test]
fn task_shutdown_under_endless_spawning() {
    let _watchdog = common::watchdog();
    fn go_on_for_ever(generations: Counter) {
        generations.add();
        coro::go(move || go_on_for_ever(generations));
    }
    common::on_workers(|_, workers| {
        let runtime = common::runtime(workers);
        let generations = Counter::default();
        for _ in 0..workers + 1 {
            let generations = generations.clone();
            runtime.go(move || go_on_for_ever(generations));
        }
        generations.wait_for(1000);
        runtime.shutdown();
        let at_the_end = generations.get();
        let shared = generations.clone();
        drop(generations);
        assert_eq!(shared.get(), at_the_end);
    });
}

#[test]
fn task_shutdown_waits_for_one_that_does_not_suspend() {
    let _watchdog = common::watchdog();
    common::on_workers(|_, workers| {
        let runtime = common::runtime(workers);
        let (running, gate, ended) = (Counter::default(), Gate::default(), Counter::default());
        let handle = runtime.go({
            let (running, gate, ended) = (running.clone(), gate.clone(), ended.clone());
            move || {
                running.add();
                gate.block();
                ended.add();
                loop {
                    coro::park();
                }
            }
        });
        running.wait_for(1);
        let ended_first = ended.clone();
        let shutdown = common::spawn_until_blocked(move || {
            runtime.shutdown();
            ended_first.get()
        });
        assert_eq!(ended.get(), 0);
        gate.open();
        let ended_first = shutdown.join().unwrap();
        assert_eq!(ended_first, 1, "the shutdown was not over before");
        assert_cancelled::<()>(handle.join());
    });
}

/// Swallowing the cancellation and ending by itself is no trouble. Nobody has to be given up: as often as
/// this is done, the three seconds for that would be more than the watchdog has.
#[test]
fn task_shutdown_of_one_that_swallows_the_cancellation_and_ends() {
    let _watchdog = common::watchdog_for(Duration::from_secs(80));
    for workers in common::WORKERS.repeat(10) {
        let runtime = common::runtime(workers);
        let running = Counter::default();
        let handle = runtime.go({
            let running = running.clone();
            move || {
                running.add();
                catch_unwind(AssertUnwindSafe(|| coro::sleep(LONG))).unwrap_err();
                coro::sleep(Duration::from_millis(5));
                "went on"
            }
        });
        running.wait_for(1);
        runtime.shutdown();
        assert_eq!(handle.join().unwrap(), "went on");
    }
}

/// Swallowing it and waiting on for ever: left alone after a while, with a line that names it.
#[test]
fn task_shutdown_of_one_that_swallows_the_cancellation_and_waits_on() {
    let _watchdog = common::watchdog();
    const TEST: &str = "task_shutdown_of_one_that_swallows_the_cancellation_and_waits_on";
    if common::is_child("stubborn") {
        let runtime = common::runtime(2);
        let (running, released) = (Counter::default(), Counter::default());
        let stubborn = runtime.go({
            let (running, local) = (running.clone(), released.on_drop());
            move || {
                let spawn = move || {
                    let _local = local;
                    loop {
                        running.add();
                        let _ = catch_unwind(coro::park);
                    }
                };
                coro::Builder::new().name("stubborn").spawn(spawn).unwrap()
            }
        });
        let stubborn: JoinHandle<()> = stubborn.join().unwrap();
        running.wait_for(1);
        // Its neighbours end as usual.
        let neighbours: Vec<_> = (0..100).map(|_| runtime.go(|| coro::sleep(LONG))).collect();
        let start = Instant::now();
        runtime.shutdown();
        let took = start.elapsed();
        assert!(took >= Duration::from_secs(3), "{took:?} is no patience");
        neighbours.into_iter().for_each(|neighbour| assert_cancelled(neighbour.join()));
        assert!(!stubborn.is_finished());
        assert_eq!(released.get(), 0, "what it holds is left alone");
        common::say(format_args!("expected: coroutine {} 'stubborn'", stubborn.id()));
        // It is nobody's any more; to poke at it is harmless.
        stubborn.handle().unpark();
        stubborn.cancel();
        assert_eq!(common::runtime(2).go(|| 1).join().unwrap(), 1);
        return;
    }
    let output = common::child(TEST, "stubborn");
    let stderr = common::stderr(&output);
    assert!(output.status.success(), "{stderr}");
    let expected = stderr.lines().find_map(|line| line.strip_prefix("expected: ")).unwrap();
    let told: Vec<_> = stderr.lines().filter(|line| line.starts_with("coro: ")).collect();
    assert_eq!(told.len(), 1, "{stderr}");
    assert!(told[0].contains(expected), "{stderr}");
    assert!(told[0].contains("tests/task/shutdown.rs:"), "{stderr}");
    assert!(
        told[0].contains("was cancelled and goes on waiting for park; it is left alone"),
        "{stderr}"
    );
}

/// Threads spawn while another ends the runtime, and after that: everything they spawn runs or is
/// dropped, is told so, and is counted as ended.
#[test]
fn task_shutdown_races_spawning_threads() {
    let _watchdog = common::watchdog();
    if !common::is_child("races") {
        // Alone, so that the metrics are exact.
        let output = common::child("task_shutdown_races_spawning_threads", "races");
        assert!(output.status.success(), "{}", common::stderr(&output));
        return;
    }
    for round in 0..60 {
        let runtime = common::runtime(common::WORKERS[round % 3]);
        let (spawned, ran, dropped) = (Counter::default(), Counter::default(), Counter::default());
        let over = Gate::default();
        let values: usize = std::thread::scope(|threads| {
            let spawn = || {
                let mut handles = Vec::new();
                for after in 0..300 {
                    if after == 250 {
                        over.pass(); // the last fifty come too late for certain
                    }
                    let (ran, capture) = (ran.clone(), dropped.on_drop());
                    handles.push(runtime.go(move || {
                        let _capture = capture;
                        ran.add();
                    }));
                    spawned.add();
                }
                let outcomes = handles.into_iter().enumerate().map(|(i, handle)| {
                    let outcome = handle.join();
                    assert!(i < 250 || outcome.is_err(), "spawned after the shutdown");
                    match outcome {
                        Ok(()) => 1,
                        Err(JoinError::Cancelled) => 0,
                        Err(error) => panic!("{error}"),
                    }
                });
                outcomes.sum::<usize>()
            };
            let spawners = [threads.spawn(spawn), threads.spawn(spawn)];
            spawned.wait_for(20 + round);
            runtime.shutdown();
            over.open();
            spawners.into_iter().map(|spawner| spawner.join().unwrap()).sum()
        });
        assert_eq!((spawned.get(), dropped.get(), ran.get()), (600, 600, values));
        let metrics = coro::inspect::metrics();
        assert_eq!((metrics.live, metrics.fresh), (0, 0), "{metrics:?}");
    }
}

/// A runtime that one of its own coroutines ends: the call does not wait for its own thread.
#[test]
fn task_shutdown_from_inside() {
    let _watchdog = common::watchdog();
    for workers in common::WORKERS {
        let runtime = common::runtime(workers);
        let (sender, receiver) = mpsc::channel::<Runtime>();
        let (parked, dropped) = (Counter::default(), Counter::default());
        let others: Vec<_> = (0..50)
            .map(|_| {
                let (parked, local) = (parked.clone(), dropped.on_drop());
                runtime.go(move || {
                    let _local = local;
                    parked.add();
                    coro::sleep(LONG);
                })
            })
            .collect();
        parked.wait_for(50);
        let inside = runtime.go(move || {
            receiver.recv().unwrap().shutdown();
            // Still running, with a stack and everything; cancelled as the others are.
            tls::set("key", 1);
            let fresh = coro::go(|| ());
            (tls::get::<i32>("key").is_some(), fresh.id())
        });
        sender.send(runtime).unwrap();
        assert!(inside.join().unwrap().0);
        others.into_iter().for_each(|other| assert_cancelled(other.join()));
        assert_eq!(dropped.get(), 50);
    }
}

/// A coroutine may own a runtime and end it; its own worker waits meanwhile.
#[test]
fn task_shutdown_of_another_runtime() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let total = runtime
            .go(|| {
                let inner = common::runtime(2);
                let handles: Vec<_> = (0..10).map(|i| inner.go(move || i)).collect();
                let total: i32 = handles.into_iter().map(|handle| handle.join().unwrap()).sum();
                inner.shutdown();
                total
            })
            .join();
        assert_eq!(total.unwrap(), 45);
    });
}

/// Of several that wait for a runtime's end some are cancelled, and leave; the others are told.
#[test]
fn task_shutdown_that_is_cancelled_while_it_waits_is_forgotten() {
    let _watchdog = common::watchdog();
    common::on_workers(|outer, _| {
        let (running, gate, begun) = (Counter::default(), Gate::default(), Counter::default());
        let inner = Arc::new(common::runtime(1));
        inner.go({
            let (running, gate) = (running.clone(), gate.clone());
            move || {
                running.add();
                gate.block();
            }
        });
        running.wait_for(1);
        let waiters: Vec<_> = (0..6)
            .map(|_| {
                let (inner, begun) = (Arc::clone(&inner), begun.clone());
                outer.go(move || {
                    begun.add();
                    inner.shutdown();
                })
            })
            .collect();
        begun.wait_for(6);
        let thread = {
            let inner = Arc::clone(&inner);
            common::spawn_until_blocked(move || inner.shutdown())
        };
        // The first, the last, and two in between.
        for index in [0, 2, 3, 5] {
            waiters[index].cancel();
        }
        let mut left = Vec::new();
        for (index, waiter) in waiters.into_iter().enumerate() {
            match index {
                0 | 2 | 3 | 5 => assert_cancelled(waiter.join()),
                _ => left.push(waiter),
            }
        }
        assert!(left.iter().all(|waiter| !waiter.is_finished()));
        gate.open();
        left.into_iter().for_each(|waiter| waiter.join().unwrap());
        thread.join().unwrap();
    });
}

/// Coroutines on several workers and threads wait for the same end, which comes at once.
#[test]
fn task_shutdown_many_wait_for_one() {
    let _watchdog = common::watchdog();
    common::on_workers(|outer, _| {
        for _ in 0..50 {
            let inner = Arc::new(common::runtime(1));
            let shut = {
                let inner = Arc::clone(&inner);
                move || inner.shutdown()
            };
            let waiters: Vec<_> = (0..4).map(|_| outer.go(shut.clone())).collect();
            let threads: Vec<_> = (0..2).map(|_| thread::spawn(shut.clone())).collect();
            waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        }
    });
}

#[test]
fn task_shutdown_again_and_again() {
    let _watchdog = common::watchdog();
    for round in 0..200 {
        let runtime = common::runtime(1 + round % 4);
        let handle = runtime.go(move || round);
        if round % 2 == 0 {
            assert_eq!(handle.join().unwrap(), round);
            runtime.shutdown();
        } else {
            runtime.shutdown();
            match handle.join() {
                Ok(value) => assert_eq!(value, round),
                Err(error) => assert!(matches!(error, JoinError::Cancelled), "{error}"),
            }
        }
    }
}

/// Parks a thousand coroutines of the default runtime, in every kind of wait.
fn park_a_thousand() {
    let running = Counter::default();
    for i in 0..1000 {
        let running = running.clone();
        coro::go(move || {
            tls::at_exit(|| println!("a handler ran"));
            running.add();
            if i % 2 == 0 {
                coro::park()
            } else {
                coro::sleep(LONG)
            }
            println!("a coroutine went on");
        });
    }
    running.wait_for(1000);
}

/// `main` returns, here that of the test harness, whose status depends on the test.
#[test]
fn task_main_returns_while_coroutines_are_parked() {
    let _watchdog = common::watchdog();
    match common::child_case().as_deref() {
        Some("returns") => return park_a_thousand(),
        Some("fails") => {
            park_a_thousand();
            panic!("on purpose");
        }
        _ => {}
    }
    for (case, status) in [("returns", 0), ("fails", 101)] {
        for workers in common::WORKERS {
            let output =
                common::child_command("task_main_returns_while_coroutines_are_parked", case)
                    .env("CORO_WORKERS", workers.to_string())
                    .output()
                    .unwrap();
            assert_eq!(output.status.code(), Some(status), "{output:?}");
            let stdout = common::stdout(&output);
            assert!(!stdout.contains("a handler ran"), "the default runtime has no end: {stdout}");
            assert!(!stdout.contains("a coroutine went on"), "{stdout}");
        }
    }
}

#[test]
fn task_process_exit_inside_a_coroutine() {
    let _watchdog = common::watchdog();
    const TEST: &str = "task_process_exit_inside_a_coroutine";
    match common::child_case().as_deref() {
        Some("body") => {
            park_a_thousand();
            coro::go(|| process::exit(7)).join().unwrap()
        }
        Some("handler") => coro::go(|| tls::at_exit(|| process::exit(7))).join().unwrap(),
        Some("destructor") => {
            struct Exits;
            impl Drop for Exits {
                fn drop(&mut self) {
                    process::exit(7);
                }
            }
            coro::go(|| tls::set("key", Exits)).join().unwrap();
        }
        Some("after a wait") => {
            coro::go(|| {
                coro::sleep(Duration::from_millis(1));
                process::exit(7);
            })
            .join()
            .unwrap();
        }
        Some("raw") => {
            let raw_coroutine = common::raw::<(), (), ()>(65536, |_, ()| process::exit(7)).unwrap();
            raw_coroutine.resume(());
        }
        Some("own runtime") => {
            let runtime = common::runtime(3);
            runtime.go(|| process::exit(7)).join().unwrap()
        }
        Some(other) => panic!("no such case: {other}"),
        None => {
            let cases = ["body", "handler", "destructor", "after a wait", "raw", "own runtime"];
            for case in cases {
                for workers in common::WORKERS {
                    let output = common::child_command(TEST, case)
                        .env("CORO_WORKERS", workers.to_string())
                        .output()
                        .unwrap();
                    assert_eq!(output.status.code(), Some(7), "{case}: {output:?}");
                    let stdout = common::stdout(&output);
                    assert!(!stdout.contains("a coroutine went on"), "{case}: {stdout}");
                }
            }
        }
    }
}

/// What is certain to end is waited for, longer than a worker may be silent.
#[test]
fn task_shutdown_waits_for_what_comes_by_itself() {
    const NAME: &str = "task_shutdown_waits_for_what_comes_by_itself";
    let _watchdog = common::watchdog();
    if common::is_child("waits") {
        let other = common::runtime(1);
        let sleeper = other.go(|| coro::sleep(LONGER_THAN_SILENCE));
        type Waits = Box<dyn FnOnce() + Send>;
        let waits: [Waits; 5] = [
            Box::new(|| coro::blocking(|| thread::sleep(LONGER_THAN_SILENCE))),
            Box::new(|| {
                tls::at_exit(|| coro::blocking(|| thread::sleep(LONGER_THAN_SILENCE)));
                coro::park();
            }),
            Box::new(move || coro::shield(|| sleeper.join().unwrap())),
            Box::new(move || other.scope(|s| drop(s.go(|| coro::sleep(LONGER_THAN_SILENCE))))),
            Box::new(|| coro::shield(|| drop(stubborn_runtime()))),
        ];
        // Each alone on its worker, all at the same time.
        let shutdowns = waits.map(|wait| {
            thread::spawn(move || {
                let runtime = common::runtime(1);
                let up = Counter::default();
                let task = runtime.go({
                    let up = up.clone();
                    move || {
                        up.add();
                        wait();
                    }
                });
                up.wait_for(1);
                runtime.shutdown();
                assert!(task.is_finished());
            })
        });
        return shutdowns.into_iter().for_each(|shutdown| shutdown.join().unwrap());
    }
    let output = common::child(NAME, "waits");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(common::stderr(&output), "");
}

const LONGER_THAN_SILENCE: Duration = Duration::from_millis(3_500);

/// One that takes a while to shut down.
fn stubborn_runtime() -> Runtime {
    let runtime = common::runtime(1);
    let up = Counter::default();
    runtime.go({
        let up = up.clone();
        move || {
            up.add();
            coro::shield(|| coro::sleep(LONGER_THAN_SILENCE));
        }
    });
    up.wait_for(1);
    runtime
}
