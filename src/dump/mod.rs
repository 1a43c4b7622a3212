//! A dump: what all coroutines do, as data, text and JSON.
//!
//! Only its worker may look at a started task. So whoever wants a dump leaves a [`survey`], and each worker notes its
//! tasks between two turns, a few milliseconds' worth at a time. Chains of calls that are alike are kept once. A worker
//! that is held up by a long turn is not waited for: the coroutine that holds it is named. Then the addresses get their
//! names, each once, on a thread that has the stack for it.
//!
//! | file | its one idea |
//! |---|---|
//! | `traces` | chains of calls, each kept once |
//! | `coroutine` | what is known of one coroutine |
//! | `fresh` | those that have not started |
//! | `notes` | what a worker notes of its tasks |
//! | `survey` | how all workers are asked, and answer in slices |
//! | `list` | who the tasks of a runtime are, for the reports of a deadlock and of a shutdown |
//! | `names` | the functions at the addresses |
//! | `group` | coroutines that are alike |
//! | `dump` | the whole, and what is to be seen of it |
//! | `text`, `json` | its two forms |
//! | `take` | from the survey to the dump |
//! | `on_signal` | `CORO_DUMP`: a dump on stderr for a signal |

mod coroutine;
#[allow(clippy::module_inception)]
mod dump;
mod fresh;
mod group;
mod json;
mod list;
mod names;
mod notes;
mod on_signal;
mod survey;
mod take;
mod text;
mod traces;

pub use coroutine::{CoroutineState, DumpedCoroutine};
pub use dump::Dump;
pub use group::DumpGroup;
pub use names::{DumpFrame, DumpFunction};

pub(crate) use fresh::FreshTasks;
pub(crate) use list::{ReportedTask, WorkerTasks, tasks_of};
pub(crate) use on_signal::{start, threads};
pub(crate) use survey::{SurveyLimits, answer, asked_since};
pub(crate) use take::{Which, take};
