//! Unwinding: the panics of each coroutine, interruptions, and the payloads that user code panics with.
//!
//! - [`panic_count`] raises and lowers std's count of panics.
//! - [`credits`] and [`bank`] lend what lowering needs: exceptions that nobody has caught.
//! - [`set_aside`](mod@set_aside) takes a coroutine's panics off the count while the coroutine is suspended.
//! - [`interruption`] is the payload of a cancellation and of an elapsed timeout.
//! - [`sink`] runs user code that must not unwind its caller.

mod bank;
mod credits;
mod interruption;
mod panic_count;
mod set_aside;
mod sink;

use std::any::Any;

pub(crate) use bank::{shares_panics, threads as bank_threads};
pub use interruption::is_interruption;
pub(crate) use interruption::{Dropped, Interruption};
pub(crate) use panic_count::panicking;
pub(crate) use set_aside::{assert_calm, clear, restore, set_aside};
pub(crate) use sink::{PanicSink, catch_and_report, discard_payload};

/// What a panic or an interruption carries.
pub(crate) type Payload = Box<dyn Any + Send>;
