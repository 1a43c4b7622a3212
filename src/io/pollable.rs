//! Operations on a descriptor that wait as long as they would block: the base of [`Async`](super::Async) and of all
//! sockets.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use crate::runtime::go;
use crate::source::{Polled, Readiness, Side, SourceUser, WeakSource};
use crate::task::{calling_worker, current_task, spend_budget};

/// How long an operation may wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Limit {
    Endless,
    Zero,
    For(Duration),
}

/// What an operation is told by: whether it has left nothing, so that the next one would block.
pub(crate) trait Drained<R>: Fn(&R) -> bool {}

impl<R, F: Fn(&R) -> bool> Drained<R> for F {}

/// Of an operation that does not tell.
pub(crate) fn unknown<R>(_: &R) -> bool {
    false
}

/// Of a transfer to or from a stream, which can take so many bytes: a short one is as much as there is.
pub(crate) fn short(wanted: usize) -> impl Drained<usize> {
    move |&done| done > 0 && done < wanted
}

/// An open descriptor that does not block its thread, with what is known of it.
pub(crate) struct Pollable<T> {
    // Before `io`, for it is dropped first (E2).
    user: SourceUser,
    io: T,
}

impl<T: AsFd> Pollable<T> {
    /// # Errors
    ///
    /// `OutOfMemory`.
    pub(crate) fn new(io: T) -> io::Result<Pollable<T>> {
        // SAFETY: E2, it is dropped before `io`, which keeps the descriptor open.
        let user = unsafe { SourceUser::new(io.as_fd())? };
        Ok(Pollable { user, io })
    }

    pub(crate) fn io(&self) -> &T {
        &self.io
    }

    /// # Safety
    ///
    /// The descriptor stays the same (E2).
    pub(crate) unsafe fn io_mut(&mut self) -> &mut T {
        &mut self.io
    }

    pub(crate) fn into_io(self) -> T {
        self.io
    }

    /// Does `operation`, as often as it takes, and waits before each repetition until the side is ready.
    ///
    /// An interruption unwinds out of it, between two attempts.
    ///
    /// # Errors
    ///
    /// What `operation` says, also `WouldBlock` when the limit is over.
    #[inline]
    pub(crate) fn run<R>(
        &self,
        side: Side,
        limit: Limit,
        mut operation: impl FnMut(&T) -> io::Result<R>,
        drained: impl Drained<R>,
    ) -> io::Result<R> {
        run(&self.user, side, limit, || operation(&self.io), drained)
    }

    /// As [`run`](Pollable::run) without a limit.
    ///
    /// # Safety
    ///
    /// `operation` leaves the descriptor as it is (E2).
    pub(crate) unsafe fn run_mut<R>(
        &mut self,
        side: Side,
        mut operation: impl FnMut(&mut T) -> io::Result<R>,
    ) -> io::Result<R> {
        run(&self.user, side, Limit::Endless, || operation(&mut self.io), unknown)
    }

    /// Waits until an attempt would find something, if only an error. False: `deadline` has come before.
    ///
    /// An interruption unwinds out of it.
    ///
    /// # Errors
    ///
    /// What the kernel says if it refuses to tell of the descriptor.
    pub(crate) fn wait(&self, side: Side, deadline: Option<Instant>) -> io::Result<bool> {
        self.user.wait_untried(side, deadline)
    }

    /// As [`run`](Pollable::run), for a future: in place of a wait its waker is to be woken. It is in the place of that
    /// of the poll before.
    pub(crate) fn poll<R>(
        &self,
        side: Side,
        context: &Context<'_>,
        mut operation: impl FnMut(&T) -> io::Result<R>,
        drained: impl Drained<R>,
    ) -> Poll<io::Result<R>> {
        loop {
            let seen = self.user.readiness(side);
            if seen.is_ready() {
                match attempt(&self.user, side, seen, || operation(&self.io), &drained) {
                    Err(error) if is_to_wait(&error) => {}
                    done => return Poll::Ready(done),
                }
            }
            ready!(self.poll_ready(side, context))?;
        }
    }

    /// Whether an attempt is worth its system call. If not, the waker is woken when it is.
    fn poll_ready(&self, side: Side, context: &Context<'_>) -> Poll<io::Result<()>> {
        match self.user.poll(side, context, calling_worker())? {
            Polled::Ready => return Poll::Ready(Ok(())),
            Polled::Pending => {}
            Polled::Unregistered => register_elsewhere(self.user.weak(), side)?,
        }
        Poll::Pending
    }
}

/// Has a worker of the default runtime told of a side, for a caller that is on no worker.
///
/// # Errors
///
/// What the kernel says if it refuses.
pub(crate) fn register_elsewhere(source: WeakSource, side: Side) -> io::Result<()> {
    let register = move || {
        let here = calling_worker().expect("a coroutine has a worker");
        source.register(side, here)
    };
    go(register).join().expect("it does not panic")
}

#[inline]
fn run<R>(
    user: &SourceUser,
    side: Side,
    limit: Limit,
    mut operation: impl FnMut() -> io::Result<R>,
    drained: impl Drained<R>,
) -> io::Result<R> {
    spend_budget();
    let mut deadline = None;
    loop {
        let seen = user.readiness(side);
        // A thread is not told of events.
        if seen.is_ready() || limit == Limit::Zero || current_task().is_none() {
            match attempt(user, side, seen, &mut operation, &drained) {
                Err(error) if is_to_wait(&error) && limit != Limit::Zero => {}
                done => return done,
            }
        }
        if let Limit::For(limit) = limit {
            deadline = deadline.or_else(|| Instant::now().checked_add(limit));
        }
        if !user.wait(side, deadline)? {
            return Err(io::Error::from_raw_os_error(libc::EAGAIN));
        }
    }
}

#[inline]
fn attempt<R>(
    user: &SourceUser,
    side: Side,
    seen: Readiness,
    operation: impl FnOnce() -> io::Result<R>,
    drained: &impl Drained<R>,
) -> io::Result<R> {
    let done = operation();
    match &done {
        Ok(output) if drained(output) => user.clear_drained(side, seen),
        Err(error) if is_to_wait(error) => user.clear(side, seen),
        _ => {}
    }
    done
}

fn is_to_wait(error: &io::Error) -> bool {
    error.kind() == ErrorKind::WouldBlock
}
