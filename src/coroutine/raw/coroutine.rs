//! [`Coroutine`]: the side of a raw coroutine from which it is resumed and ended.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::panic::resume_unwind;
use std::ptr::{self, NonNull};

use super::work::{OutcomeCell, RawCall, Work, run};
use super::yielder::{Resume, Yielder, give_up};
use crate::base::id::Id;
use crate::coroutine::{Engine, Identity, Switch, prepare_process, prepare_thread};
use crate::goexit;
use crate::record::{self, Record};
use crate::stack::{self, Class, Slot};
use crate::unwind::{Payload, catch_and_report, discard_payload, panicking};

/// What [`Coroutine::resume`] gives back.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum State<Yield, Ret> {
    /// The coroutine suspended itself with this value and can be resumed.
    Yielded(Yield),
    /// The coroutine ended with this value.
    Done(Ret),
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

/// A coroutine that is resumed without a scheduler; made by [`with`](super::with), which lends it, or by
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
    /// In the slot, so it is valid until the slot is given back.
    record: NonNull<Record>,
    /// `None` once it is given back.
    slot: Cell<Option<Slot>>,
    /// What became of the function.
    outcome: NonNull<OutcomeCell<Ret>>,
    /// Frees the function's work, where the coroutine owns it.
    free: Option<unsafe fn(NonNull<OutcomeCell<Ret>>)>,
    /// Neither `Send` nor `Sync`: what is on the stack may be neither.
    not_send: PhantomData<*mut ()>,
}

impl<In, Yield, Ret> Coroutine<In, Yield, Ret> {
    /// Makes a coroutine that will run `f` on a stack of its own. For `stack_size` see [`with`](super::with).
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
    /// Those of [`with`](super::with).
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
    pub(super) unsafe fn on<F>(
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
            let input = match input {
                Resume::Value(input) => Some(input),
                Resume::Unwind => None,
            };
            let mut call = RawCall { work, yielder: Yielder::of(switch), input };
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

    /// The panics that are under way are the resumer's, and not the coroutine's.
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

    /// Gives the slot back, which has no frames.
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
                        // The payload may be an interruption that is meant for an outer frame.
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

impl<In, Yield, Ret> Drop for Coroutine<In, Yield, Ret> {
    fn drop(&mut self) {
        match self.progress.get() {
            Progress::Fresh => self.release(),
            Progress::Suspended => self.unwind(),
            // `process::exit` runs the destructors of the thread's locals on the stack of its caller, and one of them
            // may own the coroutine. Its frames go on using slot and work, so both are leaked.
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
