//! What the server has to give.

use std::borrow::Cow;
use std::sync::atomic::Ordering;
use std::time::Duration;

use coro::inspect::Dump;

use super::context;
use super::request::Request;

/// A status and a body.
pub(crate) type Answer = (u16, Cow<'static, [u8]>);

/// What the paths stand for.
pub(crate) fn handle(request: &Request<'_>) -> Answer {
    match (request.method, request.path) {
        ("GET", "/") => (200, b"hello\n".into()),
        ("GET", "/context") => (200, deep(3).into_bytes().into()),
        ("GET", "/metrics") => (200, metrics().into_bytes().into()),
        ("GET", "/debug/coroutines") => (200, dump().to_string().into_bytes().into()),
        ("GET", "/debug/coroutines.json") => (200, dump().to_json().into_bytes().into()),
        ("GET", "/panic") => panic!("as it was asked for"),
        ("GET", "/slow") => {
            coro::sleep(Duration::from_millis(300));
            (200, b"at last\n".into())
        }
        ("GET", "/stuck") => loop {
            coro::park();
        },
        ("POST", "/echo") => (200, request.body.to_vec().into()),
        (_, "/" | "/context" | "/metrics" | "/panic" | "/slow" | "/echo") => (405, b"".into()),
        _ => (404, b"no such page\n".into()),
    }
}

/// Somebody far from the socket, who is given nothing of the request.
fn deep(depth: u32) -> String {
    match depth {
        0 => format!("request {}, traceparent {}\n", context::request_id(), context::traceparent()),
        _ => deep(depth - 1),
    }
}

/// What the server's coroutines do. It gets no longer with the number of connections: those that are alike are counted.
fn dump() -> Dump {
    coro::inspect::dump().limit(100)
}

fn metrics() -> String {
    let metrics = coro::inspect::metrics();
    let (requests, errors) = (&context::REQUESTS, &context::ERRORS);
    format!(
        "http_requests_total {}\nhttp_errors_total {}\ncoroutines {}\n\
         stacks_in_use {}\nstacks_pooled {}\nstacks_resident_bytes {}\nstacks_reserved_bytes {}\n",
        requests.load(Ordering::Relaxed),
        errors.load(Ordering::Relaxed),
        metrics.live,
        metrics.stacks_in_use,
        metrics.stacks_pooled,
        metrics.stacks_resident_bytes,
        metrics.stacks_reserved_bytes,
    )
}
