//! Locks: taken by one at a time, and by several at once.

use super::{Row, Side, Workers, cannot, program, runs};
use crate::common::locks::*;
use crate::common::timed;
use crate::peers::{coro_side, may_side, smol_side, threads_side, tokio_side};

const fn row(name: &'static str, what: &'static str, sides: &'static [Side]) -> Row {
    Row::of_operation("locks", Workers::One, name, what, sides)
}

pub(super) const ROWS: &[Row] = &[
    row(
        "mutex",
        "`Mutex`, lock and unlock",
        &[
            runs("coro", |t| coro_side::inside(t, |t| timed(t.times, lock_coro))),
            runs("tokio", tokio_side::mutex),
            runs("smol", smol_side::mutex),
            runs("may", |t| may_side::inside(t, may_side::mutex)),
            runs("std", |t| timed(t.times, lock_std)),
            runs("parking_lot", |t| timed(t.times, lock_parking_lot)),
            program("go"),
            program("boost"),
        ],
    ),
    Row {
        workers: Workers::Asked,
        ..row(
            "mutex-4",
            "`Mutex`, wanted by four",
            &[
                runs("coro", |t| coro_side::inside(t, |t| contended(t.times, 4))),
                runs("tokio", tokio_side::mutex_4),
                runs("smol", smol_side::mutex_4),
                runs("may", |t| may_side::inside(t, may_side::mutex_4)),
                runs("std", threads_side::mutex_4),
                runs("parking_lot", threads_side::mutex_4_parking_lot),
                program("go"),
                program("boost"),
            ],
        )
    },
    row(
        "rwlock",
        "`RwLock`, write and unlock",
        &[
            runs("coro", |t| coro_side::inside(t, |t| timed(t.times, write_coro))),
            runs("tokio", tokio_side::rwlock),
            runs("smol", smol_side::rwlock),
            runs("may", |t| may_side::inside(t, may_side::rwlock)),
            runs("std", threads_side::rwlock),
            runs("parking_lot", threads_side::rwlock_parking_lot),
            program("go"),
        ],
    ),
    row(
        "semaphore",
        "`Semaphore`, acquire and release",
        &[
            runs("coro", |t| coro_side::inside(t, |t| timed(t.times, acquire_coro))),
            runs("tokio", tokio_side::semaphore),
            runs("smol", smol_side::semaphore),
            runs("may", |t| may_side::inside(t, may_side::semaphore)),
            program("go"),
            cannot("std", "has none"),
        ],
    ),
];
