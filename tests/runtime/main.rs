//! Runtimes: their workers, queues and clocks, and how they end. What looks at a whole process, or at the default
//! runtime's settings, runs itself again as a child. Binaries of their own are `runtime_deadlock`, whose children run
//! before main, `runtime_threads`, which has an allocator and a `pthread_create`, and `runtime_watch`, whose children
//! are not to be kept from their cores by the coroutines that compute here.

#[path = "../common/mod.rs"]
mod common;

mod builder;
mod exit;
mod fair;
mod idle;
mod interval;
mod park;
mod place;
mod reentry;
mod shutdown_limits;
mod shutdown_threads;
mod time;
