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
pub(crate) enum Waiting {
    /// Its own call of `park`.
    Park,
    Sleep,
    /// The end of a coroutine.
    Join,
    /// The end of the coroutines of a scope.
    Children,
    Future,
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
}

impl fmt::Display for WaitLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.waiting, self.joined) {
            (Waiting::Park, _) => "park",
            (Waiting::Sleep, _) => "sleep",
            (Waiting::Join, Some(id)) => return write!(f, "the end of coroutine {id}"),
            (Waiting::Join, None) => "the end of a coroutine",
            (Waiting::Children, _) => "the end of its scope's coroutines",
            (Waiting::Future, _) => "a future",
            (Waiting::Blocking, _) => "a blocking call",
            (Waiting::Shutdown, _) => "the end of a runtime",
            (Waiting::Exit, _) => "the end of the process",
        })
    }
}
