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
//! one that catches it for good. Of the frames beyond one that catches, as a rule, there is no telling: of a
//! call that catches everything the compiler writes nothing, and yet what was caught may be thrown on.
//! But this crate marks its own catches, by frames that have a name:
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
//! The tables are the "language-specific data" of the Itanium C++ ABI, level II, in the layout that GCC gave
//! them (`unwind-pe.h`, `except_tab.h`) and LLVM shares. std's personality routine reads the same ones.
//!
//! - **U1** What the unwinder gives is good: a frame while it is visited, and as its table null or such a
//!   one, written by a compiler, in memory that stays.
//! - **M1** A mark calls the function that it is given, once, with its argument.

use std::any::Any;
use std::ffi::{c_int, c_void};
use std::mem::{ManuallyDrop, MaybeUninit};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

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
        Search::Asks if function == held => Search::Skips,
        Search::Asks if function == caught => Search::Passed,
        Search::Asks if !passes_on(frame, function) => Search::Refused,
        _ => return GO_ON,
    };
    if matches!(search, Search::Passed | Search::Refused) { STOP } else { GO_ON }
}

/// Whether the frame passes on what comes from the one within it.
fn passes_on(frame: *mut Frame, function: usize) -> bool {
    let mut is_before = 0;
    // SAFETY: U1, it is being visited.
    let (table, address) = unsafe {
        (_Unwind_GetLanguageSpecificData(frame), _Unwind_GetIPInfo(frame, &raw mut is_before))
    };
    // A return address may belong to what follows the call.
    let call = address - usize::from(is_before == 0);
    table.is_null() || Table { next: table }.passes_on(call.wrapping_sub(function)) == Some(true)
}

/// A place in a table, from where it is read on.
#[derive(Clone, Copy)]
struct Table {
    next: *const u8,
}

/// How a number is written (`DW_EH_PE_*`).
#[derive(Clone, Copy, PartialEq, Eq)]
struct Encoding(u8);

impl Encoding {
    const OMITTED: Encoding = Encoding(0xff);
}

impl Table {
    /// Whether an unwinding that comes from the call at `offset` in the function is passed on. `None`: the table
    /// is not as we know them. To be called at its beginning.
    fn passes_on(mut self, offset: usize) -> Option<bool> {
        let landing_base = Encoding(self.byte());
        if landing_base != Encoding::OMITTED {
            self.number(landing_base)?;
        }
        if Encoding(self.byte()) != Encoding::OMITTED {
            self.uleb128(); // where the types are that a catch is for
        }
        let encoding = Encoding(self.byte());
        let length = self.uleb128();
        let actions = self.skipped(length);
        while self.next < actions.next {
            let start = self.number(encoding)?;
            let length = self.number(encoding)?;
            let landing_pad = self.number(encoding)?;
            let action = self.uleb128();
            if (start..start + length).contains(&offset) {
                // Without a landing pad, or an action there, or with a first action of zero: for destructors
                // at most. Other actions are those of a catch, and of a filter, which lets nothing pass.
                let nothing = landing_pad == 0 || action == 0;
                return Some(nothing || actions.skipped(action - 1).byte() == 0);
            }
        }
        // Not meant to unwind.
        Some(false)
    }

    fn skipped(self, length: usize) -> Table {
        Table { next: self.next.wrapping_add(length) }
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        // SAFETY: U1, within the table as it describes itself.
        let bytes = unsafe { self.next.cast::<[u8; N]>().read() };
        *self = self.skipped(N);
        bytes
    }

    fn byte(&mut self) -> u8 {
        let [byte] = self.bytes();
        byte
    }

    /// An unsigned number; a sum with an address is not among those that we need.
    fn number(&mut self, encoding: Encoding) -> Option<usize> {
        Some(match encoding.0 {
            0x00 | 0x04 => usize::from_le_bytes(self.bytes()),
            0x01 => self.uleb128(),
            0x02 => u16::from_le_bytes(self.bytes()).into(),
            0x03 => u32::from_le_bytes(self.bytes()) as usize,
            _ => return None,
        })
    }

    /// Seven bits a byte, the least significant first.
    fn uleb128(&mut self) -> usize {
        let (mut value, mut bits) = (0, 0);
        loop {
            let byte = self.byte();
            value |= usize::from(byte & 0x7f).unbounded_shl(bits);
            bits += 7;
            if byte & 0x80 == 0 {
                return value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSES: Option<bool> = Some(true);
    const ENDS: Option<bool> = Some(false);

    /// Actions: none but to clean up, at 1; a catch, at 3; a filter, at 5.
    const ACTIONS: [u8; 6] = [0, 0, 1, 0, 0x7f, 0];
    const CLEANUP: u64 = 1;
    const CATCH: u64 = 3;
    const FILTER: u64 = 5;

    /// Start, length, landing pad and action, as in a function of 1,000 bytes.
    const SITES: [(u64, u64, u64, u64); 6] = [
        (10, 5, 700, 0),
        (20, 5, 0, 0),
        (25, 5, 700, CATCH),
        (30, 200, 700, FILTER),
        (300, 5, 700, CLEANUP),
        (305, 5, 0, CATCH),
    ];

    fn uleb128(mut value: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while value > 0x7f {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    }

    fn encoded(encoding: u8, value: u64) -> Vec<u8> {
        match encoding {
            0x01 => uleb128(value),
            0x02 => (value as u16).to_le_bytes().into(),
            0x03 => (value as u32).to_le_bytes().into(),
            _ => value.to_le_bytes().into(),
        }
    }

    fn table(beginning: &[u8], encoding: u8) -> Vec<u8> {
        let number = |value| encoded(encoding, value);
        let sites: Vec<u8> = SITES
            .iter()
            .flat_map(|&(start, length, pad, action)| {
                [number(start), number(length), number(pad), uleb128(action)].concat()
            })
            .collect();
        let length = uleb128(sites.len() as u64);
        [beginning, &[encoding], &length, &sites, &ACTIONS].concat()
    }

    fn ask(table: &[u8], offset: usize) -> Option<bool> {
        Table { next: table.as_ptr() }.passes_on(offset)
    }

    #[test]
    fn a_table_says_of_each_call_whether_it_is_passed_on() {
        // No landing base and no types; types 3, or 300, bytes on; a landing base.
        let beginnings: [&[u8]; 4] =
            [&[0xff, 0xff], &[0xff, 0x9b, 3], &[0xff, 0x9b, 0xac, 2], &[0x01, 0x85, 9, 0xff]];
        for beginning in beginnings {
            for encoding in [0x00, 0x01, 0x02, 0x03, 0x04] {
                let table = table(beginning, encoding);
                let expected = [
                    (0..10, ENDS),
                    (10..15, PASSES),
                    (15..20, ENDS),
                    (20..25, PASSES),
                    (25..230, ENDS),
                    (230..300, ENDS),
                    (300..310, PASSES),
                    (310..1000, ENDS),
                ];
                for (offsets, expected) in expected {
                    for offset in offsets {
                        let found = ask(&table, offset);
                        assert_eq!(found, expected, "{beginning:?}, {encoding}, {offset}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_table_in_another_encoding_says_nothing() {
        for encoding in [0x09, 0x0b, 0x1b, 0x9b, 0xff] {
            assert_eq!(ask(&table(&[0xff, 0xff], encoding), 12), None);
            assert_eq!(ask(&table(&[encoding & 0x7f, 0, 0xff], 0x01), 12), None);
        }
    }
}
