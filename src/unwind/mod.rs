//! Unwinding: whose panic it is, what interrupts a coroutine, and what user code was unwound with.
//!
//! - [`panic_count`] moves std's count of panics, so that each coroutine has its own.
//! - [`bank`] lends what that needs: exceptions that nobody has caught. [`credits`] says who waits for them.
//! - [`interruption`] is the payload of a cancellation and of an elapsed timeout.
//! - [`sink`] runs user code whose panics have nobody to go to.

mod bank;
mod credits;
mod interruption;
mod panic_count;
mod sink;

use std::any::Any;

pub(crate) use bank::{shares_panics, threads as bank_threads};
pub use interruption::is_interruption;
pub(crate) use interruption::{Dropped, Interruption};
pub(crate) use panic_count::{assert_calm, clear, panicking, restore, set_aside};
pub(crate) use sink::{PanicSink, catch_and_report, discard_payload};

/// What a panic or an interruption carries.
pub(crate) type Payload = Box<dyn Any + Send>;
