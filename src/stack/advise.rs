//! The same advice for many ranges in one system call.
//!
//! Guards are installed, and pages given back, for hundreds of slots at a time. `process_madvise`
//! takes an array of ranges and thus makes the kernel's fixed costs (entry, the lock on the address
//! space, the TLB flush) once for all of them. It wants to know a process by a descriptor:
//!
//! 1. `PIDFD_SELF_THREAD`, a number that means the caller. It needs no open file, but the kernel
//!    knows it only since 6.14.
//! 2. A descriptor from `pidfd_open`, opened for this call and closed after it. One that is kept
//!    would, after a fork, let the child change its *parent's* memory.
//! 3. One `madvise` for each range, where the kernel or a seccomp filter refuses both, and under
//!    valgrind, which does not know the call and would print a page about it each time.
//!
//! All advice used here can be repeated on a range that already has it. So after a short count the
//! caller's remaining ranges are simply advised again.

use std::io;
use std::ops::Range;

use libc::{c_int, c_uint, c_void, iovec};

use super::valgrind;

/// `PIDFD_SELF_THREAD` of `linux/pidfd.h`, for which libc has no name.
const PIDFD_SELF_THREAD: c_int = -10000;

/// Ranges in one call. Enough to make its fixed cost vanish, few enough for an array on any stack
/// (the kernel takes 1024).
const BATCH: usize = 128;

/// The kernel has refused: the first `done` ranges have the advice.
pub(super) struct AdviceError {
    pub(super) done: usize,
    pub(super) errno: c_int,
}

/// Gives `advice` to `range(0)`, `range(1)`, .. `range(count - 1)`, in this order.
///
/// # Safety
///
/// Every range lies in memory that the caller may treat so (S5).
pub(super) unsafe fn advise(
    advice: c_int,
    count: usize,
    range: impl Fn(usize) -> Range<usize>,
) -> Result<(), AdviceError> {
    let mut done = 0;
    while done < count {
        let mut batch = [iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; BATCH];
        let batch = &mut batch[..BATCH.min(count - done)];
        for (i, entry) in batch.iter_mut().enumerate() {
            let range = range(done + i);
            entry.iov_base = range.start as *mut c_void;
            entry.iov_len = range.len();
        }
        // SAFETY: S5, by the caller's promise.
        let advised = unsafe { advise_at_once(advice, batch) };
        if advised > 0 {
            done += advised;
            continue;
        }
        for entry in batch.iter() {
            // SAFETY: S5, by the caller's promise.
            if unsafe { libc::madvise(entry.iov_base, entry.iov_len, advice) } != 0 {
                return Err(AdviceError { done, errno: last_errno() });
            }
            done += 1;
        }
    }
    Ok(())
}

/// How many of the leading ranges have been advised by one call; 0 if it does not work that way.
///
/// # Safety
///
/// As for [`advise`].
unsafe fn advise_at_once(advice: c_int, batch: &[iovec]) -> usize {
    if valgrind::is_present() {
        return 0;
    }
    // SAFETY: S5, by the caller's promise.
    let mut bytes = unsafe { process_madvise(PIDFD_SELF_THREAD, advice, batch) };
    if bytes < 0 && last_errno() == libc::EBADF {
        // SAFETY: S8.
        let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) } as c_int;
        if pidfd < 0 {
            return 0;
        }
        // SAFETY: S5, by the caller's promise.
        bytes = unsafe { process_madvise(pidfd, advice, batch) };
        // SAFETY: S8, the descriptor was opened above and nobody else has seen it.
        unsafe { libc::close(pidfd) };
    }
    let mut left = usize::try_from(bytes).unwrap_or(0);
    // A range that was advised in part counts as not advised.
    let whole = |entry: &&iovec| {
        let fits = entry.iov_len <= left;
        left = left.saturating_sub(entry.iov_len);
        fits
    };
    batch.iter().take_while(whole).count()
}

/// # Safety
///
/// As for [`advise`].
unsafe fn process_madvise(pidfd: c_int, advice: c_int, batch: &[iovec]) -> isize {
    // No name in libc. The last argument is a set of flags, none of which is defined.
    let call = libc::SYS_process_madvise;
    let no_flags: c_uint = 0;
    // SAFETY: S5, by the caller's promise; the array is only read.
    unsafe { libc::syscall(call, pidfd, batch.as_ptr(), batch.len(), advice, no_flags) as isize }
}

/// The calling thread's `errno`.
pub(super) fn last_errno() -> c_int {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}
