//! Fresh tasks that were refused a stack, set aside until there is one.
//!
//! They lie apart from those that have not been looked at, and apart by class: so nobody waits behind
//! them who wants a stack of another size. All workers of the runtime share them, because a stack may
//! come free on any. A task is *relieved* when a stack of its class has been given up since somebody
//! was refused one last; see [`shortage`]. Then it counts among the fresh tasks that a worker looks
//! for, and before that it does not: there is no use in looking.
//!
//! Whoever sets a task aside passes a `SeqCst` fence after it, and looks whether the class is short
//! still. Whoever gives a stack up ends the shortage, passes a `SeqCst` fence, and wakes the workers
//! that sleep. So either the former sees that the task is relieved, and sees to it as to a task just
//! spawned; or the latter comes later, and a worker that it wakes, or that is about to fall asleep,
//! sees the task.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::stack::{Class, shortage};
use crate::task::TaskRef;

/// The tasks of each class, the one that has waited longest in front.
type Queues = [VecDeque<TaskRef>; Class::COUNT];

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Refused {
    queues: Mutex<Queues>,
    /// The classes whose queues are not empty, one bit each. Changed under the lock.
    classes: AtomicU32,
}

impl Refused {
    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets a task aside.
    pub(super) fn push(&self, task: TaskRef) {
        let class = task.class();
        let mut queues = self.lock();
        queues[class.index()].push_back(task);
        self.classes.fetch_or(class.bit(), Ordering::Relaxed);
    }

    /// The task of this class that has waited longest.
    pub(super) fn pop(&self, class: Class) -> Option<TaskRef> {
        let mut queues = self.lock();
        let queue = &mut queues[class.index()];
        let task = queue.pop_front();
        if queue.is_empty() {
            self.classes.fetch_and(!class.bit(), Ordering::Relaxed);
        }
        task
    }

    /// A task of whatever class.
    pub(super) fn pop_any(&self) -> Option<TaskRef> {
        Class::all().find_map(|class| self.pop(class))
    }

    /// Whether there are tasks that are relieved.
    #[inline]
    pub(super) fn any_relieved(&self) -> bool {
        self.classes.load(Ordering::Relaxed) & !shortage::announced() != 0
    }

    /// A class whose tasks are relieved; where there are several, another one with another `turn`.
    pub(super) fn relieved(&self, turn: u32) -> Option<Class> {
        let classes = self.classes.load(Ordering::Relaxed) & !shortage::announced();
        let from_turn = Class::all().cycle().skip(turn as usize % Class::COUNT);
        from_turn.take(Class::COUNT).find(|class| classes & class.bit() != 0)
    }

    /// The classes whose tasks are not.
    pub(super) fn short(&self) -> impl Iterator<Item = Class> {
        let classes = self.classes.load(Ordering::Relaxed) & shortage::announced();
        Class::all().filter(move |class| classes & class.bit() != 0)
    }

    /// Shows them all to `f`, which is not to run any of the user's code.
    pub(super) fn for_each(&self, f: impl FnMut(&TaskRef)) {
        self.lock().iter().flatten().for_each(f);
    }

    /// How many tasks there are.
    pub(super) fn len(&self) -> usize {
        self.lock().iter().map(VecDeque::len).sum()
    }
}
