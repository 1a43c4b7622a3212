//! A coroutine that is suspended in the middle of its unwinding.

// Every test file is a crate of its own and uses a part of this.
#![allow(dead_code)]

use std::thread::panicking;

use coro::{JoinError, JoinHandle, Runtime};

use crate::common::{Counter, is_planned, planned};

/// Why it unwinds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Why {
    Panic,
    Cancel,
}

/// Parks in its destructor until it is told to go on.
struct ParksInDrop {
    parked: Counter,
    released: Counter,
}

impl Drop for ParksInDrop {
    fn drop(&mut self) {
        assert!(panicking());
        self.parked.add();
        while self.released.get() == 0 {
            coro::park();
        }
        assert!(panicking());
    }
}

/// See the module's documentation.
pub(crate) struct Unwinding {
    why: Why,
    task: JoinHandle<()>,
    parked: Counter,
    released: Counter,
}

impl Unwinding {
    /// Returns when it is suspended.
    pub(crate) fn start(runtime: &Runtime, why: Why) -> Unwinding {
        let (parked, released) = (Counter::default(), Counter::default());
        let local = ParksInDrop { parked: parked.clone(), released: released.clone() };
        let task = runtime.go(move || {
            let _local = local;
            match why {
                Why::Panic => planned("parked in a drop"),
                Why::Cancel => {
                    coro::current().unwrap().cancel();
                    coro::yield_now();
                }
            }
        });
        parked.wait_for(1);
        Unwinding { why, task, parked, released }
    }

    /// Lets it go on, and checks how it ends.
    pub(crate) fn finish(self) {
        assert_eq!(self.parked.get(), 1);
        assert!(!self.task.is_finished());
        self.released.add();
        self.task.handle().unpark();
        match (self.why, self.task.join()) {
            (Why::Panic, Err(JoinError::Panicked(payload))) => {
                assert!(is_planned(&*payload, "parked in a drop"));
            }
            (Why::Cancel, Err(JoinError::Cancelled)) => {}
            (_, other) => panic!("{other:?}"),
        }
    }
}
