//! What happens when a stack overflows: one line, then the end.
//!
//! An overflow touches the guard, and the kernel sends SIGSEGV. The handler finds the slot from the
//! fault's address alone and writes `coroutine 42 'name' overflowed its stack (256 KiB)`. Then it
//! aborts, as std does when a thread overflows. The handler may interrupt any code, with any lock
//! held, so it obeys S6. It runs on a stack of its own, the thread's alternate one (see `altstack`).
//!
//! **Whose fault is it?** The address lies in the guard of a slot that was handed out, *and* the
//! stack pointer points into that slot or, if foreign code has stepped over the guard with one large
//! frame, up to one slot's size below it. A wild pointer into another coroutine's guard is
//! not an overflow, and is not reported as one.
//!
//! **A signal can overflow the stack.** If its handler has no stack of its own, the kernel puts the
//! signal frame on the coroutine's stack: some kilobytes, which no compiler has probed for. If the frame does not fit,
//! the kernel drops the signal and sends SIGSEGV instead, without an address and with `SI_KERNEL`. A
//! non-canonical address causes the same code, but its trap number is that of a CPU's fault.
//!
//! **Every other fault** goes to the action that was there before, kept for each signal: a handler is
//! called as the kernel would have called it, save that it runs on the alternate stack; the default
//! action is put back, and the instruction then faults a second time. A handler that the program
//! installs later replaces ours and gets everything.

use std::io;
use std::mem;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use libc::{c_int, c_void, sigaction, siginfo_t, ucontext_t};

use super::altstack;
use super::class::Size;
use super::line::Line;
use super::slot::{self, Place};
use crate::base::signal_action;

/// Writes who runs on the slot with this ceiling. Runs in the signal handler, so S6 holds for it.
///
/// It is called with the ceiling of a slot that was handed out, on the thread that has hit the slot's guard.
type Describe = unsafe fn(ceiling: usize, line: &mut Line);

static DESCRIBE: OnceLock<Describe> = OnceLock::new();

/// `BUS_MCEERR_AO` of `asm-generic/siginfo.h`: memory has failed somewhere, not at this instruction.
const BUS_MCEERR_AO: c_int = 5;

/// `SI_KERNEL` of `asm-generic/siginfo.h`: not about an address.
const SI_KERNEL: c_int = 0x80;

/// The trap of `asm/trapnr.h` for, among others, a non-canonical address.
const X86_TRAP_GP: i64 = 13;

/// What lies below the stack pointer and belongs to the interrupted function.
const RED_ZONE: usize = 128;

/// A signal whose faults we look at, and what was done about it before us.
struct Watched {
    signal: c_int,
    /// Null for the default action.
    earlier: AtomicPtr<sigaction>,
}

static WATCHED: [Watched; 2] = [
    Watched { signal: libc::SIGSEGV, earlier: AtomicPtr::new(ptr::null_mut()) },
    Watched { signal: libc::SIGBUS, earlier: AtomicPtr::new(ptr::null_mut()) },
];

/// Says how the report names a coroutine, instead of just "coroutine". The first call counts.
///
/// `describe` runs in a signal handler, on a thread that may hold any lock: it may read memory and
/// add to the line, nothing else.
pub(crate) fn set_describe(describe: Describe) {
    let _ = DESCRIBE.set(describe);
}

/// The handler is to be put in place later.
static PUT_OFF: AtomicBool = AtomicBool::new(false);

/// Since when it is put off.
static PUT_OFF_SINCE: OnceLock<Instant> = OnceLock::new();

/// For how long at most: far longer than std needs to come to `main`.
const LONGEST_DELAY: Duration = Duration::from_millis(100);

/// Puts the handler in place, or later if `main` may not have begun. Called once, by `region::init`.
///
/// std has a handler of its own, for its threads' overflows, and installs it before `main`, if there is none by then.
/// So ours comes after it.
pub(super) fn install() -> io::Result<()> {
    #[cfg(not(target_feature = "crt-static"))]
    super::resident::keep_loaded();
    if may_be_before_main()? {
        PUT_OFF_SINCE.get_or_init(Instant::now);
        PUT_OFF.store(true, Ordering::Relaxed);
        return Ok(());
    }
    install_now()
}

/// Whether this may be the main thread before `main`. In a program whose `main` is not Rust's it may seem so for ever.
fn may_be_before_main() -> io::Result<bool> {
    // SAFETY: S8, both take nothing.
    let is_main_thread = unsafe { libc::getpid() == libc::gettid() };
    // std names the main thread when it has come to `main`.
    Ok(is_main_thread && thread::current().name().is_none() && is_std_still_to_come()?)
}

/// Whether std has not installed its handler, nor anybody one of their own.
fn is_std_still_to_come() -> io::Result<bool> {
    signal_action::is_default(libc::SIGSEGV)
}

/// Puts the handler in place that was put off, if it is time. Called before a coroutine begins.
#[inline]
pub(crate) fn catch_up() {
    if PUT_OFF.load(Ordering::Relaxed) {
        install_if_due();
    }
}

#[cold]
fn install_if_due() {
    let late = PUT_OFF_SINCE.get().is_some_and(|since| since.elapsed() >= LONGEST_DELAY);
    let is_due = late || matches!(is_std_still_to_come(), Ok(false));
    if is_due && PUT_OFF.swap(false, Ordering::Relaxed) {
        // The kernel does not refuse it to whom it has granted a look. The guards are there in any case.
        let _ = install_now();
    }
}

fn install_now() -> io::Result<()> {
    for watched in &WATCHED {
        // Kept before ours can run.
        let before = signal_action::get(watched.signal)?;
        watched.keep(before);
        let replaced = replace_action(watched.signal, &our_action())?;
        // Another thread has changed it in between. The first copy is left to leak: a handler may be
        // reading it (S7).
        if replaced.sa_sigaction != before.sa_sigaction || replaced.sa_flags != before.sa_flags {
            watched.keep(replaced);
        }
    }
    Ok(())
}

impl Watched {
    fn keep(&self, action: sigaction) {
        // Ours already, when `init` is called again after it failed: passing on to it never ends.
        if action.sa_sigaction == our_action().sa_sigaction {
            return;
        }
        let action = Box::into_raw(Box::new(action));
        // Release: pairs with the Acquire in `earlier_action`.
        self.earlier.store(action, Ordering::Release);
    }
}

fn our_action() -> sigaction {
    // SAFETY: S8.
    let mut action: sigaction = unsafe { mem::zeroed() };
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    action.sa_sigaction = on_fault as *const () as usize;
    action
}

fn default_action() -> sigaction {
    // SAFETY: S8.
    let mut action: sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = libc::SIG_DFL;
    action
}

/// Sets the signal's action, and tells the one before.
fn replace_action(signal: c_int, action: &sigaction) -> io::Result<sigaction> {
    // SAFETY: S8.
    let mut old: sigaction = unsafe { mem::zeroed() };
    // SAFETY: S8, and the only handler that is ever installed here obeys S6.
    match unsafe { libc::sigaction(signal, action, &mut old) } {
        0 => Ok(old),
        _ => Err(io::Error::last_os_error()),
    }
}

extern "C" fn on_fault(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: S6, the kernel's siginfo_t and ucontext_t.
    let (info_ref, registers) =
        unsafe { (&*info, &(*context.cast::<ucontext_t>()).uc_mcontext.gregs) };
    let stack_pointer = registers[libc::REG_RSP as usize] as usize;
    let place = if info_ref.si_code == SI_KERNEL {
        let trapped = registers[libc::REG_TRAPNO as usize] == X86_TRAP_GP;
        if trapped { None } else { no_room_for_a_signal(stack_pointer) }
    } else {
        overflowed(info_ref, stack_pointer)
    };
    if let Some(place) = place {
        report(&place);
        // SAFETY: S6, abort is allowed here.
        unsafe { libc::abort() };
    }
    // SAFETY: S6, errno is there as long as the thread.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: S6, as above. The interrupted code must find its errno again.
    let saved = unsafe { *errno };
    // SAFETY: S6, these are the handler's own arguments.
    unsafe { pass_on(signal, info, context) };
    // SAFETY: S6, as above.
    unsafe { *errno = saved };
}

/// The slot that has overflowed, if this is what happened.
fn overflowed(info: &siginfo_t, stack_pointer: usize) -> Option<Place> {
    // Not above 0: sent by a process, and without an address.
    if info.si_code <= 0 {
        return None;
    }
    // SAFETY: S6, and a fault's siginfo_t carries an address.
    let addr = unsafe { info.si_addr() } as usize;
    let place = slot::place_of(addr)?;
    let below = place.start - place.class.slot_size();
    let ours = addr < place.limit() && (below..place.end()).contains(&stack_pointer);
    ours.then_some(place)
}

/// The slot that had no room for a signal frame, if this is what happened: the kernel would have put
/// it below the stack pointer.
fn no_room_for_a_signal(stack_pointer: usize) -> Option<Place> {
    let place = slot::place_of(stack_pointer)?;
    let needed = RED_ZONE + altstack::signal_frame();
    (stack_pointer < place.limit() + needed).then_some(place)
}

fn report(place: &Place) {
    let mut line = Line::new();
    match DESCRIBE.get() {
        // SAFETY: S6, we are in the handler, and the fault is in this slot's guard.
        Some(describe) => unsafe { describe(place.ceiling, &mut line) },
        None => line.push_str("coroutine"),
    }
    line.open_tail();
    let (number, unit) = Size(place.class.slot_size()).parts();
    line.push_str(" overflowed its stack (");
    line.push_u64(number);
    line.push_str(unit);
    line.push_str(")\n");
    crate::base::report::write(line.as_bytes());
}

/// Does what would have happened had we never come.
///
/// # Safety
///
/// Inside the handler, with its arguments (S6).
unsafe fn pass_on(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: S6, by the caller's promise.
    let code = unsafe { (*info).si_code };
    // Will the instruction fault once more when we return?
    let faults_again = code > 0 && !(signal == libc::SIGBUS && code == BUS_MCEERR_AO);
    let earlier = earlier_action(signal);
    match earlier.sa_sigaction {
        // The kernel ignores an ignored signal only if somebody sent it; a fault kills all the same.
        libc::SIG_IGN if !faults_again => {}
        libc::SIG_DFL | libc::SIG_IGN => {
            let _ = replace_action(signal, &default_action());
            if !faults_again {
                // SAFETY: S6, raise is allowed here. The signal is blocked until we return.
                unsafe { libc::raise(signal) };
            }
        }
        // SAFETY: S7, neither SIG_DFL nor SIG_IGN: a handler.
        _ => unsafe { call(&earlier, signal, info, context) },
    }
}

fn earlier_action(signal: c_int) -> sigaction {
    let kept = WATCHED.iter().find(|watched| watched.signal == signal);
    // Acquire: pairs with the Release in `keep`.
    let kept = kept.map_or(ptr::null_mut(), |watched| watched.earlier.load(Ordering::Acquire));
    // SAFETY: S7.
    unsafe { kept.as_ref() }.copied().unwrap_or_else(default_action)
}

/// Calls an earlier handler with the signal mask that it has asked for. The mask from before comes
/// back with the return from ours.
///
/// # Safety
///
/// Inside our handler, with its arguments (S6); `earlier` holds a function (S7).
unsafe fn call(earlier: &sigaction, signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: S8, and S6 allows it.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &earlier.sa_mask, ptr::null_mut()) };
    if earlier.sa_flags & libc::SA_NODEFER != 0 {
        // SAFETY: S8.
        let mut this: libc::sigset_t = unsafe { mem::zeroed() };
        // SAFETY: S8, and S6 allows both.
        unsafe {
            libc::sigaddset(&mut this, signal);
            libc::pthread_sigmask(libc::SIG_UNBLOCK, &this, ptr::null_mut());
        }
    }
    if earlier.sa_flags & libc::SA_RESETHAND != 0
        && let Some(watched) = WATCHED.iter().find(|watched| watched.signal == signal)
    {
        watched.earlier.store(ptr::null_mut(), Ordering::Release);
    }
    if earlier.sa_flags & libc::SA_SIGINFO != 0 {
        type WithInfo = extern "C" fn(c_int, *mut siginfo_t, *mut c_void);
        // SAFETY: S7, a handler, and whoever set SA_SIGINFO gave one of this type.
        let handler = unsafe { mem::transmute::<usize, WithInfo>(earlier.sa_sigaction) };
        handler(signal, info, context);
    } else {
        type Plain = extern "C" fn(c_int);
        // SAFETY: S7, a handler, and without SA_SIGINFO it is of this type.
        let handler = unsafe { mem::transmute::<usize, Plain>(earlier.sa_sigaction) };
        handler(signal);
    }
}
