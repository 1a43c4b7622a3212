#![no_main]
//! Trees of tasks on one to three workers: everything that can become of a task, in every order.
//!
//! What comes out of a run depends on the clock and on the threads, so there is no model of each step.
//! What holds whatever the order:
//!
//! - a task that was not cancelled gives its own number, or a panic of ours;
//! - each value is dropped once and each handler is run or dropped once, and not before its task is over;
//! - what is carried with a task is on its thread in its turns, and in nobody else's;
//! - as many tasks end as were spawned, and no stack stays in use;
//! - nothing hangs. A task that parks waits for its *gate*, which whoever spawned it opens exactly as
//!   often as needed and never again, so that one lost wake-up is a hang, which the watchdog ends.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::panicking;
use std::time::Duration;

use coro::hook::{Carry, attach};
use coro::raw::{self, Coroutine, State, Yielder};
use coro::{Handle, JoinError, JoinHandle, JoinSet, Runtime, ScopedJoinHandle, inspect, tls};
use goexit_fuzz::harness::{self, Input};
use goexit_fuzz::planned::{self, Planned};
use goexit_fuzz::tree::{Body, Fate, SetEnd, Step, Tree};
use libfuzzer_sys::fuzz_target;

/// What is counted in one run.
#[derive(Default)]
struct Tally {
    spawned: AtomicUsize,
    made: AtomicUsize,
    gone: AtomicUsize,
    /// The runtime shuts down, so that anything may be cancelled.
    shut: AtomicBool,
}

/// Goes once.
struct Counted {
    tally: Arc<Tally>,
    alive: bool,
}

impl Counted {
    fn new(tally: &Arc<Tally>) -> Counted {
        tally.made.fetch_add(1, Ordering::Relaxed);
        Counted { tally: Arc::clone(tally), alive: true }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        assert!(self.alive, "dropped twice");
        self.alive = false;
        self.tally.gone.fetch_add(1, Ordering::Relaxed);
    }
}

/// What a task and those who deal with it have in common.
struct Shared {
    tally: Arc<Tally>,
    number: usize,
    /// How often the task may still pass.
    permits: AtomicUsize,
    cancelled: AtomicBool,
    over: AtomicBool,
}

impl Shared {
    fn new(tally: &Arc<Tally>) -> Arc<Shared> {
        Arc::new(Shared {
            tally: Arc::clone(tally),
            number: tally.spawned.fetch_add(1, Ordering::Relaxed),
            permits: AtomicUsize::new(0),
            cancelled: AtomicBool::new(false),
            over: AtomicBool::new(false),
        })
    }

    /// The gate, from inside.
    fn pass(&self) {
        // Acquire: pairs with `open`.
        let take = |permits: usize| permits.checked_sub(1);
        while self.permits.fetch_update(Ordering::Acquire, Ordering::Relaxed, take).is_err() {
            coro::park();
        }
    }

    /// To be called before the task is cancelled.
    fn note_cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
    }

    /// Checks what a task has come to.
    fn check(&self, outcome: Result<Outcome, JoinError>) {
        match outcome {
            Ok(outcome) => {
                assert_eq!(outcome.number, self.number, "each task gives its own value");
                assert!(self.over.load(Ordering::Acquire), "a join returns after the cleanup");
            }
            Err(JoinError::Panicked(payload)) => assert!(is_ours(&*payload)),
            Err(JoinError::Cancelled) => {
                let shut = self.tally.shut.load(Ordering::Acquire);
                assert!(shut || self.cancelled.load(Ordering::Acquire), "nobody has cancelled it");
            }
        }
    }
}

fn is_ours(payload: &(dyn std::any::Any + Send)) -> bool {
    let scopes = payload.downcast_ref::<&str>();
    payload.is::<Planned>()
        || scopes.is_some_and(|text| *text == "a coroutine of this scope panicked")
}

thread_local! {
    /// The number of the task that the thread's turn belongs to, if that carries it.
    static CURRENT: Cell<usize> = const { Cell::new(0) };
}

/// Carries the number of a task. While that is on the thread, it holds what the thread had.
struct Carried {
    number: usize,
    is_here: bool,
    counted: Counted,
}

impl Carried {
    /// Swaps what it has with what the thread has.
    fn swap(&mut self) {
        self.number = CURRENT.replace(self.number);
        self.is_here = !self.is_here;
    }
}

impl Carry for Carried {
    fn suspend(&mut self) {
        assert!(self.is_here);
        self.swap();
    }

    fn resume(&mut self) {
        assert!(!self.is_here);
        self.swap();
    }

    fn inherit(&self) -> Option<Box<dyn Carry + Send>> {
        let counted = Counted::new(&self.counted.tally);
        Some(Box::new(Carried { number: CURRENT.get(), is_here: false, counted }))
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        if self.is_here {
            self.swap();
        }
    }
}

/// What a task gives.
struct Outcome {
    number: usize,
    _counted: Counted,
}

/// Opens the gate of a task as often as is owed to it, at the latest when dropped: whoever spawned the task
/// may be unwound meanwhile.
struct Owed {
    shared: Arc<Shared>,
    handle: Handle,
    left: usize,
}

impl Owed {
    fn new(shared: &Arc<Shared>, handle: Handle, body: &Body) -> Owed {
        Owed { shared: Arc::clone(shared), handle, left: body.passes() }
    }

    fn open(&mut self) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        // Release: pairs with `pass`.
        self.shared.permits.fetch_add(1, Ordering::Release);
        self.handle.unpark();
        true
    }

    /// Opens it one by one, and lets others go first in between.
    fn settle(mut self) {
        while self.open() {
            coro::yield_now();
        }
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        while self.open() {}
    }
}

/// What a task's function is.
fn run(shared: Arc<Shared>, body: &Body, captured: Counted) -> Outcome {
    let late = Arc::clone(&shared);
    tls::at_exit(move || late.over.store(true, Ordering::Release));
    let mut carried =
        Carried { number: shared.number + 1, is_here: false, counted: Counted::new(&shared.tally) };
    let _attached = match shared.number % 4 {
        0 => None,
        kind => {
            carried.swap();
            let attached = attach(carried);
            if kind == 1 {
                Some(attached)
            } else {
                attached.keep();
                None
            }
        }
    };
    play(&shared, &body.steps);
    if body.panics {
        planned::panic_here();
    }
    Outcome { number: shared.number, _counted: captured }
}

/// Its `Drop` suspends.
struct Linger(Counted);

impl Drop for Linger {
    fn drop(&mut self) {
        assert!(self.0.alive);
        coro::yield_now();
    }
}

/// A closure for one that is to be spawned.
fn closure(shared: &Arc<Shared>, body: &Body) -> impl FnOnce() -> Outcome + Send + 'static {
    let (shared, body) = (Arc::clone(shared), body.clone());
    let captured = Counted::new(&shared.tally);
    move || run(shared, &body, captured)
}

/// A task that is joined when the body is over.
type Late = (Arc<Shared>, JoinHandle<Outcome>);

fn play(shared: &Arc<Shared>, steps: &[Step]) {
    let mut late: Vec<Late> = Vec::new();
    let mut lingering = Vec::new();
    for step in steps {
        if matches!(step, Step::Linger) {
            lingering.push(Linger(Counted::new(&shared.tally)));
        } else {
            play_one(shared, step, &mut late);
        }
    }
    drop(lingering);
    for (other, handle) in late {
        other.check(handle.join());
    }
}

fn play_one(shared: &Arc<Shared>, step: &Step, late: &mut Vec<Late>) {
    let tally = &shared.tally;
    let current = CURRENT.get();
    match step {
        Step::Yield | Step::Linger => coro::yield_now(),
        Step::Pass => shared.pass(),
        Step::Sleep(micros) => coro::sleep(Duration::from_micros(*micros)),
        Step::ParkTimeout(micros) => coro::park_timeout(Duration::from_micros(*micros)),
        Step::Store(key) => tls::set(*key, Counted::new(tally)),
        Step::AtExit(suspensions) => {
            let (counted, suspensions) = (Counted::new(tally), *suspensions);
            tls::at_exit(move || {
                let _counted = counted;
                (0..suspensions).for_each(|_| coro::yield_now());
            });
        }
        Step::Spawn(body, fate) => {
            let other = Shared::new(tally);
            meet(other.clone(), coro::go(closure(&other, body)), body, *fate, late);
        }
        Step::Scope(bodies, fate, steps) => scope(shared, bodies, *fate, steps),
        Step::Set(bodies, end) => join_set(tally, bodies, *end),
        Step::Timeout(micros, steps) => {
            let limit = Duration::from_micros(*micros);
            let before = panicking();
            let _: Result<(), coro::Elapsed> = coro::timeout(limit, || {
                assert!(!panicking(), "a timeout sets aside the panic that it is called in");
                play(shared, steps);
            });
            assert_eq!(panicking(), before);
        }
        Step::Catch(steps) => drop(catch_unwind(AssertUnwindSafe(|| play(shared, steps)))),
        Step::Blocking(panics) => {
            let (counted, panics) = (Counted::new(tally), *panics);
            coro::blocking(move || {
                let _counted = counted;
                if panics {
                    planned::panic_here();
                }
            });
        }
        Step::Raw(steps, resumed) => raw_coroutine(shared, steps, *resumed),
        Step::Shield(steps) => coro::shield(|| play(shared, steps)),
        Step::Unwind(steps) => unwind(shared, steps),
        Step::CancelSelf => {
            if let Some(me) = coro::current() {
                shared.note_cancel();
                me.cancel();
            }
        }
        Step::UnparkSelf => drop(coro::current().map(|me| me.unpark())),
    }
    assert_eq!(CURRENT.get(), current, "of somebody else");
}

/// Deals with a task that was spawned.
fn meet(
    other: Arc<Shared>,
    handle: JoinHandle<Outcome>,
    body: &Body,
    fate: Fate,
    late: &mut Vec<Late>,
) {
    let owed = Owed::new(&other, handle.handle(), body);
    match fate {
        Fate::Join => {
            owed.settle();
            other.check(handle.join());
        }
        Fate::Wait => {
            owed.settle();
            other.check(coro::wait(handle));
        }
        Fate::JoinLate => {
            drop(owed);
            late.push((other, handle));
        }
        Fate::Cancel | Fate::CancelLate => {
            if fate == Fate::CancelLate {
                coro::yield_now();
            }
            other.note_cancel();
            handle.cancel();
            drop(owed);
            other.check(handle.join());
        }
        Fate::Detach => {
            drop(handle);
            owed.settle();
        }
        Fate::CancelDetach => {
            other.note_cancel();
            handle.cancel();
        }
    }
}

fn scope(shared: &Arc<Shared>, bodies: &[Body], fate: Fate, steps: &[Step]) {
    let borrowed = AtomicUsize::new(0);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        coro::scope(|s| {
            for body in bodies {
                let other = Shared::new(&shared.tally);
                let captured = Counted::new(&shared.tally);
                let inside = Arc::clone(&other);
                let child = s.go(|| {
                    borrowed.fetch_add(1, Ordering::Relaxed);
                    run(inside, body, captured)
                });
                let owed = Owed::new(&other, child.handle(), body);
                meet_in_scope(&other, child, fate, owed);
            }
            play(shared, steps);
        });
    }));
    assert!(borrowed.into_inner() <= bodies.len());
    if let Err(payload) = outcome {
        // A child's panic that nobody has joined is the scope's; all others were on their way already.
        if !payload.is::<&str>() || !is_ours(&*payload) {
            resume_unwind(payload);
        }
    }
}

fn meet_in_scope(other: &Shared, child: ScopedJoinHandle<'_, Outcome>, fate: Fate, owed: Owed) {
    match fate {
        Fate::Join | Fate::Wait => {
            owed.settle();
            other.check(child.join());
        }
        Fate::Cancel | Fate::CancelLate => {
            if fate == Fate::CancelLate {
                coro::yield_now();
            }
            other.note_cancel();
            child.cancel();
            drop(owed);
            other.check(child.join());
        }
        Fate::CancelDetach => {
            other.note_cancel();
            child.cancel();
        }
        Fate::JoinLate | Fate::Detach => drop(owed),
    }
}

fn join_set(tally: &Arc<Tally>, bodies: &[Body], end: SetEnd) {
    let mut set = JoinSet::new();
    let mut members = Vec::new();
    let mut owed = Vec::new();
    let cancelled = end == SetEnd::Abort || end == SetEnd::Drop;
    for (index, body) in bodies.iter().enumerate() {
        let other = Shared::new(tally);
        if index % 2 == 0 && body.passes() == 0 {
            // Cancelled when the set is dropped, and that can be in any unwinding.
            other.note_cancel();
            set.spawn(closure(&other, body));
        } else {
            let handle = coro::go(closure(&other, body));
            other.note_cancel();
            owed.push(Owed::new(&other, handle.handle(), body));
            set.insert(handle);
        }
        members.push(other);
    }
    assert_eq!(set.len(), bodies.len());
    if cancelled {
        set.cancel_all();
    }
    owed.into_iter().for_each(Owed::settle);
    let check = |outcome: Result<Outcome, JoinError>| match outcome {
        Ok(outcome) => {
            let member = members.iter().find(|member| member.number == outcome.number);
            member.expect("a member of this set").check(Ok(outcome));
        }
        Err(JoinError::Panicked(payload)) => assert!(is_ours(&*payload)),
        Err(JoinError::Cancelled) => {}
    };
    match end {
        SetEnd::JoinAll | SetEnd::Abort => {
            let mut joined = 0;
            while let Some(outcome) = set.join_next() {
                check(outcome);
                joined += 1;
            }
            assert_eq!(joined, bodies.len(), "each member is joined once");
        }
        SetEnd::Drop => drop(set.join_next().map(check)),
        SetEnd::Detach => {
            set.try_join_next().map(check);
            set.detach_all();
            assert!(set.is_empty());
        }
    }
}

/// In the middle of a panic. What the steps panic with goes no further than the destructor.
fn unwind(shared: &Arc<Shared>, steps: &[Step]) {
    struct Plays<'a>(&'a Arc<Shared>, &'a [Step]);
    impl Drop for Plays<'_> {
        fn drop(&mut self) {
            assert!(panicking());
            let outcome = catch_unwind(AssertUnwindSafe(|| play(self.0, self.1)));
            assert!(panicking(), "its own panic is there again");
            if let Err(payload) = outcome {
                assert!(is_ours(&*payload), "nothing is interrupted in the middle of a panic");
            }
        }
    }
    let before = panicking();
    let caught = catch_unwind(AssertUnwindSafe(|| {
        let _plays = Plays(shared, steps);
        planned::panic_here();
    }));
    assert_eq!(panicking(), before);
    assert!(caught.is_err_and(|payload| payload.is::<Planned>()), "it is this panic's payload");
}

fn raw_coroutine(shared: &Arc<Shared>, steps: &[Step], resumed: bool) {
    let (inside, steps) = (Arc::clone(shared), steps.to_vec());
    let counted = Counted::new(&shared.tally);
    let body = move |yielder: &Yielder<(), ()>, ()| {
        let counted = counted;
        assert!(!panicking(), "the panic of its resumer is not its own");
        tls::set("raw", Counted::new(&inside.tally));
        play(&inside, &steps);
        yielder.suspend(());
        assert!(counted.alive);
    };
    let resumes = |raw: &Coroutine<(), (), ()>| {
        assert_eq!(raw.resume(()), State::Yielded(()));
        if resumed {
            assert_eq!(raw.resume(()), State::Done(()));
        }
    };
    raw::with(256 << 10, body, resumes).expect("a stack");
}

/// A runtime with so many workers, which stays.
fn standing(workers: usize) -> &'static Runtime {
    static RUNTIMES: [OnceLock<Runtime>; 3] = [const { OnceLock::new() }; 3];
    RUNTIMES[workers - 1].get_or_init(|| new_runtime(workers))
}

fn new_runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().expect("threads")
}

fn play_roots(tree: &Tree, tally: &Arc<Tally>, runtime: &Runtime, leave: bool) {
    let mut late = Vec::new();
    for (body, fate) in &tree.roots {
        let other = Shared::new(tally);
        let handle = runtime.go(closure(&other, body));
        meet(other, handle, body, *fate, &mut late);
    }
    if leave {
        return;
    }
    for (other, handle) in late {
        other.check(handle.join());
    }
}

/// The bodies' steps on the fuzzer's own thread, which is no task.
fn play_on_the_thread(tree: &Tree, tally: &Arc<Tally>) {
    for (body, _) in &tree.roots {
        let me = Shared::new(tally);
        // Nobody was spawned here, and nobody will open its gate.
        tally.spawned.fetch_sub(1, Ordering::Relaxed);
        me.permits.store(body.passes(), Ordering::Relaxed);
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| play(&me, &body.steps))) {
            assert!(is_ours(&*payload), "a thread is neither cancelled nor out of time here");
        }
        tls::unload();
    }
}

fn init() {
    harness::init();
    for workers in 1..=3 {
        let _ = standing(workers);
    }
    coro::go(|| ()).join().expect("the default runtime");
    harness::settle();
}

fuzz_target!(init: init(), |tree: Tree| {
    let _input = Input::begin();
    let before = inspect::metrics();
    let tally = Arc::<Tally>::default();
    let workers = 1 + usize::from(tree.mode % 3);
    match tree.mode >> 5 {
        // A runtime of its own, which is dropped while tasks live.
        0 => {
            let runtime = new_runtime(workers);
            tally.shut.store(true, Ordering::Release);
            play_roots(&tree, &tally, &runtime, true);
            drop(runtime);
        }
        1 => play_on_the_thread(&tree, &tally),
        _ => play_roots(&tree, &tally, standing(workers), false),
    }
    harness::settle();
    let spawned = inspect::metrics().spawned - before.spawned;
    assert_eq!(spawned, tally.spawned.load(Ordering::Relaxed) as u64, "each spawn is counted once");
    let (made, gone) = (tally.made.load(Ordering::Relaxed), tally.gone.load(Ordering::Relaxed));
    assert_eq!(made, gone, "each value goes");
});
