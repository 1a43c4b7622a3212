//! Deadlines: points in time by which a function is to end.
//!
//! A deadline lies on the stack of the call that set it, and each record has a chain of them, from the
//! innermost outwards. In a raw coroutine those of its resumers are in force as well, so what is in force
//! is the chain of the running coroutine, then that of its resumer, and so on.
//!
//! A deadline may be a *barrier*: nothing that is meant for a frame further out passes it. A shield is a
//! barrier without a time, and a timeout that was called in the middle of a panic is one with a time.
//!
//! Stacks that are not ours share the thread's record, and what runs there may be suspended and
//! resumed in any order by whoever made them. So a deadline leaves its chain from wherever it is, not
//! just from the front.
//!
//! - **D1** A deadline is in a chain from [`Deadline::run`]'s beginning to its end, however it ends. So
//!   every pointer in a chain is good.

use std::cell::Cell;
use std::iter;
use std::ops::ControlFlow;
use std::ptr;
use std::time::Instant;

use crate::base::id::Id;
use crate::record::{self, Record, Running};
use crate::unwind::Interruption;

/// A function's limit in time, or a barrier, or both.
pub(crate) struct Deadline {
    /// Tells it from all others that ever were.
    pub(crate) id: Id,
    time: Option<Instant>,
    is_barrier: bool,
    /// The unwinding for it, or for one further out, has begun.
    delivered: Cell<bool>,
    outer: Cell<*const Deadline>,
    inner: Cell<*const Deadline>,
}

impl Deadline {
    /// For a timeout.
    pub(crate) fn new(time: Instant, is_barrier: bool) -> Deadline {
        Deadline::with(Some(time), is_barrier)
    }

    /// For a shield.
    pub(super) fn shield() -> Deadline {
        Deadline::with(None, true)
    }

    fn with(time: Option<Instant>, is_barrier: bool) -> Deadline {
        let (outer, inner) = (Cell::new(ptr::null()), Cell::new(ptr::null()));
        Deadline { id: Id::next(), time, is_barrier, delivered: Cell::new(false), outer, inner }
    }

    pub(super) fn is_barrier(&self) -> bool {
        self.is_barrier
    }

    /// Whether it is time to unwind to it.
    pub(super) fn is_past(&self, now: Instant) -> bool {
        !self.delivered.get() && self.time.is_some_and(|time| time <= now)
    }

    /// When it will be time, if that is yet to come.
    pub(super) fn after(&self, now: Instant) -> Option<Instant> {
        self.time.filter(|&time| time > now && !self.delivered.get())
    }

    /// What unwinds to it.
    pub(super) fn interruption(&self) -> Interruption {
        Interruption { target: self.id, note: note_delivered }
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
pub(super) fn any(record: Running<'_>) -> bool {
    // A task's own stack is the common case, and there its chain is all there is.
    !record.deadlines.get().is_null() || (!record.is_tasks_own() && any_further_out(record))
}

#[cold]
fn any_further_out(record: Running<'_>) -> bool {
    let any = |record: Running<'_>| match record.deadlines.get().is_null() {
        true => ControlFlow::Continue(()),
        false => ControlFlow::Break(()),
    };
    record.outwards(any).is_break()
}

/// The deadlines that were set on a record's stack, from the innermost outwards. The record is that of the
/// code that asks, or of a stack that waits for it.
pub(super) fn chain(record: &Record) -> impl Iterator<Item = &Deadline> {
    // SAFETY: D1, none of them leaves the chain while the stack waits for us.
    let at = |deadline: *const Deadline| unsafe { deadline.as_ref() };
    iter::successors(at(record.deadlines.get().cast()), move |inner| at(inner.outer.get()))
}

/// Notes of a deadline that is in force, and of those within it, whether it was delivered.
fn note_delivered(target: Id, delivered: bool) {
    let each = |f: &mut dyn FnMut(&Deadline)| {
        record::with(|record| {
            let _ = record.outwards(|record| {
                chain(&record).for_each(&mut *f);
                ControlFlow::<()>::Continue(())
            });
        });
    };
    let mut within = false;
    each(&mut |deadline| within |= deadline.id == target);
    each(&mut |deadline| {
        if within {
            deadline.delivered.set(delivered);
        }
        within &= deadline.id != target;
    });
}
