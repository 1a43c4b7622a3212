//! tokio, and the channels that run on it.

use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

pub(crate) fn runtime(workers: usize) -> Runtime {
    let mut builder = match workers {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    if workers > 1 {
        builder.worker_threads(workers);
    }
    builder.build().expect("a runtime")
}

/// In a task, as the others are.
fn inside(runtime: &Runtime, f: impl Future<Output = Duration> + Send + 'static) -> Duration {
    runtime.block_on(async { tokio::spawn(f).await.expect("it does not panic") })
}

pub(crate) fn mpsc_round_trip(runtime: &Runtime, times: u64) -> Duration {
    inside(runtime, async move {
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

pub(crate) fn flume_round_trip(runtime: &Runtime, times: u64) -> Duration {
    inside(runtime, async move {
        let (to, echo_receives) = flume::bounded::<u64>(0);
        let (echo_sends, from) = flume::bounded::<u64>(0);
        tokio::spawn(async move {
            while let Ok(value) = echo_receives.recv_async().await {
                echo_sends.send_async(value).await.expect("open");
            }
        });
        let begin = Instant::now();
        for _ in 0..times {
            to.send_async(black_box(7)).await.expect("open");
            _ = black_box(from.recv_async().await);
        }
        begin.elapsed()
    })
}

pub(crate) fn mpsc_pass(runtime: &Runtime, times: u64) -> Duration {
    inside(runtime, async move {
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

pub(crate) fn flume_pass(runtime: &Runtime, times: u64, ends: u64) -> Duration {
    inside(runtime, async move {
        let (sender, receiver) = flume::bounded::<u64>(1024);
        let begin = Instant::now();
        let mut receivers = Vec::new();
        for _ in 0..ends {
            let receiver = receiver.clone();
            receivers.push(tokio::spawn(async move {
                while let Ok(value) = receiver.recv_async().await {
                    black_box(value);
                }
            }));
        }
        for _ in 0..ends {
            let sender = sender.clone();
            tokio::spawn(async move {
                for i in 0..times / ends {
                    sender.send_async(i).await.expect("open");
                }
            });
        }
        drop((sender, receiver));
        for receiver in receivers {
            receiver.await.expect("it does not panic");
        }
        begin.elapsed()
    })
}

pub(crate) fn async_channel_pass(runtime: &Runtime, times: u64, ends: u64) -> Duration {
    inside(runtime, async move {
        let (sender, receiver) = async_channel::bounded::<u64>(1024);
        let begin = Instant::now();
        let mut receivers = Vec::new();
        for _ in 0..ends {
            let receiver = receiver.clone();
            receivers.push(tokio::spawn(async move {
                while let Ok(value) = receiver.recv().await {
                    black_box(value);
                }
            }));
        }
        for _ in 0..ends {
            let sender = sender.clone();
            tokio::spawn(async move {
                for i in 0..times / ends {
                    sender.send(i).await.expect("open");
                }
            });
        }
        drop((sender, receiver));
        for receiver in receivers {
            receiver.await.expect("it does not panic");
        }
        begin.elapsed()
    })
}

pub(crate) fn select(runtime: &Runtime, times: u64) -> Duration {
    inside(runtime, async move {
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

pub(crate) fn skynet(runtime: &Runtime, times: u64) -> Duration {
    inside(runtime, async move {
        let begin = Instant::now();
        for _ in 0..times {
            let (sender, mut receiver) = mpsc::channel(1);
            tokio::spawn(node(sender, 0, 1_000_000));
            assert_eq!(receiver.recv().await, Some(499_999_500_000));
        }
        begin.elapsed()
    })
}
