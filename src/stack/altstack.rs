//! The stack on which the fault handler runs.
//!
//! A stack that has overflowed has no room for a signal frame, so the kernel would kill
//! the process without a report. Therefore each thread that runs coroutines gets an alternate signal
//! stack. std gives its threads one too, but of the smallest size that works. This one also has room for
//! the report, and for an earlier handler of the program's.
//!
//! ```text
//!  high +----------------------+
//!       |  signal frame        |  AT_MINSIGSTKSZ: grows with the CPU's registers
//!       |  handler's frames    |  at least 32 KiB
//!       +----------------------+  ss_sp
//!       |  PROT_NONE, one page |  the handler's own overflow must not go on unseen
//!  low  +----------------------+
//! ```

use std::cell::{Cell, RefCell};
use std::io;
use std::mem;
use std::ptr;

use libc::{c_int, c_void, stack_t};

use super::class::PAGE;

const SMALLEST: usize = 64 << 10;
const FOR_HANDLERS: usize = 32 << 10;

/// `AT_MINSIGSTKSZ` of `linux/auxvec.h`: what a signal frame takes on this CPU.
const AT_MINSIGSTKSZ: libc::c_ulong = 51;

thread_local! {
    /// Read before everything else: this one needs no destructor and so no registration.
    static PROTECTED: Cell<bool> = const { Cell::new(false) };
    static OURS: RefCell<Option<AltStack>> = const { RefCell::new(None) };
}

/// A mapping that this thread's alternate stack lies in.
struct AltStack {
    mapping: usize,
    length: usize,
}

/// Makes sure that this thread has an alternate signal stack of a good size, until it ends. One that
/// is large enough already stays.
///
/// # Errors
///
/// The kernel's, if it refuses the memory.
#[inline]
pub(crate) fn protect_thread() -> io::Result<()> {
    if PROTECTED.get() { Ok(()) } else { protect() }
}

#[cold]
fn protect() -> io::Result<()> {
    let size = SMALLEST.max(signal_frame() + FOR_HANDLERS).next_multiple_of(PAGE);
    let active = active()?;
    if active.ss_flags & libc::SS_DISABLE != 0 || active.ss_size < size {
        let stack = AltStack::install(size)?;
        // In the thread's last destructors there is no place to keep it. Then it goes again at once:
        // the guards still stop an overflow, only the line that says so is missing.
        let _ = OURS.try_with(|ours| ours.replace(Some(stack)));
    }
    PROTECTED.set(true);
    Ok(())
}

/// How large a signal frame can be.
pub(super) fn signal_frame() -> usize {
    // SAFETY: S8; it reads what the kernel has given to the process, in a signal handler too (S6).
    unsafe { libc::getauxval(AT_MINSIGSTKSZ) as usize }
}

impl AltStack {
    fn install(size: usize) -> io::Result<AltStack> {
        let length = PAGE + size;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: S5, a new mapping.
        let mapping = unsafe { libc::mmap(ptr::null_mut(), length, access, flags, -1, 0) };
        if mapping == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // From here on the mapping is given back by `drop`, whatever happens.
        let stack = AltStack { mapping: mapping as usize, length };
        // SAFETY: S5, the lowest page of the mapping made above.
        if unsafe { libc::mprotect(mapping, PAGE, libc::PROT_NONE) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let place = stack_t { ss_sp: stack.bottom() as *mut c_void, ss_flags: 0, ss_size: size };
        // SAFETY: S5, `drop` takes it away from the kernel before it goes.
        unsafe { set(&place)? };
        Ok(stack)
    }

    fn bottom(&self) -> usize {
        self.mapping + PAGE
    }

    /// Leaves the kernel without this stack. Not possible while a handler runs on it.
    fn retire(&self) -> io::Result<()> {
        let active = active()?;
        // Somebody else's stack, if there is one by now, is theirs to take away.
        if active.ss_flags & libc::SS_DISABLE == 0 && active.ss_sp as usize == self.bottom() {
            let none = stack_t { ss_sp: ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
            // SAFETY: S8, it names no memory.
            unsafe { set(&none)? };
        }
        Ok(())
    }
}

impl Drop for AltStack {
    fn drop(&mut self) {
        if self.retire().is_ok() {
            // SAFETY: S5, our own mapping, which the kernel has just let go.
            unsafe { libc::munmap(self.mapping as *mut c_void, self.length) };
        }
    }
}

fn active() -> io::Result<stack_t> {
    // SAFETY: S8.
    let mut active: stack_t = unsafe { mem::zeroed() };
    // SAFETY: S8, this only asks.
    check(unsafe { libc::sigaltstack(ptr::null(), &mut active) })?;
    Ok(active)
}

/// # Safety
///
/// The memory stays until another stack, or none, is set for this thread (S5).
unsafe fn set(stack: &stack_t) -> io::Result<()> {
    // SAFETY: S5, by the caller's promise.
    check(unsafe { libc::sigaltstack(stack, ptr::null_mut()) })
}

fn check(result: c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
