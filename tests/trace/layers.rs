//! Other layers of the subscriber: one that measures, filters, one that was put there in an `Option`, two subscribers.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use coro::sync::Barrier;
use coro::trace::SpanLayer;
use tracing::dispatcher::{self, Dispatch};
use tracing::span::Id;
use tracing::{Level, Subscriber, debug, debug_span, info, info_span};
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::{Recorder, common};

/// The time, which passes only where a coroutine says that it works.
static CLOCK: AtomicU64 = AtomicU64::new(0);

/// Adds up the time between enter and exit, by the name of the span.
#[derive(Clone, Default)]
struct Timing(Arc<Mutex<Vec<(&'static str, u64)>>>);

struct Entered(u64);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Timing {
    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        context.span(id).unwrap().extensions_mut().replace(Entered(CLOCK.load(Relaxed)));
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        let span = context.span(id).unwrap();
        let entered =
            span.extensions_mut().remove::<Entered>().expect("enter and exit alternate").0;
        self.0.lock().unwrap().push((span.name(), CLOCK.load(Relaxed) - entered));
    }
}

#[test]
fn trace_a_span_counts_its_own_time() {
    common::in_child("trace_a_span_counts_its_own_time", common::CHILDS_LIMIT, || {
        let timing = Timing::default();
        tracing_subscriber::registry().with(timing.clone()).with(SpanLayer::new()).init();
        let runtime = common::runtime(1);
        let barrier = Arc::new(Barrier::new(2));
        let work = |span: tracing::Span, time| {
            let barrier = barrier.clone();
            runtime.go(move || {
                let _span = span.entered();
                for _ in 0..50 {
                    CLOCK.fetch_add(time, Relaxed);
                    barrier.wait();
                }
            })
        };
        let both = [work(info_span!("quick"), 1), work(info_span!("slow"), 1000)];
        both.into_iter().for_each(|one| one.join().unwrap());
        for (name, time) in [("quick", 50), ("slow", 50_000)] {
            let turns = timing.0.lock().unwrap();
            let own = turns.iter().filter(|(span, _)| *span == name).map(|(_, time)| time);
            assert_eq!(own.sum::<u64>(), time, "{name}");
        }
    });
}

#[test]
fn trace_per_layer_filters_work() {
    common::in_child("trace_per_layer_filters_work", common::CHILDS_LIMIT, || {
        let (all, info, own) = (Recorder::default(), Recorder::default(), Recorder::default());
        let is_own =
            |metadata: &tracing::Metadata<'_>| metadata.name() != "request" || metadata.is_event();
        tracing_subscriber::registry()
            .with(all.clone())
            .with(info.clone().with_filter(LevelFilter::from_level(Level::INFO)))
            .with(SpanLayer::new())
            .with(own.clone().with_filter(filter_fn(is_own)))
            .init();
        let runtime = common::runtime(1);
        let barrier = Arc::new(Barrier::new(2));
        let request = |number: u32| {
            let barrier = barrier.clone();
            runtime.go(move || {
                let _request = info_span!("request", number).entered();
                let _detail = debug_span!("detail", number).entered();
                let _inner = info_span!("inner", number).entered();
                barrier.wait();
                debug!("{number}");
                info!("{number}");
            })
        };
        [1, 2].map(request).into_iter().for_each(|request| request.join().unwrap());
        let of = |paths: &[&str], each: usize| {
            let mut expected: Vec<_> = (1..=2)
                .flat_map(|number| {
                    let path: Vec<_> = paths.iter().map(|path| format!("{path}{number}")).collect();
                    vec![format!("{}: {number}", path.join("/")); each]
                })
                .collect();
            expected.sort();
            expected
        };
        let sorted = |recorder: &Recorder| {
            let mut events = recorder.events();
            events.sort();
            events
        };
        assert_eq!(sorted(&all), of(&["request", "detail", "inner"], 2));
        assert_eq!(sorted(&info), of(&["request", "inner"], 1));
        assert_eq!(sorted(&own), of(&["detail", "inner"], 2));
    });
}

/// A layer in an `Option` is not told of its subscriber.
#[test]
fn trace_a_layer_in_an_option_works() {
    common::in_child("trace_a_layer_in_an_option_works", common::CHILDS_LIMIT, || {
        let recorder = Recorder::default();
        tracing_subscriber::registry().with(recorder.clone()).with(Some(SpanLayer::new())).init();
        two_requests(&recorder);
    });
}

/// Two requests that wait for each other, each in its span, have events of their own.
fn two_requests(recorder: &Recorder) {
    assert_eq!(events_of_two_requests(recorder), ["request1: 1", "request2: 2"]);
}

/// The events of two requests that wait for each other, each in its span.
pub(crate) fn events_of_two_requests(recorder: &Recorder) -> Vec<String> {
    let runtime = common::runtime(1);
    let barrier = Arc::new(Barrier::new(2));
    let request = |number| {
        let barrier = barrier.clone();
        runtime.go(move || {
            let _request = info_span!("request", number).entered();
            barrier.wait();
            info!("{number}");
        })
    };
    [1, 2].map(request).into_iter().for_each(|request| request.join().unwrap());
    let mut events = recorder.events();
    events.sort();
    events
}

/// Spans of two subscribers, with the same ids, entered one inside another by the same coroutine.
#[test]
fn trace_two_subscribers_keep_their_spans_apart() {
    common::in_child("trace_two_subscribers_keep_their_spans_apart", common::CHILDS_LIMIT, || {
        let recorders = [Recorder::default(), Recorder::default()];
        let [one, other] = recorders.clone().map(|recorder| {
            Dispatch::new(tracing_subscriber::registry().with(SpanLayer::new()).with(recorder))
        });
        let runtime = common::runtime(1);
        let task = runtime.go(move || {
            let in_one = dispatcher::with_default(&one, || info_span!("one"));
            let in_other = dispatcher::with_default(&other, || info_span!("other"));
            assert_eq!(in_one.id(), in_other.id());
            let entered = in_one.enter();
            let _other = in_other.enter();
            coro::yield_now();
            drop(entered);
            coro::yield_now();
            // Neither of them over a suspension: the default is the thread's.
            dispatcher::with_default(&one, || info!("one"));
            dispatcher::with_default(&other, || info!("other"));
        });
        task.join().unwrap();
        assert_eq!(recorders.map(|recorder| recorder.events()), [[": one"], ["other: other"]]);
    });
}
