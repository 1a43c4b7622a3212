//! The reservation, and fresh slots cut from it.
//!
//! At first use one mapping of 11 TiB is asked for, `PROT_NONE` and `MAP_NORESERVE`. It costs
//! nothing but addresses, of which a process has 128 TiB. If the kernel refuses it (`ulimit -v`,
//! valgrind), the span is halved until the kernel grants it.
//!
//! A class's slots are handed out in address order. They are made ready in chunks:
//!
//! ```text
//!            issued                 ready                ready + chunk
//!  ... used ---+--- guarded, unused --+-- PROT_NONE ------+------------ PROT_NONE ...
//!                                     |   1. mprotect     |
//!                                     |   2. guards       |
//!                                     +-------------------+  then ready moves up
//! ```
//!
//! Step 1 opens the whole chunk at once. It lies against the chunk before it, so the kernel merges
//! both into one mapping. Step 2 marks all the guards, a hundred for each system call. If a step is
//! refused half way, `ready` moves up as far as both have come (S3), and the next attempt repeats
//! what is beyond: both steps may be done twice.
//!
//! Between the two steps the slots have no guard, but they are not in use yet. In the other order the 11 TiB mapping
//! as a whole would get page tables, and the kernel would write all of it into a core dump, page by page.
//!
//! Chunks double from 16 slots to 512, so that a small program opens little and a large one pays
//! for few calls. After guards by `mprotect` the next chunk is one slot: nothing is gained by
//! more, and under `mlockall` opening memory means filling it.

use std::ffi::CStr;
use std::io;
use std::ops::Range;
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use libc::{c_int, c_void};

use super::advise::last_errno;
use super::class::{Class, GUARD};
use super::cold::Run;
use super::guard::{self, Installed, Way};
use super::limits::{self, Refusal};
use super::overflow;
use super::slot::{self, Slot};
use super::valgrind;
use crate::base::lock::lock;

/// A span of 1 TiB.
const LARGEST_SPAN_SHIFT: usize = 40;

/// A span of 16 MiB: 64 stacks of the default class. A smaller region would be of no use.
const SMALLEST_SPAN_SHIFT: usize = 24;

/// The alignment that the largest slot needs.
const LARGEST_ALIGN: usize = Class::LARGEST.slot_size();

/// The region's name in `/proc/self/maps`.
const NAME: &CStr = c"coro stacks";

const FIRST_CHUNK: usize = 16;
const LARGEST_CHUNK: usize = 512;
const LARGEST_CHUNK_BYTES: usize = 128 << 20;

/// How far a class has come.
struct Cursor {
    /// Slots handed out: the first so many.
    issued: usize,
    /// Slots with their guard in place: the first so many.
    ready: usize,
    /// Slots that are accessible: the first so many.
    open: usize,
    /// Slots to make ready next time.
    chunk: usize,
}

static CURSORS: [Mutex<Cursor>; Class::COUNT] =
    [const { Mutex::new(Cursor { issued: 0, ready: 0, open: 0, chunk: FIRST_CHUNK }) };
        Class::COUNT];

static INIT: Mutex<()> = Mutex::new(());

/// Reserves the region and watches over its guards, if that has not been done yet.
///
/// # Errors
///
/// `OutOfMemory` when there are not enough addresses. A later call tries again.
///
/// # Panics
///
/// When `CORO_GUARD` holds nonsense.
#[track_caller]
pub(crate) fn init() -> io::Result<()> {
    if slot::region_length() != 0 {
        return Ok(());
    }
    let _once = lock(&INIT);
    if slot::region_length() != 0 {
        return Ok(());
    }
    guard::read_policy();
    let (base, span_shift) = reserve()?;
    if let Err(error) = overflow::install() {
        let length = Class::COUNT << span_shift;
        // SAFETY: S5, mapped above and not yet published.
        unsafe { libc::munmap(base as *mut c_void, length) };
        return Err(error);
    }
    slot::publish(base, span_shift);
    Ok(())
}

/// A slot that nobody has used before.
///
/// # Errors
///
/// Those of [`init`], and `OutOfMemory` with what refused and which knob to turn. Nothing is lost
/// by it: a later call may succeed.
pub(super) fn fresh(class: Class) -> io::Result<Slot> {
    init()?;
    let mut cursor = lock(&CURSORS[class.index()]);
    if cursor.issued == cursor.ready {
        cursor.prepare(class).map_err(|refusal| refusal.into_error(class))?;
    }
    let index = cursor.issued;
    let start = slot::start_of(class, index);
    cursor.issued += 1;
    slot::set_issued(class, cursor.issued);
    valgrind::register_stack(start + GUARD, start + class.slot_size());
    // SAFETY: S2, the cursor passes each place once.
    Ok(unsafe { Slot::at(class, index) })
}

/// Whether idle blocks may be retired: no guard is a mapping, and memory is not locked.
static MAY_RETIRE: AtomicBool = AtomicBool::new(true);

/// Has no block retired from here on.
pub(super) fn retire_no_more() {
    MAY_RETIRE.store(false, Ordering::Relaxed);
}

/// Gives back the page tables of a run of blocks whose slots are idle and have no pages, and their guards with them.
/// False: they stay as they are.
pub(super) fn retire(run: &Run) -> bool {
    let addresses = run.addresses();
    if !MAY_RETIRE.load(Ordering::Relaxed) || valgrind::is_present() {
        return false;
    }
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
    let (start, length) = (addresses.start as *mut c_void, addresses.len());
    // SAFETY: S1, S4, S5, the region stays mapped there, and the slots are idle and ours.
    let mapped = unsafe { libc::mmap(start, length, libc::PROT_READ, flags, -1, 0) };
    if mapped == libc::MAP_FAILED {
        return false;
    }
    settle_mapping(addresses);
    limits::return_bytes(length);
    true
}

/// Makes a retired run ready again, as far as the kernel lets it: the blocks that are ready, and those that are not.
pub(super) fn revive(class: Class, run: Run) -> (Run, Option<Run>) {
    let addresses = run.addresses();
    // SAFETY: S5, the slots are retired and the caller's.
    let opened = unsafe { open(addresses.clone(), addresses.len()) };
    let guarded = match opened {
        Ok(()) => install_guards(class, addresses.start, run.slots().len()).count,
        Err(_) => 0,
    };
    let (ready, rest) = run.split(guarded);
    let left = rest.addresses().len();
    if left > 0 && opened.is_ok() {
        // It stays open, which does no harm, and is counted again with the next attempt.
        limits::return_bytes(left);
    }
    (ready, (left > 0).then_some(rest))
}

/// Installs the guards of `count` slots of a class that begin at `start`.
fn install_guards(class: Class, start: usize, count: usize) -> Installed {
    let size = class.slot_size();
    let guard_at = |i: usize| start + i * size..start + i * size + GUARD;
    // SAFETY: S5, these slots are inside the region and nobody has them.
    let installed = unsafe { guard::install(count, guard_at) };
    if installed.way == Way::Mprotect {
        retire_no_more();
    }
    installed
}

impl Cursor {
    /// Makes at least one more slot ready.
    fn prepare(&mut self, class: Class) -> Result<(), Refusal> {
        let capacity = slot::capacity(class);
        if self.ready == capacity {
            let largest = slot::region_length() == Class::COUNT << LARGEST_SPAN_SHIFT;
            return Err(Refusal::Full { capacity, largest });
        }
        let size = class.slot_size();
        let largest = (LARGEST_CHUNK_BYTES / size).clamp(1, LARGEST_CHUNK);
        let mut count = self.chunk.min(largest).min(capacity - self.ready);
        // Where bytes are counted (ulimit -d, strict overcommit), a smaller chunk may pass.
        while let Err(refusal) = self.open(class, self.ready + count) {
            if count == 1 {
                return Err(refusal);
            }
            count /= 2;
        }
        let guards = install_guards(class, slot::start_of(class, self.ready), count);
        self.ready += guards.count;
        self.chunk = match guards.way {
            Way::Marker => count * 2,
            Way::Mprotect => 1,
        };
        match guards.refused {
            Some(refusal) if guards.count == 0 => Err(refusal),
            _ => Ok(()),
        }
    }

    /// Makes the first `count` slots accessible, as far as they are not ready.
    fn open(&mut self, class: Class, count: usize) -> Result<(), Refusal> {
        let size = class.slot_size();
        let bytes = count.saturating_sub(self.open) * size;
        let start = slot::start_of(class, self.ready);
        // SAFETY: S5, these slots are inside the region and not issued.
        unsafe { open(start..start + (count - self.ready) * size, bytes)? };
        self.open = self.open.max(count);
        Ok(())
    }
}

/// Makes memory readable and writable, of which so many bytes were not before.
///
/// # Safety
///
/// The range is whole slots that nobody owns yet (S5).
unsafe fn open(range: Range<usize>, bytes: usize) -> Result<(), Refusal> {
    limits::take_bytes(bytes)?;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: S5, by the caller's promise.
    if unsafe { libc::mprotect(range.start as *mut c_void, range.len(), access) } != 0 {
        let errno = last_errno();
        limits::return_bytes(bytes);
        return Err(Refusal::Call { call: "mprotect", errno });
    }
    // If it is refused, these stacks are not in a core file.
    // SAFETY: S5, as above.
    unsafe { libc::madvise(range.start as *mut c_void, range.len(), libc::MADV_DODUMP) };
    Ok(())
}

/// The largest region that can be had: its base and the binary logarithm of a span.
fn reserve() -> io::Result<(usize, usize)> {
    let mut span_shift = LARGEST_SPAN_SHIFT;
    if let Some(share) = limits::share_of_addresses() {
        while span_shift > SMALLEST_SPAN_SHIFT && (Class::COUNT << span_shift) > share {
            span_shift -= 1;
        }
    }
    loop {
        match map(span_shift) {
            Ok(base) => return Ok((base, span_shift)),
            Err(_) if span_shift > SMALLEST_SPAN_SHIFT => span_shift -= 1,
            Err(errno) => {
                return Err(limits::no_region(Class::COUNT << SMALLEST_SPAN_SHIFT, errno));
            }
        }
    }
}

/// Maps eleven spans, aligned to the largest slot that fits into one.
fn map(span_shift: usize) -> Result<usize, c_int> {
    let length = Class::COUNT << span_shift;
    let align = LARGEST_ALIGN.min(1 << span_shift);
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: S5, a new mapping.
    let mapped =
        unsafe { libc::mmap(ptr::null_mut(), length + align, libc::PROT_NONE, flags, -1, 0) };
    if mapped == libc::MAP_FAILED {
        return Err(last_errno());
    }
    let mapped = mapped as usize;
    let base = mapped.next_multiple_of(align);
    let (head, tail) = (mapped..base, base + length..mapped + length + align);
    for extra in [head, tail] {
        if !extra.is_empty() {
            // SAFETY: S5, mapped above. If it is refused, some unused addresses are lost.
            unsafe { libc::munmap(extra.start as *mut c_void, extra.len()) };
        }
    }
    settle_mapping(base..base + length);
    Ok(base)
}

/// Gives a new mapping of the region what the whole of it has, so that the kernel can merge neighbours.
fn settle_mapping(range: Range<usize>) {
    let (start, length) = (range.start, range.len());
    // A huge page would make the first touch of one stack pay for its neighbours. Refused only by a
    // kernel that has no huge pages.
    // SAFETY: S5, the caller has mapped it.
    unsafe { libc::madvise(start as *mut c_void, length, libc::MADV_NOHUGEPAGE) };
    // gdb's `gcore` writes whatever is mapped, also what was never touched. What is in use is opened, and dumped.
    // SAFETY: S5, as above.
    unsafe { libc::madvise(start as *mut c_void, length, libc::MADV_DONTDUMP) };
    // So that who looks at the process sees what takes all these addresses. Some kernels cannot.
    // SAFETY: S5, as above; the name is copied.
    unsafe {
        libc::prctl(libc::PR_SET_VMA, libc::PR_SET_VMA_ANON_NAME, start, length, NAME.as_ptr())
    };
}
