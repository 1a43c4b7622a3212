//! How a plain thread waits.
//!
//! std has one token for each thread, and whoever calls `Thread::unpark` means that the thread's own code is to find
//! it. A wait inside this crate that took it would lose it. So our waits have a count of their own, which only
//! grows: who waits looks at the count, then at what is waited for, and then blocks until the count has changed. A
//! wait inside another, as in a poll, takes nothing from the outer one.

use std::ptr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::Wake;
use std::time::Duration;

use crate::base::atomics::Ordering;
use crate::base::futex::Futex;
use crate::base::lock::lock;

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
            let _listed = if limit.is_none() { BlockedThreads::list(self, seen) } else { None };
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

/// A thread that is blocked without a limit: its parker, and how often it was woken before.
type BlockedThread = (*const ThreadParker, u32);

/// The threads that are blocked without a limit, if somebody wants to know.
pub(crate) struct BlockedThreads {
    list: Mutex<Vec<BlockedThread>>,
}

// SAFETY: a parker that is listed is in use by its thread, and may be read from any.
unsafe impl Send for BlockedThreads {}
// SAFETY: as above.
unsafe impl Sync for BlockedThreads {}

static BLOCKED: OnceLock<BlockedThreads> = OnceLock::new();

impl BlockedThreads {
    /// From now on they are listed. Those that are blocked already are not.
    pub(crate) fn observe() -> &'static BlockedThreads {
        BLOCKED.get_or_init(|| BlockedThreads { list: Mutex::default() })
    }

    /// Which threads are blocked, and in which of their waits; `None`: one of them is about to go on.
    pub(crate) fn look(&self) -> Option<Vec<impl PartialEq + use<>>> {
        let list = lock(&self.list);
        // SAFETY: whoever is listed leaves the list, under the lock, before it leaves its wait.
        let is_blocked = |&(parker, seen): &BlockedThread| unsafe { &*parker }.wakes() == seen;
        list.iter().all(is_blocked).then(|| list.clone())
    }

    /// The calling thread is about to block on `parker`. It is listed until what this gives is dropped.
    fn list(parker: &ThreadParker, seen: u32) -> Option<ListedThread<'_>> {
        let blocked = BLOCKED.get()?;
        lock(&blocked.list).push((parker, seen));
        Some(ListedThread { blocked, parker })
    }
}

struct ListedThread<'a> {
    blocked: &'static BlockedThreads,
    parker: &'a ThreadParker,
}

impl Drop for ListedThread<'_> {
    fn drop(&mut self) {
        lock(&self.blocked.list).retain(|&(parker, _)| !ptr::eq(parker, self.parker));
    }
}
