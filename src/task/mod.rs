//! Tasks: coroutines that a scheduler runs.
//!
//! A task is one block of memory: a [`Header`](header), then the closure, which makes room for the
//! outcome. It has a stack only between its first instruction and its last ([`stack`]). Until then
//! it is a `Send` closure that any worker may take; from then on it is pinned to one worker, to whose
//! [`mailbox`] it comes back when another thread unparks it.
//!
//! The files below stand in the order in which they use each other.

mod state;

mod counters;
mod holder;
mod inbox;
mod label;
mod looks;
mod outcome;
mod running_task;
mod thread_parker;

mod mailbox;
mod stack;
mod waiter;

mod header;

mod local;
mod mailboxes;

mod wake;

mod children;
mod current;
mod wait_list;

mod run;

mod deadline;

mod interrupt;

mod park;

mod poll;
mod wait;

mod lock_wait;

mod handle;

mod join;

mod block;
mod body;

#[cfg(all(test, coro_loom))]
mod models;

pub use handle::{Handle, current};
pub use interrupt::{is_cancelled, shield};
pub use join::JoinHandle;
pub use outcome::JoinError;
pub use park::{park, yield_now};

pub(crate) use body::{Child, Free, Parent, SpawnOptions, spawn};
pub(crate) use children::Children;
pub(crate) use current::{calling_waiter, current_task};
pub(crate) use deadline::Deadline;
pub(crate) use header::{Fresh, Header, Listed, Started, TaskRef};
pub(crate) use holder::LockHolder;
pub(crate) use label::{TaskLabel, WaitLabel, Waiting};
pub(crate) use local::Local;
pub(crate) use mailbox::Mailbox;
pub(crate) use park::{park_for, park_thread, park_undisturbed, wait_for_children, wait_on_thread};
pub(crate) use poll::{PollTurn, poll_or_park, spend_budget};
pub(crate) use run::{ResumeOutcome, discarded};
pub(crate) use stack::{ParkReason, SwitchReason};
pub(crate) use thread_parker::{BlockedThreads, ThreadParker};
pub(crate) use wait::{Caller, pause_until, wait_until, wake_all};
pub(crate) use wait_list::{Claim, WaitEnd, WaitList, WaitNode};
pub(crate) use waiter::Waiter;
pub(crate) use wake::Wakeup;
