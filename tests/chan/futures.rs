//! Sends and receives that are awaited: a future that is dropped loses nothing.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use coro::chan::{self, RecvError, SendError, TryRecvError, TrySendError};

use crate::common::{self, Counter};

const ROUNDS: usize = if cfg!(debug_assertions) { 2_000 } else { 20_000 };

/// Counts how often it is woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Woken {
    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

fn poll<F: Future>(future: Pin<&mut F>, woken: &Arc<Woken>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(&Waker::from(Arc::clone(woken))))
}

#[test]
fn chan_recv_async_is_woken_once_by_a_value() {
    let _watchdog = common::watchdog();
    for capacity in [0, 1] {
        let (sender, receiver) = chan::bounded(capacity);
        let (woken, later) = (Arc::<Woken>::default(), Arc::<Woken>::default());
        let mut future = pin!(receiver.recv_async());
        assert!(poll(future.as_mut(), &woken).is_pending());
        // The last waker counts.
        assert!(poll(future.as_mut(), &later).is_pending());
        sender.send(1).unwrap();
        assert_eq!((woken.get(), later.get()), (0, 1));
        assert_eq!(poll(future.as_mut(), &woken), Poll::Ready(Ok(1)));
        sender.close();
        assert_eq!(poll(pin!(receiver.recv_async()), &woken), Poll::Ready(Err(RecvError)));
    }
}

#[test]
fn chan_send_async_is_woken_once_by_a_receiver() {
    let _watchdog = common::watchdog();
    let (sender, receiver) = chan::bounded(0);
    let woken = Arc::<Woken>::default();
    {
        let mut future = pin!(sender.send_async(1));
        assert!(poll(future.as_mut(), &woken).is_pending());
        assert_eq!(receiver.try_recv(), Ok(1));
        assert_eq!(woken.get(), 1);
        assert_eq!(poll(future.as_mut(), &woken), Poll::Ready(Ok(())));
    }
    let mut future = pin!(sender.send_async(2));
    assert!(poll(future.as_mut(), &woken).is_pending());
    receiver.close();
    assert_eq!(woken.get(), 2);
    assert_eq!(poll(future.as_mut(), &woken), Poll::Ready(Err(SendError(2))));
}

/// What was handed over to a future that is dropped is the next value to be received, before those that were sent later.
#[test]
fn chan_a_dropped_recv_async_loses_nothing() {
    let _watchdog = common::watchdog();
    let woken = Arc::<Woken>::default();
    for capacity in [0, 2] {
        let (sender, receiver) = chan::bounded(capacity);
        let (mut first, mut second) =
            (Box::pin(receiver.recv_async()), Box::pin(receiver.recv_async()));
        assert!(poll(first.as_mut(), &woken).is_pending());
        assert!(poll(second.as_mut(), &woken).is_pending());
        sender.send(1).unwrap();
        // The other waits, and has it now.
        drop(first);
        assert_eq!(poll(second.as_mut(), &woken), Poll::Ready(Ok(1)));
        let mut third = Box::pin(receiver.recv_async());
        assert!(poll(third.as_mut(), &woken).is_pending());
        sender.send(2).unwrap();
        for i in 0..capacity {
            sender.send(3 + i).unwrap();
        }
        let refused = sender.try_send(9);
        drop(third);
        assert_eq!(refused, Err(TrySendError::Full(9)));
        // Nobody is there, so it is back in the channel, which has more than its capacity now.
        assert!(receiver.is_full());
        assert_eq!(sender.try_send(9), Err(TrySendError::Full(9)));
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), (2..3 + capacity).collect::<Vec<_>>());
    }
    // One that nobody has served just leaves.
    let (sender, receiver) = chan::bounded(0);
    {
        let mut future = pin!(receiver.recv_async());
        assert!(poll(future.as_mut(), &woken).is_pending());
    }
    assert_eq!(sender.try_send(1), Err(TrySendError::Full(1)));
}

/// A sender that waits is not let in by what came back to a full channel.
#[test]
fn chan_what_was_given_back_goes_before_a_waiting_sender() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (sender, receiver) = chan::bounded(0);
        let woken = Arc::<Woken>::default();
        let mut future = Box::pin(receiver.recv_async());
        assert!(poll(future.as_mut(), &woken).is_pending());
        sender.send(1).unwrap();
        drop(future);
        let sends = runtime.go(move || sender.send(2));
        assert_eq!(receiver.recv(), Ok(1));
        assert!(!sends.is_finished(), "a rendezvous is one with the receiver");
        assert_eq!(receiver.recv(), Ok(2));
        sends.join().unwrap().unwrap();
    });
}

#[test]
fn chan_a_dropped_send_async_has_sent_or_drops_its_value() {
    let _watchdog = common::watchdog();
    let (dropped, woken) = (Counter::default(), Arc::<Woken>::default());
    let (sender, receiver) = chan::bounded(0);
    let mut future = Box::pin(sender.send_async(dropped.on_drop()));
    assert!(poll(future.as_mut(), &woken).is_pending());
    drop(future);
    assert_eq!(dropped.get(), 1);
    assert!(matches!(receiver.try_recv(), Err(TryRecvError::Empty)));
    let mut future = Box::pin(sender.send_async(dropped.on_drop()));
    assert!(poll(future.as_mut(), &woken).is_pending());
    let received = receiver.try_recv().unwrap();
    drop(future);
    assert_eq!(dropped.get(), 1);
    drop(received);
    assert_eq!(dropped.get(), 2);
    drop(sender.send_async(dropped.on_drop()));
    assert_eq!(dropped.get(), 3);
}

/// Futures that are dropped at some moment, against senders on coroutines and threads: each value arrives once.
#[test]
fn chan_a_recv_async_that_is_dropped_in_a_race_loses_nothing() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        for capacity in [0, 1] {
            let (sender, receiver) = chan::bounded::<usize>(capacity);
            let other = sender.clone();
            let task = runtime.go(move || (0..ROUNDS).for_each(|_| sender.send(1).unwrap()));
            let thread = thread::spawn(move || (0..ROUNDS).for_each(|_| other.send(1).unwrap()));
            let mut sum = 0;
            for round in 0.. {
                let mut future = Box::pin(receiver.recv_async());
                let polled = poll(future.as_mut(), &Arc::default());
                if round % 3 == 0 {
                    thread::yield_now();
                }
                match polled {
                    Poll::Ready(Ok(value)) => sum += value,
                    Poll::Ready(Err(RecvError)) => break,
                    Poll::Pending if round % 2 == 0 => drop(future),
                    Poll::Pending => match coro::wait(future) {
                        Ok(value) => sum += value,
                        Err(RecvError) => break,
                    },
                }
            }
            task.join().unwrap();
            thread.join().unwrap();
            assert_eq!(sum, 2 * ROUNDS);
        }
    });
}

/// Futures beside blocking ends, both ways.
#[test]
fn chan_futures_meet_blocking_ends() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        for capacity in [0, 3] {
            let (sender, receiver) = chan::bounded::<usize>(capacity);
            let (back, returned) = chan::bounded::<usize>(capacity);
            let echo = runtime.go(move || {
                coro::wait(async {
                    while let Ok(value) = receiver.recv_async().await {
                        back.send_async(value).await.unwrap();
                    }
                });
            });
            let feeds = thread::spawn(move || (0..200).for_each(|i| sender.send(i).unwrap()));
            assert!(returned.iter().eq(0..200));
            echo.join().unwrap();
            feeds.join().unwrap();
        }
    });
}

/// A time is awaited too.
#[test]
fn chan_recv_async_of_a_time() {
    let _watchdog = common::watchdog();
    let after = chan::after(Duration::from_millis(2));
    let other = after.clone();
    coro::wait(after.recv_async()).unwrap();
    let mut future = Box::pin(other.recv_async());
    assert!(poll(future.as_mut(), &Arc::default()).is_pending());
    let ticks = chan::tick(Duration::from_millis(1));
    let (first, second) =
        coro::wait(async { (ticks.recv_async().await, ticks.recv_async().await) });
    assert!(first.unwrap() < second.unwrap());
    drop(chan::after(Duration::from_secs(3600)).recv_async());
}

#[test]
#[should_panic = "a future was polled after it was ready"]
fn chan_a_future_that_is_polled_again_panics() {
    let (sender, receiver) = chan::bounded(1);
    sender.send(1).unwrap();
    let mut future = pin!(receiver.recv_async());
    let woken = Arc::default();
    assert!(poll(future.as_mut(), &woken).is_ready());
    let _ = poll(future.as_mut(), &woken);
}
