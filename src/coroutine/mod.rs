//! One coroutine on one slot: the [`engine`] that tasks and raw coroutines share, and the latter
//! ([`raw`]).
//!
//! The switch of stacks itself is corosensei's. Around it stands what makes a stack *ours*: the
//! slot that it lies in, the record at the top, and the trampoline between corosensei's root frame
//! and the coroutine's function.
//!
//! # Invariants
//!
//! - **C1** An engine exists only between the binding of a slot and its release. The slot is given
//!   back only when the engine is done (its last frame is gone) or has never been started.
//! - **C2** An engine is resumed only on the thread that started it: raw coroutines are `!Send`,
//!   and a task is started and resumed by its worker alone. It is not resumed while it runs.
//! - **C3** A yielder is used only by code that runs in its coroutine, which is on that stack or on
//!   the stack of a coroutine that it resumed and is waiting for.
//! - **C4** No panic leaves a coroutine's function (H4); what it means travels as a value.
//! - **C5** A switch keeps the callee-saved registers. That is corosensei's; it keeps neither MXCSR nor
//!   the x87 control word, which belong to the thread.
//! - **C6** What a raw coroutine's function uses outlives it. Whoever owns the coroutine ends it first, or
//!   ends the process.

mod engine;
pub mod raw;

pub(crate) use engine::{Engine, Identity, Switch, prepare_process, prepare_thread};
