//! The calls around each turn.

use std::thread;
use std::time::Duration;

use coro::hook::attach;
use coro::raw::{self, State, Yielder};
use coro::{chan, tls};

use crate::common::{self, Counter, watchdog};
use crate::counting::allocations;
use crate::{CURRENT, Calls, Current, Log, Noting, logged};

#[test]
fn hook_calls_surround_each_turn_in_order() {
    let _watchdog = watchdog();
    let log = Log::default();
    let runtime = common::runtime(1);
    let carried = runtime.go({
        let log = log.clone();
        move || {
            let _a = Noting::attach("a", &log);
            let _b = Noting::attach("b", &log);
            assert_eq!(log.take(), "", "attaching calls nothing");
            coro::yield_now();
            assert_eq!(log.take(), "-b -a +a +b");
            coro::park_timeout(Duration::from_millis(1));
            assert_eq!(log.take(), "-b -a +a +b");
            let _c = Noting::attach("c", &log);
            coro::go(|| ()).join().unwrap();
            assert_eq!(log.take(), "-c -b -a +a +b +c");
        }
    });
    carried.join().unwrap();
    assert_eq!(log.take(), "xc xb xa", "detached in the coroutine, and not called");
}

#[test]
fn hook_neighbours_do_not_see_what_is_carried() {
    let _watchdog = watchdog();
    common::on_workers(|runtime, _| {
        let rounds = 200;
        let turns = |number: u64| {
            move || {
                if number.is_multiple_of(4) {
                    // One without: it finds the thread as it was.
                    for _ in 0..rounds {
                        assert_eq!(CURRENT.get(), 0);
                        coro::yield_now();
                    }
                    return;
                }
                Current::set(number).keep();
                for round in 0..rounds {
                    assert_eq!(CURRENT.get(), number);
                    match round % 3 {
                        0 => coro::yield_now(),
                        1 => coro::sleep(Duration::from_micros(1)),
                        _ => coro::blocking(|| assert_eq!(CURRENT.get(), 0)),
                    }
                }
            }
        };
        let all: Vec<_> = (1..=16).map(|number| runtime.go(turns(number))).collect();
        all.into_iter().for_each(|one| one.join().unwrap());
    });
}

/// The turns of one that only meets others in channels: each wait of one is a turn of the other.
#[test]
fn hook_a_ping_pong_carries_both() {
    let _watchdog = watchdog();
    common::on_workers(|runtime, _| {
        let (ping, pings) = chan::bounded(0);
        let (pong, pongs) = chan::bounded(0);
        let one = runtime.go(move || {
            Current::set(1).keep();
            for number in 0..500 {
                ping.send(number).unwrap();
                assert_eq!((pongs.recv(), CURRENT.get()), (Ok(number), 1));
            }
        });
        let other = runtime.go(move || {
            Current::set(2).keep();
            for number in pings {
                assert_eq!(CURRENT.get(), 2);
                pong.send(number).unwrap();
            }
        });
        one.join().unwrap();
        other.join().unwrap();
    });
}

#[test]
fn hook_detached_in_any_order() {
    let _watchdog = watchdog();
    let log = logged(|log| {
        let names = ["a", "b", "c", "d"];
        let [a, b, c, d] = names.map(|name| Noting::attach(name, &log));
        drop(b);
        assert_eq!(log.take(), "xb");
        coro::yield_now();
        assert_eq!(log.take(), "-d -c -a +a +c +d");
        drop(d);
        drop(a);
        coro::yield_now();
        assert_eq!(log.take(), "xd xa -c +c");
        drop(c);
        coro::yield_now();
        assert_eq!(log.take(), "xc");
        // Attached again after there was none.
        let _e = Noting::attach("e", &log);
        coro::yield_now();
        assert_eq!(log.take(), "-e +e");
    });
    assert_eq!(log.take(), "xe");
}

/// Code that suspends in its own unwinding: the carries are called, and do not see its panic.
#[test]
fn hook_calls_do_not_see_the_panic_of_the_coroutine() {
    let _watchdog = watchdog();
    common::quiet();
    struct YieldsInDrop;
    impl Drop for YieldsInDrop {
        fn drop(&mut self) {
            assert!(thread::panicking());
            coro::yield_now();
            assert!(thread::panicking());
        }
    }
    let calls = Counter::default();
    let runtime = common::runtime(1);
    let task = runtime.go({
        let calls = calls.clone();
        move || {
            let calm = |calls: &Counter| {
                let calls = calls.clone();
                move || {
                    assert!(!thread::panicking());
                    calls.add();
                }
            };
            let dropped = Counter::default().on_drop();
            attach(Calls { suspend: calm(&calls), resume: calm(&calls), _dropped: dropped }).keep();
            let _yields = YieldsInDrop;
            common::planned("in the middle of it");
        }
    });
    assert!(task.join().unwrap_err().is_panic());
    assert_eq!(calls.get(), 3, "suspended, resumed, and suspended at the end");
}

/// It belongs to the task, whose turns are the only ones: a raw coroutine's are within them.
#[test]
fn hook_attached_in_a_raw_coroutine_it_is_the_tasks() {
    let _watchdog = watchdog();
    let log = logged(|log| {
        let body = |yielder: &Yielder<(), ()>, ()| {
            Noting::attach("r", &log).keep();
            yielder.suspend(());
            assert_eq!(log.take(), "", "a switch to the resumer is no turn");
            coro::yield_now();
            assert_eq!(log.take(), "-r +r");
        };
        raw::with(65536, body, |coroutine| {
            assert_eq!(coroutine.resume(()), State::Yielded(()));
            assert_eq!(coroutine.resume(()), State::Done(()));
        })
        .unwrap();
        coro::yield_now();
        assert_eq!(log.take(), "-r +r", "it outlives the raw coroutine");
    });
    assert_eq!(log.take(), "-r xr");
}

#[test]
fn hook_on_a_plain_thread_nothing_is_called() {
    let _watchdog = watchdog();
    let log = Log::default();
    let attached = Noting::attach("t", &log);
    thread::yield_now();
    coro::yield_now();
    coro::go(|| ()).join().unwrap();
    let body = |yielder: &Yielder<(), ()>, ()| {
        let _attached = Noting::attach("r", &log);
        yielder.suspend(());
    };
    raw::with(65536, body, |coroutine| _ = coroutine.resume(())).unwrap();
    assert_eq!(log.take(), "xr");
    drop(attached);
    assert_eq!(log.take(), "xt");
}

/// The storage of a coroutine has nothing to do with it: to empty it detaches nothing.
#[test]
fn hook_outlives_an_unload() {
    let _watchdog = watchdog();
    let log = logged(|log| {
        Noting::attach("a", &log).keep();
        tls::set("key", 1);
        tls::reset();
        tls::unload();
        coro::yield_now();
        assert_eq!(log.take(), "-a +a");
    });
    assert_eq!(log.take(), "-a xa");
}

/// Whoever attaches and detaches without a suspension in between keeps no list of it: the list would have to grow.
#[test]
fn hook_attaching_in_a_loop_does_not_pile_up() {
    let _watchdog = watchdog();
    let dropped = Counter::default();
    let runtime = common::runtime(1);
    let task = runtime.go({
        let dropped = dropped.clone();
        move || {
            let attach_and_detach = || {
                let before = allocations();
                drop(attach(Calls { suspend: || (), resume: || (), _dropped: dropped.on_drop() }));
                allocations() - before
            };
            attach_and_detach();
            let of_one = attach_and_detach();
            let of_all: usize = (0..100_000).map(|_| attach_and_detach()).sum();
            (of_one, of_all)
        }
    });
    let (of_one, of_all) = task.join().unwrap();
    assert_eq!(of_all, of_one * 100_000);
    assert_eq!(dropped.get(), 100_002);
}
