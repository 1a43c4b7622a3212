//! The ends of a runtime's workers and of their threads, and who waits for them.
//!
//! A worker ends when it has no coroutine left, and its thread soon after it, when the destructors of its
//! thread-locals have run. These are the user's code. They may take their time, need the worker of the
//! coroutine that waits for them, or come back here. So nobody blocks in a join, and nobody joins under the lock.
//! Whoever waits for threads looks again and again whether they have ended, with pauses that grow.
//!
//! A worker whose coroutines do not end abandons them after a while. Then the worker is counted as ended here, so that
//! nobody waits for ever, and goes on (W5).

use std::mem;
use std::os::unix::thread::JoinHandleExt;
use std::ptr;
use std::sync::{Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::base::lock::lock;
use crate::task::{ParkReason, WaitList, pause_until, wait_until, wake_all};

/// About as long as a thread takes to end that has nothing left to do.
const FIRST_PAUSE: Duration = Duration::from_micros(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(10);

/// Counts the workers that have not ended, holds the threads to be joined, and wakes whoever waits for them.
#[derive(Default)]
pub(super) struct ShutdownLatch {
    state: Mutex<LatchState>,
}

#[derive(Default)]
struct LatchState {
    /// How many workers are waited for.
    workers: usize,
    waiters: WaitList,
    /// The threads that are to be joined. One that is waited for no more is not among them.
    threads: Vec<JoinHandle<()>>,
}

impl LatchState {
    fn waiters(&mut self) -> &mut WaitList {
        &mut self.waiters
    }
}

impl ShutdownLatch {
    fn lock(&self) -> MutexGuard<'_, LatchState> {
        lock(&self.state)
    }

    pub(super) fn expect_worker(&self) {
        self.lock().workers += 1;
    }

    pub(super) fn expect_thread(&self, thread: JoinHandle<()>) {
        self.lock().threads.push(thread);
    }

    /// A worker has ended, or has never begun.
    pub(super) fn worker_has_ended(&self) {
        let is_last = {
            let mut state = self.lock();
            state.workers -= 1;
            state.workers == 0
        };
        if is_last {
            wake_all(&self.state, LatchState::waiters);
        }
    }

    /// The worker that the calling thread is goes on, and is waited for no more, nor is the thread.
    pub(super) fn worker_goes_on(&self) {
        let me = thread::current().id();
        self.lock().threads.retain(|thread| thread.thread().id() != me);
        self.worker_has_ended();
    }

    /// Whether a thread is left that can be waited for.
    pub(super) fn has_threads(&self) -> bool {
        !self.lock().threads.is_empty()
    }

    /// Whether the calling thread is one of those that are to be joined.
    pub(super) fn is_one_of_the_threads(&self) -> bool {
        let me = thread::current().id();
        self.lock().threads.iter().any(|thread| thread.thread().id() == me)
    }

    /// Waits until every worker has ended, or until `deadline`; true: the former.
    pub(super) fn wait(&self, deadline: Instant) -> bool {
        let is_over = |state: &mut LatchState| state.workers == 0;
        wait_until(&self.state, LatchState::waiters, Some(deadline), ParkReason::SHUTDOWN, is_over)
    }

    /// Waits until every thread has ended, or until `deadline`, after [`wait`](ShutdownLatch::wait).
    pub(super) fn join(&self, deadline: Instant) {
        let mut pause = FIRST_PAUSE;
        while !self.try_join() && Instant::now() < deadline {
            pause_until(deadline.min(Instant::now() + pause), ParkReason::SHUTDOWN);
            pause = LONGEST_PAUSE.min(2 * pause);
        }
        self.leave_alone();
    }

    /// Joins the threads that have ended. True: there are no others.
    fn try_join(&self) -> bool {
        let mut state = self.lock();
        let threads = mem::take(&mut state.threads);
        state.threads = threads.into_iter().filter_map(join_if_ended).collect();
        state.threads.is_empty()
    }

    /// Leaves the threads that there are to themselves.
    pub(super) fn leave_alone(&self) {
        self.lock().threads.clear();
    }
}

/// Joins a thread if it has ended; gives it back if it has not.
fn join_if_ended(thread: JoinHandle<()>) -> Option<JoinHandle<()>> {
    // SAFETY: S8, a thread that was neither joined nor detached, for its handle is here.
    let result = unsafe { libc::pthread_tryjoin_np(thread.as_pthread_t(), ptr::null_mut()) };
    if result == libc::EBUSY {
        return Some(thread);
    }
    // Else dropping the handle would detach what is no thread any more. A worker does not panic; if it
    // has, the panic hook has told.
    thread.into_pthread_t();
    None
}
