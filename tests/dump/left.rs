//! `coro::test::no_coroutines_left`.

use std::panic::{AssertUnwindSafe, catch_unwind};

use coro::test::no_coroutines_left;

use crate::common::{self, message, planned};

#[test]
fn dump_nothing_is_left_where_all_have_ended() {
    let _watchdog = common::watchdog();
    let mut number = 1;
    let value = no_coroutines_left(|| {
        coro::scope(|scope| (0..100).for_each(|_| _ = scope.go(coro::yield_now)));
        // It is about to end.
        coro::go(|| (0..100).for_each(|_| coro::yield_now()));
        number += 1;
        "value"
    });
    assert_eq!((number, value), (2, "value"));
}

#[test]
fn dump_what_is_left_fails_with_a_dump() {
    let _watchdog = common::watchdog();
    common::quiet();
    // What others have does not count.
    let other = common::runtime(1).go(|| ());
    let left = catch_unwind(|| {
        no_coroutines_left(|| {
            let starts = coro::go(|| {
                coro::Builder::new().name("forgotten").spawn(coro::park).unwrap();
                coro::go(|| coro::sleep(common::PATIENCE));
            });
            starts.join().unwrap();
        });
    });
    let payload = left.unwrap_err();
    let text = message(&*payload);
    assert!(text.starts_with("2 coroutines are left\n"), "{text}");
    for part in
        ["'forgotten'", "1 parked, waiting for park", "1 parked, waiting for sleep", file!()]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    drop(other);
}

#[test]
fn dump_nothing_is_left_hands_a_panic_on() {
    let _watchdog = common::watchdog();
    common::quiet();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        no_coroutines_left(|| {
            coro::go(coro::park);
            planned("a test that fails by itself")
        })
    }));
    assert!(common::is_planned(&*panicked.unwrap_err(), "a test that fails by itself"));
}
