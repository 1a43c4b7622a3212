//! Waiting for futures: who is polled and woken how often, wakers that live longer than whoever they
//! wake or misbehave, and a raw coroutine whose poll begins under one task and ends under
//! another.

use std::cell::RefCell;
use std::future::{Future, IntoFuture, pending, poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use coro::raw::{Coroutine, State};
use coro::{Elapsed, JoinError, JoinHandle, Runtime, Wait, tls};

use crate::common::{self, Counter, Gate, is_planned, planned, quiet};
use crate::counting::allocations;

const SHORT: Duration = Duration::from_millis(5);

/// Runs `f` on a plain thread and in a coroutine of each runtime that matters.
fn everywhere(f: impl Fn() + Clone + Send + 'static) {
    f();
    common::on_workers(|runtime, _| runtime.go(f.clone()).join().unwrap());
}

/// Where a waker is left for somebody else to find.
#[derive(Clone, Default)]
struct Place(Arc<Mutex<Option<Waker>>>);

impl Place {
    fn put(&self, waker: &Waker) {
        let former = self.0.lock().unwrap().replace(waker.clone());
        drop(former);
    }

    fn take(&self) -> Option<Waker> {
        self.0.lock().unwrap().take()
    }

    /// Waits until there is one.
    fn wait(&self) -> Waker {
        loop {
            if let Some(waker) = self.take() {
                return waker;
            }
            coro::yield_now();
        }
    }
}

/// Pending until the gate is open; leaves its waker in the place at each poll, and counts them.
fn gated(gate: &Gate, place: &Place, polls: &Counter) -> impl Future<Output = usize> + use<> {
    let (gate, place, polls) = (gate.clone(), place.clone(), polls.clone());
    poll_fn(move |context| {
        polls.add();
        if gate.is_open() {
            return Poll::Ready(polls.get());
        }
        place.put(context.waker());
        Poll::Pending
    })
}

#[test]
fn task_wait_for_what_is_ready() {
    let _watchdog = common::watchdog();
    struct Into(u32);
    impl IntoFuture for Into {
        type Output = u32;
        type IntoFuture = std::future::Ready<u32>;
        fn into_future(self) -> Self::IntoFuture {
            ready(self.0)
        }
    }
    everywhere(|| {
        assert_eq!(coro::wait(ready(1)), 1);
        assert_eq!(async { 2 }.wait(), 2);
        assert_eq!(Into(3).wait(), 3);
        assert_eq!(coro::go(|| 4).wait().unwrap(), 4);
        let borrowed = String::from("five");
        assert_eq!(async { borrowed.len() }.wait(), 4);
        assert_eq!(async { coro::wait(async { coro::wait(ready(6)) }) }.wait(), 6);
    });
}

/// Woken during the poll, once or often: polled once more, and not once for each.
#[test]
fn task_wait_woken_while_it_is_polled() {
    let _watchdog = common::watchdog();
    everywhere(|| {
        for wakes in [1, 2, 100] {
            let mut polls = 0;
            coro::wait(poll_fn(|context| {
                polls += 1;
                if polls > 10 {
                    return Poll::Ready(());
                }
                (0..wakes).for_each(|_| context.waker().wake_by_ref());
                let waker = context.waker().clone();
                waker.wake();
                Poll::Pending
            }));
            assert_eq!(polls, 11);
        }
    });
}

/// Woken by a thread, by a coroutine of the same worker and by one of another; 2,000 times, and none is
/// lost.
#[test]
fn task_wait_loses_no_wake_up() {
    let _watchdog = common::watchdog();
    const ROUNDS: usize = 2000;
    fn waits(sender: &mpsc::Sender<(Gate, Waker)>) {
        for _ in 0..ROUNDS {
            let gate = Gate::default();
            let mut sent = false;
            coro::wait(poll_fn(|context| {
                if gate.is_open() {
                    return Poll::Ready(());
                }
                if !std::mem::replace(&mut sent, true) {
                    sender.send((gate.clone(), context.waker().clone())).unwrap();
                }
                Poll::Pending
            }));
        }
    }
    fn wakes((gate, waker): (Gate, Waker)) {
        gate.open();
        waker.wake();
    }
    everywhere(|| {
        let (sender, receiver) = mpsc::channel();
        let waker = thread::spawn(move || receiver.into_iter().for_each(wakes));
        waits(&sender);
        drop(sender);
        waker.join().unwrap();

        let (sender, receiver) = mpsc::channel::<(Gate, Waker)>();
        let waker = coro::go(move || {
            loop {
                match receiver.try_recv() {
                    Ok(asked) => wakes(asked),
                    Err(mpsc::TryRecvError::Empty) => coro::yield_now(),
                    Err(mpsc::TryRecvError::Disconnected) => return,
                }
            }
        });
        waits(&sender);
        drop(sender);
        waker.join().unwrap();
    });
}

/// Unparks and wakers of former waits make nothing ready that is not.
#[test]
fn task_wait_is_not_over_before_the_future_is_ready() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (gate, place, polls) = (Gate::default(), Place::default(), Counter::default());
        let waits = runtime.go({
            let future = gated(&gate, &place, &polls);
            move || future.wait()
        });
        for _ in 0..20 {
            let waker = place.wait();
            waits.handle().unpark();
            waker.wake_by_ref();
            waker.wake();
            runtime.go(coro::yield_now).join().unwrap();
            assert!(!waits.is_finished());
        }
        gate.open();
        // It may have seen that by itself, on account of the last of the wake-ups.
        while !waits.is_finished() {
            place.take().into_iter().for_each(Waker::wake);
            coro::yield_now();
        }
        assert_eq!(waits.join().unwrap(), polls.get());
    });
}

/// Wakers may be cloned, woken and dropped on any thread, long after their coroutine has ended and
/// its runtime is gone.
#[test]
fn task_wait_is_outlived_by_its_wakers() {
    let _watchdog = common::watchdog();
    let (mut kept, dropped) = (Vec::new(), Counter::default());
    common::on_workers(|runtime, _| {
        for _ in 0..100 {
            let (gate, place, polls) = (Gate::default(), Place::default(), Counter::default());
            let waits = runtime.go({
                let future = gated(&gate, &place, &polls);
                let (local, value) = (dropped.on_drop(), dropped.on_drop());
                move || {
                    let _local = local;
                    tls::set("stored", value);
                    future.wait();
                }
            });
            let waker = place.wait();
            gate.open();
            waker.wake_by_ref();
            waits.join().unwrap();
            kept.push(waker);
        }
    });
    assert_eq!(dropped.get(), 600, "a waker keeps nothing of the user's");
    let threads: Vec<_> = (0..4)
        .map(|n| {
            let mine: Vec<Waker> = kept.iter().skip(n).step_by(2).cloned().collect();
            thread::spawn(move || {
                for (i, waker) in mine.into_iter().enumerate() {
                    assert!(waker.will_wake(&waker.clone()));
                    match i % 3 {
                        0 => waker.wake(),
                        1 => waker.wake_by_ref(),
                        _ => drop(waker),
                    }
                }
            })
        })
        .collect();
    kept.iter().for_each(Waker::wake_by_ref);
    drop(kept);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// A wait that is cut short drops its future, once, in the coroutine.
#[test]
fn task_wait_drops_its_future() {
    let _watchdog = common::watchdog();
    struct Notes(mpsc::Sender<Option<coro::Handle>>);
    impl Drop for Notes {
        fn drop(&mut self) {
            self.0.send(coro::current()).unwrap();
        }
    }
    common::on_workers(|runtime, _| {
        let (sender, receiver) = mpsc::channel();
        let (polled, notes) = (Counter::default(), Notes(sender.clone()));
        let cancelled = runtime.go({
            let polled = polled.clone();
            move || {
                async move {
                    let _notes = notes;
                    polled.add();
                    pending::<()>().await;
                }
                .wait();
            }
        });
        polled.wait_for(1);
        cancelled.cancel();
        let id = cancelled.id();
        assert!(matches!(cancelled.join(), Err(JoinError::Cancelled)));
        assert_eq!(receiver.recv().unwrap().map(|handle| handle.id()), Some(id));

        let notes = Notes(sender.clone());
        let limited = runtime.go(move || {
            let waits = async move {
                let _notes = notes;
                pending::<()>().await;
            };
            assert_eq!(coro::timeout(SHORT, || waits.wait()), Err(Elapsed));
        });
        let id = limited.id();
        limited.join().unwrap();
        assert_eq!(receiver.recv().unwrap().map(|handle| handle.id()), Some(id));
        assert!(receiver.try_recv().is_err());
    });
}

#[test]
fn task_wait_passes_a_panic_on() {
    let _watchdog = common::watchdog();
    quiet();
    everywhere(|| {
        let dropped = Counter::default();
        let local = dropped.on_drop();
        let mut polls = 0;
        let payload = catch_unwind(AssertUnwindSafe(|| {
            coro::wait(poll_fn(|context| {
                let _local = &local;
                polls += 1;
                if polls == 3 {
                    planned("in a poll");
                }
                context.waker().wake_by_ref();
                Poll::<()>::Pending
            }))
        }));
        assert!(is_planned(&*payload.unwrap_err(), "in a poll"));
        drop(local);
        assert_eq!((polls, dropped.get()), (3, 1));
    });
}

/// Code in a poll may suspend in every way; wake-ups for the wait may come meanwhile.
#[test]
fn task_wait_for_a_future_that_suspends() {
    let _watchdog = common::watchdog();
    everywhere(|| {
        let mut polls = 0;
        let value = coro::wait(poll_fn(|context| {
            polls += 1;
            let waker = context.waker().clone();
            let other = coro::go(move || waker.wake());
            coro::yield_now();
            coro::sleep(Duration::from_micros(50));
            coro::park_timeout(Duration::from_micros(50));
            assert_eq!(coro::wait(ready(1)), 1);
            coro::wait(other).unwrap();
            context.waker().wake_by_ref();
            if polls == 5 { Poll::Ready(polls) } else { Poll::Pending }
        }));
        assert_eq!(value, 5);
    });
}

/// A poll that waits for something else may be woken in the middle of that, and the wake-up is not lost in
/// the other wait.
#[test]
fn task_wait_woken_while_its_poll_waits() {
    let _watchdog = common::watchdog();
    fn wakes(waker: Waker) -> JoinHandle<()> {
        coro::go(move || waker.wake())
    }
    // Each lets the waker be woken, and waits itself until that has happened.
    type Way = (&'static str, fn(Waker));
    let ways: [Way; 9] = [
        ("join", |waker| wakes(waker).join().unwrap()),
        ("scope", |waker| coro::scope(|s| drop(s.go(move || waker.wake())))),
        ("blocking", |waker| coro::blocking(move || waker.wake())),
        ("wait", |waker| coro::wait(wakes(waker)).unwrap()),
        ("join_next", |waker| {
            let mut set = coro::JoinSet::new();
            set.spawn(move || waker.wake());
            set.join_next().unwrap().unwrap();
        }),
        ("sleep", |waker| {
            let other = wakes(waker);
            while !other.is_finished() {
                coro::sleep(Duration::from_micros(100));
            }
        }),
        ("park", |waker| {
            let other = wakes(waker);
            while !other.is_finished() {
                coro::park_timeout(Duration::from_micros(100));
            }
        }),
        ("timeout", |waker| {
            let other = wakes(waker);
            while !other.is_finished() {
                let limited = coro::timeout(Duration::from_micros(100), || pending::<()>().wait());
                assert_eq!(limited, Err(Elapsed));
            }
        }),
        ("of a thread", |waker| {
            let (sender, receiver) = mpsc::channel();
            let other = thread::spawn(move || {
                waker.wake();
                sender.send(()).unwrap();
            });
            receiver.recv().unwrap();
            other.join().unwrap();
        }),
    ];
    everywhere(move || {
        for (name, way) in ways {
            let mut polls = 0;
            let waits = poll_fn(|context| {
                polls += 1;
                if polls == 2 {
                    return Poll::Ready(());
                }
                way(context.waker().clone());
                Poll::Pending
            });
            let limited = coro::timeout(common::PATIENCE, || waits.wait());
            assert_eq!(limited, Ok(()), "the wake-up is lost in another wait: {name}");
        }
    });
}

/// What a poll waits for itself is no reason to poll again. That it is over may be seen before the wake-up
/// comes which tells of it, and that one then is; so a few polls more are no fault, and one a wait is.
#[test]
fn task_wait_whose_poll_always_waits() {
    let _watchdog = common::watchdog();
    const ROUNDS: usize = 50;
    let ways: [(&str, fn()); 6] = [
        ("join", || coro::go(coro::yield_now).join().unwrap()),
        ("scope", || coro::scope(|s| drop(s.go(coro::yield_now)))),
        ("blocking", || coro::blocking(thread::yield_now)),
        ("sleep", || coro::sleep(Duration::from_micros(50))),
        ("park", || {
            let me = coro::current().unwrap();
            coro::go(move || me.unpark());
            coro::park();
        }),
        ("yield", coro::yield_now),
    ];
    common::on_workers(|runtime, _| {
        for (name, way) in ways {
            let (gate, place, polls) = (Gate::default(), Place::default(), Counter::default());
            let waits = runtime.go({
                let mut future = Box::pin(gated(&gate, &place, &polls));
                move || {
                    coro::wait(poll_fn(|context| {
                        way();
                        future.as_mut().poll(context)
                    }))
                }
            });
            let waker = place.wait();
            for _ in 0..ROUNDS {
                runtime.go(way).join().unwrap();
            }
            let polled = polls.get();
            assert!(
                polled < ROUNDS / 2,
                "polled on account of its own wait: {name}, {polled} times"
            );
            gate.open();
            waker.wake();
            waits.join().unwrap();
        }
    });
}

/// In handlers, in the destructor of what is stored, and in a destructor that a panic runs.
#[test]
fn task_wait_where_one_would_not_expect_it() {
    let _watchdog = common::watchdog();
    quiet();
    struct Waits(Counter);
    impl Drop for Waits {
        fn drop(&mut self) {
            coro::go(coro::yield_now).wait().unwrap();
            self.0.add();
        }
    }
    common::on_workers(|runtime, _| {
        let waited = Counter::default();
        let (stored, handled, local) = (Waits(waited.clone()), waited.clone(), waited.clone());
        let unwinds = runtime.go(move || {
            tls::set("stored", stored);
            tls::at_exit(move || drop(Waits(handled)));
            let _local = Waits(local);
            planned("with waits in destructors");
        });
        assert!(matches!(unwinds.join(), Err(JoinError::Panicked(_))));
        assert_eq!(waited.get(), 3);
    });
}

#[test]
fn task_wait_for_oneself_is_an_error() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, workers| {
        let (sender, receiver) = mpsc::channel::<JoinHandle<()>>();
        let (tell, told) = mpsc::channel();
        let oneself = runtime.go(move || {
            let oneself = receiver.recv().unwrap();
            let id = oneself.id();
            let outcome = coro::timeout(common::PATIENCE, || oneself.wait());
            tell.send((id, outcome)).unwrap();
        });
        sender.send(oneself).unwrap();
        match told.recv().unwrap() {
            (id, Ok(Err(JoinError::Panicked(payload)))) => {
                assert_eq!(common::message(&*payload), format!("coroutine {id} joined itself"));
            }
            (_, outcome) => panic!("{outcome:?} on {workers} workers"),
        }
    });
}

/// A wait allocates nothing: neither one that is ready at once nor one that is woken.
#[test]
fn task_wait_allocates_nothing() {
    let _watchdog = common::watchdog();
    fn some_waits() {
        for _ in 0..100 {
            coro::wait(ready(()));
            let mut polls = 0;
            coro::wait(poll_fn(|context| {
                polls += 1;
                let waker = context.waker().clone();
                waker.wake();
                if polls == 3 { Poll::Ready(()) } else { Poll::Pending }
            }));
        }
    }
    everywhere(|| {
        some_waits();
        // A worker's own queues may grow while this coroutine is suspended, but not for ever.
        let fewest = (0..20)
            .map(|_| {
                let before = allocations();
                some_waits();
                allocations() - before
            })
            .min();
        assert_eq!(fewest, Some(0));
    });
}

thread_local! {
    /// A raw coroutine that the tasks of one worker share.
    static SHARED: RefCell<Option<Coroutine<(), (), u32>>> = const { RefCell::new(None) };
}

/// Resumes it in a new task.
fn resume(runtime: &Runtime) -> JoinHandle<State<(), u32>> {
    runtime.go(|| {
        let shared = SHARED.take().unwrap();
        let state = shared.resume(());
        SHARED.set(Some(shared));
        state
    })
}

/// A poll that suspends its raw coroutine is resumed by another task. The waker that it was given
/// is that of a task that is gone by then; whoever resumed it is to be woken all the same.
#[test]
fn task_wait_that_changes_hands_within_a_poll() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(1);
    let (gate, place, polls) = (Gate::default(), Place::default(), Counter::default());
    let make = {
        let mut future = Box::pin(gated(&gate, &place, &polls));
        move || {
            let raw_coroutine = common::raw(64 * 1024, move |yielder, ()| {
                coro::wait(poll_fn(|context| {
                    if polls.get() == 0 {
                        yielder.suspend(());
                    }
                    future.as_mut().poll(context)
                }));
                1
            });
            SHARED.set(Some(raw_coroutine.unwrap()));
        }
    };
    runtime.go(make).join().unwrap();
    assert_eq!(resume(&runtime).join().unwrap(), State::Yielded(()));
    let second = resume(&runtime);
    // Until it has been polled and waits, all of which is on the only worker.
    let waker = place.wait();
    runtime.go(|| ()).join().unwrap();
    gate.open();
    // The last waker that it has left, as a future owes it.
    place.take().unwrap_or(waker).wake();
    let patience = std::time::Instant::now() + common::PATIENCE;
    while !second.is_finished() {
        assert!(std::time::Instant::now() < patience, "the wake-up went to a task that is gone");
        coro::yield_now();
    }
    assert_eq!(second.join().unwrap(), State::Done(1));
}

/// A poll suspends its raw coroutine, and the task waits for something else before it goes on with it: that
/// wait has taken the wake-up.
#[test]
fn task_wait_that_its_task_leaves_and_comes_back_to() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let comes_back = runtime.go(|| {
            let place = Place::default();
            let leaves = place.clone();
            let raw_coroutine = common::raw(64 * 1024, move |yielder, ()| {
                let mut polls = 0;
                coro::wait(poll_fn(|context| {
                    polls += 1;
                    if polls == 2 {
                        return Poll::Ready(());
                    }
                    leaves.put(context.waker());
                    yielder.suspend(());
                    Poll::Pending
                }));
                polls
            })
            .unwrap();
            assert_eq!(raw_coroutine.resume(()), State::Yielded(()));
            let waker = place.take().unwrap();
            let other = coro::go(move || {
                waker.wake();
                // The task looks round on account of that, before it is told of the end.
                (0..3).for_each(|_| coro::yield_now());
            });
            coro::wait(other).unwrap();
            let limited = coro::timeout(common::PATIENCE, || raw_coroutine.resume(()));
            assert_eq!(limited, Ok(State::Done(2)), "the wake-up is lost");
        });
        comes_back.join().unwrap();
    });
}

/// One task after another resumes it between two waits; each is the one that is woken.
#[test]
fn task_wait_that_changes_hands_between_polls() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(1);
    let place = Place::default();
    let make = {
        let place = place.clone();
        move || {
            let raw_coroutine = common::raw(64 * 1024, move |yielder, ()| {
                for _ in 0..20 {
                    let mut asked = false;
                    coro::wait(poll_fn(|context| {
                        if std::mem::replace(&mut asked, true) {
                            return Poll::Ready(());
                        }
                        place.put(context.waker());
                        Poll::Pending
                    }));
                    yielder.suspend(());
                }
                20
            });
            SHARED.set(Some(raw_coroutine.unwrap()));
        }
    };
    runtime.go(make).join().unwrap();
    let mut former = Vec::new();
    for _ in 0..20 {
        let waits = resume(&runtime);
        let waker = place.wait();
        // Those of tasks that are gone are as good as none.
        former.iter().for_each(Waker::wake_by_ref);
        waker.wake_by_ref();
        former.push(waker);
        assert_eq!(waits.join().unwrap(), State::Yielded(()));
    }
    assert_eq!(resume(&runtime).join().unwrap(), State::Done(20));
}

/// A waker of the user's whose destructor is the last that runs for a coroutine: it was polled for with
/// it, and its handle is gone. It may use the coroutine that it runs in, keep its handle, suspend and
/// panic.
#[test]
fn task_wait_waker_with_a_destructor() {
    let _watchdog = common::watchdog();
    const TEST: &str = "task_wait_waker_with_a_destructor";
    static KEPT: Mutex<Vec<coro::Handle>> = Mutex::new(Vec::new());
    struct Last(&'static str, Counter);
    impl Wake for Last {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for Last {
        fn drop(&mut self) {
            self.1.add();
            match self.0 {
                "keeps" => KEPT.lock().unwrap().extend(coro::current()),
                "suspends" => {
                    coro::yield_now();
                    coro::sleep(Duration::from_millis(1));
                    coro::go(|| ()).join().unwrap();
                }
                _ => planned("in the destructor of a waker"),
            }
        }
    }
    const HOW: [&str; 3] = ["keeps", "suspends", "panics"];
    for how in HOW {
        if common::is_child(how) {
            let _watchdog = common::watchdog_for(common::CHILDS_LIMIT);
            quiet();
            common::on_workers(|runtime, _| {
                for _ in 0..100 {
                    let (gate, dropped) = (Gate::default(), Counter::default());
                    let mut handle = runtime.go({
                        let gate = gate.clone();
                        move || gate.pass()
                    });
                    let waker = Waker::from(Arc::new(Last(how, dropped.clone())));
                    let mut context = Context::from_waker(&waker);
                    assert!(Pin::new(&mut handle).poll(&mut context).is_pending());
                    drop((waker, handle));
                    gate.open();
                    dropped.wait_for(1);
                    // What is freed too early is soon somebody else's.
                    let others: Vec<_> = (0..8u64).map(|n| runtime.go(move || n)).collect();
                    for kept in KEPT.lock().unwrap().drain(..) {
                        while !kept.is_finished() {
                            coro::yield_now();
                        }
                        kept.unpark();
                        kept.cancel();
                    }
                    for (n, other) in (0..).zip(others) {
                        assert_eq!(other.join().unwrap(), n, "the worker lives");
                    }
                }
            });
            return;
        }
    }
    if common::child_case().is_none() {
        for how in HOW {
            let output = common::child(TEST, how);
            let stderr = common::stderr(&output);
            assert!(output.status.success(), "a waker that {how}: {}\n{stderr}", output.status);
        }
    }
}

/// Wakers that suspend in `wake`, in a crowd of coroutines that end meanwhile: the worker does not mistake
/// one for another, and at the end none is forgotten.
#[test]
fn task_wait_wakers_that_suspend_in_a_crowd() {
    let _watchdog = common::watchdog();
    const TEST: &str = "task_wait_wakers_that_suspend_in_a_crowd";
    struct Suspends(usize, Counter);
    impl Wake for Suspends {
        fn wake(self: Arc<Self>) {
            (0..self.0).for_each(|_| coro::yield_now());
            self.1.add();
        }
    }
    if common::is_child("crowd") {
        let _watchdog = common::watchdog_for(common::CHILDS_LIMIT);
        common::on_workers(|runtime, workers| {
            let (woken, begun, dropped) =
                (Counter::default(), Counter::default(), Counter::default());
            let mut polled = Vec::new();
            for n in 0..50 {
                let gate = Gate::default();
                let mut handle = runtime.go({
                    let gate = gate.clone();
                    move || gate.pass()
                });
                let waker = Waker::from(Arc::new(Suspends(n % 7, woken.clone())));
                assert!(Pin::new(&mut handle).poll(&mut Context::from_waker(&waker)).is_pending());
                polled.push((gate, handle));
                // Some that end in between, and some that stay.
                runtime.go(coro::yield_now);
                let (begun, local) = (begun.clone(), dropped.on_drop());
                runtime.go(move || {
                    let _local = local;
                    begun.add();
                    loop {
                        coro::park();
                    }
                });
            }
            begun.wait_for(50);
            polled.iter().for_each(|(gate, _)| gate.open());
            woken.wait_for(50);
            polled.into_iter().for_each(|(_, handle)| handle.join().unwrap());
            runtime.shutdown();
            assert_eq!(dropped.get(), 50, "all that stayed were cancelled, on {workers} workers");
        });
        return;
    }
    let output = common::child(TEST, "crowd");
    assert!(output.status.success(), "{}\n{}", output.status, common::stderr(&output));
}

/// Awaits what is always ready, for ever.
fn wait_for_ever() -> ! {
    loop {
        coro::wait(ready(()));
    }
}

/// A loop of waits that never have to wait can be interrupted.
#[test]
fn task_wait_on_what_is_always_ready_is_interrupted() {
    let _watchdog = common::watchdog();
    let times_out = || {
        let outcome = coro::timeout(Duration::from_millis(1), || -> () { wait_for_ever() });
        assert_eq!(outcome, Err(Elapsed));
    };
    let in_raw = move || {
        let body = |_: &coro::raw::Yielder<(), ()>, ()| times_out();
        coro::raw::with(1, body, |raw| _ = raw.resume(())).unwrap();
        times_out();
    };
    times_out();
    in_raw();
    common::on_workers(|runtime, _| {
        runtime.go(times_out).join().unwrap();
        runtime.go(in_raw).join().unwrap();
        let begun = Counter::default();
        let for_ever = runtime.go({
            let begun = begun.clone();
            move || -> () {
                begun.add();
                wait_for_ever()
            }
        });
        begun.wait_for(1);
        for_ever.cancel();
        common::assert_cancelled(for_ever.join());
    });
}

/// It starves nobody, and a shutdown reaches it.
#[test]
fn task_wait_on_what_is_always_ready_lets_others_go_first() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(1);
    let begun = Counter::default();
    let for_ever = |in_raw: bool| {
        let begun = begun.clone();
        runtime.go(move || {
            begun.add();
            if in_raw {
                let body = |_: &coro::raw::Yielder<(), ()>, ()| wait_for_ever();
                coro::raw::with(1, body, |raw| _ = raw.resume(())).unwrap();
            }
            wait_for_ever();
        })
    };
    let tasks: [JoinHandle<()>; 2] = [for_ever(false), for_ever(true)];
    begun.wait_for(2);
    runtime.go(|| coro::sleep(Duration::from_millis(1))).join().unwrap();
    drop(runtime);
    tasks.into_iter().for_each(|task| common::assert_cancelled(task.join()));
}

/// The value of a future that was ready is not lost to a cancellation.
#[test]
fn task_wait_loses_no_value_to_an_interruption() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (polled, taken) = (Counter::default(), Counter::default());
        let task = runtime.go({
            let (polled, taken) = (polled.clone(), taken.clone());
            move || -> () {
                loop {
                    coro::wait(poll_fn(|_| {
                        polled.add();
                        Poll::Ready(())
                    }));
                    taken.add();
                }
            }
        });
        polled.wait_for(1_000);
        task.cancel();
        common::assert_cancelled(task.join());
        assert_eq!(polled.get(), taken.get());
    });
}

/// Where a suspension would panic, nobody steps aside.
#[test]
fn task_wait_does_not_step_aside_in_a_no_suspend() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let waits = || (0..10_000).for_each(|_| coro::wait(ready(())));
        runtime.go(move || coro::no_suspend(waits)).join().unwrap();
    });
}
