//! Joining: from a thread, from a coroutine, as a future; what comes back; and what happens to values,
//! payloads and wakers whose own code panics.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::any::Any;
use std::cell::RefCell;
use std::collections::HashSet;
use std::future::{Future, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind, panic_any};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicIsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use coro::raw::{Coroutine, State};
use coro::{Builder, Handle, JoinError, JoinHandle, Runtime, tls};

use common::{Counter, Gate, Payload};

/// A waker that counts, and passes the wake-up on to a thread.
struct Wakes {
    count: Counter,
    thread: thread::Thread,
}

impl Wakes {
    fn waker() -> (Waker, Counter) {
        let count = Counter::default();
        let wakes = Wakes { count: count.clone(), thread: thread::current() };
        (Waker::from(Arc::new(wakes)), count)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.count.add();
        self.thread.unpark();
    }
}

fn poll<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}

/// A small executor, as somebody else would write it.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let (waker, _) = Wakes::waker();
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

fn panicked(outcome: Result<impl Sized, JoinError>) -> Box<dyn Any + Send> {
    match outcome {
        Err(JoinError::Panicked(payload)) => payload,
        Err(JoinError::Cancelled) => panic!("it was cancelled"),
        Ok(_) => panic!("it gave a value"),
    }
}

#[test]
fn task_join_from_a_thread_a_coroutine_and_a_future() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        for gated in [false, true] {
            let spawn = |gate: &Gate| {
                let gate = gate.clone();
                runtime.go(move || {
                    gate.pass();
                    vec![String::from("a value")]
                })
            };
            let open_later = |gate: Gate| {
                if gated { drop(runtime.go(move || gate.open())) } else { gate.open() }
            };
            let expected = [String::from("a value")];

            let gate = Gate::default();
            let by_thread = spawn(&gate);
            open_later(gate);
            assert_eq!(by_thread.join().unwrap(), expected);

            let gate = Gate::default();
            let by_coroutine = spawn(&gate);
            open_later(gate);
            assert_eq!(runtime.go(|| by_coroutine.join().unwrap()).join().unwrap(), expected);

            let gate = Gate::default();
            let by_future = spawn(&gate);
            open_later(gate);
            assert_eq!(block_on(by_future).unwrap(), expected);

            let gate = Gate::default();
            let by_async_block = spawn(&gate);
            open_later(gate);
            assert_eq!(block_on(async { by_async_block.await.unwrap().len() }), 1);
        }
    });
}

#[test]
fn task_join_after_the_end_returns_at_once() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let handle = runtime.go(|| 5);
        while !handle.is_finished() {
            coro::yield_now();
        }
        assert!(handle.handle().is_finished());
        assert_eq!(handle.join().unwrap(), 5);

        let mut handle = runtime.go(|| 6);
        while !handle.is_finished() {
            coro::yield_now();
        }
        let (waker, count) = Wakes::waker();
        assert!(matches!(poll(&mut handle, &waker), Poll::Ready(Ok(6))));
        assert_eq!(count.get(), 0, "nobody had to be woken");
    });
}

#[test]
fn task_join_returns_after_cleanup() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let gate = Gate::default();
        let cleaned = Counter::default();
        let handle = runtime.go({
            let (gate, cleaned) = (gate.clone(), cleaned.clone());
            move || {
                tls::set("counted", cleaned.on_drop());
                tls::at_exit(move || {
                    cleaned.add();
                    gate.pass();
                });
            }
        });
        cleaned.wait_for(1);
        assert!(!handle.is_finished() && !handle.handle().is_finished());
        gate.open();
        handle.join().unwrap();
        assert_eq!(cleaned.get(), 2);
    });
}

#[test]
fn task_join_oneself_is_an_error() {
    let _watchdog = common::watchdog();
    fn joins_itself(runtime: &Runtime, join: fn(JoinHandle<u32>) -> Result<u32, JoinError>) {
        let (sender, receiver) = mpsc::channel::<JoinHandle<u32>>();
        let (tell, told) = mpsc::channel();
        let mine = runtime.go(move || {
            let mine = receiver.recv().unwrap();
            tell.send((mine.id(), panicked(join(mine)))).unwrap();
            1
        });
        let control = mine.handle();
        sender.send(mine).unwrap();
        let (id, payload) = told.recv().unwrap();
        assert_eq!(common::message(&*payload), format!("coroutine {id} joined itself"));
        while !control.is_finished() {
            coro::yield_now();
        }
    }
    common::on_workers(|runtime, _| {
        joins_itself(runtime, JoinHandle::join);
        joins_itself(runtime, |handle| {
            // In a raw coroutine it is still the same task that would wait.
            let raw_coroutine =
                common::raw::<_, (), _>(65536, |_, handle| JoinHandle::join(handle)).unwrap();
            match raw_coroutine.resume(handle) {
                coro::raw::State::Done(outcome) => outcome,
                coro::raw::State::Yielded(()) => unreachable!("it never suspends itself"),
            }
        });
    });
}

#[test]
fn task_join_oneself_in_a_handler_is_an_error() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (sender, receiver) = mpsc::channel::<JoinHandle<()>>();
        let (tell, told) = mpsc::channel();
        let mine = runtime.go(move || {
            tls::at_exit(move || {
                let payload = panicked(receiver.recv().unwrap().join());
                tell.send(common::message(&*payload).ends_with("joined itself")).unwrap();
            });
        });
        sender.send(mine).unwrap();
        assert!(told.recv().unwrap());
    });
}

#[test]
fn task_join_polled_wakes_the_last_waker_once() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let gate = Gate::default();
        let mut handle = runtime.go({
            let gate = gate.clone();
            move || gate.pass()
        });
        let (first, first_count) = Wakes::waker();
        let (second, second_count) = Wakes::waker();
        assert!(poll(&mut handle, &first).is_pending());
        assert!(poll(&mut handle, &first).is_pending());
        assert!(poll(&mut handle, &second).is_pending());
        gate.open();
        second_count.wait_for(1);
        assert!(matches!(poll(&mut handle, &second), Poll::Ready(Ok(()))));
        assert_eq!((first_count.get(), second_count.get()), (0, 1));

        let again = catch_unwind(AssertUnwindSafe(|| poll(&mut handle, &second)));
        let message = again.map(drop).unwrap_err();
        assert_eq!(common::message(&*message), "a JoinHandle was polled after it was ready");
    });
}

/// What was polled and then given up leaves a waker behind, which is woken or dropped, not leaked.
#[test]
fn task_join_polled_and_given_up() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let gate = Gate::default();
        let mut handle = runtime.go({
            let gate = gate.clone();
            move || gate.pass()
        });
        let control = handle.handle();
        let wakes = Arc::new(Wakes { count: Counter::default(), thread: thread::current() });
        assert!(poll(&mut handle, &Waker::from(wakes.clone())).is_pending());
        drop(handle);
        gate.open();
        while !control.is_finished() {
            coro::yield_now();
        }
        drop(control);
        while Arc::strong_count(&wakes) > 1 {
            coro::yield_now();
        }
        assert!(wakes.count.get() <= 1);
    });
}

/// Polled, and then joined after all, by a thread and by a coroutine.
#[test]
fn task_join_after_polling() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        for by_coroutine in [false, true] {
            let gate = Gate::default();
            let mut handle = runtime.go({
                let gate = gate.clone();
                move || {
                    gate.pass();
                    9
                }
            });
            let (waker, count) = Wakes::waker();
            assert!(poll(&mut handle, &waker).is_pending());
            let opener = runtime.go(move || gate.open());
            let value = if by_coroutine {
                runtime.go(|| handle.join().unwrap()).join().unwrap()
            } else {
                handle.join().unwrap()
            };
            assert_eq!(value, 9);
            opener.join().unwrap();
            assert!(count.get() <= 1);
        }
    });
}

/// A join drops the waker that a poll has left, which is anybody's code and may unwind out of the join.
/// Then nothing is left of it: a joiner that the other still knew of would be woken, whatever it has
/// become by then.
#[test]
fn task_join_unwound_by_the_waker_of_an_earlier_poll() {
    struct RunsInDrop(fn());
    impl Wake for RunsInDrop {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for RunsInDrop {
        fn drop(&mut self) {
            (self.0)();
        }
    }
    let _watchdog = common::watchdog();
    common::quiet();
    let ways: [(&str, fn()); 3] = [
        ("panics", || common::planned("in the destructor of a waker")),
        ("is cancelled", || {
            coro::current().unwrap().cancel();
            coro::park();
        }),
        ("is timed out", coro::park),
    ];
    // On one worker all take turns, so that a wake-up is there before the next step.
    let runtime = common::runtime(1);
    for (name, way) in ways {
        let joins = runtime.go(move || {
            let mut child = coro::go(coro::park);
            let control = child.handle();
            let waker = Waker::from(Arc::new(RunsInDrop(way)));
            assert!(poll(&mut child, &waker).is_pending());
            drop(waker);
            let limit = if name == "is timed out" { Duration::ZERO } else { Duration::MAX };
            let join = || coro::timeout(limit, || child.join().unwrap());
            assert!(!matches!(catch_unwind(AssertUnwindSafe(join)), Ok(Ok(()))), "it {name}");
            // What the cancellation itself has left.
            coro::park_timeout(Duration::ZERO);
            control.unpark();
            while !control.is_finished() {
                coro::yield_now();
            }
            let (unparked, me) = (Counter::default(), coro::current().unwrap());
            let counts = unparked.clone();
            coro::go(move || {
                counts.add();
                me.unpark();
            });
            coro::park();
            assert_eq!(unparked.get(), 1, "it {name}, and is woken by the one it does not join");
        });
        joins.join().unwrap();
    }
}

/// A waker is anybody's code: it may panic, and with a payload that panics, and may suspend.
#[test]
fn task_join_with_a_waker_that_misbehaves() {
    let _watchdog = common::watchdog();
    struct PanicsInDrop(Counter);
    impl Drop for PanicsInDrop {
        fn drop(&mut self) {
            self.0.add();
            common::planned("in the payload's destructor");
        }
    }
    struct Bad(String, Counter);
    impl Wake for Bad {
        fn wake(self: Arc<Self>) {
            self.1.add();
            match self.0.as_str() {
                "panics" => common::planned("in a waker"),
                "panics twice" => {
                    panic_any(Payload(Box::new(PanicsInDrop(self.1.clone()))));
                }
                _ => {
                    coro::yield_now();
                    coro::sleep(std::time::Duration::from_millis(1));
                    coro::go(|| ()).join().unwrap();
                    self.1.add();
                }
            }
        }
    }
    fn run(how: &str, calls: usize) {
        common::quiet();
        common::on_workers(|runtime, _| {
            let gate = Gate::default();
            let mut handle = runtime.go({
                let gate = gate.clone();
                move || {
                    gate.pass();
                    "a value"
                }
            });
            let count = Counter::default();
            let waker = Waker::from(Arc::new(Bad(how.to_owned(), count.clone())));
            assert!(poll(&mut handle, &waker).is_pending());
            gate.open();
            count.wait_for(calls);
            assert_eq!(handle.join().unwrap(), "a value");
            assert_eq!(runtime.go(|| 3).join().unwrap(), 3, "the worker lives");
            assert_eq!(count.get(), calls);
        });
    }
    // In children, because what goes wrong here ends the process.
    for (how, calls) in [("panics", 1), ("panics twice", 2), ("suspends", 2)] {
        if common::is_child(how) {
            return run(how, calls);
        }
    }
    if common::child_case().is_none() {
        for how in ["panics", "panics twice", "suspends"] {
            let output = common::child("task_join_with_a_waker_that_misbehaves", how);
            let stderr = common::stderr(&output);
            assert!(output.status.success(), "a waker that {how}: {}\n{stderr}", output.status);
        }
    }
}

#[test]
fn task_join_gives_the_payload_of_a_panic() {
    let _watchdog = common::watchdog();
    common::quiet();
    common::on_workers(|runtime, _| {
        let literal = panicked(runtime.go(|| common::planned("too bad")).join());
        assert!(common::is_planned(&*literal, "too bad"));

        let formatted = runtime.go(|| panic!("planned: {} {}", 1, 2)).join();
        let formatted = formatted.map(|never: ()| never).unwrap_err();
        assert_eq!(formatted.to_string(), "the coroutine panicked: planned: 1 2");
        assert_eq!(format!("{formatted:?}"), r#"Panicked("planned: 1 2")"#);

        let dropped = Counter::default();
        let payload = dropped.on_drop();
        let outcome: Result<(), _> =
            runtime.go(move || panic_any(Payload(Box::new(payload)))).join();
        let error = outcome.unwrap_err();
        assert_eq!(error.to_string(), "the coroutine panicked: (a payload that is no string)");
        assert_eq!(dropped.get(), 0);
        drop(error);
        assert_eq!(dropped.get(), 1);

        let cancelled = runtime.go(coro::park);
        cancelled.cancel();
        let error: Box<dyn std::error::Error> = Box::new(cancelled.join().unwrap_err());
        assert_eq!(error.to_string(), "the coroutine was cancelled");
        assert_eq!(format!("{error:?}"), "Cancelled");
    });
}

/// Values and payloads that nobody takes are dropped by the coroutine; what they throw is reported
/// and goes no further.
#[test]
fn task_join_never_and_the_value_panics_in_its_destructor() {
    let _watchdog = common::watchdog();
    common::quiet();
    struct PanicsInDrop(Counter);
    impl Drop for PanicsInDrop {
        fn drop(&mut self) {
            self.0.add();
            panic_any(Payload(Box::new(Again(self.0.clone()))));
        }
    }
    struct Again(Counter);
    impl Drop for Again {
        fn drop(&mut self) {
            self.0.add();
            common::planned("in a payload's destructor");
        }
    }
    common::on_workers(|runtime, _| {
        let (count, cleaned) = (Counter::default(), Counter::default());
        // A handle that is there when the coroutine ends drops what is left, and panics.
        let dropped = Gate::default();
        for panics in [false, true] {
            let (count, cleaned, dropped) = (count.clone(), cleaned.clone(), dropped.clone());
            drop(runtime.go(move || {
                dropped.pass();
                tls::at_exit(move || cleaned.add());
                let value = PanicsInDrop(count);
                if panics { panic_any(Payload(Box::new(value))) } else { value }
            }));
        }
        dropped.open();
        cleaned.wait_for(2);
        assert_eq!(count.get(), 4);
        assert_eq!(runtime.go(|| 3).join().unwrap(), 3);
    });
}

/// The system's allocator, which counts the blocks that are live of tasks that capture a `Large`.
struct Counting;

/// Of a size that nothing else has.
type Large = [u8; 40_000];

static LIVE: AtomicIsize = AtomicIsize::new(0);

/// Taken by each test that looks at `LIVE`, so that it sees its own blocks alone.
static TURN: Mutex<()> = Mutex::new(());

impl Counting {
    fn count(layout: Layout, by: isize) {
        if (size_of::<Large>()..size_of::<Large>() + 1000).contains(&layout.size()) {
            LIVE.fetch_add(by, Relaxed);
        }
    }
}

// SAFETY: it is the system's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Counting::count(layout, 1);
        // SAFETY: the caller's word.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        Counting::count(layout, -1);
        // SAFETY: the caller's word.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// However a handle and what it holds go, the task's memory goes with them.
#[test]
fn task_join_leaves_no_block_behind() {
    struct Ill;
    impl Drop for Ill {
        fn drop(&mut self) {
            common::planned("the value's destructor");
        }
    }
    fn spawn(runtime: &Runtime) -> JoinHandle<Ill> {
        let large: Large = [1; _];
        let handle = runtime.go(move || {
            std::hint::black_box(&large);
            Ill
        });
        while !handle.is_finished() {
            thread::yield_now();
        }
        handle
    }
    let _watchdog = common::watchdog();
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    common::quiet();
    common::on_workers(|runtime, _| {
        let ways: [fn(JoinHandle<Ill>); 3] = [
            |handle| assert!(catch_unwind(AssertUnwindSafe(|| drop(handle))).is_err()),
            |handle| assert!(catch_unwind(AssertUnwindSafe(|| drop(handle.join()))).is_err()),
            |handle| {
                let kept = handle.handle();
                assert!(catch_unwind(AssertUnwindSafe(|| drop(handle))).is_err());
                assert!(kept.is_finished());
            },
        ];
        for way in ways {
            way(spawn(runtime));
        }
    });
    // A worker lets go of a block shortly after it has said that the task is done.
    while LIVE.load(Relaxed) > 0 {
        thread::yield_now();
    }
}

/// Nor does a waker keep the block for ever, whatever becomes of it, while the task waits and when it
/// has ended.
#[test]
fn task_wakers_leave_no_block_behind() {
    let _watchdog = common::watchdog();
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    common::on_workers(|runtime, _| {
        let ways: [fn(Waker); 4] = [
            Waker::wake,
            |waker| waker.wake_by_ref(),
            drop,
            |waker| [waker.clone(), waker].into_iter().for_each(Waker::wake),
        ];
        for way in ways {
            let (send, wakers) = mpsc::channel();
            let large: Large = [1; _];
            let task = runtime.go(move || {
                std::hint::black_box(&large);
                let mut polls = 0;
                coro::wait(poll_fn(|context| {
                    polls += 1;
                    // Two each time: one for now, one for when all is over.
                    (0..2).for_each(|_| send.send(context.waker().clone()).unwrap());
                    if polls == 2 { Poll::Ready(()) } else { Poll::Pending }
                }));
            });
            way(wakers.recv().unwrap());
            // One of the ways wakes nobody.
            task.handle().unpark();
            task.join().unwrap();
            wakers.iter().for_each(way);
        }
    });
    // The workers have ended, and with them whoever might be letting go yet.
    assert_eq!(LIVE.load(Relaxed), 0);
}

/// The waker that a poll is given is good for as long as the poll lasts, which in a coroutine made by
/// hand can be longer than the task that began it: the block stays.
#[test]
fn task_waker_in_a_poll_keeps_the_block() {
    thread_local! {
        static BY_HAND: RefCell<Option<Coroutine<(), (), ()>>> = const { RefCell::new(None) };
    }
    fn resume() -> State<(), ()> {
        let raw_coroutine = BY_HAND.take().unwrap();
        let state = raw_coroutine.resume(());
        BY_HAND.set(Some(raw_coroutine));
        state
    }
    let _watchdog = common::watchdog();
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = common::runtime(1);
    runtime
        .go(|| {
            let raw_coroutine = common::raw(64 << 10, |yielder, ()| {
                coro::wait(poll_fn(|context| {
                    yielder.suspend(());
                    context.waker().wake_by_ref();
                    Poll::Ready(())
                }));
            });
            BY_HAND.set(Some(raw_coroutine.unwrap()));
        })
        .join()
        .unwrap();
    let large: Large = [1; _];
    let begins = runtime.go(move || {
        std::hint::black_box(&large);
        resume()
    });
    assert_eq!(begins.join().unwrap(), State::Yielded(()));
    // On the only worker, so the one before is gone altogether.
    let ends = runtime.go(|| (LIVE.load(Relaxed), resume(), LIVE.load(Relaxed)));
    assert_eq!(ends.join().unwrap(), (1, State::Done(()), 0));
}

#[test]
fn task_join_one_panics_and_999_finish() {
    let _watchdog = common::watchdog();
    common::quiet();
    common::on_workers(|runtime, _| {
        let handles: Vec<_> = (0..1000u64)
            .map(|i| {
                runtime.go(move || {
                    coro::yield_now();
                    if i == 567 {
                        common::planned("the one");
                    }
                    tls::set("i", i);
                    coro::yield_now();
                    *tls::get::<u64>("i").unwrap()
                })
            })
            .collect();
        for (i, handle) in (0..).zip(handles) {
            match handle.join() {
                Ok(value) => assert!(value == i && i != 567),
                Err(error) => {
                    assert_eq!((i, error.to_string().contains("the one")), (567, true));
                }
            }
        }
    });
}

#[test]
fn task_join_chains_and_crowds() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let mut last = runtime.go(|| 0u32);
        for _ in 0..1000 {
            let before = last;
            last = runtime.go(|| before.join().unwrap() + 1);
        }
        assert_eq!(last.join().unwrap(), 1000);

        fn tree(depth: u32) -> u64 {
            if depth == 0 {
                return 1;
            }
            let children: Vec<_> = (0..3).map(|_| coro::go(move || tree(depth - 1))).collect();
            children.into_iter().map(|child| child.join().unwrap()).sum()
        }
        assert_eq!(runtime.go(|| tree(7)).join().unwrap(), 2187);
    });
}

#[test]
fn task_join_values_of_every_shape() {
    let _watchdog = common::watchdog();
    #[derive(Clone, Copy, PartialEq, Debug)]
    #[repr(align(128))]
    struct Wide([u8; 200]);
    #[derive(Clone, Copy, PartialEq, Debug)]
    #[repr(align(4096))]
    struct Page(u8);

    fn round_trip<T>(runtime: &Runtime, value: T)
    where
        T: Copy + PartialEq + std::fmt::Debug + Send + 'static,
    {
        let check = move || {
            let captured = value;
            let address = &raw const captured as usize;
            assert!(address.is_multiple_of(align_of::<T>()), "{address:#x}");
            captured
        };
        assert_eq!(runtime.go(check).join().unwrap(), value);
        let cancelled = runtime.go(check);
        cancelled.cancel();
        drop(cancelled);
    }
    common::on_workers(|_, workers| {
        // A debug build copies the largest several times on its way.
        let roomy = Runtime::builder().workers(workers).stack_size(2 << 20).build().unwrap();
        let runtime = &roomy;
        round_trip(runtime, ());
        round_trip(runtime, 1u8);
        round_trip(runtime, u128::MAX);
        round_trip(runtime, Wide([7; 200]));
        round_trip(runtime, Page(7));
        round_trip(runtime, [1u8; 500]);
        // More than the engine itself takes.
        round_trip(runtime, [2u64; 8 * 1024]);
        let boxed = vec![3u8; 1 << 20];
        assert_eq!(runtime.go(move || boxed).join().unwrap().len(), 1 << 20);
        // A closure of no size that returns much, and the other way round.
        assert_eq!(runtime.go(|| [4u8; 20_000]).join().unwrap()[19_999], 4);
        let large = [5u8; 20_000];
        runtime.go(move || assert_eq!(large[19_999], 5)).join().unwrap();
    });
}

#[test]
fn task_join_handles_say_who_they_are() {
    let _watchdog = common::watchdog();
    fn assert_shareable<T: Send + Sync + Unpin>(_: &T) {}
    common::on_workers(|runtime, _| {
        let (sender, receiver) = mpsc::channel::<Handle>();
        let gate = Gate::default();
        let inside = gate.clone();
        let spawner = runtime.go(move || {
            let named = Builder::new().name("named").spawn(move || {
                sender.send(coro::current().unwrap()).unwrap();
                inside.pass();
                tls::unload(); // gives the coroutine a new id; the handles keep the first
                tls::id()
            });
            named.unwrap()
        });
        let joined = spawner.join().unwrap();
        let current = receiver.recv().unwrap();
        assert_shareable(&joined);
        assert_shareable(&current);
        assert_eq!(current.id(), joined.id());
        assert_eq!((current.name(), joined.handle().name()), (Some("named"), Some("named")));
        assert!(!current.is_finished() && !current.clone().is_finished());
        let debug = format!("{joined:?} {current:?}");
        assert!(debug.contains("named") && debug.contains(&current.id().to_string()), "{debug}");
        gate.open();
        let id = joined.id();
        assert_ne!(joined.join().unwrap(), id);
        assert!(current.is_finished());
        assert_eq!(current.id(), id);
        assert!(runtime.go(|| coro::current().unwrap().name().is_none()).join().unwrap());
        assert!(coro::current().is_none());
    });
}

/// The end of one and the polling of another thread race for the waker's cell.
#[test]
fn task_join_polling_races_the_end() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        for _ in 0..2000 {
            let mut handle = runtime.go(|| Mutex::new(1));
            let (waker, count) = Wakes::waker();
            let mut pending = 0;
            loop {
                match poll(&mut handle, &waker) {
                    Poll::Ready(value) => {
                        break assert_eq!(value.unwrap().into_inner().unwrap(), 1);
                    }
                    Poll::Pending => pending += 1,
                }
            }
            assert!(count.get() <= pending);
        }
    });
}

/// A panic that is the caller's fault names the caller's line, not one of this crate's.
#[test]
fn task_misuse_names_the_place_of_the_call() {
    let _watchdog = common::watchdog();
    const TEST: &str = "task_misuse_names_the_place_of_the_call";
    let misuse: [(&str, fn()); 3] = [
        ("resumed after its end", || {
            let ended = common::raw::<(), (), ()>(1 << 16, |_, ()| ()).unwrap();
            ended.resume(());
            ended.resume(());
        }),
        ("polled after it was ready", || {
            let mut handle = pin!(coro::go(|| ()));
            coro::wait(handle.as_mut()).unwrap();
            let _ = handle.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }),
        ("longer than zero", || {
            coro::interval(std::time::Duration::ZERO);
        }),
    ];
    for (says, misuse) in misuse {
        if common::is_child(says) {
            return misuse();
        }
        if common::child_case().is_none() {
            let output = common::child(TEST, says);
            let stderr = common::stderr(&output);
            assert!(!output.status.success() && stderr.contains(says), "{says}: {stderr}");
            assert!(stderr.contains(concat!("panicked at ", file!(), ":")), "{stderr}");
        }
    }
}

#[test]
fn task_join_error_as_an_io_error() {
    let _watchdog = common::watchdog();
    common::quiet();
    let cancelled = || {
        let parked = coro::go(coro::park);
        parked.cancel();
        parked.join().unwrap_err()
    };
    assert!(cancelled().is_cancelled() && !cancelled().is_panic());
    let taken = catch_unwind(|| cancelled().into_panic()).unwrap_err();
    assert!(common::message(&*taken).contains("cancelled"));
    let (dropped, capture) = (Counter::default(), Counter::default());
    let panicked = |counter: &Counter| {
        let payload = Payload(Box::new(counter.on_drop()));
        coro::go(|| panic_any(payload)).join().unwrap_err()
    };
    assert!(panicked(&capture).is_panic() && !panicked(&capture).is_cancelled());
    assert!(panicked(&capture).into_panic().is::<Payload>());

    // Never `Interrupted`, which std's loops take for "again"; and the payload is gone, once.
    for (error, says) in [(cancelled(), "was cancelled"), (panicked(&dropped), "panicked: ")] {
        let error = io::Error::from(error);
        assert_eq!(error.kind(), io::ErrorKind::Other);
        assert!(error.to_string().contains(says), "{error}");
    }
    assert_eq!((dropped.get(), capture.get()), (1, 3));
    let elapsed = io::Error::from(coro::Elapsed);
    assert_eq!(elapsed.kind(), io::ErrorKind::TimedOut);
    assert!(elapsed.get_ref().unwrap().is::<coro::Elapsed>());
}

/// As std's threads and their handles.
#[test]
fn task_handles_pass_unwinding_and_compare() {
    fn check<T: UnwindSafe + RefUnwindSafe>() {}
    check::<Handle>();
    check::<Runtime>();
    check::<JoinHandle<RefCell<u8>>>();
    check::<coro::ScopedJoinHandle<'_, RefCell<u8>>>();
    let _watchdog = common::watchdog();
    let (one, other) = (coro::go(coro::park), coro::go(coro::park));
    let set: HashSet<_> = [one.handle(), other.handle(), one.handle()].into_iter().collect();
    assert_eq!(set.len(), 2);
    assert!(set.contains(&other.handle()) && one.handle() != other.handle());
    // By the identity that it was started with, whatever becomes of that.
    let renewed = coro::go(|| {
        let before = coro::current().unwrap();
        tls::unload();
        before == coro::current().unwrap()
    });
    assert!(renewed.join().unwrap());
    for parked in [one, other] {
        parked.cancel();
        common::assert_cancelled(parked.join());
    }
}

/// Of a panic whose coroutine nobody can join, stderr tells whose it was; and a panic hook finds the coroutine.
#[test]
fn task_join_a_panic_that_nobody_can_join_is_named() {
    const NAME: &str = "task_join_a_panic_that_nobody_can_join_is_named";
    let _watchdog = common::watchdog();
    if common::is_child(NAME) {
        std::panic::set_hook(Box::new(|_| {
            let coroutine = coro::current().expect("it panics in a coroutine");
            common::say(format_args!("hook: {} {:?}", coroutine.id(), coroutine.name()));
        }));
        let named = |name: &str| Builder::new().name(name).spawn(|| panic!("planned")).unwrap();
        let joined = named("joined");
        let id = joined.id();
        assert!(joined.join().unwrap_err().is_panic());
        common::say(format_args!("joined: {id}"));
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let detached = Builder::new().name("detached");
        let detached = detached.spawn(move || {
            held.recv().unwrap_err();
            panic!("planned")
        });
        let (id, handle) = detached.map(|task: JoinHandle<()>| (task.id(), task.handle())).unwrap();
        drop(hold);
        while !handle.is_finished() {
            std::thread::yield_now();
        }
        common::say(format_args!("detached: {id}"));
        return;
    }
    let output = common::child(NAME, NAME);
    assert!(output.status.success(), "{output:?}");
    let stderr = common::stderr(&output);
    let id = |which: &str| {
        let line = stderr.lines().find_map(|line| line.strip_prefix(which)).expect(which);
        line.to_owned()
    };
    let (joined, detached) = (id("joined: "), id("detached: "));
    for (id, name) in [(&joined, "joined"), (&detached, "detached")] {
        assert!(stderr.contains(&format!("hook: {id} Some({name:?})")), "{stderr}");
    }
    let told: Vec<_> = stderr.lines().filter(|line| line.starts_with("coro: ")).collect();
    assert_eq!(told.len(), 1, "{stderr}");
    let begins = format!("coro: coroutine {detached} 'detached', spawned at {}:", file!());
    assert!(told[0].starts_with(&begins), "{stderr}");
    assert!(told[0].ends_with(", panicked, and nobody joins it"), "{stderr}");
}
