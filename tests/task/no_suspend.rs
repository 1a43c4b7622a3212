//! `coro::no_suspend`: what would suspend a coroutine in it panics, and nothing else does.

use std::future::{Future, pending, ready};
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use coro::raw::{self, State, Yielder};
use coro::{JoinError, no_suspend, tls};

use crate::common::{self, Counter, message, planned, quiet, watchdog};

const SHORT: Duration = Duration::from_millis(1);

/// Whether the panic of `f` is that of a suspension in the region at this line of this file.
#[track_caller]
fn assert_refused(line: u32, f: impl FnOnce()) {
    let payload = catch_unwind(AssertUnwindSafe(f)).expect_err("it was suspended");
    let said = message(&*payload);
    let place = format!("would be suspended in the `no_suspend` at {}:{line}:", file!());
    assert!(said.contains(&place), "{said}");
}

/// Runs `f` in a coroutine, with one, two and four workers.
fn in_coroutine(f: impl Fn() + Send + Clone + 'static) {
    common::on_workers(|runtime, _| runtime.go(f.clone()).join().unwrap());
}

type Suspends<'a> = Box<dyn FnMut() + 'a>;

#[test]
fn task_no_suspend_refuses_every_suspension() {
    let _watchdog = watchdog();
    quiet();
    in_coroutine(|| {
        let other = coro::go(|| coro::sleep(Duration::MAX));
        let mut set = coro::JoinSet::new();
        set.insert(coro::go(|| coro::sleep(Duration::MAX)));
        let mut ticks = coro::interval(Duration::from_secs(3600));
        let (tx, rx) = futures_channel::oneshot::channel::<()>();
        let mut rx = Some(rx);
        let mut suspends: Vec<(&str, Suspends<'_>)> = vec![
            ("yield_now", Box::new(coro::yield_now)),
            ("park", Box::new(coro::park)),
            ("park_timeout", Box::new(|| coro::park_timeout(SHORT))),
            ("sleep", Box::new(|| coro::sleep(SHORT))),
            ("timeout", Box::new(|| coro::timeout(SHORT, coro::park).unwrap())),
            ("wait", Box::new(|| coro::wait(rx.take().unwrap()).unwrap())),
            ("pending", Box::new(|| coro::wait(pending()))),
            ("join", Box::new(|| coro::go(|| coro::sleep(Duration::MAX)).join().unwrap())),
            ("JoinSet", Box::new(|| drop(set.join_next()))),
            ("interval", Box::new(|| _ = ticks.tick())),
            ("blocking", Box::new(|| coro::blocking(|| ()))),
            ("scope", Box::new(|| coro::scope(|_| ()))),
            ("shutdown", Box::new(|| ManuallyDrop::new(common::runtime(1)).shutdown())),
        ];
        for (what, suspend) in &mut suspends {
            let unwound = Counter::default();
            assert_refused(line!() + 1, || {
                no_suspend(|| {
                    let _unwound = unwound.on_drop();
                    suspend();
                });
            });
            assert_eq!(unwound.get(), 1, "{what}");
            // The region is over.
            coro::yield_now();
        }
        drop(suspends);
        drop(tx);
        other.cancel();
        drop(other.join());
    });
}

#[test]
fn task_no_suspend_lets_everything_else_pass() {
    let _watchdog = watchdog();
    in_coroutine(|| {
        let ended = coro::go(|| 1);
        while !ended.is_finished() {
            coro::yield_now();
        }
        let (sum, started) = no_suspend(|| {
            let polled = coro::wait(ready(2));
            tls::set("key", 3);
            tls::at_exit(coro::yield_now);
            let stored = *tls::get::<i32>("key").unwrap();
            coro::current().unwrap().unpark();
            assert_eq!(coro::timeout(Duration::from_secs(3600), || 4), Ok(4));
            (ended.join().unwrap() + polled + stored, coro::go(|| 5))
        });
        assert_eq!((sum, started.join().unwrap()), (6, 5));
    });
}

/// Nothing is suspended where there is no coroutine.
#[test]
fn task_no_suspend_on_a_plain_thread() {
    let _watchdog = watchdog();
    let runtime = common::runtime(1);
    no_suspend(|| {
        coro::sleep(SHORT);
        coro::yield_now();
        assert_eq!(runtime.go(|| 1).join().unwrap(), 1);
        assert_eq!(coro::scope(|s| s.go(|| 2).join().unwrap()), 2);
        coro::blocking(|| ());
        let body = |yielder: &Yielder<(), ()>, ()| {
            yielder.suspend(());
            coro::sleep(SHORT);
        };
        raw::with(1, body, |raw| {
            assert_eq!(raw.resume(()), State::Yielded(()));
            assert_eq!(raw.resume(()), State::Done(()));
        })
        .unwrap();
    });
}

/// A region is in the way of the stacks that are suspended, and of no other.
#[test]
fn task_no_suspend_and_raw_coroutines() {
    let _watchdog = watchdog();
    quiet();
    // On its own stack.
    let own = || {
        let body = |yielder: &Yielder<(), ()>, ()| {
            assert_refused(line!(), || no_suspend(|| yielder.suspend(())));
            yielder.suspend(());
        };
        raw::with(1, body, |raw| {
            assert_eq!(raw.resume(()), State::Yielded(()));
            assert_eq!(raw.resume(()), State::Done(()));
        })
        .unwrap();
    };
    // On that of one further out, which stays where it is; unless the whole task is suspended.
    let outer = || {
        let body = |yielder: &Yielder<bool, ()>, mut all: bool| {
            loop {
                if all {
                    coro::yield_now()
                } else {
                    yielder.suspend(());
                }
                all = yielder.suspend(());
            }
        };
        raw::with(1, body, |raw| {
            assert_eq!(no_suspend(|| raw.resume(false)), State::Yielded(()));
            assert_eq!(no_suspend(|| raw.resume(false)), State::Yielded(()));
            assert_eq!(raw.resume(true), State::<(), ()>::Yielded(()));
            if coro::current().is_some() {
                assert_refused(line!(), || _ = no_suspend(|| raw.resume(true)));
                assert!(raw.is_done());
            }
        })
        .unwrap();
    };
    // A region on the inner stack, and the yielder of the outer one.
    let through = || {
        let body = |yielder: &Yielder<(), ()>, ()| {
            let inner = |_: &Yielder<(), ()>, ()| {
                no_suspend(|| {
                    let refused = catch_unwind(AssertUnwindSafe(|| yielder.suspend(())));
                    assert!(refused.is_err());
                });
            };
            raw::with(1, inner, |raw| _ = raw.resume(())).unwrap();
        };
        raw::with(1, body, |raw| assert_eq!(raw.resume(()), State::Done(()))).unwrap();
    };
    for test in [own, outer, through] {
        test();
        in_coroutine(test);
    }
}

#[test]
fn task_no_suspend_regions_nest_and_end_with_a_panic() {
    let _watchdog = watchdog();
    quiet();
    fn region(f: &dyn Fn()) {
        no_suspend(f);
    }
    const REGION: u32 = line!() - 2;
    in_coroutine(|| {
        region(&|| {
            assert_refused(line!(), || no_suspend(coro::yield_now));
            assert!(catch_unwind(|| no_suspend(|| planned("in a region"))).is_err());
            assert_refused(REGION, coro::yield_now);
        });
        coro::yield_now();
        coro::sleep(SHORT);
    });
}

/// A cancellation and a timeout come at the first suspension after the region.
#[test]
fn task_no_suspend_is_not_interrupted() {
    let _watchdog = watchdog();
    quiet();
    common::on_workers(|runtime, _| {
        let reached = Counter::default();
        let cancelled = runtime.go({
            let reached = reached.clone();
            move || {
                no_suspend(|| {
                    coro::current().unwrap().cancel();
                    reached.add();
                });
                reached.add();
                coro::yield_now();
                unreachable!("it is cancelled");
            }
        });
        assert!(matches!(cancelled.join(), Err(JoinError::Cancelled)));
        assert_eq!(reached.get(), 2);
        let refused = runtime.go(|| {
            let refuses = || assert_refused(line!(), || no_suspend(|| coro::sleep(SHORT)));
            coro::timeout(Duration::ZERO, refuses)
        });
        assert_eq!(refused.join().unwrap(), Ok(()));
    });
}

/// A scope that was opened elsewhere and ends in a region cannot leave its children alone, and cannot wait.
#[test]
fn task_no_suspend_around_the_end_of_a_scope_ends_the_process() {
    const NAME: &str = "task_no_suspend_around_the_end_of_a_scope_ends_the_process";
    let _watchdog = watchdog();
    if common::is_child(NAME) {
        let task = coro::go(|| {
            let body = |yielder: &Yielder<(), ()>, ()| {
                coro::scope(|s| {
                    s.go(|| coro::sleep(Duration::MAX));
                    yielder.suspend(());
                });
            };
            let raw = common::raw::<(), (), ()>(1, body).unwrap();
            assert_eq!(raw.resume(()), State::Yielded(()));
            no_suspend(|| raw.resume(()));
        });
        drop(task.join());
        return;
    }
    let output = common::child(NAME, NAME);
    assert_eq!(common::signal(&output), Some(libc::SIGABRT), "{output:?}");
    let stderr = common::stderr(&output);
    assert!(
        stderr.contains("has to wait in the `no_suspend` at tests/task/no_suspend.rs"),
        "{stderr}"
    );
}

/// The poll that finds a future pending is not repeated, and the future is dropped.
#[test]
fn task_no_suspend_drops_the_future() {
    let _watchdog = watchdog();
    quiet();
    in_coroutine(|| {
        let (polls, drops) = (Counter::default(), Counter::default());
        let future = {
            let (polls, on_drop) = (polls.clone(), drops.on_drop());
            std::future::poll_fn(move |_| {
                let _ = &on_drop;
                polls.add();
                std::task::Poll::<()>::Pending
            })
        };
        fn is_future(future: impl Future<Output = ()>) -> impl Future<Output = ()> {
            future
        }
        assert_refused(line!(), || no_suspend(|| coro::wait(is_future(future))));
        assert_eq!((polls.get(), drops.get()), (1, 1));
    });
}
