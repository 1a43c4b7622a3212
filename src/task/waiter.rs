//! Whoever waits for something.

use std::sync::Arc;
use std::task::Waker;

use super::thread_parker::ThreadParker;

/// Whoever waits for something: a task, a thread, or the waker of a future. `T` is how the task is referred to:
/// borrowed, while it is known to stay, or counted.
pub(crate) enum Waiter<T> {
    Task(T),
    Thread(Arc<ThreadParker>),
    Waker(Waker),
}
