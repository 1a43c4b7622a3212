//! Deadlines: points in time by which a function is to end.
//!
//! A deadline lies on the stack of the call that set it, and each record has a chain of them, from the
//! innermost outwards. In a coroutine made by hand those of its resumers are in force as well, so what
//! is in force is the chain of the running coroutine, then that of its resumer, and so on.
//!
//! Stacks that are not ours share the thread's record, and what runs there may be suspended and
//! resumed in any order by whoever made them. So a deadline leaves its chain from wherever it is, not
//! just from the front.
//!
//! - **D1** A deadline is in a chain from [`Deadline::run`]'s beginning to its end, however it ends. So
//!   every pointer in a chain is good.

use std::cell::Cell;
use std::ptr;
use std::time::Instant;

use crate::id::Id;
use crate::locals::Interruption;
use crate::record::{self, Record};

/// See the module's documentation.
pub(crate) struct Deadline {
    /// Tells it from all others that ever were.
    pub(crate) id: Id,
    time: Instant,
    /// The unwinding for it, or for one further out, has begun.
    delivered: Cell<bool>,
    outer: Cell<*const Deadline>,
    inner: Cell<*const Deadline>,
}

impl Deadline {
    pub(crate) fn new(time: Instant) -> Deadline {
        let (outer, inner) = (Cell::new(ptr::null()), Cell::new(ptr::null()));
        Deadline { id: Id::next(), time, delivered: Cell::new(false), outer, inner }
    }

    /// Runs `f` with this deadline in force.
    pub(crate) fn run<R>(&self, f: impl FnOnce() -> R) -> R {
        struct Leave<'a>(&'a Deadline);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                self.0.leave();
            }
        }
        self.enter();
        let _leave = Leave(self);
        f()
    }

    fn enter(&self) {
        let outer = record::with(|record| record.deadlines.replace(ptr::from_ref(self).cast()));
        let outer = outer.cast::<Deadline>();
        self.outer.set(outer);
        // SAFETY: D1.
        if let Some(outer) = unsafe { outer.as_ref() } {
            outer.inner.set(self);
        }
    }

    fn leave(&self) {
        let (outer, inner) = (self.outer.get(), self.inner.get());
        // SAFETY: D1.
        match unsafe { inner.as_ref() } {
            Some(inner) => inner.outer.set(outer),
            None => record::with(|record| record.deadlines.set(outer.cast())),
        }
        // SAFETY: D1.
        if let Some(outer) = unsafe { outer.as_ref() } {
            outer.inner.set(inner);
        }
    }
}

/// Whether any deadline is in force on the stack of this record.
#[inline]
pub(super) fn any(record: &Record) -> bool {
    // A task's own stack is the common case, and there its chain is all there is.
    !record.deadlines.get().is_null() || (!record.is_tasks_own() && any_further_out(record))
}

#[cold]
fn any_further_out(record: &Record) -> bool {
    let mut found = false;
    record.each_resumer(&mut |record| found |= !record.deadlines.get().is_null());
    found
}

/// Runs `f` with the deadlines in force that have not been delivered, from the innermost outwards.
fn each(mut f: impl FnMut(&Deadline)) {
    each_in_force(|deadline| {
        if !deadline.delivered.get() {
            f(deadline);
        }
    });
}

/// Runs `f` with the deadlines in force, from the innermost outwards.
fn each_in_force(mut f: impl FnMut(&Deadline)) {
    let mut each_of = |record: &Record| {
        let mut next = record.deadlines.get().cast::<Deadline>();
        // SAFETY: D1, it is the chain of our own stack, or of one that waits for ours.
        while let Some(deadline) = unsafe { next.as_ref() } {
            f(deadline);
            next = deadline.outer.get();
        }
    };
    record::with(|record| {
        each_of(record);
        if !record.is_tasks_own() {
            record.each_resumer(&mut each_of);
        }
    });
}

/// The first deadline that comes after `now`.
pub(super) fn first_after(now: Instant) -> Option<Instant> {
    let mut first: Option<Instant> = None;
    each(|deadline| {
        if deadline.time > now {
            first = Some(first.map_or(deadline.time, |first| first.min(deadline.time)));
        }
    });
    first
}

/// What to unwind with to the outermost deadline that is past, if there is one: to unwind to it is to unwind
/// from all within.
pub(super) fn past(now: Instant) -> Option<Interruption> {
    let mut outermost = None;
    each(|deadline| {
        if deadline.time <= now {
            outermost = Some(deadline.id);
        }
    });
    outermost.map(|target| Interruption { target, note: note_delivered })
}

/// Notes of a deadline that is in force, and of those within it, whether it was delivered.
fn note_delivered(target: Id, delivered: bool) {
    let mut within = false;
    each_in_force(|deadline| within |= deadline.id == target);
    each_in_force(|deadline| {
        if within {
            deadline.delivered.set(delivered);
        }
        within &= deadline.id != target;
    });
}
