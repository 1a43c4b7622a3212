//! Tasks: coroutines that a scheduler runs.
//!
//! A task is one block of memory: a [`Header`](header), then the closure, which makes room for the
//! outcome. It has a stack only between its first instruction and its last ([`stack`]). Until then
//! it is a `Send` closure that any worker may take; from then on it is pinned to one worker, whose
//! shared half ([`remote`]) it comes back to whenever it is unparked.

mod block;
mod body;
mod children;
mod deadline;
mod handle;
mod header;
mod inbox;
mod interrupt;
#[cfg(all(test, coro_loom))]
mod models;
mod park;
mod remote;
mod sleep;
mod stack;
mod state;
mod thread_parker;
mod timers;

pub use body::JoinError;
pub(crate) use handle::observe_joins;
pub use handle::{Handle, JoinHandle, current};
pub use interrupt::{is_cancelled, shield};
pub use park::{park, yield_now};

pub(crate) use body::{Child, Free, Options, Parent, spawn};
pub(crate) use children::Children;
pub(crate) use deadline::Deadline;
pub(crate) use header::{Started, TaskRef, discarded};
pub(crate) use park::{
    Waiting, current_task, park_for, park_thread, park_undisturbed, poll_or_park, wait_on_thread,
    with_waker,
};
pub(crate) use remote::{Remote, TaskLabel};
pub(crate) use sleep::{Sleep, Woken};
pub(crate) use stack::{ResumeOutcome, SwitchReason};
pub(crate) use thread_parker::ThreadParker;
