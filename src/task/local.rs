//! The half of a worker that is its own thread's: the queue of tasks that are ready, the task that parked last, and
//! the timers.
//!
//! - **W2** A [`Local`] is `!Sync`, and code on the worker's thread reaches it by [`Local::with`] only while
//!   [`Local::run`] has lent it out. No code of the user's runs inside of `with`. A signal handler may interrupt it
//!   anywhere, and calls [`with_running_task`] alone, which reads words that are whole at any moment.
//!
//! # Parking late
//!
//! To make a park visible and to undo it are two locked instructions, and a third for the unpark. But a task can only
//! go on where it is pinned, so nobody but its worker needs to know at once that it is parked: until the worker makes
//! the park visible, others leave a token as with a running task, and the worker finds the token when it does. So a
//! worker keeps the task that parked last *pending*, and makes the park visible only when another task has had its
//! turn, or before it sleeps. If that other task unparks the pending one, as in a join, a channel or a ping-pong, the
//! worker just moves it to its queue.
//!
//! - **W4** The pending task is parked for its worker, and running for all others. It is in no queue.
//!
//! # The next in line
//!
//! A switch to a task touches some six cache lines: one or two of its header, the first of its record, that of its
//! `TaskStack`, and two of the frames that it goes on with. Among many tasks they are in
//! no cache any more, and to wait for them costs many times what a turn costs. But the queue says who comes next. So
//! with each turn the worker asks the cache for a task that comes some turns later.

use std::cell::{Cell, RefCell, UnsafeCell};
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::panic::Location;
use std::ptr;
use std::time::Instant;

use super::header::{Header, Started};
use super::mailbox::Mailbox;
use super::stack::TaskStack;
use crate::base::id::Id;
use crate::driver::{TimerKey, Timers};

/// A worker, as its own thread sees it.
pub(crate) struct Local {
    mailbox: &'static Mailbox<Header>,
    /// The tasks that are ready, the one that has been so for longest in front.
    ready: UnsafeCell<VecDeque<Started>>,
    /// The task that parked last, while its park is not visible (W4).
    pending: Cell<*mut Header>,
    timers: RefCell<Timers<Started>>,
    /// Of the task that had the last turn, which it has still if the mailbox's `RunningTask` says so.
    turn_of: Cell<*mut TaskStack>,
    /// How many reasons there are to do more at a turn than to take it: tasks with carries, or the names of all tasks.
    attended: Cell<usize>,
    /// The worker calls a carry.
    calls_carries: Cell<bool>,
}

/// The worker that a thread is.
struct Here {
    /// The same as the local's: it tells without a further look whether a task is this worker's.
    mailbox: Cell<*const Mailbox<Header>>,
    local: Cell<*const Local>,
}

/// No task has it for its owner, not even one that has not started.
const NONE: *const Mailbox<Header> = ptr::dangling();

thread_local! {
    static HERE: Here = const { Here { mailbox: Cell::new(NONE), local: Cell::new(ptr::null()) } };
}

impl Local {
    /// # Safety
    ///
    /// There is no other `Local` with this mailbox.
    pub(crate) unsafe fn new(mailbox: &'static Mailbox<Header>) -> Local {
        Local {
            mailbox,
            ready: UnsafeCell::default(),
            pending: Cell::new(ptr::null_mut()),
            timers: RefCell::default(),
            turn_of: Cell::new(ptr::null_mut()),
            attended: Cell::new(0),
            calls_carries: Cell::new(false),
        }
    }

    #[inline]
    pub(crate) fn mailbox(&self) -> &'static Mailbox<Header> {
        self.mailbox
    }

    /// Notes that a task is about to have its turn.
    #[inline(always)]
    pub(crate) fn begin_turn(&self, task: &Started) {
        self.turn_of.set(task.stack.get());
        self.mailbox.running().begin(task.id, task.location);
    }

    /// The task that has its turn.
    #[inline]
    pub(super) fn running_id(&self) -> Option<Id> {
        self.mailbox.running().id()
    }

    /// Whether there is more to do at a turn than to take it.
    #[inline]
    pub(crate) fn is_attended(&self) -> bool {
        self.attended.get() > 0
    }

    /// Adds a reason for that.
    pub(crate) fn attend(&self) {
        self.attended.set(self.attended.get() + 1);
    }

    /// Takes one back.
    pub(super) fn leave(&self) {
        self.attended.set(self.attended.get() - 1);
    }

    pub(super) fn calls_carries(&self) -> bool {
        self.calls_carries.get()
    }

    pub(super) fn set_calls_carries(&self, calls: bool) {
        self.calls_carries.set(calls);
    }

    /// Runs `f` with the calling thread as this worker.
    pub(crate) fn run<R>(&self, f: impl FnOnce() -> R) -> R {
        struct Leave<'a>(&'a Local);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                self.0.mailbox.set_in_use(false);
                set_here(NONE, ptr::null());
            }
        }
        let _leave = Leave(self);
        set_here(self.mailbox, self);
        self.mailbox.set_in_use(true);
        f()
    }

    /// Runs `f` with the worker that the calling thread is. `None`: it is none.
    #[inline]
    pub(super) fn with<R>(f: impl FnOnce(&Local) -> R) -> Option<R> {
        // SAFETY: W2, it is lent out by `run`.
        HERE.with(|here| unsafe { here.local.get().as_ref() }.map(f))
    }

    /// Runs `f` with the worker of this mailbox, if the calling thread is that worker.
    #[inline]
    pub(super) fn with_owner<R>(
        owner: *const Mailbox<Header>,
        f: impl FnOnce(&Local) -> R,
    ) -> Option<R> {
        // SAFETY: W2, as above; a mailbox is there only together with its local.
        is_here(owner).then(|| HERE.with(|here| f(unsafe { &*here.local.get() })))
    }

    /// Lends out the queue. `f` is one of the few below, which do not come back here.
    #[inline]
    fn with_ready<R>(&self, f: impl FnOnce(&mut VecDeque<Started>) -> R) -> R {
        // SAFETY: W2, nobody else has it.
        f(unsafe { &mut *self.ready.get() })
    }

    /// Queues a task that is ready to run.
    #[inline]
    pub(crate) fn push_ready(&self, task: Started) {
        self.with_ready(|ready| ready.push_back(task));
    }

    /// The task that has been ready for longest.
    #[inline]
    pub(crate) fn pop_ready(&self) -> Option<Started> {
        if !self.mailbox.is_empty() {
            self.empty_mailbox();
        }
        self.with_ready(|ready| {
            let first = ready.pop_front();
            prefetch_next(ready);
            first
        })
    }

    #[cold]
    fn empty_mailbox(&self) {
        // SAFETY: T2, what was in the inbox is in no other queue.
        self.mailbox.take_all(|task| self.push_ready(unsafe { Started::from_raw(task) }));
    }

    /// Whether a task is ready or on its way here.
    pub(crate) fn has_ready(&self) -> bool {
        !self.mailbox.is_empty() || !self.with_ready(|ready| ready.is_empty())
    }

    /// Parks a task of this worker that has just switched away.
    #[inline]
    pub(crate) fn park(&self, task: Started) {
        self.settle(self.pending.replace(task.into_raw()));
    }

    /// Makes the pending park visible.
    #[inline]
    pub(crate) fn settle_pending(&self) {
        self.settle(self.pending.replace(ptr::null_mut()));
    }

    #[inline]
    fn settle(&self, task: *mut Header) {
        if !task.is_null() {
            // SAFETY: W4, it is in no queue and has not ended.
            self.make_visible(unsafe { Started::from_raw(task) });
        }
    }

    fn make_visible(&self, task: Started) {
        // SAFETY: C1, we are on its worker's thread, and it has not ended (W4).
        unsafe { task.stack() }.note_park(self.mailbox.running().turn());
        if task.state.commit_park() {
            // Whoever unparks it has it from here on (T2).
            self.mailbox.counters().parked.add(1);
        } else {
            // A token came first, and the task goes on.
            self.push_ready(task);
        }
    }

    /// Unparks `task` if it is pending and the token, if there is one, is for what it waits for. False: the wake-up
    /// has to show in the state word.
    #[inline]
    pub(super) fn unpark_pending(&self, task: &Header, token: usize) -> bool {
        if !ptr::eq(self.pending.get(), task) {
            return false;
        }
        // SAFETY: C1, we are on its worker's thread, and it has not ended (W4).
        let stack = unsafe { task.stack() };
        if token != 0 && token != stack.reason.get().token() {
            return false;
        }
        stack.set_token(token);
        self.pending.set(ptr::null_mut());
        // SAFETY: W4, it is in no queue and has not ended.
        self.push_ready(unsafe { Started::from_raw(ptr::from_ref(task).cast_mut()) });
        true
    }

    /// Has `task` unparked at `deadline`.
    pub(super) fn set_timer(&self, deadline: Instant, task: Started) -> Timer {
        Timer { key: self.timers.borrow_mut().set(deadline, task), thread: PhantomData }
    }

    /// When the first timer is due.
    pub(crate) fn next_timer(&self) -> Option<Instant> {
        self.timers.borrow().next()
    }

    /// Takes the first task whose timer is due.
    pub(super) fn pop_due(&self, now: Instant) -> Option<Started> {
        self.timers.borrow_mut().pop_due(now)
    }
}

/// How many turns ahead a task's header is asked for, which says where its stack is; the top of that stack, which says
/// where its frames are; and the frames. Half as many and twice as many were measured to be as good.
const HEADER_AHEAD: usize = 12;
const STACK_AHEAD: usize = 8;
const FRAMES_AHEAD: usize = 4;

/// Asks the cache for tasks that are further back in the queue. Where there are few, their lines are there still.
#[inline]
fn prefetch_next(ready: &VecDeque<Started>) {
    if let Some(task) = ready.get(HEADER_AHEAD) {
        task.prefetch_header();
        ready[STACK_AHEAD].prefetch_stack();
        ready[FRAMES_AHEAD].prefetch_frames();
    }
}

fn set_here(mailbox: *const Mailbox<Header>, local: *const Local) {
    HERE.with(|here| {
        here.mailbox.set(mailbox);
        here.local.set(local);
    });
}

/// The mailbox of the worker that the calling thread is.
pub(crate) fn mailbox_here() -> Option<&'static Mailbox<Header>> {
    Local::with(Local::mailbox)
}

/// Runs `f` with the task that has its turn on the calling thread: its id, where it was spawned, and its name, which
/// it has until it ends. For a signal handler too: takes no lock and allocates nothing.
pub(crate) fn with_running_task<R>(
    f: impl FnOnce(Id, &'static Location<'static>, Option<&str>) -> R,
) -> Option<R> {
    Local::with(|local| {
        let (id, location) = local.mailbox.running().id_and_location()?;
        // SAFETY: R1, R2, C1: while this thread's `RunningTask` has an id, that task's stack is in use, for the task has
        // its turn. `begin_turn` has noted the stack before.
        let record = unsafe { &*TaskStack::record(local.turn_of.get()) };
        // SAFETY: R5, we are on its thread, in its turn, and it does not go on before `f` has returned.
        Some(f(id, location, unsafe { record.name() }))
    })?
}

/// Whether the calling thread is the worker of this mailbox.
#[inline]
pub(super) fn is_here(mailbox: *const Mailbox<Header>) -> bool {
    HERE.with(|here| ptr::eq(here.mailbox.get(), mailbox))
}

/// A timer that is set, until this is dropped, which is on the same thread: its holder is pinned.
pub(crate) struct Timer {
    key: TimerKey,
    thread: PhantomData<*const ()>,
}

impl Drop for Timer {
    fn drop(&mut self) {
        Local::with(|local| local.timers.borrow_mut().clear(self.key));
    }
}
