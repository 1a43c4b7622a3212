//! `coro::exit`: from wherever it is called, the process ends with its status, after every coroutine has been
//! cleaned up once.

use std::cell::RefCell;
use std::hint;
use std::process::Output;
use std::thread;
use std::time::Duration;

use coro::{raw, tls};

use crate::common::{self, Counter, RunOnDrop};

const STATUS: i32 = 7;
const NEIGHBOURS: usize = 30;

/// One line on stdout for each thing that was cleaned up. Not by `println!`, whose lock may be held by a coroutine
/// that is suspended.
fn note(what: &str, number: usize) {
    let line = format!("{what} {number}\n");
    // SAFETY: bytes of our own.
    unsafe { libc::write(libc::STDOUT_FILENO, line.as_ptr().cast(), line.len()) };
}

/// Has a value and a handler, and waits in one of several ways, for ever.
fn neighbour(number: usize) {
    let _local = RunOnDrop(move || note("local", number));
    tls::set("value", RunOnDrop(move || note("value", number)));
    tls::at_exit(move || {
        coro::sleep(Duration::from_millis(20));
        note("handler", number);
    });
    match number % 5 {
        0 => {}
        1 => coro::sleep(Duration::MAX),
        2 => drop(coro::go(|| coro::sleep(Duration::MAX)).join()),
        3 => coro::wait(std::future::pending()),
        _ => loop {
            coro::yield_now();
        },
    }
    // Until it is cancelled itself: the child of a join may be first, and a cancellation in the handler would end that.
    loop {
        coro::park();
    }
}

/// Starts neighbours on the default runtime and on one of their own, and waits until all are up.
fn start_neighbours() -> coro::Runtime {
    let up = Counter::default();
    let runtime = common::runtime(2);
    for number in 0..NEIGHBOURS {
        let up = up.clone();
        let start = move || {
            up.add();
            neighbour(number);
        };
        if number % 2 == 0 { drop(coro::go(start)) } else { drop(runtime.go(start)) }
    }
    up.wait_for(NEIGHBOURS);
    runtime
}

#[track_caller]
fn assert_clean(output: &Output) {
    assert_eq!(output.status.code(), Some(STATUS), "{output:?}");
    let stdout = common::stdout(output);
    for what in ["local", "value", "handler"] {
        for number in 0..NEIGHBOURS {
            let line = format!("{what} {number}");
            assert_eq!(
                stdout.lines().filter(|said| said.ends_with(&line)).count(),
                1,
                "{line} in {stdout}"
            );
        }
    }
}

/// The calling coroutine is unwound too.
fn exit_from_a_coroutine() {
    let _local = RunOnDrop(|| note("caller", 0));
    tls::at_exit(|| note("caller's end", 0));
    coro::exit(STATUS)
}

/// Comes back when `exit` was called, and the coroutines are about to end.
fn wait_for_the_call() {
    let unwound = Counter::default();
    let on_drop = unwound.on_drop();
    coro::go(move || {
        let _on_drop = on_drop;
        exit_from_a_coroutine();
    });
    unwound.wait_for(1);
}

#[test]
fn runtime_exit_cleans_up_first() {
    const NAME: &str = "runtime_exit_cleans_up_first";
    let _watchdog = common::watchdog();
    let cases: &[(&str, fn())] = &[
        ("coroutine", || drop(coro::go(exit_from_a_coroutine).join())),
        // Whoever waits for the coroutine panics: the test's process would end with 101.
        ("joined by one that panics", || coro::go(exit_from_a_coroutine).join().unwrap()),
        // The process comes to its end by itself meanwhile.
        ("main returns", wait_for_the_call),
        ("process::exit meanwhile", || {
            wait_for_the_call();
            std::process::exit(5);
        }),
        ("plain thread", || {
            note("caller", 0);
            note("caller's end", 0);
            thread::spawn(|| coro::exit(STATUS)).join().unwrap();
        }),
        ("timeout on a plain thread", || {
            note("caller", 0);
            note("caller's end", 0);
            let _ = coro::timeout(Duration::ZERO, || coro::exit(STATUS));
        }),
        ("blocking", || {
            let task = coro::go(|| {
                let _local = RunOnDrop(|| note("caller", 0));
                tls::at_exit(|| note("caller's end", 0));
                coro::blocking(|| coro::exit(STATUS));
            });
            drop(task.join());
        }),
        ("raw coroutine", || {
            let task = coro::go(|| {
                let _local = RunOnDrop(|| note("caller", 0));
                let body = |_: &raw::Yielder<(), ()>, ()| {
                    tls::at_exit(|| note("caller's end", 0));
                    coro::exit(STATUS);
                };
                raw::with(1, body, |raw| _ = raw.resume(())).unwrap();
            });
            drop(task.join());
        }),
        ("no_suspend", || drop(coro::go(|| coro::no_suspend(exit_from_a_coroutine)).join())),
        ("handler", || {
            let task = coro::go(|| {
                tls::at_exit(|| note("caller's end", 0));
                tls::at_exit(|| {
                    let _local = RunOnDrop(|| note("caller", 0));
                    coro::exit(STATUS);
                });
            });
            drop(task.join());
        }),
        ("several", || {
            let task = coro::go(exit_from_a_coroutine);
            drop(task.join());
            let others: Vec<_> = (0..4).map(|n| coro::go(move || coro::exit(100 + n))).collect();
            thread::spawn(|| coro::exit(110));
            others.into_iter().for_each(|other| drop(other.join()));
            coro::exit(111);
        }),
    ];
    for (name, case) in cases {
        if common::is_child(name) {
            common::quiet();
            // A runtime that nobody shuts down.
            std::mem::forget(start_neighbours());
            return case();
        }
    }
    for (name, _) in cases {
        // In time, whatever is checked.
        let output = common::child_command(NAME, name).env_remove("CORO_CHECK").output().unwrap();
        assert_clean(&output);
        let stdout = common::stdout(&output);
        for line in ["caller 0", "caller's end 0"] {
            assert_eq!(
                stdout.lines().filter(|said| said.ends_with(line)).count(),
                1,
                "{name}: {stdout}"
            );
        }
    }
}

/// A coroutine that does not end is named, and the process ends.
#[test]
fn runtime_exit_waits_for_a_bounded_time() {
    const NAME: &str = "runtime_exit_waits_for_a_bounded_time";
    let _watchdog = common::watchdog();
    if common::is_child(NAME) {
        let busy = Counter::default();
        let spin = {
            let busy = busy.clone();
            move || {
                busy.add();
                loop {
                    hint::spin_loop();
                }
            }
        };
        coro::Builder::new()
            .name("stubborn")
            .spawn_on(&std::mem::ManuallyDrop::new(common::runtime(1)), spin)
            .unwrap();
        busy.wait_for(1);
        coro::go(|| coro::exit(STATUS)).join().unwrap();
    }
    let output = common::child(NAME, NAME);
    assert_eq!(output.status.code(), Some(STATUS), "{output:?}");
    let stderr = common::stderr(&output);
    assert!(
        stderr.contains("was cancelled 3s ago and goes on running; it is left alone"),
        "{stderr}"
    );
}

/// A runtime that is started after the call works for nobody.
#[test]
fn runtime_exit_closes_later_runtimes() {
    const NAME: &str = "runtime_exit_closes_later_runtimes";
    let _watchdog = common::watchdog();
    if common::is_child(NAME) {
        let delays = coro::go(|| {
            tls::at_exit(|| coro::sleep(Duration::from_millis(100)));
            coro::exit(STATUS);
        });
        while !delays.is_finished() {
            let runtime = common::runtime(1);
            match runtime.go(|| ()).join() {
                Ok(()) => {}
                Err(error) => {
                    assert!(error.is_cancelled());
                    note("refused", 0);
                    break;
                }
            }
        }
        drop(delays.join());
        return;
    }
    let output = common::child(NAME, NAME);
    assert_eq!(output.status.code(), Some(STATUS), "{output:?}");
    assert!(common::stdout(&output).contains("refused 0"), "{output:?}");
}

/// Where no thread is to be had, the process ends all the same.
#[test]
fn runtime_exit_without_a_thread_leaves_at_once() {
    const NAME: &str = "runtime_exit_without_a_thread_leaves_at_once";
    let _watchdog = common::watchdog();
    if common::is_child(NAME) {
        coro::go(|| ()).join().unwrap();
        common::become_limitable();
        common::limit_threads(true);
        drop(coro::go(|| coro::exit(STATUS)).join());
        return;
    }
    let output = common::child(NAME, NAME);
    assert_eq!(output.status.code(), Some(STATUS), "{output:?}");
    let stderr = common::stderr(&output);
    assert!(stderr.contains("coro: no thread to leave the process from"), "{stderr}");
}

/// A worker's thread-locals are not destroyed while a coroutine that is suspended borrows one.
#[test]
fn runtime_exit_leaves_lent_thread_locals_alone() {
    const NAME: &str = "runtime_exit_leaves_lent_thread_locals_alone";
    let _watchdog = common::watchdog();
    if common::is_child(NAME) {
        struct Suspends(String);
        impl Drop for Suspends {
            fn drop(&mut self) {
                self.0.clear();
                for _ in 0..10 {
                    coro::yield_now();
                }
            }
        }
        thread_local! {
            static LENT: RefCell<Suspends> = RefCell::new(Suspends(String::from("lent")));
        }
        let runtime = std::mem::ManuallyDrop::new(common::runtime(1));
        let up = Counter::default();
        let borrows = {
            let up = up.clone();
            move || {
                LENT.with(|lent| {
                    let lent = lent.borrow();
                    let _look = RunOnDrop(|| assert_eq!(lent.0, "lent"));
                    up.add();
                    coro::sleep(Duration::MAX);
                });
            }
        };
        runtime.go(borrows);
        up.wait_for(1);
        drop(runtime.go(|| coro::exit(STATUS)).join());
        return;
    }
    let output = common::child(NAME, NAME);
    assert_eq!(output.status.code(), Some(STATUS), "{output:?}");
    assert_eq!(common::stderr(&output), "");
}
