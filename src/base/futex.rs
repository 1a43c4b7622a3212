//! A word that threads wait on in the kernel.
//!
//! `wait` blocks if the word holds what its caller has seen last. The kernel looks at the word once more under a
//! lock that `wake` takes as well. So a change of the word that is followed by a `wake` is never slept through.
//! (H. Franke, R. Russell, M. Kirkwood, "Fuss, Futexes and Furwocks", Ottawa Linux Symposium 2002.)

use std::ops::Deref;
use std::time::Duration;

use super::atomics::AtomicU32;

/// An atomic word with a queue of threads that wait for it to change.
pub(crate) struct Futex {
    word: AtomicU32,
    #[cfg(coro_loom)]
    queue: (loom::sync::Mutex<()>, loom::sync::Condvar),
}

impl Deref for Futex {
    type Target = AtomicU32;

    #[inline]
    fn deref(&self) -> &AtomicU32 {
        &self.word
    }
}

#[cfg(not(coro_loom))]
impl Futex {
    pub(crate) const fn new(value: u32) -> Futex {
        Futex { word: AtomicU32::new(value) }
    }

    /// Blocks the thread while the word holds `seen`, until it is woken, for `limit` at most. May return early.
    pub(crate) fn wait(&self, seen: u32, limit: Option<Duration>) {
        let time = limit.map(|limit| libc::timespec {
            tv_sec: libc::time_t::try_from(limit.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        });
        let time = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
        // SAFETY: S8, a live word and a live time, or none.
        unsafe { libc::syscall(libc::SYS_futex, self.word.as_ptr(), operation, seen, time) };
    }

    /// Wakes a thread that waits. The caller has changed the word before.
    pub(crate) fn wake(&self) {
        let operation = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
        // SAFETY: S8, a live word.
        unsafe { libc::syscall(libc::SYS_futex, self.word.as_ptr(), operation, 1) };
    }
}

#[cfg(coro_loom)]
impl Futex {
    pub(crate) fn new(value: u32) -> Futex {
        Futex {
            word: AtomicU32::new(value),
            queue: (loom::sync::Mutex::new(()), loom::sync::Condvar::new()),
        }
    }

    /// A model has no clock, so no limit ends the wait: a wake-up that is lost shows.
    pub(crate) fn wait(&self, seen: u32, _limit: Option<Duration>) {
        let (lock, changed) = &self.queue;
        let mut guard = lock.lock().unwrap();
        while self.word.load(super::atomics::Ordering::Relaxed) == seen {
            guard = changed.wait(guard).unwrap();
        }
    }

    pub(crate) fn wake(&self) {
        let (lock, changed) = &self.queue;
        drop(lock.lock().unwrap());
        changed.notify_one();
    }
}
