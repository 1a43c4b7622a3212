//! One coroutine on one slot: the engine that tasks and coroutines made by hand share, and
//! [`raw`](crate::raw), which is the latter.
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
//!   and a task is started and resumed by its worker alone.
//! - **C3** A yielder is used only by code that runs in its coroutine, which is on that stack or on
//!   the stack of a coroutine that it resumed and is waiting for.
//! - **C4** No panic leaves a coroutine's function (H4); what it means travels as a value.
//! - **C5** A switch keeps the callee-saved registers. That is corosensei's; it keeps neither MXCSR nor
//!   the x87 control word, which belong to the thread.
//! - **C6** A coroutine made by hand sends a value whenever it suspends itself, but for once: when it is
//!   told to unwind and stays where it is. Then its record says so.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::mem::{self, ManuallyDrop, MaybeUninit};
use std::panic::resume_unwind;
use std::ptr::{self, NonNull};
use std::thread::panicking;

use corosensei::CoroutineResult;
use corosensei::stack::{MIN_STACK_SIZE, Stack, StackPointer};

use crate::goexit;
use crate::id::Id;
use crate::locals::{quietly, swallow};
use crate::record::{self, Record};
use crate::stack::{self, Class, Slot};
use crate::unwind::{catch_call, unwind_if_first};

const _: () = assert!(MIN_STACK_SIZE <= 4096, "the smallest slot has 12 KiB for frames and record");

/// The part of a slot that corosensei may use: below the record, above the guard.
pub(crate) struct Bounds {
    base: StackPointer,
    limit: StackPointer,
}

// SAFETY: C1, memory between the two is readable and writable, has a guard below it, and is used
// by one engine at a time; a record's address is a multiple of 64.
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

/// What a coroutine suspends itself with: sends an `Out`, gets the next `In`.
pub(crate) type Switch<In, Out> = corosensei::Yielder<In, Out>;

/// What the record of a new coroutine says.
pub(crate) struct Identity<'a> {
    pub(crate) id: Id,
    /// Null for a coroutine made by hand.
    pub(crate) task: *const (),
    pub(crate) name: Option<&'a str>,
}

/// A coroutine that is bound to a slot.
pub(crate) struct Engine<In, Out> {
    inner: corosensei::Coroutine<In, Out, (), Bounds>,
}

impl<In: 'static, Out: 'static> Engine<In, Out> {
    /// Prepares `body` to run on `slot`, under a record that is written here. The `reserve` bytes
    /// below the record, a multiple of 16, stay free for the caller.
    ///
    /// # Safety
    ///
    /// C1 is in the caller's hands from here on. `body` is small (a few words), does not unwind,
    /// and what it points to outlives the engine.
    #[inline]
    pub(crate) unsafe fn new<F>(
        slot: &Slot,
        reserve: usize,
        identity: Identity<'_>,
        body: F,
    ) -> (Self, NonNull<Record>)
    where
        F: FnOnce(NonNull<Record>, &Switch<In, Out>, In) + 'static,
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
        (Engine { inner: corosensei::Coroutine::with_stack(bounds, body) }, record)
    }

    /// Runs the coroutine until it suspends itself, `Some`, or ends, `None`.
    #[inline]
    pub(crate) fn resume(&mut self, input: In) -> Option<Out> {
        match self.inner.resume(input) {
            CoroutineResult::Yield(out) => Some(out),
            CoroutineResult::Return(()) => None,
        }
    }

    pub(crate) fn started(&self) -> bool {
        self.inner.started()
    }

    pub(crate) fn done(&self) -> bool {
        self.inner.done()
    }
}

/// One coroutine by hand, without a scheduler: [`Coroutine`](raw::Coroutine).
pub mod raw {
    pub use super::{Coroutine, State, Yielder};
}

/// What [`Coroutine::resume`] gives back.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum State<Yield, Ret> {
    /// The coroutine suspended itself with this value and can be resumed.
    Yielded(Yield),
    /// The coroutine ended with this value.
    Done(Ret),
}

/// What goes into a suspended coroutine.
enum Resume<In> {
    Value(In),
    /// The coroutine is being dropped: unwind.
    Unwind,
    /// The same, where it is not certain that the coroutine is not unwinding already.
    UnwindIfFirst,
}

/// The payload that unwinds a coroutine which is dropped while it is suspended.
struct Dropped;

/// What a record says in place of its resumer's stack pointer when the coroutine has suspended itself while
/// a panic was under way on its thread, which may be its own.
const IN_A_PANIC: usize = 1;

/// What it says when the coroutine was told to unwind and stays where it is.
const STAYS: usize = 2;

/// How often a coroutine that is dropped may swallow the unwinding and suspend itself again.
const UNWIND_ATTEMPTS: u32 = 16;

/// A coroutine that its owner resumes by hand.
///
/// It has a stack, an identity, storage and exit handlers of its own ([`tls`](crate::tls)), and
/// stays on the thread that made it: it is neither `Send` nor `Sync`. A call that suspends a
/// *task*, such as [`park`](crate::park), suspends the task that resumed this coroutine, with
/// everything in between.
///
/// Dropping a suspended coroutine unwinds it: destructors run, newest first, then its exit handlers,
/// then its data is dropped. A coroutine that catches this unwinding and suspends itself again is
/// unwound again, 16 times in all; then its stack is leaked. So it is at once where it is suspended in a
/// destructor that its own panic runs, for a second panic there would abort the process. (Inside a
/// [`catch_unwind`](std::panic::catch_unwind) there may be doubt whether it is, where a panic of somebody
/// else was under way on its thread when it suspended itself, and one is now. Then it is leaked too.)
/// In a program compiled with `panic = "abort"` nothing can be unwound, and a suspended coroutine that is
/// dropped leaks its stack and whatever lives there. A coroutine that was never resumed just drops its
/// closure.
///
/// # Left to its user
///
/// Two things the type system cannot see to:
///
/// - A coroutine that is suspended inside [`LocalKey::with`](std::thread::LocalKey::with) has to end
///   before its thread does. If it is forgotten there, or kept in another thread-local whose destructor
///   unwinds it, what it borrows may be gone. Tasks need no such care: their thread outlives them.
/// - One that is forgotten or leaked in the middle of a panic leaves its thread
///   [panicking](std::thread::panicking) for ever. From then on it is in doubt for others on that thread too
///   whether they can be unwound.
///
/// # Examples
///
/// ```
/// use coro::raw::{Coroutine, State};
///
/// let mut sum = Coroutine::new(64 * 1024, |yielder, mut input: i32| {
///     let mut sum = 0;
///     while input != 0 {
///         sum += input;
///         input = yielder.suspend(sum);
///     }
///     "done"
/// })?;
/// assert_eq!(sum.resume(1), State::Yielded(1));
/// assert_eq!(sum.resume(2), State::Yielded(3));
/// assert_eq!(sum.resume(0), State::Done("done"));
/// assert!(sum.is_done());
/// # std::io::Result::Ok(())
/// ```
///
/// It cannot leave its thread:
///
/// ```compile_fail,E0277
/// let coroutine = coro::raw::Coroutine::<(), (), ()>::new(65536, |_, ()| ()).unwrap();
/// std::thread::spawn(move || drop(coroutine));
/// ```
#[must_use = "a coroutine does nothing before it is resumed"]
pub struct Coroutine<In: 'static, Yield: 'static, Ret: 'static> {
    engine: ManuallyDrop<Engine<Resume<In>, MaybeUninit<Yield>>>,
    /// Of the slot; gone when the slot was given back or leaked.
    slot: Option<Slot>,
    record: NonNull<Record>,
    body: Box<dyn Body<In, Yield, Ret>>,
    /// Neither `Send` nor `Sync`: what is on the stack may be neither.
    not_send: PhantomData<*mut ()>,
}

/// The function of a coroutine and what became of it. It lives beside the stack, not on it, so that
/// it may be of any size.
struct Work<F, In, Ret> {
    function: UnsafeCell<ManuallyDrop<F>>,
    /// The function is still there.
    waits: Cell<bool>,
    input: Cell<Option<In>>,
    outcome: Cell<Option<Result<Ret, Box<dyn Any + Send>>>>,
}

impl<F, In, Ret> Drop for Work<F, In, Ret> {
    fn drop(&mut self) {
        if self.waits.get() {
            // SAFETY: C1, the coroutine has never run its function, so it was not taken.
            unsafe { ManuallyDrop::drop(self.function.get_mut()) };
        }
    }
}

/// `Work` with its closure's type forgotten.
trait Body<In, Yield, Ret> {
    fn take_outcome(&self) -> Option<Result<Ret, Box<dyn Any + Send>>>;
}

impl<F, In, Yield, Ret> Body<In, Yield, Ret> for Work<F, In, Ret>
where
    F: FnOnce(&Yielder<In, Yield>, In) -> Ret,
{
    fn take_outcome(&self) -> Option<Result<Ret, Box<dyn Any + Send>>> {
        self.outcome.take()
    }
}

/// What the function needs when the trampoline calls it.
struct Call<'a, F, In, Yield, Ret> {
    work: *const Work<F, In, Ret>,
    yielder: &'a Yielder<In, Yield>,
}

impl<'a, F, In, Yield, Ret> Call<'a, F, In, Yield, Ret> {
    /// # Safety
    ///
    /// `call` is what the trampoline has passed to [`run`], which is running.
    unsafe fn parts<'w>(call: *mut ()) -> (&'w Work<F, In, Ret>, &'a Yielder<In, Yield>) {
        // SAFETY: C1, the call outlives `run`, and its `Work` is owned by the coroutine, which is being
        // resumed.
        unsafe {
            let call = &*call.cast::<Self>();
            (&*call.work, call.yielder)
        }
    }
}

/// The function that the trampoline calls.
unsafe extern "C" fn run<F, In, Yield, Ret>(call: *mut ())
where
    F: FnOnce(&Yielder<In, Yield>, In) -> Ret,
{
    // SAFETY: C1, the call and the work outlive us.
    if let Err(panic) = unsafe { catch_call(call, run_function::<F, In, Yield, Ret>) } {
        // SAFETY: C1, it is what we were passed.
        let (work, _) = unsafe { Call::<F, In, Yield, Ret>::parts(call) };
        work.outcome.set(Some(Err(panic)));
    }
}

/// What [`run`] calls and catches.
unsafe extern "C-unwind" fn run_function<F, In, Yield, Ret>(call: *mut ())
where
    F: FnOnce(&Yielder<In, Yield>, In) -> Ret,
{
    // SAFETY: C1, it is what `run` was passed.
    let (work, yielder) = unsafe { Call::<F, In, Yield, Ret>::parts(call) };
    let Some(input) = work.input.take() else { return };
    work.waits.set(false);
    // SAFETY: C1, taken here, once, as `waits` says from now on.
    let function = unsafe { work.function.get().cast::<F>().read() };
    work.outcome.set(Some(Ok(function(yielder, input))));
}

impl<In: 'static, Yield: 'static, Ret: 'static> Coroutine<In, Yield, Ret> {
    /// Makes a coroutine that will run `f` on a stack of its own.
    ///
    /// `stack_size` is in bytes and is rounded up to a power of two from 16 KiB to 64 MiB.
    ///
    /// The guard, the hidden record and a colour come out of it, up to 20 KiB: of 16 KiB some 7 to 11
    /// are left for frames, of 32 KiB 19 to 23, from 64 KiB on all but 20. A panic whose backtrace is
    /// printed (`RUST_BACKTRACE=1`) needs more than 32 KiB have.
    ///
    /// # Errors
    ///
    /// `InvalidInput` where `stack_size` is 0 or above 64 MiB, `OutOfMemory` where the kernel
    /// grants no further stack, `Unsupported` under a user shadow stack.
    ///
    /// # Panics
    ///
    /// When `CORO_GUARD` is nonsense.
    ///
    /// # Examples
    ///
    /// ```
    /// use coro::raw::Coroutine;
    ///
    /// let refused = Coroutine::<(), (), ()>::new(0, |_, ()| ()).err().unwrap();
    /// assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
    /// ```
    #[track_caller]
    pub fn new<F>(stack_size: usize, f: F) -> io::Result<Self>
    where
        F: FnOnce(&Yielder<In, Yield>, In) -> Ret + 'static,
    {
        let class = Class::for_size(stack_size)?;
        prepare_process()?;
        prepare_thread()?;
        let slot = stack::take(class)?;
        let work = Box::new(Work {
            function: UnsafeCell::new(ManuallyDrop::new(f)),
            waits: Cell::new(true),
            input: Cell::new(None),
            outcome: Cell::new(None),
        });
        let work_ref = &raw const *work;
        let identity = Identity { id: Id::next(), task: ptr::null(), name: None };
        let body = move |record: NonNull<Record>,
                         switch: &Switch<Resume<In>, MaybeUninit<Yield>>,
                         input| {
            // SAFETY: `Yielder` is a transparent wrapper of `Switch`.
            let yielder = unsafe { &*(&raw const *switch).cast::<Yielder<In, Yield>>() };
            if let Resume::Value(input) = input {
                // SAFETY: C1, the work outlives the engine.
                unsafe { (*work_ref).input.set(Some(input)) };
            }
            let mut call = Call { work: work_ref, yielder };
            // SAFETY: C4, we are the first frame on the record's stack, and `run` catches.
            unsafe {
                goexit::enter(record.as_ptr(), (&raw mut call).cast(), run::<F, In, Yield, Ret>);
            }
        };
        // SAFETY: C1, `Drop` ends the engine before it gives the slot back, and drops work last.
        let (engine, record) = unsafe { Engine::new(&slot, 0, identity, body) };
        Ok(Coroutine {
            engine: ManuallyDrop::new(engine),
            slot: Some(slot),
            record,
            body: work,
            not_send: PhantomData,
        })
    }

    /// Runs the coroutine until it suspends itself or ends. The first value is given to the
    /// coroutine's function, later ones are what [`Yielder::suspend`] returns.
    ///
    /// When the coroutine ends, its exit handlers have run and its data is gone before this returns.
    ///
    /// # Panics
    ///
    /// When the coroutine is done, and with the coroutine's own panic if it panics.
    ///
    /// # Examples
    ///
    /// ```
    /// use coro::raw::{Coroutine, State};
    ///
    /// let mut coroutine = Coroutine::new(65536, |yielder, a: u32| a + yielder.suspend(a * 2))?;
    /// assert_eq!(coroutine.resume(20), State::Yielded(40));
    /// assert_eq!(coroutine.resume(1), State::Done(21));
    /// # std::io::Result::Ok(())
    /// ```
    #[inline]
    #[track_caller]
    pub fn resume(&mut self, input: In) -> State<Yield, Ret> {
        assert!(!self.engine.done(), "a coroutine was resumed after its end");
        match self.switch_to(Resume::Value(input)) {
            // SAFETY: C6, it was given a value, and not told to unwind.
            Some(value) => State::Yielded(unsafe { value.assume_init() }),
            None => self.finish(),
        }
    }

    /// Whether the coroutine has ended, so that it cannot be resumed.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut coroutine = coro::raw::Coroutine::<(), (), ()>::new(65536, |_, ()| ())?;
    /// assert!(!coroutine.is_done());
    /// coroutine.resume(());
    /// assert!(coroutine.is_done());
    /// # std::io::Result::Ok(())
    /// ```
    pub fn is_done(&self) -> bool {
        self.engine.done()
    }

    #[inline]
    fn switch_to(&mut self, input: Resume<In>) -> Option<MaybeUninit<Yield>> {
        self.record().resumer.set(record::stack_pointer());
        let yielded = self.engine.resume(input);
        if panicking() {
            self.note_panic();
        }
        yielded
    }

    /// The panic may be the coroutine's own, which has suspended itself in the middle of it.
    #[cold]
    fn note_panic(&self) {
        let said = &self.record().resumer;
        if said.get() != STAYS {
            said.set(IN_A_PANIC);
        }
    }

    /// For as long as there is a slot.
    #[inline]
    fn record(&self) -> &Record {
        // SAFETY: R1, the slot is ours until `release`.
        unsafe { self.record.as_ref() }
    }

    #[cold]
    fn finish(&mut self) -> State<Yield, Ret> {
        self.release();
        match self.body.take_outcome().expect("the function of a coroutine runs once") {
            Ok(value) => State::Done(value),
            Err(panic) => resume_unwind(panic),
        }
    }

    /// Gives the slot back; the engine is done, or has never started.
    fn release(&mut self) {
        if let Some(slot) = self.slot.take() {
            stack::give(slot);
        }
    }

    /// Whether it is being resumed. Dropped it can be then too: `process::exit` runs the destructors of
    /// its thread's locals, on the stack that it is called on, and one of them may own the coroutine.
    ///
    /// What the engine says of it is not enough: `resume` has that to itself, and may not have written
    /// down yet what it has done.
    fn is_running(&self) -> bool {
        self.slot.is_some() && (self.engine.done() || self.record().is_running())
    }

    /// Unwinds a suspended coroutine; tells whether it has ended.
    fn unwind(&mut self) -> bool {
        for _ in 0..UNWIND_ATTEMPTS {
            let doubtful = self.record().resumer.get() == IN_A_PANIC && panicking();
            let input = if doubtful { Resume::UnwindIfFirst } else { Resume::Unwind };
            let Some(value) = self.switch_to(input) else { return true };
            if self.record().resumer.get() == STAYS {
                return false;
            }
            // SAFETY: C6.
            let value = unsafe { value.assume_init() };
            // Whatever becomes of that, the coroutine is to be cleaned up.
            quietly(|| drop(value));
        }
        false
    }

    /// Leaves the slot to the frames that remain on it (C1), and what they borrow from the work where
    /// it is.
    fn leak(&mut self) {
        self.slot = None;
        let gone: Box<dyn Body<In, Yield, Ret>> = Box::new(Abandoned);
        mem::forget(mem::replace(&mut self.body, gone));
    }
}

impl<In: 'static, Yield: 'static, Ret: 'static> Drop for Coroutine<In, Yield, Ret> {
    fn drop(&mut self) {
        if self.is_running() {
            self.leak();
        } else if !self.engine.started() {
            // SAFETY: dropped here and nowhere else; its closure holds nothing but pointers.
            unsafe { ManuallyDrop::drop(&mut self.engine) };
        } else if !self.is_done() {
            if cfg!(panic = "abort") || !self.unwind() {
                self.leak();
            } else if let Some(Err(payload)) = self.body.take_outcome() {
                // It may be an interruption, which was not meant for the coroutine alone.
                swallow(payload);
            }
        }
        self.release();
    }
}

/// The body of a coroutine that was leaked.
struct Abandoned;

impl<In, Yield, Ret> Body<In, Yield, Ret> for Abandoned {
    fn take_outcome(&self) -> Option<Result<Ret, Box<dyn Any + Send>>> {
        None
    }
}

impl<In: 'static, Yield: 'static, Ret: 'static> fmt::Debug for Coroutine<In, Yield, Ret> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coroutine").field("done", &self.is_done()).finish_non_exhaustive()
    }
}

/// Given to the function of a [`Coroutine`], so that it can suspend itself.
///
/// # Examples
///
/// Functions that the coroutine calls may have it passed to them:
///
/// ```
/// use coro::raw::{Coroutine, State, Yielder};
///
/// fn count_down(from: u32, yielder: &Yielder<(), u32>) {
///     (0..from).rev().for_each(|number| yielder.suspend(number));
/// }
///
/// let mut coroutine = Coroutine::new(65536, |yielder, ()| count_down(2, yielder))?;
/// assert_eq!(coroutine.resume(()), State::Yielded(1));
/// assert_eq!(coroutine.resume(()), State::Yielded(0));
/// assert_eq!(coroutine.resume(()), State::Done(()));
/// # std::io::Result::Ok(())
/// ```
///
/// It is of no use to another thread:
///
/// ```compile_fail,E0277
/// coro::raw::Coroutine::<(), (), ()>::new(65536, |yielder, ()| {
///     std::thread::scope(|scope| _ = scope.spawn(|| yielder.suspend(())));
/// });
/// ```
#[repr(transparent)]
pub struct Yielder<In, Yield>(Switch<Resume<In>, MaybeUninit<Yield>>);

impl<In, Yield> Yielder<In, Yield> {
    /// Suspends the coroutine: `value` is what [`Coroutine::resume`] gives back, and the next
    /// value that it is resumed with is what this call returns.
    ///
    /// # Panics
    ///
    /// Unwinds, without calling the panic hook, when the suspended coroutine is dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// use coro::raw::{Coroutine, State};
    ///
    /// let mut echo = Coroutine::<_, _, ()>::new(65536, |yielder, mut word: &'static str| {
    ///     loop {
    ///         word = yielder.suspend(word);
    ///     }
    /// })?;
    /// assert_eq!(echo.resume("one"), State::Yielded("one"));
    /// assert_eq!(echo.resume("two"), State::Yielded("two"));
    /// # std::io::Result::Ok(())
    /// ```
    #[inline]
    pub fn suspend(&self, value: Yield) -> In {
        match self.0.suspend(MaybeUninit::new(value)) {
            Resume::Value(input) => input,
            Resume::Unwind => resume_unwind(Box::new(Dropped)),
            Resume::UnwindIfFirst => self.unwind_if_first(),
        }
    }

    /// Unwinds the coroutine, or leaves it for good where that might abort (P1).
    #[cold]
    fn unwind_if_first(&self) -> ! {
        // SAFETY: C3.
        let record = unsafe { record::at(ptr::from_ref(self).addr()) };
        let record = record.expect("a yielder lies on its coroutine's stack");
        // The yielder may be lent to a coroutine that this one has resumed, and waits for. There its own
        // frames are not seen.
        if record::of_running().is_some_and(|running| ptr::eq(running, record)) {
            unwind_if_first(|| Box::new(Dropped));
        }
        record.resumer.set(STAYS);
        self.0.suspend(MaybeUninit::uninit());
        unreachable!("a coroutine that was dropped is not resumed")
    }
}

impl<In, Yield> fmt::Debug for Yielder<In, Yield> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Yielder").finish_non_exhaustive()
    }
}

/// What the process needs before it can run coroutines; cheap when it is there already.
///
/// # Panics
///
/// When `CORO_GUARD` holds nonsense.
#[track_caller]
pub(crate) fn prepare_process() -> io::Result<()> {
    use std::sync::atomic::{AtomicBool, Ordering};
    static READY: AtomicBool = AtomicBool::new(false);

    if !READY.load(Ordering::Relaxed) {
        goexit::check_shadow_stack()?;
        stack::set_describe(record::describe);
        stack::init()?;
        READY.store(true, Ordering::Relaxed);
    }
    Ok(())
}

/// What a thread needs before it can run coroutines; cheap when it is there already.
pub(crate) fn prepare_thread() -> io::Result<()> {
    stack::protect_thread()
}
