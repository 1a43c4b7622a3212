//! Servers under load.

use super::{Metric, Per, Row, Side, Workers, metric, server};
use crate::servers::{Asking, Load};

const RATE: &[Metric] = &[
    Metric { what: "answers", unit: "k/s", scale: 1e3, more_is_better: true },
    metric("the server's CPU time for an answer", "us", 1e3),
];

const LATENCY: &[Metric] = &[
    metric("the 99th percentile at half the highest rate", "us", 1e3),
    metric("the median then", "us", 1e3),
    Metric { what: "the highest rate", unit: "k/s", scale: 1e3, more_is_better: true },
];

const fn row(
    name: &'static str,
    what: &'static str,
    metrics: &'static [Metric],
    sides: &'static [Side],
) -> Row {
    Row {
        name,
        group: "servers",
        what,
        metrics,
        per: Per::Whole,
        workers: Workers::Asked,
        sizes: &[1],
        sides,
    }
}

const fn load(asking: Asking, connections: usize) -> Load {
    Load { asking, connections }
}

const ECHO: Load = load(Asking::Echo, 100);
const C64: Load = load(Asking::OneByOne, 64);
const C512: Load = load(Asking::OneByOne, 512);
const PIPELINED: Load = load(Asking::Pipelined, 64);
const ALONE: Load = load(Asking::Alone, 64);
const PACED: Load = load(Asking::Paced, 64);

const fn http(load: Load) -> [Side; 5] {
    [
        server("coro", load),
        server("hyper", load),
        server("axum", load),
        server("may_minihttp", load),
        server("go", load),
    ]
}

pub(super) const ROWS: &[Row] = &[
    row(
        "echo",
        "echo of 64 bytes, 100 connections",
        RATE,
        &[
            server("coro", ECHO),
            server("epoll", ECHO),
            server("tokio", ECHO),
            server("smol", ECHO),
            server("may", ECHO),
            server("std", ECHO),
            server("go", ECHO),
        ],
    ),
    row("http", "HTTP, 64 connections", RATE, &http(C64)),
    row("http-512", "HTTP, 512 connections", RATE, &http(C512)),
    row("pipelined", "HTTP, 64 connections, 16 requests at a time", RATE, &http(PIPELINED)),
    row("connections", "HTTP, a connection for each request", RATE, &http(ALONE)),
    row("latency", "HTTP, 64 connections, by a schedule", LATENCY, &http(PACED)),
];
