//! Tasks: coroutines that a scheduler runs.
//!
//! A task is one block of memory: a [`Header`](header), then the closure, which makes room for the
//! outcome. It has a stack only between its first instruction and its last ([`stage`]). Until then
//! it is a `Send` closure that any worker may take; from then on it is pinned to one worker, whose
//! shared half ([`remote`]) it comes back to whenever it is unparked.

mod block;
mod body;
mod children;
mod deadline;
mod fork;
mod handle;
mod header;
mod inbox;
#[cfg(all(test, coro_loom))]
mod models;
mod park;
mod remote;
mod sleep;
mod stage;
mod state;
mod timers;

pub use body::JoinError;
pub(crate) use handle::observe_joins;
pub use handle::{Handle, JoinHandle, current};
pub use park::{is_cancelled, park, yield_now};

pub(crate) use body::{Child, Free, Options, Parent, spawn};
pub(crate) use children::Children;
pub(crate) use deadline::Deadline;
pub(crate) use fork::{
    check as check_fork, end as end_forked, is_child as is_forked, watch as watch_forks,
};
pub(crate) use header::{Started, TaskRef, discarded};
pub(crate) use park::{
    Waiting, current_task, park_for, park_thread, park_undisturbed, poll_or_park, with_waker,
};
pub(crate) use remote::{Described, Remote};
pub(crate) use sleep::{Sleep, Woken};
pub(crate) use stage::{Signal, Turn};
