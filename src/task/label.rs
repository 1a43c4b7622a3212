//! What reports say of a task: who it is, and what it waits for.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, RawFd};
use std::panic::Location;

use crate::base::id::Id;

/// A task as reports name it.
#[derive(Clone)]
pub(crate) struct TaskLabel {
    pub(super) id: Id,
    pub(super) name: Option<Box<str>>,
    pub(crate) location: &'static Location<'static>,
}

impl TaskLabel {
    pub(crate) fn id(&self) -> Id {
        self.id
    }

    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
}

impl fmt::Display for TaskLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "coroutine {}", self.id)?;
        if let Some(name) = &self.name {
            write!(f, " '{name}'")?;
        }
        write!(f, ", spawned at {},", self.location)
    }
}

/// What kind of thing a parked task waits for. It is for reports, and decides nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(coro_loom, allow(dead_code))]
pub(crate) enum Waiting {
    /// Its own call of `park`.
    Park,
    Sleep,
    /// The end of a coroutine.
    Join,
    /// The end of the coroutines of a scope.
    Children,
    Future,
    /// Room in a channel.
    Send,
    /// A value from a channel.
    Receive,
    /// A mutex or a read-write lock.
    Lock,
    /// A notification of a condition variable.
    Condition,
    /// A permit of a semaphore.
    Permit,
    Barrier,
    /// The value of a `OnceLock` or a `LazyLock`.
    Value,
    WaitGroup,
    /// That of a `Notify`.
    Notification,
    /// What a descriptor has to give.
    Readable,
    /// Room for what a descriptor is to take.
    Writable,
    /// One of several operations.
    Select,
    Blocking,
    /// The connections of a server.
    Connections,
    Shutdown,
    /// A dump of all coroutines.
    Dump,
    Exit,
}

/// What one waits for, where the kind does not say it.
#[derive(Clone, Copy)]
pub(crate) enum WaitSubject {
    /// What was made at this place.
    MadeAt(&'static Location<'static>),
    /// A descriptor.
    Descriptor(RawFd),
}

/// What a parked task waits for, as reports name it.
#[derive(Clone, Copy)]
pub(crate) struct WaitLabel {
    pub(super) waiting: Waiting,
    /// Of the coroutine that it joins, if it has joined one.
    pub(super) joined: Option<Id>,
    /// What it has waited for last, if that is to be named.
    pub(super) subject: Option<WaitSubject>,
    /// The other end of the connection that it waits for, if it waits for one.
    pub(super) peer: Option<SocketAddr>,
    /// The coroutine that holds the lock that it waits for, if one does.
    pub(super) holder: Option<Id>,
}

impl WaitLabel {
    /// The kind of what it waits for.
    pub(crate) fn waiting(self) -> Waiting {
        self.waiting
    }
}

impl WaitSubject {
    /// The other end, if it is a connection.
    ///
    /// # Safety
    ///
    /// Somebody waits for it, so that a descriptor is open.
    pub(super) unsafe fn peer(self) -> Option<SocketAddr> {
        let WaitSubject::Descriptor(fd) = self else { return None };
        // SAFETY: E2, the caller's word.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        SocketAddr::try_from(rustix::net::getpeername(fd).ok()??).ok()
    }
}

impl Waiting {
    /// Whether it is a wait for a thing of this kind.
    pub(super) fn is_of(self, subject: &WaitSubject) -> bool {
        match subject {
            WaitSubject::MadeAt(_) => matches!(
                self,
                Waiting::Send
                    | Waiting::Receive
                    | Waiting::Lock
                    | Waiting::Condition
                    | Waiting::Permit
                    | Waiting::Barrier
                    | Waiting::Value
                    | Waiting::WaitGroup
                    | Waiting::Notification
                    | Waiting::Select
            ),
            WaitSubject::Descriptor(_) => matches!(self, Waiting::Readable | Waiting::Writable),
        }
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Waiting::Park => "park",
            Waiting::Sleep => "sleep",
            Waiting::Join => "the end of a coroutine",
            Waiting::Children => "the end of its scope's coroutines",
            Waiting::Future => "a future",
            Waiting::Send => "room in a channel",
            Waiting::Receive => "a value from a channel",
            Waiting::Lock => "a lock",
            Waiting::Condition => "a condition",
            Waiting::Permit => "a permit",
            Waiting::Barrier => "a barrier",
            Waiting::Value => "the value of a OnceLock",
            Waiting::WaitGroup => "a wait group",
            Waiting::Notification => "a notification",
            Waiting::Readable => "input",
            Waiting::Writable => "room for output",
            Waiting::Select => "a select",
            Waiting::Blocking => "a blocking call",
            Waiting::Connections => "the connections of a server",
            Waiting::Shutdown => "the end of a runtime",
            Waiting::Dump => "a dump",
            Waiting::Exit => "the end of the process",
        })
    }
}

impl fmt::Display for WaitLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Waiting::Join, Some(id)) = (self.waiting, self.joined) {
            return write!(f, "the end of coroutine {id}");
        }
        self.waiting.fmt(f)?;
        match (self.waiting, self.joined, self.subject) {
            (Waiting::Select, _, Some(WaitSubject::MadeAt(place))) => write!(f, " at {place}")?,
            (_, _, Some(WaitSubject::MadeAt(place))) => write!(f, " made at {place}")?,
            (_, _, Some(WaitSubject::Descriptor(fd))) => write!(f, " on descriptor {fd}")?,
            _ => {}
        }
        if let Some(peer) = self.peer {
            write!(f, " to {peer}")?;
        }
        match self.holder {
            Some(id) => write!(f, ", held by coroutine {id}"),
            None => Ok(()),
        }
    }
}
