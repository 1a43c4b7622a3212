//! The atomics and the parker that the lock-free parts are made of, so that loom can stand in for
//! them: `RUSTFLAGS="--cfg loom" cargo test --release --lib loom_` explores every interleaving of the
//! models beside those parts. Nothing else of the crate runs under that cfg.

#[cfg(not(loom))]
pub(crate) use {
    crossbeam_utils::sync::{Parker, Unparker},
    std::sync::atomic::{AtomicIsize, AtomicPtr, AtomicU32, AtomicUsize, Ordering, fence},
};

#[cfg(loom)]
pub(crate) use {
    self::model::{Parker, Unparker},
    loom::sync::atomic::{AtomicIsize, AtomicPtr, AtomicU32, AtomicUsize, Ordering, fence},
};

/// crossbeam's parker as far as a worker uses it, on loom's mutex and condition variable.
#[cfg(loom)]
mod model {
    use std::time::Instant;

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

        /// A model has no clock, so the deadline never comes: a wake-up that is lost shows.
        pub(crate) fn park_deadline(&self, _deadline: Instant) {
            self.park();
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
