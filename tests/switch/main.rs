//! The switch itself: what passes through it, what it keeps, and every way in which a coroutine ends. What looks at a
//! whole process runs itself again as a child; `switch_backtrace`, which sets the panic hook, and `switch_frames` and
//! `switch_single_step`, which build programs to be looked at, are binaries of their own.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/unwinding.rs"]
mod unwinding;

mod cancel;
mod panics;
mod registers;
mod unwind;
mod values;
