//! What the workers of this process do, seen from outside: the kernel tells how long each thread ran and waited for a CPU,
//! and a timer looks now and then at which function has it.

use std::collections::HashMap;
use std::fs;
use std::os::raw::{c_int, c_void};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Shares from 0 to 1.
pub struct Seen {
    /// What the observed function says.
    pub time: Duration,
    /// Of the CPU time of all threads, in functions that steal or search.
    pub stealing: f64,
    /// Of the workers' time.
    pub asleep: f64,
    pub waiting: f64,
}

/// Runs `f` and looks on.
pub fn observe(workers: usize, f: impl FnOnce() -> Duration) -> Seen {
    let (begin, before) = (Instant::now(), threads());
    watch(true);
    let time = f();
    watch(false);
    let (wall, after) = (begin.elapsed(), threads());
    let (mut ran, mut waited) = (0, 0);
    for (thread, (run, wait)) in after {
        let (run_before, wait_before) = before.get(&thread).copied().unwrap_or_default();
        ran += run - run_before;
        waited += wait - wait_before;
    }
    let (asleep, waiting) = shares(wall, workers, ran, waited);
    Seen { time, stealing: stealing(), asleep, waiting }
}

/// Which shares of their time so many workers were asleep and waited for a CPU, when together they ran and waited for so
/// many nanoseconds.
fn shares(wall: Duration, workers: usize, ran: u64, waited: u64) -> (f64, f64) {
    let all = wall.as_nanos() as f64 * workers as f64;
    let asleep = 1.0 - (ran + waited) as f64 / all;
    (asleep.max(0.0), waited as f64 / all)
}

/// Nanoseconds that each thread but this one has run and has waited for a CPU.
fn threads() -> HashMap<String, (u64, u64)> {
    let own = rustix::thread::gettid().as_raw_nonzero().to_string();
    let all = fs::read_dir("/proc/self/task").expect("Linux shows a process itself");
    all.flatten()
        .map(|thread| thread.file_name().to_string_lossy().into_owned())
        .filter(|thread| *thread != own)
        .filter_map(|thread| {
            let said = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).ok()?;
            let mut numbers = said.split_whitespace().map(|number| number.parse().unwrap_or(0));
            Some((thread, (numbers.next()?, numbers.next()?)))
        })
        .collect()
}

const MOST: usize = 1 << 16;
static ADDRESSES: [AtomicUsize; MOST] = [const { AtomicUsize::new(0) }; MOST];
static TAKEN: AtomicUsize = AtomicUsize::new(0);

/// Notes where the thread is that has just used up another piece of CPU time.
extern "C" fn note(_signal: c_int, _info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel gives a signal's handler the context that it interrupts.
    let context = unsafe { &*context.cast::<libc::ucontext_t>() };
    let address = context.uc_mcontext.gregs[libc::REG_RIP as usize];
    if let Some(place) = ADDRESSES.get(TAKEN.fetch_add(1, Relaxed)) {
        place.store(address as usize, Relaxed);
    }
}

/// Starts the timer, or stops it.
fn watch(on: bool) {
    // SAFETY: all zero is a value of this type: a handler by default, no flags, no signals that are masked.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = note as extern "C" fn(_, _, _) as usize;
    // On the thread's own stack for signals, for a coroutine's may be nearly full.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
    let every = libc::timeval { tv_sec: 0, tv_usec: if on { 1_000 } else { 0 } };
    let timer = libc::itimerval { it_interval: every, it_value: every };
    // SAFETY: the handler touches atomics only; both structures live for the calls.
    let done = unsafe {
        libc::sigaction(libc::SIGPROF, &action, std::ptr::null_mut()) == 0
            && libc::setitimer(libc::ITIMER_PROF, &timer, std::ptr::null_mut()) == 0
    };
    assert!(done, "the kernel refuses a timer");
}

/// The share of what was noted that lies in a function that steals or searches.
fn stealing() -> f64 {
    let taken = TAKEN.load(Relaxed).min(MOST);
    let found = ADDRESSES[..taken].iter().filter(|address| is_stealing(address.load(Relaxed)));
    found.count() as f64 / taken.max(1) as f64
}

fn is_stealing(address: usize) -> bool {
    let mut found = false;
    // Also the functions that are inlined there. It takes the address for one that is returned to, and looks at the one
    // before.
    backtrace::resolve((address + 1) as *mut c_void, |symbol| {
        let name = symbol.name().map(|name| name.to_string()).unwrap_or_default();
        found |= name.contains("steal") || name.contains("Worker::search");
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_neither_runs_nor_waits_is_asleep() {
        let second = Duration::from_secs(1);
        assert_eq!(shares(second, 4, 2_000_000_000, 1_000_000_000), (0.25, 0.25));
        // The kernel counts a little more than there was.
        assert_eq!(shares(second, 1, 1_000_000_001, 0), (0.0, 0.0));
    }

    #[inline(never)]
    fn steal_nothing() -> usize {
        std::hint::black_box(1)
    }

    #[test]
    fn a_function_is_known_by_its_name() {
        assert!(is_stealing(steal_nothing as fn() -> usize as usize));
        assert!(!is_stealing(watch as fn(bool) as usize));
    }
}
