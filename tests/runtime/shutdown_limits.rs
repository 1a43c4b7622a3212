//! Shutdowns that do not wait for ever, that meet one another, that are called from coroutines; and what
//! becomes of those who spawn on a runtime that is gone.

use std::panic::catch_unwind;
use std::process::Stdio;
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use coro::raw::Yielder;
use coro::{JoinHandle, JoinSet, Runtime, tls};

use crate::common::{self, Counter, Gate, assert_cancelled};

const SHORT: Duration = Duration::from_millis(5);

fn park_forever() {
    loop {
        coro::park();
    }
}

/// Parks `n` coroutines, each of which counts when its local is dropped.
fn park(runtime: &Runtime, n: usize, dropped: &Counter) -> Vec<JoinHandle<()>> {
    let begun = Counter::default();
    let handles = (0..n)
        .map(|_| {
            let (begun, local) = (begun.clone(), dropped.on_drop());
            runtime.go(move || {
                let _local = local;
                begun.add();
                park_forever();
            })
        })
        .collect();
    begun.wait_for(n);
    handles
}

/// Within a limit everything may end; then nothing is alive, and it takes no longer than that.
#[test]
fn runtime_shutdown_timeout_of_those_who_end() {
    let _watchdog = common::watchdog();
    for workers in common::WORKERS {
        for limit in [Duration::from_secs(3600), Duration::MAX] {
            let (runtime, dropped) = (common::runtime(workers), Counter::default());
            let parked = park(&runtime, 100, &dropped);
            assert_eq!(runtime.shutdown_timeout(limit), 0);
            assert_eq!(dropped.get(), 100, "their cleanup is over");
            parked.into_iter().for_each(|parked| assert_cancelled(parked.join()));
            assert_eq!(runtime.shutdown_timeout(limit), 0, "once more");
            runtime.shutdown();
        }
    }
}

/// Those who do not suspend are counted, and not touched: they end when they do.
#[test]
fn runtime_shutdown_timeout_counts_who_goes_on() {
    let _watchdog = common::watchdog();
    for (workers, spinners) in [(1, 1), (2, 1), (2, 2), (4, 3)] {
        for limit in [Duration::ZERO, SHORT] {
            let runtime = common::runtime(workers);
            let (gate, begun, dropped) = (Gate::default(), Counter::default(), Counter::default());
            let spinning: Vec<_> = (0..spinners)
                .map(|n| {
                    let (gate, begun, local) = (gate.clone(), begun.clone(), dropped.on_drop());
                    runtime.go(move || {
                        tls::set("stored", local);
                        begun.add();
                        gate.block();
                        n
                    })
                })
                .collect();
            begun.wait_for(spinners);
            // They go on until the gate is open, and to wait for them would be for ever.
            let alive = runtime.shutdown_timeout(limit);
            assert_eq!(alive, spinners, "{workers} workers");
            assert_eq!(runtime.shutdown_timeout(limit), spinners, "the same once more");
            runtime.shutdown();
            assert_eq!(dropped.get(), 0, "they are left alone");
            gate.open();
            for (n, spinning) in spinning.into_iter().enumerate() {
                assert_eq!(
                    spinning.join().unwrap(),
                    n,
                    "it did not suspend, so it ends as it would"
                );
            }
            assert_eq!(dropped.get(), spinners);
            assert_cancelled(runtime.go(|| ()).join());
        }
    }
}

/// The report names who goes on running, and nobody else.
#[test]
fn runtime_shutdown_timeout_names_who_goes_on() {
    let _watchdog = common::watchdog();
    const TEST: &str = "runtime_shutdown_timeout_names_who_goes_on";
    if common::is_child("names") {
        let runtime = Arc::new(common::runtime(2));
        let (gate, begun) = (Gate::default(), Counter::default());
        let spins = |runtime: &Runtime| {
            let (gate, begun) = (gate.clone(), begun.clone());
            runtime.go(move || {
                begun.add();
                gate.block();
            })
        };
        let stubborn = spins(&runtime);
        begun.wait_for(1);
        common::say(format_args!("expected: coroutine {}", stubborn.id()));
        let ends = runtime.go(park_forever);
        let begins = runtime.go({
            let runtime = Arc::clone(&runtime);
            move || runtime.shutdown()
        });
        begins.join().unwrap();
        assert_cancelled(ends.join());
        let other = thread::spawn({
            let runtime = Arc::clone(&runtime);
            move || runtime.shutdown_timeout(100 * SHORT)
        });
        // One of the two workers ends, and what it leaves serves the next runtime.
        let stranger = common::runtime(2);
        let unrelated = spins(&stranger);
        begun.wait_for(2);
        assert_eq!(other.join().unwrap(), 1);
        gate.open();
        stubborn.join().unwrap();
        unrelated.join().unwrap();
        return;
    }
    let output = common::child(TEST, "names");
    let stderr = common::stderr(&output);
    assert!(output.status.success(), "{stderr}");
    let expected = stderr.lines().find_map(|line| line.strip_prefix("expected: ")).unwrap();
    let told: Vec<_> = stderr.lines().filter(|line| line.starts_with("coro: ")).collect();
    assert_eq!(told.len(), 1, "{stderr}");
    assert!(told[0].starts_with(&format!("coro: {expected}, spawned at tests/")), "{stderr}");
    assert!(told[0].ends_with("goes on running; it is left alone"), "{stderr}");
}

/// Who is suspended is named too, with what it waits for: ten of a worker, and the number of the others.
#[test]
fn runtime_shutdown_timeout_names_who_is_suspended() {
    let _watchdog = common::watchdog();
    const TEST: &str = "runtime_shutdown_timeout_names_who_is_suspended";
    if common::is_child("suspended") {
        let runtime = Arc::new(common::runtime(1));
        let swallowed = Counter::default();
        let stubborn: Vec<_> = (0..13)
            .map(|_| {
                let swallowed = swallowed.clone();
                runtime.go(move || {
                    // The timers keep the worker from giving them up by itself.
                    while catch_unwind(|| coro::sleep(Duration::from_secs(3600))).is_err() {
                        swallowed.add();
                    }
                })
            })
            .collect();
        stubborn
            .iter()
            .for_each(|one| common::say(format_args!("expected: coroutine {}", one.id())));
        let begins = runtime.go({
            let runtime = Arc::clone(&runtime);
            move || runtime.shutdown()
        });
        begins.join().unwrap();
        swallowed.wait_for(13);
        while coro::inspect::metrics().parked < 13 {
            thread::yield_now();
        }
        assert_eq!(runtime.shutdown_timeout(100 * SHORT), 13);
        assert_eq!(runtime.shutdown_timeout(100 * SHORT), 13, "told once");
        // One of a worker that is held cannot be named.
        let (held, dropped) = (common::runtime(1), Counter::default());
        let parked = park(&held, 1, &dropped);
        let occupied = common::occupy(&held, 1);
        assert_eq!(held.shutdown_timeout(SHORT), 2);
        drop(occupied);
        parked.into_iter().for_each(|parked| assert_cancelled(parked.join()));
        return;
    }
    let output = common::child(TEST, "suspended");
    let stderr = common::stderr(&output);
    assert!(output.status.success(), "{stderr}");
    let expected: Vec<_> =
        stderr.lines().filter_map(|line| line.strip_prefix("expected: ")).collect();
    let told: Vec<_> = stderr.lines().filter(|line| line.starts_with("coro: ")).collect();
    let named = |line: &&str| {
        line.ends_with("was cancelled and goes on waiting for sleep; it is left alone")
            && expected
                .iter()
                .any(|who| line.starts_with(&format!("coro: {who}, spawned at tests/")))
    };
    assert_eq!((expected.len(), told.len()), (13, 13), "{stderr}");
    assert!(told[..10].iter().all(named), "{stderr}");
    assert_eq!(told[10], "coro: and 3 more coroutines of the same worker", "{stderr}");
    assert!(told[11].ends_with("goes on running; it is left alone"), "{stderr}");
    assert_eq!(told[12], "coro: and 1 more coroutine of the same worker", "{stderr}");
}

/// What waits behind one that does not suspend is dropped unrun when the shutdown gives that one up.
#[test]
fn runtime_shutdown_timeout_drops_what_is_fresh() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(1);
    let (gate, dropped, ran) = (Gate::default(), Counter::default(), Counter::default());
    let fresh = || {
        let (captured, ran) = (dropped.on_drop(), ran.clone());
        move || {
            let _captured = captured;
            ran.add();
        }
    };
    let (sender, spawned) = mpsc::channel();
    let holds = runtime.go({
        let (gate, fresh) = (gate.clone(), [fresh(), fresh()]);
        move || {
            fresh.into_iter().for_each(|fresh| sender.send(coro::go(fresh)).unwrap());
            drop(sender);
            gate.block();
        }
    });
    let mut handles: Vec<_> = spawned.iter().collect();
    handles.extend([fresh(), fresh()].map(|fresh| runtime.go(fresh)));
    assert_eq!(runtime.shutdown_timeout(SHORT), 1);
    assert_eq!((dropped.get(), ran.get()), (4, 0));
    handles.into_iter().for_each(|handle| assert_cancelled(handle.join()));
    gate.open();
    holds.join().unwrap();
}

/// A cleanup that takes its time, and starts coroutines and joins them on the way, is waited for: they end,
/// although as many are alive as before.
#[test]
fn runtime_shutdown_waits_while_coroutines_end() {
    let _watchdog = common::watchdog();
    let (runtime, begun, handled) = (common::runtime(2), Counter::default(), Counter::default());
    let slow = runtime.go({
        let (begun, handled) = (begun.clone(), handled.clone());
        move || {
            tls::at_exit(move || {
                // More than the ten seconds that it would get if nobody ended.
                for _ in 0..24 {
                    coro::sleep(100 * SHORT);
                    assert_cancelled(coro::go(|| ()).join());
                }
                handled.add();
            });
            begun.add();
            park_forever();
        }
    });
    begun.wait_for(1);
    runtime.shutdown();
    assert_eq!(handled.get(), 1);
    assert!(slow.is_finished());
}

/// A runtime that is over counts its own, and not what runs where its workers were.
#[test]
fn runtime_shutdown_timeout_counts_no_strangers() {
    let _watchdog = common::watchdog();
    const TEST: &str = "runtime_shutdown_timeout_counts_no_strangers";
    if !common::is_child("alone") {
        // No other test of this process is to take what the first runtime leaves.
        let output = common::child(TEST, "alone");
        assert!(output.status.success(), "{}", common::stderr(&output));
        return;
    }
    let (first, dropped) = (common::runtime(2), Counter::default());
    let parked = park(&first, 10, &dropped);
    assert_eq!(first.shutdown_timeout(Duration::MAX), 0);
    drop(parked);
    let second = common::runtime(2);
    let parked = park(&second, 10, &dropped);
    assert_eq!(first.shutdown_timeout(Duration::ZERO), 0);
    assert_eq!(second.shutdown_timeout(Duration::MAX), 0);
    drop(parked);
    assert_eq!(dropped.get(), 20);
}

/// Two threads and a coroutine of another runtime end the same one: all come back when it is over.
#[test]
fn runtime_shutdown_by_several_at_once() {
    let _watchdog = common::watchdog();
    for workers in common::WORKERS {
        for round in 0..30 {
            let runtime = Arc::new(common::runtime(workers));
            let (other, dropped) = (common::runtime(1), Counter::default());
            let parked = park(&runtime, 20, &dropped);
            let barrier = Arc::new(Barrier::new(2));
            let ends = |how: u32| {
                let (runtime, dropped) = (Arc::clone(&runtime), dropped.clone());
                let barrier = Arc::clone(&barrier);
                move || {
                    if how < 2 {
                        barrier.wait();
                    }
                    match (how + round) % 2 {
                        0 => runtime.shutdown(),
                        _ => assert_eq!(runtime.shutdown_timeout(Duration::MAX), 0),
                    }
                    assert_eq!(dropped.get(), 20, "it is over when it says so");
                }
            };
            let coroutine = other.go(ends(2));
            let threads = [thread::spawn(ends(0)), thread::spawn(ends(1))];
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            coroutine.join().unwrap();
            parked.into_iter().for_each(|parked| assert_cancelled(parked.join()));
        }
    }
}

/// What is spawned on a runtime that is gone is dropped unrun, in place, with all that it captured; from
/// wherever it is spawned.
#[test]
fn runtime_shutdown_and_go_afterwards() {
    let _watchdog = common::watchdog();
    for workers in common::WORKERS {
        let runtime = Arc::new(common::runtime(workers));
        runtime.shutdown();
        let (ran, dropped) = (Counter::default(), Counter::default());
        let spawn = |count: usize| {
            let (runtime, ran, dropped) = (Arc::clone(&runtime), ran.clone(), dropped.clone());
            move || {
                let here = thread::current().id();
                for _ in 0..count {
                    struct Notes(mpsc::Sender<thread::ThreadId>);
                    impl Drop for Notes {
                        fn drop(&mut self) {
                            self.0.send(thread::current().id()).unwrap();
                        }
                    }
                    let (sender, receiver) = mpsc::channel();
                    let (ran, captured, notes) = (ran.clone(), dropped.on_drop(), Notes(sender));
                    let handle = runtime.go(move || {
                        let _captured = (captured, notes);
                        ran.add();
                    });
                    assert_eq!(receiver.try_recv(), Ok(here), "dropped in place");
                    assert!(handle.is_finished());
                    assert_cancelled(handle.join());
                }
            }
        };
        spawn(10)();
        thread::spawn(spawn(10)).join().unwrap();
        let other = common::runtime(2);
        other.go(spawn(10)).join().unwrap();
        assert_eq!((ran.get(), dropped.get()), (0, 30));
    }
}

/// Called by one of its own coroutines it only begins; what that one does then is as ever.
#[test]
fn runtime_shutdown_timeout_from_inside() {
    let _watchdog = common::watchdog();
    for workers in common::WORKERS {
        let runtime = Arc::new(common::runtime(workers));
        let dropped = Counter::default();
        let parked = park(&runtime, 10, &dropped);
        let inside = runtime.go({
            let runtime = Arc::clone(&runtime);
            move || {
                let alive = runtime.shutdown_timeout(Duration::MAX);
                runtime.shutdown();
                assert!((1..=11).contains(&alive), "{alive}");
                // The last that owns it may be here as well.
                drop(runtime);
                assert!(catch_unwind(|| coro::sleep(Duration::MAX)).is_err(), "cancelled itself");
                "went on"
            }
        });
        drop(runtime);
        assert_eq!(inside.join().unwrap(), "went on");
        parked.into_iter().for_each(|parked| assert_cancelled(parked.join()));
        assert_eq!(dropped.get(), 10);
    }
}

/// A coroutine that waits for the end of another runtime may be cancelled, or give up in time; and the
/// other ends all the same.
#[test]
fn runtime_shutdown_given_up_by_who_waits() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        for limited in [false, true] {
            let ending = Arc::new(common::runtime(1));
            let (gate, begun, waiting) = (Gate::default(), Counter::default(), Counter::default());
            let spins = ending.go({
                let (gate, begun) = (gate.clone(), begun.clone());
                move || {
                    begun.add();
                    gate.block();
                    7
                }
            });
            begun.wait_for(1);
            let waits = runtime.go({
                let (ending, waiting) = (Arc::clone(&ending), waiting.clone());
                move || {
                    waiting.add();
                    let limit = if limited { SHORT } else { Duration::MAX };
                    coro::timeout(limit, || ending.shutdown()).unwrap_err();
                }
            });
            waiting.wait_for(1);
            if limited {
                waits.join().unwrap();
            } else {
                waits.cancel();
                assert_cancelled(waits.join());
            }
            assert_cancelled(ending.go(|| ()).join());
            gate.open();
            assert_eq!(spins.join().unwrap(), 7);
            ending.shutdown();
        }
    });
}

/// Whatever they wait for, and however deep in what: all are cancelled and cleaned up.
#[test]
fn runtime_shutdown_of_every_kind_of_wait() {
    let _watchdog = common::watchdog();
    let waits: [fn(); 7] = [
        || coro::timeout(Duration::from_secs(3600), park_forever).unwrap(),
        || coro::wait(std::future::pending()),
        || coro::scope(|s| drop(s.go(park_forever).join())),
        || {
            let mut set = JoinSet::new();
            for _ in 0..3 {
                set.spawn(park_forever);
            }
            set.join_next();
        },
        || {
            coro::interval(Duration::MAX).tick();
        },
        || coro::blocking(|| thread::sleep(SHORT)),
        || {
            let run = |_: &Yielder<(), ()>, ()| park_forever();
            common::raw(65536, run).unwrap().resume(());
        },
    ];
    for workers in common::WORKERS {
        let (runtime, begun, dropped) =
            (common::runtime(workers), Counter::default(), Counter::default());
        let handles: Vec<_> = (0..7 * 10)
            .map(|n| {
                let (begun, local, stored) = (begun.clone(), dropped.on_drop(), dropped.on_drop());
                runtime.go(move || {
                    let _local = local;
                    tls::set("stored", stored);
                    begun.add();
                    waits[n % 7]();
                    park_forever();
                })
            })
            .collect();
        begun.wait_for(70);
        runtime.shutdown();
        assert_eq!(dropped.get(), 140, "on {workers} workers");
        handles.into_iter().for_each(|handle| assert_cancelled(handle.join()));
    }
}

/// A scope whose child swallows its cancellation: both are given up after three seconds of silence, both
/// are named, and what the child borrows stays.
#[test]
fn runtime_shutdown_of_a_scope_that_never_ends() {
    let _watchdog = common::watchdog();
    const TEST: &str = "runtime_shutdown_of_a_scope_that_never_ends";
    if common::is_child("scope") {
        let runtime = common::runtime(1);
        let (begun, dropped) = (Counter::default(), Counter::default());
        let parent = runtime.go({
            let (begun, local) = (begun.clone(), dropped.on_drop());
            move || {
                let borrowed = Counter::default();
                coro::scope(|s| {
                    let child = s.go(|| {
                        let _local = &local;
                        loop {
                            begun.add();
                            borrowed.add();
                            let _ = catch_unwind(coro::park);
                        }
                    });
                    common::say(format_args!("expected: coroutine {} for park", child.id()));
                });
            }
        });
        common::say(format_args!(
            "expected: coroutine {} for the end of its scope's coroutines",
            parent.id()
        ));
        begun.wait_for(1);
        let start = Instant::now();
        // Without the silence it would be for ever.
        let alive = runtime.shutdown_timeout(Duration::MAX);
        assert_eq!(alive, 2);
        assert!(start.elapsed() >= Duration::from_secs(3), "{:?}", start.elapsed());
        assert!(begun.get() >= 2, "it was cancelled");
        assert_eq!(dropped.get(), 0);
        assert!(!parent.is_finished());
        assert_eq!(runtime.shutdown_timeout(Duration::ZERO), 2);
        return;
    }
    let output = common::child(TEST, "scope");
    let stderr = common::stderr(&output);
    assert!(output.status.success(), "{stderr}");
    let expected: Vec<_> =
        stderr.lines().filter_map(|line| line.strip_prefix("expected: ")).collect();
    let told: Vec<_> = stderr.lines().filter(|line| line.starts_with("coro: ")).collect();
    assert_eq!((expected.len(), told.len()), (2, 2), "{stderr}");
    for expected in expected {
        let (who, what) = expected.split_once(" for ").unwrap();
        let matches = |line: &&&str| {
            line.starts_with(&format!("coro: {who}, spawned at tests/"))
                && line.contains(&format!(" waiting for {what}; it is left alone"))
        };
        assert_eq!(told.iter().filter(matches).count(), 1, "{stderr}");
    }
}

/// Where nobody reads what is told, a shutdown tells nobody, and is over.
#[test]
fn runtime_shutdown_with_stderr_closed() {
    let _watchdog = common::watchdog();
    const TEST: &str = "runtime_shutdown_with_stderr_closed";
    const CASES: [&str; 2] = ["spins", "swallows"];
    for case in CASES {
        if common::is_child(case) {
            let mut line = String::new();
            std::io::stdin().read_line(&mut line).unwrap();
            let runtime = common::runtime(1);
            let (gate, begun) = (Gate::default(), Counter::default());
            let stubborn = runtime.go({
                let (gate, begun) = (gate.clone(), begun.clone());
                move || {
                    begun.add();
                    match case {
                        "spins" => gate.block(),
                        _ => loop {
                            let _ = catch_unwind(coro::park);
                        },
                    }
                }
            });
            begun.wait_for(1);
            // The other one is given up when it has been silent for three seconds.
            let limit = if case == "spins" { SHORT } else { Duration::MAX };
            let outcome = catch_unwind(std::panic::AssertUnwindSafe(|| {
                assert_eq!(runtime.shutdown_timeout(limit), 1);
            }));
            gate.open();
            drop(stubborn);
            std::process::exit(if outcome.is_ok() { 0 } else { 4 });
        }
    }
    for case in CASES {
        let mut command = common::child_command(TEST, case);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stderr.take());
        drop(child.stdin.take());
        let status = child.wait().unwrap();
        assert!(status.success(), "{case}: {status}");
    }
}

/// What is spawned after the shutdown is dropped on the spawning thread, which stays in the panic that it is in.
#[test]
fn runtime_shutdown_discards_in_the_middle_of_a_panic() {
    let _watchdog = common::watchdog();
    common::quiet();
    struct SpawnsWhenDropped(Runtime, Counter);
    impl Drop for SpawnsWhenDropped {
        fn drop(&mut self) {
            let local = self.1.on_drop();
            assert_cancelled(self.0.go(move || drop(local)).join());
            assert!(thread::panicking());
        }
    }
    let dropped = Counter::default();
    let count = dropped.clone();
    let panicked = thread::spawn(move || {
        let runtime = common::runtime(1);
        runtime.shutdown();
        let _spawns = SpawnsWhenDropped(runtime, count);
        common::planned("while something is to be discarded");
    });
    let payload = panicked.join().unwrap_err();
    assert!(common::is_planned(&*payload, "while something is to be discarded"));
    assert_eq!(dropped.get(), 1);
}
