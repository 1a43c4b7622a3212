//! What a worker sleeps in, and what ends its sleep: a wake-up from another thread, or the first of its timers.

mod sleep;
mod timers;

pub(crate) use sleep::{Sleep, Woken};
pub(crate) use timers::{TimerKey, Timers};
