//! The head of a task's block: what is known of a task without knowing its closure.

use std::cell::{Cell, UnsafeCell};
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::panic::Location;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::task::{RawWaker, RawWakerVTable, Waker};

use super::children::Children;
use super::inbox::Linked;
use super::park::Waiting;
use super::remote::Remote;
use super::stack::TaskStack;
use super::state::{CANCEL, DONE, PARKED, State, TOKEN, WOKEN};
use super::thread_parker::ThreadParker;
use crate::base::id::Id;
use crate::stack::Class;

/// What depends on the type of the closure.
pub(super) struct VTable {
    /// Runs the closure and stores the outcome; called by the trampoline on the task's own stack.
    pub(super) run: unsafe extern "C" fn(*mut ()),
    /// Frees the block, in which nothing of the user's is left.
    pub(super) free: unsafe fn(NonNull<Header>),
    /// Where in the block the outcome lies.
    pub(super) outcome: usize,
    /// Where in the block the address of the scope's children lies; `None` where there is no scope.
    pub(super) children: Option<usize>,
}

/// The head of a task's block. Who may touch which field when is ruled in [`state`](super::state).
#[repr(C)]
pub(crate) struct Header {
    pub(super) state: State,
    pub(super) vtable: &'static VTable,
    /// The worker that the task is pinned to once started; null before (T4).
    pub(super) owner: AtomicPtr<Remote>,
    /// The next task in an inbox; of whoever has the task in its queue (T2).
    pub(super) link: Cell<*mut Header>,
    /// Who waits for the end (T6).
    pub(super) waiter: UnsafeCell<Waiter>,
    /// The engine, while the task has a stack; of the worker and the task itself.
    pub(super) stack: Cell<*mut TaskStack>,
    pub(super) id: Id,
    /// Boxed twice, for a thin pointer: few tasks have a name.
    pub(super) name: Option<Box<Box<str>>>,
    pub(super) location: &'static Location<'static>,
    /// Where its worker lists the task; of the worker.
    pub(super) index: Cell<u32>,
    pub(super) class: Class,
    /// Whether the task was unwound for its cancellation; of the task itself.
    pub(super) cancel_delivered: Cell<bool>,
}

impl Header {
    /// Wakes the task: a parked one is queued, any other looks round once more before it parks.
    #[inline]
    pub(crate) fn wake(&self) {
        self.notify(0);
    }

    /// Wakes the task, and leaves the token of `park` with it.
    #[inline]
    pub(crate) fn unpark(&self) {
        self.notify(TOKEN);
    }

    /// Asks the task to end: its next suspension unwinds it, and if it is suspended, this one.
    pub(crate) fn cancel(&self) {
        self.notify(CANCEL);
    }

    /// The children that this task is one of.
    ///
    /// # Safety
    ///
    /// `header` is the address of a task's whole block, not of the header alone.
    #[inline]
    pub(super) unsafe fn children(header: *const Header) -> Option<NonNull<Children>> {
        // SAFETY: the caller's word, and the vtable is that of the block.
        unsafe {
            let place = header.cast::<u8>().add((*header).vtable.children?);
            NonNull::new(place.cast::<*const Children>().read().cast_mut())
        }
    }

    /// The task's place on its stack, while it has one.
    #[inline]
    pub(super) fn stack(&self) -> &TaskStack {
        // SAFETY: C1, only the running task and its worker ask, and the `TaskStack` is there for both.
        unsafe { &*self.stack.get() }
    }

    /// What it waits for; `None` if it is not parked, or that is not to be seen yet. For its worker alone.
    pub(crate) fn waiting(&self) -> Option<Waiting> {
        self.state.load().has(PARKED).then(|| self.stack().waiting.get())
    }

    /// Whether the parked task waits for something that comes by itself, though all tasks of the workers `ours`
    /// wait; for its worker alone. A timer is not asked about, its worker knows it.
    pub(crate) fn waits_for_what_comes(&self, ours: &[&'static Remote]) -> bool {
        match self.waiting() {
            Some(Waiting::Blocking | Waiting::Shutdown | Waiting::ChildrenElsewhere) => true,
            Some(Waiting::Join(task)) => {
                // SAFETY: T7, the task that waits holds it.
                let owner = unsafe { (*task).owner() };
                owner.is_some_and(|owner| !ours.iter().any(|ours| ptr::eq(*ours, owner)))
            }
            _ => false,
        }
    }

    #[inline]
    fn notify(&self, also: usize) {
        if self.owner().is_some_and(|owner| owner.unpark_pending(self, also)) {
            return;
        }
        if self.state.notify(also) {
            let owner = self.owner().expect("a parked task has an owner");
            // SAFETY: T2, the task is parked, so it is in no queue and on no worker.
            owner.enqueue(unsafe { Started::from_raw(ptr::from_ref(self).cast_mut()) });
        }
    }

    /// Gives a wake-up, with this token or none, to the wait of a task that is pending on this worker.
    /// False: it has to show in the word, for it is a cancellation, or a token that is for another wait.
    #[inline]
    pub(super) fn give_pending(&self, token: usize) -> bool {
        let given = token == 0 || token == self.stack().waiting.get().token();
        if given {
            self.stack().token.set(token);
        }
        given
    }

    /// The worker that the task is pinned to, if it was started.
    #[inline]
    pub(super) fn owner(&self) -> Option<&'static Remote> {
        // SAFETY: W1. Relaxed: T4.
        unsafe { self.owner.load(Ordering::Relaxed).as_ref() }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.state.load().has(CANCEL)
    }

    pub(crate) fn is_done(&self) -> bool {
        self.state.load().has(DONE)
    }

    pub(crate) fn id(&self) -> Id {
        self.id
    }

    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref().map(|name| &**name)
    }

    /// Where in the program it was spawned.
    pub(crate) fn location(&self) -> &'static Location<'static> {
        self.location
    }

    /// The class of the stack that the task asks for.
    pub(crate) fn class(&self) -> Class {
        self.class
    }

    /// Where the worker lists the task; for the worker alone.
    pub(crate) fn list_index(&self) -> &Cell<u32> {
        &self.index
    }
}

impl Linked for Header {
    fn link(&self) -> &Cell<*mut Header> {
        &self.link
    }
}

/// A counted reference to a task.
pub(crate) struct TaskRef(NonNull<Header>);

// SAFETY: T1 to T6 say who may touch what from which thread.
unsafe impl Send for TaskRef {}
// SAFETY: as above.
unsafe impl Sync for TaskRef {}

impl TaskRef {
    /// Takes over one reference.
    ///
    /// # Safety
    ///
    /// `header` is a task's, and one reference to it is the caller's to give away.
    #[inline]
    pub(super) unsafe fn from_raw(header: *const Header) -> TaskRef {
        // SAFETY: a task's header is not null.
        TaskRef(unsafe { NonNull::new_unchecked(header.cast_mut()) })
    }

    #[inline]
    pub(super) fn into_raw(self) -> *const Header {
        ManuallyDrop::new(self).0.as_ptr()
    }

    /// Ends a fresh task as cancelled, in the calling context: its closure is dropped unrun.
    pub(crate) fn discard(self) {
        self.cancel();
        // SAFETY: the task is fresh and was taken from its queue, so its content is ours; `run`
        // drops the closure of a cancelled task, on whatever stack. `finish` takes our reference.
        unsafe {
            (self.vtable.run)(self.as_ptr().cast());
            // Release: as `Counter::add`.
            DISCARDED.fetch_add(1, Ordering::Release);
            super::stack::finish(self.into_raw().cast_mut(), None);
        }
    }

    #[inline]
    pub(crate) fn as_ptr(&self) -> *mut Header {
        self.0.as_ptr()
    }
}

impl Deref for TaskRef {
    type Target = Header;

    #[inline]
    fn deref(&self) -> &Header {
        // SAFETY: T1, our reference keeps the block.
        unsafe { self.0.as_ref() }
    }
}

impl Clone for TaskRef {
    #[inline]
    fn clone(&self) -> TaskRef {
        self.state.add_reference();
        TaskRef(self.0)
    }
}

impl Drop for TaskRef {
    #[inline]
    fn drop(&mut self) {
        if self.state.drop_reference() {
            // SAFETY: T1, it was the last reference.
            unsafe { free(self.as_ptr()) };
        }
    }
}

/// A started task, in the hands of its worker or of a queue that leads there. Not a counted
/// reference: a task that has not ended holds one of itself (T1).
pub(crate) struct Started(NonNull<Header>);

// SAFETY: T2, it moves from whoever unparks the task to its worker, and no two exist.
unsafe impl Send for Started {}

impl Started {
    /// # Safety
    ///
    /// `header` is a started task that has not ended, and is in no queue.
    #[inline]
    pub(super) unsafe fn from_raw(header: *mut Header) -> Started {
        // SAFETY: a task's header is not null.
        Started(unsafe { NonNull::new_unchecked(header) })
    }

    #[inline]
    pub(super) fn into_raw(self) -> *mut Header {
        self.0.as_ptr()
    }

    /// The same task once more, for the worker's list.
    #[inline]
    pub(crate) fn listed(&self) -> Started {
        Started(self.0)
    }
}

impl Deref for Started {
    type Target = Header;

    #[inline]
    fn deref(&self) -> &Header {
        // SAFETY: T1, the task has not ended.
        unsafe { self.0.as_ref() }
    }
}

/// Tasks that were discarded.
static DISCARDED: AtomicU64 = AtomicU64::new(0);

/// How many tasks ended without a worker.
pub(crate) fn discarded() -> u64 {
    DISCARDED.load(Ordering::Acquire)
}

/// Who waits for a task's end.
pub(super) enum Waiter {
    Nobody,
    /// A task that joins, borrowed (T7), and the worker that it is pinned to.
    Task(*const Header, &'static Remote),
    Thread(Arc<ThreadParker>),
    /// Anybody else.
    Waker(Waker),
}

/// A waker that wakes the task, for as long as `task` is borrowed. It is no counted reference and
/// allocates nothing; its clones are counted references.
#[inline]
pub(super) fn borrowed_waker(
    task: &TaskRef,
    vtable: &'static RawWakerVTable,
) -> impl Deref<Target = Waker> {
    let raw = RawWaker::new(task.as_ptr().cast_const().cast(), vtable);
    // SAFETY: the functions below keep the contract; the waker itself is never dropped.
    ManuallyDrop::new(unsafe { Waker::from_raw(raw) })
}

/// How a task's wakers work, for those who look round themselves when they are woken.
pub(super) static WAKER: RawWakerVTable = wakers::<0>();

/// And for those who poll a future: whatever else the task waits for meanwhile, the token stays.
pub(super) static POLL_WAKER: RawWakerVTable = wakers::<WOKEN>();

const fn wakers<const TOKEN: usize>() -> RawWakerVTable {
    RawWakerVTable::new(
        |header| {
            // SAFETY: the waker that is cloned holds a reference.
            let task = ManuallyDrop::new(unsafe { TaskRef::from_raw(header.cast()) });
            let vtable = if TOKEN == WOKEN { &POLL_WAKER } else { &WAKER };
            RawWaker::new(TaskRef::clone(&task).into_raw().cast(), vtable)
        },
        |header| {
            // SAFETY: the waker gives its reference away.
            unsafe { TaskRef::from_raw(header.cast()) }.notify(TOKEN);
        },
        |header| {
            // SAFETY: the waker lends its reference.
            ManuallyDrop::new(unsafe { TaskRef::from_raw(header.cast()) }).notify(TOKEN);
        },
        |header| {
            // SAFETY: the waker gives its reference away.
            drop(unsafe { TaskRef::from_raw(header.cast()) });
        },
    )
}

/// Frees a task's block.
///
/// # Safety
///
/// No reference is left but one, which is the caller's (T1).
#[inline]
pub(super) unsafe fn free(header: *mut Header) {
    // SAFETY: the caller's word.
    unsafe { ((*header).vtable.free)(NonNull::new_unchecked(header)) };
}

/// Frees the head of a block; the closure or outcome behind it is gone.
///
/// # Safety
///
/// No reference is left.
pub(super) unsafe fn drop_header(header: NonNull<Header>) {
    // SAFETY: the caller's word.
    unsafe { ptr::drop_in_place(header.as_ptr()) };
}
