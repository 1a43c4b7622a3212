#![no_main]
//! Programs over several raw coroutines, against a model that knows at every step where each return
//! address points, what is stored, and what must go next.
//!
//! A coroutine's body plays steps until one of them suspends, ends or panics it. A step may resume
//! another coroutine, which then plays; so may a handler, in the middle of a cleanup, and the `Drop` of a
//! value, in the middle of an unwinding. The calling thread has a store too, and is emptied by `unload`.
//!
//! One thing is left out: a raw coroutine that suspends itself in a destructor, in the middle of an
//! unwinding, and is dropped there. It is leaked, and std goes on counting its panic, so the thread would
//! be panicking for the rest of the run.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
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

/// How often a coroutine that is dropped is unwound; one that has swallowed all of these is leaked.
const UNWINDINGS: u8 = 16;

/// So many stacks may be leaked in a process. After that no coroutine swallows anything.
const LEAKS: u32 = 2000;

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
    /// Whether a panic was under way on the thread when it suspended itself.
    in_a_panic: Cell<bool>,
    /// Its function is over.
    ended: Cell<bool>,
}

/// A coroutine that nobody is running.
struct Idle {
    raw: Raw,
    owner: usize,
    said: Rc<Said>,
    started: bool,
    /// Its stack, once it has started.
    bounds: Rc<Cell<(usize, usize)>>,
}

enum Place {
    Empty,
    Running,
    Idle(Idle),
}

thread_local! {
    static PLACES: RefCell<[Place; 8]> = const { RefCell::new([const { Place::Empty }; 8]) };
}

static LEAKED: AtomicU32 = AtomicU32::new(0);

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
        self.0.ended.set(true);
        world::end_function();
    }
}

unsafe extern "C" {
    /// Has LeakSanitizer take what lies here for alive, and all that it points to.
    fn __lsan_register_root_region(start: *const u8, size: usize);
}

fn create(place: u8, swallows: u8) -> Idle {
    let owner = world::introduce();
    let said = Rc::new(Said::default());
    if LEAKED.load(Ordering::Relaxed) < LEAKS {
        said.swallows.set(swallows);
    }
    let bounds = Rc::new(Cell::new((0, 0)));
    let captured = Captured::new(owner, if place == 7 { Mood::Plays(1) } else { Mood::Calm });
    let size = SIZES[usize::from(place) % SIZES.len()];
    let raw = Coroutine::new(size, body(owner, Rc::clone(&said), Rc::clone(&bounds), captured));
    let raw = raw.expect("a stack for each place");
    Idle { raw, owner, said, started: false, bounds }
}

/// The function of a coroutine.
fn body(
    owner: usize,
    said: Rc<Said>,
    bounds: Rc<Cell<(usize, usize)>>,
    captured: Captured,
) -> impl FnOnce(&Yielder<u32, u32>, u32) -> u32 {
    move |yielder, input| {
        world::settle_in(owner);
        let _end = Function(Rc::clone(&said));
        let _captured = captured;
        let stack = inspect::stack_bounds().expect("a coroutine has a stack");
        bounds.set((stack.start, stack.end));
        assert_eq!(input, said.input.get());
        world::check();
        let suspend = || {
            loop {
                said.output.set(fresh());
                said.in_a_panic.set(thread::panicking());
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

fn resume(idle: Idle) -> Idle {
    let Idle { mut raw, owner, said, bounds, .. } = idle;
    let was_done = raw.is_done();
    let input = fresh();
    said.input.set(input);
    match catch_unwind(AssertUnwindSafe(|| raw.resume(input))) {
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
    Idle { raw, owner, said, started: true, bounds }
}

fn drop_idle(idle: Idle) {
    let Idle { raw, owner, said, started, bounds } = idle;
    if raw.is_done() {
        return;
    }
    let swallows = said.swallows.get();
    let stubborn = swallows >= UNWINDINGS;
    // Whose panic it is, is not always to be seen (it is suspended inside a `catch_unwind`).
    let doubtful = thread::panicking() && (said.in_a_panic.get() || swallows > 0);
    // A closure that never ran is dropped here, and what it has captured may panic.
    attempt(|| drop(raw));
    let leaked = started && !said.ended.get();
    assert!(leaked == (started && stubborn) || (started && doubtful), "unwound, and exactly once");
    if leaked {
        LEAKED.fetch_add(1, Ordering::Relaxed);
        let (start, end) = bounds.get();
        // SAFETY: a stack that is leaked stays mapped and is nobody's any more.
        unsafe { __lsan_register_root_region(start as *const u8, end - start) };
        world::leak(owner);
    } else {
        world::close(owner);
    }
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
    play::set_host(Host { suspend: || (), act });
}

fuzz_target!(init: init(), |program: Program| {
    let _input = Input::begin();
    let stacks = inspect::metrics().stacks_in_use;
    let leaked = LEAKED.load(Ordering::Relaxed);
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
    let leaked = u64::from(LEAKED.load(Ordering::Relaxed) - leaked);
    assert_eq!(inspect::metrics().stacks_in_use, stacks + leaked, "each stack goes back");
});
