//! Values on their way from one to another.

use super::{MILLISECONDS, Per, Row, Side, Workers, cannot, program, runs};
use crate::common::channels::{pass, rendezvous};
use crate::peers::futures_side::{self, Smol, Tokio};
use crate::peers::{coro_side, may_side, threads_side, tokio_side};

const fn row(name: &'static str, what: &'static str, sides: &'static [Side]) -> Row {
    Row::of_operation("channels", Workers::Asked, name, what, sides)
}

pub(super) const ROWS: &[Row] = &[
    row(
        "rendezvous",
        "a rendezvous and back",
        &[
            runs("coro", |t| coro_side::inside(t, |t| rendezvous(t.times))),
            runs("tokio mpsc, capacity 1", tokio_side::mpsc_round_trip),
            runs("flume on tokio", futures_side::flume_round_trip::<Tokio>),
            runs("flume on smol", futures_side::flume_round_trip::<Smol>),
            runs("may spsc, no limit", may_side::round_trip),
            runs("std on threads", threads_side::round_trip_std),
            runs("crossbeam on threads", threads_side::round_trip),
            cannot("async-channel", "has no capacity of 0"),
            program("go"),
            program("boost"),
        ],
    ),
    row(
        "bounded",
        "a capacity of 1,024, one to one, a value",
        &[
            runs("coro", |t| coro_side::inside(t, |t| pass(t.times, 1024, 1))),
            runs("tokio mpsc", tokio_side::mpsc_pass),
            runs("flume on tokio", |t| futures_side::flume_pass::<Tokio>(t, 1)),
            runs("async-channel on tokio", |t| futures_side::async_channel_pass::<Tokio>(t, 1)),
            runs("async-channel on smol", |t| futures_side::async_channel_pass::<Smol>(t, 1)),
            runs("std on threads", threads_side::pass_std),
            runs("crossbeam on threads", |t| threads_side::pass(t, 1)),
            cannot("may", "its channels have no limit"),
            program("go"),
            program("boost"),
        ],
    ),
    row(
        "bounded-4",
        "a capacity of 1,024, four to four, a value",
        &[
            runs("coro", |t| coro_side::inside(t, |t| pass(t.times, 1024, 4))),
            cannot("tokio mpsc", "has one receiver"),
            runs("flume on tokio", |t| futures_side::flume_pass::<Tokio>(t, 4)),
            runs("async-channel on tokio", |t| futures_side::async_channel_pass::<Tokio>(t, 4)),
            runs("async-channel on smol", |t| futures_side::async_channel_pass::<Smol>(t, 4)),
            runs("crossbeam on threads", |t| threads_side::pass(t, 4)),
            cannot("std on threads", "has one receiver"),
            program("go"),
            program("boost"),
        ],
    ),
    row(
        "unbounded",
        "without a limit, one to one, a value",
        &[
            runs("coro", |t| coro_side::inside(t, |t| coro_side::pass_unbounded(t.times))),
            runs("tokio mpsc", tokio_side::unbounded_pass),
            runs("flume on tokio", futures_side::flume_unbounded::<Tokio>),
            runs("async-channel on tokio", futures_side::async_channel_unbounded::<Tokio>),
            runs("may mpsc", may_side::pass_unbounded),
            runs("crossbeam on threads", threads_side::pass_unbounded),
            cannot("go", "its channels have a limit"),
        ],
    ),
    row(
        "select",
        "`select!` over four, one ready",
        &[
            runs("coro", |t| coro_side::inside(t, |t| coro_side::select(t.times))),
            runs("tokio over mpsc", tokio_side::select),
            runs("crossbeam on threads", threads_side::select),
            program("go"),
            cannot("may", "its select starts a coroutine for each arm"),
        ],
    ),
    Row {
        metrics: &[MILLISECONDS],
        per: Per::Whole,
        sizes: &[1_000_000],
        ..row(
            "skynet-channels",
            "a tree of {} with a channel a node",
            &[
                runs("coro", |t| coro_side::inside(t, coro_side::skynet_channels)),
                runs("tokio mpsc", tokio_side::skynet_channels),
                program("go"),
            ],
        )
    },
];
