//! Tasks: coroutines that a scheduler runs.
//!
//! A task is one block of memory: a [`Header`](header), then the closure, which makes room for the
//! outcome. It has a stack only between its first instruction and its last ([`stack`]). Until then
//! it is a `Send` closure that any worker may take; from then on it is pinned to one worker, to whose
//! [`mailbox`] it comes back when another thread unparks it.
//!
//! The files below stand in the order in which they use each other.

mod state;

mod carry;
mod counters;
mod deferred_notify;
mod extras;
mod holder;
mod inbox;
mod label;
mod looks;
mod outcome;
mod running_task;
mod thread_parker;
mod turn_times;

mod mailbox;
mod stack;
mod waiter;

mod header;

mod local;
mod mailboxes;

#[cfg(feature = "dump")]
mod frames;
mod wake;

mod children;
mod current;
mod wait_list;

pub mod hook;

mod run;

mod deadline;

mod interrupt;

mod park;

mod poll;
mod wait;

mod lock_wait;

mod handle;

mod join;

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
pub(crate) use current::{calling_waiter, calling_worker, current_task};
pub(crate) use deadline::Deadline;
pub(crate) use extras::Extras;
#[cfg(feature = "dump")]
pub(crate) use frames::TaskWalker;
pub(crate) use header::{Fresh, Header, Listed, Started, TaskRef};
pub(crate) use holder::LockHolder;
pub(crate) use hook::inherit;
pub(crate) use label::{TaskLabel, WaitLabel, WaitSubject, Waiting};
pub(crate) use local::{Local, mailbox_here, with_running_task};
pub(crate) use mailbox::Mailbox;
pub(crate) use park::{
    block_thread, check_caller, park_for, park_thread, park_undisturbed, wait_for_children,
    wait_on_thread,
};
pub(crate) use poll::{PollTurn, poll_or_park, spend_budget};
pub(crate) use run::{ResumeOutcome, discarded};
pub(crate) use stack::{ParkReason, SwitchReason};
pub(crate) use thread_parker::{BlockedThreads, ThreadParker};
pub(crate) use wait::{Caller, pause_until, wait_until, wake_all};
pub(crate) use wait_list::{Claim, WaitEnd, WaitList, WaitNode};
pub(crate) use waiter::Waiter;
pub(crate) use wake::Wakeup;
