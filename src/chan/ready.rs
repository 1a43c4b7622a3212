//! Waiting for a descriptor as one of several operations.

use std::cell::Cell;
use std::os::fd::AsFd;
use std::panic::Location;
use std::time::Instant;

use super::operation::{AnyChannel, Operation, Progress};
use crate::io::register_elsewhere;
use crate::source::{Side, SourceUser};
use crate::task::{ParkReason, WaitEnd, WaitNode, Wakeup, calling_worker};

/// Waiting until a side of a descriptor is ready.
pub(super) struct Awaiting {
    side: Side,
    source: WaitedSource,
    progress: Cell<Progress>,
}

struct WaitedSource {
    /// `None`: there is no memory to wait for it with. Then it counts as ready, and who uses it sees.
    user: Option<SourceUser>,
    location: &'static Location<'static>,
}

impl Awaiting {
    /// # Safety
    ///
    /// It is dropped before the descriptor is closed (E2).
    #[track_caller]
    pub(super) unsafe fn new(fd: impl AsFd, side: Side) -> Awaiting {
        // SAFETY: E2, the caller's word.
        let user = unsafe { SourceUser::new(fd.as_fd()) }.ok();
        let source = WaitedSource { user, location: Location::caller() };
        Awaiting { side, source, progress: Cell::new(Progress::Pending) }
    }

    /// True, once: it is ready.
    pub(super) fn take(&self) -> bool {
        self.progress.replace(Progress::Pending) != Progress::Pending
    }
}

impl AnyChannel for WaitedSource {
    fn address(&self) -> usize {
        self.user.as_ref().map_or(0, SourceUser::address)
    }

    fn location(&self) -> &'static Location<'static> {
        self.location
    }

    fn lock(&self) {
        if let Some(user) = &self.user {
            user.lock();
        }
    }

    unsafe fn unlock(&self) {
        if let Some(user) = &self.user {
            // SAFETY: the caller's word.
            unsafe { user.unlock() };
        }
    }
}

impl Operation for Awaiting {
    fn channel(&self) -> &dyn AnyChannel {
        &self.source
    }

    fn reason(&self) -> ParkReason {
        ParkReason::SELECT
    }

    fn progress(&self) -> &Cell<Progress> {
        &self.progress
    }

    unsafe fn attempt(&self) -> Option<Option<Wakeup>> {
        let is_ready = match &self.source.user {
            // SAFETY: the caller's word.
            Some(user) => unsafe { user.is_ready_locked(self.side, calling_worker()) },
            None => true,
        };
        is_ready.then(|| {
            self.progress.set(Progress::Done);
            None
        })
    }

    fn slot(&self) -> *mut () {
        std::ptr::null_mut()
    }

    unsafe fn link(&self, node: &WaitNode) -> Option<Instant> {
        if let Some(user) = &self.source.user {
            // SAFETY: Q1, the caller's word.
            unsafe { user.link_locked(self.side, node) };
        }
        None
    }

    unsafe fn give_up(&self, node: &WaitNode) -> Option<WaitEnd> {
        // SAFETY: Q1, the caller's word.
        self.source.user.as_ref().and_then(|user| unsafe { user.give_up(self.side, node) })
    }

    fn prepare(&self) {
        if calling_worker().is_none()
            && let Some(user) = &self.source.user
            && let Some(source) = user.unregistered(self.side)
        {
            // If it is refused the side counts as ready.
            let _ = register_elsewhere(source, self.side);
        }
    }
}
