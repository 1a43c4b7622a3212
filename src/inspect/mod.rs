//! Looking at coroutines from inside and outside, without changing anything.

mod all;
mod lookup;
mod profile;

pub use crate::dump::{CoroutineState, Dump, DumpFrame, DumpFunction, DumpGroup, DumpedCoroutine};
pub use crate::goexit::ExitTarget;
pub use crate::runtime::{Metrics, WorkerMetrics, metrics, workers};
pub use all::{dump, label, stuck};
pub use lookup::{exit_target, record_address, stack_bounds};
pub use profile::{RunningCoroutine, id_at, running, stack_bounds_at};
