//! Running user code that must not unwind its caller: handlers, and the `Drop` of values in a cleanup.
//!
//! The panic hook has reported a panic, so its payload is discarded. An interruption is different, because it is
//! meant for an outer frame. The rest of the cleanup runs first. Then the interruption is delivered
//! again, at the coroutine's next suspension.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Interruption, Payload};

/// Runs pieces of user code one after another, and takes the payloads of their panics. When it is dropped, it marks
/// the interruptions among them as not delivered.
#[derive(Default)]
pub(crate) struct PanicSink {
    interruptions: Vec<Interruption>,
}

impl PanicSink {
    /// Runs a piece.
    pub(crate) fn run(&mut self, user_code: impl FnOnce()) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(user_code)) {
            self.take(payload);
        }
    }

    fn take(&mut self, payload: Payload) {
        match payload.downcast::<Interruption>() {
            Ok(interruption) => self.interruptions.push(*interruption),
            Err(payload) => {
                // A payload may panic when it is dropped. What that panic carries is leaked.
                if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
                    mem::forget(second);
                }
            }
        }
    }
}

impl Drop for PanicSink {
    fn drop(&mut self) {
        for interruption in &self.interruptions {
            (interruption.note)(interruption.target, false);
        }
    }
}

/// Runs one piece of user code, and takes the payload of its panic.
pub(crate) fn catch_and_report(user_code: impl FnOnce()) {
    PanicSink::default().run(user_code);
}

/// Takes a payload that was caught elsewhere.
pub(crate) fn discard_payload(payload: Payload) {
    PanicSink::default().take(payload);
}
