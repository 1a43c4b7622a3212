//! Waiting in a list: the same for tasks and threads, and for whatever has the list.
//!
//! A wait is cut short by a deadline, and by an interruption. Neither unwinds out of [`Caller::wait`], because the node
//! is linked then. Whoever waits unlinks the node under the list's lock, and only then lets the interruption come. If
//! the node was told meanwhile, what was handed over counts, and the interruption comes at the next suspension.
//!
//! Whoever waits in several lists has one [`Claim`], and may wait for futures at the same time ([`PollTurn`]).

use std::panic::Location;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::current::{Current, current_task};
use super::header::{BorrowedTask, Header};
use super::hook::check_thread;
use super::interrupt::{interrupt_thread, next_look, thread_is_due};
use super::label::WaitSubject;
use super::mailbox::Mailbox;
use super::park::wait_on_thread;
use super::poll::PollTurn;
use super::stack::ParkReason;
use super::thread_parker::ThreadParker;
use super::wait_list::{Claim, WaitEnd, WaitList, WaitNode};
use super::waiter::Waiter;
use crate::base::lock::lock;
use crate::fork;
use crate::record;
use crate::suspension;

/// Whoever is about to wait.
pub(crate) enum Caller {
    Task(Current),
    Thread(Arc<ThreadParker>),
}

impl Caller {
    /// The calling task or thread, which is to wait for this. If there is a reason to interrupt it, that comes now.
    ///
    /// # Panics
    ///
    /// In a `no_suspend`, and in a process that was forked from one that uses coroutines.
    #[inline]
    pub(crate) fn begin(subject: WaitSubject) -> Caller {
        fork::check();
        match current_task() {
            Some(task) => {
                suspension::check_task(task.record());
                if task.is_interruptible() {
                    task.interrupt(Instant::now());
                }
                task.task_stack().subject.set(Some(subject));
                Caller::Task(task)
            }
            None => {
                check_thread();
                interrupt_thread(Instant::now());
                Caller::Thread(ThreadParker::here())
            }
        }
    }

    /// As [`begin`](Caller::begin), for a task that nothing interrupts and nothing forbids to wait. It neither suspends
    /// nor unwinds, so a lock may be held.
    #[inline(always)]
    pub(crate) fn begin_undisturbed(subject: WaitSubject) -> Option<Caller> {
        let task = current_task()?;
        if task.is_interruptible() || suspension::is_refused(task.record()) || fork::is_child() {
            return None;
        }
        task.task_stack().subject.set(Some(subject));
        Some(Caller::Task(task))
    }

    /// A node for its wait. A value is handed over in `slot`.
    #[inline]
    pub(crate) fn node(&self, slot: *mut ()) -> WaitNode {
        WaitNode::new(self.as_waiter(), slot)
    }

    /// One of several nodes for its wait, which have this claim, and stay no longer than it does.
    pub(crate) fn node_of(&self, claim: &Claim, slot: *mut ()) -> WaitNode {
        self.node(slot).with_claim(claim)
    }

    /// The worker that the task is pinned to; `None`: it is a thread.
    #[inline]
    pub(crate) fn mailbox(&self) -> Option<&'static Mailbox<Header>> {
        match self {
            Caller::Task(task) => task.owner(),
            Caller::Thread(_) => None,
        }
    }

    #[inline]
    fn as_waiter(&self) -> Waiter<BorrowedTask> {
        match self {
            Caller::Task(task) => Waiter::Task(task.as_borrowed()),
            Caller::Thread(thread) => Waiter::Thread(thread.clone()),
        }
    }

    /// Waits until `node`, which is linked, was told. `None`: `deadline` has come, or an interruption is due.
    #[inline(always)]
    pub(crate) fn wait(
        &self,
        node: &WaitNode,
        reason: ParkReason,
        deadline: Option<Instant>,
    ) -> Option<WaitEnd> {
        match self {
            Caller::Task(task) if deadline.is_none() && !task.is_interruptible() => {
                task.park_undisturbed(reason);
                node.end().or_else(|| self.wait_on(node, reason, deadline))
            }
            _ => self.wait_on(node, reason, deadline),
        }
    }

    #[cold]
    fn wait_on(
        &self,
        node: &WaitNode,
        reason: ParkReason,
        deadline: Option<Instant>,
    ) -> Option<WaitEnd> {
        loop {
            let seen = self.wakes();
            if let Some(end) = node.end() {
                return Some(end);
            }
            if !self.pause(seen, reason, deadline) {
                return None;
            }
        }
    }

    /// Waits until one of the nodes of `claim`, which are linked, was taken, `deadline` has come, or an interruption is
    /// due.
    pub(crate) fn wait_for_claim(
        &self,
        claim: &Claim,
        reason: ParkReason,
        deadline: Option<Instant>,
    ) {
        if let Caller::Task(task) = self
            && !task.is_interruptible()
        {
            // Most often a node is taken then, and no clock was read.
            let _timer = deadline.map(|time| task.set_timer(time));
            task.park_undisturbed(reason);
        }
        loop {
            let seen = self.wakes();
            if claim.is_taken() || !self.pause(seen, reason, deadline) {
                return;
            }
        }
    }

    /// As [`wait_for_claim`](Caller::wait_for_claim), but returns as well when a waker of `turn` was woken, and may
    /// return early.
    pub(crate) fn wait_for_claim_or_poll(
        &self,
        claim: &Claim,
        turn: &PollTurn,
        reason: ParkReason,
        deadline: Option<Instant>,
    ) {
        let seen = match self {
            Caller::Task(task) => {
                turn.prepare(task);
                0
            }
            Caller::Thread(thread) => match turn.seen_by(thread) {
                Some(seen) => seen,
                None => return,
            },
        };
        if !claim.is_taken() {
            self.pause(seen, reason, deadline);
        }
    }

    /// How often the thread was woken, if it is one.
    fn wakes(&self) -> u32 {
        match self {
            Caller::Task(_) => 0,
            Caller::Thread(thread) => thread.wakes(),
        }
    }

    /// Suspends the task, or blocks the thread while it was woken `seen` times. May return early. False: `deadline` has
    /// come, or an interruption is due.
    fn pause(&self, seen: u32, reason: ParkReason, deadline: Option<Instant>) -> bool {
        let now = Instant::now();
        if deadline.is_some_and(|deadline| deadline <= now) {
            return false;
        }
        match self {
            Caller::Task(task) => {
                if task.is_due(now) {
                    return false;
                }
                let look = next_look(task.record(), now).into_iter().chain(deadline).min();
                let _timer = look.map(|time| task.set_timer(time));
                let token = task.park_undisturbed(reason);
                if token != 0 && task.is_due(Instant::now()) {
                    // What comes now ends this wait, and the token may be for one further out.
                    task.state.leave(token);
                }
            }
            Caller::Thread(thread) => {
                if thread_is_due(now) {
                    return false;
                }
                let look = record::with(|record| next_look(record, now));
                let look = look.into_iter().chain(deadline).min();
                thread.block(seen, look.map(|time| time - now));
            }
        }
        true
    }

    /// Interrupts the caller if that is due; after its node was unlinked.
    pub(crate) fn interrupt(&self) {
        match self {
            Caller::Task(task) => task.interrupt_resumed(0),
            Caller::Thread(_) => interrupt_thread(Instant::now()),
        }
    }
}

/// Waits until `is_over` says so of what `mutex` guards, or until `deadline`; true: the former. Whoever changes the
/// state wakes the waiters of its list, which `list` finds. `is_over` and `list` run under the lock.
///
/// An interruption unwinds out of it.
#[track_caller]
pub(crate) fn wait_until<T>(
    mutex: &Mutex<T>,
    list: fn(&mut T) -> &mut WaitList,
    deadline: Option<Instant>,
    reason: ParkReason,
    mut is_over: impl FnMut(&mut T) -> bool,
) -> bool {
    loop {
        let caller = Caller::begin(WaitSubject::MadeAt(Location::caller()));
        let node = caller.node(std::ptr::null_mut());
        {
            let mut state = lock(mutex);
            if is_over(&mut state) {
                return true;
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return false;
            }
            // SAFETY: Q1, it is told or unlinked below.
            unsafe { list(&mut state).push(&node) };
        }
        if caller.wait(&node, reason, deadline).is_none() {
            // SAFETY: Q1, it was linked to this list.
            unsafe { list(&mut lock(mutex)).give_up(&node) };
            caller.interrupt();
        }
    }
}

/// Wakes all waiters of a list that is part of what `mutex` guards. Each is woken when the lock is free again.
pub(crate) fn wake_all<T>(mutex: &Mutex<T>, list: fn(&mut T) -> &mut WaitList) {
    loop {
        let wakeup = {
            let mut state = lock(mutex);
            let Some(taken) = list(&mut state).take() else { return };
            // SAFETY: Q2, it is woken below.
            unsafe { taken.tell(WaitEnd::Served) }
        };
        wakeup.wake();
    }
}

/// Suspends the caller until `time`. May return early.
pub(crate) fn pause_until(time: Instant, reason: ParkReason) {
    match current_task() {
        Some(task) => task.park_until(time, reason),
        None => {
            let thread = ThreadParker::here();
            let left = time.saturating_duration_since(Instant::now());
            wait_on_thread(&thread, thread.wakes(), Some(left));
        }
    }
}
