//! Waiting until a side of a descriptor is ready: on a task, and on a plain thread.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::time::Instant;

use super::poll::{is_ready_now, poll_descriptor};
use super::state::Side;
use super::user::SourceUser;
use crate::task::{Caller, ParkReason, WaitSubject, Waiting, block_thread, current_task};

impl Side {
    fn reason(self) -> ParkReason {
        let waiting = match self {
            Side::Read => Waiting::Readable,
            Side::Write => Waiting::Writable,
        };
        ParkReason::new(waiting, false)
    }
}

impl SourceUser {
    /// Waits until the side may be ready, where an attempt has just found that it is not. False: `deadline` has come
    /// before.
    ///
    /// An interruption unwinds out of it.
    ///
    /// # Errors
    ///
    /// What the kernel says if it refuses to tell of the descriptor.
    pub(crate) fn wait(&self, side: Side, deadline: Option<Instant>) -> io::Result<bool> {
        match current_task() {
            Some(_) => self.wait_on_task(side, deadline),
            None => wait_on_thread(self.fd(), side, deadline),
        }
    }

    /// As [`wait`](SourceUser::wait), where nobody has tried: returns when an attempt would find something, if only an
    /// error.
    pub(crate) fn wait_untried(&self, side: Side, deadline: Option<Instant>) -> io::Result<bool> {
        loop {
            // Whoever reads or writes need not have told us, so what the readiness says may be long past.
            let seen = self.readiness(side);
            if is_ready_now(self.fd(), side)? {
                return Ok(true);
            }
            self.clear(side, seen);
            if !self.wait(side, deadline)? {
                return Ok(false);
            }
        }
    }

    fn wait_on_task(&self, side: Side, deadline: Option<Instant>) -> io::Result<bool> {
        let subject = WaitSubject::Descriptor(self.fd().as_raw_fd());
        loop {
            let caller = match deadline {
                None => Caller::begin_undisturbed(subject),
                Some(_) => None,
            };
            let caller = caller.unwrap_or_else(|| Caller::begin(subject));
            let node = caller.node(ptr::null_mut());
            {
                let mut state = self.source.lock();
                if self.source.readiness(side).is_ready() {
                    return Ok(true);
                }
                let here = caller.mailbox().expect("the caller is a task");
                state.register(self.fd(), side, here)?;
                // SAFETY: Q1, it is told or unlinked below.
                unsafe { state.side(side).waiters.push(&node) };
            }
            if caller.wait(&node, side.reason(), deadline).is_some() {
                return Ok(true);
            }
            // SAFETY: Q1, it was linked to this list.
            let told = unsafe { self.source.lock().side(side).waiters.give_up(&node) };
            if told.is_some() {
                return Ok(true);
            }
            caller.interrupt();
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Ok(false);
            }
        }
    }
}

/// Blocks the calling thread, which is in no task, until a side of `fd` is ready. False: `deadline` has come before.
fn wait_on_thread(fd: BorrowedFd<'_>, side: Side, deadline: Option<Instant>) -> io::Result<bool> {
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return is_ready_now(fd, side);
        }
        let mut ready = Ok(false);
        block_thread(left, |limit| ready = poll_descriptor(fd, side, limit));
        if ready? {
            return Ok(true);
        }
    }
}
