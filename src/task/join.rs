//! [`JoinHandle`]: the right to wait for a coroutine's end, and to its value.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::children::Children;
use super::current::{Current, current_task};
use super::handle::Handle;
use super::header::{BorrowedTask, TaskRef, free};
use super::hook::check_thread;
use super::label::Waiting;
use super::outcome::{JoinError, Outcome};
use super::park::wait_on_thread;
use super::stack::ParkReason;
use super::state::{Detach, JOINER, RELEASED, WAITER};
use super::thread_parker::ThreadParker;
use super::waiter::Waiter;
use crate::base::id::{Id, RuntimeId};
use crate::fork;
use crate::suspension;

/// The right to wait for a coroutine and to take its value, as [`std::thread::JoinHandle`].
///
/// Dropping the handle detaches the coroutine: it goes on, and its value is dropped when it ends; a
/// panic in that `Drop` is then reported by the panic hook. Where the coroutine has ended already, the
/// value is dropped by whoever drops the handle, and a panic in its `Drop` is theirs.
///
/// The handle is also a [`Future`] of what [`join`](JoinHandle::join) returns.
///
/// # Examples
///
/// ```
/// let handle = coro::go(|| 6 * 7);
/// assert_eq!(handle.join().unwrap(), 42);
/// ```
pub struct JoinHandle<T> {
    /// Counted; `drop` gives it up, and nothing else.
    task: ManuallyDrop<TaskRef>,
    /// The runtime that the coroutine runs on; `None` once the outcome was taken.
    runtime: Option<RuntimeId>,
    value: PhantomData<T>,
}

// SAFETY: T5, a handle gives nothing but the outcome, by value.
unsafe impl<T: Send> Send for JoinHandle<T> {}
// SAFETY: T5, through a shared handle nothing of the outcome can be reached.
unsafe impl<T: Send> Sync for JoinHandle<T> {}

impl<T> Unpin for JoinHandle<T> {}

// What is shared is a state word, which no panic can leave half changed, and the value is given away.
impl<T> UnwindSafe for JoinHandle<T> {}
impl<T> RefUnwindSafe for JoinHandle<T> {}

impl<T> JoinHandle<T> {
    pub(super) fn new(task: TaskRef, runtime: RuntimeId) -> JoinHandle<T> {
        JoinHandle { task: ManuallyDrop::new(task), runtime: Some(runtime), value: PhantomData }
    }

    /// Waits until the coroutine has ended and its cleanup is over, and gives its value. Suspends
    /// the calling coroutine, or blocks the calling thread where there is none.
    ///
    /// # Errors
    ///
    /// [`JoinError::Panicked`] if it panicked, [`JoinError::Cancelled`] if it was cancelled. A
    /// coroutine that joins itself gets `Panicked` at once, instead of waiting for ever.
    ///
    /// # Panics
    ///
    /// Where it would wait, in a process that was forked from one that uses coroutines. Unwinds, without
    /// calling the panic hook, when the waiting coroutine is cancelled or a [`timeout`](crate::timeout)
    /// around it elapses.
    ///
    /// # Examples
    ///
    /// ```
    /// let words = coro::go(|| vec!["a", "b"]).join().unwrap();
    /// assert_eq!(words.len(), 2);
    /// ```
    #[inline]
    pub fn join(mut self) -> Result<T, JoinError> {
        if !self.task.is_done() {
            self.drop_waker();
            match current_task() {
                Some(me) if me.as_ptr() == self.task.as_ptr() => return Err(joined_itself(&me)),
                Some(me) => self.join_as_task(&me),
                None => self.join_as_thread(),
            }
        }
        // SAFETY: done, and taken nowhere else.
        unsafe { self.take() }
    }

    #[inline]
    fn join_as_task(&self, me: &Current) {
        suspension::check_task(me.record());
        // Before it is done it cannot be told from one that is, so the cell is filled first.
        let me_waiting = me.as_borrowed();
        if !self.register(Waiter::Task(me_waiting), JOINER) {
            return;
        }
        let registration = Registration { task: &self.task, me };
        // Another runtime goes on by itself.
        let elsewhere = self.runtime.is_some_and(|runtime| !me_waiting.owner.is_of(runtime));
        let reason = ParkReason::new(Waiting::Join, elsewhere);
        me.task_stack().joined.set(Some(self.task.id()));
        while !self.task.is_done() {
            me.park(reason);
        }
        drop(registration);
    }

    #[cold]
    fn join_as_thread(&self) {
        check_thread();
        let parker = ThreadParker::here();
        if !self.register(Waiter::Thread(Arc::clone(&parker)), 0) {
            return;
        }
        loop {
            let seen = parker.wakes();
            if self.task.is_done() {
                return;
            }
            wait_on_thread(&parker, seen, None);
        }
    }

    /// Drops the waker that a poll has left. That may be anybody's code, which may suspend and unwind: so
    /// it comes before anything is begun that would have to be undone.
    #[inline]
    pub(crate) fn drop_waker(&mut self) {
        let state = &self.task.state;
        if state.load().has(WAITER) && state.clear_waiter() {
            // SAFETY: T6, WAITER is clear and the task was not done, and this is the only handle.
            drop(unsafe { self.task.waiter.get().replace(None) });
        }
    }

    /// Asks for `waiter` to be told of the end, once [`drop_waker`](JoinHandle::drop_waker) has made room.
    /// False: that has come already.
    #[inline]
    fn register(&self, waiter: Waiter<BorrowedTask>, also: usize) -> bool {
        fork::check();
        if self.task.is_done() {
            return false;
        }
        // SAFETY: T6, DONE was not seen, WAITER is clear, and this is the only handle, so nobody sets it.
        unsafe { self.task.waiter.get().write(Some(waiter)) };
        let registered = self.task.state.set_waiter(also);
        if !registered {
            // SAFETY: T6, the task is done and did not see it.
            drop(unsafe { self.task.waiter.get().replace(None) });
        }
        registered
    }

    /// Has `waker` woken at the end, in place of any other. True: that has come already.
    pub(crate) fn notify(&mut self, waker: Waker) -> bool {
        self.drop_waker();
        !self.register(Waiter::Waker(waker), 0)
    }

    /// The error for a coroutine that waits for its own end, which nobody will be told of then; `None`
    /// if the caller is anybody else.
    pub(crate) fn refuse_own(&mut self) -> Option<JoinError> {
        let error = self.error_of_own()?;
        self.drop_waker();
        Some(error)
    }

    /// What the coroutine itself gets if it waits for its own end; `None` for any other caller.
    fn error_of_own(&self) -> Option<JoinError> {
        let me = current_task().filter(|me| me.as_ptr() == self.task.as_ptr())?;
        Some(joined_itself(&me))
    }

    /// Takes the outcome out of the block, for whoever has asked for it.
    ///
    /// # Safety
    ///
    /// The task is done, and the outcome was not taken before.
    #[inline]
    unsafe fn take(&mut self) -> Outcome<T> {
        self.runtime = None;
        // SAFETY: T5, the outcome is there and ours.
        let outcome = unsafe { self.outcome().read() };
        if let Err(JoinError::Panicked(_)) = &outcome
            // SAFETY: T1, the handle has the address of the block.
            && let Some(children) = unsafe { Children::of(self.task.as_ptr()) }
        {
            // SAFETY: T8, the scope waits for whoever has a handle of a child.
            unsafe { children.as_ref() }.forget_panic();
        }
        outcome
    }

    fn is_taken(&self) -> bool {
        self.runtime.is_none()
    }

    fn outcome(&self) -> *mut Outcome<T> {
        self.task.as_ptr().cast::<u8>().wrapping_add(self.task.vtable.outcome).cast()
    }

    /// Whether the coroutine has ended, so that [`join`](JoinHandle::join) returns at once.
    ///
    /// # Examples
    ///
    /// ```
    /// let handle = coro::go(|| ());
    /// while !handle.is_finished() {
    ///     coro::yield_now();
    /// }
    /// ```
    pub fn is_finished(&self) -> bool {
        self.task.is_done()
    }

    /// The identity that the coroutine was started with.
    ///
    /// # Examples
    ///
    /// ```
    /// let handle = coro::go(coro::tls::id);
    /// let id = handle.id();
    /// assert_eq!(handle.join().unwrap(), id);
    /// ```
    pub fn id(&self) -> Id {
        self.task.id()
    }

    /// Asks the coroutine to end.
    ///
    /// One that has not started is dropped unrun. One that is suspended is woken and unwound from
    /// there: destructors run, newest first, then exit handlers, then its data is dropped, and
    /// [`join`](JoinHandle::join) gives [`JoinError::Cancelled`]. One that runs is unwound at its
    /// next suspension. The unwinding comes once; code that catches it goes on
    /// (see [`is_interruption`](crate::is_interruption)).
    ///
    /// The unwinding is as a panic's. In a destructor that a panic of the coroutine runs, a second one would
    /// abort the process, so the cancellation waits until that panic is over. Where C code has called back,
    /// in the comparator of a `qsort` say, it does abort, as a panic would: [`shield`](crate::shield) puts
    /// it off.
    ///
    /// In a program compiled with `panic = "abort"` only a coroutine that has not started is
    /// cancelled.
    ///
    /// # Examples
    ///
    /// ```
    /// use coro::JoinError;
    ///
    /// let handle = coro::go(|| loop { coro::park() });
    /// handle.cancel();
    /// assert!(matches!(handle.join(), Err(JoinError::Cancelled)));
    /// ```
    pub fn cancel(&self) {
        self.task.cancel();
    }

    /// A handle that can be cloned and shared, to unpark or cancel the coroutine.
    ///
    /// # Examples
    ///
    /// ```
    /// let parked = coro::go(coro::park);
    /// parked.handle().unpark();
    /// parked.join().unwrap();
    /// ```
    pub fn handle(&self) -> Handle {
        Handle::new(&self.task)
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    /// # Panics
    ///
    /// When polled again after it was ready; where it is not ready, in a process that was forked from one
    /// that uses coroutines.
    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        assert!(!self.is_taken(), "a JoinHandle was polled after it was ready");
        if !self.is_finished() {
            if let Some(error) = self.error_of_own() {
                return Poll::Ready(Err(error));
            }
            if !self.notify(context.waker().clone()) {
                return Poll::Pending;
            }
        }
        // SAFETY: done, and not taken before.
        Poll::Ready(unsafe { self.take() })
    }
}

/// What a coroutine gets that waits for its own end.
#[cold]
fn joined_itself(me: &Current) -> JoinError {
    JoinError::Panicked(Box::new(format!("coroutine {} joined itself", me.id())))
}

impl<T> Drop for JoinHandle<T> {
    #[inline]
    fn drop(&mut self) {
        let task = self.task.as_ptr();
        let left = if self.is_taken() {
            None
        } else {
            match self.task.state.detach() {
                Detach::Detached => return,
                // SAFETY: T1, the handle's reference is the last.
                Detach::LastReference => return unsafe { free(task) },
                Detach::OutcomeLeft => Some(self.outcome()),
            }
        };
        // SAFETY: the handle's reference, which is given up nowhere else.
        let _task = unsafe { TaskRef::from_raw(task) };
        if let Some(outcome) = left {
            // Where it lies, because it may be large; and while the reference is there to be given up,
            // because its destructor may panic.
            // SAFETY: T5, COMPLETE is set, so the outcome is the handle's to drop.
            unsafe { outcome.drop_in_place() };
        }
    }
}

/// That a task waits for another, borrowed (T7): it does not leave before the other has let go of
/// it, even when it is unwound.
struct Registration<'a> {
    task: &'a TaskRef,
    me: &'a Current,
}

impl Drop for Registration<'_> {
    #[inline]
    fn drop(&mut self) {
        if !self.task.state.load().has(RELEASED) && !self.task.state.clear_waiter() {
            self.wait_for_release();
        }
    }
}

impl Registration<'_> {
    /// The other runs on another worker and is between its last two steps.
    #[cold]
    fn wait_for_release(&self) {
        while !self.task.state.load().has(RELEASED) {
            self.me.step_aside();
        }
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle")
            .field("id", &self.id())
            .field("name", &self.task.name())
            .field("finished", &self.is_finished())
            .finish()
    }
}
