//! How much memory those take that are parked: of coro, tokio, smol, may and threads.
//!
//! Each has run and waits. Those who shall have used stack have called a function first that writes to 3 KiB of it. What
//! waits is let go on then, and is joined.

use std::fs;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use super::coro_side;
use crate::measure::Task;

/// KiB of resident memory, and of page tables.
fn taken() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux shows a process itself");
    let kib = |name: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(name));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        number.and_then(|number| number.parse().ok()).expect("a number of KiB")
    };
    kib("VmRSS:") + kib("VmPTE:")
}

#[inline(never)]
fn use_stack() {
    let mut bytes = [1u8; 3 << 10];
    black_box(&mut bytes);
}

/// What the coroutine does before it waits.
fn begin(uses: bool, started: &AtomicU64) {
    if uses {
        use_stack();
    }
    started.fetch_add(1, Ordering::Release);
}

/// Has `start` start so many and gives what each takes, and what stays when `end` has ended them.
fn measured<H>(
    task: &Task,
    start: impl FnOnce(Arc<AtomicU64>) -> H,
    end: impl FnOnce(H),
) -> Vec<f64> {
    let before = taken();
    let started = Arc::new(AtomicU64::new(0));
    let handles = start(Arc::clone(&started));
    while started.load(Ordering::Acquire) < task.size {
        thread::sleep(Duration::from_millis(1));
    }
    // The last one is just about to be parked.
    thread::sleep(Duration::from_millis(10));
    let parked = taken();
    end(handles);
    thread::sleep(Duration::from_secs(1));
    let difference = |now: u64| now.saturating_sub(before) as f64;
    vec![difference(parked), difference(taken())]
}

pub fn coro(task: &Task, uses: bool) -> Vec<f64> {
    let runtime = coro_side::runtime(task.workers);
    runtime.go(|| ()).join().expect("it does not panic");
    measured(
        task,
        |started| {
            let one = |_| {
                let started = Arc::clone(&started);
                runtime.go(move || {
                    begin(uses, &started);
                    coro::park();
                })
            };
            (0..task.size).map(one).collect::<Vec<_>>()
        },
        |handles| {
            handles.iter().for_each(|handle| handle.handle().unpark());
            handles.into_iter().for_each(|handle| handle.join().expect("it does not panic"));
        },
    )
}

pub fn tokio(task: &Task, uses: bool) -> Vec<f64> {
    use tokio::sync::oneshot;

    // Its own thread drives it while this one looks on.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(task.workers)
        .build()
        .expect("a runtime");
    runtime.block_on(async { tokio::spawn(async {}).await.expect("it does not panic") });
    measured(
        task,
        |started| {
            let one = |_| {
                let started = Arc::clone(&started);
                let (unpark, parked) = oneshot::channel::<()>();
                let body = async move {
                    begin(uses, &started);
                    _ = parked.await;
                };
                (runtime.spawn(body), unpark)
            };
            (0..task.size).map(one).collect::<Vec<_>>()
        },
        |tasks| {
            let (tasks, unparks): (Vec<_>, Vec<_>) = tasks.into_iter().unzip();
            unparks.into_iter().for_each(|unpark| _ = unpark.send(()));
            runtime.block_on(async {
                for task in tasks {
                    task.await.expect("it does not panic");
                }
            });
        },
    )
}

pub fn smol(task: &Task, uses: bool) -> Vec<f64> {
    smol::block_on(smol::spawn(async {}));
    measured(
        task,
        |started| {
            let one = |_| {
                let started = Arc::clone(&started);
                let (unpark, parked) = async_channel::bounded::<()>(1);
                let body = async move {
                    begin(uses, &started);
                    _ = parked.recv().await;
                };
                (smol::spawn(body), unpark)
            };
            (0..task.size).map(one).collect::<Vec<_>>()
        },
        |tasks| {
            let (tasks, unparks): (Vec<_>, Vec<_>) = tasks.into_iter().unzip();
            unparks.into_iter().for_each(|unpark| _ = unpark.try_send(()));
            smol::block_on(async {
                for task in tasks {
                    task.await;
                }
            });
        },
    )
}

pub fn may(task: &Task, uses: bool) -> Vec<f64> {
    may::config().set_workers(task.workers);
    may::go!(|| ()).join().expect("it does not panic");
    measured(
        task,
        |started| {
            let one = |_| {
                let started = Arc::clone(&started);
                may::go!(move || {
                    begin(uses, &started);
                    may::coroutine::park();
                })
            };
            (0..task.size).map(one).collect::<Vec<_>>()
        },
        |handles| {
            handles.iter().for_each(|handle| handle.coroutine().unpark());
            handles.into_iter().for_each(|handle| handle.join().expect("it does not panic"));
        },
    )
}

pub fn threads(task: &Task, uses: bool) -> Vec<f64> {
    measured(
        task,
        |started| {
            let one = |_| {
                let started = Arc::clone(&started);
                thread::spawn(move || {
                    begin(uses, &started);
                    thread::park();
                })
            };
            (0..task.size).map(one).collect::<Vec<_>>()
        },
        |handles| {
            handles.iter().for_each(|handle| handle.thread().unpark());
            handles.into_iter().for_each(|handle| handle.join().expect("it does not panic"));
        },
    )
}
