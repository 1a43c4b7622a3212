//! Code that blocks its thread, run where that harms nobody.
//!
//! - **B1** Whoever sends a job does not go on, and does not unwind, before it has come back.

mod pool;

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::fork;
use crate::task::{ParkReason, calling_waiter, check_caller, current_task, park_undisturbed};
use pool::BlockingCall;

pub(crate) use pool::is_here;

/// What goes to the other thread and comes back. It lies on the caller's stack, and the caller does
/// not go on before it has come back.
struct StackJob<F, T> {
    work: UnsafeCell<Option<F>>,
    outcome: UnsafeCell<Option<Result<T, Box<dyn Any + Send>>>>,
    /// The other thread has nothing more to do with it.
    back: AtomicBool,
}

impl<F: FnOnce() -> T + Send, T: Send> StackJob<F, T> {
    fn new(work: F) -> StackJob<F, T> {
        StackJob {
            work: UnsafeCell::new(Some(work)),
            outcome: UnsafeCell::new(None),
            back: AtomicBool::new(false),
        }
    }

    /// Has the job run on another thread, and waits until it has come back.
    fn send(&self) {
        let job = (&raw const *self).cast();
        let call = BlockingCall { run: Self::run, job, caller: calling_waiter() };
        if let Err(error) = pool::submit(call) {
            panic!("no thread for a blocking call: {error}; {}", pool::KNOBS);
        }
        // Acquire: pairs with `run`.
        while !self.back.load(Ordering::Acquire) {
            park_undisturbed(ParkReason::BLOCKING);
        }
    }

    /// # Safety
    ///
    /// B1, `job` is the address of one that was sent. It is run once.
    unsafe fn run(job: *const ()) {
        // SAFETY: B1.
        let job = unsafe { &*job.cast::<Self>() };
        // SAFETY: B1, one thread at a time.
        let work = unsafe { (*job.work.get()).take() }.expect("it is run once");
        let outcome = catch_unwind(AssertUnwindSafe(work));
        // SAFETY: B1, as above.
        unsafe { *job.outcome.get() = Some(outcome) };
        // Release: pairs with `send`. From here on the caller may go on, and take the job with it.
        job.back.store(true, Ordering::Release);
    }
}

/// Runs `f` on a thread where it may block, and suspends the calling coroutine meanwhile: for system
/// calls that wait, for locks that are held for long, for long computations. On a plain thread it
/// just calls `f`.
///
/// The threads are the library's own, as many as there are calls at the same time. They are made when they
/// are needed and end when they are idle for a second. There are up to 500, or as many as
/// `BLOCKING_MAX_THREADS` says, 1 to 10,000; what is called beyond that, or where the system grants no
/// more threads, waits its turn, first come, first served. Inside of `f`, [`tls`](crate::tls) is that of
/// the other thread, which is none of a runtime's: [`go`](crate::go), [`Builder`](crate::Builder) and
/// [`scope`](crate::scope()) start coroutines on the default runtime there. What is [attached](crate::hook) to the
/// coroutine is not called there: the state that it stands for stays behind.
///
/// What `f` borrows stays borrowed until `f` has returned. So neither cancelling the coroutine nor a
/// [`timeout`](crate::timeout) cuts this short; both take effect at the next suspension.
///
/// # Panics
///
/// With whatever `f` panics with. Where there is no thread and the system grants none; then `f` is dropped
/// unrun. When `BLOCKING_MAX_THREADS` is nonsense. In a process that was forked from one that uses
/// coroutines, unless on a plain thread.
///
/// # Examples
///
/// ```
/// coro::go(|| {
///     let path = String::from("/proc/self/comm");
///     let name = coro::blocking(|| std::fs::read_to_string(&path).unwrap());
///     assert!(!name.is_empty());
/// })
/// .join()
/// .unwrap();
/// ```
///
/// What is `Send` and not `Sync`, such as a receiver, is lent by a mutable reference:
///
/// ```
/// let (sender, mut receiver) = std::sync::mpsc::channel();
/// let received = coro::go(move || {
///     let receiver = &mut receiver;
///     coro::blocking(move || receiver.recv())
/// });
/// sender.send(42).unwrap();
/// assert_eq!(received.join().unwrap(), Ok(42));
/// ```
pub fn blocking<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    if current_task().is_none() {
        check_caller();
        return f();
    }
    fork::check();
    check_caller();
    let job = StackJob::new(f);
    job.send();
    match job.outcome.into_inner().expect("the job is done") {
        Ok(value) => value,
        Err(payload) => resume_unwind(payload),
    }
}
