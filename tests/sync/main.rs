//! Locks and what else coroutines and threads wait for each other by: who has what, that nobody starves, and that
//! nothing is lost where an interruption meets what is given. Each on 1, 2 and 4 workers, with threads among the users.

#[path = "../common/mod.rs"]
mod common;

mod barrier;
mod condvar;
mod ends;
mod fair;
mod mixed;
mod mutex;
mod notify;
mod once;
mod rw_lock;
mod semaphore;
mod wait_group;

use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use common::{Counter, Gate};

/// A limit that does not come.
const LONG: Duration = Duration::from_secs(3600);
/// A limit that does.
const SHORT: Duration = Duration::from_millis(1);

/// How many races of two are tried.
const RACES: usize = if cfg!(debug_assertions) { 1_000 } else { 10_000 };

/// Lets everybody on the runtime have turns, whoever is ready.
fn let_others_go_on(runtime: &coro::Runtime) {
    for _ in 0..20 {
        runtime.go(|| (0..20).for_each(|_| coro::yield_now())).join().unwrap();
    }
}

/// Spawns `f`, which is to wait for something, and returns when it does.
fn spawn_waiting<T: Send + 'static>(
    runtime: &coro::Runtime,
    f: impl FnOnce() -> T + Send + 'static,
) -> coro::JoinHandle<T> {
    let task = spawn_until_suspended(runtime, f);
    assert!(!task.is_finished(), "it was to wait");
    task
}

/// Spawns `f` and returns when it has suspended, or ended. Another coroutine of the same worker tells: if that has a
/// turn, `f` has none.
fn spawn_until_suspended<T: Send + 'static>(
    runtime: &coro::Runtime,
    f: impl FnOnce() -> T + Send + 'static,
) -> coro::JoinHandle<T> {
    let (begun, start) = (Counter::default(), Gate::default());
    let worker = Arc::new(OnceLock::new());
    let task = runtime.go({
        let (begun, start, worker) = (begun.clone(), start.clone(), Arc::clone(&worker));
        move || {
            worker.set(thread::current().id()).unwrap();
            start.pass();
            begun.add();
            f()
        }
    });
    loop {
        let (begun, start, worker) = (begun.clone(), start.clone(), Arc::clone(&worker));
        let watches = runtime.go(move || {
            let is_beside = worker.get() == Some(&thread::current().id());
            if is_beside {
                start.open();
                begun.wait_for(1);
            }
            is_beside
        });
        if watches.join().unwrap() {
            return task;
        }
    }
}
