//! What coroutines that are parked take, and what stays of it.

use super::{CURVE, Metric, Per, Row, Side, Workers, metric, once, program};
use crate::peers::memory_side as side;

const METRICS: &[Metric] = &[
    metric("each, page tables included", "KiB", 1.0),
    metric("stays a second after all have ended", "MiB", 1024.0),
];

const TOO_MANY_THREADS: &str = "so many threads are not started here";

const fn row(
    name: &'static str,
    what: &'static str,
    sizes: &'static [u64],
    sides: &'static [Side],
) -> Row {
    Row {
        name,
        group: "memory",
        what,
        metrics: METRICS,
        per: Per::Part,
        workers: Workers::One,
        sizes,
        sides,
    }
}

pub(super) const ROWS: &[Row] = &[
    row(
        "parked",
        "{} parked",
        CURVE,
        &[
            once("coro", |t| side::coro(t, false)),
            once("tokio", |t| side::tokio(t, false)),
            once("smol", |t| side::smol(t, false)),
            once("may", |t| side::may(t, false))
                .up_to(super::scheduling::MAY, super::scheduling::TOO_MANY_MAPPINGS),
            once("std", |t| side::threads(t, false)).up_to(10_000, TOO_MANY_THREADS),
            program("go"),
        ],
    ),
    row(
        "parked-used",
        "{} parked, each has used 3 KiB of stack",
        &[10_000, 100_000, 1_000_000],
        &[
            once("coro", |t| side::coro(t, true)),
            once("tokio", |t| side::tokio(t, true)),
            once("smol", |t| side::smol(t, true)),
            once("may", |t| side::may(t, true))
                .up_to(super::scheduling::MAY, super::scheduling::TOO_MANY_MAPPINGS),
            once("std", |t| side::threads(t, true)).up_to(10_000, TOO_MANY_THREADS),
            program("go"),
        ],
    ),
];
