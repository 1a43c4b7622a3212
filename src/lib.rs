#![doc = include_str!("../README.md")]

#[cfg(not(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu")))]
compile_error!("coro runs on x86_64 Linux with glibc only");

mod base;
mod blocking;
pub mod chan;
mod check;
mod coroutine;
mod driver;
mod dump;
mod exit;
mod fork;
mod frames;
mod goexit;
pub mod inspect;
mod inspect_socket;
pub mod io;
mod join_set;
mod locals;
pub mod net;
mod record;
mod runtime;
mod scope;
pub mod signal;
mod source;
mod stack;
mod suspension;
#[cfg(coro_loom)]
mod sync;
#[cfg(not(coro_loom))]
pub mod sync;
mod task;
pub mod test;
mod thread;
mod time;
pub mod tls;
#[cfg(feature = "tracing")]
pub mod trace;
mod unwind;
mod wait;

pub use blocking::blocking;
pub use coroutine::raw;
pub use exit::exit;
pub use join_set::JoinSet;
pub use runtime::{Builder, Place, Runtime, RuntimeBuilder, go};
pub use scope::{Scope, ScopedJoinHandle, scope};
pub use suspension::no_suspend;
pub use task::hook;
pub use task::{Handle, JoinError, JoinHandle, current, is_cancelled, park, shield, yield_now};
pub use time::{Elapsed, Interval, interval, park_timeout, sleep, sleep_until, timeout};
pub use unwind::is_interruption;
pub use wait::{Wait, wait};
