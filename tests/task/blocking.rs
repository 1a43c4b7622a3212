//! Blocking calls: they run elsewhere, on what they borrow from the caller's stack, and nothing brings
//! the caller back before they are over.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use coro::raw::State;
use coro::{Elapsed, JoinError, tls};

use crate::common::{self, Counter, Gate, is_planned, planned, quiet};

const SHORT: Duration = Duration::from_millis(5);

#[test]
fn task_blocking_borrows_and_gives() {
    let _watchdog = common::watchdog();
    let check = |elsewhere: bool| {
        let here = thread::current().id();
        let words = [String::from("to"), String::from("be")];
        let mut count = 0;
        let (longest, there) = coro::blocking(|| {
            count += words.len();
            (words.iter().max().unwrap(), thread::current().id())
        });
        assert!(std::ptr::eq(longest, &words[0]));
        assert_eq!((count, there != here), (2, elsewhere));
        // Values of every size.
        assert_eq!(coro::blocking(|| [7u8; 10_000])[9_999], 7);
        coro::blocking(|| ());
    };
    check(false);
    common::on_workers(|runtime, _| runtime.go(move || check(true)).join().unwrap());
}

#[test]
fn task_blocking_leaves_the_worker_to_others() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, workers| {
        let (gate, inside) = (Gate::default(), Counter::default());
        // More than there are workers, and nobody but a coroutine opens the gate.
        let blocked: Vec<_> = (0..workers + 2)
            .map(|n| {
                let (gate, inside) = (gate.clone(), inside.clone());
                runtime.go(move || {
                    coro::blocking(|| {
                        inside.add();
                        gate.block();
                    });
                    n
                })
            })
            .collect();
        let opener = runtime.go({
            let gate = gate.clone();
            move || {
                inside.wait_for(workers + 2);
                gate.open();
            }
        });
        opener.join().unwrap();
        for (n, blocked) in blocked.into_iter().enumerate() {
            assert_eq!(blocked.join().unwrap(), n);
        }
    });
}

#[test]
fn task_blocking_passes_a_panic_on() {
    let _watchdog = common::watchdog();
    quiet();
    let check = || {
        let dropped = Counter::default();
        let local = dropped.on_drop();
        let payload = catch_unwind(AssertUnwindSafe(|| {
            coro::blocking(move || {
                let _local = local;
                planned("in a blocking call")
            })
        }));
        assert!(is_planned(&*payload.unwrap_err(), "in a blocking call"));
        assert_eq!(dropped.get(), 1);
        assert_eq!(coro::blocking(|| 1), 1, "nothing is left of it");
    };
    check();
    common::on_workers(|runtime, _| {
        runtime.go(check).join().unwrap();
        let panics = runtime.go(|| coro::blocking(|| planned("in a blocking call")));
        match panics.join() {
            Err(JoinError::Panicked(payload)) => {
                assert!(is_planned(&*payload, "in a blocking call"))
            }
            other => panic!("{other:?}"),
        }
    });
}

/// Neither a cancellation nor a timeout nor an unpark ends it, for it works on the caller's stack.
/// They come at the next suspension.
#[test]
fn task_blocking_is_not_cut_short() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (inside, gate, after) = (Counter::default(), Gate::default(), Counter::default());
        let cancelled = runtime.go({
            let (inside, gate, after) = (inside.clone(), gate.clone(), after.clone());
            move || {
                let mut written = [0u64; 64];
                let limited = coro::timeout(SHORT, || {
                    coro::blocking(|| {
                        inside.add();
                        gate.block();
                        written.fill(42);
                    });
                });
                assert_eq!(limited, Ok(()), "who returns has won");
                assert!(coro::is_cancelled());
                assert_eq!(written, [42; 64]);
                coro::blocking(|| written.fill(43));
                assert_eq!(written, [43; 64]);
                after.add();
                coro::park();
                unreachable!("the cancellation is for this suspension");
            }
        });
        inside.wait_for(1);
        for _ in 0..10 {
            cancelled.handle().unpark();
            cancelled.cancel();
            runtime.go(coro::yield_now).join().unwrap();
        }
        // Until its limit is past as well.
        runtime.go(|| coro::sleep(2 * SHORT)).join().unwrap();
        assert!(!cancelled.is_finished() && after.get() == 0);
        gate.open();
        assert!(matches!(cancelled.join(), Err(JoinError::Cancelled)));
        assert_eq!(after.get(), 1);

        let limited = runtime.go(|| {
            let mut written = 0;
            let outcome = coro::timeout(Duration::from_millis(1), || {
                coro::blocking(|| {
                    thread::sleep(SHORT);
                    written = 1;
                });
                coro::yield_now();
            });
            (outcome, written)
        });
        assert_eq!(limited.join().unwrap(), (Err(Elapsed), 1));
    });
}

/// 600 at a time, which is more than there are threads: none is lost, and none waits for another that
/// is behind it.
#[test]
fn task_blocking_600_at_a_time() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(2);
    static INSIDE: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);
    let gate = Gate::default();
    let calls: Vec<_> = (0..600)
        .map(|n| {
            let gate = gate.clone();
            runtime.go(move || {
                let mut value = 0;
                coro::blocking(|| {
                    let inside = INSIDE.fetch_add(1, Ordering::Relaxed) + 1;
                    MOST.fetch_max(inside, Ordering::Relaxed);
                    gate.block();
                    INSIDE.fetch_sub(1, Ordering::Relaxed);
                    value = n;
                });
                value
            })
        })
        .collect();
    // A few are enough to see that they are there at the same time.
    while MOST.load(Ordering::Relaxed) < 20 {
        thread::yield_now();
    }
    gate.open();
    let sum: usize = calls.into_iter().map(|call| call.join().unwrap()).sum();
    assert_eq!(sum, 600 * 599 / 2);
    assert_eq!(INSIDE.load(Ordering::Relaxed), 0);
    assert!(MOST.load(Ordering::Relaxed) <= 500);
}

/// Runs `body` in a process of its own, with this many threads for blocking calls.
fn in_child_with(test: &str, most: &str, body: impl FnOnce()) -> std::process::Output {
    let _watchdog = common::watchdog();
    if common::is_child(test) {
        body();
        std::process::exit(0);
    }
    common::child_command(test, test).env("BLOCKING_MAX_THREADS", most).output().unwrap()
}

/// How many threads there are for blocking calls.
fn threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = tasks.flat_map(|task| std::fs::read_to_string(task.path().join("comm")));
    names.filter(|name| name.starts_with("blocking-")).count()
}

/// First come, first served, where no more threads are allowed.
#[test]
fn task_blocking_waits_its_turn() {
    let test = "task_blocking_waits_its_turn";
    let output = in_child_with(test, "1", || {
        let runtime = common::runtime(1);
        let (gate, inside, order) = (Gate::default(), Counter::default(), Counter::default());
        let held = runtime.go({
            let (gate, inside) = (gate.clone(), inside.clone());
            move || {
                coro::blocking(|| {
                    inside.add();
                    gate.block();
                });
            }
        });
        inside.wait_for(1);
        let calls: Vec<_> = (0..100)
            .map(|n| {
                let (order, called) = (order.clone(), Counter::default());
                let calls = called.clone();
                let call = runtime.go(move || {
                    calls.add();
                    coro::blocking(|| {
                        let place = order.get();
                        order.add();
                        place
                    })
                });
                called.wait_for(1);
                (n, call)
            })
            .collect();
        assert_eq!((order.get(), threads()), (0, 1));
        gate.open();
        held.join().unwrap();
        for (n, call) in calls {
            assert_eq!(call.join().unwrap(), n);
        }
    });
    assert!(output.status.success(), "{output:?}");
}

/// Idle threads end, and others take their place when there is something to do again.
#[test]
fn task_blocking_threads_end_when_they_are_idle() {
    let test = "task_blocking_threads_end_when_they_are_idle";
    let output = in_child_with(test, "10000", || {
        let runtime = common::runtime(1);
        for _ in 0..2 {
            let (gate, inside) = (Gate::default(), Counter::default());
            let calls: Vec<_> = (0..20)
                .map(|_| {
                    let (gate, inside) = (gate.clone(), inside.clone());
                    runtime.go(move || {
                        coro::blocking(|| {
                            inside.add();
                            gate.block();
                        });
                    })
                })
                .collect();
            inside.wait_for(20);
            gate.open();
            calls.into_iter().for_each(|call| call.join().unwrap());
            while threads() > 0 {
                thread::yield_now();
            }
        }
    });
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn task_blocking_with_nonsense_in_the_environment() {
    let test = "task_blocking_with_nonsense_in_the_environment";
    for nonsense in ["0", "10001", "many"] {
        let output = in_child_with(test, nonsense, || {
            // On a plain thread no thread is needed.
            assert_eq!(coro::blocking(|| 1), 1);
            for _ in 0..2 {
                coro::go(|| coro::blocking(|| ())).join().unwrap_err();
            }
        });
        assert!(output.status.success(), "{output:?}");
        let said = format!("BLOCKING_MAX_THREADS={nonsense:?}: expected a number from 1 to 10000");
        assert_eq!(common::stderr(&output).matches(&said).count(), 2, "{output:?}");
    }
}

/// Inside it is a plain thread: no coroutine, and a storage of its own.
#[test]
fn task_blocking_is_a_plain_thread_inside() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let check = runtime.go(|| {
            tls::set("key", 1);
            let outside = tls::id();
            coro::blocking(|| {
                assert!(coro::current().is_none() && !coro::is_cancelled());
                assert_ne!(tls::id(), outside);
                assert_eq!(tls::get::<i32>("key").as_deref(), None);
                tls::set("key", 2);
                assert_eq!(tls::take::<i32>("key"), Some(2));
                // What waits there blocks that thread, and a call within a call runs in place.
                let here = thread::current().id();
                assert_eq!(coro::go(|| 3).join().unwrap(), 3);
                assert_eq!(coro::timeout(Duration::from_micros(1), coro::park), Err(Elapsed));
                coro::blocking(|| assert_eq!(thread::current().id(), here));
                coro::scope(|s| s.go(coro::yield_now).join().unwrap());
            });
            assert_eq!(tls::get::<i32>("key").as_deref(), Some(&1));
            assert_eq!(tls::id(), outside);
        });
        check.join().unwrap();
    });
}

/// In a handler, in the destructor of what is stored, in one that a panic runs, in a coroutine made by
/// hand, in the child of a scope.
#[test]
fn task_blocking_where_one_would_not_expect_it() {
    let _watchdog = common::watchdog();
    quiet();
    struct Blocks(Counter);
    impl Drop for Blocks {
        fn drop(&mut self) {
            let here = thread::current().id();
            coro::blocking(|| {
                assert_ne!(thread::current().id(), here);
                self.0.add();
            });
        }
    }
    common::on_workers(|runtime, _| {
        let blocked = Counter::default();
        let by = || Blocks(blocked.clone());
        let (stored, handled, local, raw_coroutine, child) = (by(), by(), by(), by(), by());
        let unwinds = runtime.go(move || {
            tls::set("stored", stored);
            tls::at_exit(move || drop(handled));
            let _local = local;
            let coroutine =
                common::raw::<(), (), ()>(64 * 1024, move |_, ()| drop(raw_coroutine)).unwrap();
            assert_eq!(coroutine.resume(()), State::Done(()));
            coro::scope(|s| s.go(move || drop(child)).join().unwrap());
            planned("with blocking calls in destructors");
        });
        assert!(matches!(unwinds.join(), Err(JoinError::Panicked(_))));
        assert_eq!(blocked.get(), 5);
    });
}

/// A shutdown waits for what it cannot cut short.
#[test]
fn task_blocking_and_a_shutdown() {
    let _watchdog = common::watchdog();
    for workers in common::WORKERS {
        let runtime = common::runtime(workers);
        let (inside, gate) = (Counter::default(), Gate::default());
        let done = std::sync::Arc::new(AtomicBool::new(false));
        let blocked = runtime.go({
            let (inside, gate, done) = (inside.clone(), gate.clone(), done.clone());
            move || {
                coro::blocking(|| {
                    inside.add();
                    gate.block();
                    done.store(true, Ordering::Relaxed);
                });
                // That the shutdown waits does not say that its worker has heard of it.
                loop {
                    coro::yield_now();
                }
            }
        });
        inside.wait_for(1);
        let shutdown = common::spawn_until_blocked(move || runtime.shutdown());
        assert!(!blocked.is_finished());
        gate.open();
        shutdown.join().unwrap();
        assert!(done.load(Ordering::Relaxed));
        assert!(matches!(blocked.join(), Err(JoinError::Cancelled)));
    }
}
