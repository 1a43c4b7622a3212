//! What interrupts a coroutine: a cancellation, or a deadline that is past.
//!
//! An interruption unwinds the coroutine from a suspension, with a payload of ours and without the panic
//! hook. A panic that leaves a destructor which another panic runs aborts the process. So there is one
//! rule, and [`due`] is the one place that applies it:
//!
//! - **P1** An interruption is delivered where no panic is under way between the running code and the
//!   frame that it is meant for, and no [`shield`].
//!
//! ```text
//!   the task's function     <- a cancellation is meant for this frame
//!     timeout                 <- an elapsed timeout is meant for its own
//!       shield                <- nothing that is meant for a frame above passes
//!         raw coroutine         <- nor here, if its resumer is unwinding
//!           the running code      <- nothing at all, if it is unwinding itself
//! ```
//!
//! What cannot be delivered yet comes at a later suspension. Nobody has to remember it: each suspension
//! applies the rule anew.

use std::ops::ControlFlow;
use std::panic::resume_unwind;
use std::ptr;
use std::time::{Duration, Instant};

use super::current::{Current, current_task};
use super::deadline::{self, Deadline};
use super::header::Header;
use super::state::CANCEL;
use crate::base::id::Id;
use crate::record::{self, Running};
use crate::unwind::{Interruption, panicking, shares_panics};

/// Runs `f` with each deadline whose interruption may be delivered to the code that asks, from the innermost
/// outwards. Tells whether one that is meant for the whole task may be delivered as well.
fn each_in_reach(running: Running<'_>, mut f: impl FnMut(&Deadline)) -> bool {
    let end = running.outwards(|record| {
        if record.has_panics_at_switch() && !ptr::eq(&*record, &*running) {
            return ControlFlow::Break(());
        }
        for deadline in deadline::chain(&record) {
            f(deadline);
            if deadline.is_barrier() {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    });
    end.is_continue()
}

/// The interruption to deliver now to the code that asks, which runs in `task`. If several are due, the one
/// for the outermost frame: to unwind to that is to unwind from all within.
fn due(running: Running<'_>, task: Option<&Header>, now: Instant) -> Option<Interruption> {
    if cfg!(panic = "abort") || panicking() {
        return None;
    }
    let mut elapsed = None;
    let reaches_the_task = each_in_reach(running, |deadline| {
        if deadline.is_past(now) {
            elapsed = Some(deadline.interruption());
        }
    });
    match task {
        Some(task) if reaches_the_task && task.is_newly_cancelled() => {
            Some(Interruption { target: task.id, note: note_cancel_delivered })
        }
        _ => elapsed,
    }
}

/// How long an interruption waits for a panic that may be a neighbour's, before it looks again.
const RETRY: Duration = Duration::from_millis(10);

/// When the code that asks, which is about to wait, has to look again whether it is to be interrupted: at the
/// first of its deadlines after `now`.
pub(super) fn next_look(running: Running<'_>, now: Instant) -> Option<Instant> {
    // Where coroutines share their thread's panics, nobody tells when the last is over.
    let mut next = (panicking() && shares_panics()).then(|| now + RETRY);
    each_in_reach(running, |deadline| {
        if let Some(time) = deadline.after(now) {
            next = Some(next.map_or(time, |next| next.min(time)));
        }
    });
    next
}

impl Header {
    /// Whether the task was cancelled and was not unwound for that.
    fn is_newly_cancelled(&self) -> bool {
        self.state.load().has(CANCEL) && !self.cancel_delivered.get()
    }
}

impl Current {
    /// Whether there may be a reason to interrupt the task.
    #[inline]
    pub(super) fn is_interruptible(&self) -> bool {
        self.state.load().has(CANCEL) || deadline::any(self.record())
    }

    /// Whether the task is to be interrupted now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.is_interruptible() && due(self.record(), Some(self), now).is_some()
    }

    /// Interrupts the task if there is a reason, before it is suspended.
    #[cold]
    pub(super) fn interrupt(&self, now: Instant) {
        let Some(interruption) = due(self.record(), Some(self), now) else { return };
        if interruption.target == self.id {
            resume_unwind(interruption.deliver());
        }
        // Others first, so that whoever just looks whether something is there starves nobody.
        self.step_aside();
        self.interrupt_resumed(0);
    }

    /// Interrupts the task if there is a reason, after it was suspended. Leaves `token`, by which it was
    /// woken, for its next wait then.
    #[cold]
    pub(super) fn interrupt_resumed(&self, token: usize) {
        if let Some(interruption) = due(self.record(), Some(self), Instant::now()) {
            self.state.leave(token);
            resume_unwind(interruption.deliver());
        }
    }
}

/// Unwinds the calling thread, which is in no task, if a deadline is past.
pub(super) fn interrupt_thread(now: Instant) {
    if let Some(interruption) = due_on_thread(now) {
        resume_unwind(interruption.deliver());
    }
}

/// Whether the calling thread, which is in no task, is to be interrupted now.
pub(super) fn thread_is_due(now: Instant) -> bool {
    due_on_thread(now).is_some()
}

fn due_on_thread(now: Instant) -> Option<Interruption> {
    record::with(|record| if deadline::any(record) { due(record, None, now) } else { None })
}

/// Notes whether the cancellation of the task `id` was delivered. One that code of ours has caught on its
/// way, and then gone on, comes once more, unless the task has come to its end by now.
fn note_cancel_delivered(id: Id, delivered: bool) {
    if let Some(task) = current_task()
        && task.id == id
        && (delivered || !task.is_ending())
    {
        task.cancel_delivered.set(delivered);
    }
}

/// Whether the calling coroutine was cancelled: a suspension will unwind it, or did already. False on a
/// plain thread.
///
/// # Examples
///
/// ```
/// let worker = coro::go(|| {
///     let mut steps = 0u64;
///     while !coro::is_cancelled() {
///         steps += 1; // a long computation that never suspends
///     }
///     steps
/// });
/// # while coro::inspect::metrics().fresh > 0 {}
/// worker.cancel();
/// let steps = worker.join(); // it ended by itself, unless it was cancelled before it began
/// # let _ = steps;
/// ```
pub fn is_cancelled() -> bool {
    current_task().is_some_and(|task| task.is_cancelled())
}

/// Runs `f`, and puts off until it has ended what would interrupt it: a cancellation, a shutdown, and the
/// [`timeout`](crate::timeout)s around it. They come at the first suspension after `f`.
///
/// An interruption unwinds the coroutine as a panic does. So it aborts the process where a panic would: in
/// an `extern "C"` function that C code has called, such as the comparator of a `qsort`. Code that suspends
/// in such a function runs the C code in a `shield`. So does code that must not stop half-way.
///
/// A timeout inside `f` limits its own function as usual. Dropping a suspended [raw coroutine](crate::raw)
/// unwinds it through its shields, because a coroutine that is dropped will not be resumed.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// let coroutine = coro::go(|| {
///     coro::shield(|| coro::sleep(Duration::from_millis(5))); // to the end
///     coro::sleep(Duration::MAX); // interrupted here
/// });
/// # while coro::inspect::metrics().fresh > 0 {}
/// coroutine.cancel();
/// assert!(coroutine.join().unwrap_err().is_cancelled());
/// ```
pub fn shield<T>(f: impl FnOnce() -> T) -> T {
    Deadline::shield().run(f)
}
