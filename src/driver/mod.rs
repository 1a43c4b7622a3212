//! What a worker sleeps in, and what ends its sleep: a wake-up from another thread, the first of its timers, or a
//! descriptor that becomes ready.

mod poller;
mod sleep;
mod timers;

pub(crate) use poller::{Events, Interest, PollEvent};
pub(crate) use sleep::{Sleep, Woken};
pub(crate) use timers::{TimerKey, Timers};
