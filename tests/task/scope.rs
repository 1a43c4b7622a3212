//! Scopes: whoever borrows has ended before the scope has, however the body, the children and the
//! caller end, and wherever the scope is: on a thread, in a coroutine, in a raw one that
//! changes hands meanwhile.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use coro::raw::{Coroutine, State};
use coro::{Builder, Elapsed, JoinError, Runtime, Scope};

use crate::common::{self, Counter, Gate, is_planned, message, planned, quiet};

const SHORT: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_secs(3600);
const CHILD_PANICKED: &str = "a coroutine of this scope panicked";

/// Runs `f` on a plain thread, whose scopes are on the default runtime, and in a coroutine of each
/// runtime that matters.
fn everywhere(f: impl Fn() + Clone + Send + 'static) {
    f();
    common::on_workers(|runtime, _| runtime.go(f.clone()).join().unwrap());
}

#[test]
fn task_scope_waits_for_everyone() {
    let _watchdog = common::watchdog();
    everywhere(|| {
        for n in [0, 1, 2, 300] {
            let (mut squares, ended) = (vec![0; n], AtomicUsize::new(0));
            let given = coro::scope(|s| {
                for (i, square) in squares.iter_mut().enumerate() {
                    let ended = &ended;
                    s.go(move || {
                        for _ in 0..i % 3 {
                            coro::yield_now();
                        }
                        *square = i * i;
                        ended.fetch_add(1, Ordering::Relaxed);
                    });
                }
                "given"
            });
            assert_eq!((given, ended.into_inner()), ("given", n));
            assert!(squares.iter().enumerate().all(|(i, square)| *square == i * i));
        }
    });
}

/// Children start children in the scope that they are in, also when the body is long over.
#[test]
fn task_scope_children_start_children() {
    let _watchdog = common::watchdog();
    fn tree<'scope>(s: &'scope Scope<'scope, '_>, depth: u32, leaves: &'scope AtomicUsize) {
        for _ in 0..3 {
            s.go(move || match depth {
                0 => drop(leaves.fetch_add(1, Ordering::Relaxed)),
                depth => {
                    coro::yield_now();
                    tree(s, depth - 1, leaves);
                }
            });
        }
    }
    everywhere(|| {
        let leaves = AtomicUsize::new(0);
        coro::scope(|s| tree(s, 5, &leaves));
        assert_eq!(leaves.into_inner(), 729);
    });
}

#[test]
fn task_scope_within_scope_within_scope() {
    let _watchdog = common::watchdog();
    fn sum(numbers: &[u64]) -> u64 {
        match numbers {
            [] => 0,
            [one] => *one,
            many => {
                let (left, right) = many.split_at(many.len() / 2);
                coro::scope(|s| {
                    let left = s.go(|| sum(left));
                    sum(right) + left.join().unwrap()
                })
            }
        }
    }
    everywhere(|| {
        let numbers: Vec<u64> = (0..1000).collect();
        assert_eq!(sum(&numbers), 499_500);
    });
}

/// What a child gives may be borrowed from outside of the scope, and what it holds may be too.
#[test]
fn task_scope_values_may_borrow() {
    let _watchdog = common::watchdog();
    everywhere(|| {
        let words = [String::from("to"), String::from("be")];
        let longest = coro::scope(|s| {
            let handles: Vec<_> = words.iter().map(|word| s.go(move || word.as_str())).collect();
            handles.into_iter().map(|handle| handle.join().unwrap()).max().unwrap()
        });
        assert!(std::ptr::eq(longest, words[0].as_str()));
    });
}

/// Waits until its gate is open, and counts that as it begins and as it ends.
fn lingers(begun: &Counter, gate: &Gate, ended: &AtomicUsize) {
    begun.add();
    gate.pass();
    ended.fetch_add(1, Ordering::Relaxed);
}

/// Opens the gate when it is dropped: the unwinding has begun, and what waits may go on.
struct Opens(Gate);

impl Drop for Opens {
    fn drop(&mut self) {
        self.0.open();
    }
}

#[test]
fn task_scope_panic_in_the_body_waits_first() {
    let _watchdog = common::watchdog();
    quiet();
    everywhere(|| {
        let (begun, gate, ended) = (Counter::default(), Gate::default(), AtomicUsize::new(0));
        let payload = catch_unwind(AssertUnwindSafe(|| {
            coro::scope(|s| {
                // None can end before the body is unwinding.
                let _opens = Opens(gate.clone());
                for _ in 0..20 {
                    s.go(|| lingers(&begun, &gate, &ended));
                }
                begun.wait_for(1);
                planned("in the body");
            })
        }));
        assert!(is_planned(&*payload.unwrap_err(), "in the body"));
        assert_eq!(ended.into_inner(), 20);
    });
}

/// The panic of the body goes before that of a child.
#[test]
fn task_scope_panic_in_body_and_child() {
    let _watchdog = common::watchdog();
    quiet();
    everywhere(|| {
        let payload = catch_unwind(|| {
            coro::scope(|s| {
                s.go(|| planned("in a child"));
                planned("in the body");
            })
        });
        assert!(is_planned(&*payload.unwrap_err(), "in the body"));
    });
}

/// How a child ends, and what the body does with its handle: the scope panics if and only if the
/// child did and nobody took the payload.
#[test]
fn task_scope_every_end_and_every_use_of_the_handle() {
    let _watchdog = common::watchdog();
    quiet();
    #[derive(Clone, Copy, PartialEq, Debug)]
    enum End {
        Value,
        Panic,
        Cancelled,
    }
    #[derive(Clone, Copy, PartialEq, Debug)]
    enum Handle {
        Joined,
        DroppedAtOnce,
        DroppedAfterTheEnd,
        KeptToTheEnd,
        Forgotten,
        JoinedByAnotherChild,
        DroppedByAnotherChild,
    }
    use {End::*, Handle::*};
    fn run(end: End, handle: Handle) {
        let (go_on, dropped) = (Gate::default(), Counter::default());
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            coro::scope(|s| {
                let (gate, local) = (&go_on, dropped.on_drop());
                let value = dropped.on_drop();
                let child = s.go(move || {
                    let _local = local;
                    gate.pass();
                    match end {
                        Value => {}
                        Panic => planned("in a child"),
                        Cancelled => {
                            coro::current().unwrap().cancel();
                            coro::yield_now();
                        }
                    }
                    value
                });
                if handle != DroppedAtOnce {
                    gate.open();
                }
                match handle {
                    Joined => match (child.join(), end) {
                        (Ok(_), Value)
                        | (Err(JoinError::Panicked(_)), Panic)
                        | (Err(JoinError::Cancelled), Cancelled) => {}
                        (other, end) => panic!("{other:?} for {end:?}"),
                    },
                    DroppedAtOnce => {
                        drop(child);
                        gate.open();
                    }
                    DroppedAfterTheEnd => {
                        while !child.is_finished() {
                            coro::yield_now();
                        }
                    }
                    KeptToTheEnd => s.go(coro::yield_now).join().unwrap(),
                    Forgotten => std::mem::forget(child),
                    JoinedByAnotherChild => drop(s.go(move || drop(child.join()))),
                    DroppedByAnotherChild => drop(s.go(move || {
                        coro::yield_now();
                        drop(child);
                    })),
                }
            })
        }));
        let told = matches!(handle, Joined | JoinedByAnotherChild);
        let expected = if end == Panic && !told { CHILD_PANICKED } else { "" };
        let message = outcome.map_or_else(|payload| message(&*payload).to_owned(), |()| "".into());
        assert_eq!(message, expected, "{end:?} {handle:?}");
        // Nobody but a handle drops a value that it was there for.
        let leaked = usize::from(end == Value && handle == Forgotten);
        assert_eq!(dropped.get() + leaked, 2, "{end:?} {handle:?}: dropped before the scope ends");
    }
    quiet_about_scopes();
    everywhere(|| {
        for end in [Value, Panic, Cancelled] {
            for handle in [
                Joined,
                DroppedAtOnce,
                DroppedAfterTheEnd,
                KeptToTheEnd,
                Forgotten,
                JoinedByAnotherChild,
                DroppedByAnotherChild,
            ] {
                run(end, handle);
            }
        }
    });
}

/// Keeps the scope's own panic out of the output.
fn quiet_about_scopes() {
    static INSTALL: std::sync::Once = std::sync::Once::new();
    INSTALL.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if message(info.payload()) != CHILD_PANICKED {
                before(info);
            }
        }));
    });
}

#[test]
fn task_scope_cancelled_in_the_body() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (gate, begun, parked) = (Gate::default(), Counter::default(), Counter::default());
        let ended = Arc::new(AtomicUsize::new(0));
        let parent = runtime.go({
            let (gate, begun, parked) = (gate.clone(), begun.clone(), parked.clone());
            let ended = Arc::clone(&ended);
            move || {
                let borrowed = AtomicUsize::new(0);
                let _local = SetOnDrop(&borrowed, &ended);
                coro::scope(|s| {
                    let _opens = Opens(gate.clone());
                    for _ in 0..20 {
                        s.go(|| {
                            lingers(&begun, &gate, &borrowed);
                            assert!(!coro::is_cancelled(), "children are not cancelled");
                        });
                    }
                    parked.add();
                    loop {
                        coro::park();
                    }
                });
            }
        });
        begun.wait_for(20);
        parked.wait_for(1);
        parent.cancel();
        assert!(matches!(parent.join(), Err(JoinError::Cancelled)));
        assert_eq!(ended.load(Ordering::Relaxed), 20, "all before the unwinding went on");
    });
}

/// Notes elsewhere, when it is dropped, what the borrowed count is then.
struct SetOnDrop<'a>(&'a AtomicUsize, &'a AtomicUsize);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.1.store(self.0.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// Cancelled while it waits for the children: the scope gives its value all the same, and the next
/// suspension unwinds.
#[test]
fn task_scope_cancelled_while_it_waits() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (gate, begun, after) = (Gate::default(), Counter::default(), Counter::default());
        let parent = runtime.go({
            let (gate, begun, after) = (gate.clone(), begun.clone(), after.clone());
            move || {
                let ended = AtomicUsize::new(0);
                let value = coro::scope(|s| {
                    (0..5).for_each(|_| drop(s.go(|| lingers(&begun, &gate, &ended))));
                    7
                });
                assert!(coro::is_cancelled());
                assert_eq!((value, ended.into_inner()), (7, 5));
                // One who is cancelled may wait, and its children are as good as any.
                let more = AtomicUsize::new(0);
                coro::scope(|s| drop(s.go(|| more.fetch_add(1, Ordering::Relaxed))));
                assert_eq!(more.into_inner(), 1);
                after.add();
                coro::yield_now();
                unreachable!("the cancellation is for this suspension at the latest");
            }
        });
        begun.wait_for(5);
        for _ in 0..3 {
            parent.cancel();
            runtime.go(coro::yield_now).join().unwrap();
        }
        assert!(!parent.is_finished());
        gate.open();
        assert!(matches!(parent.join(), Err(JoinError::Cancelled)));
        assert_eq!(after.get(), 1);
    });
}

/// A timeout around a scope unwinds the body, waits for the children, and only then gives `Elapsed`;
/// one that elapses while the scope waits comes too late.
#[test]
fn task_scope_and_a_timeout_around_it() {
    let _watchdog = common::watchdog();
    everywhere(|| {
        let (gate, begun, ended) = (Gate::default(), Counter::default(), AtomicUsize::new(0));
        let cut_short = coro::timeout(SHORT, || {
            coro::scope(|s| {
                let _opens = Opens(gate.clone());
                (0..5).for_each(|_| drop(s.go(|| lingers(&begun, &gate, &ended))));
                loop {
                    coro::park();
                }
            })
        });
        assert_eq!((cut_short, ended.into_inner()), (Err::<(), _>(Elapsed), 5));
        let waited = coro::timeout(SHORT, || {
            coro::scope(|s| {
                // The deadline of the parent is not the child's.
                s.go(|| coro::sleep(4 * SHORT));
                "a value"
            })
        });
        assert_eq!(waited, Ok("a value"));
    });
}

/// In a runtime that shuts down children are dropped unrun, and the scope ends.
#[test]
fn task_scope_in_a_runtime_that_shuts_down() {
    let _watchdog = common::watchdog();
    for workers in common::WORKERS {
        let runtime = Arc::new(common::runtime(workers));
        let (ran, dropped) = (Counter::default(), Counter::default());
        let parent = runtime.go({
            let (ran, dropped) = (ran.clone(), dropped.clone());
            let runtime = Arc::clone(&runtime);
            move || {
                runtime.shutdown();
                let swallowed = catch_unwind(|| {
                    loop {
                        coro::yield_now();
                    }
                });
                assert!(swallowed.is_err() && coro::is_cancelled());
                coro::scope(|s| {
                    let outcomes: Vec<_> = (0..10)
                        .map(|_| {
                            let (ran, captured) = (&ran, dropped.on_drop());
                            s.go(move || {
                                let _captured = captured;
                                ran.add();
                            })
                        })
                        .map(|child| child.join())
                        .collect();
                    outcomes.iter().filter(|o| matches!(o, Err(JoinError::Cancelled))).count()
                })
            }
        });
        // Another worker may take one before it has heard of the shutdown.
        assert_eq!((parent.join().unwrap() + ran.get(), dropped.get()), (10, 10));
        assert!(workers > 1 || ran.get() == 0);
    }
}

/// Handles and wakers of children may be kept for longer than the scope and what it borrows.
#[test]
fn task_scope_is_outlived_by_handles_and_wakers() {
    let _watchdog = common::watchdog();
    everywhere(|| {
        let (sender, receiver) = mpsc::channel();
        let borrowed = String::from("borrowed");
        let kept = coro::scope(|s| {
            let child = s.go(|| {
                let mut polled = false;
                coro::wait(std::future::poll_fn(|context| {
                    sender.send(context.waker().clone()).unwrap();
                    context.waker().wake_by_ref();
                    if std::mem::replace(&mut polled, true) {
                        return std::task::Poll::Ready(());
                    }
                    std::task::Poll::Pending
                }));
                assert_eq!(borrowed, "borrowed");
            });
            child.handle()
        });
        drop(borrowed);
        assert!(kept.is_finished());
        kept.unpark();
        kept.cancel();
        let wakers: Vec<_> = receiver.try_iter().collect();
        assert_eq!(wakers.len(), 2);
        thread::spawn(move || wakers.into_iter().for_each(std::task::Waker::wake)).join().unwrap();
        assert_eq!(kept.clone().id(), kept.id());
    });
}

thread_local! {
    /// A raw coroutine that the tasks of one worker share.
    static SHARED: RefCell<Option<Coroutine<(), u32, u32>>> = const { RefCell::new(None) };
}

/// Makes the coroutine that the tasks of the runtime's only worker share.
fn share(runtime: &Runtime, f: impl FnOnce(&coro::raw::Yielder<(), u32>) -> u32 + Send + 'static) {
    let make = || {
        let raw_coroutine = common::raw(64 * 1024, |yielder, ()| f(yielder)).unwrap();
        SHARED.set(Some(raw_coroutine));
    };
    runtime.go(make).join().unwrap();
}

/// Has a new task resume it.
fn resume(runtime: &Runtime) -> State<u32, u32> {
    runtime.go(resume_shared).join().unwrap()
}

fn resume_shared() -> State<u32, u32> {
    // Not borrowed meanwhile: the task may be suspended.
    let raw_coroutine = SHARED.take().unwrap();
    let state = raw_coroutine.resume(());
    SHARED.set(Some(raw_coroutine));
    state
}

/// The task that began the scope is gone when another one waits for the children.
#[test]
fn task_scope_that_changes_hands() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(1);
    for round in 0..50 {
        let (gate, ended) = (Gate::default(), Counter::default());
        share(&runtime, {
            let (gate, ended) = (gate.clone(), ended.clone());
            move |yielder| {
                let borrowed = AtomicUsize::new(0);
                coro::scope(|s| {
                    for step in 0..4 {
                        s.go(|| {
                            gate.pass();
                            borrowed.fetch_add(1, Ordering::Relaxed);
                            ended.add();
                        });
                        yielder.suspend(step);
                    }
                });
                borrowed.into_inner() as u32
            }
        });
        for step in 0..4 {
            if step == round % 4 {
                // Some have ended before the scope waits, or all, or none.
                gate.open();
                ended.wait_for(step as usize);
            }
            assert_eq!(resume(&runtime), State::Yielded(step));
        }
        assert_eq!(resume(&runtime), State::Done(4), "resumed by a fifth task");
        assert_eq!(ended.get(), 4);
    }
    // The one that waits is woken by a child that ends while it does.
    let gate = Gate::default();
    share(&runtime, {
        let gate = gate.clone();
        move |yielder| {
            coro::scope(|s| {
                let child = s.go(|| gate.pass());
                yielder.suspend(1);
                drop(child);
            });
            2
        }
    });
    assert_eq!(resume(&runtime), State::Yielded(1));
    // The gate is opened when the other is suspended, for there is one worker.
    let waits = runtime.go(resume_shared);
    runtime.go(move || gate.open()).join().unwrap();
    assert_eq!(waits.join().unwrap(), State::Done(2));
}

/// Dropped while its scope is open: whoever drops it waits for the children.
#[test]
fn task_scope_in_a_coroutine_that_is_dropped() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(1);
    let (gate, dropped) = (Gate::default(), Counter::default());
    let ended = Arc::new(AtomicUsize::new(0));
    share(&runtime, {
        let (gate, dropped, ended) = (gate.clone(), dropped.clone(), Arc::clone(&ended));
        move |yielder| {
            let borrowed = AtomicUsize::new(0);
            let _local = dropped.on_drop();
            let _tells = SetOnDrop(&borrowed, &ended);
            coro::scope(|s| {
                let _opens = Opens(gate.clone());
                for _ in 0..10 {
                    s.go(|| {
                        gate.pass();
                        coro::sleep(Duration::from_millis(1));
                        borrowed.fetch_add(1, Ordering::Relaxed);
                    });
                }
                yielder.suspend(1);
            });
            unreachable!("it is dropped");
        }
    });
    assert_eq!(resume(&runtime), State::Yielded(1));
    let dropper = runtime.go(|| drop(SHARED.take()));
    dropper.join().unwrap();
    assert_eq!((dropped.get(), ended.load(Ordering::Relaxed)), (1, 10));
}

/// A scope, its body and a sleep in it, in a raw coroutine, under a task that is cancelled.
#[test]
fn task_scope_in_a_coroutine_whose_task_is_cancelled() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (begun, gate, ended) = (Counter::default(), Gate::default(), Counter::default());
        let task = runtime.go({
            let (begun, gate, ended) = (begun.clone(), gate.clone(), ended.clone());
            move || {
                let raw_coroutine = common::raw::<(), (), ()>(64 * 1024, move |_, ()| {
                    let borrowed = AtomicUsize::new(0);
                    coro::scope(|s| {
                        let _opens = Opens(gate.clone());
                        for _ in 0..3 {
                            s.go(|| {
                                lingers(&begun, &gate, &borrowed);
                                ended.add();
                            });
                        }
                        coro::sleep(LONG);
                    });
                })
                .unwrap();
                raw_coroutine.resume(());
            }
        });
        begun.wait_for(3);
        task.cancel();
        assert!(matches!(task.join(), Err(JoinError::Cancelled)));
        assert_eq!(ended.get(), 3);
    });
}

/// Counts its wake-ups, and is kept by whoever likes.
struct Wakes(Counter);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.add();
    }
}

fn poll_once<F: Future + Unpin>(future: &mut F, wakes: &Counter) -> Poll<F::Output> {
    let waker = Waker::from(Arc::new(Wakes(wakes.clone())));
    Pin::new(future).poll(&mut Context::from_waker(&waker))
}

/// A handle that is polled on other threads, and then waited for there, forgotten or dropped: the scope
/// waits for the child all the same, and the waker that was left is woken or dropped.
#[test]
fn task_scope_handle_polled_and_left() {
    let _watchdog = common::watchdog();
    everywhere(|| {
        let wakes = Counter::default();
        let (gate, mut ended) = (Gate::default(), [false; 3]);
        coro::scope(|s| {
            let mut handles = ended.iter_mut().map(|ended| {
                let gate = &gate;
                s.go(move || {
                    gate.pass();
                    *ended = true;
                    String::from("ended")
                })
            });
            let mut take = || handles.next().unwrap();
            let (mut waited, mut forgotten, mut dropped) = (take(), take(), take());
            thread::scope(|threads| {
                threads.spawn(|| {
                    for handle in [&mut waited, &mut forgotten, &mut dropped] {
                        assert!(poll_once(handle, &wakes).is_pending());
                    }
                    mem::forget(forgotten);
                    drop(dropped);
                });
            });
            // Polled anew, by another: the waker that was there is not woken.
            assert!(poll_once(&mut waited, &Counter::default()).is_pending());
            gate.open();
            assert_eq!(coro::wait(&mut waited).unwrap(), "ended");
            assert!(catch_unwind(AssertUnwindSafe(|| poll_once(&mut waited, &wakes))).is_err());
        });
        assert_eq!(ended, [true; 3]);
        // For the one that was forgotten, and perhaps for the one that was dropped.
        assert!((1..=2).contains(&wakes.get()), "{}", wakes.get());
    });
}

/// A panic that a poll has taken is the poller's, and one that nobody took is the scope's.
#[test]
fn task_scope_handle_polled_takes_the_panic() {
    let _watchdog = common::watchdog();
    quiet();
    everywhere(|| {
        coro::scope(|s| {
            let child = s.go(|| planned("a child"));
            let error: Result<(), _> = coro::wait(child);
            assert!(is_planned(&*error.unwrap_err().into_panic(), "a child"));
        });
        let caught = catch_unwind(|| {
            coro::scope(|s| {
                let gate = Gate::default();
                let pass = gate.clone();
                let mut child = s.go(move || {
                    pass.pass();
                    planned("a child")
                });
                assert!(
                    poll_once::<coro::ScopedJoinHandle<'_, ()>>(&mut child, &Counter::default())
                        .is_pending()
                );
                gate.open();
            });
        });
        assert_eq!(message(&*caught.unwrap_err()), CHILD_PANICKED);
    });
}

/// What `Builder` starts in a scope is a child like any other: it borrows, it is waited for, its panic
/// is the scope's. One that is refused is no child, or the scope would wait for ever.
#[test]
fn task_scope_children_of_a_builder() {
    let _watchdog = common::watchdog();
    quiet();
    everywhere(|| {
        let (gate, mut ended) = (Gate::default(), false);
        let name = coro::scope(|s| {
            let refused = Builder::new().stack_size(0).spawn_scoped(s, || ());
            assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::InvalidInput);
            let named = Builder::new().name("named").stack_size(1 << 20);
            let child = named.spawn_scoped(s, || {
                gate.pass();
                ended = true;
                assert!(coro::inspect::stack_bounds().unwrap().len() > 900 << 10);
            });
            gate.open();
            child.unwrap().handle().name().map(str::to_owned)
        });
        assert_eq!((name.as_deref(), ended), (Some("named"), true));
        let caught = catch_unwind(|| {
            coro::scope(|s| drop(Builder::new().spawn_scoped(s, || planned("a child")).unwrap()));
        });
        assert_eq!(message(&*caught.unwrap_err()), CHILD_PANICKED);
    });
}

fn thread_name() -> String {
    thread::current().name().unwrap().to_owned()
}

/// A scope of a runtime starts its children there, whoever starts them and in whatever way. One that is of no
/// runtime starts them where whoever starts them is.
#[test]
fn task_scope_on_a_runtime_of_choice() {
    let _watchdog = common::watchdog();
    let make = |name: &str| Runtime::builder().workers(2).thread_name(name).build().unwrap();
    let (left, right) = (make("left"), Arc::new(make("right")));
    let look = {
        let right = Arc::clone(&right);
        move || {
            let caller = thread::current().id();
            let borrowed = String::from("borrowed");
            let names = right.scope(|s| {
                let child = s.go(thread_name);
                let named = Builder::new().name("named").stack_size(1 << 20);
                let built = named.spawn_scoped(s, || (thread_name(), borrowed.as_str())).unwrap();
                let grandchild = s.go(move || s.go(thread_name).join().unwrap());
                let from_a_thread = coro::blocking(move || s.go(thread_name));
                // On no runtime of its own, so where its caller is.
                let inner = s.go(|| coro::scope(|inner| inner.go(thread_name).join().unwrap()));
                let (built, word) = built.join().unwrap();
                assert_eq!((word, thread::current().id()), ("borrowed", caller));
                let others = [child, grandchild, from_a_thread, inner];
                others.into_iter().map(|other| other.join().unwrap()).chain([built]).collect()
            });
            let names: Vec<String> = names;
            assert!(names.iter().all(|name| name.starts_with("right-")), "{names:?}");
        }
    };
    look();
    left.go(look.clone()).join().unwrap();
    right.go(look).join().unwrap();
    assert!(coro::scope(|s| s.go(thread_name).join().unwrap()).starts_with("coro-"));
    let stays = || coro::scope(|s| s.go(thread_name).join().unwrap());
    assert!(left.go(stays).join().unwrap().starts_with("left-"));
}

/// It waits for everyone, and their panics are its own.
#[test]
fn task_scope_on_a_runtime_waits_for_everyone() {
    let _watchdog = common::watchdog();
    quiet();
    for workers in common::WORKERS {
        let runtime = Arc::new(common::runtime(workers));
        let there = Arc::clone(&runtime);
        everywhere(move || {
            let mut squares = vec![0; 300];
            there.scope(|s| {
                for (i, square) in squares.iter_mut().enumerate() {
                    s.go(move || {
                        coro::yield_now();
                        *square = i * i;
                    });
                }
            });
            assert!(squares.iter().enumerate().all(|(i, square)| *square == i * i));
            let caught = catch_unwind(AssertUnwindSafe(|| {
                there.scope(|s| drop(s.go(|| planned("a child"))));
            }));
            assert_eq!(message(&*caught.unwrap_err()), CHILD_PANICKED);
        });
    }
}

/// A runtime that is shut down in the middle of a scope cancels the children; what is started afterwards is
/// dropped unrun.
#[test]
fn task_scope_on_a_runtime_that_is_shut_down() {
    let _watchdog = common::watchdog();
    for workers in common::WORKERS {
        let runtime = common::runtime(workers);
        let (begun, dropped) = (Counter::default(), Counter::default());
        runtime.scope(|s| {
            let parked = s.go(|| {
                let _local = dropped.on_drop();
                begun.add();
                loop {
                    coro::park();
                }
            });
            begun.wait_for(1);
            runtime.shutdown();
            common::assert_cancelled(parked.join());
            let captured = dropped.on_drop();
            common::assert_cancelled(s.go(move || drop(captured)).join());
            let captured = dropped.on_drop();
            let built = Builder::new().spawn_scoped(s, move || drop(captured));
            common::assert_cancelled(built.unwrap().join());
        });
        assert_eq!(dropped.get(), 3);
        runtime.scope(|s| drop(s.go(|| unreachable!("the runtime has ended"))));
    }
}
