//! A dump in a build without backtraces: all but these is there, and it says what is missing.

#![cfg(not(feature = "dump"))]

mod common;

use std::time::Duration;

use coro::inspect::{self, CoroutineState, dump};

#[test]
fn dump_without_the_feature_says_so() {
    let _watchdog = common::watchdog();
    let coroutine = coro::go(|| {
        inspect::label("step", 1);
        coro::park();
    });
    let dump = loop {
        let dump = dump().in_state(CoroutineState::Parked);
        if !dump.is_empty() {
            break dump;
        }
    };
    let [one] = dump.coroutines() else { panic!("{dump}") };
    assert_eq!((one.id(), one.stack_used()), (coroutine.id(), None));
    assert_eq!(one.labels().collect::<Vec<_>>(), [("step", "1")]);
    let groups = dump.groups();
    assert_eq!(groups[0].frames().count(), 0);
    let end = groups[0].frames_end().unwrap();
    assert!(end.starts_with("built without backtraces: enable the Cargo feature `dump`"), "{end}");
    assert!(dump.to_string().contains(&end));
    while inspect::stuck(Duration::from_millis(5)).is_empty() {}
    coroutine.handle().unpark();
    coroutine.join().unwrap();
}
