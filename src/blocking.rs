//! Code that blocks its thread, run where that harms nobody.
//!
//! - **B1** Whoever sends an errand does not go on, and does not unwind, before it has come back.

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::task::{Context, Poll};

use crate::task::{Waiting, current_task, park_undisturbed, with_waker};

/// What goes to the other thread and comes back. It lies on the caller's stack, and the caller does
/// not go on before it has come back.
struct Errand<F, T> {
    work: UnsafeCell<Option<F>>,
    outcome: UnsafeCell<Option<Result<T, Box<dyn Any + Send>>>>,
}

/// The address of an [`Errand`], on its way.
struct Sent<F, T>(*const Errand<F, T>);

// SAFETY: B1, the errand is touched by one thread at a time; `F` and `T` are `Send`.
unsafe impl<F: Send, T: Send> Send for Sent<F, T> {}

impl<F: FnOnce() -> T, T> Sent<F, T> {
    fn run(self) {
        // SAFETY: B1.
        let errand = unsafe { &*self.0 };
        // SAFETY: B1.
        let work = unsafe { (*errand.work.get()).take() };
        let outcome = work.map(|work| catch_unwind(AssertUnwindSafe(work)));
        // SAFETY: B1.
        unsafe { *errand.outcome.get() = outcome };
    }
}

/// Runs `f` on a thread where it may block, and suspends the calling coroutine meanwhile: for system
/// calls that wait, for locks that are held for long, for long computations. On a plain thread it
/// just calls `f`.
///
/// The threads are those of the `blocking` crate: up to 500, made when they are needed and ended when
/// they are idle; `BLOCKING_MAX_THREADS` sets another limit. [`tls`](crate::tls) inside of `f` is that
/// of the other thread.
///
/// What `f` borrows stays borrowed until `f` has returned. So neither cancelling the coroutine nor a
/// [`timeout`](crate::timeout) cuts this short; both take effect at the next suspension.
///
/// # Panics
///
/// With whatever `f` panics with.
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
pub fn blocking<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    if current_task().is_none() {
        return f();
    }
    let errand = Errand { work: UnsafeCell::new(Some(f)), outcome: UnsafeCell::new(None) };
    run_elsewhere(Sent(&raw const errand));
    match errand.outcome.into_inner().expect("the errand is done") {
        Ok(value) => value,
        Err(payload) => resume_unwind(payload),
    }
}

/// Runs an errand on another thread and waits for it.
fn run_elsewhere<F: FnOnce() -> T + Send, T: Send>(sent: Sent<F, T>) {
    let run: Box<dyn FnOnce() + Send + '_> = Box::new(move || sent.run());
    // SAFETY: B1, it runs before this function returns.
    let run: Box<dyn FnOnce() + Send + 'static> = unsafe { std::mem::transmute(run) };
    let mut task = pin!(::blocking::unblock(run));
    loop {
        let polled = with_waker(|waker| {
            use std::future::Future;
            task.as_mut().poll(&mut Context::from_waker(waker))
        });
        match polled {
            Poll::Ready(()) => return,
            Poll::Pending => park_undisturbed(Waiting::Blocking),
        }
    }
}
