//! Raw coroutines: coroutines that their maker resumes, without a scheduler.
//!
//! A raw coroutine has a stack, an identity, storage and exit handlers of its own
//! ([`tls`](crate::tls)), and stays on the thread that made it. A call that suspends a *task*, such as
//! [`park`](crate::park()), suspends the task that resumed the coroutine, with everything in between.
//!
//! [`with`] lends a coroutine to a function and ends it when the function returns. It is safe, and the
//! coroutine may borrow. [`Coroutine::new`] gives one away, and is `unsafe`: nothing that Rust knows of keeps
//! an owned coroutine from outliving what it has borrowed of its thread.
//!
//! # How one ends
//!
//! A coroutine whose function returns or panics has ended: its exit handlers have run and its data is gone
//! when [`resume`](Coroutine::resume) returns. One that is suspended when it is dropped, or when [`with`]
//! returns, is unwound: destructors run, then its exit handlers, then its data is dropped. One that was
//! never resumed just drops its function.
//!
//! Some cannot be unwound. These end the process, with a line on stderr that names the coroutine and the
//! reason:
//!
//! - It swallows the unwinding and suspends itself again, 16 times.
//! - It is suspended in a destructor that its own panic runs, where a second panic aborts.
//! - The program was compiled with `panic = "abort"`.

use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, catch_unwind, resume_unwind};
use std::process;
use std::ptr::{self, NonNull};

use super::{Engine, Identity, Switch, prepare_process, prepare_thread};
use crate::base::id::Id;
use crate::base::report;
use crate::check;
use crate::goexit;
use crate::record::{self, Record, Running};
use crate::stack::{self, Class, Slot};
use crate::suspension;
use crate::unwind::{
    Dropped, Payload, catch_and_report, clear, discard_payload, panicking, shares_panics,
};

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
}

/// Where a coroutine is in its life.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Never resumed.
    Fresh,
    Suspended,
    Running,
    /// Its last frame is gone, and its slot is given back.
    Ended,
}

/// How often a coroutine that is being ended may swallow the unwinding and suspend itself again.
const UNWIND_ATTEMPTS: u32 = 16;

/// Makes a coroutine that will run `body` on a stack of its own, lends it to `f`, and ends it. Gives what
/// `f` gives.
///
/// The coroutine has ended when this returns, however it returns. So `body` may borrow what lives outside
/// of the call, as the threads of [`std::thread::scope`] may. [How one ends](self#how-one-ends) says what
/// becomes of one that is suspended then.
///
/// `stack_size` is how many bytes the coroutine's frames may take at least, up to 64 MiB; see
/// [`Builder::stack_size`](crate::Builder::stack_size).
///
/// # Errors
///
/// `InvalidInput` where `stack_size` is 0 or above 64 MiB, `OutOfMemory` where the kernel
/// grants no further stack, `Unsupported` under a user shadow stack. Neither function has run then.
///
/// # Panics
///
/// With whatever `f` panics with. When `CORO_GUARD` is nonsense.
///
/// # Examples
///
/// ```
/// use coro::raw::{self, State};
///
/// let words = String::from("to be or not");
/// let mut seen = 0;
/// let longest = raw::with(
///     64 * 1024,
///     |yielder, ()| {
///         for word in words.split(' ') {
///             seen += 1; // both are borrowed
///             yielder.suspend(word);
///         }
///     },
///     |coroutine| {
///         let mut longest = "";
///         while let State::Yielded(word) = coroutine.resume(()) {
///             if word.len() > longest.len() {
///                 longest = word;
///             }
///         }
///         longest
///     },
/// )?;
/// assert_eq!((longest, seen), ("not", 4));
/// # std::io::Result::Ok(())
/// ```
///
/// What does not outlive the call cannot be borrowed, and the coroutine does not get out of it:
///
/// ```compile_fail,E0597
/// use coro::raw::{self, Yielder};
///
/// let kept = std::cell::Cell::new(None);
/// let body = |_: &Yielder<_, ()>, inside: &i32| kept.set(Some(inside));
/// raw::with(65536, body, |coroutine| {
///     let inside = 1;
///     coroutine.resume(&inside);
/// });
/// kept.take();
/// ```
///
/// ```compile_fail,E0521
/// use coro::raw::{self, Yielder};
///
/// let mut kept = None;
/// raw::with(65536, |_: &Yielder<(), ()>, ()| (), |coroutine| kept = Some(coroutine));
/// ```
///
/// It cannot leave its thread:
///
/// ```compile_fail,E0277
/// use coro::raw::{self, Yielder};
///
/// raw::with(65536, |_: &Yielder<(), ()>, ()| (), |coroutine| {
///     std::thread::scope(|scope| _ = scope.spawn(|| coroutine.resume(())));
/// });
/// ```
#[track_caller]
pub fn with<In, Yield, Ret, R>(
    stack_size: usize,
    body: impl FnOnce(&Yielder<In, Yield>, In) -> Ret,
    f: impl FnOnce(&Coroutine<In, Yield, Ret>) -> R,
) -> io::Result<R> {
    // Where it is until the end, so it needs no allocation.
    let work = Work::new(body);
    // SAFETY: C6, the coroutine is dropped before the work is, whether `f` returns or panics.
    let coroutine = unsafe { Coroutine::on(stack_size, NonNull::from(&work), None) }?;
    Ok(f(&coroutine))
}

/// A coroutine that is resumed without a scheduler; made by [`with`], which lends it, or by
/// [`Coroutine::new`], which gives it away.
///
/// It is neither `Send` nor `Sync`:
///
/// ```compile_fail,E0277
/// fn sent<T: Send>() {}
/// sent::<coro::raw::Coroutine<(), (), ()>>();
/// ```
///
/// # Examples
///
/// ```
/// use coro::raw::{self, Coroutine, State};
///
/// fn sum(numbers: &[i32], coroutine: &Coroutine<i32, i32, &str>) -> i32 {
///     let mut last = 0;
///     for &number in numbers {
///         let State::Yielded(sum) = coroutine.resume(number) else { unreachable!() };
///         last = sum;
///     }
///     assert_eq!(coroutine.resume(0), State::Done("done"));
///     last
/// }
///
/// let add_up = |yielder: &raw::Yielder<i32, i32>, mut number: i32| {
///     let mut sum = 0;
///     while number != 0 {
///         sum += number;
///         number = yielder.suspend(sum);
///     }
///     "done"
/// };
/// assert_eq!(raw::with(64 * 1024, add_up, |coroutine| sum(&[1, 2, 3], coroutine))?, 6);
/// # std::io::Result::Ok(())
/// ```
#[must_use = "a coroutine does nothing before it is resumed"]
pub struct Coroutine<In, Yield, Ret> {
    engine: Engine<Resume<In>, Yield>,
    progress: Cell<Progress>,
    /// In the slot, so it is good until that is given back.
    record: NonNull<Record>,
    /// Gone when it was given back.
    slot: Cell<Option<Slot>>,
    /// What became of the function.
    outcome: NonNull<OutcomeCell<Ret>>,
    /// Frees the function's work, where the coroutine owns it.
    free: Option<unsafe fn(NonNull<OutcomeCell<Ret>>)>,
    /// Neither `Send` nor `Sync`: what is on the stack may be neither.
    not_send: PhantomData<*mut ()>,
}

type OutcomeCell<Ret> = Cell<Option<Result<Ret, Payload>>>;

/// The function of a coroutine and what became of it. It lives beside the stack, not on it, so that
/// it may be of any size.
#[repr(C)]
struct Work<F, Ret> {
    outcome: OutcomeCell<Ret>,
    /// The function is still there.
    waits: Cell<bool>,
    function: UnsafeCell<ManuallyDrop<F>>,
}

impl<F, Ret> Work<F, Ret> {
    fn new(function: F) -> Self {
        Work {
            outcome: Cell::new(None),
            waits: Cell::new(true),
            function: UnsafeCell::new(ManuallyDrop::new(function)),
        }
    }

    /// # Safety
    ///
    /// `work` is the first field of one that was leaked as a `Box`, and nobody uses it any more.
    unsafe fn free(work: NonNull<OutcomeCell<Ret>>) {
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
struct RawCall<'a, F, In, Yield, Ret> {
    work: NonNull<Work<F, Ret>>,
    yielder: &'a Yielder<In, Yield>,
    input: Option<In>,
}

/// The function that the trampoline calls.
unsafe extern "C" fn run<F, In, Yield, Ret>(call: *mut ())
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

impl<In, Yield, Ret> Coroutine<In, Yield, Ret> {
    /// Makes a coroutine that will run `f` on a stack of its own. For `stack_size` see [`with`].
    ///
    /// # Safety
    ///
    /// The coroutine has ended before its thread does, and before anything that `In`, `Yield` and `Ret`
    /// borrow. It ends when [`resume`](Coroutine::resume) gives [`State::Done`] or panics with the
    /// coroutine's own panic, and when it is dropped.
    ///
    /// A thread-local of a thread that ends is destroyed, though a coroutine may be suspended inside
    /// [`LocalKey::with`](std::thread::LocalKey::with) and go on to use it. So no coroutine that has been
    /// resumed and is not done may be forgotten, leaked, or kept in a thread-local.
    ///
    /// # Errors
    ///
    /// Those of [`with`].
    ///
    /// # Panics
    ///
    /// When `CORO_GUARD` is nonsense.
    ///
    /// # Examples
    ///
    /// ```
    /// use coro::raw::{Coroutine, State};
    ///
    /// // SAFETY: the coroutine is dropped at the end of this block.
    /// let squares = unsafe {
    ///     Coroutine::new(64 * 1024, |yielder, n: u32| {
    ///         for i in 1..=n {
    ///             yielder.suspend(i * i);
    ///         }
    ///     })
    /// }?;
    /// assert_eq!(squares.resume(2), State::Yielded(1));
    /// assert_eq!(squares.resume(2), State::Yielded(4));
    /// assert_eq!(squares.resume(2), State::Done(()));
    /// # std::io::Result::Ok(())
    /// ```
    #[track_caller]
    pub unsafe fn new<F>(stack_size: usize, f: F) -> io::Result<Self>
    where
        F: FnOnce(&Yielder<In, Yield>, In) -> Ret + 'static,
    {
        let work = NonNull::from(Box::leak(Box::new(Work::new(f))));
        // SAFETY: C6, the caller's word, and `Drop` frees the work last.
        unsafe { Self::on(stack_size, work, Some(Work::<F, Ret>::free)) }.inspect_err(|_| {
            // SAFETY: C6, there is no coroutine.
            unsafe { Work::<F, Ret>::free(work.cast()) };
        })
    }

    /// # Safety
    ///
    /// C6: the work stays where it is, and what its function borrows outlives it, until the coroutine is
    /// dropped.
    #[track_caller]
    unsafe fn on<F>(
        stack_size: usize,
        work: NonNull<Work<F, Ret>>,
        free: Option<unsafe fn(NonNull<OutcomeCell<Ret>>)>,
    ) -> io::Result<Self>
    where
        F: FnOnce(&Yielder<In, Yield>, In) -> Ret,
    {
        let class = Class::for_size(stack_size)?;
        prepare_process()?;
        prepare_thread()?;
        let slot = stack::take(class)?;
        let identity = Identity { id: Id::next(), task: ptr::null(), name: None };
        let body = move |record: NonNull<Record>, switch: &Switch<Resume<In>, Yield>, input| {
            // SAFETY: `Yielder` is a transparent wrapper of `Switch`.
            let yielder = unsafe { &*ptr::from_ref(switch).cast::<Yielder<In, Yield>>() };
            let input = match input {
                Resume::Value(input) => Some(input),
                Resume::Unwind => None,
            };
            let mut call = RawCall { work, yielder, input };
            // SAFETY: C4, we are the first frame on the record's stack, and `run` catches.
            unsafe {
                goexit::enter(record.as_ptr(), (&raw mut call).cast(), run::<F, In, Yield, Ret>);
            }
        };
        // SAFETY: C1, the slot is given back when the coroutine has ended.
        let (engine, record) = unsafe { Engine::new(&slot, 0, identity, body) };
        Ok(Coroutine {
            engine,
            progress: Cell::new(Progress::Fresh),
            record,
            slot: Cell::new(Some(slot)),
            outcome: work.cast(),
            free,
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
    /// When the coroutine has ended or is running, and with the coroutine's own panic if it panics.
    ///
    /// # Examples
    ///
    /// ```
    /// use coro::raw::{self, State};
    ///
    /// raw::with(65536, |yielder, a: u32| a + yielder.suspend(a * 2), |coroutine| {
    ///     assert_eq!(coroutine.resume(20), State::Yielded(40));
    ///     assert_eq!(coroutine.resume(1), State::Done(21));
    /// })?;
    /// # std::io::Result::Ok(())
    /// ```
    #[inline(always)]
    #[track_caller]
    pub fn resume(&self, input: In) -> State<Yield, Ret> {
        if matches!(self.progress.get(), Progress::Running | Progress::Ended) {
            self.refuse();
        }
        match self.switch_to(Resume::Value(input)) {
            Some(value) => State::Yielded(value),
            None => match self.take_outcome() {
                Ok(value) => State::Done(value),
                Err(panic) => resume_unwind(panic),
            },
        }
    }

    #[cold]
    #[track_caller]
    fn refuse(&self) -> ! {
        match self.progress.get() {
            Progress::Running => panic!("a coroutine was resumed while it runs"),
            _ => panic!("a coroutine was resumed after its end"),
        }
    }

    /// Whether the coroutine has ended, so that it cannot be resumed.
    ///
    /// # Examples
    ///
    /// ```
    /// coro::raw::with(65536, |yielder, ()| yielder.suspend(()), |coroutine| {
    ///     assert!(!coroutine.is_done());
    ///     coroutine.resume(());
    ///     coroutine.resume(());
    ///     assert!(coroutine.is_done());
    /// })?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn is_done(&self) -> bool {
        self.progress.get() == Progress::Ended
    }

    /// Runs the coroutine, which is fresh or suspended. `None`: it has ended, and its slot is given back.
    #[inline(always)]
    fn switch_to(&self, input: Resume<In>) -> Option<Yield> {
        if panicking() {
            return self.switch_from_panic(input);
        }
        self.switch(input)
    }

    /// The panics that are under way are its resumer's, and none of the coroutine's.
    #[cold]
    fn switch_from_panic(&self, input: Resume<In>) -> Option<Yield> {
        record::with(|record| {
            let _aside = record.set_panics_aside_at_switch();
            self.switch(input)
        })
    }

    #[inline(always)]
    fn switch(&self, input: Resume<In>) -> Option<Yield> {
        self.progress.set(Progress::Running);
        // SAFETY: R1, the slot is ours until the coroutine has ended.
        unsafe { self.record.as_ref() }.resumer.set(record::stack_pointer());
        // SAFETY: C2, it stays on this thread, and it was neither running nor at its end.
        let yielded = unsafe { self.engine.resume(input) };
        if yielded.is_some() {
            self.progress.set(Progress::Suspended);
        } else {
            self.progress.set(Progress::Ended);
            self.release();
        }
        yielded
    }

    /// Gives the slot back, on which nothing is.
    fn release(&self) {
        if let Some(slot) = self.slot.take() {
            stack::give(slot);
        }
    }

    /// What became of the function, which has just ended.
    #[cold]
    fn take_outcome(&self) -> Result<Ret, Payload> {
        // SAFETY: C6, the work outlives the coroutine.
        let outcome = unsafe { self.outcome.as_ref() }.take();
        outcome.expect("the function of a coroutine runs once")
    }

    /// Unwinds the coroutine, which is suspended, to its end.
    #[cold]
    fn unwind(&self) {
        if cfg!(panic = "abort") {
            self.give_up("the program was compiled with panic = \"abort\"");
        }
        for _ in 0..UNWIND_ATTEMPTS {
            match self.switch_to(Resume::Unwind) {
                Some(value) => catch_and_report(|| drop(value)),
                None => {
                    match self.take_outcome() {
                        Ok(value) => catch_and_report(|| drop(value)),
                        // It may be an interruption, which was not meant for the coroutine alone.
                        Err(payload) => discard_payload(payload),
                    }
                    return;
                }
            }
        }
        self.give_up("it swallows the unwinding and suspends itself again");
    }

    /// Ends the process, since the coroutine cannot be ended.
    fn give_up(&self, reason: &str) -> ! {
        // SAFETY: R1, it has not ended.
        give_up(unsafe { self.record.as_ref() }, reason)
    }
}

#[cold]
fn give_up(record: &Record, reason: &str) -> ! {
    report::line(format_args!(
        "coro: raw coroutine {} was dropped while it was suspended, and cannot be ended: {reason}; it may \
         use what is about to be freed, so the process is aborted",
        record.id()
    ));
    process::abort()
}

impl<In, Yield, Ret> Drop for Coroutine<In, Yield, Ret> {
    fn drop(&mut self) {
        match self.progress.get() {
            Progress::Fresh => self.release(),
            Progress::Suspended => self.unwind(),
            // `process::exit` runs the destructors of its thread's locals, on the stack that it is called
            // on, and one of them may own the coroutine. Slot and work stay with the frames that use them.
            Progress::Running => return,
            Progress::Ended => {}
        }
        if let Some(free) = self.free {
            // SAFETY: C6, nobody uses the work any more.
            unsafe { free(self.outcome) };
        }
    }
}

impl<In, Yield, Ret> fmt::Debug for Coroutine<In, Yield, Ret> {
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
    /// Suspends the coroutine: `value` is what [`Coroutine::resume`] gives back, and the next
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

    /// In the middle of an unwinding, which stays the coroutine's own.
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

// What it holds is where the resumer's stack was left, which no panic can leave half changed.
impl<In, Yield> RefUnwindSafe for Yielder<In, Yield> {}

impl<In, Yield> fmt::Debug for Yielder<In, Yield> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Yielder").finish_non_exhaustive()
    }
}
