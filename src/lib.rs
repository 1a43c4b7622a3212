#![doc = include_str!("../README.md")]

#[cfg(not(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu")))]
compile_error!("coro runs on x86_64 Linux with glibc only");

mod blocking;
mod coroutine;
mod environment;
mod goexit;
mod id;
pub mod inspect;
mod join_set;
mod locals;
mod primitives;
mod record;
mod report;
mod roster;
mod runtime;
mod stack;
mod task;
mod time;
pub mod tls;
mod unwind;
mod wait;

pub use blocking::blocking;
pub use coroutine::raw;
pub use join_set::JoinSet;
pub use runtime::{Builder, Runtime, RuntimeBuilder, Scope, ScopedJoinHandle, go, scope};
pub use task::{Handle, JoinError, JoinHandle, current, is_cancelled, park, yield_now};
pub use time::{Elapsed, Interval, interval, park_timeout, sleep, sleep_until, timeout};
pub use wait::{Wait, wait};
