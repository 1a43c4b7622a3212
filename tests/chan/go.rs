//! What Go's own tests promise of channels and `select` (test/chan, test/closedchan, the runtime's chan tests), told anew.

use std::collections::HashSet;
use std::thread;
use std::time::Duration;

use coro::chan::{self, Receiver, Sender, TryRecvError, TrySendError, bounded};
use coro::{go, select};

use crate::common;

const ROUNDS: usize = if cfg!(debug_assertions) { 1_000 } else { 10_000 };
const LONG: Duration = Duration::from_secs(3600);

/// Runs it in a coroutine on 1, 2 and 4 workers, and on a thread.
fn everywhere(f: impl Fn() + Clone + Send + 'static) {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let task = runtime.go(f.clone());
        f();
        task.join().unwrap();
    });
}

/// doubleselect: what one sends by a select over four channels arrives once, whoever collects it.
#[test]
fn chan_go_doubleselect() {
    everywhere(|| {
        let ends: [(Sender<usize>, Receiver<usize>); 4] = std::array::from_fn(|_| bounded(0));
        let [a, b, c, d] = ends.clone().map(|(sender, _)| sender);
        go(move || {
            for i in 0..ROUNDS {
                select! {
                    send(a, i) -> sent => sent.unwrap(),
                    send(b, i) -> sent => sent.unwrap(),
                    send(c, i) -> sent => sent.unwrap(),
                    send(d, i) -> sent => sent.unwrap(),
                }
            }
        });
        let (merged, all) = bounded(0);
        for (sender, receiver) in ends {
            let merged = merged.clone();
            drop(sender);
            go(move || receiver.iter().try_for_each(|i| merged.send(i)));
        }
        drop(merged);
        let mut seen = HashSet::new();
        assert!(all.iter().all(|i| seen.insert(i)), "one has arrived twice");
        assert_eq!(seen.len(), ROUNDS);
    });
}

/// goroutines: a chain of ten thousand, each with a channel to either side.
#[test]
fn chan_go_goroutines() {
    everywhere(|| {
        let (first, mut last) = bounded::<usize>(0);
        for _ in 0..10_000 {
            let (sender, next) = bounded(0);
            let left = std::mem::replace(&mut last, next);
            go(move || sender.send(left.recv().unwrap() + 1).unwrap());
        }
        go(move || first.send(0).unwrap());
        assert_eq!(last.recv(), Ok(10_000));
    });
}

/// nonblock: what does not wait succeeds exactly if the other side is there, or room, or a value.
#[test]
fn chan_go_nonblock() {
    everywhere(|| {
        let (sender, receiver) = bounded(0);
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
        assert_eq!(sender.try_send(1), Err(TrySendError::Full(1)));
        let waits = {
            let receiver = receiver.clone();
            go(move || receiver.recv())
        };
        while sender.try_send(7).is_err() {
            coro::yield_now();
        }
        assert_eq!(waits.join().unwrap(), Ok(7));
        let other = sender.clone();
        let waits = go(move || other.send(8));
        let received = loop {
            match receiver.try_recv() {
                Ok(value) => break value,
                Err(error) => assert_eq!(error, TryRecvError::Empty),
            }
            coro::yield_now();
        };
        assert_eq!((received, waits.join().unwrap()), (8, Ok(())));
        let (sender, receiver) = bounded(1);
        assert_eq!(sender.try_send(1), Ok(()));
        assert_eq!(sender.try_send(2), Err(TrySendError::Full(2)));
        assert_eq!(receiver.try_recv(), Ok(1));
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    });
}

/// Whether a `select` with this arm and a `default` takes the arm, and whether one without a default ever does.
macro_rules! takes {
    ($($arm:tt)*) => {{
        let at_once = select! { $($arm)* -> _ => true, default => false };
        let ever = select! { $($arm)* -> _ => true, default(Duration::from_millis(1)) => false };
        (at_once, ever)
    }};
}

/// select3: which operations wait, alone and beside a default.
#[test]
fn chan_go_select3() {
    const NEITHER: (bool, bool) = (false, false);
    const BOTH: (bool, bool) = (true, true);
    everywhere(|| {
        let never = chan::never::<i32>();
        assert_eq!(takes!(recv(never)), NEITHER);
        let (sender, receiver) = bounded(0);
        assert_eq!((takes!(recv(receiver)), takes!(send(sender, 1))), (NEITHER, NEITHER));
        let (sender, receiver) = bounded(3);
        assert_eq!(takes!(recv(receiver)), NEITHER);
        assert_eq!(takes!(send(sender, 1)), BOTH); // two of three places
        assert_eq!(takes!(recv(receiver)), BOTH);
        (0..3).for_each(|i| sender.send(i).unwrap());
        assert_eq!(takes!(send(sender, 1)), NEITHER);
        sender.close();
        assert_eq!((takes!(recv(receiver)), takes!(send(sender, 1))), (BOTH, BOTH));
    });
}

/// select6: one that waits in two channels, and is served by the one, is no obstacle to those behind it in the other.
#[test]
fn chan_go_select6() {
    everywhere(|| {
        for _ in 0..ROUNDS / 20 {
            let ((to_a, a), (to_b, b)) = (bounded::<i32>(0), bounded::<i32>(0));
            let chooses = {
                let (a, b) = (a.clone(), b.clone());
                go(move || select! { recv(a) -> value => value, recv(b) -> value => value })
            };
            let behind = {
                let b = b.clone();
                go(move || b.recv())
            };
            go(move || to_a.send(1));
            assert_eq!(chooses.join().unwrap(), Ok(1));
            go(move || to_b.send(2));
            assert_eq!(behind.join().unwrap(), Ok(2));
            assert_eq!(a.try_recv().ok(), None);
        }
    });
}

/// select7: every way to send against every way to receive, whoever comes first.
#[test]
fn chan_go_select7() {
    type Way<T> = fn(T) -> i32;
    const RECEIVES: [Way<Receiver<i32>>; 4] = [
        |receiver| receiver.recv().unwrap(),
        |receiver| select! { recv(receiver) -> value => value.unwrap() },
        |receiver| {
            let other = chan::never::<i32>();
            select! { recv(other) -> _ => 0, recv(receiver) -> value => value.unwrap() }
        },
        |receiver| loop {
            select! { recv(receiver) -> value => break value.unwrap(), default => coro::yield_now() }
        },
    ];
    const SENDS: [Way<Sender<i32>>; 4] = [
        |sender| sender.send(5).map_or(0, |()| 5),
        |sender| select! { send(sender, 5) -> sent => sent.map_or(0, |()| 5) },
        |sender| {
            let (full, _receiver) = bounded(0);
            select! { send(sender, 5) -> sent => sent.map_or(0, |()| 5), send(full, 1) -> _ => 0 }
        },
        |sender| loop {
            select! { send(sender, 5) -> sent => break sent.map_or(0, |()| 5), default => coro::yield_now() }
        },
    ];
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        for (i, receives) in RECEIVES.into_iter().enumerate() {
            for (j, sends) in SENDS.into_iter().enumerate() {
                for capacity in [0, 1, 10] {
                    if capacity == 0 && (i, j) == (3, 3) {
                        continue; // each would wait for the other to wait
                    }
                    for (receiver_first, on_thread) in
                        [(false, false), (true, false), (false, true), (true, true)]
                    {
                        let (sender, receiver) = bounded(capacity);
                        let receive = move || receives(receiver);
                        let (received, sent) = if on_thread {
                            let receives = thread::spawn(receive);
                            let sent = runtime.go(move || sends(sender)).join().unwrap();
                            (receives.join().unwrap(), sent)
                        } else if receiver_first {
                            let receives = runtime.go(receive);
                            let sent = runtime.go(move || sends(sender)).join().unwrap();
                            (receives.join().unwrap(), sent)
                        } else {
                            let sends = runtime.go(move || sends(sender));
                            let received = runtime.go(receive).join().unwrap();
                            (received, sends.join().unwrap())
                        };
                        assert_eq!((received, sent), (5, 5), "{i} {j} {capacity}");
                    }
                }
            }
        }
    });
}

/// zerosize: values without a size, as many as there are numbers.
#[test]
fn chan_go_zerosize() {
    everywhere(|| {
        let (sender, receiver) = bounded::<[u64; 0]>(usize::MAX);
        (0..1000).for_each(|_| sender.send([]).unwrap());
        assert_eq!(receiver.len(), 1000);
        assert_eq!(receiver.try_iter().count(), 1000);
        let (sender, receiver) = bounded::<()>(0);
        go(move || (0..100).for_each(|_| sender.send(()).unwrap()));
        assert_eq!(receiver.iter().count(), 100);
    });
}

/// TestPseudoRandomSend: of two sends on one channel that can both be done, both are chosen now and then.
#[test]
fn chan_go_pseudo_random_send() {
    everywhere(|| {
        for capacity in [0, 1] {
            let (sender, receiver) = bounded(capacity);
            let collects = go(move || {
                receiver.iter().fold([0; 2], |mut counts, arm: usize| {
                    counts[arm] += 1;
                    counts
                })
            });
            for _ in 0..ROUNDS {
                select! {
                    send(sender, 0) -> sent => sent.unwrap(),
                    send(sender, 1) -> sent => sent.unwrap(),
                }
            }
            drop(sender);
            let counts = collects.join().unwrap();
            assert!(counts.iter().all(|&n| n > ROUNDS / 3), "{counts:?}");
        }
    });
}

/// TestSelfSelect: two that both send and receive by one select on one channel never get their own value.
#[test]
fn chan_go_self_select() {
    everywhere(|| {
        for capacity in [0, 10] {
            let (sender, receiver) = bounded::<usize>(capacity);
            let players: Vec<_> = (0..2)
                .map(|me| {
                    let (sender, receiver) = (sender.clone(), receiver.clone());
                    go(move || {
                        for _ in 0..ROUNDS {
                            select! {
                                recv(receiver) -> from => assert!(capacity > 0 || from.unwrap() != me),
                                send(sender, me) -> sent => sent.unwrap(),
                                // The other may have ended.
                                default(Duration::from_millis(5)) => break,
                            }
                        }
                    })
                })
                .collect();
            players.into_iter().for_each(|player| player.join().unwrap());
        }
    });
}

/// TestNonblockRecvRace and TestNonblockSelectRace: whoever looks, without waiting, at a channel with a value that is being
/// closed finds the value or the end, and never nothing.
#[test]
fn chan_go_nonblock_race() {
    everywhere(|| {
        for _ in 0..ROUNDS {
            let (sender, receiver) = bounded(1);
            sender.send(1).unwrap();
            let looks = {
                let receiver = receiver.clone();
                go(move || {
                    let never = chan::never::<i32>();
                    select! {
                        recv(never) -> _ => unreachable!(),
                        recv(receiver) -> _ => true,
                        default => false,
                    }
                })
            };
            sender.close();
            let _ = receiver.recv();
            assert!(looks.join().unwrap(), "a value, or the end");
        }
    });
}

/// TestMultiConsumer: a chain of pools of consumers loses and doubles nothing.
#[test]
fn chan_go_multi_consumer() {
    const WORKERS: usize = 23;
    everywhere(|| {
        let (queue, work) = bounded(WORKERS * 2);
        let (results, done) = bounded(WORKERS * 2);
        for _ in 0..WORKERS {
            let (work, results) = (work.clone(), results.clone());
            go(move || {
                for value in &work {
                    if value % 3 == 0 {
                        coro::yield_now();
                    }
                    results.send(value).unwrap();
                }
            });
        }
        drop((work, results));
        go(move || (0..ROUNDS).for_each(|i| queue.send(i % 7 + 1).unwrap()));
        let (count, sum) = done.iter().fold((0, 0), |(count, sum), value| (count + 1, sum + value));
        assert_eq!((count, sum), (ROUNDS, (0..ROUNDS).map(|i| i % 7 + 1).sum()));
    });
}

/// powser1: power series whose coefficients are computed when somebody asks. A series may be split in two, which are asked
/// at different times.
mod powser {
    use super::*;

    type Series = Receiver<i64>;

    fn series(f: impl FnOnce(Sender<i64>) -> Option<()> + Send + 'static) -> Series {
        let (sender, receiver) = bounded(0);
        go(move || f(sender));
        receiver
    }

    fn constants(c: i64) -> Series {
        series(move |out| {
            loop {
                out.send(c).ok()?;
            }
        })
    }

    /// Both of these are `of`, and whoever is behind gets what the other has asked for before.
    fn split(of: Series) -> (Series, Series) {
        let ((to_a, a), (to_b, b)) = (bounded(0), bounded(0));
        go(move || {
            // What the slower one, of which `ahead` tells which it is, has not received yet.
            let mut waits = std::collections::VecDeque::new();
            let mut next = of.recv().ok();
            let mut a_is_ahead = false;
            while let Some(value) = next {
                let behind = waits.front().copied().unwrap_or(value);
                let (for_a, for_b) = if a_is_ahead { (value, behind) } else { (behind, value) };
                let a_took = select! {
                    send(to_a, for_a) -> sent => sent.ok().map(|()| true),
                    send(to_b, for_b) -> sent => sent.ok().map(|()| false),
                };
                let Some(a_took) = a_took else { break };
                if waits.is_empty() {
                    a_is_ahead = a_took;
                }
                if a_took == a_is_ahead {
                    waits.push_back(value);
                    next = of.recv().ok();
                } else {
                    waits.pop_front();
                }
            }
        });
        (a, b)
    }

    fn add(a: Series, b: Series) -> Series {
        series(move |out| {
            loop {
                out.send(a.recv().ok()? + b.recv().ok()?).ok()?;
            }
        })
    }

    fn scale(by: i64, a: Series) -> Series {
        series(move |out| {
            loop {
                out.send(by * a.recv().ok()?).ok()?;
            }
        })
    }

    /// (a0 + x A)(b0 + x B) = a0 b0 + x (a0 B + b0 A + x A B)
    fn multiply(a: Series, b: Series) -> Series {
        series(move |out| {
            let (a0, b0) = (a.recv().ok()?, b.recv().ok()?);
            out.send(a0 * b0).ok()?;
            let ((a1, a2), (b1, b2)) = (split(a), split(b));
            let sum = add(scale(a0, b1), scale(b0, a1));
            out.send(sum.recv().ok()?).ok()?;
            let product = add(sum, multiply(a2, b2));
            loop {
                out.send(product.recv().ok()?).ok()?;
            }
        })
    }

    #[test]
    fn chan_go_powser() {
        everywhere(|| {
            // 1/(1-x), its square and its cube.
            let square = multiply(constants(1), constants(1));
            assert!(square.iter().take(12).eq(1..13));
            let cube = multiply(multiply(constants(1), constants(1)), constants(1));
            assert!(cube.iter().take(10).eq((1..11).map(|n| n * (n + 1) / 2)));
        });
    }
}

/// A limit that does not come is no limit.
#[test]
fn chan_go_timeout_that_is_far_off() {
    everywhere(|| {
        let (sender, receiver) = bounded(0);
        go(move || sender.send(1));
        select! {
            recv(receiver) -> value => assert_eq!(value, Ok(1)),
            recv(chan::after(LONG)) -> _ => unreachable!(),
        }
    });
}
