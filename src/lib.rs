#![doc = include_str!("../README.md")]

#[cfg(not(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu")))]
compile_error!("coro runs on x86_64 Linux with glibc only");

mod base;
mod blocking;
pub mod chan;
mod check;
mod coroutine;
mod driver;
mod exit;
mod fork;
mod goexit;
pub mod inspect;
mod join_set;
mod locals;
mod record;
mod runtime;
mod scope;
mod stack;
mod suspension;
#[cfg(coro_loom)]
mod sync;
#[cfg(not(coro_loom))]
pub mod sync;
mod task;
mod thread;
mod time;
pub mod tls;
mod unwind;
mod wait;

pub use blocking::blocking;
pub use coroutine::raw;
pub use exit::exit;
pub use join_set::JoinSet;
pub use runtime::{Builder, Runtime, RuntimeBuilder, go};
pub use scope::{Scope, ScopedJoinHandle, scope};
pub use suspension::no_suspend;
pub use task::{Handle, JoinError, JoinHandle, current, is_cancelled, park, shield, yield_now};
pub use time::{Elapsed, Interval, interval, park_timeout, sleep, sleep_until, timeout};
pub use unwind::is_interruption;
pub use wait::{Wait, wait};
