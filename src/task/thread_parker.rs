//! How a plain thread waits.
//!
//! std has one token for each thread, and whoever calls `Thread::unpark` means that the thread's own code is to find
//! it. A wait inside this crate that took it would lose it. So our waits have a count of their own, which only
//! grows: who waits looks at the count, then at what is waited for, and then blocks until the count has changed. A
//! wait inside another, as in a poll, takes nothing from the outer one.

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::Wake;
use std::time::Duration;

/// Where one thread waits, and others wake it.
pub(crate) struct ThreadParker {
    wakes: AtomicU32,
    /// The thread blocks, or is about to.
    blocks: AtomicBool,
}

impl ThreadParker {
    /// That of the calling thread.
    pub(crate) fn here() -> Arc<ThreadParker> {
        thread_local! {
            static HERE: Arc<ThreadParker> = ThreadParker::new();
        }
        // In the thread's last destructors there may be no keeping it.
        HERE.try_with(Arc::clone).unwrap_or_else(|_| ThreadParker::new())
    }

    fn new() -> Arc<ThreadParker> {
        Arc::new(ThreadParker { wakes: AtomicU32::new(0), blocks: AtomicBool::new(false) })
    }

    /// How often it was woken.
    pub(crate) fn wakes(&self) -> u32 {
        // Acquire: what was done before a wake-up is seen by whoever sees that.
        self.wakes.load(Ordering::Acquire)
    }

    /// Blocks the thread while it was woken `seen` times, for `limit` at most. May return early.
    pub(crate) fn block(&self, seen: u32, limit: Option<Duration>) {
        // SeqCst, here and in `unpark`: of the two sides one sees the other's store. The kernel compares the count
        // once more, when a wake-up would find us.
        self.blocks.store(true, Ordering::SeqCst);
        if self.wakes.load(Ordering::SeqCst) == seen {
            let time = limit.map(|limit| libc::timespec {
                tv_sec: libc::time_t::try_from(limit.as_secs()).unwrap_or(libc::time_t::MAX),
                tv_nsec: limit.subsec_nanos().into(),
            });
            let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
            let time = time.as_ref().map_or(ptr::null(), ptr::from_ref);
            // SAFETY: S8, a live word and a live time, or none. It returns early for a signal, and is then called
            // again by whoever waits.
            unsafe { libc::syscall(libc::SYS_futex, self.wakes.as_ptr(), operation, seen, time) };
        }
        self.blocks.store(false, Ordering::Relaxed);
    }

    /// Wakes the thread, or keeps it from blocking next time.
    pub(crate) fn unpark(&self) {
        self.wakes.fetch_add(1, Ordering::SeqCst);
        if self.blocks.load(Ordering::SeqCst) {
            let operation = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
            // SAFETY: S8, a live word.
            unsafe { libc::syscall(libc::SYS_futex, self.wakes.as_ptr(), operation, 1) };
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
