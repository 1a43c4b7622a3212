//! What belongs to a coroutine.

use std::hint::black_box;

use coro::tls;

use super::{Row, Side, Workers, cannot, program, runs};
use crate::common::storage::*;
use crate::common::timed;
use crate::peers::{coro_side, may_side, tokio_side};

const fn row(name: &'static str, what: &'static str, sides: &'static [Side]) -> Row {
    Row::of_operation("storage", Workers::One, name, what, sides)
}

pub(super) const ROWS: &[Row] = &[
    row(
        "id",
        "`tls::id()`",
        &[
            runs("coro", |t| coro_side::inside(t, |t| timed(t.times, || _ = read_id()))),
            runs("tokio", tokio_side::id),
            runs("std", |t| timed(t.times, || _ = black_box(std::thread::current().id()))),
            program("go-tls"),
            cannot("mgkanani/gls", "has no id"),
            cannot("jtolds/gls", "has no id that Go code without its context could ask for"),
            program("plz/gls"),
        ],
    ),
    row(
        "local",
        "`local!`, `with`",
        &[
            runs("coro", |t| {
                coro_side::inside(t, |t| {
                    CORO_LOCAL.set(black_box(7));
                    timed(t.times, || _ = read_coro_local())
                })
            }),
            runs("tokio", tokio_side::task_local),
            runs("may", may_side::local),
            runs("std", |t| {
                THREAD_LOCAL.set(black_box(7));
                timed(t.times, || _ = read_thread_local())
            }),
            runs("an empty call", |t| timed(t.times, || _ = call_nothing())),
        ],
    ),
    row(
        "get-type",
        "`tls::get`, the key a type",
        &[runs("coro", |t| {
            coro_side::inside(t, |t| {
                tls::set(Slot, 7u64);
                timed(t.times, || _ = get_by_type())
            })
        })],
    ),
    row(
        "get",
        "`tls::get`, the key a string",
        &[
            runs("coro", |t| {
                coro_side::inside(t, |t| {
                    tls::set("slot", 7u64);
                    timed(t.times, || _ = get_by_str())
                })
            }),
            program("go-tls"),
            program("mgkanani/gls"),
            program("jtolds/gls"),
            program("plz/gls"),
        ],
    ),
    row(
        "set-type",
        "`tls::set` of a key that is there, a type",
        &[runs("coro", |t| {
            coro_side::inside(t, |t| {
                tls::set(Slot, 7u64);
                timed(t.times, || set_by_type(black_box(8)))
            })
        })],
    ),
    row(
        "set",
        "`tls::set` of a key that is there, a string",
        &[
            runs("coro", |t| {
                coro_side::inside(t, |t| {
                    tls::set("slot", 7u64);
                    timed(t.times, || set_by_str(black_box(8)))
                })
            }),
            program("go-tls"),
            program("mgkanani/gls"),
            program("jtolds/gls"),
            program("plz/gls"),
        ],
    ),
    row(
        "spawn-stored",
        "`go` and `join` with one `set` and one `at_exit`",
        &[
            runs("coro", |t| coro_side::inside(t, coro_side::spawn_stored)),
            runs("tokio", tokio_side::spawn_stored),
            runs("may", may_side::spawn_stored),
            program("go-tls"),
            program("mgkanani/gls"),
            program("jtolds/gls"),
            program("plz/gls"),
        ],
    ),
];
