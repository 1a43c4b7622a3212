//! The guard: the inaccessible low end of a slot.
//!
//! There are two ways to make one.
//!
//! - A **guard marker** (`MADV_GUARD_INSTALL`, Linux 6.13) is an entry in the page table that says
//!   "fault here". It is no mapping of its own: a million guarded slots are still one mapping. It
//!   survives `MADV_DONTNEED` on its neighbours. It survives `fork`, which copies the page tables of a private mapping.
//! - **`mprotect(PROT_NONE)`** works everywhere, but cuts the mapping: each guard adds two, and the
//!   kernel stops at `vm.max_map_count` of them, 65,530 unless it is told otherwise (see `limits`).
//!
//! Markers are tried first. `EINVAL` means that the kernel is older, or that the memory is locked
//! (`mlockall`), which excludes markers; these slots then get the second kind. The choice is made
//! anew for each chunk, since locking can come and go. `CORO_GUARD=mprotect` in the environment
//! forces the second way, `CORO_GUARD=madvise` the first.

use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};

use libc::{c_int, c_void};

use super::advise::{advise, last_errno};
use super::limits::{self, Refusal};
use crate::base::env::variable;

/// `MADV_GUARD_INSTALL` of `linux/mman.h`, for which libc has no name.
const MADV_GUARD_INSTALL: c_int = 102;

/// Which ways are allowed.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Policy {
    Either,
    Marker,
    Mprotect,
}

static POLICY: AtomicU8 = AtomicU8::new(Policy::Either as u8);

/// Reads the environment. Before the first guard.
///
/// # Panics
///
/// When the variable holds something else than it may.
#[track_caller]
pub(super) fn read_policy() {
    let policy = variable("CORO_GUARD", "madvise or mprotect", |value| match value {
        "madvise" => Some(Policy::Marker),
        "mprotect" => Some(Policy::Mprotect),
        _ => None,
    });
    let policy = policy.unwrap_or(Policy::Either);
    // Relaxed: read by threads that have seen the region, which is published later.
    POLICY.store(policy as u8, Ordering::Relaxed);
}

/// How a guard was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Marker,
    Mprotect,
}

/// What [`install`] has reached.
pub(super) struct Installed {
    /// So many leading guards are in place.
    pub(super) count: usize,
    pub(super) way: Way,
    /// Why there are not more of them.
    pub(super) refused: Option<Refusal>,
}

/// Makes the ranges `guard(0)`, .. `guard(wanted - 1)` inaccessible, in this order.
///
/// # Safety
///
/// The ranges are whole pages of slots that nobody owns yet (S5).
pub(super) unsafe fn install(wanted: usize, guard: impl Fn(usize) -> Range<usize>) -> Installed {
    let policy = POLICY.load(Ordering::Relaxed);
    if policy != Policy::Mprotect as u8 {
        // SAFETY: S5, by the caller's promise.
        let (count, errno) = match unsafe { advise(MADV_GUARD_INSTALL, wanted, &guard) } {
            Ok(()) => (wanted, None),
            Err(refused) => (refused.done, Some(refused.errno)),
        };
        // What was marked before the refusal is good. If nothing was, the other way may work.
        let excluded = count == 0 && errno == Some(libc::EINVAL);
        if !excluded || policy == Policy::Marker as u8 {
            let call = "madvise(MADV_GUARD_INSTALL)";
            let refused = errno.map(|errno| Refusal::Call { call, errno });
            return Installed { count, way: Way::Marker, refused };
        }
    }
    for count in 0..wanted {
        // SAFETY: S5, by the caller's promise.
        if let Err(refusal) = unsafe { protect(guard(count)) } {
            return Installed { count, way: Way::Mprotect, refused: Some(refusal) };
        }
    }
    Installed { count: wanted, way: Way::Mprotect, refused: None }
}

/// Makes one range inaccessible by `mprotect`.
///
/// # Safety
///
/// As for [`install`].
unsafe fn protect(guard: Range<usize>) -> Result<(), Refusal> {
    limits::take_mappings()?;
    // SAFETY: S5, by the caller's promise.
    match unsafe { libc::mprotect(guard.start as *mut c_void, guard.len(), libc::PROT_NONE) } {
        0 => Ok(()),
        _ => {
            let errno = last_errno();
            limits::return_mappings();
            Err(Refusal::Call { call: "mprotect", errno })
        }
    }
}
