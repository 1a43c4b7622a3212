//! A flame graph of where coroutines spend the processor's time, by their names.
//!
//! ```sh
//! RUSTFLAGS=-Cforce-frame-pointers=yes cargo run --release --example flamegraph [-- FILE.svg]
//! ```
//!
//! The kernel sends SIGPROF to whichever thread uses the processor. The handler asks which coroutine it has interrupted,
//! follows the frame pointers up to the root of that coroutine's stack, and leaves both in a buffer. A thread empties the
//! buffer, finds the functions, and counts. A sample has a copy of the name, so the coroutine may have ended by then.

use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::fs::File;
use std::hint::black_box;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use coro::Builder;
use coro::inspect::{self, RunningCoroutine};
use inferno::flamegraph::{self, Options};

/// How many frames of a sample are kept, and how many samples wait to be counted.
const DEPTH: usize = 64;
const WAITING: usize = 512;

#[derive(Clone, Copy)]
struct Sample {
    coroutine: RunningCoroutine,
    /// Where its frames go on, the innermost first; 0 after the last.
    addresses: [usize; DEPTH],
}

/// Nobody waits for these locks: the handler and the thread only try them. That takes one instruction.
static SAMPLES: [Mutex<Option<Sample>>; WAITING] = [const { Mutex::new(None) }; WAITING];
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// The handler: takes no lock that it would have to wait for, allocates nothing, calls nothing of the C library.
extern "C" fn take_sample(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    let Some(coroutine) = inspect::running() else { return };
    // SAFETY: the kernel gives a handler with SA_SIGINFO the context that it has interrupted.
    let registers = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let [pc, sp, bp] = [libc::REG_RIP, libc::REG_RSP, libc::REG_RBP]
        .map(|register| registers[register as usize] as usize);
    let mut addresses = [0; DEPTH];
    addresses[0] = pc;
    // In a program without frame pointers RBP may hold anything.
    let stack = inspect::stack_bounds_at(sp).unwrap_or(0..0);
    let (mut lowest, mut frame) = (sp.max(stack.start), bp);
    for address in &mut addresses[1..] {
        if frame < lowest || !frame.is_multiple_of(8) || frame.saturating_add(16) > stack.end {
            break;
        }
        // SAFETY: both words lie between the stack pointer and the end of the stack that this thread runs on.
        let [callers, goes_on] = unsafe { *(frame as *const [usize; 2]) };
        *address = goes_on;
        (lowest, frame) = (frame + 16, callers);
    }
    let place = &SAMPLES[NEXT.fetch_add(1, Ordering::Relaxed) % WAITING];
    if let Ok(mut place) = place.try_lock() {
        // If the last one was not counted yet, this is lost.
        place.get_or_insert(Sample { coroutine, addresses });
    }
}

/// Has samples taken so often, on the threads' signal stacks, for a coroutine's own may be too small. 0: no more.
fn sample_every(microseconds: i64) -> io::Result<()> {
    let every = libc::timeval { tv_sec: 0, tv_usec: microseconds };
    let timer = libc::itimerval { it_interval: every, it_value: every };
    // SAFETY: zero is a value of this type; both calls get live locals, and the handler may interrupt any code.
    let is_refused = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = take_sample as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        libc::sigaction(libc::SIGPROF, &raw const action, std::ptr::null_mut()) != 0
            || libc::setitimer(libc::ITIMER_PROF, &raw const timer, std::ptr::null_mut()) != 0
    };
    if is_refused { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// How many samples there are of each coroutine's name with each stack.
type Counts = HashMap<(String, [usize; DEPTH]), usize>;

fn empty_the_buffer(counts: &mut Counts) {
    let samples = SAMPLES.iter().filter_map(|place| place.try_lock().ok()?.take());
    for Sample { coroutine, addresses } in samples {
        let place = || format!("spawned at {}", coroutine.spawned_at());
        let name = coroutine.name().map_or_else(place, str::to_owned);
        *counts.entry((name, addresses)).or_default() += 1;
    }
}

/// The functions at an address, the innermost last: ";outer;inlined".
fn functions_at(address: usize) -> String {
    let mut functions = String::new();
    backtrace::resolve(address as *mut c_void, |symbol| {
        functions = symbol.name().map_or(String::new(), |name| format!(";{name:#}")) + &functions;
    });
    functions
}

/// A line for each stack, as `inferno` reads them: "name;outermost;..;innermost count".
fn lines(counts: &Counts) -> Vec<String> {
    let mut functions = HashMap::new();
    let mut lines = Vec::new();
    for ((name, addresses), count) in counts {
        let mut line = name.clone();
        for depth in (0..DEPTH).rev().filter(|depth| addresses[*depth] != 0) {
            // A return address may lie behind its function.
            let address = addresses[depth] - usize::from(depth > 0);
            line += functions.entry(address).or_insert_with(|| functions_at(address));
        }
        lines.push(format!("{line} {count}"));
    }
    lines
}

/// Runs `f`, and writes a flame graph of the coroutines that have run meanwhile.
pub(crate) fn profile(path: &str, f: impl FnOnce()) -> io::Result<()> {
    let is_over = AtomicBool::new(false);
    sample_every(1_000)?;
    let counts = thread::scope(|scope| {
        let counting = scope.spawn(|| {
            let mut counts = Counts::new();
            while !is_over.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(10));
                empty_the_buffer(&mut counts);
            }
            counts
        });
        f();
        is_over.store(true, Ordering::Relaxed);
        counting.join().expect("it does not panic")
    });
    sample_every(0)?;
    let (lines, file) = (lines(&counts), File::create(path)?);
    flamegraph::from_lines(&mut Options::default(), lines.iter().map(String::as_str), file)
        .map_err(io::Error::other)?;
    println!("{path}: {} samples", counts.values().sum::<usize>());
    Ok(())
}

#[inline(never)]
fn hash(rounds: u64) -> u64 {
    (0..rounds).fold(rounds, |sum, n| (sum ^ n).wrapping_mul(0x0100_0000_01b3).rotate_left(7))
}

#[inline(never)]
fn sort(length: u64) -> u64 {
    let mut numbers: Vec<u64> = (0..length).map(|n| hash(n % 10)).collect();
    numbers.sort_unstable();
    numbers[0]
}

/// Coroutines of three kinds, which end soon.
pub(crate) fn work(rounds: u64) {
    for _ in 0..rounds {
        let named = |name: &str| Builder::new().name(name);
        let hasher = named("hasher").spawn(|| hash(100_000)).expect("a coroutine");
        let sorter = named("sorter").spawn(|| sort(10_000)).expect("a coroutine");
        let both = coro::go(|| hash(20_000) ^ sort(2_000));
        black_box([hasher, sorter, both].map(|one| one.join().expect("it does not panic")));
    }
}

#[cfg_attr(test, allow(dead_code))]
fn main() -> io::Result<()> {
    let file = std::env::args().nth(1).unwrap_or_else(|| "flamegraph.svg".into());
    profile(&file, || work(2_000))
}
