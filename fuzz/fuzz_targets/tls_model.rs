#![no_main]
//! Storage and exit handlers where nobody expects a call: keys and values whose `Hash`, `Eq`, `Clone` and
//! `Drop` go on with the program, panic, or suspend.
//!
//! The program's mode says who plays it and how:
//!
//! | bits | meaning |
//! |---|---|
//! | `....0` | tame keys; the model knows what must be found, and what must go next |
//! | `....1` | wild keys; every token goes exactly once, whatever is found |
//! | `.00.`, `.01.` | a thread of its own, which cleans up in its last destructors; one task |
//! | `.10.`, `.11.` | two, three tasks on one worker, which take turns wherever one suspends |

use std::sync::OnceLock;

use coro::{JoinError, JoinHandle, Runtime};
use goexit_fuzz::harness::{self, Input};
use goexit_fuzz::op::{Mood, Op, Program};
use goexit_fuzz::planned::{self, Planned, attempt};
use goexit_fuzz::play::{self, Host, Player};
use goexit_fuzz::token::Captured;
use goexit_fuzz::world;
use libfuzzer_sys::fuzz_target;

/// One worker, so that there is one order of events.
static RUNTIME: OnceLock<Runtime> = OnceLock::new();

fn runtime() -> &'static Runtime {
    RUNTIME.get_or_init(|| Runtime::builder().workers(1).build().expect("a worker"))
}

/// Tells the model that a function is over. Declared first in it, so dropped last.
struct Function;

impl Drop for Function {
    fn drop(&mut self) {
        world::end_function();
    }
}

/// A function's part of the program; the rest is its cleanup's. What it has captured goes with it.
fn function(_captured: Option<Captured>) {
    world::check();
    Player::new(&coro::yield_now).all(|| planned::panic_here());
}

/// A task that is an owner, and its part of the program.
fn task(owner: usize) -> JoinHandle<()> {
    let captured = Captured::new(owner, Mood::Plays(1));
    coro::go(move || {
        world::settle_in(owner);
        let _end = Function;
        function(Some(captured));
    })
}

fn join(owner: usize, task: JoinHandle<()>) {
    match task.join() {
        Ok(()) => {}
        Err(JoinError::Panicked(payload)) => {
            assert!(payload.is::<Planned>(), "no other is planned")
        }
        Err(JoinError::Cancelled) => panic!("nobody cancels"),
    }
    world::close(owner);
}

fn play_on_a_thread(program: &mut Program, exact: bool) {
    // The thread would let go of it after its cleanup, where the model does not follow.
    program.steps.retain(|step| !matches!(step, Op::Keep(_)));
    std::thread::scope(|scope| {
        let program = &*program;
        let thread = scope.spawn(move || {
            world::begin(program, exact);
            let _end = Function;
            attempt(|| function(None));
        });
        thread.join().expect("planned panics are caught");
    });
    world::close(0);
}

fn play_on_tasks(program: &Program, exact: bool, tasks: usize) {
    world::begin(program, exact);
    // All are spawned by one, so that none runs before the others are there.
    let first = runtime().go(move || {
        let owner = world::introduce();
        world::settle_in(owner);
        let tasks: Vec<_> = (0..tasks).map(|_| world::introduce()).collect();
        let tasks: Vec<_> = tasks.into_iter().map(|owner| (owner, task(owner))).collect();
        world::close(owner);
        tasks
    });
    for (owner, task) in first.join().expect("no panic is planned here") {
        join(owner, task);
    }
    // What the worker's thread has kept beyond their ends, and what that plays.
    let last = runtime().go(|| {
        let owner = world::introduce();
        world::settle_in(owner);
        {
            let _end = Function;
            while play::unkeep() || world::goes_on() {
                Player::new(&coro::yield_now).all(|| ());
            }
        }
        owner
    });
    let owner = last.join().expect("every panic is caught");
    world::close(owner);
}

fn init() {
    harness::init();
    play::set_host(Host { suspend: coro::yield_now, act: |_| () });
    let _ = runtime();
}

fuzz_target!(init: init(), |program: Program| {
    let _input = Input::begin();
    let mut program = program;
    let exact = program.mode & 1 == 0;
    match (program.mode >> 1) & 3 {
        0 => play_on_a_thread(&mut program, exact),
        tasks => play_on_tasks(&program, exact, usize::from(tasks)),
    }
    world::end();
    harness::settle();
});
