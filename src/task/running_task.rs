//! Which task has its turn on a worker, for other threads to look at.

use std::panic::Location;
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering, compiler_fence};
use std::time::Duration;

use super::label::TaskLabel;
use crate::base::id::Id;
use crate::base::lock::lock;

/// The task that has its turn on a worker. Written by the worker, read by anyone.
#[derive(Default)]
pub(crate) struct RunningTask {
    /// 0: nothing.
    id: AtomicU64,
    location: AtomicPtr<Location<'static>>,
    /// Grows with every turn.
    turn: AtomicU64,
    /// Only where somebody watches, and only of tasks that have a name.
    name: Mutex<Option<Box<str>>>,
    /// After how many nanoseconds of a turn it is reported; 0 where nobody watches.
    limit: AtomicU64,
}

impl RunningTask {
    /// Notes that a task has its turn.
    #[inline]
    pub(crate) fn begin(&self, id: Id, location: &'static Location<'static>) {
        self.turn.store(self.turn.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.location.store(ptr::from_ref(location).cast_mut(), Ordering::Relaxed);
        // Release: pairs with `get`.
        self.id.store(id.get(), Ordering::Release);
    }

    /// Notes the name of the task that is about to have its turn.
    #[cold]
    pub(crate) fn note_name(&self, name: Option<&str>) {
        *lock(&self.name) = name.map(Box::from);
    }

    /// Notes that the turn is over.
    #[inline]
    pub(crate) fn end(&self) {
        self.id.store(0, Ordering::Relaxed);
        // A signal handler on this thread finds no task whose stack was given back.
        compiler_fence(Ordering::SeqCst);
    }

    /// After how long a turn is to be reported; `None`: never.
    pub(crate) fn set_limit(&self, limit: Option<Duration>) {
        let nanos = limit.map_or(0, |limit| u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX));
        self.limit.store(nanos, Ordering::Relaxed);
    }

    pub(crate) fn limit(&self) -> Option<Duration> {
        match self.limit.load(Ordering::Relaxed) {
            0 => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }

    /// The number of turns so far.
    pub(crate) fn turn(&self) -> u64 {
        self.turn.load(Ordering::Relaxed)
    }

    /// Whether a task has its turn.
    pub(crate) fn is_any(&self) -> bool {
        self.id.load(Ordering::Relaxed) != 0
    }

    /// Who has its turn.
    #[inline]
    pub(crate) fn id(&self) -> Option<Id> {
        Id::from_number(self.id.load(Ordering::Relaxed))
    }

    /// Who has its turn, and where it was spawned. While turns change, the two may be of different tasks. Takes no lock.
    pub(super) fn id_and_location(&self) -> Option<(Id, &'static Location<'static>)> {
        // Acquire: pairs with `begin`.
        let id = Id::from_number(self.id.load(Ordering::Acquire))?;
        // SAFETY: null, or a location that is there for ever.
        let location = unsafe { self.location.load(Ordering::Relaxed).as_ref() };
        Some((id, location?))
    }

    /// Who has its turn. While turns change, the parts may be of different tasks.
    pub(crate) fn get(&self) -> Option<TaskLabel> {
        let (id, location) = self.id_and_location()?;
        Some(TaskLabel { id, name: lock(&self.name).clone(), location })
    }
}
