//! One coroutine on one slot: the [`engine`], which tasks and raw coroutines share, and raw coroutines
//! ([`raw`]).
//!
//! corosensei switches the stacks. This crate adds the slot that the stack lies in, the record at its top, and
//! the trampoline between corosensei's root frame and the coroutine's function.
//!
//! # Invariants
//!
//! - **C1** An engine exists only between the binding of a slot and its release. The slot is given
//!   back only when the engine is done (its last frame is gone) or has never been started.
//! - **C2** An engine is resumed only on the thread that started it: raw coroutines are `!Send`,
//!   and a task is started and resumed by its worker only. An engine is not resumed while it runs.
//! - **C3** A yielder is used only by code that runs in its coroutine. That code is on the coroutine's stack, or on
//!   the stack of a coroutine that it has resumed and waits for.
//! - **C4** No panic leaves a coroutine's function (H4). Its payload is passed on as a value.
//! - **C5** A switch keeps the callee-saved registers. corosensei sees to that. It keeps neither MXCSR nor
//!   the x87 control word, which belong to the thread.
//! - **C6** What a raw coroutine's function uses outlives the coroutine. The owner of the coroutine ends it first, or
//!   ends the process.
//! - **C7** corosensei's `Coroutine` is words, without padding, so each may be read as one.

mod engine;
pub mod raw;
#[cfg(feature = "dump")]
mod suspended;

pub(crate) use engine::{Engine, Identity, Switch, prepare_process, prepare_thread};
#[cfg(feature = "dump")]
pub(crate) use suspended::StackPointerPlace;
