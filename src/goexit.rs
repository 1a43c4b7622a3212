//! The goexit hijack: how the end of a coroutine is caught, whatever that end is.
//!
//! The trampoline in `asm/trampoline.s` calls the coroutine's function. The return address of that
//! call says what happens at the function's end. [`Running::hijack`] rewrites it from `goexit` to `cleanup` when the
//! first value or handler is stored, and [`Running::restore`] writes it back. A function that returns, panics or is
//! cancelled ends with the same `ret` (H4). So cleanup runs if and only if the address names it.
//!
//! ```text
//!             hijack               ret                      returns
//!   goexit  --------->  cleanup  ------->  [cleanup runs]  --------->  goexit
//!     ^                    |                 slot: goexit
//!     +------ restore -----+
//! ```
//!
//! A plain thread has no such address. Instead the first store registers a thread-local guard, whose destructor
//! runs the same cleanup when the thread ends.
//!
//! # Invariants
//!
//! - **H1** While a coroutine's function runs, the return slot holds `goexit` or `cleanup` and
//!   nothing else. A rewrite compares the old value first. If that is another, something has overwritten
//!   the stack, and the process is aborted with a message.
//! - **H2** The slot names `cleanup` if and only if the phase is `Hijacked`. So cleanup runs exactly
//!   once if something is stored when the function returns, and not at all otherwise.
//! - **H3** During cleanup the slot names `goexit` again and is not rewritten. Cleanup itself drains
//!   what is stored meanwhile. Afterwards the record is closed and stores nothing.
//! - **H4** No unwinder passes the trampoline: the function that it calls catches every panic. An
//!   unwinder that passed would skip the `ret`, and with it cleanup.
//! - **H5** The slot's address is computed by the trampoline and kept in the record. The slot is written
//!   only by code that runs on that stack, so not while the `ret` is executed.
//! - **H6** Both places that the slot can name lie inside the trampoline, where its CFI is right. So does the byte
//!   before each place, which is what an unwinder looks up.
//! - **F2** No coroutine runs under a user shadow stack, where the CPU would kill the process at the first
//!   rewritten `ret`: [`check_shadow_stack`] refuses to start there.

#[cfg(test)]
mod tests;

use std::arch::global_asm;
use std::io;

use memoffset::offset_of;

use crate::record::{Phase, Record, Running};
use crate::unwind::{clear, panicking};

global_asm!(
    include_str!("../asm/trampoline.s"),
    RETURN_SLOT = const offset_of!(Record, return_slot),
    CLEANUP = sym cleanup,
);

unsafe extern "C" {
    /// Calls `function(argument)` so that its return address can be hijacked through `record`.
    ///
    /// # Safety
    ///
    /// Runs on the stack that `record` is the record of; `function` does not unwind (H4).
    fn coro_trampoline(
        record: *const (),
        argument: *mut (),
        function: unsafe extern "C" fn(*mut ()),
    );
    safe static coro_goexit: u8;
    safe static coro_cleanup: u8;
}

/// One of the two places that the return address of a coroutine's function can name.
///
/// # Examples
///
/// ```
/// use coro::inspect::{self, ExitTarget};
///
/// coro::go(|| {
///     assert_eq!(inspect::exit_target(), Some(ExitTarget::Goexit));
///     coro::tls::set("key", 1);
///     assert_eq!(inspect::exit_target(), Some(ExitTarget::Cleanup));
///     coro::tls::unload();
///     assert_eq!(inspect::exit_target(), Some(ExitTarget::Goexit));
/// })
/// .join()
/// .unwrap();
/// assert_eq!(inspect::exit_target(), None); // a plain thread has no such address
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum ExitTarget {
    /// Nothing is stored: the coroutine just ends.
    Goexit,
    /// Something is stored: handlers will run and data will be dropped.
    Cleanup,
}

impl ExitTarget {
    fn address(self) -> usize {
        match self {
            ExitTarget::Goexit => &raw const coro_goexit as usize,
            ExitTarget::Cleanup => &raw const coro_cleanup as usize,
        }
    }

    fn at(address: usize) -> Option<ExitTarget> {
        [ExitTarget::Goexit, ExitTarget::Cleanup].into_iter().find(|t| t.address() == address)
    }
}

/// Whether a frame that returns to this address is that of a coroutine's function.
#[cfg(feature = "dump")]
pub(crate) fn is_return_address(address: usize) -> bool {
    ExitTarget::at(address).is_some()
}

/// Calls `function(argument)` through the trampoline; returns when the coroutine has ended and,
/// if it had stored anything, was cleaned up.
///
/// # Safety
///
/// `record` is the record of the stack we run on, in phase `Idle`; `function` does not unwind.
#[inline]
pub(crate) unsafe fn enter(
    record: *const Record,
    argument: *mut (),
    function: unsafe extern "C" fn(*mut ()),
) {
    // SAFETY: H4 and the caller's word.
    unsafe {
        coro_trampoline(record.cast(), argument, function);
        // From here on nothing would run a cleanup.
        (*record).phase.set(Phase::Closed);
        (*record).locals().close();
    }
}

/// What the trampoline's `cleanup` label jumps to: runs the handlers and drops the data.
unsafe extern "C" fn cleanup(record: *const ()) {
    // SAFETY: R1, the trampoline passes the record of the stack it runs on.
    let record = unsafe { &*record.cast::<Record>() };
    record.clean_up();
    if panicking() {
        clear(format_args!("the cleanup of coroutine {}", record.id()));
    }
}

impl Running<'_> {
    /// Sees to it that what is stored from now on is cleaned up. To be called before storing.
    #[inline]
    pub(crate) fn hijack(self) {
        if self.phase.get() == Phase::Idle {
            self.hijack_first();
        }
    }

    #[cold]
    fn hijack_first(self) {
        if self.is_coroutine() {
            // SAFETY: H5, we run on this record's stack, in phase `Idle`.
            unsafe { self.rewrite(ExitTarget::Goexit, ExitTarget::Cleanup) };
            self.phase.set(Phase::Hijacked);
        } else if EXIT_GUARD.try_with(|_| ()).is_ok() {
            self.phase.set(Phase::Hijacked);
        } else {
            // The guard's destructor has begun, so it is not registered again.
            self.phase.set(Phase::Closed);
            self.locals().close();
        }
    }

    /// Undoes [`hijack`](Running::hijack) once nothing is stored any more.
    pub(crate) fn restore(self) {
        if self.phase.get() == Phase::Hijacked && self.is_coroutine() {
            // SAFETY: H5, we run on this record's stack, in phase `Hijacked`.
            unsafe { self.rewrite(ExitTarget::Cleanup, ExitTarget::Goexit) };
            self.phase.set(Phase::Idle);
        }
    }
}

impl Record {
    /// Where the coroutine's function is going to return to; `None` on a plain thread and in a
    /// coroutine whose function has ended.
    pub(crate) fn exit_target(&self) -> Option<ExitTarget> {
        if !self.is_coroutine() || self.phase.get() == Phase::Closed {
            return None;
        }
        // SAFETY: H1, the slot holds one of the two for as long as the record is not closed.
        let word = unsafe { self.return_slot.get().read_volatile() };
        Some(ExitTarget::at(word).unwrap_or_else(|| corrupted(self, word)))
    }

    /// Swaps the word in the return slot, which must be `from`.
    ///
    /// # Safety
    ///
    /// Runs on this record's stack, in a phase other than `Cleaning` and `Closed` (H3, H5).
    unsafe fn rewrite(&self, from: ExitTarget, to: ExitTarget) {
        let slot = self.return_slot.get();
        // SAFETY: H5, the trampoline's frame is below us. Volatile, since the word is read by a
        // `ret` that the compiler knows nothing of.
        unsafe {
            let word = slot.read_volatile();
            if word != from.address() {
                corrupted(self, word);
            }
            slot.write_volatile(to.address());
        }
    }

    /// Runs everything that is registered, on the stack that registered it.
    fn clean_up(&self) {
        self.phase.set(Phase::Cleaning);
        self.locals().cleanup();
    }
}

/// The return slot holds neither address: the stack was overwritten, and a `ret` would jump to an unknown place.
#[cold]
fn corrupted(record: &Record, word: usize) -> ! {
    crate::base::report::line(format_args!(
        "coroutine {}: its return address was overwritten (found {word:#x}); the stack is corrupt",
        record.id()
    ));
    std::process::abort()
}

thread_local! {
    /// What catches the end of a plain thread.
    static EXIT_GUARD: ExitGuard = const { ExitGuard };
}

struct ExitGuard;

impl Drop for ExitGuard {
    fn drop(&mut self) {
        crate::record::with_thread(|record| {
            record.clean_up();
            record.phase.set(Phase::Closed);
            record.locals().close();
        });
    }
}

/// Fails where the CPU would kill us at the first hijacked return.
pub(crate) fn check_shadow_stack() -> io::Result<()> {
    // From the kernel's asm/prctl.h; libc has no names for them.
    const ARCH_SHSTK_STATUS: libc::c_int = 0x5005;
    const ARCH_SHSTK_SHSTK: u64 = 1;

    let mut features = 0u64;
    // SAFETY: the kernel writes one u64, or fails with EINVAL where it knows no shadow stacks.
    let status =
        unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SHSTK_STATUS, &raw mut features) };
    if status == 0 && features & ARCH_SHSTK_SHSTK != 0 {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "coroutines cannot run under a user shadow stack, because they rewrite a return \
             address; start the program with GLIBC_TUNABLES=glibc.cpu.x86_shstk=off",
        ));
    }
    Ok(())
}
