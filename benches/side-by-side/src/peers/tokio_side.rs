//! tokio: what smol does otherwise or not at all. The rest is in `futures_side`.

use std::cell::Cell;
use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Mutex, Notify, RwLock, Semaphore, mpsc, oneshot};
use tokio::task::{self, JoinSet};

use super::share;
use crate::common::timed;
use crate::measure::Task;

/// The runtime of this process: the scheduler for one thread, or the one for several.
pub fn runtime(workers: usize) -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let mut builder = match workers {
            1 => Builder::new_current_thread(),
            _ => Builder::new_multi_thread(),
        };
        builder.worker_threads(workers).enable_all().build().expect("a runtime")
    })
}

/// In a task.
pub fn inside(workers: usize, f: impl Future<Output = Duration> + Send + 'static) -> Duration {
    runtime(workers).block_on(async { tokio::spawn(f).await.expect("it does not panic") })
}

#[inline(never)]
fn read_id() -> task::Id {
    black_box(task::id())
}

pub fn id(task: &Task) -> Duration {
    let times = task.times;
    inside(task.workers, async move { timed(times, || _ = read_id()) })
}

tokio::task_local! {
    static LOCAL: Cell<u64>;
}

#[inline(never)]
fn read_local() -> u64 {
    black_box(LOCAL.with(Cell::get))
}

pub fn task_local(task: &Task) -> Duration {
    let times = task.times;
    inside(
        task.workers,
        LOCAL.scope(Cell::new(7), async move { timed(times, || _ = read_local()) }),
    )
}

/// Does something when it is dropped, as an exit handler would.
struct Leaves;

impl Drop for Leaves {
    fn drop(&mut self) {
        black_box(0);
    }
}

pub fn spawn_stored(task: &Task) -> Duration {
    let times = task.times;
    inside(task.workers, async move {
        let begin = Instant::now();
        for _ in 0..times {
            let body = async {
                let _leaves = Leaves;
                LOCAL.with(|local| local.set(7));
            };
            tokio::spawn(LOCAL.scope(Cell::new(0), body)).await.expect("it does not panic");
        }
        begin.elapsed()
    })
}

pub fn load(task: &Task) -> Duration {
    async fn forty_operations() -> u64 {
        let mut wrong = 0;
        for i in 4..44u64 {
            if i % 4 == 0 {
                LOCAL.with(|local| local.set(i));
            } else {
                let read = read_local();
                wrong += u64::from(read >= i || read < i - 3);
            }
        }
        wrong
    }
    let Task { workers, size, times } = *task;
    inside(workers, async move {
        let mut tasks = Vec::with_capacity(size as usize);
        let begin = Instant::now();
        for _ in 0..times {
            tasks.extend(
                (0..size).map(|_| tokio::spawn(LOCAL.scope(Cell::new(0), forty_operations()))),
            );
            for task in tasks.drain(..) {
                black_box(task.await.expect("it does not panic"));
            }
        }
        begin.elapsed()
    })
}

pub fn notify(task: &Task) -> Duration {
    let times = task.times;
    inside(task.workers, async move {
        let (ping, pong) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (to, from) = (Arc::clone(&pong), Arc::clone(&ping));
        let other = tokio::spawn(async move {
            for _ in 0..times {
                pong.notified().await;
                ping.notify_one();
            }
        });
        let begin = Instant::now();
        for _ in 0..times {
            to.notify_one();
            from.notified().await;
        }
        let time = begin.elapsed();
        other.await.expect("it does not panic");
        time
    })
}

/// As `coroutines::hand_over` of `benches/common`.
pub fn oneshot(task: &Task) -> Duration {
    const CHANNELS: u64 = 1000;

    let times = task.times;
    inside(task.workers, async move {
        let mut time = Duration::ZERO;
        for begun in (0..times).step_by(CHANNELS as usize) {
            let count = CHANNELS.min(times - begun);
            let (senders, receivers): (Vec<_>, Vec<_>) =
                (0..count).map(|_| oneshot::channel::<u64>()).unzip();
            let wanted = Arc::new(Notify::new());
            let want = Arc::clone(&wanted);
            let giver = tokio::spawn(async move {
                for sender in senders {
                    wanted.notified().await;
                    sender.send(7).expect("the receiver waits");
                }
            });
            let begin = Instant::now();
            for receiver in receivers {
                want.notify_one();
                _ = black_box(receiver.await);
            }
            time += begin.elapsed();
            giver.await.expect("it does not panic");
        }
        time
    })
}

pub fn join_set(task: &Task) -> Duration {
    let Task { workers, size, times } = *task;
    inside(workers, async move {
        let begin = Instant::now();
        for _ in 0..times {
            let mut set = JoinSet::new();
            (0..size).for_each(|_| drop(set.spawn(async {})));
            while set.join_next().await.is_some() {}
        }
        begin.elapsed()
    })
}

pub fn mpsc_round_trip(task: &Task) -> Duration {
    let times = task.times;
    inside(task.workers, async move {
        let (to, mut echo_receives) = mpsc::channel::<u64>(1);
        let (echo_sends, mut from) = mpsc::channel::<u64>(1);
        tokio::spawn(async move {
            while let Some(value) = echo_receives.recv().await {
                echo_sends.send(value).await.expect("open");
            }
        });
        let begin = Instant::now();
        for _ in 0..times {
            to.send(black_box(7)).await.expect("open");
            _ = black_box(from.recv().await);
        }
        begin.elapsed()
    })
}

pub fn mpsc_pass(task: &Task) -> Duration {
    let times = task.times;
    inside(task.workers, async move {
        let (sender, mut receiver) = mpsc::channel::<u64>(1024);
        let begin = Instant::now();
        tokio::spawn(async move {
            for i in 0..times {
                sender.send(i).await.expect("open");
            }
        });
        while let Some(value) = receiver.recv().await {
            black_box(value);
        }
        begin.elapsed()
    })
}

pub fn unbounded_pass(task: &Task) -> Duration {
    let times = task.times;
    inside(task.workers, async move {
        let (sender, mut receiver) = mpsc::unbounded_channel::<u64>();
        let begin = Instant::now();
        tokio::spawn(async move {
            for i in 0..times {
                sender.send(i).expect("open");
            }
        });
        while let Some(value) = receiver.recv().await {
            black_box(value);
        }
        begin.elapsed()
    })
}

pub fn select(task: &Task) -> Duration {
    let times = task.times;
    inside(task.workers, async move {
        let [mut a, mut b, mut c, mut d] = std::array::from_fn(|_| mpsc::channel::<u64>(1));
        let begin = Instant::now();
        for _ in 0..times {
            c.0.send(black_box(1)).await.expect("open");
            tokio::select! {
                value = a.1.recv() => { _ = black_box(value) }
                value = b.1.recv() => { _ = black_box(value) }
                value = c.1.recv() => { _ = black_box(value) }
                value = d.1.recv() => { _ = black_box(value) }
            }
        }
        begin.elapsed()
    })
}

fn node(
    result: mpsc::Sender<u64>,
    first: u64,
    count: u64,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        if count == 1 {
            return result.send(first).await.expect("open");
        }
        let (sender, mut receiver) = mpsc::channel(10);
        let part = count / 10;
        for i in 0..10 {
            tokio::spawn(node(sender.clone(), first + i * part, part));
        }
        let mut sum = 0;
        for _ in 0..10 {
            sum += receiver.recv().await.expect("open");
        }
        result.send(sum).await.expect("open");
    })
}

pub fn skynet_channels(task: &Task) -> Duration {
    let Task { workers, size, times } = *task;
    inside(workers, async move {
        let begin = Instant::now();
        for _ in 0..times {
            let (sender, mut receiver) = mpsc::channel(1);
            tokio::spawn(node(sender, 0, size));
            assert_eq!(receiver.recv().await, Some(size * (size - 1) / 2));
        }
        begin.elapsed()
    })
}

pub fn mutex(task: &Task) -> Duration {
    let times = task.times;
    inside(task.workers, async move {
        let mutex = Mutex::new(0u64);
        let begin = Instant::now();
        for _ in 0..times {
            *mutex.lock().await += black_box(1);
        }
        begin.elapsed()
    })
}

pub fn mutex_4(task: &Task) -> Duration {
    let times = task.times;
    inside(task.workers, async move {
        let mutex = Arc::new(Mutex::new(0u64));
        let begin = Instant::now();
        let users: Vec<_> = (0..4)
            .map(|number| {
                let mutex = Arc::clone(&mutex);
                tokio::spawn(async move {
                    for _ in 0..share(times, 4, number) {
                        *mutex.lock().await += 1;
                    }
                })
            })
            .collect();
        for user in users {
            user.await.expect("it does not panic");
        }
        begin.elapsed()
    })
}

pub fn rwlock(task: &Task) -> Duration {
    let times = task.times;
    inside(task.workers, async move {
        let lock = RwLock::new(0u64);
        let begin = Instant::now();
        for _ in 0..times {
            *lock.write().await += black_box(1);
        }
        begin.elapsed()
    })
}

pub fn semaphore(task: &Task) -> Duration {
    let times = task.times;
    inside(task.workers, async move {
        let semaphore = Semaphore::new(1);
        let begin = Instant::now();
        for _ in 0..times {
            _ = semaphore.acquire().await.expect("open");
        }
        begin.elapsed()
    })
}
