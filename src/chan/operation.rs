//! A send or a receive that may have to wait, by itself or as one of several.

use std::cell::{Cell, UnsafeCell};
use std::mem::{self, MaybeUninit};
use std::panic::Location;
use std::ptr;
use std::time::Instant;

use super::channel::{Attempt, Channel, wake};
use super::error::{RecvError, SendError};
use crate::task::{Caller, ParkReason, WaitEnd, WaitNode, WaitSubject, Waiting, Wakeup};

const TO_SEND: ParkReason = ParkReason::new(Waiting::Send, false);
const TO_RECEIVE: ParkReason = ParkReason::new(Waiting::Receive, false);

/// A channel, whatever its values are, or the state of a descriptor.
pub(super) trait AnyChannel {
    fn address(&self) -> usize;

    /// Where it was made.
    fn location(&self) -> &'static Location<'static>;

    /// Locks it, until [`unlock`](AnyChannel::unlock).
    fn lock(&self);

    /// # Safety
    ///
    /// The caller has locked it.
    unsafe fn unlock(&self);
}

impl<T> AnyChannel for Channel<T> {
    fn address(&self) -> usize {
        ptr::from_ref(self).addr()
    }

    fn location(&self) -> &'static Location<'static> {
        self.location
    }

    #[inline]
    fn lock(&self) {
        mem::forget(self.state.lock());
    }

    #[inline]
    unsafe fn unlock(&self) {
        // SAFETY: the caller's word.
        drop(unsafe { self.state.held() });
    }
}

/// A send or a receive, whatever the values are. It stays where it is while a node of it is linked, for others put the
/// value there, or take it.
pub(super) trait Operation {
    fn channel(&self) -> &dyn AnyChannel;

    fn reason(&self) -> ParkReason;

    fn progress(&self) -> &Cell<Progress>;

    /// Does what there is to do if that needs no waiting. Somebody may have to be woken then, when no lock is held any
    /// more.
    ///
    /// # Safety
    ///
    /// The caller has locked the channel. No node is linked, and the operation is not done.
    unsafe fn attempt(&self) -> Option<Option<Wakeup>>;

    /// Where the value is, or is to be put.
    fn slot(&self) -> *mut ();

    /// Links `node`, whose slot is that of the operation. Gives the time at which there will be a value, if that is
    /// known.
    ///
    /// # Safety
    ///
    /// The caller has locked the channel. Node and operation stay until the node is given up or was told (Q1).
    unsafe fn link(&self, node: &WaitNode) -> Option<Instant>;

    /// Unlinks `node`. `Some`: somebody has told it before, and that counts. Locks the channel.
    ///
    /// # Safety
    ///
    /// The node was linked to this channel.
    unsafe fn give_up(&self, node: &WaitNode) -> Option<WaitEnd>;

    /// Takes note of how the wait has ended.
    fn finish(&self, end: WaitEnd) {
        self.progress().set(match end {
            WaitEnd::Served => Progress::Done,
            WaitEnd::Closed => Progress::Closed,
        });
    }

    /// What is to be done before an attempt while nothing is locked.
    fn prepare(&self) {}

    /// Does what there is to do if that needs no waiting.
    fn try_now(&self) -> bool {
        self.prepare();
        self.channel().lock();
        // SAFETY: locked just now, and no node is linked.
        let done = unsafe {
            let done = self.attempt();
            self.channel().unlock();
            done
        };
        let is_done = done.is_some();
        wake(done.flatten());
        is_done
    }
}

/// Does the operation, and waits as long as it has to. False: `deadline` has come before.
///
/// # Safety
///
/// The caller has locked the channel, which is unlocked here, and an attempt has just failed.
#[inline(always)]
pub(super) unsafe fn complete(operation: &impl Operation, deadline: Option<Instant>) -> bool {
    let caller = match deadline {
        None => Caller::begin_undisturbed(WaitSubject::MadeAt(operation.channel().location())),
        Some(_) => None,
    };
    match caller {
        Some(caller) => {
            // SAFETY: the caller's word.
            let (is_done, _) = unsafe { wait_locked(operation, &caller, None) };
            if is_done {
                return true;
            }
            caller.interrupt();
        }
        // SAFETY: the caller's word.
        None => unsafe { operation.channel().unlock() },
    }
    complete_disturbed(operation, deadline)
}

#[cold]
fn complete_disturbed(operation: &impl Operation, deadline: Option<Instant>) -> bool {
    loop {
        let caller = Caller::begin(WaitSubject::MadeAt(operation.channel().location()));
        // Others may have had a turn, so it is tried again.
        operation.channel().lock();
        // SAFETY: locked just now, and no node is linked.
        if let Some(wakeup) = unsafe { operation.attempt() } {
            // SAFETY: as above.
            unsafe { operation.channel().unlock() };
            wake(wakeup);
            return true;
        }
        // SAFETY: as above.
        let (is_done, time) = unsafe { wait_locked(operation, &caller, deadline) };
        if is_done {
            return true;
        }
        caller.interrupt();
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            // What comes at a time may have come at the same time.
            return time.is_some() && operation.try_now();
        }
    }
}

/// Links a node and waits, until `deadline` or until there is a value at a known time, which it gives. True: the operation
/// is done.
///
/// # Safety
///
/// The caller has locked the channel, which is unlocked here, and an attempt has just failed.
#[inline(always)]
unsafe fn wait_locked(
    operation: &impl Operation,
    caller: &Caller,
    deadline: Option<Instant>,
) -> (bool, Option<Instant>) {
    let node = caller.node(operation.slot());
    // SAFETY: the caller's word; Q1, the node is told or given up below.
    let time = unsafe {
        let time = operation.link(&node);
        operation.channel().unlock();
        time
    };
    let first = time.into_iter().chain(deadline).min();
    // SAFETY: Q1, it was linked to this channel.
    let give_up = || unsafe { operation.give_up(&node) };
    let end = caller.wait(&node, operation.reason(), first).or_else(give_up);
    if let Some(end) = end {
        operation.finish(end);
    }
    (end.is_some(), time)
}

/// Whether an operation is done, and how.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Pending,
    Done,
    /// The channel is closed.
    Closed,
    /// Its outcome was taken.
    Over,
}

/// A receive.
pub(super) struct Receiving<'a, T> {
    pub(super) channel: &'a Channel<T>,
    /// Holds the value when it is done.
    slot: UnsafeCell<MaybeUninit<T>>,
    progress: Cell<Progress>,
}

impl<T> Receiving<'_, T> {
    #[inline]
    pub(super) fn new(channel: &Channel<T>) -> Receiving<'_, T> {
        let slot = UnsafeCell::new(MaybeUninit::uninit());
        Receiving { channel, slot, progress: Cell::new(Progress::Pending) }
    }

    pub(super) fn is_pending(&self) -> bool {
        self.progress.get() == Progress::Pending
    }

    /// What was received; `None`: it is not done, or was taken.
    #[inline]
    pub(super) fn take(&self) -> Option<Result<T, RecvError>> {
        match self.progress.get() {
            Progress::Pending | Progress::Over => None,
            Progress::Closed => Some(Err(RecvError)),
            Progress::Done => {
                self.progress.set(Progress::Over);
                // SAFETY: G1, it is there, and nobody else has it.
                Some(Ok(unsafe { (*self.slot.get()).assume_init_read() }))
            }
        }
    }
}

impl<T> Operation for Receiving<'_, T> {
    fn channel(&self) -> &dyn AnyChannel {
        self.channel
    }

    fn reason(&self) -> ParkReason {
        TO_RECEIVE
    }

    fn progress(&self) -> &Cell<Progress> {
        &self.progress
    }

    unsafe fn attempt(&self) -> Option<Option<Wakeup>> {
        // SAFETY: the caller's word.
        let mut state = unsafe { self.channel.locked() };
        match state.take() {
            Attempt::Done(value, wakeup) => {
                // SAFETY: G1, no node is linked, so the slot is ours.
                unsafe { (*self.slot.get()).write(value) };
                self.progress.set(Progress::Done);
                Some(wakeup)
            }
            Attempt::Closed(()) => {
                self.progress.set(Progress::Closed);
                Some(None)
            }
            Attempt::Wait(()) => None,
        }
    }

    fn slot(&self) -> *mut () {
        self.slot.get().cast()
    }

    unsafe fn link(&self, node: &WaitNode) -> Option<Instant> {
        // SAFETY: the caller's word.
        let mut state = unsafe { self.channel.locked() };
        // SAFETY: Q1, the caller's word.
        unsafe { state.receivers.push(node) };
        state.clock.as_ref()?.next()
    }

    unsafe fn give_up(&self, node: &WaitNode) -> Option<WaitEnd> {
        // SAFETY: the caller's word.
        unsafe { self.channel.state.lock().receivers.give_up(node) }
    }
}

impl<T> Drop for Receiving<'_, T> {
    #[inline]
    fn drop(&mut self) {
        drop(self.take());
    }
}

/// A send.
pub(super) struct Sending<'a, T> {
    channel: &'a Channel<T>,
    /// Holds the value until it is done.
    slot: UnsafeCell<MaybeUninit<T>>,
    progress: Cell<Progress>,
}

impl<T> Sending<'_, T> {
    #[inline]
    pub(super) fn new(channel: &Channel<T>, value: T) -> Sending<'_, T> {
        let slot = UnsafeCell::new(MaybeUninit::new(value));
        Sending { channel, slot, progress: Cell::new(Progress::Pending) }
    }

    pub(super) fn is_pending(&self) -> bool {
        self.progress.get() == Progress::Pending
    }

    /// The value, if it was not sent, and not given back before.
    #[inline]
    pub(super) fn give_back(&self) -> Option<T> {
        match self.progress.replace(Progress::Over) {
            Progress::Done | Progress::Over => None,
            Progress::Pending | Progress::Closed => {
                // SAFETY: G1, nobody has taken it.
                Some(unsafe { (*self.slot.get()).assume_init_read() })
            }
        }
    }

    /// How the send has ended; `None`: it is not done, or that was told before.
    #[inline]
    pub(super) fn take(&self) -> Option<Result<(), SendError<T>>> {
        match self.progress.get() {
            Progress::Pending | Progress::Over => None,
            Progress::Done | Progress::Closed => {
                Some(self.give_back().map_or(Ok(()), |value| Err(SendError(value))))
            }
        }
    }
}

impl<T> Operation for Sending<'_, T> {
    fn channel(&self) -> &dyn AnyChannel {
        self.channel
    }

    fn reason(&self) -> ParkReason {
        TO_SEND
    }

    fn progress(&self) -> &Cell<Progress> {
        &self.progress
    }

    unsafe fn attempt(&self) -> Option<Option<Wakeup>> {
        // SAFETY: the caller's word.
        let mut state = unsafe { self.channel.locked() };
        // SAFETY: G1, no node is linked, so the value is ours.
        let value = unsafe { (*self.slot.get()).assume_init_read() };
        // SAFETY: as above.
        let put_back = |value| unsafe { _ = (*self.slot.get()).write(value) };
        match state.offer(value) {
            Attempt::Done((), wakeup) => {
                self.progress.set(Progress::Done);
                Some(wakeup)
            }
            Attempt::Closed(value) => {
                put_back(value);
                self.progress.set(Progress::Closed);
                Some(None)
            }
            Attempt::Wait(value) => {
                put_back(value);
                None
            }
        }
    }

    fn slot(&self) -> *mut () {
        self.slot.get().cast()
    }

    unsafe fn link(&self, node: &WaitNode) -> Option<Instant> {
        // SAFETY: the caller's word.
        let mut state = unsafe { self.channel.locked() };
        // SAFETY: Q1, the caller's word.
        unsafe { state.senders.push(node) };
        None
    }

    unsafe fn give_up(&self, node: &WaitNode) -> Option<WaitEnd> {
        // SAFETY: the caller's word.
        unsafe { self.channel.state.lock().senders.give_up(node) }
    }
}

impl<T> Drop for Sending<'_, T> {
    #[inline]
    fn drop(&mut self) {
        drop(self.give_back());
    }
}
