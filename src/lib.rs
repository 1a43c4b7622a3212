#![doc = include_str!("../README.md")]

#[cfg(not(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu")))]
compile_error!("coro runs on x86_64 Linux with glibc only");

mod coroutine;
mod goexit;
mod id;
pub mod inspect;
mod locals;
mod primitives;
mod record;
mod runtime;
mod stack;
mod task;
mod time;
pub mod tls;

pub use coroutine::raw;
pub use runtime::{Builder, Runtime, RuntimeBuilder, go};
pub use task::{Handle, JoinError, JoinHandle, current, park, yield_now};
pub use time::{park_timeout, sleep, sleep_until};
