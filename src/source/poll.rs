//! Asking the kernel about one descriptor, on the calling thread.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::state::Side;

impl Side {
    fn poll_flags(self) -> PollFlags {
        match self {
            Side::Read => PollFlags::IN | PollFlags::RDHUP,
            Side::Write => PollFlags::OUT,
        }
    }
}

/// Whether an attempt on this side of `fd` would find something, if only an error.
pub(super) fn is_ready_now(fd: BorrowedFd<'_>, side: Side) -> io::Result<bool> {
    poll_descriptor(fd, side, Some(Duration::ZERO))
}

/// Blocks the calling thread until a side of `fd` is ready, for `limit` at most. May return early.
pub(super) fn poll_descriptor(
    fd: BorrowedFd<'_>,
    side: Side,
    limit: Option<Duration>,
) -> io::Result<bool> {
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    let mut descriptors = [PollFd::from_borrowed_fd(fd, side.poll_flags())];
    match poll(&mut descriptors, limit.as_ref()) {
        Ok(0) | Err(Errno::INTR) => Ok(false),
        Ok(_) => Ok(true),
        Err(error) => Err(error.into()),
    }
}
