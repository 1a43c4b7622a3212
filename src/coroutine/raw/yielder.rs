//! [`Yielder`]: the side of a raw coroutine from which it suspends itself.

use std::fmt;
use std::panic::{RefUnwindSafe, resume_unwind};
use std::process;
use std::ptr;

use crate::base::report;
use crate::check;
use crate::coroutine::Switch;
use crate::record::{self, Record, Running};
use crate::suspension;
use crate::unwind::{Dropped, panicking, shares_panics};

/// What goes into a suspended coroutine.
pub(super) enum Resume<In> {
    Value(In),
    /// The coroutine is being dropped: unwind.
    Unwind,
}

/// Given to the function of a [`Coroutine`](super::Coroutine), so that it can suspend itself.
///
/// # Examples
///
/// Functions that the coroutine calls may have it passed to them:
///
/// ```
/// use coro::raw::{self, State, Yielder};
///
/// fn count_down(from: u32, yielder: &Yielder<(), u32>) {
///     (0..from).rev().for_each(|number| yielder.suspend(number));
/// }
///
/// raw::with(65536, |yielder, ()| count_down(2, yielder), |coroutine| {
///     assert_eq!(coroutine.resume(()), State::Yielded(1));
///     assert_eq!(coroutine.resume(()), State::Yielded(0));
///     assert_eq!(coroutine.resume(()), State::Done(()));
/// })?;
/// # std::io::Result::Ok(())
/// ```
///
/// It is of no use to another thread:
///
/// ```compile_fail,E0277
/// use coro::raw::{self, Yielder};
///
/// let body = |yielder: &Yielder<(), ()>, ()| {
///     std::thread::scope(|scope| _ = scope.spawn(|| yielder.suspend(())));
/// };
/// raw::with(65536, body, |_| ());
/// ```
#[repr(transparent)]
pub struct Yielder<In, Yield>(Switch<Resume<In>, Yield>);

impl<In, Yield> Yielder<In, Yield> {
    pub(super) fn of(switch: &Switch<Resume<In>, Yield>) -> &Self {
        // SAFETY: C3, and a `Yielder` is laid out as its `Switch`.
        unsafe { &*ptr::from_ref(switch).cast() }
    }

    /// Suspends the coroutine: `value` is what [`Coroutine::resume`](super::Coroutine::resume) gives back, and the next
    /// value that it is resumed with is what this call returns.
    ///
    /// # Panics
    ///
    /// Unwinds, without calling the panic hook, when the suspended coroutine is dropped. In a
    /// [`no_suspend`](crate::no_suspend()) on its own stack.
    ///
    /// # Examples
    ///
    /// ```
    /// use coro::raw::{self, State, Yielder};
    ///
    /// let echo = |yielder: &Yielder<_, _>, mut word: &'static str| loop {
    ///     word = yielder.suspend(word);
    /// };
    /// raw::with(65536, echo, |coroutine| {
    ///     assert_eq!(coroutine.resume("one"), State::<_, ()>::Yielded("one"));
    ///     assert_eq!(coroutine.resume("two"), State::Yielded("two"));
    /// })?;
    /// # std::io::Result::Ok(())
    /// ```
    #[inline(always)]
    pub fn suspend(&self, value: Yield) -> In {
        suspension::check_raw(|| self.own_record());
        check::suspension(ptr::from_ref(self).cast(), || {
            format!("raw coroutine {}", self.own_record().id())
        });
        let in_panic = panicking();
        let resumed = if in_panic { self.suspend_panics(value) } else { self.0.suspend(value) };
        match resumed {
            Resume::Value(input) => input,
            Resume::Unwind => self.unwind(in_panic),
        }
    }

    /// Suspends in the middle of an unwinding. The panics stay the coroutine's own.
    #[cold]
    fn suspend_panics(&self, value: Yield) -> Resume<In> {
        record::with(|record| {
            let _aside = record.set_panics_aside_at_switch();
            self.0.suspend(value)
        })
    }

    /// The record of the coroutine that it suspends.
    fn own_record(&self) -> Running<'_> {
        // SAFETY: C3, it runs, or waits for the coroutine that does.
        let own = unsafe { record::at(ptr::from_ref(self).addr()) };
        own.expect("a yielder lies on its coroutine's stack")
    }

    /// Unwinds the coroutine from here, where it may have suspended itself in the middle of a panic.
    #[cold]
    fn unwind(&self, in_panic: bool) -> ! {
        let own = self.own_record();
        if in_panic || !record::with(|record| record.is_calm_up_to(&own)) {
            give_up(
                &own,
                match shares_panics() {
                    false => "it is suspended in a destructor that its own panic runs",
                    true => {
                        "the panic that it was suspended in may be its own, as its thread's are shared"
                    }
                },
            );
        }
        resume_unwind(Box::new(Dropped))
    }
}

// It holds the place where the resumer's stack was left. No panic can leave that half changed.
impl<In, Yield> RefUnwindSafe for Yielder<In, Yield> {}

impl<In, Yield> fmt::Debug for Yielder<In, Yield> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Yielder").finish_non_exhaustive()
    }
}

/// Ends the process, since a raw coroutine cannot be ended.
#[cold]
pub(super) fn give_up(record: &Record, reason: &str) -> ! {
    report::line(format_args!(
        "coro: raw coroutine {} was dropped while it was suspended, and cannot be ended: {reason}; it may \
         use what is about to be freed, so the process is aborted",
        record.id()
    ));
    process::abort()
}
