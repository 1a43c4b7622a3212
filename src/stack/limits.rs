//! The limits of the system that stacks share with the rest of the program.
//!
//! Where one is reached, the program's next `malloc` fails or its next thread does not start, and most programs
//! end there. So stacks take a share of each limit and leave the rest. Whoever wants a stack beyond the share
//! is refused, as if by the kernel, and waits for one that is given back.
//!
//! | limit | what of it stacks take | their share |
//! |---|---|---|
//! | `vm.max_map_count` | two mappings for each slot whose guard is an `mprotect` | all but an eighth, and all but 2,000 |
//! | `RLIMIT_DATA` | the bytes of each slot that was made accessible | half |
//! | `RLIMIT_AS` | the region | half |
//!
//! A limit can change while the program runs, so each is asked for anew where it decides.

use std::fs;
use std::io;
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};

use libc::c_int;

use super::class::{Class, Size};

/// What `vm.max_map_count` is where nobody has changed it, and what is assumed where it cannot be read.
const USUAL_MAP_COUNT: usize = 65_530;

/// How many mappings the program gets at least, where there are twice as many.
const MAPPINGS_LEFT: usize = 2_000;

/// How many mappings a guard by `mprotect` takes: itself, and the stack above it.
const MAPPINGS_EACH: usize = 2;

/// The mappings that guards have taken.
static MAPPINGS: AtomicUsize = AtomicUsize::new(0);

/// The share of mappings when it was last looked at; 0 before.
static MAPPINGS_SHARE: AtomicUsize = AtomicUsize::new(0);

/// The bytes of slots that were made accessible.
static BYTES: AtomicUsize = AtomicUsize::new(0);

/// Why there is no further stack.
#[derive(Clone, Copy, Debug)]
pub(super) enum Refusal {
    /// The kernel refuses `call`.
    Call { call: &'static str, errno: c_int },
    /// The stacks have their share of the mappings.
    Mappings,
    /// The stacks have their share of `RLIMIT_DATA`, which is so many bytes.
    Data { limit: usize },
    /// The class has so many slots, and all of them were handed out.
    Full { capacity: usize, largest: bool },
}

/// Adds `amount` to what is taken, if that is within the share.
fn take(taken: &AtomicUsize, amount: usize, share: usize) -> bool {
    // Relaxed: the numbers guard nothing but themselves.
    let within = |now: usize| now.checked_add(amount).filter(|&then| then <= share);
    taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).is_ok()
}

/// Takes what one more guard by `mprotect` needs.
pub(super) fn take_mappings() -> Result<(), Refusal> {
    // The file is read when the number that it had last is used up.
    if take(&MAPPINGS, MAPPINGS_EACH, MAPPINGS_SHARE.load(Ordering::Relaxed)) {
        return Ok(());
    }
    let share = share_of_mappings(max_map_count());
    MAPPINGS_SHARE.store(share, Ordering::Relaxed);
    if take(&MAPPINGS, MAPPINGS_EACH, share) { Ok(()) } else { Err(Refusal::Mappings) }
}

/// Returns what [`take_mappings`] took for a guard that was not made.
pub(super) fn return_mappings() {
    MAPPINGS.fetch_sub(MAPPINGS_EACH, Ordering::Relaxed);
}

/// Takes so many bytes of memory that can be written to.
pub(super) fn take_bytes(count: usize) -> Result<(), Refusal> {
    match limit_of(libc::RLIMIT_DATA) {
        Some(limit) if !take(&BYTES, count, limit / 2) => Err(Refusal::Data { limit }),
        Some(_) => Ok(()),
        None => {
            BYTES.fetch_add(count, Ordering::Relaxed);
            Ok(())
        }
    }
}

/// Returns what [`take_bytes`] took.
pub(super) fn return_bytes(count: usize) {
    BYTES.fetch_sub(count, Ordering::Relaxed);
}

/// How many bytes of addresses the region may take, if they are limited.
pub(super) fn share_of_addresses() -> Option<usize> {
    limit_of(libc::RLIMIT_AS).map(|limit| limit / 2)
}

/// The share of so many mappings.
pub(super) const fn share_of_mappings(max: usize) -> usize {
    let eighth = max / 8;
    let left = if eighth > MAPPINGS_LEFT { eighth } else { MAPPINGS_LEFT };
    let (share, half) = (max.saturating_sub(left), max / 2);
    if share > half { share } else { half }
}

fn max_map_count() -> usize {
    setting("max_map_count").parse().unwrap_or(USUAL_MAP_COUNT)
}

/// What `/proc/sys/vm` says; nothing where it does not.
fn setting(name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/sys/vm/{name}")).unwrap_or_default();
    text.trim_end().to_owned()
}

/// The soft limit on a resource, if there is one.
fn limit_of(resource: libc::__rlimit_resource_t) -> Option<usize> {
    // SAFETY: S8.
    let mut limit: libc::rlimit = unsafe { mem::zeroed() };
    // SAFETY: S8.
    let known = unsafe { libc::getrlimit(resource, &mut limit) } == 0;
    (known && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur as usize)
}

impl Refusal {
    /// The error that says so, and which knob to turn.
    pub(super) fn into_error(self, class: Class) -> io::Error {
        let size = Size(class.slot_size());
        let why = match self {
            Refusal::Call { call, errno } => call_refused(call, errno),
            Refusal::Mappings => format!(
                "stacks have {} of vm.max_map_count = {} mappings, two each, and the program needs the rest; \
                 raise it, use fewer coroutines at a time, or use Linux 6.13, which needs none",
                MAPPINGS.load(Ordering::Relaxed),
                max_map_count()
            ),
            Refusal::Data { limit } => format!(
                "stacks have their half of ulimit -d = {}, and the program needs the rest; raise it or use \
                 fewer coroutines at a time",
                limit >> 10
            ),
            Refusal::Full { capacity, largest } => {
                let full = format!("the region for this size is full ({capacity} slots)");
                match largest {
                    true => full,
                    false => full + "; with more addresses it is larger, see ulimit -v",
                }
            }
        };
        io::Error::new(io::ErrorKind::OutOfMemory, format!("no stack of {size}: {why}"))
    }
}

fn call_refused(call: &str, errno: c_int) -> String {
    let mut message = format!("{call}: {}", io::Error::from_raw_os_error(errno));
    if errno == libc::ENOMEM {
        message += &format!(
            "; vm.max_map_count = {}, raise it or use fewer coroutines at a time",
            max_map_count()
        );
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
    message
}

/// The error where not even the smallest region, of `least` bytes, is to be had.
pub(super) fn no_region(least: usize, errno: c_int) -> io::Error {
    let least = Size(least);
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
