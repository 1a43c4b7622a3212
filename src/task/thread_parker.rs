//! How a plain thread waits.
//!
//! std has one token for each thread, and whoever calls `Thread::unpark` means that the thread's own code is to find
//! it. A wait inside this crate that took it would lose it. So our waits have a count of their own, which only
//! grows: who waits looks at the count, then at what is waited for, and then blocks until the count has changed. A
//! wait inside another, as in a poll, takes nothing from the outer one.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::Wake;
use std::time::Duration;

use crate::base::atomics::Ordering;
use crate::base::futex::Futex;

/// Counts the wake-ups of a thread's waits, and blocks it while there is no new one.
pub(crate) struct ThreadParker {
    wakes: Futex,
    /// The thread blocks, or is about to.
    blocks: AtomicBool,
}

impl ThreadParker {
    /// The calling thread's.
    pub(crate) fn here() -> Arc<ThreadParker> {
        thread_local! {
            static HERE: Arc<ThreadParker> = ThreadParker::new();
        }
        // In the thread's last destructors there may be no keeping it.
        HERE.try_with(Arc::clone).unwrap_or_else(|_| ThreadParker::new())
    }

    fn new() -> Arc<ThreadParker> {
        Arc::new(ThreadParker { wakes: Futex::new(0), blocks: AtomicBool::new(false) })
    }

    /// One of its own for a model, whose threads share a thread's locals.
    #[cfg(all(test, coro_loom))]
    pub(crate) fn of_model() -> Arc<ThreadParker> {
        ThreadParker::new()
    }

    /// How often the thread was woken.
    pub(crate) fn wakes(&self) -> u32 {
        // Acquire: what was done before a wake-up is seen by whoever sees that.
        self.wakes.load(Ordering::Acquire)
    }

    /// Blocks the thread while it was woken `seen` times, for `limit` at most. May return early.
    pub(super) fn block(&self, seen: u32, limit: Option<Duration>) {
        // SeqCst, here and in `unpark`: of the two sides one sees the other's store. The kernel compares the count
        // once more, when a wake-up would find us.
        self.blocks.store(true, Ordering::SeqCst);
        if self.wakes.load(Ordering::SeqCst) == seen {
            self.wakes.wait(seen, limit);
        }
        self.blocks.store(false, Ordering::Relaxed);
    }

    pub(super) fn unpark(&self) {
        self.wakes.fetch_add(1, Ordering::SeqCst);
        if self.blocks.load(Ordering::SeqCst) {
            self.wakes.wake();
        }
    }
}

impl Wake for ThreadParker {
    fn wake(self: Arc<Self>) {
        self.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.unpark();
    }
}
