//! What belongs to the request that a coroutine serves. Whoever runs in it finds this without being given it, however deep.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use coro::tls;

use super::access_log::AccessLog;
use super::put;
use super::request::Request;

pub(crate) struct Context {
    line: String,
    status: u16,
    start: Instant,
    /// The ids of the whole trace, in hex digits, and of this part of it.
    trace: [u8; 32],
    span: u64,
}

coro::local! {
    static CONTEXT: RefCell<Option<Context>> = const { RefCell::new(None) };
}

/// How many requests there were, and how many were answered with an error.
pub(crate) static REQUESTS: AtomicU64 = AtomicU64::new(0);
pub(crate) static ERRORS: AtomicU64 = AtomicU64::new(0);

/// Begins a request. However its coroutine ends, its exit handler writes the line of the access log.
pub(crate) fn begin(request: &Request<'_>, log: &AccessLog) {
    let id = tls::id().get();
    let trace = request.traceparent.and_then(trace_of).unwrap_or_else(|| {
        let mut own = [b'0'; 32];
        own[16..].copy_from_slice(&hex(id));
        own
    });
    let line = [request.method, " ", request.path].concat();
    CONTEXT.set(Some(Context { line, status: 500, start: Instant::now(), trace, span: id }));
    let lines = Arc::clone(&log.lines);
    tls::at_exit(move || {
        let Some(Context { line, status, start, trace, span }) = CONTEXT.take() else { return };
        REQUESTS.fetch_add(1, Ordering::Relaxed);
        if status >= 400 {
            ERRORS.fetch_add(1, Ordering::Relaxed);
        }
        let (took, span) = (start.elapsed().as_micros(), hex(span));
        let (mut status_digits, mut took_digits) = (itoa::Buffer::new(), itoa::Buffer::new());
        let (status, took) = (status_digits.format(status), took_digits.format(took));
        let (trace, span) = (text(&trace), text(&span));
        let parts = [&line, " ", status, " ", took, "us trace=", trace, " span=", span, "\n"];
        put(&mut lines.lock(), &parts);
    });
}

pub(crate) fn set_status(status: u16) {
    CONTEXT.with_borrow_mut(|context| context.as_mut().expect("a request").status = status);
}

pub(crate) fn request_id() -> u64 {
    CONTEXT.with_borrow(|context| context.as_ref().expect("a request").span)
}

/// The header by which the trace goes on elsewhere (W3C Trace Context).
pub(crate) fn traceparent() -> String {
    CONTEXT.with_borrow(|context| {
        let Context { trace, span, .. } = context.as_ref().expect("a request");
        format!("00-{}-{}-01", text(trace), text(&hex(*span)))
    })
}

/// The trace that a `traceparent` is of: version, trace, span and flags, in hex digits of fixed number.
fn trace_of(header: &str) -> Option<[u8; 32]> {
    let mut parts = header.split('-');
    let (version, trace, span) = (parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_valid = version.len() == 2 && span.len() == 16 && is_hex(trace);
    let trace = trace.as_bytes().try_into().ok();
    trace.filter(|trace| is_valid && *trace != [b'0'; 32])
}

/// The hex digits of a number. Each request needs them three times, and the formatter has more to look at.
fn hex(number: u64) -> [u8; 16] {
    std::array::from_fn(|place| b"0123456789abcdef"[(number >> (60 - 4 * place)) as usize & 15])
}

fn text(digits: &[u8]) -> &str {
    std::str::from_utf8(digits).expect("digits")
}
