//! `coro::trace`: spans of `tracing` that follow their coroutine. A program has one subscriber for all of its threads,
//! so each test runs itself again as a child, which installs its own.

#[path = "../common/mod.rs"]
mod common;
#[path = "../../examples/spans.rs"]
mod spans;

mod children;
mod dumps;
mod ends;
mod layers;
mod opentelemetry;
mod turns;

use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex};

use coro::trace::SpanLayer;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

/// Runs `body` in a process of its own, with a subscriber that records.
fn with_recorder(test: &str, body: impl FnOnce(&Recorder)) {
    common::in_child(test, common::CHILDS_LIMIT, || {
        let recorder = Recorder::default();
        tracing_subscriber::registry().with(SpanLayer::new()).with(recorder.clone()).init();
        body(&recorder);
    });
}

/// Records the events, each with the spans that it is in, and which spans were closed.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Records>>);

#[derive(Default)]
struct Records {
    events: Vec<String>,
    closed: Vec<String>,
}

impl Recorder {
    /// What was recorded since this was asked last: `outer/inner: message`, one a line.
    fn events(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().events)
    }

    /// The spans that were closed since this was asked last.
    fn closed(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().closed)
    }
}

/// The name of a span, with its fields.
struct Name(String);

/// Writes fields one after another.
struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, _: &Field, value: &dyn fmt::Debug) {
        write!(self.0, "{value:?}").unwrap();
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recorder {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut name = Fields(attributes.metadata().name().to_owned());
        attributes.record(&mut name);
        let span = context.span(id).unwrap();
        // Another recorder of the same subscriber may have been here.
        span.extensions_mut().replace(Name(name.0));
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut message = Fields(String::new());
        event.record(&mut message);
        let scope = context.event_scope(event);
        let spans = scope.into_iter().flat_map(|scope| scope.from_root());
        let path: Vec<_> =
            spans.map(|span| span.extensions().get::<Name>().unwrap().0.clone()).collect();
        self.0.lock().unwrap().events.push(format!("{}: {}", path.join("/"), message.0));
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let span = context.span(&id).unwrap();
        let name = span.extensions().get::<Name>().unwrap().0.clone();
        self.0.lock().unwrap().closed.push(name);
    }
}
