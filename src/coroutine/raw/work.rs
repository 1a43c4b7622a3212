//! What a raw coroutine runs: its function, and what became of that.
//!
//! ```text
//!   Coroutine                Work
//!   +-----------+           +-----------------------+
//!   | outcome   |---------->| outcome               |  all that a `Coroutine` knows the type of
//!   +-----------+           | waits, function: F    |  read once, by `run`, on the coroutine's stack
//!                           +-----------------------+
//! ```

use std::cell::{Cell, UnsafeCell};
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use super::yielder::Yielder;
use crate::record;
use crate::unwind::{Payload, clear, panicking};

pub(super) type OutcomeCell<Ret> = Cell<Option<Result<Ret, Payload>>>;

/// The function of a coroutine and its outcome. They do not lie on the stack, so they may be of any size.
#[repr(C)]
pub(super) struct Work<F, Ret> {
    outcome: OutcomeCell<Ret>,
    /// The function has not been taken.
    waits: Cell<bool>,
    function: UnsafeCell<ManuallyDrop<F>>,
}

impl<F, Ret> Work<F, Ret> {
    pub(super) fn new(function: F) -> Self {
        Work {
            outcome: Cell::new(None),
            waits: Cell::new(true),
            function: UnsafeCell::new(ManuallyDrop::new(function)),
        }
    }

    /// # Safety
    ///
    /// `work` is the first field of one that was leaked as a `Box`, and nobody uses it any more.
    pub(super) unsafe fn free(work: NonNull<OutcomeCell<Ret>>) {
        // SAFETY: the caller's word.
        drop(unsafe { Box::from_raw(work.cast::<Self>().as_ptr()) });
    }
}

impl<F, Ret> Drop for Work<F, Ret> {
    fn drop(&mut self) {
        if self.waits.get() {
            // SAFETY: C6, the coroutine has ended without running its function, so it was not taken.
            unsafe { ManuallyDrop::drop(self.function.get_mut()) };
        }
    }
}

/// What the function needs when the trampoline calls it.
pub(super) struct RawCall<'a, F, In, Yield, Ret> {
    pub(super) work: NonNull<Work<F, Ret>>,
    pub(super) yielder: &'a Yielder<In, Yield>,
    pub(super) input: Option<In>,
}

/// The function that the trampoline calls.
pub(super) unsafe extern "C" fn run<F, In, Yield, Ret>(call: *mut ())
where
    F: FnOnce(&Yielder<In, Yield>, In) -> Ret,
{
    // SAFETY: C6, the call is on the frame that has called us, and the work outlives it.
    let (call, work) = unsafe {
        let call = &mut *call.cast::<RawCall<'_, F, In, Yield, Ret>>();
        let work = call.work.as_ref();
        (call, work)
    };
    let function = || {
        let input = call.input.take().expect("a coroutine that is fresh is not unwound");
        work.waits.set(false);
        // SAFETY: C6, taken here, once, as `waits` says from now on.
        let function = unsafe { work.function.get().cast::<F>().read() };
        function(call.yielder, input)
    };
    let outcome = catch_unwind(AssertUnwindSafe(function));
    if panicking() {
        clear(format_args!("raw coroutine {}", record::with(|record| record.id())));
    }
    work.outcome.set(Some(outcome));
}
