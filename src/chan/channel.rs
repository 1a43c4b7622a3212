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
use std::mem::{self, ManuallyDrop};
use std::panic::Location;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::clock::Clock;
use super::error::{TryRecvError, TrySendError};
use crate::base::lock::{ShortGuard, ShortLock};
use crate::task::{WaitEnd, WaitList, Wakeup};

/// A channel, without those who count its senders and receivers.
pub(super) struct Channel<T> {
    pub(super) state: ShortLock<ChannelState<T>>,
    /// How many there are of either end.
    senders: AtomicUsize,
    receivers: AtomicUsize,
    /// Where the channel was made.
    pub(super) location: &'static Location<'static>,
}

pub(super) struct ChannelState<T> {
    /// Not empty only while no receiver waits, and not full while a sender waits.
    values: VecDeque<T>,
    pub(super) receivers: WaitList,
    pub(super) senders: WaitList,
    /// What makes the values, where they are times.
    pub(super) clock: Option<Clock<T>>,
    /// `None`: without a limit.
    capacity: Option<usize>,
    is_closed: bool,
}

/// How far an attempt has come.
pub(super) enum Attempt<T, V> {
    /// It has succeeded. Somebody may have to be woken.
    Done(V, Option<Wakeup>),
    Wait(T),
    Closed(T),
}

impl<T> ChannelState<T> {
    /// Sends `value` if that needs no waiting.
    #[inline]
    pub(super) fn offer(&mut self, value: T) -> Attempt<T, ()> {
        if self.is_closed {
            return Attempt::Closed(value);
        }
        let value = match self.hand_over(value) {
            Ok(wakeup) => return Attempt::Done((), Some(wakeup)),
            Err(value) => value,
        };
        if !self.has_room() {
            return Attempt::Wait(value);
        }
        self.values.push_back(value);
        Attempt::Done((), None)
    }

    /// Moves `value` to the receiver that waits first, who is to be woken. It comes back if nobody waits.
    #[inline]
    fn hand_over(&mut self, value: T) -> Result<Wakeup, T> {
        let Some(receiver) = self.receivers.take() else { return Err(value) };
        // SAFETY: G1; Q2, nothing comes between but the release of the lock.
        Ok(unsafe {
            receiver.slot().cast::<T>().write(value);
            receiver.tell(WaitEnd::Served)
        })
    }

    /// Receives a value if that needs no waiting.
    #[inline]
    pub(super) fn take(&mut self) -> Attempt<(), T> {
        let first = self.values.pop_front();
        // After values were given back there may be no room even now.
        let sender = if first.is_none() || self.has_room() { self.senders.take() } else { None };
        let Some(sender) = sender else {
            let from_clock = || self.clock.as_mut()?.take(Instant::now());
            return match first.or_else(from_clock) {
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

    #[inline]
    fn has_room(&self) -> bool {
        self.capacity.is_none_or(|capacity| self.values.len() < capacity)
    }
}

#[inline]
pub(super) fn wake(wakeup: Option<Wakeup>) {
    if let Some(wakeup) = wakeup {
        wakeup.wake();
    }
}

impl<T> Channel<T> {
    pub(super) fn new(
        capacity: Option<usize>,
        clock: Option<Clock<T>>,
        location: &'static Location<'static>,
    ) -> Channel<T> {
        let state = ChannelState {
            values: VecDeque::new(),
            receivers: WaitList::new(),
            senders: WaitList::new(),
            clock,
            capacity,
            is_closed: false,
        };
        let (senders, receivers) = (AtomicUsize::new(1), AtomicUsize::new(1));
        Channel { state: ShortLock::new(state), senders, receivers, location }
    }

    /// The state, for whoever has locked it and forgotten the guard. It stays locked.
    ///
    /// # Safety
    ///
    /// The caller has locked it, and has no other guard of it.
    #[inline]
    pub(super) unsafe fn locked(&self) -> ManuallyDrop<ShortGuard<'_, ChannelState<T>>> {
        // SAFETY: K1, the caller's word.
        ManuallyDrop::new(unsafe { self.state.held() })
    }

    #[inline]
    pub(super) fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        let attempt = self.state.lock().offer(value);
        match attempt {
            Attempt::Done((), wakeup) => {
                wake(wakeup);
                Ok(())
            }
            Attempt::Wait(value) => Err(TrySendError::Full(value)),
            Attempt::Closed(value) => Err(TrySendError::Disconnected(value)),
        }
    }

    #[inline]
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

    /// Gives back a value that was handed over to a receiver who does not want it any more: it is the next to be
    /// received.
    pub(super) fn give_back(&self, value: T) {
        let mut state = self.state.lock();
        match state.hand_over(value) {
            Ok(wakeup) => {
                drop(state);
                wakeup.wake();
            }
            Err(value) => state.values.push_front(value),
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
        let state = self.state.lock();
        let is_due = |clock: &Clock<T>| clock.is_due(Instant::now());
        state.values.len() + usize::from(state.clock.as_ref().is_some_and(is_due))
    }

    pub(super) fn capacity(&self) -> Option<usize> {
        self.state.lock().capacity
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn is_full(&self) -> bool {
        self.capacity().is_some_and(|capacity| self.len() >= capacity)
    }

    /// As either end shows itself.
    pub(super) fn debug(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("capacity", &self.capacity())
            .field("len", &self.len())
            .field("closed", &self.is_closed())
            .finish()
    }
}
