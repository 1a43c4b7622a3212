//! Sets of coroutines: every member comes out exactly once, in the order of their ends, whatever it ends
//! with, and whatever is done to the set meanwhile.

use std::future::pending;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Wake, Waker};
use std::thread;

use coro::{Builder, JoinError, JoinHandle, JoinSet};

use crate::common::{self, Counter, Gate, OnDrop, is_planned, planned, quiet};

/// Runs `f` on a plain thread, whose sets are on the default runtime, and in a coroutine of each
/// runtime that matters.
fn everywhere(f: impl Fn() + Clone + Send + 'static) {
    f();
    common::on_workers(|runtime, _| runtime.go(f.clone()).join().unwrap());
}

/// Joins all that are left.
fn drain<T: Send + 'static>(set: &mut JoinSet<T>) -> Vec<Result<T, JoinError>> {
    std::iter::from_fn(|| set.join_next()).collect()
}

/// A member that parks until it is cancelled.
fn parks_forever(begun: Counter, local: OnDrop) -> impl FnOnce() + Send + 'static {
    move || {
        let _local = local;
        begun.add();
        loop {
            coro::park();
        }
    }
}

/// A waker that counts.
struct Counts(Counter);

impl Wake for Counts {
    fn wake(self: Arc<Self>) {
        self.0.add();
    }
}

#[test]
fn task_join_set_gives_every_member_once() {
    let _watchdog = common::watchdog();
    everywhere(|| {
        let mut set = JoinSet::new();
        assert!(set.is_empty() && set.join_next().is_none() && set.try_join_next().is_none());
        for n in 0..1000usize {
            set.spawn(move || {
                (0..n % 3).for_each(|_| coro::yield_now());
                n
            });
            assert_eq!(set.len(), n + 1);
        }
        let mut seen = vec![false; 1000];
        for left in (0..1000).rev() {
            let n = set.join_next().unwrap().unwrap();
            assert!(!std::mem::replace(&mut seen[n], true), "{n} came twice");
            assert_eq!(set.len(), left);
        }
        assert!(set.is_empty() && set.join_next().is_none() && set.try_join_next().is_none());
    });
}

/// One after another is let go, in an order that has nothing to do with that of spawning.
#[test]
fn task_join_set_gives_them_in_the_order_of_their_ends() {
    let _watchdog = common::watchdog();
    everywhere(|| {
        const N: usize = 31;
        let gates: Vec<Gate> = (0..N).map(|_| Gate::default()).collect();
        let mut set = JoinSet::new();
        for (n, gate) in gates.iter().cloned().enumerate() {
            set.spawn(move || {
                gate.pass();
                n
            });
        }
        for step in 0..N {
            let n = step * 12 % N;
            assert!(set.try_join_next().is_none(), "nobody else has ended");
            gates[n].open();
            assert_eq!(set.join_next().unwrap().unwrap(), n);
        }
        // And where nobody waits meanwhile.
        let gates: Vec<Gate> = (0..N).map(|_| Gate::default()).collect();
        let ends = Counter::default();
        for (n, gate) in gates.iter().cloned().enumerate() {
            let ends = ends.clone();
            set.spawn(move || {
                gate.pass();
                // The member after this one is let go when this one is over.
                coro::tls::at_exit(move || ends.add());
                n
            });
        }
        let mut order = Vec::new();
        for step in 0..N {
            gates[step * 7 % N].open();
            ends.wait_for(step + 1);
            while order.len() <= step {
                match set.try_join_next() {
                    Some(ended) => order.push(ended.unwrap()),
                    None => coro::yield_now(),
                }
            }
        }
        assert_eq!(order, (0..N).map(|step| step * 7 % N).collect::<Vec<_>>());
        assert!(set.is_empty());
    });
}

/// At most eight at a time, 5,000 in all: places are used again and again.
#[test]
fn task_join_set_refilled() {
    let _watchdog = common::watchdog();
    everywhere(|| {
        const MEMBERS: usize = 5000;
        let mut set = JoinSet::new();
        let (mut spawned, mut sum) = (0, 0);
        while spawned < MEMBERS || !set.is_empty() {
            let room = (1 + spawned % 8).saturating_sub(set.len()).min(MEMBERS - spawned);
            for _ in 0..room {
                let n = spawned;
                set.spawn(move || {
                    (0..n % 4).for_each(|_| coro::yield_now());
                    n
                });
                spawned += 1;
            }
            let next = if spawned % 3 == 0 { set.try_join_next() } else { set.join_next() };
            match next {
                Some(ended) => sum += ended.unwrap(),
                None => coro::yield_now(),
            }
        }
        assert_eq!(sum, MEMBERS * (MEMBERS - 1) / 2);
    });
}

#[test]
fn task_join_set_of_every_end() {
    let _watchdog = common::watchdog();
    quiet();
    everywhere(|| {
        let (made, dropped) = (300, Counter::default());
        let mut set = JoinSet::new();
        for n in 0..made {
            let (local, value) = (dropped.on_drop(), dropped.on_drop());
            set.spawn(move || {
                let _local = local;
                match n % 3 {
                    0 => {}
                    1 => planned("a member"),
                    _ => {
                        coro::current().unwrap().cancel();
                        coro::yield_now();
                    }
                }
                (n, value)
            });
        }
        let (mut values, mut panics, mut cancels) = (0, 0, 0);
        for ended in drain(&mut set) {
            match ended {
                Ok((n, _)) => {
                    assert_eq!(n % 3, 0);
                    values += 1;
                }
                Err(JoinError::Panicked(payload)) => {
                    assert!(is_planned(&*payload, "a member"));
                    panics += 1;
                }
                Err(JoinError::Cancelled) => cancels += 1,
            }
        }
        assert_eq!((values, panics, cancels, dropped.get()), (100, 100, 100, 600));
    });
}

/// Dropping a set cancels what is in it: what is parked is unwound, what is fresh is dropped unrun, what
/// has ended is dropped with its value, also where that panics.
#[test]
fn task_join_set_dropped_with_members() {
    let _watchdog = common::watchdog();
    quiet();
    struct Value(bool, #[allow(dead_code)] OnDrop);
    impl Drop for Value {
        fn drop(&mut self) {
            if self.0 {
                planned("in a value's destructor");
            }
        }
    }
    common::on_workers(|runtime, workers| {
        for panics in [false, true] {
            let (begun, dropped, ran) =
                (Counter::default(), Counter::default(), Counter::default());
            let mut set = JoinSet::new();
            for n in 0..20 {
                let value = Value(panics && n == 7, dropped.on_drop());
                set.insert(runtime.go(move || value));
            }
            while set.members_that_ended() < 20 {
                coro::yield_now();
            }
            for _ in 0..20 {
                let (begun, local) = (begun.clone(), dropped.on_drop());
                set.insert(runtime.go(move || {
                    let _local = local;
                    begun.add();
                    loop {
                        coro::park();
                    }
                }));
            }
            begun.wait_for(20);
            let occupied = common::occupy(runtime, workers);
            for _ in 0..20 {
                let (ran, local) = (ran.clone(), dropped.on_drop());
                set.insert(runtime.go(move || {
                    ran.add();
                    Value(false, local)
                }));
            }
            assert_eq!(set.len(), 60);
            let outcome = catch_unwind(AssertUnwindSafe(|| drop(set)));
            assert_eq!(outcome.is_err(), panics);
            drop(occupied);
            dropped.wait_for(60);
            assert_eq!((dropped.get(), ran.get()), (60, 0), "on {workers} workers");
        }
    });
}

/// For tests: how many members have ended, without taking any out.
trait Ended {
    fn members_that_ended(&self) -> usize;
}

impl<T> Ended for JoinSet<T> {
    fn members_that_ended(&self) -> usize {
        format!("{self:?}").matches("finished: true").count()
    }
}

#[test]
fn task_join_set_cancel_all() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (begun, dropped) = (Counter::default(), Counter::default());
        let mut set = JoinSet::new();
        (0..10).for_each(|_| set.insert(runtime.go(|| ())));
        while set.members_that_ended() < 10 {
            coro::yield_now();
        }
        for _ in 0..50 {
            set.insert(runtime.go(parks_forever(begun.clone(), dropped.on_drop())));
        }
        begun.wait_for(50);
        set.cancel_all();
        #[expect(deprecated, reason = "the former name does the same")]
        set.abort_all();
        assert_eq!(set.len(), 60, "they stay in the set");
        let outcomes = drain(&mut set);
        let values = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        let cancels =
            outcomes.iter().filter(|outcome| matches!(outcome, Err(JoinError::Cancelled))).count();
        assert_eq!((values, cancels, dropped.get()), (10, 50, 50));
        // It is a set as any other.
        set.insert(runtime.go(|| ()));
        assert!(set.join_next().unwrap().is_ok());
    });
}

/// Detached members go on, and what ends of them later is not mistaken for a member that came after.
#[test]
fn task_join_set_detach_all() {
    let _watchdog = common::watchdog();
    everywhere(|| {
        let (gate, ended) = (Gate::default(), Counter::default());
        let mut set = JoinSet::new();
        for _ in 0..20 {
            let (gate, ended) = (gate.clone(), ended.clone());
            set.spawn(move || {
                gate.pass();
                ended.add();
                "old"
            });
        }
        set.spawn(|| "over");
        while set.members_that_ended() < 1 {
            coro::yield_now();
        }
        set.detach_all();
        assert!(set.is_empty() && set.join_next().is_none() && set.try_join_next().is_none());
        let late = Gate::default();
        for _ in 0..20 {
            let late = late.clone();
            set.spawn(move || {
                late.pass();
                "new"
            });
        }
        gate.open();
        ended.wait_for(20);
        coro::yield_now();
        assert!(set.try_join_next().is_none());
        late.open();
        let outcomes = drain(&mut set);
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok("new"))));
        assert_eq!(outcomes.len(), 20);
    });
}

/// A coroutine that waits for the end of others and, after them, for its own.
#[test]
fn task_join_set_with_the_caller_in_it() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (to_coroutine, from_test) = mpsc::channel::<JoinHandle<()>>();
        let (to_test, from_coroutine) = mpsc::channel();
        let own = runtime.go(move || {
            let own = loop {
                match from_test.try_recv() {
                    Ok(own) => break own,
                    Err(_) => coro::yield_now(),
                }
            };
            let mut set = JoinSet::new();
            set.insert(own);
            set.spawn(coro::yield_now);
            assert!(set.join_next().unwrap().is_ok(), "first the other");
            assert!(matches!(set.join_next(), Some(Err(JoinError::Panicked(_)))));
            assert!(set.is_empty() && set.join_next().is_none());
            to_test.send((coro::current().unwrap(), set)).unwrap();
        });
        to_coroutine.send(own).unwrap();
        let (ended, mut set) = from_coroutine.recv().unwrap();
        while !ended.is_finished() {
            coro::yield_now();
        }
        // Its end is nobody's affair, and not that of whoever has its place now.
        let gate = Gate::default();
        let passed = gate.clone();
        set.spawn(move || passed.pass());
        assert!(set.try_join_next().is_none());
        gate.open();
        assert!(set.join_next().unwrap().is_ok());
    });
}

/// What is inserted may have a name and a runtime of its own, may have ended, and may have been polled.
#[test]
fn task_join_set_insert() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (gate, wakes) = (Gate::default(), Counter::default());
        let mut set = JoinSet::new();
        let ended = runtime.go(|| 1);
        while !ended.is_finished() {
            coro::yield_now();
        }
        set.insert(ended);
        set.insert(Builder::new().name("two").stack_size(1 << 20).spawn(|| 2).unwrap());
        let mut polled = runtime.go({
            let gate = gate.clone();
            move || {
                gate.pass();
                3
            }
        });
        let waker = Waker::from(Arc::new(Counts(wakes.clone())));
        let poll = std::pin::Pin::new(&mut polled);
        assert!(std::future::Future::poll(poll, &mut Context::from_waker(&waker)).is_pending());
        set.insert(polled);
        assert_eq!(set.join_next().unwrap().unwrap(), 1, "it had ended before");
        assert_eq!(set.join_next().unwrap().unwrap(), 2);
        assert!(set.try_join_next().is_none());
        gate.open();
        assert_eq!(set.join_next().unwrap().unwrap(), 3);
        assert_eq!(wakes.get(), 0, "the set's waker took the place of the other");
    });
}

/// What is inserted may have been polled with a waker whose destructor lets it end, or unwinds. Then the
/// set is as it was; otherwise the member comes out, once.
#[test]
fn task_join_set_insert_drops_the_waker_of_an_earlier_poll() {
    let _watchdog = common::watchdog();
    quiet();
    struct Last {
        lets_end: Option<(Gate, coro::Handle)>,
        unwinds: bool,
    }
    impl Wake for Last {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for Last {
        fn drop(&mut self) {
            if let Some((gate, member)) = &self.lets_end {
                gate.open();
                while !member.is_finished() {
                    coro::yield_now();
                }
            }
            if self.unwinds {
                planned("in the destructor of a waker");
            }
        }
    }
    everywhere(|| {
        for (ends, unwinds) in [(false, false), (true, false), (false, true), (true, true)] {
            let gate = Gate::default();
            let mut set = JoinSet::new();
            let passes = gate.clone();
            let mut polled = coro::go(move || passes.pass());
            let lets_end = ends.then(|| (gate.clone(), polled.handle()));
            let waker = Waker::from(Arc::new(Last { lets_end, unwinds }));
            let poll = std::pin::Pin::new(&mut polled);
            assert!(std::future::Future::poll(poll, &mut Context::from_waker(&waker)).is_pending());
            drop(waker);
            let outcome = catch_unwind(AssertUnwindSafe(|| set.insert(polled)));
            assert_eq!(outcome.is_err(), unwinds);
            let members = usize::from(!unwinds);
            assert_eq!(set.len(), members);
            gate.open();
            set.spawn(|| ());
            assert_eq!(drain(&mut set).len(), members + 1);
        }
    });
}

/// A waker that panics whenever a clone of it is dropped: no member is lost by that.
#[test]
fn task_join_set_polled_with_a_waker_that_cannot_be_dropped() {
    static ILL: RawWakerVTable = RawWakerVTable::new(
        |data| RawWaker::new(data, &ILL),
        |_| (),
        |_| (),
        |_| planned("in the drop of a waker"),
    );
    let _watchdog = common::watchdog();
    quiet();
    everywhere(|| {
        // SAFETY: its functions do nothing with the data.
        let waker = ManuallyDrop::new(unsafe { Waker::new(std::ptr::null(), &ILL) });
        let mut context = Context::from_waker(&waker);
        let gate = Gate::default();
        let passes = gate.clone();
        let mut set = JoinSet::new();
        set.spawn(move || passes.pass());
        assert!(set.poll_join_next(&mut context).is_pending());
        // In place of the former, which is dropped.
        assert!(catch_unwind(AssertUnwindSafe(|| set.poll_join_next(&mut context))).is_err());
        gate.open();
        let ended = loop {
            match catch_unwind(AssertUnwindSafe(|| set.poll_join_next(&mut context))) {
                Ok(ended) => break ended,
                // It has not ended, so there was a former one once more.
                Err(_) => coro::yield_now(),
            }
        };
        assert!(matches!(ended, Poll::Ready(Some(Ok(())))));
        assert!(set.is_empty());
    });
}

/// Only the last of the wakers that it was polled with is woken, once.
#[test]
fn task_join_set_polled_with_changing_wakers() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let gate = Gate::default();
        let counters: Vec<Counter> = (0..5).map(|_| Counter::default()).collect();
        let mut set = JoinSet::new();
        for _ in 0..3 {
            let gate = gate.clone();
            set.insert(runtime.go(move || gate.pass()));
        }
        for counter in &counters {
            let waker = Waker::from(Arc::new(Counts(counter.clone())));
            assert!(set.poll_join_next(&mut Context::from_waker(&waker)).is_pending());
        }
        gate.open();
        counters[4].wait_for(1);
        assert_eq!(drain(&mut set).len(), 3);
        let counts: Vec<_> = counters.iter().map(Counter::get).collect();
        assert_eq!(counts, [0, 0, 0, 0, 1]);
        let waker = Waker::from(Arc::new(Counts(counters[0].clone())));
        let poll = set.poll_join_next(&mut Context::from_waker(&waker));
        assert!(matches!(poll, Poll::Ready(None)));
    });
}

/// Whoever waits for a member may be anybody's code: it panics, suspends, or looks into the set.
#[test]
fn task_join_set_wakes_anybody() {
    let _watchdog = common::watchdog();
    quiet();
    struct Odd(u32, Counter, Mutex<Option<JoinSet<u32>>>);
    impl Wake for Odd {
        fn wake(self: Arc<Self>) {
            self.1.add();
            match self.0 {
                0 => planned("in a waker"),
                1 => {
                    coro::yield_now();
                    coro::sleep(std::time::Duration::from_micros(100));
                }
                _ => {
                    let mut inner = self.2.lock().unwrap().take().unwrap();
                    assert_eq!(drain(&mut inner).len(), 3);
                }
            }
            self.1.add();
        }
    }
    common::on_workers(|runtime, _| {
        for how in 0..3 {
            let (gate, calls) = (Gate::default(), Counter::default());
            let mut set = JoinSet::new();
            for n in 0..5 {
                let gate = gate.clone();
                set.insert(runtime.go(move || {
                    gate.pass();
                    n
                }));
            }
            let mut inner = JoinSet::new();
            (0..3).for_each(|n| inner.insert(runtime.go(move || n)));
            let odd = Arc::new(Odd(how, calls.clone(), Mutex::new(Some(inner))));
            let waker = Waker::from(odd);
            assert!(set.poll_join_next(&mut Context::from_waker(&waker)).is_pending());
            gate.open();
            calls.wait_for(if how == 0 { 1 } else { 2 });
            let sum: u32 = drain(&mut set).into_iter().map(Result::unwrap).sum();
            assert_eq!(sum, 10);
        }
    });
}

/// A set may be filled in one place and emptied in another: by threads, by coroutines.
#[test]
fn task_join_set_travels() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let mut set = JoinSet::new();
        (0..100u32).for_each(|n| set.insert(runtime.go(move || n)));
        let mut sum = 0;
        for _ in 0..10 {
            let (back, returned) = mpsc::channel();
            let take = move |mut set: JoinSet<u32>| {
                let sum: u32 = (0..5).map(|_| set.join_next().unwrap().unwrap()).sum();
                back.send((set, sum)).unwrap();
            };
            let other = take.clone();
            let joined = runtime.go(move || take(set));
            let (half, part) = returned.recv().unwrap();
            sum += part;
            joined.join().unwrap();
            thread::spawn(move || other(half)).join().unwrap();
            let (rest, part) = returned.recv().unwrap();
            sum += part;
            set = rest;
        }
        assert!(set.is_empty());
        assert_eq!(sum, 4950);
    });
}

/// A member that is cancelled while its owner is; neither loses the other members.
#[test]
fn task_join_set_whose_owner_is_cancelled() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (begun, dropped, waiting) =
            (Counter::default(), Counter::default(), Counter::default());
        let owner = runtime.go({
            let (begun, dropped, waiting) = (begun.clone(), dropped.clone(), waiting.clone());
            move || {
                let mut set = JoinSet::new();
                for _ in 0..20 {
                    set.spawn(parks_forever(begun.clone(), dropped.on_drop()));
                }
                waiting.add();
                let swallowed = catch_unwind(AssertUnwindSafe(|| set.join_next()));
                assert!(swallowed.is_err());
                assert_eq!(set.len(), 20, "no member is lost by that");
                set.cancel_all();
                drain(&mut set).len()
            }
        });
        waiting.wait_for(1);
        begun.wait_for(20);
        owner.cancel();
        assert_eq!(owner.join().unwrap(), 20);
        assert_eq!(dropped.get(), 20);
    });
}

/// The handle that `spawn` gives is that of the member.
#[test]
fn task_join_set_cancels_one() {
    let _watchdog = common::watchdog();
    everywhere(|| {
        let mut set = JoinSet::new();
        let handles: Vec<_> = (0..5)
            .map(|i| {
                set.spawn(move || {
                    coro::park();
                    i
                })
            })
            .collect();
        handles[3].cancel();
        assert!(set.join_next().unwrap().unwrap_err().is_cancelled());
        assert!(handles[3].is_finished() && set.len() == 4);
        handles.iter().for_each(coro::Handle::unpark);
        let mut left: Vec<_> = drain(&mut set).into_iter().map(Result::unwrap).collect();
        left.sort();
        assert_eq!(left, [0, 1, 2, 4]);
    });
}

/// A value of a member that has ended panics in its `Drop`: the panic is that of who drops the set, and
/// the others are cancelled and dropped.
#[test]
fn task_join_set_dropped_with_a_value_that_panics() {
    let _watchdog = common::watchdog();
    quiet();
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            planned("a value");
        }
    }
    everywhere(|| {
        let mut set = JoinSet::new();
        let parked: Vec<_> = (0..2).map(|_| set.spawn(|| coro::wait(pending()))).collect();
        let ended = set.spawn(|| Panics);
        let more = set.spawn(|| coro::wait(pending()));
        while !ended.is_finished() {
            coro::yield_now();
        }
        let caught = catch_unwind(AssertUnwindSafe(|| drop(set))).unwrap_err();
        assert!(is_planned(&*caught, "a value"));
        for handle in parked.iter().chain([&more]) {
            while !handle.is_finished() {
                coro::yield_now();
            }
        }
    });
}
