//! Fresh tasks that wait until there is a stack for them.
//!
//! The workers of a runtime share one [`StackWaitQueue`], for the tasks that were refused a stack: any worker may free
//! one. Each worker has another of its own, for the tasks that are placed with it. Those wait in it from the start.
//!
//! There is a queue for each class, so a task waits only behind tasks that want a stack of the same class. A class is
//! under *pressure* from the moment that a stack of it is refused until one is freed; see [`stack_pressure`]. The tasks
//! of a class that is not under pressure are *retryable*, and count among the fresh tasks that a worker looks for. The
//! others do not: to look at them would be in vain. A worker takes the stack first, and the task then. So a task that
//! is refused a stack once more keeps its place.
//!
//! No task is forgotten. Whoever queues a task here passes a `SeqCst` fence, and then looks whether its class is still
//! under pressure. Whoever frees a stack clears the pressure, passes a `SeqCst` fence, and wakes the sleeping
//! workers. The two fences have an order. If the clearing comes first, whoever queues sees that the task is
//! retryable, and treats it as one just spawned. Otherwise the workers that are woken, or that are about to fall
//! asleep, see the task. Whoever places a task with another worker wakes that worker in any case.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use crate::base::lock::lock;
use crate::stack::{Class, stack_pressure};
use crate::task::Fresh;

/// The tasks of each class, the one that has waited longest in front.
type Queues = [VecDeque<Fresh>; Class::COUNT];

/// Fresh tasks that wait for a stack, by class.
#[derive(Default)]
pub(super) struct StackWaitQueue {
    queues: Mutex<Queues>,
    /// The classes whose queues are not empty, one bit each. Changed under the lock.
    classes: AtomicU32,
    /// How many tasks there are. Changed under the lock.
    len: AtomicUsize,
}

impl StackWaitQueue {
    fn lock(&self) -> MutexGuard<'_, Queues> {
        lock(&self.queues)
    }

    /// Queues a task.
    pub(super) fn push(&self, task: Fresh) {
        let class = task.class();
        let mut queues = self.lock();
        queues[class.index()].push_back(task);
        self.classes.fetch_or(class.bit(), Ordering::Relaxed);
        self.len.fetch_add(1, Ordering::Relaxed);
    }

    /// The task of this class that has waited longest.
    pub(super) fn pop(&self, class: Class) -> Option<Fresh> {
        let mut queues = self.lock();
        let queue = &mut queues[class.index()];
        let task = queue.pop_front()?;
        if queue.is_empty() {
            self.classes.fetch_and(!class.bit(), Ordering::Relaxed);
        }
        self.len.fetch_sub(1, Ordering::Relaxed);
        Some(task)
    }

    /// A task of any class.
    pub(super) fn pop_any(&self) -> Option<Fresh> {
        Class::all().find_map(|class| self.pop(class))
    }

    /// Whether there is no task, retryable or not.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.classes.load(Ordering::Relaxed) == 0
    }

    /// Whether a task is retryable.
    #[inline]
    pub(super) fn any_retryable(&self) -> bool {
        self.classes.load(Ordering::Relaxed) & !stack_pressure::announced() != 0
    }

    /// A class whose tasks are retryable. If there are several, `turn` chooses one.
    pub(super) fn retryable(&self, turn: u64) -> Option<Class> {
        let classes = self.classes.load(Ordering::Relaxed) & !stack_pressure::announced();
        if classes == 0 {
            return None;
        }
        let from_turn = Class::all().cycle().skip(turn as usize % Class::COUNT);
        from_turn.take(Class::COUNT).find(|class| classes & class.bit() != 0)
    }

    /// The classes whose tasks are not.
    pub(super) fn short(&self) -> impl Iterator<Item = Class> {
        let classes = self.classes.load(Ordering::Relaxed) & stack_pressure::announced();
        Class::all().filter(move |class| classes & class.bit() != 0)
    }

    /// Shows them all to `f`, which is not to run any of the user's code.
    pub(super) fn for_each(&self, f: impl FnMut(&Fresh)) {
        self.lock().iter().flatten().for_each(f);
    }

    /// How many tasks there are.
    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }
}
