//! The ends of a runtime's threads: a thread outlives the coroutines that were started on it, whatever a
//! shutdown says of them; and the destructors of its thread-locals may do what they like.

use std::cell::RefCell;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use coro::{Runtime, tls};

use crate::common::{self, Counter, Gate, assert_cancelled};

const SHORT: Duration = Duration::from_millis(5);

fn park_forever() {
    loop {
        coro::park();
    }
}

/// Runs a function when it is dropped.
struct Runs(Option<Box<dyn FnOnce()>>);

impl Drop for Runs {
    fn drop(&mut self) {
        self.0.take().unwrap()();
    }
}

thread_local! {
    static KEPT: RefCell<Vec<Runs>> = const { RefCell::new(Vec::new()) };
}

/// Has `f` run in a destructor of the thread-locals of the calling thread.
fn keep(f: impl FnOnce() + 'static) {
    KEPT.with_borrow_mut(|kept| kept.push(Runs(Some(Box::new(f)))));
}

/// Has `f` run in a destructor of the thread-locals of one of the runtime's threads.
fn at_thread_exit(runtime: &Runtime, f: impl FnOnce() + Send + 'static) {
    runtime.go(move || keep(f)).join().unwrap();
}

/// A blocking call borrows a thread-local of its caller's worker. The shutdown gives the two up, and the thread-local is there for as long as they are.
#[test]
fn runtime_shutdown_outlasted_by_a_borrowed_thread_local() {
    let _watchdog = common::watchdog();
    static DROPPED: AtomicBool = AtomicBool::new(false);
    struct Local(AtomicUsize);
    impl Drop for Local {
        fn drop(&mut self) {
            DROPPED.store(true, Ordering::SeqCst);
        }
    }
    thread_local! {
        static LOCAL: Local = const { Local(AtomicUsize::new(7)) };
    }
    let runtime = common::runtime(1);
    let (inside, gate, handled) = (Counter::default(), Gate::default(), Counter::default());
    let borrows = runtime.go({
        let (inside, gate, handled) = (inside.clone(), gate.clone(), handled.clone());
        move || {
            tls::at_exit(move || handled.add());
            LOCAL.with(|local| {
                let read = coro::blocking(|| {
                    inside.add();
                    gate.block();
                    (DROPPED.load(Ordering::SeqCst), local.0.load(Ordering::SeqCst))
                });
                assert_eq!(read, (false, 7));
                park_forever();
            });
        }
    });
    inside.wait_for(1);
    assert_eq!(runtime.shutdown_timeout(Duration::from_millis(100)), 1);
    assert!(!DROPPED.load(Ordering::SeqCst), "a blocking call has it");
    assert_eq!(handled.get(), 0);
    gate.open();
    assert_cancelled(borrows.join());
    assert_eq!(handled.get(), 1, "its cleanup came late, and came");
    // The thread ends in the end.
    while !DROPPED.load(Ordering::SeqCst) {
        thread::yield_now();
    }
}

/// What is silent for three seconds, because it waits for a future that is slow, is given up and ends all the same
/// when that one has come. Until then its worker serves it, and takes nothing new.
#[test]
fn runtime_shutdown_outlasted_by_those_who_end_later() {
    let _watchdog = common::watchdog();
    for workers in [1, 2] {
        let (runtime, slow) = (common::runtime(workers), common::runtime(1));
        let (gate, begun, handled) = (Gate::default(), Counter::default(), Counter::default());
        let awaited = slow.go({
            let gate = gate.clone();
            move || {
                gate.block();
                7
            }
        });
        let joins = runtime.go({
            let (begun, handled) = (begun.clone(), handled.clone());
            move || {
                tls::at_exit(move || {
                    assert_eq!(coro::wait(awaited).unwrap(), 7);
                    handled.add();
                });
                begun.add();
                park_forever();
            }
        });
        let stop = Gate::default();
        let swallows = runtime.go({
            let (begun, stop) = (begun.clone(), stop.clone());
            move || {
                begun.add();
                while !stop.is_open() {
                    let _ = catch_unwind(coro::park);
                }
                coro::go(|| ()).join()
            }
        });
        let ended = Counter::default();
        begun.wait_for(2);
        // Each blocks its worker, so none runs two of them.
        let all = Arc::new(Barrier::new(workers + 1));
        for _ in 0..workers {
            let (all, ended) = (Arc::clone(&all), ended.clone());
            runtime.go(move || {
                keep(move || ended.add());
                all.wait();
            });
        }
        all.wait();

        runtime.shutdown();
        assert!(!joins.is_finished() && !swallows.is_finished());
        assert!(ended.get() < workers, "a thread that has coroutines goes on");
        runtime.shutdown();
        assert_eq!(runtime.shutdown_timeout(Duration::MAX), 2, "given up once and for all");
        assert_cancelled(runtime.go(|| ()).join());
        // Who takes what the other workers have left has nothing to do with it.
        assert_eq!(common::runtime(2).go(|| 1).join().unwrap(), 1);

        stop.open();
        swallows.handle().unpark();
        assert_cancelled(swallows.join().unwrap());
        assert_eq!(runtime.shutdown_timeout(Duration::MAX), 1);
        gate.open();
        assert_cancelled(joins.join());
        assert_eq!(handled.get(), 1);
        assert_eq!(runtime.shutdown_timeout(Duration::MAX), 0);
        drop(runtime);
        ended.wait_for(workers);
    }
}

/// The last that owns a runtime is a thread-local of its own thread, which cannot wait for itself.
#[test]
fn runtime_shutdown_in_a_destructor_of_its_own_thread() {
    const TEST: &str = "runtime_shutdown_in_a_destructor_of_its_own_thread";
    common::in_child(TEST, common::CHILDS_LIMIT, || {
        for workers in common::WORKERS {
            let (gate, ended) = (Gate::default(), Counter::default());
            let runtime = Arc::new(common::runtime(workers));
            at_thread_exit(&runtime, {
                let (owner, gate, ended) = (Arc::clone(&runtime), gate.clone(), ended.clone());
                move || {
                    gate.block();
                    owner.shutdown();
                    drop(Arc::into_inner(owner).unwrap());
                    ended.add();
                }
            });
            let begins = runtime.go({
                let runtime = Arc::clone(&runtime);
                move || runtime.shutdown()
            });
            begins.join().unwrap();
            drop(runtime);
            gate.open();
            ended.wait_for(1);
        }
    });
}

/// Destructors of every thread end the runtime, while somebody else does.
#[test]
fn runtime_shutdown_in_destructors_while_the_threads_are_joined() {
    const TEST: &str = "runtime_shutdown_in_destructors_while_the_threads_are_joined";
    common::in_child(TEST, common::CHILDS_LIMIT, || {
        for workers in common::WORKERS {
            let runtime: &Runtime = Box::leak(Box::new(common::runtime(workers)));
            let (inside, ended) = (Counter::default(), Counter::default());
            for _ in 0..workers {
                let (inside, ended) = (inside.clone(), ended.clone());
                runtime.go(move || {
                    keep(move || {
                        runtime.shutdown();
                        // It does not wait here, and those of other threads may be alive.
                        assert!(runtime.shutdown_timeout(Duration::MAX) < workers);
                        ended.add();
                    });
                    inside.add();
                    inside.wait_for(workers);
                });
            }
            inside.wait_for(workers);
            runtime.shutdown();
            assert_eq!(ended.get(), workers, "the threads were joined");
        }
    });
}

/// A coroutine ends a runtime whose thread-locals need the coroutine's own worker.
#[test]
fn runtime_shutdown_by_a_coroutine_leaves_its_worker_to_others() {
    const TEST: &str = "runtime_shutdown_by_a_coroutine_leaves_its_worker_to_others";
    common::in_child(TEST, common::CHILDS_LIMIT, || {
        let outer: &Runtime = Box::leak(Box::new(common::runtime(1)));
        let joined = Counter::default();
        let ends = outer.go({
            let joined = joined.clone();
            move || {
                let inner = common::runtime(1);
                let counter = joined.clone();
                at_thread_exit(&inner, move || {
                    outer.go(|| ()).join().unwrap();
                    counter.add();
                });
                drop(inner);
                joined.get()
            }
        });
        assert_eq!(ends.join().unwrap(), 1, "the thread was joined");
    });
}

/// The limit holds for the threads as well: what a destructor of a thread-local waits for may come later.
#[test]
fn runtime_shutdown_timeout_is_not_held_by_a_thread_local() {
    const TEST: &str = "runtime_shutdown_timeout_is_not_held_by_a_thread_local";
    common::in_child(TEST, common::CHILDS_LIMIT, || {
        for ends_in_coroutine in [false, true] {
            let runtime = common::runtime(1);
            let (gate, ended) = (Gate::default(), Counter::default());
            at_thread_exit(&runtime, {
                let (gate, ended) = (gate.clone(), ended.clone());
                move || {
                    gate.block();
                    ended.add();
                }
            });
            let end = move || {
                assert_eq!(runtime.shutdown_timeout(SHORT), 0);
                // Nor is it waited for any more.
                runtime.shutdown();
            };
            if ends_in_coroutine {
                common::runtime(1).go(end).join().unwrap();
            } else {
                end();
            }
            assert_eq!(ended.get(), 0);
            gate.open();
            ended.wait_for(1);
        }
    });
}
