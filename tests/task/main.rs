//! Coroutines as tasks: how they wait, for what, and how they end. What looks at a whole process runs itself again as a
//! child; `task_join`, which counts what the process has allocated, and `task_product`, which counts its coroutines, are
//! binaries of their own.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/counting.rs"]
mod counting;

mod blocking;
mod cancel;
mod join_set;
mod no_suspend;
mod scope;
mod shield;
mod shutdown;
mod swallowed;
mod timeout;
mod timeout_unwinding;
mod wait;
