//! Many at once.

use super::scheduling::{MAY, TOO_MANY_MAPPINGS};
use super::{
    MILLISECONDS, Metric, NANOSECONDS, Per, Row, Side, Workers, cannot, metric, once, program, runs,
};
use crate::common::coroutines::{batches, scopes, skynet};
use crate::common::storage::forty_operations;
use crate::peers::futures_side::{self, Smol, Tokio};
use crate::peers::{coro_side, may_side, threads_side, tokio_side};

const fn row(name: &'static str, what: &'static str, sides: &'static [Side]) -> Row {
    Row {
        name,
        group: "crowds",
        what,
        metrics: &[MILLISECONDS],
        per: Per::Whole,
        workers: Workers::Asked,
        sizes: &[100_000],
        sides,
    }
}

/// How the time goes by on more workers than there are CPUs, or fewer.
const SHARES: &[Metric] = &[
    metric("time", "ms", 1e6),
    metric("of the CPU time in stealing and searching", "%", 0.01),
    metric("of the workers' time asleep", "%", 0.01),
    metric("of the workers' time waiting for a CPU", "%", 0.01),
    metric("of the coroutines stolen", "%", 0.01),
];

const NO_STORAGE: &str = "has no storage of its own: see the packages that add it";

pub(super) const ROWS: &[Row] = &[
    Row {
        metrics: &[NANOSECONDS],
        per: Per::Part,
        sizes: &[10_000],
        ..row(
            "scope",
            "`scope` of {} children, each",
            &[
                runs("coro", |t| coro_side::inside(t, |t| scopes(t.times, t.size))),
                runs("tokio", tokio_side::join_set),
                runs("may", may_side::scope),
                runs("std", threads_side::scope),
                program("go"),
            ],
        )
    },
    Row {
        sizes: &[1_000_000],
        ..row(
            "skynet",
            "a tree of {}, ten children each, joined",
            &[
                runs("coro", |t| coro_side::inside(t, |t| coro_side::trees(t, skynet))),
                runs("tokio", futures_side::skynet::<Tokio>),
                runs("smol", futures_side::skynet::<Smol>),
                runs("may", may_side::skynet).up_to(MAY, TOO_MANY_MAPPINGS),
                program("go"),
            ],
        )
    },
    row(
        "load",
        "the load: {} coroutines, 40 operations on storage each",
        &[
            runs("coro", |t| coro_side::inside(t, |t| batches(t.times, t.size, forty_operations))),
            runs("tokio", tokio_side::load),
            runs("may", may_side::load).up_to(MAY, TOO_MANY_MAPPINGS),
            cannot("go", NO_STORAGE),
            program("go-tls"),
            program("mgkanani/gls"),
            program("jtolds/gls"),
            program("plz/gls"),
        ],
    ),
    Row {
        metrics: SHARES,
        workers: Workers::OneToEight,
        ..row(
            "load-workers",
            "the load of {} by workers",
            &[
                once("coro", |t| coro_side::shares(t, |t| batches(1, t.size, forty_operations))),
                runs("tokio", tokio_side::load),
                program("go-tls"),
            ],
        )
    },
    Row {
        metrics: SHARES,
        workers: Workers::OneToEight,
        sizes: &[1_000_000],
        ..row(
            "skynet-workers",
            "the tree of {} by workers",
            &[
                once("coro", |t| coro_side::shares(t, |t| coro_side::trees(t, skynet))),
                runs("tokio", futures_side::skynet::<Tokio>),
                program("go"),
            ],
        )
    },
];
