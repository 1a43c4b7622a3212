//! User code whose panics have nobody to go to: handlers, and values that are dropped in a cleanup.
//!
//! The panic hook has reported a panic, so its payload is discarded. An interruption is different: it was
//! meant for a frame further out. The rest of the cleanup comes first, and then the interruption comes
//! again, at the coroutine's next suspension.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Interruption, Payload};

/// Runs pieces of user code one after another, and takes what they panic with. When it is dropped, the
/// interruptions among that are to be delivered again.
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

/// Runs one piece of user code whose panic has nobody to go to.
pub(crate) fn catch_and_report(user_code: impl FnOnce()) {
    PanicSink::default().run(user_code);
}

/// Takes a payload that has nobody to go to.
pub(crate) fn discard_payload(payload: Payload) {
    PanicSink::default().take(payload);
}
