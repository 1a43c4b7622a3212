//! Locks and what else coroutines and threads wait for each other by: who has what, that nobody starves, and that
//! nothing is lost where an interruption meets what is given. Each on 1, 2 and 4 workers, with threads among the users.

#[path = "../common/mod.rs"]
mod common;

mod barrier;
mod condvar;
mod fair;
mod mixed;
mod mutex;
mod notify;
mod once;
mod rw_lock;
mod semaphore;
mod wait_group;

use std::time::Duration;

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

/// Spawns `f` and lets it go on until it waits for something.
fn spawn_waiting<T: Send + 'static>(
    runtime: &coro::Runtime,
    f: impl FnOnce() -> T + Send + 'static,
) -> coro::JoinHandle<T> {
    let begun = common::Counter::default();
    let task = runtime.go({
        let begun = begun.clone();
        move || {
            begun.add();
            f()
        }
    });
    begun.wait_for(1);
    let_others_go_on(runtime);
    assert!(!task.is_finished(), "it was to wait");
    task
}
