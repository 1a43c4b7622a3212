//! The atomics and the locks that the checked parts are made of, so that loom can stand in for
//! them: `bash ci/loom.sh` builds with `--cfg coro_loom` and explores every interleaving of the
//! models beside those parts. Nothing else of the crate runs under that cfg.
//!
//! It is a name of our own because `--cfg loom` reaches every crate of the build, and some that we
//! depend on do not compile under it.

use std::time::Duration;

#[cfg(not(coro_loom))]
pub(crate) use {
    std::sync::atomic::{AtomicIsize, AtomicPtr, AtomicU32, AtomicUsize, Ordering, fence},
    std::sync::{Condvar, Mutex, MutexGuard},
};

#[cfg(coro_loom)]
pub(crate) use {
    loom::sync::atomic::{AtomicIsize, AtomicPtr, AtomicU32, AtomicUsize, Ordering, fence},
    loom::sync::{Condvar, Mutex, MutexGuard},
};

/// Waits until it is notified or so much time is over; tells whether it is.
#[cfg(not(coro_loom))]
pub(crate) fn wait_timeout<'a, T>(
    condvar: &Condvar,
    guard: MutexGuard<'a, T>,
    limit: Duration,
) -> (MutexGuard<'a, T>, bool) {
    let waited = condvar.wait_timeout(guard, limit);
    let (guard, result) = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
    (guard, result.timed_out())
}

/// A model has no clock, so the time is over at once.
#[cfg(coro_loom)]
pub(crate) fn wait_timeout<'a, T>(
    _condvar: &Condvar,
    guard: MutexGuard<'a, T>,
    _limit: Duration,
) -> (MutexGuard<'a, T>, bool) {
    (guard, true)
}

#[cfg(all(test, coro_loom))]
pub(crate) use self::model::{Parker, Unparker};

/// A thread of a model that waits for a token, on loom's mutex and condition variable. No clock ends the wait: a
/// wake-up that is lost shows.
#[cfg(all(test, coro_loom))]
mod model {
    use loom::sync::{Arc, Condvar, Mutex};

    #[derive(Clone)]
    pub(crate) struct Unparker(Arc<(Mutex<bool>, Condvar)>);

    pub(crate) struct Parker(Unparker);

    impl Parker {
        pub(crate) fn new() -> Parker {
            Parker(Unparker(Arc::new((Mutex::new(false), Condvar::new()))))
        }

        pub(crate) fn unparker(&self) -> &Unparker {
            &self.0
        }

        pub(crate) fn park(&self) {
            let (token, arrived) = &*self.0.0;
            let mut token = token.lock().unwrap();
            while !*token {
                token = arrived.wait(token).unwrap();
            }
            *token = false;
        }
    }

    impl Unparker {
        pub(crate) fn unpark(&self) {
            let (token, arrived) = &*self.0;
            *token.lock().unwrap() = true;
            arrived.notify_one();
        }
    }
}

#[cfg(all(test, coro_loom))]
pub(crate) use self::explore::{Checked, Seen, explore};

/// How the models are run.
///
/// - **M1** The content of a [`Checked`] is reached only through loom's cell, which ends the model
///   with a panic before an access that another one is not ordered with.
#[cfg(all(test, coro_loom))]
mod explore {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use loom::cell::UnsafeCell;

    /// Runs `model` in every interleaving, or in all with at most `preemptions` forced switches.
    /// Each of the `outcomes` has to come about in one of them at least: a model in which a side of
    /// the race is never met proves nothing of it.
    pub(crate) fn explore(
        preemptions: Option<usize>,
        outcomes: &[u32],
        model: impl Fn(Arc<Seen>) + Send + Sync + 'static,
    ) {
        let seen = Arc::new(Seen(AtomicU64::new(0)));
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = preemptions;
        builder.max_branches = 20_000;
        let noted = Arc::clone(&seen);
        builder.check(move || model(Arc::clone(&noted)));
        for outcome in outcomes {
            assert!(seen.has(*outcome), "no interleaving has led to outcome {outcome}");
        }
    }

    /// The outcomes that a model has met. It outlives the single interleaving, so it is not loom's.
    pub(crate) struct Seen(AtomicU64);

    impl Seen {
        pub(crate) fn note(&self, outcome: u32) {
            self.0.fetch_or(1 << outcome, Ordering::Relaxed);
        }

        fn has(&self, outcome: u32) -> bool {
            self.0.load(Ordering::Relaxed) & 1 << outcome != 0
        }
    }

    /// A cell whose rule of access is checked: reads may coincide, a write may not with anything.
    pub(crate) struct Checked<T>(UnsafeCell<T>);

    // SAFETY: M1, an access from two threads at once does not get as far as the content.
    unsafe impl<T: Send> Sync for Checked<T> {}

    impl<T> Checked<T> {
        pub(crate) fn new(value: T) -> Checked<T> {
            Checked(UnsafeCell::new(value))
        }

        pub(crate) fn read<R>(&self, f: impl FnOnce(&T) -> R) -> R {
            // SAFETY: M1, nobody writes meanwhile.
            self.0.with(|value| f(unsafe { &*value }))
        }

        pub(crate) fn write<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
            // SAFETY: M1, the access is exclusive.
            self.0.with_mut(|value| f(unsafe { &mut *value }))
        }
    }
}
