//! Coroutines that a coroutine starts, and other code that it has run elsewhere.

use std::thread;

use coro::tls;
use coro::trace::in_current_span;
use tracing::{info, info_span};

use crate::{common, with_recorder};

#[test]
fn trace_children_inherit_the_span_if_they_are_asked_to() {
    with_recorder("trace_children_inherit_the_span_if_they_are_asked_to", |recorder| {
        common::on_workers(|runtime, _| {
            runtime
                .go(|| {
                    let _request = info_span!("request").entered();
                    tls::set_inheritable("user", "ann");
                    coro::go(|| info!("plain")).join().unwrap();
                    let child = || {
                        coro::yield_now();
                        info!("child");
                        let _own = info_span!("own").entered();
                        coro::yield_now();
                        info!("child");
                        // And its own.
                        coro::go(in_current_span(|| info!("grandchild"))).join().unwrap();
                    };
                    coro::go(in_current_span(child)).join().unwrap();
                    coro::go(tls::inherit(move || {
                        assert_eq!(*tls::get::<&str>("user").unwrap(), "ann");
                        child();
                    }))
                    .join()
                    .unwrap();
                    coro::blocking(in_current_span(|| info!("blocking")));
                    coro::blocking(|| info!("blocking"));
                    let wrapped = in_current_span(|| info!("thread"));
                    coro::blocking(|| thread::spawn(wrapped).join().unwrap());
                    info!("parent");
                })
                .join()
                .unwrap();
            let child = ["request: child", "request/own: child", "request/own: grandchild"];
            let mut expected = vec![": plain"];
            expected.extend(child);
            expected.extend(child);
            expected.extend([
                "request: blocking",
                ": blocking",
                "request: thread",
                "request: parent",
            ]);
            assert_eq!(recorder.events(), expected);
            assert_eq!(recorder.closed().last().unwrap(), "request");
        });
    });
}

/// The span is open for as long as somebody is in it, or may come to be.
#[test]
fn trace_a_span_stays_open_for_the_child() {
    with_recorder("trace_a_span_stays_open_for_the_child", |recorder| {
        let runtime = common::runtime(1);
        let gate = common::Gate::default();
        let child = runtime.go({
            let gate = gate.clone();
            move || {
                let _request = info_span!("request").entered();
                coro::go(in_current_span(move || {
                    gate.pass();
                    info!("child");
                }))
            }
        });
        let child = child.join().unwrap();
        assert!(recorder.closed().is_empty(), "the child is in it");
        gate.open();
        child.join().unwrap();
        assert_eq!(recorder.events(), ["request: child"]);
        assert_eq!(recorder.closed(), ["request"]);
        // One that is never called closes it as well.
        let uncalled = runtime.go(|| {
            let _request = info_span!("uncalled").entered();
            (in_current_span(|| ()), tls::inherit(|| ()))
        });
        let uncalled = uncalled.join().unwrap();
        assert!(recorder.closed().is_empty());
        drop(uncalled);
        assert_eq!(recorder.closed(), ["uncalled"]);
    });
}

#[test]
fn trace_without_a_span_there_is_nothing_to_inherit() {
    with_recorder("trace_without_a_span_there_is_nothing_to_inherit", |recorder| {
        coro::go(|| coro::go(in_current_span(|| info!("child"))).join().unwrap()).join().unwrap();
        coro::go(|| coro::go(tls::inherit(|| info!("child"))).join().unwrap()).join().unwrap();
        assert_eq!(recorder.events(), [": child", ": child"]);
    });
}
