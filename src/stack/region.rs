//! The reservation, and fresh slots cut from it.
//!
//! At first use one mapping of 13 TiB is asked for, `PROT_NONE` and `MAP_NORESERVE`. It costs
//! nothing but addresses, of which a process has 128 TiB. Where these are rationed (`ulimit -v`,
//! valgrind) the span is halved until the kernel agrees.
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
//! Opening before marking means that an overflow could, for a moment, not be caught, were the slots
//! in use; they are not. The other order would give page tables to the 13 TiB mapping as a
//! whole, and the kernel would then write all of it into a core dump, page by page.
//!
//! Chunks double from 16 slots to 512, so that a small program opens little and a large one pays
//! for few calls. After guards by `mprotect` the next chunk is one slot: nothing is gained by
//! more, and under `mlockall` opening memory means filling it.

use std::ffi::CStr;
use std::io;
use std::mem;
use std::ops::Range;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use libc::{c_int, c_void};

use super::advise::last_errno;
use super::class::{Class, Size};
use super::guard::{self, Way};
use super::overflow;
use super::slot::{self, Slot};
use super::valgrind;

/// A span of 1 TiB.
const LARGEST_SPAN_SHIFT: usize = 40;

/// A span of 16 MiB: 64 stacks of the default class. A smaller region would be of no use.
const SMALLEST_SPAN_SHIFT: usize = 24;

/// The alignment that the largest slot needs.
const LARGEST_ALIGN: usize = Class::LARGEST_SIZE;

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
    /// Slots to make ready next time.
    chunk: usize,
}

static CURSORS: [Mutex<Cursor>; Class::COUNT] =
    [const { Mutex::new(Cursor { issued: 0, ready: 0, chunk: FIRST_CHUNK }) }; Class::COUNT];

static INIT: Mutex<()> = Mutex::new(());

/// Locks, whatever a panicking thread may have left: none of ours panics half way.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

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
        cursor.prepare(class)?;
    }
    let start = slot::start_of(class, cursor.issued);
    cursor.issued += 1;
    slot::set_issued(class, cursor.issued);
    valgrind::register_stack(start + class.guard_size(), start + class.slot_size());
    // SAFETY: S2, the cursor passes each place once.
    Ok(unsafe { Slot::from_raw(start + class.slot_size()) })
}

impl Cursor {
    /// Makes at least one more slot ready.
    fn prepare(&mut self, class: Class) -> io::Result<()> {
        let capacity = slot::capacity(class);
        if self.ready == capacity {
            return Err(full(class, capacity));
        }
        let size = class.slot_size();
        let largest = (LARGEST_CHUNK_BYTES / size).clamp(1, LARGEST_CHUNK);
        let mut count = self.chunk.min(largest).min(capacity - self.ready);
        let start = slot::start_of(class, self.ready);
        // Where the kernel counts bytes (ulimit -d, strict overcommit), a smaller chunk may pass.
        // SAFETY: S5, these slots are inside the region and not issued.
        while let Err(errno) = unsafe { open(start..start + count * size) } {
            if count == 1 {
                return Err(refused(class, "mprotect", errno));
            }
            count /= 2;
        }
        let guard_at = |i: usize| {
            let start = start + i * size;
            start..start + class.guard_size()
        };
        // SAFETY: S5, these slots are inside the region and not issued.
        let guards = unsafe { guard::install(count, guard_at) };
        self.ready += guards.count;
        self.chunk = match guards.way {
            Way::Marker => count * 2,
            Way::Mprotect => 1,
        };
        match guards.refused {
            Some(errno) if guards.count == 0 => {
                let call = match guards.way {
                    Way::Marker => "madvise(MADV_GUARD_INSTALL)",
                    Way::Mprotect => "mprotect",
                };
                Err(refused(class, call, errno))
            }
            _ => Ok(()),
        }
    }
}

/// Makes memory readable and writable.
///
/// # Safety
///
/// The range is whole slots that nobody owns yet (S5).
unsafe fn open(range: Range<usize>) -> Result<(), c_int> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: S5, by the caller's promise.
    match unsafe { libc::mprotect(range.start as *mut c_void, range.len(), access) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

/// The largest region that can be had: its base and the binary logarithm of a span.
fn reserve() -> io::Result<(usize, usize)> {
    let mut span_shift = LARGEST_SPAN_SHIFT;
    if let Some(limit) = limit_of(libc::RLIMIT_AS) {
        // The program's heap has to grow within the same limit.
        while span_shift > SMALLEST_SPAN_SHIFT && (Class::COUNT << span_shift) > limit / 2 {
            span_shift -= 1;
        }
    }
    loop {
        match map(span_shift) {
            Ok(base) => return Ok((base, span_shift)),
            Err(_) if span_shift > SMALLEST_SPAN_SHIFT => span_shift -= 1,
            Err(errno) => return Err(no_region(errno)),
        }
    }
}

/// Maps thirteen spans, aligned to the largest slot that fits into one.
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
    // A huge page would make the first touch of one stack pay for its neighbours. Refused only by a
    // kernel that has no huge pages.
    // SAFETY: S5, mapped above.
    unsafe { libc::madvise(base as *mut c_void, length, libc::MADV_NOHUGEPAGE) };
    // So that who looks at the process sees what takes all these addresses. Some kernels cannot.
    // SAFETY: S5, mapped above; the name is copied.
    unsafe {
        libc::prctl(libc::PR_SET_VMA, libc::PR_SET_VMA_ANON_NAME, base, length, NAME.as_ptr())
    };
    Ok(base)
}

/// The soft limit on a resource, if there is one.
fn limit_of(resource: libc::__rlimit_resource_t) -> Option<usize> {
    // SAFETY: S8.
    let mut limit: libc::rlimit = unsafe { mem::zeroed() };
    // SAFETY: S8.
    let known = unsafe { libc::getrlimit(resource, &mut limit) } == 0;
    (known && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur as usize)
}

fn no_region(errno: c_int) -> io::Error {
    let least = Size(Class::COUNT << SMALLEST_SPAN_SHIFT);
    let cause = io::Error::from_raw_os_error(errno);
    let mut message = format!("no addresses for stacks ({least} at least): mmap: {cause}");
    if let Some(limit) = limit_of(libc::RLIMIT_AS) {
        message += &format!("; ulimit -v = {}, raise it", limit >> 10);
    }
    // EAGAIN is how mmap says that mlockall(MCL_FUTURE) is in force and the limit met.
    if let (libc::EAGAIN, Some(limit)) = (errno, limit_of(libc::RLIMIT_MEMLOCK)) {
        message += &format!("; memory is locked and ulimit -l = {}, raise it", limit >> 10);
    }
    io::Error::new(io::ErrorKind::OutOfMemory, message)
}

fn full(class: Class, capacity: usize) -> io::Error {
    let size = Size(class.slot_size());
    let mut message =
        format!("no stack of {size}: the region for this size is full ({capacity} slots)");
    if slot::region_length() < Class::COUNT << LARGEST_SPAN_SHIFT {
        let region = Size(slot::region_length());
        message += &format!("; with more addresses than {region} it is larger, see ulimit -v");
    }
    io::Error::new(io::ErrorKind::OutOfMemory, message)
}

fn refused(class: Class, call: &str, errno: c_int) -> io::Error {
    let size = Size(class.slot_size());
    let cause = io::Error::from_raw_os_error(errno);
    let mut message = format!("no stack of {size}: {call}: {cause}");
    let setting = |name: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/vm/{name}")).unwrap_or_default();
        text.trim_end().to_owned()
    };
    if errno == libc::ENOMEM {
        let mappings = setting("max_map_count");
        message +=
            &format!("; vm.max_map_count = {mappings}, raise it or use fewer coroutines at a time");
        if let Some(limit) = limit_of(libc::RLIMIT_DATA) {
            message += &format!("; ulimit -d = {}", limit >> 10);
        }
        if setting("overcommit_memory") == "2" {
            message += "; vm.overcommit_memory = 2 counts each stack in full";
        }
    }
    if errno == libc::EINVAL {
        message += "; guard markers need Linux 6.13 and memory that is not locked";
    }
    io::Error::new(io::ErrorKind::OutOfMemory, message)
}
