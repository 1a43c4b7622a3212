//! `coro::hook`: what is carried with a coroutine, in which order, and how that ends.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/counting.rs"]
mod counting;

mod ends;
mod inherit;
mod outside;
mod turns;

use std::cell::Cell;
use std::sync::{Arc, Mutex, PoisonError};

use coro::hook::{Attached, Carry, attach};

use common::OnDrop;

/// What the carries of a test have done, in order.
#[derive(Clone, Default, Debug)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn note(&self, what: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(what.to_owned());
    }

    /// What was noted since this was asked last.
    fn take(&self) -> String {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).join(" ")
    }
}

/// Runs `body` in a coroutine, on the only worker of a runtime, until it has ended. Gives what it was lent.
fn logged(body: impl FnOnce(Log) + Send + 'static) -> Log {
    let log = Log::default();
    let runtime = common::runtime(1);
    let lent = log.clone();
    runtime.go(move || body(lent)).join().unwrap();
    log
}

/// A carry that notes its calls.
struct Noting {
    name: &'static str,
    log: Log,
}

impl Noting {
    fn attach(name: &'static str, log: &Log) -> Attached {
        attach(Noting { name, log: log.clone() })
    }
}

impl Carry for Noting {
    fn suspend(&mut self) {
        self.log.note(&format!("-{}", self.name));
    }

    fn resume(&mut self) {
        self.log.note(&format!("+{}", self.name));
    }
}

impl Drop for Noting {
    fn drop(&mut self) {
        self.log.note(&format!("x{}", self.name));
    }
}

/// A carry that is made of closures, and counts its drop.
struct Calls<S, R> {
    suspend: S,
    resume: R,
    _dropped: OnDrop,
}

impl<S: FnMut(), R: FnMut()> Carry for Calls<S, R> {
    fn suspend(&mut self) {
        (self.suspend)();
    }

    fn resume(&mut self) {
        (self.resume)();
    }
}

thread_local! {
    /// The state of a library that knows nothing of coroutines: whose turn it is. 0: nobody's.
    static CURRENT: Cell<u64> = const { Cell::new(0) };
}

/// Carries [`CURRENT`]. Checks that the calls alternate.
struct Current {
    mine: u64,
    is_here: bool,
}

impl Current {
    /// Sets the thread's state, and carries it from then on.
    fn set(mine: u64) -> Attached {
        assert_eq!(CURRENT.replace(mine), 0, "a neighbour has left something");
        attach(Current { mine, is_here: true })
    }
}

impl Carry for Current {
    fn suspend(&mut self) {
        assert!(std::mem::replace(&mut self.is_here, false), "suspended twice");
        self.mine = CURRENT.replace(0);
    }

    fn resume(&mut self) {
        assert!(!std::mem::replace(&mut self.is_here, true), "resumed twice");
        assert_eq!(CURRENT.replace(self.mine), 0, "a neighbour has left something");
    }

    fn inherit(&self) -> Option<Box<dyn Carry + Send>> {
        Some(Box::new(Current { mine: self.mine, is_here: false }))
    }
}
