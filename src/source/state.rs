//! What is known of one descriptor: whether it is ready, who waits for that, and which worker's poller tells of it.
//!
//! # No event is lost
//!
//! A descriptor has two sides, read and write, and each has a word that says whether the side is *ready*: an attempt is
//! worth its system call. A new descriptor counts as ready. An attempt that finds nothing, or that leaves nothing,
//! clears the word, unless there was an event since it was read, which a count in the word tells. So whatever came
//! before the clearing has been attempted, and whatever comes later is an event.
//!
//! Whoever waits registers the side with its worker's poller, which tells at once if something is there, and links
//! itself, under the lock of the state, while the side is not ready. An event marks the side ready and wakes all who
//! are linked, under the same lock. So nobody is linked while the side is ready.
//!
//! # Sides wander
//!
//! An event comes to the poller that a side is registered with, and that one's worker takes it. A task registers a side
//! with its own worker: if the side was registered elsewhere, it moves. The two sides move by themselves. While both are
//! at one poller, they are one entry there. A worker that ends takes back what is registered with it, and wakes who
//! waits, who then registers elsewhere.
//!
//! - **E2** While a source has users, its number is that of one open descriptor: each user owns the descriptor, or lives
//!   in a frame that borrows it, because anything else may be forgotten. The last user leaves before the descriptor is
//!   closed. It takes the registrations back, because a duplicate of the descriptor would keep them, and raises the
//!   generation, by which events of a past descriptor of this number are told.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Waker;

use crate::base::lock::{ShortGuard, ShortLock};
use crate::driver::{Interest, PollEvent};
use crate::fork;
use crate::task::{Header, Mailbox, WaitEnd, WaitList, Wakeup};
use crate::unwind::catch_and_report;

/// What a descriptor is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Read,
    Write,
}

/// The side is worth an attempt.
const READY: u32 = 1;
/// An attempt that takes less than it could may leave something, such as the end.
const MORE: u32 = 2;
/// One event.
const EVENT: u32 = 4;

/// What the word of a side has said at some time.
#[derive(Clone, Copy)]
pub(crate) struct Readiness(u32);

impl Readiness {
    pub(crate) fn is_ready(self) -> bool {
        self.0 & READY != 0
    }
}

/// What is known of the descriptor with one number.
pub(super) struct Source {
    readiness: [AtomicU32; 2],
    state: ShortLock<SourceState>,
}

impl Default for Source {
    fn default() -> Source {
        Source {
            readiness: [AtomicU32::new(READY), AtomicU32::new(READY)],
            state: ShortLock::new(SourceState::default()),
        }
    }
}

/// What is changed under the lock.
#[derive(Default)]
pub(super) struct SourceState {
    /// Tells the descriptors apart that have had this number.
    generation: u32,
    users: u32,
    sides: [SideState; 2],
}

/// Who waits for a side, and where its events come from.
#[derive(Default)]
pub(super) struct SideState {
    pub(super) waiters: WaitList,
    /// Of the future that has polled last.
    waker: Option<Waker>,
    at: Option<&'static Mailbox<Header>>,
}

impl SourceState {
    pub(super) fn side(&mut self, side: Side) -> &mut SideState {
        &mut self.sides[side as usize]
    }

    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    fn token(&self, fd: BorrowedFd<'_>) -> u64 {
        u64::from(self.generation) << 32 | fd.as_raw_fd() as u64
    }

    /// What the poller of this worker is to tell.
    fn interest_at(&self, mailbox: &Mailbox<Header>) -> Option<Interest> {
        let read = self.is_registered_at(Side::Read, mailbox);
        let write = self.is_registered_at(Side::Write, mailbox);
        let interest = Interest { read, write };
        (interest.read || interest.write).then_some(interest)
    }

    /// Has the events of a side come to this worker, which is the caller's.
    ///
    /// # Errors
    ///
    /// What the kernel says if it refuses.
    pub(super) fn register(
        &mut self,
        fd: BorrowedFd<'_>,
        side: Side,
        mailbox: &'static Mailbox<Header>,
    ) -> io::Result<()> {
        if self.is_registered_at(side, mailbox) {
            return Ok(());
        }
        let poller = mailbox.sleep().poller_or_new()?;
        if let Some(before) = self.registered_at(side) {
            self.leave(fd, side, before);
        }
        let token = self.token(fd);
        let is_entered = self.interest_at(mailbox).is_some();
        self.sides[side as usize].at = Some(mailbox);
        let interest = self.interest_at(mailbox).expect("it was entered just now");
        let entered = match is_entered {
            true => poller.modify(fd, interest, token),
            false => poller.add(fd, interest, token),
        };
        if entered.is_err() {
            self.sides[side as usize].at = None;
        }
        entered
    }

    /// Takes back that the events of a side come to this worker.
    fn leave(&mut self, fd: BorrowedFd<'_>, side: Side, mailbox: &Mailbox<Header>) {
        self.sides[side as usize].at = None;
        let poller = mailbox.sleep().poller().expect("a side is registered there");
        match self.interest_at(mailbox) {
            // It was accepted before, with more.
            Some(interest) => drop(poller.modify(fd, interest, self.token(fd))),
            None => poller.remove(fd),
        }
    }

    /// Where the events of a side come to.
    pub(super) fn registered_at(&self, side: Side) -> Option<&'static Mailbox<Header>> {
        self.sides[side as usize].at
    }

    /// Whether they come to this worker.
    fn is_registered_at(&self, side: Side, mailbox: &Mailbox<Header>) -> bool {
        self.registered_at(side).is_some_and(|at| ptr::eq(at, mailbox))
    }

    /// Has this waker woken at the next event of a side. Gives the one before.
    pub(super) fn replace_waker(&mut self, side: Side, waker: Option<Waker>) -> Option<Waker> {
        std::mem::replace(&mut self.side(side).waker, waker)
    }

    fn is_waited_for(&self) -> bool {
        self.sides.iter().any(SideState::is_waited_for)
    }
}

impl SideState {
    fn is_waited_for(&self) -> bool {
        !self.waiters.is_empty() || self.waker.is_some()
    }
}

impl Source {
    #[inline]
    pub(super) fn readiness(&self, side: Side) -> Readiness {
        // Acquire: pairs with `mark_ready`; what is read of a descriptor comes after what was said of it.
        Readiness(self.readiness[side as usize].load(Ordering::Acquire))
    }

    /// An attempt that began when the side was as `seen` has found nothing.
    pub(super) fn clear(&self, side: Side, seen: Readiness) {
        let word = &self.readiness[side as usize];
        let cleared = seen.0 & !(READY | MORE);
        // If it fails there was an event meanwhile, or somebody else has cleared it.
        let _ = word.compare_exchange(seen.0, cleared, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// An attempt that began when the side was as `seen` has left nothing, as far as it goes.
    pub(super) fn clear_drained(&self, side: Side, seen: Readiness) {
        if seen.0 & MORE == 0 {
            self.clear(side, seen);
        }
    }

    fn mark_ready(&self, side: Side, more: bool) {
        let flags = READY | if more { MORE } else { 0 };
        let next = |word: u32| Some((word | flags).wrapping_add(EVENT));
        let _ =
            self.readiness[side as usize].fetch_update(Ordering::AcqRel, Ordering::Relaxed, next);
    }

    /// The state. No code of the user's runs, nothing panics and nobody is woken while this is held.
    #[inline]
    pub(super) fn lock(&self) -> ShortGuard<'_, SourceState> {
        self.state.lock()
    }

    /// The state, of a caller that has locked it and forgotten the guard.
    ///
    /// # Safety
    ///
    /// The caller holds the lock, and has no other guard of it (K1).
    pub(super) unsafe fn held(&self) -> ShortGuard<'_, SourceState> {
        // SAFETY: K1, the caller's word.
        unsafe { self.state.held() }
    }

    /// One user more.
    pub(super) fn enter(&self) {
        let mut state = self.lock();
        if state.users == 0 {
            // Nothing is known of it yet.
            self.mark_ready(Side::Read, false);
            self.mark_ready(Side::Write, false);
        }
        state.users += 1;
    }

    /// One user less.
    pub(super) fn exit(&self, fd: BorrowedFd<'_>) {
        let mut state = self.lock();
        state.users -= 1;
        if state.users > 0 {
            return;
        }
        let mut wakers = [None, None];
        for side in [Side::Read, Side::Write] {
            // In a forked process the pollers are the parent's.
            if let Some(at) = state.registered_at(side)
                && !fork::is_child()
            {
                state.leave(fd, side, at);
            }
            state.side(side).at = None;
            wakers[side as usize] = state.replace_waker(side, None);
            self.readiness[side as usize].fetch_and(!(READY | MORE), Ordering::AcqRel);
        }
        state.generation = state.generation.wrapping_add(1);
        drop(state);
        drop(wakers);
    }

    /// The worker of this mailbox ends: whoever waits for what it would tell is to wait elsewhere.
    pub(super) fn abandon(&self, fd: RawFd, mailbox: &Mailbox<Header>) {
        for side in [Side::Read, Side::Write] {
            let mut state = self.lock();
            if !state.is_registered_at(side, mailbox) {
                continue;
            }
            // SAFETY: E2, a side is registered, so there is a user, and we have the lock.
            let fd = unsafe { BorrowedFd::borrow_raw(fd) };
            state.leave(fd, side, mailbox);
            let generation = state.generation;
            drop(state);
            self.note_side(generation, side, false);
        }
    }

    /// Whether a task, a thread or a future waits for it.
    pub(super) fn is_waited_for(&self) -> bool {
        self.lock().is_waited_for()
    }

    /// Marks what has become ready, and wakes who waits for that. By the worker that has the event.
    pub(super) fn note(&self, generation: u32, event: PollEvent) {
        for (side, is_ready, more) in
            [(Side::Read, event.read, event.read_more), (Side::Write, event.write, false)]
        {
            if is_ready {
                self.note_side(generation, side, more);
            }
        }
    }

    fn note_side(&self, generation: u32, side: Side, more: bool) {
        let mut is_marked = false;
        loop {
            let mut state = self.lock();
            if state.generation != generation || state.users == 0 {
                return;
            }
            if !is_marked {
                self.mark_ready(side, more);
                is_marked = true;
            }
            let wakeup = state.take_waiter(side);
            // Once no task and no thread is left.
            let waker = if wakeup.is_none() { state.replace_waker(side, None) } else { None };
            let is_done = !state.sides[side as usize].is_waited_for();
            drop(state);
            if let Some(wakeup) = wakeup {
                wakeup.wake();
            }
            if let Some(waker) = waker {
                // It may be anybody's code.
                catch_and_report(|| waker.wake());
            }
            if is_done {
                return;
            }
        }
    }
}

impl SourceState {
    fn take_waiter(&mut self, side: Side) -> Option<Wakeup> {
        let taken = self.side(side).waiters.take()?;
        // SAFETY: Q2, it is woken at once, when the lock is free again.
        Some(unsafe { taken.tell(WaitEnd::Served) })
    }
}
