//! What `tracing-opentelemetry` exports of coroutines that take turns.

use std::collections::HashMap;
use std::sync::Arc;

use coro::sync::Barrier;
use coro::trace::{SpanLayer, in_current_span};
use opentelemetry::trace::{SpanId, TracerProvider};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};
use tracing::info_span;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::common;

#[test]
fn trace_exported_spans_have_the_right_parents() {
    common::in_child("trace_exported_spans_have_the_right_parents", common::CHILDS_LIMIT, || {
        const REQUESTS: usize = 8;
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("coro"));
        tracing_subscriber::registry().with(layer).with(SpanLayer::new()).init();
        common::on_workers(|runtime, _| {
            let barrier = Arc::new(Barrier::new(REQUESTS));
            let request = |number: usize| {
                let barrier = barrier.clone();
                runtime.go(move || {
                    let _request = info_span!("request", otel.name = format!("{number}")).entered();
                    for _ in 0..3 {
                        barrier.wait();
                        let _query =
                            info_span!("query", otel.name = format!("{number}.query")).entered();
                        barrier.wait();
                        let child = move || {
                            coro::yield_now();
                            drop(
                                info_span!("child", otel.name = format!("{number}.query.child"))
                                    .entered(),
                            );
                        };
                        coro::go(in_current_span(child)).join().unwrap();
                    }
                })
            };
            let requests: Vec<_> = (0..REQUESTS).map(request).collect();
            requests.into_iter().for_each(|request| request.join().unwrap());
            let spans = exporter.get_finished_spans().unwrap();
            exporter.reset();
            assert_eq!(spans.len(), REQUESTS * 7);
            let names: HashMap<SpanId, &str> =
                spans.iter().map(|span| (span.span_context.span_id(), &*span.name)).collect();
            let traces: HashMap<&str, _> =
                spans.iter().map(|span| (&*span.name, span.span_context.trace_id())).collect();
            for span in &spans {
                let parent = names.get(&span.parent_span_id).copied();
                assert_eq!(
                    parent,
                    span.name.rsplit_once('.').map(|(parent, _)| parent),
                    "{}",
                    span.name
                );
                let number = span.name.split('.').next().unwrap();
                assert_eq!(span.span_context.trace_id(), traces[number], "{}", span.name);
            }
        });
    });
}
