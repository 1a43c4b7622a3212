//! The scheduler: worker threads, their queues, and the runtimes that own them.
//!
//! The files below stand in the order in which they use each other.

mod config;
mod idle;
mod shutdown_latch;
mod stack_wait;

mod survivors;

mod shared;

mod monitor;

mod deadlock;

mod worker;

mod place;
mod totals;

mod fresh;

mod metrics;
mod worker_metrics;

mod answer;

mod start;

mod runtime_builder;
mod shutdown;

mod default;

mod spawn;

mod builder;

#[cfg(all(test, coro_loom))]
mod models;

pub use builder::Builder;
pub use metrics::{Metrics, metrics};
pub use place::Place;
pub use runtime_builder::RuntimeBuilder;
pub use spawn::go;
pub use start::Runtime;
pub use worker_metrics::{WorkerMetrics, workers};

pub(crate) use fresh::fresh_tasks;
pub(crate) use place::worker_count;
pub(crate) use shared::Shared;
pub(crate) use shutdown::shutdown_all;
pub(crate) use spawn::spawn_here;
pub(crate) use worker::Worker;
