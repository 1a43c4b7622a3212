//! The threads that blocking calls run on.
//!
//! Calls wait in one queue, and whoever is free takes the oldest. A call for which nobody is free gets
//! another thread, up to a limit; a thread that has nothing to do for a while ends. Where the system
//! refuses a thread, the call waits for one of those that there are. Where there is none it is refused,
//! so that no call ever waits for nobody: threads are started, calls queued and threads ended under one
//! lock, and a thread ends only when the queue is empty.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, Once, OnceLock, PoisonError};
use std::time::Duration;

use crate::base::env::count;
use crate::base::lock;
use crate::base::report;
use crate::fork;
use crate::task::{TaskRef, Waiter};
use crate::thread;

/// How long a thread waits for another call before it ends.
const IDLE: Duration = Duration::from_secs(1);
const DEFAULT_LIMIT: usize = 500;
const HIGHEST_LIMIT: usize = 10_000;
/// What to look at when a thread is refused.
pub(super) const KNOBS: &str =
    "see ulimit -u, ulimit -v, pids.max of the cgroup and kernel.threads-max";

/// A call on its way.
pub(super) struct BlockingCall {
    pub(super) run: unsafe fn(*const ()),
    pub(super) job: *const (),
    /// Is woken when it has run.
    pub(super) caller: Waiter<TaskRef>,
}

// SAFETY: B1, what the job consists of is `Send`.
unsafe impl Send for BlockingCall {}

impl BlockingCall {
    fn run(self) {
        // SAFETY: B1.
        unsafe { (self.run)(self.job) };
        if fork::is_child() {
            fork::end("a blocking call");
        }
        self.caller.wake();
    }
}

struct ThreadPool {
    queue: VecDeque<BlockingCall>,
    threads: usize,
    /// Threads that wait for a call, or have been called or started and have taken none yet.
    free: usize,
    /// How many were ever started.
    started: usize,
}

static POOL: Mutex<ThreadPool> =
    Mutex::new(ThreadPool { queue: VecDeque::new(), threads: 0, free: 0, started: 0 });
static CALLED: Condvar = Condvar::new();

fn lock() -> MutexGuard<'static, ThreadPool> {
    lock::lock(&POOL)
}

/// Has a call run on one of the threads.
///
/// # Errors
///
/// What the system says where it grants not even one thread.
///
/// # Panics
///
/// When `BLOCKING_MAX_THREADS` is nonsense.
pub(super) fn submit(call: BlockingCall) -> io::Result<()> {
    let limit = limit();
    let mut pool = lock();
    let mut refused = None;
    if pool.queue.len() >= pool.free && pool.threads < limit {
        match pool.start_thread() {
            Err(error) if pool.threads == 0 => return Err(error),
            Err(error) => refused = Some((error, pool.threads)),
            Ok(()) => {}
        }
    }
    pool.queue.push_back(call);
    drop(pool);
    CALLED.notify_one();
    if let Some((error, threads)) = refused {
        report_refusal(&error, threads);
    }
    Ok(())
}

impl ThreadPool {
    /// The thread has its first look at the queue when the caller has let go of the lock.
    fn start_thread(&mut self) -> io::Result<()> {
        let name = format!("blocking-{}", self.started + 1);
        thread::spawn(&name, serve)?;
        self.started += 1;
        self.threads += 1;
        self.free += 1;
        Ok(())
    }
}

thread_local! {
    static SERVES: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling thread is one of those that blocking calls run on.
pub(crate) fn is_here() -> bool {
    SERVES.get()
}

/// What each of the threads does.
fn serve() {
    SERVES.set(true);
    let mut pool = lock();
    loop {
        pool.free -= 1;
        while let Some(call) = pool.queue.pop_front() {
            drop(pool);
            call.run();
            pool = lock();
        }
        pool.free += 1;
        let (woken, wait) = CALLED.wait_timeout(pool, IDLE).unwrap_or_else(PoisonError::into_inner);
        pool = woken;
        if wait.timed_out() && pool.queue.is_empty() {
            pool.free -= 1;
            pool.threads -= 1;
            return;
        }
    }
}

#[cold]
fn report_refusal(error: &io::Error, threads: usize) {
    static REPORT: Once = Once::new();
    REPORT.call_once(|| {
        report::line(format_args!(
            "coro: no further thread for blocking calls: {error}; they wait for one of {threads}; \
             {KNOBS}"
        ));
    });
}

/// The most threads that there may be: `BLOCKING_MAX_THREADS`, or 500.
fn limit() -> usize {
    static LIMIT: OnceLock<usize> = OnceLock::new();
    *LIMIT.get_or_init(|| count("BLOCKING_MAX_THREADS", HIGHEST_LIMIT).unwrap_or(DEFAULT_LIMIT))
}
