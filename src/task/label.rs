//! What reports say of a task: who it is, and what it waits for.

use std::fmt;
use std::panic::Location;

use crate::base::id::Id;

/// A task as reports name it.
pub(crate) struct TaskLabel {
    pub(super) id: Id,
    pub(super) name: Option<Box<str>>,
    pub(crate) location: &'static Location<'static>,
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
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
    /// One of several operations.
    Select,
    Blocking,
    Shutdown,
    Exit,
}

/// What a parked task waits for, as reports name it.
#[derive(Clone, Copy)]
pub(crate) struct WaitLabel {
    pub(super) waiting: Waiting,
    /// Of the coroutine that it joins, if it has joined one.
    pub(super) joined: Option<Id>,
    /// Where the thing was made that it waits in, if it has waited in one.
    pub(super) made_at: Option<&'static Location<'static>>,
    /// The coroutine that holds the lock that it waits for, if one does.
    pub(super) holder: Option<Id>,
}

impl Waiting {
    /// Whether it is a wait in something that was made at some place.
    fn has_place(self) -> bool {
        matches!(
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
        )
    }
}

impl fmt::Display for WaitLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.waiting {
            Waiting::Park => "park",
            Waiting::Sleep => "sleep",
            Waiting::Join => "the end of coroutine",
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
            Waiting::Select => "a select",
            Waiting::Blocking => "a blocking call",
            Waiting::Shutdown => "the end of a runtime",
            Waiting::Exit => "the end of the process",
        })?;
        match (self.waiting, self.joined, self.made_at) {
            (Waiting::Join, Some(id), _) => write!(f, " {id}")?,
            (waiting, _, Some(place)) if waiting.has_place() => write!(f, " made at {place}")?,
            (Waiting::Select, _, Some(place)) => write!(f, " at {place}")?,
            _ => {}
        }
        match self.holder {
            Some(id) => write!(f, ", held by coroutine {id}"),
            None => Ok(()),
        }
    }
}
