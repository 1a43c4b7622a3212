//! The rest of a task's block: first the closure, then what became of it.

use std::cell::{Cell, UnsafeCell};
use std::mem::{self, ManuallyDrop, needs_drop, offset_of};
use std::panic::Location;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{self, NonNull};
use std::sync::Mutex;
use std::sync::atomic::AtomicPtr;

use super::children::Children;
use super::extras::Extras;
use super::header::{Fresh, Header, TaskRef, VTable, drop_header};
use super::hook::inherit;
use super::join::JoinHandle;
use super::local::Local;
use super::outcome::{JoinError, Outcome};
use super::state::StateWord;
use crate::base::block::RawBlock;
use crate::base::id::{Id, RuntimeId};
use crate::base::lock::lock;
use crate::base::report;
use crate::stack::Class;
use crate::unwind::{Interruption, PanicSink, catch_and_report, clear, is_interruption, panicking};

/// A task's block. `P` says whose child the task is: [`Free`], or [`Child`] of a scope.
#[repr(C)]
struct Task<F, T, P> {
    header: Header,
    parent: P,
    content: UnsafeCell<Content<F, T>>,
}

/// Nobody waits for the task but who holds its handle.
pub(crate) struct Free;

/// The task is one of a scope's children (T8).
#[repr(transparent)]
pub(crate) struct Child(pub(crate) *const Children);

/// [`Free`] or [`Child`].
pub(crate) trait Parent {
    const IS_SCOPE: bool;
}

impl Parent for Free {
    const IS_SCOPE: bool = false;
}

impl Parent for Child {
    const IS_SCOPE: bool = true;
}

/// The closure until the task takes it out, the outcome once it is there (T5).
#[repr(C)]
union Content<F, T> {
    closure: ManuallyDrop<F>,
    outcome: ManuallyDrop<Outcome<T>>,
}

/// What a task is spawned with, besides its closure.
pub(crate) struct SpawnOptions {
    /// A name, if it has one.
    pub(crate) extras: Option<Box<Extras>>,
    pub(crate) class: Class,
    /// The runtime that it is spawned on.
    pub(crate) runtime: RuntimeId,
    pub(crate) location: &'static Location<'static>,
}

impl SpawnOptions {
    /// Adds what the new task inherits of the caller.
    ///
    /// # Panics
    ///
    /// Those of [`inherit`].
    #[inline]
    #[track_caller]
    pub(crate) fn inherit(&mut self) {
        if let Some(inherited) = inherit() {
            match &mut self.extras {
                Some(extras) => extras.merge(&inherited),
                none => *none = Some(inherited),
            }
        }
    }
}

/// Makes a fresh task: the reference that is to be queued, and its handle.
///
/// # Safety
///
/// What `closure` borrows outlives the task, cleanup included, and so do the children it is one of.
#[inline]
pub(crate) unsafe fn spawn<F, T, P>(
    closure: F,
    parent: P,
    options: SpawnOptions,
) -> (Fresh, JoinHandle<T>)
where
    F: FnOnce() -> T + Send,
    T: Send,
    P: Parent,
{
    let header = Header {
        state: StateWord::spawned(),
        vtable: const {
            &VTable {
                run: run::<F, T, P>,
                free: free::<F, T, P>,
                outcome: offset_of!(Task<F, T, P>, content),
                children: if P::IS_SCOPE { Some(offset_of!(Task<F, T, P>, parent)) } else { None },
            }
        },
        owner: AtomicPtr::new(ptr::null_mut()),
        link: Cell::new(ptr::null_mut()),
        waiter: UnsafeCell::new(None),
        stack: Cell::new(ptr::null_mut()),
        id: Id::next(),
        extras: options.extras,
        parent: Local::with(Local::running_id).flatten(),
        location: options.location,
        index: Cell::new(0),
        class: options.class,
        cancel_delivered: Cell::new(false),
    };
    let task = RawBlock::<Task<F, T, P>>::new().into_raw().as_ptr();
    // Part by part: a whole task would be one more copy of the closure, which may be large, on the
    // caller's stack.
    // SAFETY: the block is new and large enough, and the state word counts two references.
    unsafe {
        (&raw mut (*task).header).write(header);
        (&raw mut (*task).parent).write(parent);
        (&raw mut (*task).content).cast::<F>().write(closure);
        let header = task.cast::<Header>();
        (
            Fresh::new(TaskRef::from_raw(header)),
            JoinHandle::new(TaskRef::from_raw(header), options.runtime),
        )
    }
}

/// Runs the closure on the task's own stack and stores what becomes of it. Called by the
/// trampoline, so nothing unwinds out of it (H4).
unsafe extern "C" fn run<F, T, P>(block: *mut ())
where
    F: FnOnce() -> T,
{
    // SAFETY: T1, the worker holds a reference while the task runs.
    let (header, content) = unsafe {
        let task = block.cast::<Task<F, T, P>>();
        (&(*task).header, (*task).content.get())
    };
    // Closure and value may be large, so they are moved between block and stack once each, and not
    // through `catch_unwind` as well.
    let ended = if header.is_cancelled() {
        // Never to run: what it captured is dropped here, where a destructor may suspend.
        header.cancel_delivered.set(true);
        // SAFETY: T5, the content is the closure, and it is the task's.
        catch_and_report(|| unsafe { content.cast::<F>().drop_in_place() });
        Err(JoinError::Cancelled)
    } else {
        // SAFETY: T5, the content is the closure, and it is the task's.
        catch_unwind(AssertUnwindSafe(|| unsafe { run_closure::<F, T>(content) })).map_err(
            |payload| match payload.downcast_ref::<Interruption>() {
                Some(interruption) if interruption.target == header.id => JoinError::Cancelled,
                _ => JoinError::Panicked(payload),
            },
        )
    };
    // One that is discarded has no stack of its own, and may be so in the middle of its discarder's panic.
    if panicking() && !header.stack.get().is_null() {
        clear(header.label());
    }
    let panicked = matches!(ended, Err(JoinError::Panicked(_)));
    // SAFETY: T1, it is the address of the whole block.
    let children = unsafe { Children::of(block.cast()) };
    // A scope tells of its children's itself.
    let is_to_be_told = match &ended {
        Err(JoinError::Panicked(payload)) => children.is_none() && !is_interruption(&**payload),
        _ => false,
    };
    if panicked && let Some(children) = children {
        // SAFETY: T8, the scope waits for us.
        unsafe { children.as_ref() }.note_panic();
    }
    let droppable = needs_drop::<T>() || panicked;
    if let Err(error) = ended {
        // SAFETY: T5, as above.
        unsafe { write_error::<T>(content.cast(), error) };
    }
    if droppable && !header.state.complete() {
        if is_to_be_told {
            tell_of_panic(header);
        }
        let mut sink = PanicSink::default();
        // SAFETY: T5, there is no handle, so the outcome is ours.
        sink.run(|| unsafe { content.cast::<Outcome<T>>().drop_in_place() });
        // The function is over, so there is nothing left that could be interrupted.
        mem::forget(sink);
    }
}

/// Tells who has panicked, once for each place of spawning. The panic's message names the worker's thread, and there
/// is no handle that would tell whose it was.
#[cold]
fn tell_of_panic(header: &Header) {
    static TOLD: Mutex<Vec<&Location<'_>>> = Mutex::new(Vec::new());
    let location = header.location();
    {
        let mut told = lock(&TOLD);
        if told.contains(&location) {
            return;
        }
        told.push(location);
    }
    report::line(format_args!("coro: {} panicked, and nobody joins it", header.label()));
}

/// Puts the closure's value in its place.
///
/// # Safety
///
/// The content is the closure, and the caller's, and nobody reads the outcome yet.
unsafe fn run_closure<F: FnOnce() -> T, T>(content: *mut Content<F, T>) {
    // SAFETY: T5, the caller's word.
    unsafe { content.cast::<Outcome<T>>().write(Ok(content.cast::<F>().read()())) };
}

/// Stores why there is no value. In `run` this would, in a debug build, take up as much of every
/// task's stack as its value does.
///
/// # Safety
///
/// That of [`ptr::write`].
#[cold]
unsafe fn write_error<T>(outcome: *mut Outcome<T>, error: JoinError) {
    // SAFETY: the caller's word.
    unsafe { outcome.write(Err(error)) };
}

/// Frees a task's block.
///
/// # Safety
///
/// No reference is left. Then neither closure nor outcome is: the task took the one, and whoever T5
/// names has dropped the other.
unsafe fn free<F, T, P>(header: NonNull<Header>) {
    // SAFETY: the caller's word.
    unsafe {
        drop_header(header);
        drop(RawBlock::<Task<F, T, P>>::from_raw(header.cast()));
    }
}
