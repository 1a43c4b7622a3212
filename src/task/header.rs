//! The head of a task's block: what is known of a task without knowing its closure.

use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
use std::cell::{Cell, UnsafeCell};
use std::mem::{ManuallyDrop, offset_of};
use std::ops::Deref;
use std::panic::Location;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, Ordering};

use super::extras::Extras;
use super::holder::LockHolder;
use super::inbox::Linked;
use super::label::{TaskLabel, WaitLabel};
use super::mailbox::Mailbox;
use super::stack::{ParkReason, TaskStack};
use super::state::{CANCEL, DONE, PARKED, StateWord};
use super::waiter::Waiter;
use crate::base::copy::copy;
use crate::base::id::Id;
use crate::record::Record;
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
///
/// What a turn reads comes first, so that it touches as few cache lines as can be.
#[repr(C)]
pub(crate) struct Header {
    pub(super) state: StateWord,
    /// The engine, while the task has a stack; of the worker and the task itself.
    pub(super) stack: Cell<*mut TaskStack>,
    /// The worker that the task is pinned to once started; null before (T4).
    pub(super) owner: AtomicPtr<Mailbox<Header>>,
    pub(super) id: Id,
    pub(super) location: &'static Location<'static>,
    /// The next task in an inbox; of whoever has the task in its queue (T2).
    pub(super) link: Cell<*mut Header>,
    pub(super) vtable: &'static VTable,
    /// Who waits for the end (T6).
    pub(super) waiter: UnsafeCell<Option<Waiter<BorrowedTask>>>,
    pub(super) extras: Option<Box<Extras>>,
    /// The task that has spawned it, for reports.
    pub(super) parent: Option<Id>,
    /// Where its worker lists the task; of the worker.
    pub(super) index: Cell<u32>,
    pub(super) class: Class,
    /// Whether the task was unwound for its cancellation; of the task itself.
    pub(super) cancel_delivered: Cell<bool>,
}

impl Header {
    /// What the task keeps on its stack.
    ///
    /// # Safety
    ///
    /// The caller is the task itself, which runs, or its worker, and the task has not ended (C1).
    #[inline]
    pub(super) unsafe fn stack(&self) -> &TaskStack {
        // SAFETY: C1, the caller's word.
        unsafe { &*self.stack.get() }
    }

    /// The worker that the task is pinned to, if it was started.
    #[inline]
    pub(super) fn owner(&self) -> Option<&'static Mailbox<Header>> {
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
        self.extras.as_deref()?.name.as_deref()
    }

    /// Where in the program it was spawned.
    pub(crate) fn location(&self) -> &'static Location<'static> {
        self.location
    }

    pub(crate) fn label(&self) -> TaskLabel {
        TaskLabel { id: self.id, name: self.name().map(Box::from), location: self.location }
    }

    /// As [`label`](Header::label). `None`: there is no memory for the name.
    pub(crate) fn try_label(&self) -> Option<TaskLabel> {
        let name = match self.name() {
            Some(name) => Some(copy(name)?.into_boxed_str()),
            None => None,
        };
        Some(TaskLabel { id: self.id, name, location: self.location })
    }

    /// The task that has spawned it.
    pub(crate) fn parent(&self) -> Option<Id> {
        self.parent
    }

    /// The class of the stack that the task asks for.
    pub(crate) fn class(&self) -> Class {
        self.class
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

/// A task that has not started, in the hands of a queue, or of whoever took it from there to start or to discard it. It
/// is the reference that the task holds of itself (T1).
pub(crate) struct Fresh(TaskRef);

impl Fresh {
    /// # Safety
    ///
    /// The task was just made, and there is no other `Fresh` of it.
    #[inline]
    pub(super) unsafe fn new(task: TaskRef) -> Fresh {
        Fresh(task)
    }

    #[inline]
    pub(super) fn into_raw(self) -> *const Header {
        self.0.into_raw()
    }
}

impl Deref for Fresh {
    type Target = TaskRef;

    #[inline]
    fn deref(&self) -> &TaskRef {
        &self.0
    }
}

/// A task that waits, and its worker. Not a counted reference: the task stays because it waits (T7, T8, Q1).
#[derive(Clone, Copy)]
pub(super) struct BorrowedTask {
    pub(super) header: NonNull<Header>,
    pub(super) owner: &'static Mailbox<Header>,
}

impl BorrowedTask {
    /// A counted reference, by which the task stays also when it waits no more.
    ///
    /// # Safety
    ///
    /// The task still waits.
    pub(super) unsafe fn hold(self) -> TaskRef {
        // SAFETY: the caller's word; the borrowed reference is not given up.
        let task = ManuallyDrop::new(unsafe { TaskRef::from_raw(self.header.as_ptr()) });
        TaskRef::clone(&task)
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
}

/// Bytes of the header that a turn reads.
const HOT_HEADER: usize = offset_of!(Header, link);
/// Bytes of frames that a switch touches, from the lowest on.
const HOT_FRAMES: usize = 128;

impl Started {
    /// Asks the cache for the header.
    #[inline]
    pub(super) fn prefetch_header(&self) {
        prefetch(self.0.as_ptr().cast(), HOT_HEADER);
    }

    /// Asks the cache for the top of its stack. By its worker.
    #[inline]
    pub(super) fn prefetch_stack(&self) {
        let stack = self.stack.get();
        prefetch(stack.cast(), 1);
        prefetch(TaskStack::record(stack).cast(), 1);
    }

    /// Asks the cache for the frames that the task goes on with. By its worker.
    #[inline]
    pub(super) fn prefetch_frames(&self) {
        // SAFETY: C1, it is in its worker's queue.
        prefetch(unsafe { self.stack() }.lowest_frame(), HOT_FRAMES);
    }
}

/// Asks the cache for so many bytes, at least one. Any address will do.
#[inline]
fn prefetch(start: *const u8, bytes: usize) {
    for offset in (0..bytes - 1).step_by(64).chain([bytes - 1]) {
        // SAFETY: S8, a hint, which reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(offset).cast()) };
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

/// A started task in its worker's list, which it leaves when it ends. For that worker.
pub(crate) struct Listed(NonNull<Header>);

impl Listed {
    /// The same task once more.
    ///
    /// # Safety
    ///
    /// It is kept by the task's worker, and until the task ends (T1).
    pub(crate) unsafe fn new(task: &Started) -> Listed {
        Listed(task.0)
    }

    /// Notes where in the list it is.
    #[inline]
    pub(crate) fn set_index(&self, index: usize) {
        self.index.set(index as u32);
    }

    /// Why it is parked; `None` if it is not, or that is not to be seen yet.
    pub(crate) fn parked_for(&self) -> Option<ParkReason> {
        self.state.load().has(PARKED).then(|| self.task_stack().reason.get())
    }

    /// What it waits for; `None` as above.
    pub(crate) fn waits_for(&self) -> Option<WaitLabel> {
        let waiting = self.parked_for()?.waiting;
        let stack = self.task_stack();
        // SAFETY: N1, the task is suspended, and its worker asks.
        let holder = unsafe { stack.holder.get().as_ref() }.and_then(LockHolder::id);
        let subject = stack.subject.get().filter(|subject| waiting.is_of(subject));
        // SAFETY: as above, so it waits for that.
        let peer = subject.and_then(|subject| unsafe { subject.peer() });
        Some(WaitLabel { waiting, joined: stack.joined.get(), subject, peer, holder })
    }

    /// The turn of its worker before whose end it has parked, if it is parked. The worker's last turn is `now`.
    pub(crate) fn parked_in(&self, now: u64) -> u64 {
        self.task_stack().parked_in(now)
    }

    /// Runs `f` with the record of its own stack.
    pub(crate) fn with_own_record<R>(&self, f: impl FnOnce(&Record) -> R) -> R {
        // SAFETY: R1, the record lies above the `TaskStack`, and the task has not ended.
        f(unsafe { &*TaskStack::record(self.stack.get()) })
    }

    pub(super) fn task_stack(&self) -> &TaskStack {
        // SAFETY: C1, the list is its worker's, and `Listed` is `!Send`.
        unsafe { self.stack() }
    }
}

impl Deref for Listed {
    type Target = Header;

    #[inline]
    fn deref(&self) -> &Header {
        // SAFETY: T1, the task has not ended.
        unsafe { self.0.as_ref() }
    }
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
