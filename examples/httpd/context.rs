//! What belongs to the request that a coroutine serves. Whoever runs in it finds this without being given it, however deep.

use std::cell::RefCell;
use std::io::Write as _;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use coro::sync::{Condvar, Mutex};
use coro::tls;

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

/// Lines of the access log that are not written yet.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());
/// There are some, or so many that they are written at once. A longer write would hold up who answers on the same CPU.
static LOG_CHANGED: Condvar = Condvar::new();
const LONG_LOG: usize = 16 << 10;
/// How long a line waits at most.
const LOG_LIMIT: Duration = Duration::from_millis(100);

/// Begins a request. However its coroutine ends, its exit handler writes the line of the access log.
pub(crate) fn begin(request: &Request<'_>) {
    let id = tls::id().get();
    let trace = request.traceparent.and_then(trace_of).unwrap_or_else(|| {
        let mut own = [b'0'; 32];
        own[16..].copy_from_slice(&hex(id));
        own
    });
    let line = [request.method, " ", request.path].concat();
    CONTEXT.set(Some(Context { line, status: 500, start: Instant::now(), trace, span: id }));
    tls::at_exit(|| {
        let Some(Context { line, status, start, trace, span }) = CONTEXT.take() else { return };
        REQUESTS.fetch_add(1, Ordering::Relaxed);
        ERRORS.fetch_add(u64::from(status >= 400), Ordering::Relaxed);
        let (took, span) = (start.elapsed().as_micros(), hex(span));
        let (mut status_digits, mut took_digits) = (itoa::Buffer::new(), itoa::Buffer::new());
        let (status, took) = (status_digits.format(status), took_digits.format(took));
        let (trace, span) = (text(&trace), text(&span));
        let mut log = LOG.lock();
        let was_empty = log.is_empty();
        put(&mut log, &[&line, " ", status, " ", took, "us trace=", trace, " span=", span, "\n"]);
        let is_long = log.len() >= LONG_LOG;
        drop(log);
        if was_empty || is_long {
            LOG_CHANGED.notify_one();
        }
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

/// Writes what is logged, for ever.
pub(crate) fn write_log() -> ! {
    loop {
        let log = LOG_CHANGED.wait_while(LOG.lock(), |log| log.is_empty());
        let is_short = |log: &mut Vec<u8>| log.len() < LONG_LOG;
        drop(LOG_CHANGED.wait_timeout_while(log, LOG_LIMIT, is_short));
        flush();
    }
}

/// Writes what was logged, where that blocks no worker. When it returns, whatever was logged before is written.
pub(crate) fn flush() {
    static WRITTEN: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    // Held while it is written, so that whoever else comes waits for that.
    let mut lines = WRITTEN.lock();
    mem::swap(&mut *LOG.lock(), &mut *lines);
    if !lines.is_empty() {
        coro::blocking(|| std::io::stdout().write_all(&lines).unwrap_or(()));
        lines.clear();
    }
}
