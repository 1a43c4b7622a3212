//! What every target does at its start, and around each input: a watchdog against hangs, a panic hook
//! that lets the library's documented panics pass, and the sanitizer's options.

use std::ffi::c_char;
use std::panic;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use coro::{JoinHandle, Runtime, inspect};

/// How long one input may take. Normally it is a millisecond.
const LIMIT: Duration = Duration::from_secs(20);

/// Panics that the library's documentation announces, and that programs provoke.
const DOCUMENTED: [&str; 2] =
    ["a coroutine was resumed after its end", "a coroutine of this scope panicked"];

/// The input that is being run, counted from 1; 0 while none is.
static RUNNING: AtomicU64 = AtomicU64::new(0);

/// To be called once, before the first input.
pub fn init() {
    let aborting = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let message = info.payload_as_str().unwrap_or_default();
        if !DOCUMENTED.contains(&message) {
            aborting(info);
        }
    }));
    thread::Builder::new().name("watchdog".into()).spawn(watch).expect("a thread for the watchdog");
}

/// An input that is being run, until it is dropped.
pub struct Input(());

impl Input {
    /// Begins with an input.
    #[must_use]
    pub fn begin() -> Input {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        RUNNING.store(COUNT.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        Input(())
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        RUNNING.store(0, Ordering::Relaxed);
    }
}

/// Tasks and a thread that play at the same time.
pub struct Players {
    tasks: Vec<JoinHandle<()>>,
    thread: thread::JoinHandle<()>,
}

impl Players {
    /// Has up to `most` players take their steps in `world`, the last of them on a thread, the others on a runtime of one
    /// to three workers, which stays. Cancels up to four tasks in between.
    pub fn start<W: Send + Sync + 'static, S: Send + 'static>(
        workers: u8,
        world: &Arc<W>,
        mut bodies: Vec<Vec<S>>,
        most: usize,
        cancels: &[u8],
        play: fn(&Arc<W>, &[S]),
    ) -> Players {
        static RUNTIMES: [OnceLock<Runtime>; 3] = [const { OnceLock::new() }; 3];
        let workers = usize::from(workers % 3);
        let make = || Runtime::builder().workers(workers + 1).build().unwrap();
        let runtime = RUNTIMES[workers].get_or_init(make);
        bodies.truncate(most);
        let on_thread = bodies.pop().unwrap_or_default();
        let tasks: Vec<_> = bodies
            .into_iter()
            .map(|steps| {
                let world = Arc::clone(world);
                runtime.go(move || play(&world, &steps))
            })
            .collect();
        let thread = {
            let world = Arc::clone(world);
            thread::spawn(move || play(&world, &on_thread))
        };
        for &index in cancels.iter().take(4) {
            thread::yield_now();
            if let Some(task) = tasks.get(usize::from(index)) {
                task.cancel();
            }
        }
        thread::yield_now();
        Players { tasks, thread }
    }

    /// Waits for the end of all, which is no panic.
    pub fn join(self) {
        for task in self.tasks {
            if let Err(error) = task.join() {
                assert!(error.is_cancelled(), "{error}");
            }
        }
        self.thread.join().expect("the thread's steps do not panic");
    }
}

/// Waits until no stack carries a coroutine, and every worker is back on its own.
///
/// A task is done, and joined, a moment before its worker has left its stack. LeakSanitizer, which may look
/// after each input, takes the stack that a thread is on for all there is of that thread.
pub fn settle() {
    while inspect::metrics().stacks_in_use > 0 || inspect::metrics().live > 0 {
        thread::yield_now();
    }
}

/// Aborts when one input runs for longer than [`LIMIT`]. A clock is what a watchdog is about, so this is
/// the one place that sleeps.
fn watch() {
    let mut seen = (0, Instant::now());
    loop {
        thread::sleep(Duration::from_millis(500));
        let running = RUNNING.load(Ordering::Relaxed);
        if running != seen.0 {
            seen = (running, Instant::now());
        } else if running != 0 && seen.1.elapsed() > LIMIT {
            eprintln!("input {running} hangs: {:?}", inspect::metrics());
            process::abort();
        }
    }
}

/// Asked by AddressSanitizer at its start; what `ASAN_OPTIONS` says has precedence.
///
/// With detection of use after return, each coroutine gets a faked stack beside its own. To have it taken
/// down, the last switch from a coroutine has to say that it is the last, and corosensei's does not.
///
/// The sanitizer gives each thread an alternate signal stack, and at the thread's end unmaps the one that is
/// in force then. A worker's is the library's by that time, so the sanitizer's own would stay for ever.
#[unsafe(no_mangle)]
pub extern "C" fn __asan_default_options() -> *const c_char {
    c"detect_stack_use_after_return=0:use_sigaltstack=0".as_ptr()
}

/// Asked by LeakSanitizer, which looks at threads that are just beginning or ending, too. What it is not to
/// report is named by the function that allocates it. It gets the names from `llvm-symbolizer`, without which
/// it reports both.
///
/// - The library may have made a thread that has had no turn yet, one for blocking calls say. Nothing refers to
///   what that thread is to take over.
/// - The C library keeps a list of the thread-locals that a thread has to destroy. While a thread ends, it
///   refers to the rest of the list from a register only.
#[unsafe(no_mangle)]
pub extern "C" fn __lsan_default_suppressions() -> *const c_char {
    c"leak:coro::thread::spawn\nleak:__cxa_thread_atexit_impl\n".as_ptr()
}
