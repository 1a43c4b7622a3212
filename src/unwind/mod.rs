//! Unwinding a coroutine, unless it is unwinding already.
//!
//! A panic that leaves a destructor which another panic runs aborts the process. Whether the running code
//! is in such a destructor std does not tell: [`panicking`](std::thread::panicking) is true of the whole
//! thread, where other coroutines may be suspended in the middle of their panics. So we ask what the
//! unwinder itself goes by. For each function that has something to do when it is unwound, the compiler
//! writes a table: which of its calls may unwind, and whether that is then caught, or passed on, after
//! destructors or without, or ends the process. The last is what it writes of each call in a destructor that
//! a panic runs.
//!
//! So none of a coroutine's frames is in such a destructor, if each passes on what comes from within, up to
//! one that catches it for good. A frame that catches may throw on what it has caught, from another call. Where
//! that one is in such a destructor, the table has it that the catch is, if both are one function's.
//! If the catch is in a function of its own, and that catches everything, the compiler may have written nothing
//! of the call to it. Then there is doubt, unless nothing in the caller's table ends the process.
//!
//! The library's own catches are not in doubt, because it marks them, by frames that have a name:
//!
//! ```text
//!   thrown_on:  what was held is thrown on from here     <- the search goes on
//!     ...         frames of ours: they catch, and wait, but hold no destructors of the user's
//!   held:       what comes from within is held
//!     ...         frames of the user's                   <- asked
//!   caught:     what comes from within goes no further   <- the search ends
//!     ...
//! ```
//!
//! - **U1** What the unwinder gives is good: a frame while it is visited, and as its table null or one that
//!   a compiler has written, in memory that stays.
//! - **M1** A mark calls the function that it is given, once, with its argument.

mod table;

use std::any::Any;
use std::ffi::{c_int, c_void};
use std::mem::{ManuallyDrop, MaybeUninit};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use table::{Fate, Table};

pub(crate) type Payload = Box<dyn Any + Send>;

/// What a mark calls.
type Function = unsafe extern "C-unwind" fn(*mut ());

// See `asm/x86_64.s`, which `goexit` takes in. Each calls `function(argument)`.
unsafe extern "C-unwind" {
    fn coro_caught(argument: *mut (), function: Function);
    fn coro_held(argument: *mut (), function: Function);
    fn coro_thrown_on(argument: *mut (), function: Function);
}

/// Runs `function(argument)` and catches what it is unwound with, for good.
///
/// # Safety
///
/// That of the function.
#[inline]
pub(crate) unsafe fn catch_call(argument: *mut (), function: Function) -> Result<(), Payload> {
    // SAFETY: the caller's word.
    catch_unwind(AssertUnwindSafe(|| unsafe { coro_caught(argument, function) }))
}

/// Runs `f` and catches what it is unwound with; `then` may throw that on.
pub(crate) fn hold<R, S>(f: impl FnOnce() -> R, then: impl FnOnce(Result<R, Payload>) -> S) -> S {
    let held = || catch_unwind(AssertUnwindSafe(|| marked(coro_held, f)));
    marked(coro_thrown_on, || then(held()))
}

/// Runs `f` within a mark.
fn marked<F: FnOnce() -> R, R>(mark: unsafe extern "C-unwind" fn(*mut (), Function), f: F) -> R {
    struct Call<F, R> {
        f: ManuallyDrop<F>,
        value: MaybeUninit<R>,
    }
    unsafe extern "C-unwind" fn run<F: FnOnce() -> R, R>(call: *mut ()) {
        // SAFETY: M1, it is that of `marked`, which waits for us.
        let call = unsafe { &mut *call.cast::<Call<F, R>>() };
        // SAFETY: M1, taken here, once.
        let f = unsafe { ManuallyDrop::take(&mut call.f) };
        call.value.write(f());
    }
    let mut call = Call { f: ManuallyDrop::new(f), value: MaybeUninit::uninit() };
    // SAFETY: M1, a mark calls `run` with this call, once; if it returns the value is there.
    unsafe {
        mark((&raw mut call).cast(), run::<F, R>);
        call.value.assume_init()
    }
}

/// A frame, as the unwinder describes it.
#[repr(C)]
struct Frame {
    opaque: [u8; 0],
}

const GO_ON: c_int = 0; // _URC_NO_REASON
const STOP: c_int = 4; // _URC_NORMAL_STOP

// Level I of the ABI. std links the library that has these.
unsafe extern "C" {
    fn _Unwind_Backtrace(
        visit: extern "C" fn(*mut Frame, *mut c_void) -> c_int,
        argument: *mut c_void,
    ) -> c_int;
    fn _Unwind_GetLanguageSpecificData(frame: *mut Frame) -> *const u8;
    fn _Unwind_GetRegionStart(frame: *mut Frame) -> usize;
    fn _Unwind_GetIPInfo(frame: *mut Frame, is_before: *mut c_int) -> usize;
}

/// Where the search is, on its way from the innermost frame outwards.
enum Search {
    /// At the frame that searches, which does not count.
    Begins,
    /// Among frames that are to be asked.
    Asks,
    /// The same, and the last that has said anything catches.
    Doubts,
    /// Among frames of ours, from `held` to `thrown_on`.
    Skips,
    /// At `caught`: all that were asked pass on.
    Passed,
    /// At one that does not.
    Refused,
}

/// Unwinds the coroutine that the caller runs on, without the panic hook and with what `payload` gives;
/// or returns, where it is not certain that it is not unwinding already. Then `payload` is not called.
// Search and throw are one call, for of another call the caller's table may say something else.
#[cold]
#[inline(never)]
pub(crate) fn unwind_if_first(payload: impl FnOnce() -> Payload) {
    let mut search = Search::Begins;
    // SAFETY: U1, `visit` is given `search`, and does not unwind.
    unsafe { _Unwind_Backtrace(visit, (&raw mut search).cast()) };
    if matches!(search, Search::Passed) {
        resume_unwind(payload());
    }
}

extern "C" fn visit(frame: *mut Frame, search: *mut c_void) -> c_int {
    // SAFETY: U1, it is that of `unwind_if_first`, which waits for us.
    let search = unsafe { &mut *search.cast::<Search>() };
    // SAFETY: U1, it is being visited.
    let function = unsafe { _Unwind_GetRegionStart(frame) };
    let [caught, held, thrown_on] =
        [coro_caught, coro_held, coro_thrown_on].map(|mark| mark as *const () as usize);
    *search = match search {
        Search::Begins => Search::Asks,
        Search::Skips if function == thrown_on => Search::Asks,
        Search::Asks | Search::Doubts if function == held => Search::Skips,
        Search::Asks | Search::Doubts if function == caught => Search::Passed,
        Search::Asks => ask(frame, function, false),
        Search::Doubts => ask(frame, function, true),
        Search::Skips | Search::Passed | Search::Refused => return GO_ON,
    };
    if matches!(search, Search::Passed | Search::Refused) { STOP } else { GO_ON }
}

/// Asks a frame what becomes of an unwinding that comes from the one within it.
fn ask(frame: *mut Frame, function: usize, doubt: bool) -> Search {
    let mut is_before = 0;
    // SAFETY: U1, it is being visited.
    let (table, address) = unsafe {
        (_Unwind_GetLanguageSpecificData(frame), _Unwind_GetIPInfo(frame, &raw mut is_before))
    };
    if table.is_null() {
        return if doubt { Search::Doubts } else { Search::Asks };
    }
    // SAFETY: U1, it is the table of this frame's function.
    let table = unsafe { Table::at(table) };
    // A return address may belong to what follows the call.
    let call = address - usize::from(is_before == 0);
    match table.fate(call.wrapping_sub(function)) {
        Some(Fate::Caught) => Search::Doubts,
        Some(Fate::PassedOn) => Search::Asks,
        Some(Fate::Unhandled) if !doubt => Search::Asks,
        // The call catches everything, and this function may throw on what it is given, from another call.
        // In a destructor that a panic runs that one would be listed.
        Some(Fate::Unhandled | Fate::Unlisted) if doubt && table.refuses_any() == Some(false) => {
            Search::Doubts
        }
        _ => Search::Refused,
    }
}
