//! Panics that belong to the program.
//!
//! libFuzzer's harness aborts in the panic hook, so that a failed assertion is found where it failed. A
//! panic that a program asks for goes past the hook, by [`resume_unwind`]; whoever catches one checks
//! that it is ours.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;

/// The payload of a planned panic. It has no size, so that a library which must forget one leaks nothing.
pub struct Planned;

/// A payload whose own `Drop` panics, if that is allowed where it is dropped.
pub struct Explosive(());

impl Drop for Explosive {
    fn drop(&mut self) {
        panic_if_allowed();
    }
}

/// Panics, unless the thread is panicking: a second panic out of a destructor would abort.
pub fn panic_if_allowed() {
    if !thread::panicking() {
        panic_here();
    }
}

/// As [`panic_if_allowed`], with a payload that panics when it is dropped.
pub fn panic_explosively_if_allowed() {
    if !thread::panicking() {
        resume_unwind(Box::new(Explosive(())));
    }
}

/// Panics, for code that no destructor calls: what it is called from catches the panic, whether or not the
/// thread is panicking already.
pub fn panic_here() -> ! {
    resume_unwind(Box::new(Planned))
}

/// Runs `f`, which may panic as planned. What is no planned panic goes on.
pub fn attempt<R>(f: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(value) => Some(value),
        Err(payload) => {
            swallow(payload);
            None
        }
    }
}

/// Takes the payload of a planned panic out of the way; any other goes on.
pub fn swallow(payload: Box<dyn Any + Send>) {
    if !payload.is::<Planned>() {
        resume_unwind(payload);
    }
}
