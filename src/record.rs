//! The hidden record, and how it is found.
//!
//! Every coroutine stack carries a [`Record`] at its top, and any code that runs on that stack
//! finds it from the stack pointer alone: no register is reserved, no thread-local variable is
//! read, nothing is passed along.
//!
//! ```text
//!   slot end   = (sp | slot_size - 1) + 1        the slot's size follows from the address
//!   ceiling    = slot end - colour               the colour follows from the slot's number
//!   record     = ceiling - size_of::<Record>()
//!
//!   high  +----------------------+ <- slot end, a multiple of slot_size
//!         | colour               |
//!         +----------------------+ <- ceiling, a multiple of 64
//!         | Record               |
//!         +----------------------+ <- record(): what `current` answers
//!         | the engine           |    (see `coroutine`)
//!         +----------------------+ <- stack base
//!         | frames               |
//!   sp -> ~                      ~
//! ```
//!
//! On any other stack (a plain thread's, a signal stack, a stack of another library's) the answer is the
//! *thread's* record. It is a thread-local constant without a destructor, so it exists from the thread's first
//! instruction to its last.
//!
//! # Invariants
//!
//! - **R1** A slot's record is written before the first instruction of its coroutine, and is neither
//!   moved nor freed before the last. So a stack pointer inside a slot proves that the record above
//!   it is initialised, and stays so while the code with that stack pointer runs.
//! - **R2** A record belongs to one thread: to the one that its coroutine is pinned to, or to the one that the record
//!   stands for. Only that thread uses it, so its fields are `Cell`s. The exceptions are the
//!   id, which is atomic because profilers read it from outside ([`Record::id_at`]), and the overflow
//!   report, which reads on the thread that overflowed. What is true only while the record's stack is in use
//!   takes a [`Running`], which is lent for that long.
//! - **R3** `return_slot` is null in a thread's record, and in a coroutine's it is the address that
//!   the trampoline computed: the word that its `call` pushed.
//! - **R4** Only the record of a task's own stack, or of a thread, has a budget of more than one. So if something is
//!   left in a coroutine's record after one was spent, there is a task.
//! - **R5** A task's record has the task's name from before its first turn until just before it lets go of its block,
//!   which holds the name. The name is read on the task's thread, in its turn: by a signal handler too.

use std::cell::Cell;
use std::mem::{align_of, size_of};
use std::ops::{ControlFlow, Deref};
use std::panic::Location;
use std::sync::atomic::{AtomicU64, Ordering, compiler_fence};

use memoffset::offset_of;

use crate::base::id::Id;
use crate::locals::Locals;
use crate::stack::{self, Line};
use crate::unwind;

/// What the word at [`Record::return_slot`] names, and so what happens when the function returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Phase {
    /// The word names `goexit`: nothing is stored, nothing is to be done.
    Idle,
    /// The word names `cleanup`. On a thread: its exit guard is registered.
    Hijacked,
    /// Cleanup is running. It drains what is stored meanwhile.
    Cleaning,
    /// Cleanup is over, and what is stored now is refused.
    Closed,
}

/// How many operations in a row may succeed without waiting: 256, which is 0 in a `u8`.
const BUDGET: u8 = 0;

/// What the top of every coroutine stack holds: the id, the storage, and where the return address lies.
#[repr(C, align(64))]
pub(crate) struct Record {
    /// The identity of the coroutine or thread. 0: the thread has not got one yet.
    id: AtomicU64,
    /// Where the trampoline's return address lies (R3).
    pub(crate) return_slot: Cell<*mut usize>,
    /// The task that this coroutine is the body of; null for a raw coroutine.
    pub(crate) task: Cell<*const ()>,
    /// A stack pointer of the code that resumed this raw coroutine last. 0 in a task's or a thread's record.
    pub(crate) resumer: Cell<usize>,
    /// The innermost deadline that was set on this stack (see `deadline`).
    pub(crate) deadlines: Cell<*const ()>,
    /// The name, for signal handlers; the memory belongs to the task (R5).
    name: Cell<(*const u8, usize)>,
    pub(crate) phase: Cell<Phase>,
    /// How many operations may still succeed without waiting before the coroutine steps aside.
    /// 1 in a raw coroutine's record, because a raw coroutine spends its task's budget (R4).
    budget: Cell<u8>,
    locals: Locals,
    /// Panics of this stack that are set aside while it is suspended, or resumes a raw coroutine.
    panics_at_switch: Cell<u32>,
    /// Panics of this stack that are set aside while a `timeout` runs its function.
    panics_at_timeout: Cell<u32>,
    /// The innermost `no_suspend` on this stack.
    pub(crate) no_suspend: Cell<Option<&'static Location<'static>>>,
    /// What is carried with this task (see `hook`). Null if it has never had anything, and in every other record.
    pub(crate) carries: Cell<*const ()>,
}

const _: () = {
    // The hot fields share the first cache line, and the stack base below the record is aligned.
    assert!(align_of::<Record>() == 64);
    assert!(offset_of!(Record, id) == 0 && offset_of!(Record, phase) < 64);
    assert!(size_of::<Record>().is_multiple_of(64));
};

thread_local! {
    /// The record of this thread. It has no destructor, so it outlives every destructor.
    static THREAD: Record = const { Record::of_thread() };
}

impl Record {
    const fn of_thread() -> Record {
        Record {
            id: AtomicU64::new(0),
            return_slot: Cell::new(std::ptr::null_mut()),
            task: Cell::new(std::ptr::null()),
            resumer: Cell::new(0),
            deadlines: Cell::new(std::ptr::null()),
            name: Cell::new((std::ptr::null(), 0)),
            phase: Cell::new(Phase::Idle),
            budget: Cell::new(BUDGET),
            locals: Locals::new(),
            panics_at_switch: Cell::new(0),
            panics_at_timeout: Cell::new(0),
            no_suspend: Cell::new(None),
            carries: Cell::new(std::ptr::null()),
        }
    }

    /// Writes the record of a coroutine that is about to start.
    ///
    /// # Safety
    ///
    /// `place` is that of the record of a slot that is the caller's.
    #[inline]
    pub(crate) unsafe fn write(place: *mut Record, id: Id, task: *const (), name: Option<&str>) {
        let name = name.map_or((std::ptr::null(), 0), |name| (name.as_ptr(), name.len()));
        // Field by field, because a profiler may be looking at the id (R2).
        // SAFETY: the caller's word; memory of a slot is zero or what a record left, so the id is
        // a number.
        unsafe {
            (*place).id.store(id.get(), Ordering::Relaxed);
            (&raw mut (*place).return_slot).write(Cell::new(std::ptr::null_mut()));
            (&raw mut (*place).task).write(Cell::new(task));
            (&raw mut (*place).resumer).write(Cell::new(0));
            (&raw mut (*place).deadlines).write(Cell::new(std::ptr::null()));
            (&raw mut (*place).name).write(Cell::new(name));
            (&raw mut (*place).phase).write(Cell::new(Phase::Idle));
            (&raw mut (*place).budget).write(Cell::new(if task.is_null() { 1 } else { BUDGET }));
            (&raw mut (*place).locals).write(Locals::new());
            (&raw mut (*place).panics_at_switch).write(Cell::new(0));
            (&raw mut (*place).panics_at_timeout).write(Cell::new(0));
            (&raw mut (*place).no_suspend).write(Cell::new(None));
            (&raw mut (*place).carries).write(Cell::new(std::ptr::null()));
        }
    }

    /// Forgets the task's name, before the task, which has ended, lets go of its block.
    #[inline]
    pub(crate) fn forget_name(&self) {
        self.name.set((std::ptr::null(), 0));
        // A signal handler on this thread finds no name in a block that was freed.
        compiler_fence(Ordering::SeqCst);
    }

    /// Forgets the task, which has ended and has let go of its block.
    #[inline]
    pub(crate) fn forget_task(&self) {
        self.task.set(std::ptr::null());
    }

    /// The name of the task that runs on this stack, if it has one and has not ended.
    ///
    /// # Safety
    ///
    /// The calling thread runs that task, which does not go on before the name was used (R5).
    pub(crate) unsafe fn name(&self) -> Option<&str> {
        let (start, len) = self.name.get();
        // SAFETY: R5, the caller's word; it was made from a `str`.
        (!start.is_null()).then(|| unsafe {
            std::str::from_utf8_unchecked(std::slice::from_raw_parts(start, len))
        })
    }

    /// Counts an operation that has not had to wait. False: the budget is used up, or this is the record of
    /// a raw coroutine.
    #[inline(always)]
    pub(crate) fn spend(&self) -> bool {
        let left = self.budget.get().wrapping_sub(1);
        self.budget.set(left);
        left != 0
    }

    /// Begins a new budget.
    pub(crate) fn refill_budget(&self) {
        self.budget.set(if self.is_coroutine() && !self.is_tasks_own() { 1 } else { BUDGET });
    }

    pub(crate) fn locals(&self) -> &Locals {
        &self.locals
    }

    /// The identity of the coroutine or thread.
    #[inline]
    pub(crate) fn id(&self) -> Id {
        match self.id.load(Ordering::Relaxed) {
            0 => self.first_id(),
            number => Id::from_raw(number),
        }
    }

    /// Gives a thread its id. A signal handler may interrupt this call and make it as well. Then the first of the
    /// two ids to be stored counts.
    #[cold]
    fn first_id(&self) -> Id {
        let id = Id::next_shared();
        match self.id.compare_exchange(0, id.get(), Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => id,
            Err(earlier) => Id::from_raw(earlier),
        }
    }

    /// A new identity for the same coroutine or thread.
    pub(crate) fn renew_id(&self) {
        self.id.store(Id::next_shared().get(), Ordering::Relaxed);
    }

    /// Whether this is the record of a coroutine, and not of a thread.
    pub(crate) fn is_coroutine(&self) -> bool {
        !self.return_slot.get().is_null()
    }

    /// Whether this is a task's own, and not of a raw coroutine or of a thread.
    #[inline]
    pub(crate) fn is_tasks_own(&self) -> bool {
        !self.task.get().is_null()
    }

    /// Whether the coroutine's function is over, and its cleanup has begun.
    pub(crate) fn is_ending(&self) -> bool {
        matches!(self.phase.get(), Phase::Cleaning | Phase::Closed)
    }

    /// Whether this stack has set panics aside while it resumes a raw coroutine, so that an unwinding
    /// which comes from there would leave a destructor that a panic runs.
    pub(crate) fn has_panics_at_switch(&self) -> bool {
        self.panics_at_switch.get() > 0
    }

    /// The id in the record of the slot that `address` lies in, for profilers: any thread, any
    /// moment. `None` where the slot has never had a coroutine.
    pub(crate) fn id_at(address: usize) -> Option<Id> {
        stack::bounds_of(address)?;
        let record = find(address)?;
        // SAFETY: R2, a slot that was handed out once stays readable for ever, zero where nothing
        // was written, and the id is atomic.
        let number = unsafe { (*record).id.load(Ordering::Relaxed) };
        (number != 0).then(|| Id::from_raw(number))
    }
}

/// The record of a stack that is in use: the running code's, or that of a coroutine or thread which waits for the
/// running code.
///
/// It is lent by [`with`] and is not `Send`, so it is gone when that code is. This is what a plain reference does not
/// promise: the record of a suspended coroutine names a resumer that may have ended meanwhile.
#[derive(Clone, Copy)]
pub(crate) struct Running<'a>(&'a Record);

impl Deref for Running<'_> {
    type Target = Record;

    #[inline(always)]
    fn deref(&self) -> &Record {
        self.0
    }
}

impl<'a> Running<'a> {
    /// # Safety
    ///
    /// The record is that of a stack that is in use for `'a`.
    #[inline(always)]
    #[cfg(test)]
    pub(crate) unsafe fn assume(record: &'a Record) -> Running<'a> {
        Running(record)
    }

    /// The task that the code on this stack belongs to: the coroutine's own, or, in a raw coroutine, that of
    /// its resumer, or of the resumer's resumer, and so on. Null if there is none.
    #[inline]
    pub(crate) fn enclosing_task(self) -> *const () {
        match self.task.get() {
            task if task.is_null() => self.resumers_task(),
            task => task,
        }
    }

    #[cold]
    fn resumers_task(self) -> *const () {
        let mut task = std::ptr::null();
        let _ = self.outwards(|record| {
            task = record.task.get();
            ControlFlow::<()>::Continue(())
        });
        task
    }

    /// Runs `f` with this record, with its resumer's, and with those further out: up to a task's, or up to
    /// the thread's.
    pub(crate) fn outwards<B>(
        self,
        mut f: impl FnMut(Running<'_>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        f(self)?;
        let mut resumer = self.resumer.get();
        while resumer != 0 {
            let Some(record) = find(resumer) else { return with_thread(f) };
            // SAFETY: R1, the resumer is suspended in `resume` for as long as this stack is in use.
            let record = Running(unsafe { &*record });
            f(record)?;
            resumer = record.resumer.get();
        }
        ControlFlow::Continue(())
    }

    /// Sets the panics aside that are under way on this stack, for as long as it is switched away from.
    #[cold]
    pub(crate) fn set_panics_aside_at_switch(self) -> PanicsAside<'a> {
        PanicsAside::begin(&self.0.panics_at_switch)
    }

    /// As [`set_panics_aside_at_switch`](Running::set_panics_aside_at_switch), for as long as a timeout runs
    /// its function.
    #[cold]
    pub(crate) fn set_panics_aside_at_timeout(self) -> PanicsAside<'a> {
        PanicsAside::begin(&self.0.panics_at_timeout)
    }

    /// Whether no panics are set aside from this stack up to that of `target`. So an unwinding that begins here
    /// and ends there leaves no destructor that a panic runs.
    pub(crate) fn is_calm_up_to(self, target: &Record) -> bool {
        let answer = self.outwards(|record| {
            if record.panics_at_timeout.get() > 0 || record.panics_at_switch.get() > 0 {
                return ControlFlow::Break(false);
            }
            if std::ptr::eq(&*record, target) {
                return ControlFlow::Break(true);
            }
            ControlFlow::Continue(())
        });
        answer == ControlFlow::Break(true)
    }
}

/// Panics that are set aside until this is dropped.
#[must_use = "the panics are restored when this is dropped"]
pub(crate) struct PanicsAside<'a> {
    /// The record's count for this reason. A thread's record may count for several `PanicsAside`, of code on stacks
    /// of other libraries.
    total: &'a Cell<u32>,
    count: u32,
}

impl<'a> PanicsAside<'a> {
    fn begin(total: &'a Cell<u32>) -> Self {
        let count = unwind::set_aside();
        total.set(total.get() + count);
        PanicsAside { total, count }
    }

    /// Whether there are any.
    pub(crate) fn any(&self) -> bool {
        self.count > 0
    }
}

impl Drop for PanicsAside<'_> {
    fn drop(&mut self) {
        self.total.set(self.total.get() - self.count);
        unwind::restore(self.count);
    }
}

/// The stack pointer. It tells which stack the caller runs on. A function's frame does not move to another stack, so
/// one reading serves the whole function.
#[inline(always)]
pub(crate) fn stack_pointer() -> usize {
    let sp: usize;
    // SAFETY: reads a register and nothing else.
    unsafe {
        std::arch::asm!("mov {}, rsp", out(reg) sp, options(pure, nomem, nostack, preserves_flags));
    }
    sp
}

/// The place of the record of the slot that `address` lies in.
#[inline(always)]
fn find(address: usize) -> Option<*const Record> {
    stack::ceiling_of(address).map(|ceiling| record_below(ceiling.get()))
}

/// The record of the coroutine on whose stack `address` lies.
///
/// # Safety
///
/// If it is a coroutine's stack, that stack is in use for `'a`: its coroutine runs, or waits for one that does.
pub(crate) unsafe fn at<'a>(address: usize) -> Option<Running<'a>> {
    // SAFETY: R1, the caller's word.
    find(address).map(|record| Running(unsafe { &*record }))
}

/// The place of the record of the slot whose ceiling is known.
#[inline(always)]
pub(crate) fn record_below(ceiling: usize) -> *const Record {
    std::ptr::with_exposed_provenance(ceiling - size_of::<Record>())
}

/// Runs `f` with the record of the running coroutine, or of the thread where there is none.
#[inline(always)]
pub(crate) fn with<R>(f: impl FnOnce(Running<'_>) -> R) -> R {
    match find(stack_pointer()) {
        // SAFETY: R1, we run on this slot's stack.
        Some(record) => f(Running(unsafe { &*record })),
        None => with_thread(f),
    }
}

/// As [`with`], for a function that would have copies of a large value in its frames if it used a closure.
///
/// # Safety
///
/// The record is used on this stack only, or on one that this one waits for, and not after the coroutine's end.
#[inline(always)]
pub(crate) unsafe fn here<'a>() -> Running<'a> {
    let record = find(stack_pointer()).unwrap_or_else(|| THREAD.with(std::ptr::from_ref));
    // SAFETY: R1, we run on this slot's stack; R2, or the record is this thread's, which has no destructor.
    Running(unsafe { &*record })
}

/// Runs `f` with the record of the thread, whatever stack we run on.
#[inline(always)]
pub(crate) fn with_thread<R>(f: impl FnOnce(Running<'_>) -> R) -> R {
    THREAD.with(|record| f(Running(record)))
}

/// Runs `f` with the record of the running coroutine; `None` on any other stack.
#[inline(always)]
pub(crate) fn with_coroutine<R>(f: impl FnOnce(Running<'_>) -> R) -> Option<R> {
    // SAFETY: R1, `f` runs on this slot's stack.
    find(stack_pointer()).map(|record| f(Running(unsafe { &*record })))
}

/// The record of the running coroutine; `None` on any other stack.
///
/// # Safety
///
/// The record is used on this stack only, or on one that this one waits for, and not after the coroutine's end.
#[inline(always)]
pub(crate) unsafe fn of_running<'a>() -> Option<Running<'a>> {
    // SAFETY: R1, we run on this slot's stack, and the caller keeps the record no longer than that.
    find(stack_pointer()).map(|record| Running(unsafe { &*record }))
}

/// Writes "coroutine 42 'name'" for the overflow report. Runs in a signal handler, on the thread
/// whose coroutine overflowed.
///
/// # Safety
///
/// `ceiling` is that of a slot that was handed out, and the calling thread has hit the slot's guard.
pub(crate) unsafe fn describe(ceiling: usize, line: &mut Line) {
    // SAFETY: R1, a guard is hit by a coroutine that runs, or by a stray write; the slot was
    // handed out, so at worst the record is that of its last coroutine, or zero.
    let record = unsafe { &*record_below(ceiling) };
    line.push_str("coroutine ");
    line.push_u64(record.id.load(Ordering::Relaxed));
    // SAFETY: R5, the thread runs it; or none does that has a name.
    if let Some(name) = unsafe { record.name() } {
        line.push_str(" '");
        line.push_str(name);
        line.push_str("'");
    }
}
