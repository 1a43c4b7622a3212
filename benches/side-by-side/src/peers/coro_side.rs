//! coro. What `benches/core.rs` measures too is in `benches/common`.

use std::cell::Cell;
use std::future;
use std::hint::black_box;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use coro::chan::{self, Sender};
use coro::{Runtime, go, inspect, raw, select, tls, wait};

use crate::common::storage::Slot;
use crate::common::timed;
use crate::measure::Task;
use crate::profile;

/// The runtime of this process.
pub fn runtime(workers: usize) -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::builder().workers(workers).build().expect("workers"))
}

/// In a coroutine.
pub fn inside(task: &Task, f: fn(&Task) -> Duration) -> Duration {
    let task = *task;
    runtime(task.workers).go(move || f(&task)).join().expect("it does not panic")
}

pub fn spawn_stored(task: &Task) -> Duration {
    timed(task.times, || {
        let body = || {
            tls::set(Slot, 7u64);
            tls::at_exit(|| _ = black_box(0));
        };
        _ = go(body).join();
    })
}

pub fn spawn_one(times: u64) -> Duration {
    timed(times, || _ = go(|| ()).join())
}

pub fn wait_ready(times: u64) -> Duration {
    timed(times, || _ = black_box(wait(future::ready(black_box(1)))))
}

pub fn resume(task: &Task) -> Duration {
    let stop = Cell::new(false);
    let body = |yielder: &raw::Yielder<bool, ()>, mut go_on| {
        while go_on {
            go_on = yielder.suspend(());
        }
    };
    raw::with(256 << 10, body, |coroutine| {
        let time = timed(task.times, || _ = black_box(coroutine.resume(!stop.get())));
        stop.set(true);
        coroutine.resume(!stop.get());
        time
    })
    .expect("there is a stack")
}

/// How long so many trees take.
pub fn trees(task: &Task, tree: fn(u64, u64) -> u64) -> Duration {
    timed(task.times, || {
        assert_eq!(black_box(tree(0, task.size)), task.size * (task.size - 1) / 2);
    })
}

pub fn pass_unbounded(times: u64) -> Duration {
    let (sender, receiver) = chan::unbounded::<u64>();
    let begin = Instant::now();
    let receiving = go(move || receiver.iter().for_each(|value| _ = black_box(value)));
    go(move || (0..times).for_each(|i| sender.send(i).expect("open")));
    receiving.join().expect("it does not panic");
    begin.elapsed()
}

pub fn select(times: u64) -> Duration {
    let [a, b, c, d] = std::array::from_fn(|_| chan::bounded::<u64>(1));
    timed(times, || {
        c.0.send(black_box(1)).expect("open");
        select! {
            recv(a.1) -> value => { _ = black_box(value) }
            recv(b.1) -> value => { _ = black_box(value) }
            recv(c.1) -> value => { _ = black_box(value) }
            recv(d.1) -> value => { _ = black_box(value) }
        }
    })
}

fn node(result: Sender<u64>, first: u64, count: u64) {
    if count == 1 {
        return result.send(first).expect("open");
    }
    let (sender, receiver) = chan::bounded(10);
    let part = count / 10;
    for i in 0..10 {
        let sender = sender.clone();
        go(move || node(sender, first + i * part, part));
    }
    result.send(receiver.iter().take(10).sum()).expect("open");
}

pub fn skynet_channels(task: &Task) -> Duration {
    let size = task.size;
    timed(task.times, || {
        let (sender, receiver) = chan::bounded(1);
        go(move || node(sender, 0, size));
        assert_eq!(receiver.recv(), Ok(size * (size - 1) / 2));
    })
}

/// How long it takes, and what the workers do in that time: see the metrics of its rows.
pub fn shares(task: &Task, run: fn(&Task) -> Duration) -> Vec<f64> {
    /// The profiler looks a few hundred times a second.
    const LONG_ENOUGH: Duration = Duration::from_millis(500);

    let once = inside(task, run);
    let times = (LONG_ENOUGH.as_secs_f64() / once.as_secs_f64()).ceil().max(1.0);
    let before = inspect::metrics();
    let seen = profile::observe(task.workers, || {
        (0..times as u64).map(|_| inside(task, run)).sum::<Duration>()
    });
    let after = inspect::metrics();
    let stolen = (after.stolen - before.stolen) as f64 / (after.spawned - before.spawned) as f64;
    vec![seen.time.as_nanos() as f64 / times, seen.stealing, seen.asleep, seen.waiting, stolen]
}
