//! Tasks: coroutines that a scheduler runs.
//!
//! A task is one block of memory: a [`Header`](header), then the closure, which makes room for the
//! outcome. It has a stack only between its first instruction and its last ([`stage`]). Until then
//! it is a `Send` closure that any worker may take; from then on it is pinned to one worker, whose
//! shared half ([`remote`]) it comes back to whenever it is unparked.

mod block;
mod body;
mod handle;
mod header;
mod inbox;
mod park;
mod remote;
mod sleep;
mod stage;
mod state;

pub use body::JoinError;
pub use handle::{Handle, JoinHandle, current};
pub use park::{park, yield_now};

pub(crate) use body::{Options, spawn};
pub(crate) use header::{Started, TaskRef};
pub(crate) use park::{Current, current_task};
pub(crate) use remote::Remote;
pub(crate) use sleep::{Sleep, Woken};
pub(crate) use stage::{Signal, Turn};
