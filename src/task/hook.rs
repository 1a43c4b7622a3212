//! State of the thread that belongs to a coroutine, and follows it.
//!
//! Some libraries keep "the current ..." in a thread-local: a tracing span, an OpenTelemetry context, a logger's
//! context. Coroutines take turns on a worker's thread, so what one of them sets there, its neighbours would see. A
//! [`Carry`] says how to take such a state from the thread and how to bring it back. [`attach`] has the worker do so
//! around the turns of the calling coroutine:
//!
//! ```text
//!   coroutine    attach(a)  attach(b)  park ...                  ... goes on          ends
//!   worker                                  b.suspend  others' turns  a.resume             b.suspend  drop(b)
//!                                           a.suspend                 b.resume             a.suspend  drop(a)
//! ```
//!
//! A coroutine without a carry pays nothing for this, and one that has neighbours with carries a few instructions.
//!
//! # Threads, raw coroutines, blocking calls
//!
//! - On a plain thread nothing is ever suspended. A carry that is attached there is kept and not called.
//! - A [raw coroutine](crate::raw) takes its turns within those of the task that resumes it. What is attached in it
//!   belongs to that task, also when the raw coroutine has ended, or is resumed by another task later. A switch between
//!   a raw coroutine and its resumer calls nothing. On a plain thread, a raw coroutine is like the thread.
//! - The function of [`blocking`](crate::blocking()) runs on another thread, and the state stays behind: the coroutine
//!   is suspended meanwhile.
//! - In a [`Waker`](std::task::Waker) that a coroutine calls at its end, after its cleanup, it is as on a plain thread.
//!
//! # Invariants
//!
//! - **A1** A task's list of carries is made on its worker's thread: by the task itself, or before its first turn. It
//!   is freed by the worker when the task's function and cleanup are over, and the task makes none after that. Only
//!   that thread uses it.
//! - **A2** While a worker calls carries, nobody attaches one, for that panics.

use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind};
use std::ptr;
use std::rc::Rc;

use super::carry::{Carried, CarryList};
use super::current::current_task;
use super::extras::Extras;
use super::header::{Header, Listed, Started};
use super::local::Local;
use super::stack::{SwitchReason, TaskStack};
use crate::base::process::{self, CARRIES};
use crate::base::report;
use crate::fork;
use crate::record::Phase;
use crate::unwind::{catch_and_report, discard_payload};

pub use super::carry::Carry;
#[cfg(feature = "tracing")]
pub(crate) use super::carry::Describe;

/// Has `carry` follow the calling coroutine, until what this gives is dropped or the coroutine ends.
///
/// The thread's state is the coroutine's at this moment, so nothing is called now. From then on `suspend` is called
/// after each turn of the coroutine, the last one included, and `resume` before each further turn. Several carries are
/// resumed in the order in which they were attached, and suspended in the reverse order.
///
/// When the coroutine ends, however it ends, its carries are suspended and then dropped after its exit handlers have
/// run and its data is gone, and before [`join`](crate::JoinHandle::join) returns.
///
/// [The module](self) says what this does outside of a coroutine.
///
/// # Panics
///
/// In a method or the `Drop` of a carry that is called by a worker.
///
/// # Examples
///
/// ```
/// use std::cell::Cell;
///
/// use coro::hook::{self, Carry};
///
/// thread_local! {
///     /// Of some library that knows nothing of coroutines.
///     static CURRENT_USER: Cell<&'static str> = const { Cell::new("nobody") };
/// }
///
/// /// Holds the coroutine's user while the coroutine is suspended, and the thread's while it runs.
/// struct User(&'static str);
///
/// impl Carry for User {
///     fn suspend(&mut self) {
///         self.0 = CURRENT_USER.replace(self.0);
///     }
///     fn resume(&mut self) {
///         self.0 = CURRENT_USER.replace(self.0);
///     }
/// }
///
/// let runtime = coro::Runtime::builder().workers(1).build()?;
/// let request = |user| {
///     move || {
///         hook::attach(User(CURRENT_USER.replace(user))).keep(); // until the end
///         for _ in 0..10 {
///             assert_eq!(CURRENT_USER.get(), user);
///             coro::yield_now(); // to the other one, on the same thread
///         }
///     }
/// };
/// let both = [runtime.go(request("ann")), runtime.go(request("bob"))];
/// both.into_iter().for_each(|request| request.join().unwrap());
/// assert_eq!(runtime.go(|| CURRENT_USER.get()).join().unwrap(), "nobody");
/// # std::io::Result::Ok(())
/// ```
pub fn attach(carry: impl Carry + 'static) -> Attached {
    let carried = Carried::new(Box::new(carry), None);
    enlist(&carried);
    Attached(Some(carried))
}

/// Attaches `carry` until the calling coroutine ends, with what a dump says of it. False: there is none, and it is dropped.
#[cfg(feature = "tracing")]
pub(crate) fn attach_to_the_end(
    carry: impl Carry + 'static,
    description: Rc<dyn Describe>,
) -> bool {
    enlist(&Carried::new(Box::new(carry), Some(description)))
}

/// Adds it to the list of the task that the calling code belongs to. False: there is no task, or it is over.
fn enlist(carried: &Rc<Carried>) -> bool {
    assert!(!is_called_here(), "a `Carry` cannot attach another while a worker calls it");
    let task =
        current_task().filter(|task| !task.with_own_record(|own| own.phase.get() == Phase::Closed));
    let Some(task) = task else { return false };
    // SAFETY: C1, we are in the task.
    let place = unsafe { task.carries() };
    if place.get().is_null() {
        install(place, CarryList::default());
    }
    // SAFETY: A1, we are on the task's worker, and its cleanup is not over.
    unsafe { list_in(place) }.expect("it has one").push(Rc::clone(carried));
    true
}

/// Gives a task, which has none, a list of carries. On its worker's thread.
fn install(place: &Cell<*const ()>, list: CarryList) {
    process::note(CARRIES);
    Local::with(Local::attend).expect("a task is on a worker");
    place.set(Box::into_raw(Box::new(list)).cast());
}

/// The list of a task, if it has one.
///
/// # Safety
///
/// The calling thread is the task's worker, and the list is used until the task's next turn ends, at the latest (A1).
unsafe fn list_in(place: &Cell<*const ()>) -> Option<&CarryList> {
    // SAFETY: A1, the caller's word.
    unsafe { place.get().cast::<CarryList>().as_ref() }
}

/// The right to detach what was [attached](attach): dropping it detaches and drops the carry, without a call of its
/// methods, so the thread's state stays as it is. To forget it leaves the carry attached until the coroutine ends.
///
/// It may be dropped in any order, anywhere on its thread: in another coroutine, or by a carry while a worker calls it.
/// A carry that detaches itself is dropped when that call returns. It stays on its thread:
///
/// ```compile_fail,E0277
/// fn sent<T: Send>() {}
/// sent::<coro::hook::Attached>();
/// ```
///
/// # Examples
///
/// ```
/// use coro::hook::{self, Carry};
///
/// struct Prints;
/// impl Carry for Prints {
///     fn suspend(&mut self) {
///         println!("suspended");
///     }
///     fn resume(&mut self) {
///         println!("resumed");
///     }
/// }
///
/// coro::go(|| {
///     let attached = hook::attach(Prints);
///     coro::yield_now(); // prints both
///     drop(attached);
///     coro::yield_now(); // prints neither
/// })
/// .join()
/// .unwrap();
/// ```
#[must_use = "the carry is detached when this is dropped"]
pub struct Attached(Option<Rc<Carried>>);

impl Attached {
    /// Leaves the carry attached until the coroutine ends. On a plain thread, where it is attached to nothing, it is
    /// dropped.
    ///
    /// [`std::mem::forget`] leaves it attached too, but a few bytes of it are never freed.
    ///
    /// # Examples
    ///
    /// ```
    /// use coro::hook::{self, Carry};
    ///
    /// struct Prints;
    /// impl Carry for Prints {
    ///     fn suspend(&mut self) {
    ///         println!("suspended");
    ///     }
    ///     fn resume(&mut self) {
    ///         println!("resumed");
    ///     }
    /// }
    ///
    /// coro::go(|| {
    ///     hook::attach(Prints).keep();
    ///     coro::yield_now(); // prints both
    /// })
    /// .join()
    /// .unwrap(); // and once more the first
    /// ```
    pub fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if let Some(carried) = &self.0 {
            carried.detach();
        }
    }
}

// A panic leaves a carry attached or detached, and nothing in between.
impl UnwindSafe for Attached {}
impl RefUnwindSafe for Attached {}

impl fmt::Debug for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attached").finish_non_exhaustive()
    }
}

/// Whether the calling code is a carry's, called by a worker.
#[inline]
pub(crate) fn is_called_here() -> bool {
    process::is(CARRIES) && Local::with(Local::calls_carries).unwrap_or(false)
}

/// To be called before the calling thread waits, where it is in no task.
///
/// # Panics
///
/// In a carry that is called by a worker.
pub(crate) fn check_thread() {
    assert!(
        !is_called_here(),
        "a `Carry` is called by a worker, outside of any coroutine, and cannot wait there: it would hold up all \
         coroutines of that worker"
    );
}

/// What a coroutine inherits that the calling code is about to start.
///
/// # Panics
///
/// In a process that was forked from one that uses coroutines. If a carry's `inherit` panics.
#[inline(always)]
#[track_caller]
pub(crate) fn inherit() -> Option<Box<Extras>> {
    if process::is_ordinary() { None } else { inherit_from_carries() }
}

#[cold]
#[track_caller]
fn inherit_from_carries() -> Option<Box<Extras>> {
    fork::check();
    let task = current_task()?;
    // SAFETY: C1, A1, we are in the task, and the list's use ends here.
    let carries = unsafe { list_in(task.carries()) }?.all();
    let inherited = |carried: Rc<Carried>| carried.lend(|carry| carry.inherit()).flatten();
    let inherited: Vec<_> = carries.into_iter().filter_map(inherited).collect();
    if inherited.is_empty() { None } else { Some(Extras::of_carries(inherited)) }
}

impl Header {
    /// Where its record says what is carried with it.
    ///
    /// # Safety
    ///
    /// That of [`stack`](Header::stack).
    unsafe fn carries(&self) -> &Cell<*const ()> {
        // SAFETY: C1, the caller's word; R1, the record lies above the `TaskStack`.
        unsafe { &(*TaskStack::record(self.stack.get())).carries }
    }
}

impl Listed {
    /// Appends what there is to say of what is carried with it. `None`: there is no memory for it.
    pub(crate) fn describe_carries(&self, text: &mut String) -> Option<()> {
        // SAFETY: C1, A1, the list is its worker's, and the task is suspended.
        match unsafe { list_in(self.carries()) } {
            Some(list) => list.describe(text),
            None => Some(()),
        }
    }
}

/// A method of [`Carry`].
struct CarryCall {
    name: &'static str,
    call: fn(&mut dyn Carry),
    /// Whether the carry that was attached last comes first.
    reversed: bool,
}

const SUSPEND: CarryCall =
    CarryCall { name: "suspend", call: |carry| carry.suspend(), reversed: true };
const RESUME: CarryCall =
    CarryCall { name: "resume", call: |carry| carry.resume(), reversed: false };

/// For the task's worker, between two of its turns.
impl Started {
    /// Gives the task, which is about to have its first turn, what it has inherited.
    #[cold]
    pub(super) fn adopt(&self, extras: &Extras) {
        let carries = extras.take_carries();
        if !carries.is_empty() {
            // SAFETY: C1, it was just bound.
            install(unsafe { self.carries() }, CarryList::inherited(carries));
        }
    }

    /// Brings back what is carried with the task.
    pub(crate) fn resume_carries(&self) {
        self.call_carries(&RESUME);
    }

    /// Takes what is carried with the task from the thread.
    pub(crate) fn suspend_carries(&self) {
        self.call_carries(&SUSPEND);
    }

    fn call_carries(&self, method: &CarryCall) {
        // SAFETY: C1, A1, its worker calls, and it is suspended.
        let Some(list) = (unsafe { list_in(self.carries()) }) else { return };
        list.with_all(|carries| {
            for index in 0..carries.len() {
                let index = if method.reversed { carries.len() - 1 - index } else { index };
                let carried = &carries[index];
                if carried.is_lent() {
                    self.report("suspended its coroutine in `inherit`");
                    carried.detach();
                    continue;
                }
                let call = || _ = carried.lend(method.call);
                if self.caught_panic(call, method.name) {
                    self.caught_panic(|| carried.detach(), "drop");
                }
            }
        });
    }

    /// Detaches everything from the task, whose function and cleanup are over.
    pub(crate) fn end_carries(&self) {
        self.suspend_carries();
        // SAFETY: C1, A1, its worker calls, and it is suspended.
        let list = unsafe { self.carries() }.replace(ptr::null());
        // SAFETY: A1, it is from `install`, and nobody uses it any more.
        let list = unsafe { Box::from_raw(list.cast::<CarryList>().cast_mut()) };
        for carried in list.all().iter().rev() {
            self.caught_panic(|| carried.detach(), "drop");
        }
        Local::with(Local::leave).expect("a task is on a worker");
    }

    fn report(&self, what: &str) {
        report::line(format_args!("coro: a `Carry` of {} {what}, and is detached", self.label()));
    }

    /// Runs the user's code, and tells of its panic. True: there was one.
    fn caught_panic(&self, user_code: impl FnOnce(), name: &str) -> bool {
        let note = |calls| Local::with(|local| local.set_calls_carries(calls));
        note(true);
        let outcome = catch_unwind(AssertUnwindSafe(user_code));
        let has_panicked = outcome.is_err();
        if let Err(payload) = outcome {
            self.report(&format!("panicked in `{name}`"));
            discard_payload(payload);
        }
        note(false);
        if fork::is_child() {
            fork::end(format_args!("a `Carry` of {}", self.label()));
        }
        has_panicked
    }
}

/// What the end of a task's function has to look at in a process that is not ordinary.
///
/// # Safety
///
/// The calling code is the last of the task, on its own stack, but for telling who waits for it.
#[cold]
pub(super) unsafe fn end_unusual(task: &Header) {
    if fork::is_child() {
        fork::end(task.label());
    }
    // SAFETY: C1, C3, the caller's word; the worker goes on with this task at once.
    unsafe {
        if !task.carries().get().is_null() {
            task.stack().switch_out(SwitchReason::EndCarries);
        }
    }
}

/// Drops what a task would have inherited that never starts.
pub(super) fn drop_inherited(extras: &Extras) {
    for carry in extras.take_carries() {
        catch_and_report(|| drop(carry));
    }
}
