//! Regions in which nothing suspends, and the check for them before each suspension.
//!
//! The record of a stack names the innermost region on that stack. A task that suspends leaves its own stack
//! and those of the raw coroutines that it is in. A raw coroutine that suspends leaves its own stack, and those of
//! the raw coroutines that it has resumed. A region on a stack that would be left forbids the suspension.
//!
//! ```text
//!   task's stack       no_suspend { resume }   <- forbids `park`, and not the yielder's `suspend`
//!     raw coroutine      suspend, park
//! ```

use std::ops::ControlFlow;
use std::panic::Location;
use std::process;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::base::report;
use crate::record::{self, Record, Running};

/// Whether the program has ever used such a region. Until then a suspension costs one load more.
static USED: AtomicBool = AtomicBool::new(false);

/// Runs `f`, in which no coroutine may be suspended: what would suspend the calling one, or a
/// [raw coroutine](crate::raw) that it is in, panics instead.
///
/// It is for code that trusts in calls being nested on its thread, because it puts a value of the thread's
/// back when it returns, or lends one by a pointer. A coroutine that is suspended there would let another go
/// on in the middle of that: see [the nesting rule](crate#the-nesting-rule).
///
/// All that may suspend panics, also where it would not have to: [`park`](crate::park),
/// [`yield_now`](crate::yield_now), [`sleep`](crate::sleep), [`blocking`](crate::blocking()),
/// [`scope`](crate::scope()), the end of a [`Runtime`](crate::Runtime). Joining a coroutine that has ended, and
/// awaiting what is ready, do not suspend. Coroutines may be started, and raw ones made and resumed. On a plain
/// thread nothing is suspended, and `f` just runs.
///
/// # Panics
///
/// With whatever `f` panics with. A suspension in a destructor that runs during that panic is a second one, and
/// aborts.
///
/// # Examples
///
/// ```
/// use std::cell::Cell;
///
/// thread_local! {
///     static DEPTH: Cell<u32> = const { Cell::new(0) };
/// }
///
/// /// One deeper while `f` runs.
/// fn nested<T>(f: impl FnOnce() -> T) -> T {
///     let before = DEPTH.replace(DEPTH.get() + 1);
///     let value = coro::no_suspend(f);
///     DEPTH.set(before);
///     value
/// }
///
/// let fine = coro::go(|| nested(|| nested(|| DEPTH.get())));
/// assert_eq!(fine.join().unwrap(), 2);
/// let refused = coro::go(|| nested(coro::yield_now));
/// assert!(refused.join().unwrap_err().is_panic());
/// ```
#[track_caller]
pub fn no_suspend<T>(f: impl FnOnce() -> T) -> T {
    struct Leave(Option<&'static Location<'static>>);
    impl Drop for Leave {
        fn drop(&mut self) {
            record::with(|record| record.no_suspend.set(self.0));
        }
    }
    // Relaxed: a coroutine that is in the region runs on this thread.
    USED.store(true, Ordering::Relaxed);
    let region = Location::caller();
    let _leave = Leave(record::with(|record| record.no_suspend.replace(Some(region))));
    f()
}

/// The region, if any, on a stack that a suspension would leave: from that of `running` to that of `last`, or to the
/// task's if there is no `last`.
#[cold]
fn in_the_way(running: Running<'_>, last: Option<&Record>) -> Option<&'static Location<'static>> {
    let found = running.outwards(|record| match record.no_suspend.get() {
        // A plain thread is not suspended.
        _ if !record.is_coroutine() => ControlFlow::Break(None),
        Some(region) => ControlFlow::Break(Some(region)),
        None if last.is_some_and(|last| ptr::eq(&*record, last)) => ControlFlow::Break(None),
        None => ControlFlow::Continue(()),
    });
    match found {
        ControlFlow::Break(region) => region,
        ControlFlow::Continue(()) => None,
    }
}

/// Whether a suspension of the task that the code on the stack of `running` belongs to would panic.
pub(crate) fn is_refused(running: Running<'_>) -> bool {
    USED.load(Ordering::Relaxed) && in_the_way(running, None).is_some()
}

/// To be called before the task that the code on the stack of `running` belongs to is suspended.
///
/// # Panics
///
/// In a [`no_suspend`].
#[inline(always)]
pub(crate) fn check_task(running: Running<'_>) {
    if USED.load(Ordering::Relaxed) {
        refuse_in_region(running, None);
    }
}

/// To be called before the raw coroutine is suspended whose record is `own`.
///
/// # Panics
///
/// In a [`no_suspend`].
#[inline(always)]
pub(crate) fn check_raw<'a>(own: impl FnOnce() -> Running<'a>) {
    if USED.load(Ordering::Relaxed) {
        record::with(|running| refuse_in_region(running, Some(&own())));
    }
}

#[cold]
fn refuse_in_region(running: Running<'_>, last: Option<&Record>) {
    if let Some(region) = in_the_way(running, last) {
        panic!("a coroutine would be suspended in the `no_suspend` at {region}");
    }
}

/// As [`check_task`], for a caller that must not panic, because it waits for code that borrows from it.
#[inline]
pub(crate) fn check_task_or_abort(running: Running<'_>) {
    if USED.load(Ordering::Relaxed)
        && let Some(region) = in_the_way(running, None)
    {
        report::line(format_args!(
            "coro: coroutine {} has to wait in the `no_suspend` at {region} for what borrows from it, so the \
             process is aborted",
            running.id()
        ));
        process::abort();
    }
}
