//! What a channel is: values in a queue, and those who wait for a value or for room.
//!
//! A value that meets a waiting receiver is moved straight into the receiver's frame. A sender that finds no room waits
//! with its value in its own frame, from where the receiver that makes room takes it. So a channel without room is a
//! rendezvous, and needs no case of its own.
//!
//! No code of the user's runs under the lock: values are moved there, and dropped elsewhere.
//!
//! - **G1** The value in the frame of a waiting sender belongs to whoever takes its node from the list, and otherwise to
//!   the sender. The slot in the frame of a waiting receiver is written once, by whoever takes its node, before the
//!   node is told that it was served.

use std::collections::VecDeque;
use std::fmt;
use std::mem::{self, MaybeUninit};
use std::panic::Location;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::error::{
    RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError,
};
use crate::base::lock::ShortLock;
use crate::task::{Caller, ParkReason, WaitEnd, WaitList, Waiting, Wakeup, spend_budget};

const TO_SEND: ParkReason = ParkReason::new(Waiting::Send, false);
const TO_RECEIVE: ParkReason = ParkReason::new(Waiting::Receive, false);

/// A channel, without those who count its senders and receivers.
pub(super) struct Channel<T> {
    state: ShortLock<ChannelState<T>>,
    /// `None`: without a limit.
    capacity: Option<usize>,
    /// How many there are of either end.
    senders: AtomicUsize,
    receivers: AtomicUsize,
    /// Where the channel was made.
    location: &'static Location<'static>,
}

struct ChannelState<T> {
    /// Not empty only while no receiver waits, and not full while a sender waits.
    values: VecDeque<T>,
    receivers: WaitList,
    senders: WaitList,
    is_closed: bool,
}

/// How far an attempt has come.
enum Attempt<T, V> {
    /// It has succeeded. Somebody may have to be woken.
    Done(V, Option<Wakeup>),
    Wait(T),
    Closed(T),
}

impl<T> ChannelState<T> {
    /// Sends `value` if that needs no waiting.
    #[inline]
    fn offer(&mut self, value: T, capacity: Option<usize>) -> Attempt<T, ()> {
        if self.is_closed {
            return Attempt::Closed(value);
        }
        if let Some(receiver) = self.receivers.take() {
            // SAFETY: G1; Q2, nothing comes between but the release of the lock.
            let wakeup = unsafe {
                receiver.slot().cast::<T>().write(value);
                receiver.tell(WaitEnd::Served)
            };
            return Attempt::Done((), Some(wakeup));
        }
        if capacity.is_some_and(|capacity| self.values.len() >= capacity) {
            return Attempt::Wait(value);
        }
        self.values.push_back(value);
        Attempt::Done((), None)
    }

    /// Receives a value if that needs no waiting.
    #[inline]
    fn take(&mut self) -> Attempt<(), T> {
        let first = self.values.pop_front();
        let Some(sender) = self.senders.take() else {
            return match first {
                Some(value) => Attempt::Done(value, None),
                None if self.is_closed => Attempt::Closed(()),
                None => Attempt::Wait(()),
            };
        };
        // SAFETY: G1; Q2, nothing comes between but the release of the lock.
        let (last, wakeup) = unsafe {
            let value = sender.slot().cast::<T>().read();
            (value, sender.tell(WaitEnd::Served))
        };
        match first {
            Some(value) => {
                // There is room for one.
                self.values.push_back(last);
                Attempt::Done(value, Some(wakeup))
            }
            None => Attempt::Done(last, Some(wakeup)),
        }
    }
}

#[inline]
fn wake(wakeup: Option<Wakeup>) {
    if let Some(wakeup) = wakeup {
        wakeup.wake();
    }
}

impl<T> Channel<T> {
    pub(super) fn new(capacity: Option<usize>, location: &'static Location<'static>) -> Channel<T> {
        let state = ChannelState {
            values: VecDeque::new(),
            receivers: WaitList::new(),
            senders: WaitList::new(),
            is_closed: false,
        };
        let (senders, receivers) = (AtomicUsize::new(1), AtomicUsize::new(1));
        Channel { state: ShortLock::new(state), capacity, senders, receivers, location }
    }

    pub(super) fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        let attempt = self.state.lock().offer(value, self.capacity);
        match attempt {
            Attempt::Done((), wakeup) => {
                wake(wakeup);
                Ok(())
            }
            Attempt::Wait(value) => Err(TrySendError::Full(value)),
            Attempt::Closed(value) => Err(TrySendError::Disconnected(value)),
        }
    }

    pub(super) fn try_recv(&self) -> Result<T, TryRecvError> {
        let attempt = self.state.lock().take();
        match attempt {
            Attempt::Done(value, wakeup) => {
                wake(wakeup);
                Ok(value)
            }
            Attempt::Wait(()) => Err(TryRecvError::Empty),
            Attempt::Closed(()) => Err(TryRecvError::Disconnected),
        }
    }

    #[inline]
    pub(super) fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.send_until(value, None).map_err(|error| SendError(error.into_inner()))
    }

    /// `deadline`: `None` is never.
    #[inline]
    pub(super) fn send_until(
        &self,
        value: T,
        deadline: Option<Instant>,
    ) -> Result<(), SendTimeoutError<T>> {
        spend_budget();
        match self.try_send(value) {
            Ok(()) => Ok(()),
            Err(TrySendError::Disconnected(value)) => Err(SendTimeoutError::Disconnected(value)),
            Err(TrySendError::Full(value)) => self.wait_to_send(value, deadline),
        }
    }

    fn wait_to_send(&self, value: T, deadline: Option<Instant>) -> Result<(), SendTimeoutError<T>> {
        let caller = Caller::begin(self.location);
        let mut slot = MaybeUninit::<T>::uninit();
        let node = caller.node(slot.as_mut_ptr().cast());
        {
            let mut state = self.state.lock();
            // It may have changed while others were let go first.
            match state.offer(value, self.capacity) {
                Attempt::Done((), wakeup) => {
                    drop(state);
                    wake(wakeup);
                    return Ok(());
                }
                Attempt::Closed(value) => return Err(SendTimeoutError::Disconnected(value)),
                // SAFETY: Q1, it is told or unlinked below; G1, the slot is ours until it is linked.
                Attempt::Wait(value) => unsafe {
                    node.slot().cast::<T>().write(value);
                    state.senders.push(&node);
                },
            }
        }
        // SAFETY: Q1, it was linked to this list.
        let give_up = || unsafe { self.state.lock().senders.give_up(&node) };
        let end = caller.wait(&node, TO_SEND, deadline).or_else(give_up);
        if end == Some(WaitEnd::Served) {
            return Ok(());
        }
        // SAFETY: G1, nobody has taken it.
        let value = unsafe { slot.assume_init_read() };
        match end {
            Some(_) => Err(SendTimeoutError::Disconnected(value)),
            None => {
                caller.interrupt();
                Err(SendTimeoutError::Timeout(value))
            }
        }
    }

    #[inline]
    pub(super) fn recv(&self) -> Result<T, RecvError> {
        self.recv_until(None).map_err(|_| RecvError)
    }

    /// `deadline`: `None` is never.
    #[inline]
    pub(super) fn recv_until(&self, deadline: Option<Instant>) -> Result<T, RecvTimeoutError> {
        spend_budget();
        match self.try_recv() {
            Ok(value) => Ok(value),
            Err(TryRecvError::Disconnected) => Err(RecvTimeoutError::Disconnected),
            Err(TryRecvError::Empty) => self.wait_to_recv(deadline),
        }
    }

    fn wait_to_recv(&self, deadline: Option<Instant>) -> Result<T, RecvTimeoutError> {
        let caller = Caller::begin(self.location);
        let mut slot = MaybeUninit::<T>::uninit();
        let node = caller.node(slot.as_mut_ptr().cast());
        {
            let mut state = self.state.lock();
            // It may have changed while others were let go first.
            match state.take() {
                Attempt::Done(value, wakeup) => {
                    drop(state);
                    wake(wakeup);
                    return Ok(value);
                }
                Attempt::Closed(()) => return Err(RecvTimeoutError::Disconnected),
                // SAFETY: Q1, it is told or unlinked below.
                Attempt::Wait(()) => unsafe { state.receivers.push(&node) },
            }
        }
        // SAFETY: Q1, it was linked to this list.
        let give_up = || unsafe { self.state.lock().receivers.give_up(&node) };
        let end = caller.wait(&node, TO_RECEIVE, deadline).or_else(give_up);
        match end {
            // SAFETY: G1, it was written before we were told.
            Some(WaitEnd::Served) => Ok(unsafe { slot.assume_init_read() }),
            Some(WaitEnd::Closed) => Err(RecvTimeoutError::Disconnected),
            None => {
                caller.interrupt();
                Err(RecvTimeoutError::Timeout)
            }
        }
    }

    /// Closes the channel. False: it was closed.
    pub(super) fn close(&self) -> bool {
        let was_closed = mem::replace(&mut self.state.lock().is_closed, true);
        // Nobody waits any more that comes from here on.
        while let Some(wakeup) = self.tell_closed() {
            wakeup.wake();
        }
        !was_closed
    }

    fn tell_closed(&self) -> Option<Wakeup> {
        let mut state = self.state.lock();
        let state = &mut *state;
        let waiter = state.receivers.take().or_else(|| state.senders.take())?;
        // SAFETY: Q2, the caller wakes it at once.
        Some(unsafe { waiter.tell(WaitEnd::Closed) })
    }

    pub(super) fn add_sender(&self) {
        // Relaxed, here and below: a new end is made from one that is there.
        self.senders.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add_receiver(&self) {
        self.receivers.fetch_add(1, Ordering::Relaxed);
    }

    /// The last sender closes the channel.
    pub(super) fn remove_sender(&self) {
        // The lock orders what was sent before.
        if self.senders.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.close();
        }
    }

    /// The last receiver closes the channel, and drops what is left.
    pub(super) fn remove_receiver(&self) {
        if self.receivers.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.close();
            let left = mem::take(&mut self.state.lock().values);
            drop(left);
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().is_closed
    }

    pub(super) fn len(&self) -> usize {
        self.state.lock().values.len()
    }

    pub(super) fn capacity(&self) -> Option<usize> {
        self.capacity
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn is_full(&self) -> bool {
        self.capacity.is_some_and(|capacity| self.len() >= capacity)
    }

    /// As either end shows itself.
    pub(super) fn debug(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (len, is_closed) = {
            let state = self.state.lock();
            (state.values.len(), state.is_closed)
        };
        f.debug_struct(name)
            .field("capacity", &self.capacity)
            .field("len", &len)
            .field("closed", &is_closed)
            .finish()
    }
}
