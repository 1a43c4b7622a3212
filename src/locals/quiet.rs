//! Running code of the user's that has nobody to panic to.
//!
//! What such code is unwound with may be on its way to somebody all the same: a cancellation or a time
//! limit has interrupted the code, and was meant for everything around it as well. It goes no further at
//! once, because the rest of a cleanup comes first. So it comes again afterwards.

use std::any::Any;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::id::Id;

/// The payload that unwinds coroutine code from a suspension.
pub(crate) struct Interruption {
    /// Whom it is meant for. Not an address: a payload that was kept could find somebody else there.
    pub(crate) target: Id,
    /// Notes whether it has been delivered. If not, it comes at the next suspension.
    pub(crate) note: fn(Id, bool),
}

impl Interruption {
    /// The payload, for an unwinding that begins now.
    pub(crate) fn deliver(self) -> Box<dyn Any + Send> {
        (self.note)(self.target, true);
        Box::new(self)
    }
}

/// Runs user code that has nobody to panic to, one piece after another. Interruptions that it has caught
/// come again when it is dropped, and not before, so that each piece may wait.
#[derive(Default)]
pub(crate) struct Quiet {
    interrupted: Vec<Interruption>,
}

impl Quiet {
    /// Runs a piece.
    pub(crate) fn run(&mut self, user_code: impl FnOnce()) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(user_code)) {
            self.swallow(payload);
        }
    }

    /// The payload of a panic may itself panic when it is dropped; what that one carries is forgotten.
    fn swallow(&mut self, payload: Box<dyn Any + Send>) {
        match payload.downcast::<Interruption>() {
            Ok(interruption) => self.interrupted.push(*interruption),
            Err(payload) => {
                if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
                    mem::forget(second);
                }
            }
        }
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        for interruption in &self.interrupted {
            (interruption.note)(interruption.target, false);
        }
    }
}

/// Runs one piece of user code that has nobody to panic to.
pub(crate) fn quietly(user_code: impl FnOnce()) {
    Quiet::default().run(user_code);
}

/// Takes what user code that has nobody to panic to was unwound with.
pub(crate) fn swallow(payload: Box<dyn Any + Send>) {
    Quiet::default().swallow(payload);
}
