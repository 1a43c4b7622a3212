//! The scheduler: worker threads, their queues, and the runtimes that own them.
//!
//! The files below stand in the order in which they use each other.

mod config;
mod idle;
mod shutdown_latch;
mod stack_wait;

mod census;

mod survivors;

mod shared;

mod monitor;

mod deadlock;

mod worker;

mod start;

mod runtime_builder;
mod shutdown;

mod default;

mod spawn;

mod builder;
mod totals;

#[cfg(all(test, coro_loom))]
mod models;

pub use builder::Builder;
pub use runtime_builder::RuntimeBuilder;
pub use spawn::go;
pub use start::Runtime;

pub(crate) use shared::Shared;
pub(crate) use shutdown::shutdown_all;
pub(crate) use spawn::spawn_here;
pub(crate) use totals::totals;
pub(crate) use worker::Worker;
