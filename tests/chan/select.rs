//! `select!` and `Select`: one of the arms is done, and the others lose nothing.

use std::cell::Cell;
use std::future::{pending, poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use coro::chan::{self, Receiver, RecvError, Select, SendError, Sender, TryRecvError};
use coro::select;

use crate::common::{self, Counter};
use crate::counting::allocations;

const ROUNDS: usize = if cfg!(debug_assertions) { 2_000 } else { 20_000 };
const SHORT: Duration = Duration::from_millis(2);
const LONG: Duration = Duration::from_secs(3600);

#[test]
fn chan_select_takes_each_ready_arm_as_often() {
    const TIMES: usize = 100_000;
    let _watchdog = common::watchdog();
    let channels: [(Sender<usize>, Receiver<usize>); 4] =
        std::array::from_fn(|_| chan::unbounded());
    channels.iter().for_each(|(sender, _)| sender.send(0).unwrap());
    let [(_, a), (_, b), (_, c), (_, d)] = &channels;
    let (mut by_macro, mut by_value) = ([0; 4], [0; 4]);
    for _ in 0..TIMES {
        let arm = select! {
            recv(a) -> value => { value.unwrap(); 0 }
            recv(b) -> value => { value.unwrap(); 1 }
            recv(c) -> value => { value.unwrap(); 2 }
            recv(d) -> value => { value.unwrap(); 3 }
        };
        channels[arm].0.send(0).unwrap();
        by_macro[arm] += 1;
    }
    let mut select = Select::new();
    for (arm, (_, receiver)) in channels.iter().enumerate() {
        select.recv(receiver, move |value| (value.unwrap(), arm).1);
    }
    for _ in 0..TIMES {
        let arm = select.select();
        channels[arm].0.send(0).unwrap();
        by_value[arm] += 1;
    }
    for counts in [by_macro, by_value] {
        assert!(counts.iter().all(|n| (TIMES / 5..TIMES * 3 / 10).contains(n)), "{counts:?}");
    }
}

#[test]
fn chan_select_has_room_for_many_arms() {
    let _watchdog = common::watchdog();
    let (sender, receiver) = chan::bounded(1);
    sender.send(()).unwrap();
    #[rustfmt::skip]
    let arm: usize = select! {
        recv(receiver) -> value => { value.unwrap(); 0 }
        recv(receiver) -> value => { value.unwrap(); 1 }
        recv(receiver) -> _ => 2, recv(receiver) -> _ => 3, recv(receiver) -> _ => 4, recv(receiver) -> _ => 5,
        recv(receiver) -> _ => 6, recv(receiver) -> _ => 7, recv(receiver) -> _ => 8, recv(receiver) -> _ => 9,
        recv(receiver) -> _ => 10, recv(receiver) -> _ => 11, recv(receiver) -> _ => 12, recv(receiver) -> _ => 13,
        recv(receiver) -> _ => 14, recv(receiver) -> _ => 15, recv(receiver) -> _ => 16, recv(receiver) -> _ => 17,
        recv(receiver) -> _ => 18, recv(receiver) -> _ => 19, recv(receiver) -> _ => 20, recv(receiver) -> _ => 21,
        recv(receiver) -> _ => 22, recv(receiver) -> _ => 23, recv(receiver) -> _ => 24, recv(receiver) -> _ => 25,
        recv(receiver) -> _ => 26, recv(receiver) -> _ => 27, recv(receiver) -> _ => 28, recv(receiver) -> _ => 29,
        recv(receiver) -> _ => 30, recv(receiver) -> _ => 31, recv(receiver) -> _ => 32, recv(receiver) -> _ => 33,
        recv(receiver) -> _ => 34, recv(receiver) -> _ => 35, recv(receiver) -> _ => 36, recv(receiver) -> _ => 37,
        recv(receiver) -> _ => 38, recv(receiver) -> _ => 39, recv(receiver) -> _ => 40, recv(receiver) -> _ => 41,
        recv(receiver) -> _ => 42, recv(receiver) -> _ => 43, recv(receiver) -> _ => 44, recv(receiver) -> _ => 45,
        recv(receiver) -> _ => 46, recv(receiver) -> _ => 47, recv(receiver) -> _ => 48, recv(receiver) -> _ => 49,
    };
    assert!(arm < 50);
}

#[test]
fn chan_select_without_an_arm_waits_for_ever() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let begun = Counter::default();
        let waits: [coro::JoinHandle<()>; 2] = [
            runtime.go({
                let begun = begun.clone();
                move || {
                    begun.add();
                    select! {}
                }
            }),
            runtime.go({
                let begun = begun.clone();
                move || {
                    begun.add();
                    Select::new().select()
                }
            }),
        ];
        begun.wait_for(2);
        for waits in waits {
            assert!(!waits.is_finished());
            waits.cancel();
            common::assert_cancelled(waits.join());
        }
    });
    assert_eq!(select! { default => 7 }, 7);
    assert_eq!(select! { default(SHORT) => 8, }, 8);
}

#[test]
fn chan_select_of_one_channel_in_several_arms() {
    let _watchdog = common::watchdog();
    let (sender, receiver) = chan::bounded(0);
    // Nobody is there but we, and we cannot meet ourselves.
    let met = select! {
        send(sender, 1) -> _ => true,
        recv(receiver) -> _ => true,
        recv(receiver) -> _ => true,
        default(SHORT) => false,
    };
    assert!(!met);
    let (sender, receiver) = chan::bounded(1);
    let (mut sent, mut received) = (0, 0);
    while received < 1000 {
        select! {
            send(sender, sent) -> result => { result.unwrap(); sent += 1; }
            recv(receiver) -> value => { assert_eq!(value, Ok(received)); received += 1; }
            recv(receiver) -> value => { assert_eq!(value, Ok(received)); received += 1; }
        }
        assert_eq!(sent - received, receiver.len());
    }
}

#[test]
fn chan_select_evaluates_each_expression_once_and_in_order() {
    let _watchdog = common::watchdog();
    let (sender, receiver) = chan::bounded(1);
    let (full, _full) = chan::bounded(0);
    let order = Cell::new(Vec::new());
    let note = |name: &'static str| {
        let mut names = order.take();
        names.push(name);
        order.set(names);
    };
    sender.send(1).unwrap();
    let got = select! {
        send({ note("sender"); &full }, { note("value"); 1 }) -> _ => unreachable!(),
        recv({ note("receiver"); &receiver }) -> value => { note("arm"); value.unwrap() }
        wait({ note("future"); pending::<()>() }) -> () => unreachable!(),
        default({ note("default"); LONG }) => unreachable!(),
    };
    assert_eq!(got, 1);
    assert_eq!(order.take(), ["sender", "value", "receiver", "future", "default", "arm"]);
}

#[test]
fn chan_select_arms_are_expressions_like_any_other() {
    fn first(receiver: &Receiver<Result<i32, String>>) -> Result<i32, String> {
        let mut rounds = 0;
        let value = loop {
            rounds += 1;
            select! {
                recv(receiver) -> value => {
                    if rounds < 3 {
                        continue;
                    }
                    break value.map_err(|error| error.to_string())??;
                }
                default => return Ok(-1),
            }
        };
        Ok(value * 2)
    }
    let _watchdog = common::watchdog();
    let (sender, receiver) = chan::unbounded();
    assert_eq!(first(&receiver), Ok(-1));
    (1..=3).for_each(|i| sender.send(Ok(i)).unwrap());
    assert_eq!(first(&receiver), Ok(6));
    (1..=2).for_each(|i| sender.send(Ok(i)).unwrap());
    sender.send(Err(String::from("no"))).unwrap();
    assert_eq!(first(&receiver), Err(String::from("no")));
    // In an arm nothing is borrowed but what it borrows itself, and a pattern may take things apart.
    struct Counts {
        receiver: Receiver<(usize, String)>,
        sum: usize,
    }
    impl Counts {
        fn add(&mut self, number: usize) {
            self.sum += number;
        }
    }
    let (sender, receiver) = chan::bounded(1);
    let mut counts = Counts { receiver, sum: 0 };
    sender.send((3, String::from("three"))).unwrap();
    select! {
        wait(async { counts.receiver.recv_async().await.unwrap() }) -> (number, _) => counts.add(number),
    }
    assert_eq!(counts.sum, 3);
}

#[test]
fn chan_select_drops_what_it_has_not_sent_before_the_arm_runs() {
    let _watchdog = common::watchdog();
    let dropped = Counter::default();
    let (full, _receiver) = chan::bounded(0);
    select! {
        send(full, dropped.on_drop()) -> _ => unreachable!(),
        wait(async { let _held = dropped.on_drop(); pending::<()>().await }) -> () => unreachable!(),
        default => assert_eq!(dropped.get(), 2),
    }
    // What is refused comes back.
    full.close();
    select! {
        send(full, dropped.on_drop()) -> refused => {
            assert_eq!(dropped.get(), 2);
            drop(refused.unwrap_err().into_inner());
        }
    }
    assert_eq!(dropped.get(), 3);
}

#[test]
fn chan_select_of_closed_channels() {
    let _watchdog = common::watchdog();
    let (sender, receiver) = chan::bounded(1);
    sender.send(1).unwrap();
    sender.close();
    for expected in [Ok(1), Err(RecvError), Err(RecvError)] {
        select! {
            recv(receiver) -> value => assert_eq!(value, expected),
            default => panic!("a closed channel can be received from"),
        }
        select! {
            send(sender, 2) -> sent => assert_eq!(sent, Err(SendError(2))),
            default => panic!("a closed channel refuses at once"),
        }
    }
}

/// Closing wakes whoever chooses, on coroutines and on threads.
#[test]
fn chan_select_is_told_of_a_close() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        for _ in 0..20 {
            let (a, b) = (chan::bounded::<usize>(0), chan::bounded::<usize>(0));
            let choose = || {
                let (sender, receiver) = (a.0.clone(), b.1.clone());
                move || {
                    select! {
                        send(sender, 7) -> sent => assert_eq!(sent, Err(SendError(7))),
                        recv(receiver) -> value => assert_eq!(value, Err(RecvError)),
                    }
                }
            };
            let tasks: Vec<_> = (0..4).map(|_| runtime.go(choose())).collect();
            let thread = common::spawn_until_blocked(choose());
            a.1.close();
            b.0.close();
            tasks.into_iter().for_each(|task| task.join().unwrap());
            thread.join().unwrap();
        }
    });
}

/// A timer, a future and a channel: one is taken, and the others are as they were.
#[test]
fn chan_select_leaves_the_other_arms_as_they_were() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let task = runtime.go(|| {
            let mut taken = [0; 3];
            for _ in 0..300 {
                let (sender, receiver) = chan::bounded(1);
                let timer = chan::after(Duration::ZERO);
                let mut future = ready(3);
                sender.send(1).unwrap();
                let taken_now = select! {
                    recv(receiver) -> value => { assert_eq!(value, Ok(1)); 0 }
                    recv(timer) -> time => { time.unwrap(); 1 }
                    wait(&mut future) -> three => { assert_eq!(three, 3); 2 }
                };
                taken[taken_now] += 1;
                assert_eq!(receiver.try_recv().is_ok(), taken_now != 0);
                assert_eq!(timer.try_recv().is_ok(), taken_now != 1);
                if taken_now != 2 {
                    assert_eq!(coro::wait(future), 3);
                }
            }
            taken
        });
        let taken = task.join().unwrap();
        assert!(taken.iter().all(|&times| times > 0), "{taken:?}");
    });
}

/// The same, of arms that become ready at the same time, from three sides.
#[test]
fn chan_select_is_served_once_by_several_at_a_time() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (a, b) = (chan::bounded::<usize>(0), chan::bounded::<usize>(0));
        let chooses = runtime.go({
            let (a, b) = (a.1.clone(), b.1.clone());
            move || {
                let mut sum = 0;
                let (mut left_a, mut left_b) = (true, true);
                while left_a || left_b {
                    select! {
                        recv(a) -> value => match value { Ok(i) => sum += i, Err(_) => left_a = false },
                        recv(b) -> value => match value { Ok(i) => sum += i, Err(_) => left_b = false },
                    }
                    if !left_a && left_b {
                        sum += b.iter().sum::<usize>();
                        left_b = false;
                    } else if !left_b && left_a {
                        sum += a.iter().sum::<usize>();
                        left_a = false;
                    }
                }
                sum
            }
        });
        let (sends_a, sends_b) = (a.0, b.0);
        drop((a.1, b.1));
        let task = runtime.go(move || (0..ROUNDS).for_each(|i| sends_a.send(i).unwrap()));
        let thread = thread::spawn(move || (0..ROUNDS).for_each(|i| sends_b.send(i).unwrap()));
        task.join().unwrap();
        thread.join().unwrap();
        assert_eq!(chooses.join().unwrap(), ROUNDS * (ROUNDS - 1));
    });
}

/// Two that choose among the same channels in the opposite order, as sender and receiver: they meet, and never block
/// each other.
#[test]
fn chan_select_against_select_in_the_opposite_order() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (a, b) = (chan::bounded::<usize>(0), chan::bounded::<usize>(0));
        let sends = {
            let (a, b) = (a.0, b.0);
            move || {
                for i in 0..ROUNDS {
                    select! {
                        send(a, i) -> sent => sent.unwrap(),
                        send(b, i) -> sent => sent.unwrap(),
                    }
                }
            }
        };
        let receives = {
            let (a, b) = (a.1, b.1);
            move || {
                for i in 0..ROUNDS {
                    let value = select! {
                        recv(b) -> value => value,
                        recv(a) -> value => value,
                    };
                    assert_eq!(value, Ok(i), "one at a time, in order");
                }
            }
        };
        let sends = runtime.go(sends);
        let receives = thread::spawn(receives);
        sends.join().unwrap();
        receives.join().unwrap();
    });
}

/// Each is at once a sender to all and a receiver from all, so the channels are locked in every order; each value
/// arrives once.
#[test]
fn chan_select_in_a_crowd_of_selects() {
    const CROWD: usize = 4;
    const EACH: usize = ROUNDS / 4;
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let channels: Arc<[_]> = (0..CROWD).map(|_| chan::bounded::<usize>(0)).collect();
        let (received, sum) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let tasks: Vec<_> = (0..CROWD)
            .map(|me| {
                let channels = Arc::clone(&channels);
                let (received, sum) = (Arc::clone(&received), Arc::clone(&sum));
                runtime.go(move || {
                    let [a, b, c, d] = [0, 1, 2, 3].map(|i| &channels[(me + i) % CROWD]);
                    let mut sent = 0;
                    while received.load(Ordering::Relaxed) < CROWD * EACH {
                        let take = |value: Result<usize, RecvError>| {
                            sum.fetch_add(value.unwrap(), Ordering::Relaxed);
                            received.fetch_add(1, Ordering::Relaxed);
                        };
                        if sent < EACH {
                            select! {
                                send(a.0, 1) -> done => { done.unwrap(); sent += 1; }
                                send(b.0, 1) -> done => { done.unwrap(); sent += 1; }
                                recv(c.1) -> value => take(value),
                                recv(d.1) -> value => take(value),
                                recv(a.1) -> value => take(value),
                            }
                        } else {
                            select! {
                                recv(d.1) -> value => take(value),
                                recv(c.1) -> value => take(value),
                                recv(b.1) -> value => take(value),
                                recv(a.1) -> value => take(value),
                                default(SHORT) => {}
                            }
                        }
                    }
                })
            })
            .collect();
        tasks.into_iter().for_each(|task| task.join().unwrap());
        assert_eq!(received.load(Ordering::Relaxed), CROWD * EACH);
        assert_eq!(sum.load(Ordering::Relaxed), CROWD * EACH);
        assert!(
            channels.iter().all(|(_, receiver)| receiver.try_recv() == Err(TryRecvError::Empty))
        );
    });
}

/// One that is cancelled has received a value, or leaves it to the others; and what it was to send it has sent, or not.
#[test]
fn chan_select_that_is_cancelled_loses_nothing() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (a, b) = (chan::bounded::<usize>(0), chan::unbounded::<usize>());
        let dropped = Counter::default();
        let out = chan::bounded::<common::OnDrop>(0);
        let (mut given, mut taken) = (0, 0);
        let got = Arc::new(AtomicUsize::new(0));
        for round in 0..ROUNDS {
            let chooses = runtime.go({
                let (a, b, out) = (a.1.clone(), b.1.clone(), out.0.clone());
                let (value, got) = (dropped.on_drop(), Arc::clone(&got));
                move || {
                    select! {
                        recv(a) -> value => _ = got.fetch_add(value.unwrap(), Ordering::Relaxed),
                        recv(b) -> value => _ = got.fetch_add(value.unwrap(), Ordering::Relaxed),
                        send(out, value) -> sent => sent.unwrap(),
                        wait(pending::<()>()) -> () => unreachable!(),
                    }
                }
            });
            let gives = runtime.go({
                let (a, b, out) = (a.0.clone(), b.0.clone(), out.1.clone());
                move || match round % 3 {
                    0 => a.try_send(1).is_ok(),
                    1 => b.send(1).is_ok(),
                    _ => {
                        let _ = out.try_recv();
                        false
                    }
                }
            });
            if round % 2 == 0 {
                thread::yield_now();
            }
            chooses.cancel();
            given += usize::from(gives.join().unwrap());
            let _ = chooses.join();
            assert_eq!(dropped.get(), round + 1, "one value, dropped once");
            taken += b.1.try_iter().sum::<usize>();
        }
        assert_eq!(given, taken + got.load(Ordering::Relaxed));
    });
}

/// A future that is woken by another thread, beside a channel and a limit.
#[test]
fn chan_select_waits_for_a_future() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (_sender, receiver) = chan::bounded::<()>(0);
        let wait = move || {
            for _ in 0..50 {
                let child = coro::go(|| {
                    coro::yield_now();
                    5
                });
                select! {
                    wait(child) -> five => assert_eq!(five.unwrap(), 5),
                    recv(receiver) -> _ => unreachable!(),
                    default(LONG) => unreachable!(),
                }
            }
        };
        let task = runtime.go(wait.clone());
        wait();
        task.join().unwrap();
    });
}

/// A future that waits for another in its poll, and is woken meanwhile: the wake-up is not lost.
#[test]
fn chan_select_of_a_future_that_waits_in_its_poll() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (sender, receiver) = chan::bounded::<()>(0);
        let task = runtime.go(move || {
            for _ in 0..100 {
                let mut polls = 0;
                let odd = poll_fn(|context| {
                    polls += 1;
                    if polls == 3 {
                        return Poll::Ready(polls);
                    }
                    context.waker().wake_by_ref();
                    // Takes any wake-up that is there, and one of its own.
                    coro::wait(coro::go(coro::yield_now)).unwrap();
                    Poll::Pending
                });
                select! {
                    recv(receiver) -> _ => unreachable!(),
                    wait(odd) -> polls => assert_eq!(polls, 3),
                }
            }
        });
        task.join().unwrap();
        drop(sender);
    });
}

/// Under a limit a future is polled when it is woken, and not all the time.
#[test]
fn chan_select_under_a_timeout_polls_no_more_often() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(1);
    let task = runtime.go(|| {
        let (_sender, receiver) = chan::bounded::<()>(0);
        let mut polls = 0;
        let elapsed = coro::timeout(Duration::from_millis(50), || {
            let never = poll_fn(|context| {
                polls += 1;
                if polls == 1 {
                    context.waker().wake_by_ref();
                }
                Poll::<()>::Pending
            });
            select! {
                recv(receiver) -> _ => unreachable!(),
                wait(never) -> () => unreachable!(),
            }
        });
        assert_eq!(elapsed, Err(coro::Elapsed));
        polls
    });
    assert!(task.join().unwrap() < 5);
}

#[test]
fn chan_select_passes_on_the_panic_of_a_future() {
    let _watchdog = common::watchdog();
    common::quiet();
    let (sender, receiver) = chan::bounded(1);
    sender.send(1).unwrap();
    for _ in 0..20 {
        let chosen = catch_unwind(AssertUnwindSafe(|| {
            select! {
                recv(receiver) -> value => value,
                wait(poll_fn(|_| common::planned("poll"))) -> () => unreachable!(),
            }
        }));
        match chosen {
            Ok(value) => {
                assert_eq!(value, Ok(1));
                sender.send(1).unwrap();
            }
            Err(payload) => assert!(common::is_planned(&*payload, "poll")),
        }
    }
}

/// A limit of nothing does not wait, and so is fine where nobody may.
#[test]
fn chan_select_limit_of_nothing_is_a_try() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let tries = || {
            let (sender, receiver) = chan::bounded::<i32>(1);
            let tries = || {
                select! {
                    recv(receiver) -> value => value.ok(),
                    default(Duration::ZERO) => None,
                }
            };
            let before = tries();
            sender.send(1).unwrap();
            (before, tries())
        };
        let tried = runtime.go(move || coro::no_suspend(tries)).join().unwrap();
        assert_eq!(tried, (None, Some(1)));
    });
}

/// The time that a poll takes counts.
#[test]
fn chan_select_limit_begins_before_the_polls() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let polled = runtime.go(|| {
            let mut polled = 0;
            let slow = poll_fn(|_| {
                polled += 1;
                let begin = Instant::now();
                while begin.elapsed() <= SHORT {}
                Poll::<()>::Pending
            });
            select! {
                wait(slow) -> () => unreachable!(),
                default(SHORT) => {}
            }
            polled
        });
        assert_eq!(polled.join().unwrap(), 1);
    });
}

/// The limit of a `default`, against values that come.
#[test]
fn chan_select_limit_against_a_value() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (sender, receiver) = chan::bounded::<usize>(0);
        let receives = runtime.go(move || {
            let (mut sum, mut late) = (0, 0);
            loop {
                select! {
                    recv(receiver) -> value => match value { Ok(i) => sum += i, Err(_) => break },
                    default(Duration::from_micros(20)) => late += 1,
                }
            }
            (sum, late)
        });
        let sends = runtime.go(move || {
            let mut sum = 0;
            for i in 0..ROUNDS / 10 {
                select! {
                    send(sender, i) -> sent => { sent.unwrap(); sum += i; }
                    default(Duration::from_micros(20)) => {}
                }
            }
            sum
        });
        let sent = sends.join().unwrap();
        assert_eq!(receives.join().unwrap().0, sent);
    });
}

#[test]
fn chan_select_steps_aside_now_and_then() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(1);
    let (sender, receiver) = chan::bounded(1);
    let spins = runtime.go(move || {
        loop {
            select! {
                send(sender, ()) -> sent => sent.unwrap(),
                recv(receiver) -> value => value.unwrap(),
            }
        }
    });
    // It has a turn all the same, and the other can be cancelled.
    runtime.go(|| ()).join().unwrap();
    spins.cancel();
    common::assert_cancelled::<()>(spins.join());
}

/// A select in a loop allocates nothing, whether it waits or not; and neither do a send and a receive.
#[test]
fn chan_select_in_a_loop_allocates_nothing() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(1);
    let task = runtime.go(|| {
        let ((to_a, a), (to_b, b)) = (chan::bounded::<usize>(0), chan::bounded::<usize>(1));
        let (stop, stopped) = chan::bounded::<()>(0);
        let echo = coro::go(move || {
            let mut never = pin!(pending::<()>());
            loop {
                select! {
                    recv(a) -> value => to_b.send(value.unwrap()).unwrap(),
                    recv(stopped) -> _ => break,
                    wait(never.as_mut()) -> () => unreachable!(),
                    default(LONG) => unreachable!(),
                }
            }
        });
        let round = |i| {
            select! {
                send(to_a, i) -> sent => sent.unwrap(),
                default(LONG) => unreachable!(),
            }
            assert_eq!(b.recv(), Ok(i));
        };
        // What is kept for later is made now.
        (0..1000).for_each(round);
        let before = allocations();
        (0..1000).for_each(round);
        let allocated = allocations() - before;
        drop(stop);
        echo.join().unwrap();
        allocated
    });
    let allocated = task.join().unwrap();
    // Whoever looks through the frames allocates.
    assert!(allocated == 0 || common::is_checked(), "{allocated}");
}

#[test]
fn chan_select_value_keeps_what_is_left() {
    let _watchdog = common::watchdog();
    let (a, b) = (chan::bounded(1), chan::bounded::<String>(1));
    let late = chan::never::<()>();
    let log = Rc::new(Cell::new(0));
    let mut select = Select::new();
    select
        .recv(&a.1, |value| value.map_or(-1, |i: i32| i))
        .send(&b.0, String::from("text"), |sent| sent.map_or(-2, |()| 100))
        .recv(&late, |_| -3)
        .wait(coro::go(|| 50), {
            let log = Rc::clone(&log);
            move |fifty| {
                log.set(log.get() + 1);
                fifty.unwrap()
            }
        });
    assert_eq!(select.len(), 4);
    let mut results = [select.select(), select.select()];
    results.sort_unstable();
    assert_eq!((results, log.get(), select.len()), ([50, 100], 1, 2));
    assert_eq!(select.try_select(), None);
    a.0.send(7).unwrap();
    a.0.close();
    assert_eq!(select.select(), 7);
    assert_eq!(select.select(), -1);
    assert_eq!(select.len(), 1, "a closed channel has left");
    assert_eq!(select.select_timeout(SHORT), None);
    assert_eq!(b.1.recv().as_deref(), Ok("text"));
}

#[test]
fn chan_select_value_merges_many() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let receivers: Vec<_> = (0..50)
            .map(|i| {
                let (sender, receiver) = chan::bounded(i % 3);
                drop(runtime.go(move || (0..20).for_each(|_| sender.send(i).unwrap())));
                receiver
            })
            .collect();
        let mut select = Select::new();
        for receiver in &receivers {
            select.recv(receiver, |value| value.unwrap_or(0));
        }
        let mut sum = 0;
        while !select.is_empty() {
            sum += select.select();
        }
        assert_eq!(sum, 20 * (0..50).sum::<usize>());
    });
}

#[test]
fn chan_after_at_tick_and_never() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let times = || {
            let start = Instant::now();
            let after = chan::after(SHORT);
            assert_eq!((after.capacity(), after.is_closed()), (Some(1), false));
            let due = after.recv().unwrap();
            assert!(due >= start + SHORT && Instant::now() >= due);
            // There is one value, and no end.
            assert_eq!(after.try_recv(), Err(TryRecvError::Empty));
            assert_eq!(after.recv_timeout(SHORT), Err(chan::RecvTimeoutError::Timeout));
            let at = chan::at(start);
            assert_eq!((at.len(), at.is_full()), (1, true));
            assert_eq!(at.recv(), Ok(start));
            assert!(at.is_empty());
            let tick = chan::tick(SHORT);
            let first = tick.recv().unwrap();
            let later: Vec<_> = tick.iter().take(5).collect();
            for (i, pair) in [&[first][..], &later].concat().windows(2).enumerate() {
                assert!(pair[0] < pair[1], "{i}");
                let nanos = (pair[1] - pair[0]).as_nanos();
                assert_eq!(nanos % SHORT.as_nanos(), 0, "the rhythm stays");
            }
            assert_eq!(chan::never::<u8>().try_recv(), Err(TryRecvError::Empty));
            assert_eq!(chan::after(Duration::MAX).recv_timeout(SHORT).ok(), None);
            // A value that two wait for is one's.
            let once = chan::after(SHORT);
            let other = once.clone();
            let other = coro::go(move || other.recv_timeout(10 * SHORT).is_ok());
            let mine = once.recv_timeout(10 * SHORT).is_ok();
            assert!(mine != other.join().unwrap());
        };
        let task = runtime.go(times);
        times();
        task.join().unwrap();
    });
    assert!(catch_unwind(|| chan::tick(Duration::ZERO)).is_err());
}

#[test]
fn chan_a_timeout_reaches_whoever_waits_for_a_time() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let task = runtime.go(|| {
            let far = chan::after(LONG);
            assert_eq!(coro::timeout(SHORT, || far.recv()), Err(coro::Elapsed));
            assert_eq!(
                coro::timeout(SHORT, || select! { recv(far) -> _ => () }),
                Err(coro::Elapsed)
            );
        });
        task.join().unwrap();
    });
}
