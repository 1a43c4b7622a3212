//! The runtimes of futures, tokio and smol, each as its documentation has it; and the channels that run on both.

use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::tokio_side;
use crate::measure::Task;

/// A runtime that drives futures.
pub trait Futures: 'static {
    /// Drives it as a task, as the others are.
    fn run(workers: usize, f: impl Future<Output = Duration> + Send + 'static) -> Duration;

    /// Starts a task at once.
    fn spawn<T: Send + 'static>(
        f: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = T> + Send + 'static;

    fn yield_now() -> impl Future<Output = ()> + Send;

    fn sleep(time: Duration) -> impl Future<Output = ()> + Send;
}

/// With `current_thread` for one worker, and `multi_thread` for more.
pub struct Tokio;

impl Futures for Tokio {
    fn run(workers: usize, f: impl Future<Output = Duration> + Send + 'static) -> Duration {
        tokio_side::inside(workers, f)
    }

    fn spawn<T: Send + 'static>(
        f: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = T> + Send + 'static {
        let task = tokio::spawn(f);
        async { task.await.expect("it does not panic") }
    }

    fn yield_now() -> impl Future<Output = ()> + Send {
        tokio::task::yield_now()
    }

    fn sleep(time: Duration) -> impl Future<Output = ()> + Send {
        tokio::time::sleep(time)
    }
}

/// With its global executor, whose threads the variable `SMOL_THREADS` counts: this process was started with it.
pub struct Smol;

impl Futures for Smol {
    fn run(workers: usize, f: impl Future<Output = Duration> + Send + 'static) -> Duration {
        assert_eq!(std::env::var("SMOL_THREADS"), Ok(workers.to_string()));
        smol::block_on(smol::spawn(f))
    }

    fn spawn<T: Send + 'static>(
        f: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = T> + Send + 'static {
        smol::spawn(f)
    }

    fn yield_now() -> impl Future<Output = ()> + Send {
        smol::future::yield_now()
    }

    async fn sleep(time: Duration) {
        smol::Timer::after(time).await;
    }
}

/// As `coroutines::yields` of `benches/common`.
pub fn turn<R: Futures>(task: &Task) -> Duration {
    let Task { workers, size, times } = *task;
    let rounds = times.div_ceil(size);
    R::run(workers, async move {
        let started = Arc::new(AtomicU64::new(0));
        let all: Vec<_> = (0..size)
            .map(|_| {
                let started = Arc::clone(&started);
                R::spawn(async move {
                    started.fetch_add(1, Relaxed);
                    while started.load(Relaxed) < size {
                        R::yield_now().await;
                    }
                    let begin = Instant::now();
                    for _ in 0..rounds {
                        R::yield_now().await;
                    }
                    begin.elapsed()
                })
            })
            .collect();
        let mut least = Duration::MAX;
        for one in all {
            least = least.min(one.await);
        }
        least.mul_f64(times as f64 / (rounds * size) as f64)
    })
}

pub fn spawn_one<R: Futures>(task: &Task) -> Duration {
    let times = task.times;
    R::run(task.workers, async move {
        let begin = Instant::now();
        for _ in 0..times {
            R::spawn(async {}).await;
        }
        begin.elapsed()
    })
}

/// As `coroutines::batches`.
fn batches<R, T, F>(task: &Task, body: fn() -> F) -> Duration
where
    R: Futures,
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let Task { workers, size, times } = *task;
    R::run(workers, async move {
        let mut tasks = Vec::with_capacity(size as usize);
        let begin = Instant::now();
        for _ in 0..times {
            tasks.extend((0..size).map(|_| R::spawn(body())));
            for task in tasks.drain(..) {
                black_box(task.await);
            }
        }
        begin.elapsed()
    })
}

pub fn spawn<R: Futures>(task: &Task) -> Duration {
    batches::<R, u64, _>(task, || async { 0 })
}

pub fn sleep<R: Futures>(task: &Task) -> Duration {
    batches::<R, (), _>(task, || R::sleep(Duration::from_millis(1)))
}

/// As `coroutines::skynet`.
fn tree<R: Futures>(first: u64, count: u64) -> Pin<Box<dyn Future<Output = u64> + Send>> {
    Box::pin(async move {
        if count == 1 {
            return first;
        }
        let part = count / 10;
        let children: Vec<_> =
            (0..10).map(|i| R::spawn(tree::<R>(first + i * part, part))).collect();
        let mut sum = 0;
        for child in children {
            sum += child.await;
        }
        sum
    })
}

pub fn skynet<R: Futures>(task: &Task) -> Duration {
    let Task { workers, size, times } = *task;
    R::run(workers, async move {
        let begin = Instant::now();
        for _ in 0..times {
            assert_eq!(tree::<R>(0, size).await, size * (size - 1) / 2);
        }
        begin.elapsed()
    })
}

pub fn flume_round_trip<R: Futures>(task: &Task) -> Duration {
    let times = task.times;
    R::run(task.workers, async move {
        let (to, echo_receives) = flume::bounded::<u64>(0);
        let (echo_sends, from) = flume::bounded::<u64>(0);
        let echo = R::spawn(async move {
            while let Ok(value) = echo_receives.recv_async().await {
                echo_sends.send_async(value).await.expect("open");
            }
        });
        let begin = Instant::now();
        for _ in 0..times {
            to.send_async(black_box(7)).await.expect("open");
            _ = black_box(from.recv_async().await);
        }
        let time = begin.elapsed();
        drop(to);
        echo.await;
        time
    })
}

/// How long it takes to pass so many values. An `async fn` each for a sender and a receiver that is given to it.
macro_rules! passing {
    ($name:ident, $sends:ident, $receives:ident, $send:ident, $recv:ident, $channels:ident) => {
        async fn $sends(sender: $channels::Sender<u64>, count: u64) {
            for i in 0..count {
                sender.$send(i).await.expect("open");
            }
        }

        async fn $receives(receiver: $channels::Receiver<u64>) {
            while let Ok(value) = receiver.$recv().await {
                black_box(value);
            }
        }

        fn $name<R: Futures>(
            task: &Task,
            ends: u64,
            channel: fn() -> ($channels::Sender<u64>, $channels::Receiver<u64>),
        ) -> Duration {
            let Task { workers, times, .. } = *task;
            R::run(workers, async move {
                let (sender, receiver) = channel();
                let begin = Instant::now();
                let receivers: Vec<_> =
                    (0..ends).map(|_| R::spawn($receives(receiver.clone()))).collect();
                let senders: Vec<_> = (0..ends)
                    .map(|number| {
                        R::spawn($sends(sender.clone(), super::share(times, ends, number)))
                    })
                    .collect();
                drop((sender, receiver));
                for one in receivers {
                    one.await;
                }
                let time = begin.elapsed();
                for one in senders {
                    one.await;
                }
                time
            })
        }
    };
}

passing!(through_flume, flume_sends, flume_receives, send_async, recv_async, flume);
passing!(
    through_async_channel,
    async_channel_sends,
    async_channel_receives,
    send,
    recv,
    async_channel
);

pub fn flume_pass<R: Futures>(task: &Task, ends: u64) -> Duration {
    through_flume::<R>(task, ends, || flume::bounded(1024))
}

pub fn flume_unbounded<R: Futures>(task: &Task) -> Duration {
    through_flume::<R>(task, 1, flume::unbounded)
}

pub fn async_channel_pass<R: Futures>(task: &Task, ends: u64) -> Duration {
    through_async_channel::<R>(task, ends, || async_channel::bounded(1024))
}

pub fn async_channel_unbounded<R: Futures>(task: &Task) -> Duration {
    through_async_channel::<R>(task, 1, async_channel::unbounded)
}
