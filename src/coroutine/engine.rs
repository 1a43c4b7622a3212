//! The engine: corosensei's coroutine on a slot of ours, under a record.

use std::cell::UnsafeCell;
use std::io;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use corosensei::CoroutineResult;
use corosensei::stack::{MIN_STACK_SIZE, Stack, StackPointer};

use crate::base::id::Id;
use crate::check;
use crate::goexit;
use crate::record::{self, Record};
use crate::stack::{self, Slot};

const _: () = assert!(MIN_STACK_SIZE <= 4096, "every slot has more for its frames");

/// The part of a slot that corosensei may use: below the record, above the guard.
pub(crate) struct Bounds {
    base: StackPointer,
    limit: StackPointer,
}

#[cfg(feature = "dump")]
impl Bounds {
    pub(super) fn new(base: StackPointer, limit: StackPointer) -> Bounds {
        Bounds { base, limit }
    }
}

// SAFETY: C1, S3, the memory between the two is readable and writable, has a guard below it, and is used
// by one engine at a time. A record's address is a multiple of 64.
unsafe impl Stack for Bounds {
    #[inline]
    fn base(&self) -> StackPointer {
        self.base
    }

    #[inline]
    fn limit(&self) -> StackPointer {
        self.limit
    }
}

/// The coroutine's side of a switch: it sends an `Out`, and gets the next `In`.
pub(crate) type Switch<In, Out> = corosensei::Yielder<In, Out>;

/// What the record of a new coroutine says.
pub(crate) struct Identity<'a> {
    pub(crate) id: Id,
    /// Null for a raw coroutine.
    pub(crate) task: *const (),
    pub(crate) name: Option<&'a str>,
}

/// A coroutine that is bound to a slot.
///
/// It is resumed through a shared reference, because the code that runs on it may hold one too.
pub(crate) struct Engine<In, Out> {
    /// Not dropped: corosensei would unwind the coroutine. Nothing is leaked, because the closure in it holds
    /// pointers only.
    inner: UnsafeCell<ManuallyDrop<corosensei::Coroutine<In, Out, (), Bounds>>>,
}

impl<In, Out> Engine<In, Out> {
    /// Prepares `body` to run on `slot`, under a record that is written here. The `reserve` bytes
    /// below the record, a multiple of 16, stay free for the caller.
    ///
    /// # Safety
    ///
    /// From here on the caller keeps C1. `body` holds a few pointers and nothing else, does not
    /// unwind, and what it points to outlives the engine.
    #[inline]
    pub(crate) unsafe fn new<F>(
        slot: &Slot,
        reserve: usize,
        identity: Identity<'_>,
        body: F,
    ) -> (Self, NonNull<Record>)
    where
        F: FnOnce(NonNull<Record>, &Switch<In, Out>, In),
    {
        stack::unmark(slot);
        let place = record::record_below(slot.ceiling()).cast_mut();
        // SAFETY: C1, the slot is ours and its top is free; a ceiling is never null.
        let record = unsafe {
            Record::write(place, identity.id, identity.task, identity.name);
            NonNull::new_unchecked(place)
        };
        // SAFETY: both addresses lie inside the slot, so neither is zero.
        let bounds = unsafe {
            Bounds {
                base: StackPointer::new_unchecked(place.expose_provenance() - reserve),
                limit: StackPointer::new_unchecked(slot.limit()),
            }
        };
        let body = move |switch: &Switch<In, Out>, input| body(record, switch, input);
        // SAFETY: C1, the caller's word: what the body refers to outlives it.
        let inner = unsafe { corosensei::Coroutine::with_stack_unchecked(bounds, body) };
        let inner = UnsafeCell::new(ManuallyDrop::new(inner));
        (Engine { inner }, record)
    }

    /// Where corosensei's coroutine is.
    #[cfg(feature = "dump")]
    pub(super) fn inner(&self) -> *const corosensei::Coroutine<In, Out, (), Bounds> {
        self.inner.get().cast_const().cast()
    }

    /// Runs the coroutine until it suspends itself, `Some`, or ends, `None`.
    ///
    /// Neither side is panicking at a switch: whoever switches away sets its panics aside.
    ///
    /// # Safety
    ///
    /// C2: the coroutine is neither running nor at its end.
    // Always inlined: a CPU predicts the target of a `ret` by the calls that it has seen. After a switch, these are
    // the calls of another stack.
    #[inline(always)]
    pub(crate) unsafe fn resume(&self, input: In) -> Option<Out> {
        // SAFETY: C2, nobody else resumes it meanwhile, and nobody looks at it but to resume it.
        match unsafe { (*self.inner.get()).resume(input) } {
            CoroutineResult::Yield(out) => Some(out),
            CoroutineResult::Return(()) => None,
        }
    }
}

/// What the process needs before it can run coroutines; cheap when it is there already.
///
/// # Panics
///
/// When `CORO_GUARD` or `CORO_CHECK` holds nonsense.
#[track_caller]
pub(crate) fn prepare_process() -> io::Result<()> {
    use std::sync::atomic::{AtomicBool, Ordering};
    static READY: AtomicBool = AtomicBool::new(false);

    if !READY.load(Ordering::Relaxed) {
        goexit::check_shadow_stack()?;
        stack::set_describe(record::describe);
        stack::init()?;
        check::start()?;
        READY.store(true, Ordering::Relaxed);
    }
    stack::catch_up();
    Ok(())
}

/// What a thread needs before it can run coroutines; cheap when it is there already.
pub(crate) fn prepare_thread() -> io::Result<()> {
    stack::protect_thread()
}
