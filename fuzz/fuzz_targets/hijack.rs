#![no_main]
//! Programs over several raw coroutines, against a model that knows at every step where each return
//! address points, what is stored, and what must go next.
//!
//! A coroutine's body plays steps until one of them suspends, ends or panics it. A step may resume
//! another coroutine, which then plays; so may a handler, in the middle of a cleanup, and the `Drop` of a
//! value, in the middle of an unwinding. The calling thread has a store too, and is emptied by `unload`.
//!
//! A destructor that a coroutine's panic runs may suspend the coroutine too. Meanwhile nobody else is
//! panicking, and afterwards the coroutine is, as before. One that is dropped there ends the process, so
//! it is resumed until it has left the destructor.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use coro::inspect;
use coro::raw::{Coroutine, State, Yielder};
use goexit_fuzz::harness::{self, Input};
use goexit_fuzz::op::{Mood, Op, Program};
use goexit_fuzz::planned::{self, Planned, attempt};
use goexit_fuzz::play::{self, Host, Player};
use goexit_fuzz::token::Captured;
use goexit_fuzz::world;
use libfuzzer_sys::fuzz_target;

/// How many unwindings a coroutine that is dropped may swallow; one more ends the process.
const SWALLOWED: u8 = 15;

/// The sizes of stacks. AddressSanitizer makes frames large, so the small classes are `region`'s.
const SIZES: [usize; 4] = [128 << 10, 256 << 10, 512 << 10, 1 << 20];

type Raw = Coroutine<u32, u32, u32>;

/// What goes in and out of one coroutine, told beside the switch.
#[derive(Default)]
struct Said {
    input: Cell<u32>,
    output: Cell<u32>,
    /// How many unwindings it still swallows.
    swallows: Cell<u8>,
    /// It is suspended in a destructor that its panic runs.
    in_its_panic: Cell<bool>,
    /// It is being dropped.
    dropping: Cell<bool>,
    /// While its function runs.
    yielder: Cell<Option<NonNull<Yielder<u32, u32>>>>,
}

/// A coroutine that nobody is running.
struct Idle {
    raw: Raw,
    owner: usize,
    said: Rc<Said>,
    started: bool,
}

enum Place {
    Empty,
    Running,
    Idle(Idle),
}

thread_local! {
    static PLACES: RefCell<[Place; 8]> = const { RefCell::new([const { Place::Empty }; 8]) };
    /// Those that run, the innermost last.
    static RUNNING: RefCell<Vec<Rc<Said>>> = const { RefCell::new(Vec::new()) };
}

fn swap(place: u8, with: Place) -> Place {
    PLACES.with_borrow_mut(|places| std::mem::replace(&mut places[usize::from(place)], with))
}

/// A number that was not said before.
fn fresh() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Tells the model that a function is over. Declared first in it, so dropped last.
struct Function(Rc<Said>);

impl Drop for Function {
    fn drop(&mut self) {
        self.0.yielder.set(None);
        world::end_function();
    }
}

fn create(place: u8, swallows: u8) -> Idle {
    let owner = world::introduce();
    let said = Rc::new(Said::default());
    said.swallows.set(swallows.min(SWALLOWED));
    let captured = Captured::new(owner, if place == 7 { Mood::Plays(1) } else { Mood::Calm });
    let size = SIZES[usize::from(place) % SIZES.len()];
    // SAFETY: each is dropped at the end of its program.
    let raw = unsafe { Coroutine::new(size, body(owner, Rc::clone(&said), captured)) };
    let raw = raw.expect("a stack for each place");
    Idle { raw, owner, said, started: false }
}

/// The function of a coroutine.
fn body(
    owner: usize,
    said: Rc<Said>,
    captured: Captured,
) -> impl FnOnce(&Yielder<u32, u32>, u32) -> u32 {
    move |yielder, input| {
        world::settle_in(owner);
        let _end = Function(Rc::clone(&said));
        let _captured = captured;
        said.yielder.set(Some(NonNull::from(yielder)));
        assert_eq!(input, said.input.get());
        world::check();
        let suspend = || {
            loop {
                said.output.set(fresh());
                let resumed = catch_unwind(AssertUnwindSafe(|| yielder.suspend(said.output.get())));
                match resumed {
                    Ok(input) => return assert_eq!(input, said.input.get()),
                    Err(unwinding) if said.swallows.get() == 0 => resume_unwind(unwinding),
                    Err(_) => said.swallows.set(said.swallows.get() - 1),
                }
            }
        };
        Player::new(&suspend).all(|| planned::panic_here());
        said.output.set(fresh());
        said.output.get()
    }
}

/// Suspends the innermost coroutine, if it is in a destructor that its panic runs.
fn suspend_in_a_panic() {
    let running = RUNNING.with_borrow(|running| running.last().cloned());
    let Some(said) = running.filter(|said| thread::panicking() && !said.dropping.get()) else {
        return;
    };
    let Some(yielder) = said.yielder.get() else { return };
    said.output.set(fresh());
    said.in_its_panic.set(true);
    // SAFETY: the function is running, and we are called by it.
    let input = unsafe { yielder.as_ref() }.suspend(said.output.get());
    said.in_its_panic.set(false);
    assert_eq!(input, said.input.get());
    assert!(thread::panicking(), "its panic is there again");
}

/// Runs `f`, in which the coroutine runs. Whether a panic is under way is the caller's own affair.
fn running<R>(said: &Rc<Said>, f: impl FnOnce() -> R) -> R {
    let before = thread::panicking();
    RUNNING.with_borrow_mut(|running| running.push(Rc::clone(said)));
    let outcome = catch_unwind(AssertUnwindSafe(f));
    RUNNING.with_borrow_mut(|running| {
        assert!(running.pop().is_some_and(|last| Rc::ptr_eq(&last, said)))
    });
    assert_eq!(thread::panicking(), before, "its panics are its own");
    outcome.unwrap_or_else(|payload| resume_unwind(payload))
}

fn resume(idle: Idle) -> Idle {
    let Idle { raw, owner, said, .. } = idle;
    let was_done = raw.is_done();
    let input = fresh();
    said.input.set(input);
    match catch_unwind(AssertUnwindSafe(|| running(&said, || raw.resume(input)))) {
        Ok(State::Yielded(output)) => {
            assert!(!was_done && !raw.is_done());
            assert_eq!(output, said.output.get());
        }
        Ok(State::Done(output)) => {
            assert!(!was_done && raw.is_done());
            assert_eq!(output, said.output.get());
            world::close(owner);
        }
        Err(payload) if was_done => {
            let refusal = payload.downcast_ref::<&str>().expect("a message");
            assert_eq!(*refusal, "a coroutine was resumed after its end");
        }
        Err(payload) => {
            assert!(payload.is::<Planned>() && raw.is_done(), "no other panic is in a body");
            planned::swallow(payload);
            world::close(owner);
        }
    }
    Idle { raw, owner, said, started: true }
}

fn drop_idle(mut idle: Idle) {
    while idle.said.in_its_panic.get() {
        idle = resume(idle);
    }
    let Idle { raw, owner, said, started } = idle;
    if raw.is_done() {
        return;
    }
    said.dropping.set(true);
    // A function that never ran is dropped here, and what it has captured may panic.
    attempt(|| running(&said, || drop(raw)));
    assert!(!started || said.yielder.get().is_none(), "it is unwound to its end");
    world::close(owner);
}

/// Takes a step with the coroutine in a place. Meanwhile the place is `Running`, so that whatever plays in
/// between leaves it alone.
fn act(op: Op) {
    let (Op::Create(place, _) | Op::Resume(place) | Op::Drop(place)) = op else { return };
    let now = match (op, swap(place, Place::Running)) {
        (Op::Create(_, swallows), Place::Empty) => Place::Idle(create(place, swallows)),
        (Op::Resume(_), Place::Idle(idle)) => Place::Idle(resume(idle)),
        (Op::Drop(_), Place::Idle(idle)) => {
            drop_idle(idle);
            Place::Empty
        }
        (_, other) => other,
    };
    swap(place, now);
}

fn init() {
    harness::init();
    play::set_host(Host { suspend: suspend_in_a_panic, act });
}

fuzz_target!(init: init(), |program: Program| {
    let _input = Input::begin();
    let stacks = inspect::metrics().stacks_in_use;
    world::begin(&program, true);
    while world::goes_on() {
        Player::new(&|| ()).all(|| ());
    }
    for place in 0..8 {
        act(Op::Drop(place));
    }
    while play::unkeep() {}
    play::unload();
    world::end();
    assert!(!thread::panicking());
    assert_eq!(inspect::metrics().stacks_in_use, stacks, "each stack goes back");
});
