//! Running code of the user's that has nobody to panic to.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs user code that has nobody to panic to. The payload of a panic may itself panic when it
/// is dropped; what that one carries is forgotten.
pub(crate) fn quietly(user_code: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(user_code))
        && let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload)))
    {
        mem::forget(second);
    }
}
