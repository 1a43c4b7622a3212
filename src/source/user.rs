//! [`SourceUser`]: the right to wait for a descriptor.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::ptr;
use std::task::Context;

use super::poll::is_ready_now;
use super::state::{Readiness, Side, Source};
use super::table;
use crate::task::{Header, Mailbox, WaitEnd, WaitNode};

/// One who uses the state of a descriptor.
pub(crate) struct SourceUser {
    pub(super) source: &'static Source,
    fd: RawFd,
}

// What is known of a descriptor is changed in single steps, and no code of the user's runs within one.
impl UnwindSafe for SourceUser {}
impl RefUnwindSafe for SourceUser {}

impl SourceUser {
    /// A user of this descriptor.
    ///
    /// # Errors
    ///
    /// `OutOfMemory`.
    ///
    /// # Safety
    ///
    /// It is dropped before the descriptor is closed (E2).
    pub(crate) unsafe fn new(fd: BorrowedFd<'_>) -> io::Result<SourceUser> {
        let fd = fd.as_raw_fd();
        let source = table::place_of(fd)?;
        source.enter();
        Ok(SourceUser { source, fd })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: E2, it is open while we use it.
        unsafe { BorrowedFd::borrow_raw(self.fd) }
    }

    #[inline]
    pub(crate) fn readiness(&self, side: Side) -> Readiness {
        self.source.readiness(side)
    }

    /// An attempt that began when the side was as `seen` has found nothing.
    #[inline]
    pub(crate) fn clear(&self, side: Side, seen: Readiness) {
        self.source.clear(side, seen);
    }

    /// An attempt that began when the side was as `seen` has left nothing, as far as it goes.
    #[inline]
    pub(crate) fn clear_drained(&self, side: Side, seen: Readiness) {
        self.source.clear_drained(side, seen);
    }

    /// Has the caller's waker woken when the side is ready, in the place of the waker of the poll before. `here` is the
    /// worker that the caller runs on, if it does.
    ///
    /// # Errors
    ///
    /// What the kernel says if it refuses to tell of the descriptor.
    pub(crate) fn poll(
        &self,
        side: Side,
        context: &Context<'_>,
        here: Option<&'static Mailbox<Header>>,
    ) -> io::Result<Polled> {
        // Cloned and dropped outside of the lock: it may be anybody's code.
        let waker = context.waker().clone();
        let (before, polled) = {
            let mut state = self.source.lock();
            if self.source.readiness(side).is_ready() {
                return Ok(Polled::Ready);
            }
            if let Some(here) = here {
                state.register(self.fd(), side, here)?;
            }
            let is_registered = state.registered_at(side).is_some();
            let polled = if is_registered { Polled::Pending } else { Polled::Unregistered };
            (state.replace_waker(side, Some(waker)), polled)
        };
        drop(before);
        Ok(polled)
    }

    /// Tells this source from all others.
    pub(crate) fn address(&self) -> usize {
        ptr::from_ref(self.source).addr()
    }

    /// Locks the state, until [`unlock`](SourceUser::unlock).
    pub(crate) fn lock(&self) {
        mem::forget(self.source.lock());
    }

    /// # Safety
    ///
    /// The caller has locked it.
    pub(crate) unsafe fn unlock(&self) {
        // SAFETY: the caller's word.
        drop(unsafe { self.source.held() });
    }

    /// Whether an attempt would find something, if only an error. If not, an event will tell `here`, the worker that
    /// the caller runs on, or whoever is told already.
    ///
    /// # Safety
    ///
    /// The caller has locked the state.
    pub(crate) unsafe fn is_ready_locked(
        &self,
        side: Side,
        here: Option<&'static Mailbox<Header>>,
    ) -> bool {
        // SAFETY: the caller's word.
        let mut state = unsafe { self.source.held() };
        let seen = self.source.readiness(side);
        let is_ready = seen.is_ready() && is_ready_now(self.fd(), side).unwrap_or(true);
        if !is_ready {
            self.source.clear(side, seen);
        }
        let is_ready = is_ready
            || match here {
                // Where it is refused, the attempt that follows finds out why.
                Some(here) => state.register(self.fd(), side, here).is_err(),
                None => state.registered_at(side).is_none(),
            };
        mem::forget(state);
        is_ready
    }

    /// Links `node`, where nothing was ready just now.
    ///
    /// # Safety
    ///
    /// The caller has locked the state. The node stays until it is given up or was told (Q1).
    pub(crate) unsafe fn link_locked(&self, side: Side, node: &WaitNode) {
        // SAFETY: the caller's word.
        let mut state = unsafe { self.source.held() };
        // SAFETY: Q1, the caller's word.
        unsafe { state.side(side).waiters.push(node) };
        mem::forget(state);
    }

    /// Unlinks `node`. `Some`: somebody has told it before. Locks the state.
    ///
    /// # Safety
    ///
    /// The node was linked to this side.
    pub(crate) unsafe fn give_up(&self, side: Side, node: &WaitNode) -> Option<WaitEnd> {
        // SAFETY: the caller's word.
        unsafe { self.source.lock().side(side).waiters.give_up(node) }
    }

    /// What is to register a side, if that is registered nowhere.
    pub(crate) fn unregistered(&self, side: Side) -> Option<WeakSource> {
        let is_registered = self.source.lock().registered_at(side).is_some();
        (!is_registered).then(|| self.weak())
    }

    /// What finds this source again while the descriptor is open.
    pub(crate) fn weak(&self) -> WeakSource {
        WeakSource { source: self.source, generation: self.source.lock().generation(), fd: self.fd }
    }
}

impl Drop for SourceUser {
    fn drop(&mut self) {
        self.source.exit(self.fd());
    }
}

/// What a poll has found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Polled {
    Ready,
    Pending,
    /// Not ready, and no worker is told when it is: one is to [register](WeakSource::register) the side.
    Unregistered,
}

/// A source that may have lost its descriptor.
pub(crate) struct WeakSource {
    source: &'static Source,
    generation: u32,
    fd: RawFd,
}

impl WeakSource {
    /// Registers a side with this worker, which is the caller's, if the descriptor is still open and nobody else has
    /// registered it.
    ///
    /// # Errors
    ///
    /// What the kernel says if it refuses.
    pub(crate) fn register(&self, side: Side, here: &'static Mailbox<Header>) -> io::Result<()> {
        let mut state = self.source.lock();
        if state.generation() != self.generation || state.registered_at(side).is_some() {
            return Ok(());
        }
        // SAFETY: E2, the generation is its own, and we have the lock.
        let fd = unsafe { BorrowedFd::borrow_raw(self.fd) };
        state.register(fd, side, here)
    }
}
