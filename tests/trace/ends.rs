//! Coroutines that end inside of a span.

use std::mem;
use std::time::Duration;

use coro::trace::SpanLayer;
use tracing::span::Id;
use tracing::{Span, Subscriber, info, info_span};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::common::{self, planned, quiet};
use crate::{Recorder, with_recorder};

#[test]
fn trace_a_panic_or_a_cancellation_leaves_the_span() {
    with_recorder("trace_a_panic_or_a_cancellation_leaves_the_span", |recorder| {
        quiet();
        struct Says;
        impl Drop for Says {
            fn drop(&mut self) {
                coro::yield_now();
                info!("unwinds");
            }
        }
        let runtime = common::runtime(1);
        let neighbour = runtime.go(|| {
            let _neighbour = info_span!("neighbour").entered();
            for _ in 0..50 {
                coro::yield_now();
                assert_eq!(Span::current().metadata().unwrap().name(), "neighbour");
            }
        });
        let panics = runtime.go(|| {
            let _span = info_span!("panics").entered();
            let _says = Says;
            coro::yield_now();
            planned("in a span");
        });
        assert!(panics.join().unwrap_err().is_panic());
        let cancelled = runtime.go(|| {
            let _span = info_span!("cancelled").entered();
            let _says = Says;
            coro::current().unwrap().cancel();
            coro::sleep(Duration::MAX);
        });
        assert!(cancelled.join().unwrap_err().is_cancelled());
        neighbour.join().unwrap();
        runtime.go(|| assert!(Span::current().is_none())).join().unwrap();
        let mut events = recorder.events();
        events.sort();
        assert_eq!(events, ["cancelled: unwinds", "panics: unwinds"]);
        let mut closed = recorder.closed();
        closed.sort();
        assert_eq!(closed, ["cancelled", "neighbour", "panics"]);
    });
}

/// Guards that are forgotten: the thread is clean when the coroutine has ended, and the spans are closed.
#[test]
fn trace_a_forgotten_guard_ends_with_the_coroutine() {
    with_recorder("trace_a_forgotten_guard_ends_with_the_coroutine", |recorder| {
        let runtime = common::runtime(1);
        let forgets = runtime.go(|| {
            let span = info_span!("forgotten");
            mem::forget(span.enter());
            drop(span);
            coro::yield_now();
            info!("still in it");
        });
        forgets.join().unwrap();
        runtime.go(|| assert!(Span::current().is_none())).join().unwrap();
        assert_eq!(recorder.events(), ["forgotten: still in it"]);
        assert_eq!(recorder.closed(), ["forgotten"]);
    });
}

/// A layer that panics at a switch ends the carrying for that coroutine, and for no other. It leaves nothing entered.
#[test]
fn trace_a_layer_that_panics_at_a_switch_is_reported() {
    const TEST: &str = "trace_a_layer_that_panics_at_a_switch_is_reported";
    struct PanicsOnWorker(&'static str);
    impl<S: Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>> Layer<S>
        for PanicsOnWorker
    {
        fn on_exit(&self, id: &Id, context: Context<'_, S>) {
            if coro::current().is_none() && context.span(id).unwrap().name() == self.0 {
                panic!("at the exit of {}", self.0);
            }
        }
    }
    let _watchdog = common::watchdog();
    if common::is_child(TEST) {
        let recorder = Recorder::default();
        let layers = tracing_subscriber::registry().with(SpanLayer::new()).with(recorder.clone());
        layers.with(PanicsOnWorker("bad")).init();
        let runtime = common::runtime(1);
        let task = runtime.go(|| {
            let _outer = info_span!("outer").entered();
            let _bad = info_span!("bad").entered();
            let _inner = info_span!("inner").entered();
            coro::yield_now();
        });
        let good = runtime.go(|| {
            let _good = info_span!("good").entered();
            for _ in 0..10 {
                coro::yield_now();
                info!("good");
            }
        });
        good.join().unwrap();
        task.join().unwrap();
        runtime.go(|| assert!(Span::current().is_none())).join().unwrap();
        assert_eq!(recorder.events(), ["good: good"; 10]);
        let mut closed = recorder.closed();
        closed.sort();
        assert_eq!(closed, ["bad", "good", "inner", "outer"]);
        return;
    }
    let output = common::child(TEST, TEST);
    let said = common::stderr(&output);
    assert!(output.status.success(), "{output:?}");
    assert!(said.contains("at the exit of bad"), "{said}");
    assert!(said.contains("panicked in `suspend`, and is detached"), "{said}");
}
