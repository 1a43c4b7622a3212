//! How a runtime ends.

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::shared::Shared;
use super::start::Runtime;
use super::worker::Worker;
use crate::fork;
use crate::task::check_caller;

/// How long a shutdown without a limit waits for one more coroutine to end.
const PATIENCE: Duration = Duration::from_secs(10);

impl Runtime {
    /// Ends the runtime: refuses new work, drops unrun what has not started, cancels what lives, waits
    /// for its cleanup, and joins the threads, whose thread-locals are gone then. Dropping the runtime
    /// does the same.
    ///
    /// Whatever a coroutine does in its cleanup is waited for, as long as something moves, or something comes by
    /// itself: a time, the end of a [`blocking`](crate::blocking()) call, of a coroutine of another runtime, or of
    /// another runtime. A coroutine that does not end is abandoned when nothing of its worker has run for three
    /// seconds and the coroutine waits for nothing of that kind, or when no coroutine of the runtime has ended for ten
    /// seconds. An abandoned coroutine is left alone: its worker, and the worker's thread with its thread-locals, stay
    /// until the coroutine ends by itself, and a line on stderr names it. Of each worker ten coroutines are named and
    /// the others counted; of a worker that one of them keeps busy, that one is named.
    ///
    /// A cancellation unwinds as a panic does, and aborts where a panic would: see
    /// [`JoinHandle::cancel`](crate::JoinHandle::cancel). [`shield`](crate::shield) puts it off, and is waited for.
    ///
    /// Called in a coroutine of this very runtime, or in the destructor of a thread-local of one of its
    /// threads, it begins the shutdown and does not wait. In a process that was forked from the one which
    /// started the runtime, it does nothing.
    ///
    /// # Panics
    ///
    /// Unwinds, without calling the panic hook, when the coroutine that waits is cancelled. In a
    /// [`no_suspend`](crate::no_suspend()), when it has to wait for others.
    ///
    /// # Examples
    ///
    /// ```
    /// let runtime = coro::Runtime::builder().workers(1).build()?;
    /// let parked = runtime.go(|| loop { coro::park() });
    /// runtime.shutdown();
    /// assert!(matches!(parked.join(), Err(coro::JoinError::Cancelled)));
    /// assert!(matches!(runtime.go(|| ()).join(), Err(coro::JoinError::Cancelled)));
    /// # std::io::Result::Ok(())
    /// ```
    pub fn shutdown(&self) {
        if fork::is_child() {
            return; // its threads are the parent's
        }
        self.begin_shutdown();
        while self.has_to_wait() {
            let ended = self.shared.ended();
            if self.shared.shutdown_latch.wait(Instant::now() + PATIENCE) {
                return self.shared.shutdown_latch.join(far());
            }
            if self.shared.ended() == ended {
                return self.abandon(PATIENCE);
            }
        }
    }

    /// As [`shutdown`](Runtime::shutdown), but waits no longer than `limit` in all; gives the number of
    /// coroutines that are still alive then, each of which is left alone and may still end by itself.
    /// So may a thread whose thread-locals take longer than that.
    ///
    /// # Panics
    ///
    /// As [`shutdown`](Runtime::shutdown).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    /// use std::time::Duration;
    ///
    /// static STOP: AtomicBool = AtomicBool::new(false);
    /// let runtime = coro::Runtime::builder().workers(1).build()?;
    /// let stubborn = runtime.go(|| while !STOP.load(Relaxed) {}); // never suspends
    /// # while coro::inspect::metrics().fresh > 0 {}
    /// assert_eq!(runtime.shutdown_timeout(Duration::from_millis(10)), 1);
    /// STOP.store(true, Relaxed);
    /// stubborn.join().unwrap();
    /// # std::io::Result::Ok(())
    /// ```
    pub fn shutdown_timeout(&self, limit: Duration) -> usize {
        if fork::is_child() {
            return self.shared.alive();
        }
        let deadline = Instant::now().checked_add(limit).unwrap_or_else(far);
        self.begin_shutdown();
        if self.has_to_wait() {
            if self.shared.shutdown_latch.wait(deadline) {
                self.shared.shutdown_latch.join(deadline);
            } else {
                self.abandon(limit);
            }
        }
        self.shared.alive()
    }

    fn begin_shutdown(&self) {
        if self.has_to_wait() {
            check_caller();
        }
        self.shared.close();
    }

    /// Whether there is something to wait for, and the caller can: neither a coroutine of this runtime,
    /// nor a destructor of a thread-local of its threads, which may all be there at the same time.
    /// Threads that were joined, or left alone, are waited for no more.
    fn has_to_wait(&self) -> bool {
        let is_inside = Worker::is_one_of(&self.shared);
        let shutdown_latch = &self.shared.shutdown_latch;
        !is_inside && shutdown_latch.has_threads() && !shutdown_latch.is_one_of_the_threads()
    }

    /// Leaves the threads that do not end to themselves, and tells which coroutines hold them.
    fn abandon(&self, waited: Duration) {
        self.shared.shutdown_latch.leave_alone();
        self.shared.tell_survivors(waited);
        self.shared.discard_fresh();
    }
}

/// A time that does not come.
fn far() -> Instant {
    Instant::now() + Duration::from_secs(1 << 32)
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.shutdown();
        if fork::is_child() {
            // There are no such threads here that could be detached.
            mem::forget(Arc::clone(&self.shared));
        }
    }
}

/// Shuts all runtimes of the process down, later ones too, and waits for their coroutines for `limit` in all. Then
/// tells who is left.
pub(crate) fn shutdown_all(limit: Duration) {
    let deadline = Instant::now() + limit;
    for shared in Shared::close_all() {
        if !shared.shutdown_latch.wait(deadline) {
            shared.tell_survivors(limit);
        }
    }
}
