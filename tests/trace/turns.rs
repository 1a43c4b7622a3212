//! Coroutines that take turns, each in its own spans.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use coro::raw::{self, State, Yielder};
use coro::sync::{Barrier, Mutex};
use coro::{chan, tls};
use tracing::{Span, info, info_span};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::layers::events_of_two_requests;
use crate::{Recorder, common, spans, with_recorder};

/// Waits in every way there is, and says each time where it is.
fn serve(number: usize, lock: &Mutex<()>, barrier: &Barrier) {
    let _request = info_span!("request", number).entered();
    info!("{number}");
    let waits: [&dyn Fn(); 8] = [
        &coro::yield_now,
        &|| coro::sleep(Duration::from_micros(10)),
        &|| coro::go(coro::yield_now).join().unwrap(),
        &|| coro::scope(|s| _ = s.go(coro::yield_now)),
        &|| {
            let (sender, receiver) = chan::bounded(0);
            coro::go(move || sender.send(()).unwrap());
            receiver.recv().unwrap();
        },
        &|| {
            let mut polls = 0;
            coro::wait(poll_fn(|context| {
                polls += 1;
                context.waker().wake_by_ref();
                if polls > 2 { Poll::Ready(()) } else { Poll::Pending }
            }));
        },
        &|| {
            let _held = lock.lock();
            coro::yield_now();
        },
        &|| _ = barrier.wait(),
    ];
    for (step, wait) in waits.iter().enumerate() {
        let inner = info_span!("step", step);
        let _inner = inner.enter();
        wait();
        info!("{number}.{step}");
        {
            let _innermost = info_span!("innermost").entered();
            coro::yield_now();
            info!("{number}.{step}");
        }
        wait();
        info!("{number}.{step}");
    }
    info!("{number}");
}

#[test]
fn trace_each_event_has_its_own_parent() {
    with_recorder("trace_each_event_has_its_own_parent", |recorder| {
        const REQUESTS: usize = 10;
        common::on_workers(|runtime, _| {
            let shared = Arc::new((Mutex::new(()), Barrier::new(REQUESTS)));
            let request = |number| {
                let shared = shared.clone();
                runtime.go(move || serve(number, &shared.0, &shared.1))
            };
            let requests: Vec<_> = (0..REQUESTS).map(request).collect();
            requests.into_iter().for_each(|request| request.join().unwrap());
            let events = recorder.events();
            assert_eq!(events.len(), REQUESTS * (2 + 8 * 3));
            for event in events {
                let (path, message) = event.split_once(": ").unwrap();
                let (number, step) = message.split_once('.').unzip();
                let number = number.unwrap_or(message);
                let own = match step {
                    None => vec![format!("request{number}")],
                    Some(step) => vec![
                        format!("request{number}/step{step}"),
                        format!("request{number}/step{step}/innermost"),
                    ],
                };
                assert!(own.iter().any(|own| own == path), "{event}");
            }
            assert_eq!(recorder.closed().len(), REQUESTS * (1 + 8 * 2));
        });
    });
}

/// The same turns without the layer, so that the test above is seen to test something.
#[test]
fn trace_without_the_layer_events_are_mixed_up() {
    const TEST: &str = "trace_without_the_layer_events_are_mixed_up";
    common::in_child(TEST, common::CHILDS_LIMIT, || {
        let recorder = Recorder::default();
        tracing_subscriber::registry().with(recorder.clone()).init();
        assert_ne!(events_of_two_requests(&recorder), ["request1: 1", "request2: 2"]);
    });
}

/// A coroutine's spans are its task's, and a raw coroutine's turns are within those.
#[test]
fn trace_spans_of_a_raw_coroutine_are_its_tasks() {
    with_recorder("trace_spans_of_a_raw_coroutine_are_its_tasks", |recorder| {
        let runtime = common::runtime(1);
        let neighbour = runtime.go(|| {
            let _neighbour = info_span!("neighbour").entered();
            for _ in 0..20 {
                coro::yield_now();
            }
        });
        let task = runtime.go(|| {
            let body = |yielder: &Yielder<(), ()>, ()| {
                let _raw = info_span!("raw").entered();
                coro::yield_now();
                info!("inside");
                yielder.suspend(());
            };
            raw::with(65536, body, |coroutine| {
                assert_eq!(coroutine.resume(()), State::Yielded(()));
                coro::yield_now();
                info!("outside");
            })
            .unwrap();
            coro::yield_now();
            info!("after");
        });
        task.join().unwrap();
        neighbour.join().unwrap();
        assert_eq!(recorder.events(), ["raw: inside", "raw: outside", ": after"]);
    });
}

/// A plain thread, and what a coroutine stores, have nothing to do with it.
#[test]
fn trace_on_a_thread_and_over_an_unload() {
    with_recorder("trace_on_a_thread_and_over_an_unload", |recorder| {
        let _thread = info_span!("thread").entered();
        let task = coro::go(|| {
            let _task = info_span!("task").entered();
            tls::set("key", 1);
            tls::unload();
            coro::yield_now();
            info!("in the task");
        });
        task.join().unwrap();
        info!("on the thread");
        assert_eq!(recorder.events(), ["task: in the task", "thread: on the thread"]);
    });
}

/// A guard that is dropped out of order, and a span that is entered twice.
#[test]
fn trace_guards_in_any_order() {
    with_recorder("trace_guards_in_any_order", |recorder| {
        let task = coro::go(|| {
            let (a, b) = (info_span!("a"), info_span!("b"));
            let in_a = a.enter();
            let in_b = b.enter();
            let again = a.enter();
            coro::yield_now();
            drop(in_a);
            coro::yield_now();
            assert_eq!(Span::current().id(), b.id());
            drop(in_b);
            coro::yield_now();
            assert_eq!(Span::current().id(), a.id());
            drop(again);
            coro::yield_now();
            assert!(Span::current().is_none());
        });
        task.join().unwrap();
        assert_eq!(recorder.closed(), ["b", "a"]);
    });
}

#[test]
fn trace_example_prints_both_trees() {
    let _watchdog = common::watchdog();
    let with = spans::tree(true);
    for number in 1..=3 {
        let events =
            ["asks", "writes to the journal", "replies"].map(|event| format!("    {event}\n"));
        let own =
            format!("  request {number}\n{}    query\n      has the answer\n", events.concat());
        assert!(with.contains(&own), "{with}");
    }
    assert!(spans::tree(false).contains("        request"), "one request inside another");
}
