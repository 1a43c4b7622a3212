//! Turns, starts and waits.

use std::hint::black_box;

use super::{CURVE, MILLISECONDS, Per, Row, Side, Workers, cannot, program, runs};
use crate::common::coroutines::{batches, hand_over, ping_pong, sleeper, yields};
use crate::common::timed;
use crate::peers::futures_side::{self, Smol, Tokio};
use crate::peers::{coro_side, generators_side, may_side, threads_side, tokio_side};

const THREADS: u64 = 1_000;
const TOO_MANY_THREADS: &str = "so many threads are not started here";
/// Each has a stack of its own from the heap, and that is two mappings each where it is guarded.
const FIBERS: u64 = 10_000;
const TOO_MANY_FIBERS: &str = "so many stacks are not started here: 128 KiB each from the heap";

/// It maps a stack and its guard for each coroutine that is alive.
pub(super) const MAY: u64 = 10_000;
pub(super) const TOO_MANY_MAPPINGS: &str = "vm.max_map_count: two mappings a coroutine";

const fn row(name: &'static str, what: &'static str, sides: &'static [Side]) -> Row {
    Row::of_operation("scheduling", Workers::Asked, name, what, sides)
}

pub(super) const ROWS: &[Row] = &[
    Row {
        workers: Workers::One,
        ..row(
            "resume",
            "a raw coroutine, resume and suspend",
            &[
                runs("coro", coro_side::resume),
                runs("corosensei", generators_side::corosensei),
                runs("generator", generators_side::generator),
            ],
        )
    },
    Row {
        per: Per::Turn,
        workers: Workers::One,
        sizes: &[1, 2, 10, 100, 1_000, 10_000, 100_000, 1_000_000],
        ..row(
            "turn",
            "`yield_now` among {}",
            &[
                runs("coro", |t| coro_side::inside(t, |t| yields(t.size, t.times))),
                runs("tokio", futures_side::turn::<Tokio>),
                runs("smol", futures_side::turn::<Smol>),
                runs("may", may_side::turn).up_to(MAY, TOO_MANY_MAPPINGS),
                runs("std", threads_side::turn).up_to(THREADS, TOO_MANY_THREADS),
                program("go"),
                program("boost").up_to(FIBERS, TOO_MANY_FIBERS),
            ],
        )
    },
    row(
        "spawn-one",
        "`go` and `join`, one at a time",
        &[
            runs("coro", |t| coro_side::inside(t, |t| coro_side::spawn_one(t.times))),
            runs("tokio", futures_side::spawn_one::<Tokio>),
            runs("smol", futures_side::spawn_one::<Smol>),
            runs("may", may_side::spawn_one),
            runs("std", threads_side::spawn_one),
            program("go"),
            program("boost"),
        ],
    ),
    Row {
        per: Per::Part,
        sizes: CURVE,
        ..row(
            "spawn",
            "`go` and `join` in batches of {}, each",
            &[
                runs("coro", |t| coro_side::inside(t, |t| batches(t.times, t.size, || 0))),
                runs("tokio", futures_side::spawn::<Tokio>),
                runs("smol", futures_side::spawn::<Smol>),
                runs("may", may_side::spawn).up_to(MAY, TOO_MANY_MAPPINGS),
                runs("std", threads_side::spawn).up_to(THREADS, TOO_MANY_THREADS),
                program("go"),
                program("boost").up_to(FIBERS, TOO_MANY_FIBERS),
            ],
        )
    },
    Row {
        per: Per::Whole,
        metrics: &[MILLISECONDS],
        sizes: CURVE,
        ..row(
            "sleep",
            "{} sleepers of 1 ms",
            &[
                runs("coro", |t| coro_side::inside(t, |t| batches(t.times, t.size, sleeper))),
                runs("tokio", futures_side::sleep::<Tokio>),
                runs("smol", futures_side::sleep::<Smol>),
                runs("may", may_side::sleep).up_to(MAY, TOO_MANY_MAPPINGS),
                runs("std", threads_side::sleep).up_to(THREADS, TOO_MANY_THREADS),
                program("go"),
            ],
        )
    },
    row(
        "park",
        "`park` and `unpark`, a round trip of two",
        &[
            runs("coro", |t| coro_side::inside(t, |t| ping_pong(t.times))),
            runs("tokio", tokio_side::notify),
            runs("may", may_side::park),
            runs("std", threads_side::park),
            cannot("go", "it has channels for this: see the rendezvous"),
        ],
    ),
    Row {
        workers: Workers::One,
        ..row(
            "wait-ready",
            "`wait` on a future that is ready",
            &[
                runs("coro", |t| coro_side::inside(t, |t| coro_side::wait_ready(t.times))),
                runs("smol", |t| {
                    timed(t.times, || {
                        _ = black_box(smol::block_on(std::future::ready(black_box(1))));
                    })
                }),
            ],
        )
    },
    row(
        "wait-oneshot",
        "`unpark`, and `wait` on a oneshot channel",
        &[
            runs("coro", |t| coro_side::inside(t, |t| hand_over(t.times))),
            runs("tokio", tokio_side::oneshot),
        ],
    ),
];
