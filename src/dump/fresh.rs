//! The tasks that have not started.

use std::panic::Location;

/// The tasks that have not started.
#[derive(Default)]
pub(crate) struct FreshTasks {
    pub(crate) total: u64,
    /// Where those were spawned of which it is known, and how many at each place.
    pub(crate) places: Vec<(&'static Location<'static>, u64)>,
}
