//! Requests that take turns on one worker, each in a span of `tracing`: what a subscriber sees of them with
//! [`coro::trace::SpanLayer`], and beside it what it would see without.
//!
//! ```sh
//! cargo run --example spans --features tracing
//! ```

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex};

use coro::Runtime;
use coro::sync::Barrier;

use coro::trace::{SpanLayer, in_current_span};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber, info, info_span};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// A request looks somebody up, which it has to wait for, and leaves a note to a coroutine of its own.
fn serve(number: u32, database: &Barrier) {
    let _request = info_span!("request", number).entered();
    info!("asks");
    {
        let _query = info_span!("query").entered();
        database.wait(); // it answers when all have asked
        info!("has the answer");
    }
    let note = coro::go(in_current_span(|| info!("writes to the journal")));
    note.join().unwrap();
    info!("replies");
}

/// What was said in a span, and in the spans within it.
#[derive(Default)]
struct Tree {
    events: Vec<String>,
    spans: BTreeMap<String, Tree>,
}

impl Tree {
    fn at(&mut self, path: &[String]) -> &mut Tree {
        match path {
            [] => self,
            [first, rest @ ..] => self.spans.entry(first.clone()).or_default().at(rest),
        }
    }

    fn print(&self, depth: usize, text: &mut String) {
        let indent = "  ".repeat(depth);
        for event in &self.events {
            writeln!(text, "{indent}{event}").unwrap();
        }
        for (name, span) in &self.spans {
            writeln!(text, "{indent}{name}").unwrap();
            span.print(depth + 1, text);
        }
    }
}

/// Collects the events of all spans.
struct Collector(Arc<Mutex<Tree>>);

/// How a span is named in the tree.
struct Name(String);

/// The fields of a span or an event.
struct Words(String);

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => write!(self.0, "{value:?}").unwrap(),
            _ => write!(self.0, " {value:?}").unwrap(),
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Collector {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut name = Words(attributes.metadata().name().to_owned());
        attributes.record(&mut name);
        let span = context.span(id).expect("it is new");
        span.extensions_mut().insert(Name(name.0));
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut words = Words(String::new());
        event.record(&mut words);
        let scope = context.event_scope(event);
        let spans = scope.into_iter().flat_map(|scope| scope.from_root());
        let path: Vec<String> = spans
            .filter_map(|span| span.extensions().get::<Name>().map(|name| name.0.clone()))
            .collect();
        self.0.lock().unwrap().at(&path).events.push(words.0);
    }
}

/// What a subscriber sees of three requests.
pub(crate) fn tree(with_layer: bool) -> String {
    let tree = Arc::new(Mutex::new(Tree::default()));
    let layer = with_layer.then(SpanLayer::new);
    let subscriber = tracing_subscriber::registry().with(Collector(tree.clone())).with(layer);
    let runtime = Runtime::builder().workers(1).build().expect("a worker");
    // A program would call `init`, for all of its threads. This one has two subscribers, one after the other, so its
    // worker gets one from a coroutine that never suspends with it: the guard goes with the thread.
    let guard = tracing::Dispatch::new(subscriber);
    let set = runtime.go(move || {
        std::mem::forget(tracing::dispatcher::set_default(&guard));
    });
    set.join().unwrap();
    let database = Arc::new(Barrier::new(3));
    let request = |number| {
        let database = database.clone();
        runtime.go(move || serve(number, &database))
    };
    let requests: Vec<_> = (1..=3).map(request).collect();
    requests.into_iter().for_each(|request| request.join().unwrap());
    runtime.shutdown();
    let mut text = String::new();
    tree.lock().unwrap().print(1, &mut text);
    text
}

#[allow(dead_code)] // the test of this example has a `main` of its own
fn main() {
    println!("with the layer, each event is in the span of its request:\n\n{}", tree(true));
    println!("without it, in whatever span was entered last on the thread:\n\n{}", tree(false));
}
