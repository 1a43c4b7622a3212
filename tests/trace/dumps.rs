//! What a dump says of spans.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

use coro::JoinHandle;
use coro::inspect::{CoroutineState, Dump, dump};
use tracing::field::Empty;
use tracing::info_span;

use crate::{common, with_recorder};

/// A dump of a coroutine that is parked.
fn dump_of<T>(coroutine: &JoinHandle<T>) -> Dump {
    loop {
        let dump = dump().with_id(coroutine.id()).in_state(CoroutineState::Parked);
        if !dump.is_empty() {
            return dump;
        }
        std::thread::yield_now();
    }
}

/// Counts how often it is formatted.
struct Counts;

static FORMATTED: AtomicUsize = AtomicUsize::new(0);

impl fmt::Debug for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        FORMATTED.fetch_add(1, Ordering::Relaxed);
        f.write_str("counted")
    }
}

#[test]
fn trace_a_dump_names_the_spans() {
    with_recorder("trace_a_dump_names_the_spans", |_| {
        let runtime = common::runtime(1);
        let coroutine = runtime.go(|| {
            let request = info_span!("request", id = 7, path = "/index", user = Empty).entered();
            request.record("user", "ann");
            let query = info_span!("query", table = ?Counts).entered();
            coro::park();
            drop(query);
            coro::park();
            drop(request);
            coro::park();
        });
        let neighbour = runtime.go(coro::park);
        let outer = r#"request{id=7 path="/index" user="ann"}"#;
        let both = format!("{outer}:query{{table=counted}}");
        let dump = dump_of(&coroutine);
        let formatted = FORMATTED.load(Ordering::Relaxed);
        assert_eq!(dump.coroutines()[0].span(), Some(&*both));
        assert!(dump.to_string().contains(&format!(", in {both}\n")), "{dump}");
        let json: serde_json::Value = serde_json::from_str(&dump.to_json()).unwrap();
        assert_eq!(json["groups"][0]["coroutines"][0]["span"], both);
        assert_eq!(dump_of(&neighbour).coroutines()[0].span(), None);
        // The code of a value runs when the span is made, and for no dump.
        assert_eq!(FORMATTED.load(Ordering::Relaxed), formatted);
        for rest in [Some(outer), None] {
            coroutine.handle().unpark();
            while dump_of(&coroutine).coroutines()[0].span() != rest {}
        }
        neighbour.handle().unpark();
        coroutine.handle().unpark();
        coroutine.join().unwrap();
    });
}

/// What is long is cut, between two characters.
#[test]
fn trace_a_dump_cuts_long_fields() {
    with_recorder("trace_a_dump_cuts_long_fields", |_| {
        let runtime = common::runtime(1);
        let coroutine = runtime.go(|| {
            let long = "é".repeat(1000);
            let span = info_span!("long", long, more = 1).entered();
            span.record("more", 2);
            coro::park();
        });
        let dump = dump_of(&coroutine);
        let span = dump.coroutines()[0].span().unwrap();
        let fields = span.strip_prefix("long{long=\"").unwrap().strip_suffix('}').unwrap();
        assert!(fields.len() <= 256 && fields.len() > 240, "{span}");
        assert!(fields.chars().all(|char| char == 'é'), "{span}");
        coroutine.handle().unpark();
    });
}
