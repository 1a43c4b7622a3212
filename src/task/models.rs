//! Models of the state word, under loom: every rule of [`state`](super::state) as something that
//! an interleaving can break.
//!
//! The state word is the real one. Around it stands a [`ModelBlock`] that is a task's block as far as
//! the rules speak of it, with a cell that loom checks for each thing that they give to one side:
//!
//! ```text
//!   cell       rule  who may touch it
//!   alive      T1    read by whoever holds a reference, written by who frees
//!   frames     T3    the task while it runs; whoever unparks it while it is parked
//!   owner      T4    written before the task first runs, read by whoever unparks it
//!   outcome    T5    the task before COMPLETE and DONE, then the handle or again the task
//!   waiter     T6    the handle, or the finishing task
//! ```
//!
//! The operations on a block follow those of `park.rs`, `wake.rs`, `run.rs` and `join.rs` step by step;
//! where one of those changes, its shadow here changes with it. They cannot be the real ones: between
//! two steps a task leaves its stack, and loom's threads have stacks of loom's own; and what the rules
//! protect is plain memory, of which loom knows nothing unless it is in a cell of loom's.
//!
//! A queue with a worker behind it is a parker and a count, so a wake-up that is lost is a deadlock,
//! which loom reports, and one that comes twice is a count of two (T2).
//!
//! The models of the inbox are in [`inbox`].

mod handle;
mod inbox;
mod park;
mod release;
mod wait_list;

use std::sync::Arc;

use super::state::{DONE, Detach, Finish, NOTIFIED, PARKED, RELEASED, StateWord, TOKEN, WAITER};
use crate::base::atomics::{AtomicUsize, Checked, Ordering, Parker, Unparker};

/// What is in the place of the closure and the outcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Content {
    Closure,
    Outcome,
    Nothing,
}

/// Who waits for a block's end.
enum Waiter {
    Nobody,
    /// A task that joins; borrowed, but for the memory that the model itself needs.
    Task(Arc<ModelBlock>),
    Waker(Unparker),
}

/// How a park ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Parked {
    /// A token was there before the switch.
    Token,
    /// A token came between the switch and the commit.
    Early,
    /// It was visible, and undone.
    Unparked,
}

/// A task's block, as far as the rules of the state word speak of it.
struct ModelBlock {
    state: StateWord,
    alive: Checked<bool>,
    frames: Checked<u32>,
    owner: Checked<bool>,
    content: Checked<Content>,
    waiter: Checked<Waiter>,
    /// Its worker, which waits for it to be queued.
    worker: Parker,
    queued: AtomicUsize,
}

impl ModelBlock {
    /// A task that its worker has bound and runs.
    fn started() -> Arc<ModelBlock> {
        let block = ModelBlock {
            state: StateWord::spawned(),
            alive: Checked::new(true),
            frames: Checked::new(0),
            owner: Checked::new(false),
            content: Checked::new(Content::Closure),
            waiter: Checked::new(Waiter::Nobody),
            worker: Parker::new(),
            queued: AtomicUsize::new(0),
        };
        Arc::new(block)
    }

    /// The state word, for whoever holds a reference (T1).
    fn state(&self) -> &StateWord {
        self.alive.read(|alive| assert!(*alive, "the block was freed"));
        &self.state
    }

    /// As `TaskRef::bind`, by the worker before the task first runs.
    fn bind(&self) {
        self.owner.write(|owner| *owner = true);
    }

    /// As `Current::park_undisturbed` for a wait that has this token for its own, the worker's part
    /// included.
    fn wait_with(&self, token: usize) -> Parked {
        if self.state().take(NOTIFIED | token) != 0 {
            return Parked::Token;
        }
        let how = self.switch_out();
        if token != 0 {
            self.state().take(NOTIFIED | token);
        }
        how
    }

    /// A `park` of the task's own.
    fn park(&self) -> Parked {
        self.wait_with(TOKEN)
    }

    /// Any wait that has no token.
    fn wait(&self) -> Parked {
        self.wait_with(0)
    }

    /// The switch to the worker, what that does, and the switch back.
    fn switch_out(&self) -> Parked {
        // The last that the task does before the switch.
        self.frames.write(|frames| *frames += 1);
        let how = if self.state().commit_park() {
            self.worker.park();
            assert_eq!(self.queued.fetch_sub(1, Ordering::Relaxed), 1);
            assert!(self.state().load().has(PARKED));
            self.state().unpark_committed();
            Parked::Unparked
        } else {
            Parked::Early
        };
        self.frames.write(|frames| *frames += 1);
        how
    }

    /// As `Header::notify` from another thread. True: it was this call that queued the task.
    fn notify(&self, also: usize) -> bool {
        let queues = self.state().notify(also);
        if queues {
            self.owner.read(|owner| assert!(*owner, "a parked task has an owner"));
            // Its worker has left its stack, and nobody else has it.
            self.frames.write(|frames| *frames += 1);
            let before = self.queued.fetch_add(1, Ordering::Relaxed);
            assert_eq!(before, 0, "the task is queued twice");
            self.worker.unparker().unpark();
        }
        queues
    }

    /// The end of `body::run`: the outcome is stored, and is of a type that has to be dropped.
    /// True: the handle has it.
    fn store_outcome(&self) -> bool {
        self.put_outcome();
        let handed_over = self.state().complete();
        if !handed_over {
            self.take_outcome();
        }
        handed_over
    }

    fn put_outcome(&self) {
        self.content.write(|content| {
            assert_eq!(*content, Content::Closure);
            *content = Content::Outcome;
        });
    }

    /// Takes the outcome out of the block, or drops it there.
    fn take_outcome(&self) {
        self.content.write(|content| {
            assert_eq!(*content, Content::Outcome);
            *content = Content::Nothing;
        });
    }

    /// As `run::finish`, for a task that nobody on its own worker joins.
    fn finish(&self) -> Finish {
        let how = self.state().finish_unwaited();
        let last = match how {
            Finish::Released => false,
            Finish::LastReference => true,
            Finish::WaiterSet | Finish::JoinerSet => {
                self.tell_waiter();
                self.state().release()
            }
        };
        if last {
            self.free();
        }
        how
    }

    fn tell_waiter(&self) {
        if self.state().finish() {
            let waiter = self.waiter.write(|waiter| std::mem::replace(waiter, Waiter::Nobody));
            match waiter {
                Waiter::Nobody => panic!("WAITER was set, and nobody waits"),
                Waiter::Task(joiner) => {
                    joiner.notify(0);
                }
                Waiter::Waker(waker) => waker.unpark(),
            }
        }
    }

    /// As `JoinHandle::drop_waker`.
    fn drop_waker(&self) {
        if self.state().load().has(WAITER) && self.state().clear_waiter() {
            self.waiter.write(|cell| *cell = Waiter::Nobody);
        }
    }

    /// As `JoinHandle::register`, after that. False: the end has come.
    fn register(&self, waiter: Waiter, also: usize) -> bool {
        self.drop_waker();
        if self.state().load().has(DONE) {
            return false;
        }
        self.waiter.write(|cell| *cell = waiter);
        let registered = self.state().set_waiter(also);
        if !registered {
            self.waiter.write(|cell| *cell = Waiter::Nobody);
        }
        registered
    }

    /// As `JoinHandle::poll`. True: it is ready, and the outcome is taken.
    fn poll(&self, waker: &Unparker) -> bool {
        let pending =
            !self.state().load().has(DONE) && self.register(Waiter::Waker(waker.clone()), 0);
        if !pending {
            self.take_outcome();
        }
        !pending
    }

    /// As `JoinHandle::join` on a plain thread, without the handle's drop.
    fn join_as_thread(&self) {
        let me = Parker::new();
        if self.register(Waiter::Waker(me.unparker().clone()), 0) {
            while !self.state().load().has(DONE) {
                me.park();
            }
        }
        self.take_outcome();
    }

    /// As the drop of `join::Registration`: the joiner does not leave before it is let go (T7).
    fn withdraw(&self) {
        if self.state().load().has(RELEASED) || self.state().clear_waiter() {
            return;
        }
        while !self.state().load().has(RELEASED) {
            loom::thread::yield_now();
        }
    }

    /// As the drop of a `JoinHandle` whose outcome was not taken.
    fn detach(&self) -> Detach {
        let how = self.state().detach();
        match how {
            Detach::Detached => {}
            Detach::LastReference => self.free(),
            Detach::OutcomeLeft => {
                self.take_outcome();
                self.drop_reference();
            }
        }
        how
    }

    /// As the drop of a `TaskRef`. True: it was the last.
    fn drop_reference(&self) -> bool {
        let last = self.state().drop_reference();
        if last {
            self.free();
        }
        last
    }

    /// As `header::free`. Every cell is written, so loom finds whoever is still at one of them.
    fn free(&self) {
        self.alive.write(|alive| assert!(std::mem::replace(alive, false), "it is freed twice"));
        self.owner.write(|_| ());
        self.waiter.write(|waiter| *waiter = Waiter::Nobody);
        self.content.write(|content| assert_ne!(*content, Content::Outcome, "it is leaked"));
    }

    /// At the end of a model, when the threads are joined.
    fn assert_freed(&self) {
        self.alive.read(|alive| assert!(!*alive, "the block is leaked"));
        assert_eq!(self.queued.load(Ordering::Relaxed), 0, "a task that has ended is queued");
    }
}
