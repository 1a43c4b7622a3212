//! Values whose `Drop` does something: each is dropped once, and no lock of the channel is held meanwhile.

use std::panic::{AssertUnwindSafe, catch_unwind};

use coro::chan::{self, Receiver, Sender};

use crate::common::{self, Counter, OnDrop, planned, quiet};

/// Runs a function when it is dropped.
struct Acts(Option<Box<dyn FnOnce() + Send>>);

impl Drop for Acts {
    fn drop(&mut self) {
        self.0.take().unwrap()();
    }
}

fn acts(f: impl FnOnce() + Send + 'static) -> Acts {
    Acts(Some(Box::new(f)))
}

#[test]
fn chan_values_that_are_left_are_dropped_with_the_last_receiver() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let dropped = Counter::default();
        let (sender, receiver) = chan::bounded::<OnDrop>(2);
        sender.send(dropped.on_drop()).unwrap();
        sender.send(dropped.on_drop()).unwrap();
        let waits = runtime.go({
            let (sender, value) = (sender.clone(), dropped.on_drop());
            move || drop(sender.send(value).unwrap_err())
        });
        drop(receiver);
        waits.join().unwrap();
        assert_eq!(dropped.get(), 3);
        drop(sender.send(dropped.on_drop()));
        assert_eq!(dropped.get(), 4);
    });
}

/// Values that are left, whose destructors use their own channel: they send, receive, close, clone, suspend.
#[test]
fn chan_a_values_drop_may_use_its_own_channel() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        type Act = fn(Sender<Acts>, Counter);
        let ways: [Act; 4] = [
            |sender, done| {
                assert!(sender.send(acts(|| ())).is_err(), "there is no receiver");
                done.add();
            },
            |sender, done| {
                sender.close();
                assert!(sender.is_closed());
                done.add();
            },
            |sender, done| {
                drop(sender.clone());
                assert_eq!(sender.len(), 0);
                done.add();
            },
            |_, done| {
                coro::yield_now();
                done.add();
            },
        ];
        for way in ways {
            let done = Counter::default();
            runtime
                .go({
                    let done = done.clone();
                    move || {
                        let (sender, receiver) = chan::unbounded();
                        for _ in 0..3 {
                            let (own, done) = (sender.clone(), done.clone());
                            sender.send(acts(move || way(own, done))).unwrap();
                        }
                        drop(receiver);
                    }
                })
                .join()
                .unwrap();
            assert_eq!(done.get(), 3);
        }
    });
}

#[test]
fn chan_a_values_drop_that_panics_drops_the_others() {
    quiet();
    let _watchdog = common::watchdog();
    let dropped = Counter::default();
    let (sender, receiver) = chan::unbounded::<(Option<Acts>, OnDrop)>();
    sender.send((None, dropped.on_drop())).unwrap();
    sender.send((Some(acts(|| planned("a drop"))), dropped.on_drop())).unwrap();
    sender.send((None, dropped.on_drop())).unwrap();
    catch_unwind(AssertUnwindSafe(|| drop(receiver))).unwrap_err();
    assert_eq!(dropped.get(), 3);
    assert!(sender.send((None, dropped.on_drop())).is_err(), "it is closed all the same");
}

/// The values own the ends of their channel: a circle that the last receiver breaks.
#[test]
fn chan_a_channel_that_is_sent_through_itself_is_freed() {
    let _watchdog = common::watchdog();
    struct Carries {
        _sender: Sender<Carries>,
        _dropped: OnDrop,
    }
    let dropped = Counter::default();
    let (sender, receiver): (Sender<Carries>, Receiver<Carries>) = chan::unbounded();
    for _ in 0..3 {
        let carries = Carries { _sender: sender.clone(), _dropped: dropped.on_drop() };
        sender.send(carries).ok().unwrap();
    }
    drop(receiver);
    assert_eq!(dropped.get(), 3);
}
