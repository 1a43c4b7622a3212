//! Under valgrind a program with coroutines is as clean as any: no error, no guess about stacks.

mod common;

use std::hint::black_box;
use std::panic::catch_unwind;
use std::process::{Command, Output, exit};
use std::time::Duration;

use coro::raw::State;
use coro::tls;

use common::{is_child, planned, watchdog_for};

const LIMIT: Duration = Duration::from_secs(180);

/// Every kind of switch: yields, parks, nesting, deep frames, unwinding, cleanup, cancelling.
fn everything() {
    common::quiet();
    fn deep(depth: usize) -> usize {
        let frame = black_box([depth; 128]);
        coro::yield_now();
        if depth == 0 { frame[7] } else { deep(depth - 1) + 1 + frame[0] - depth }
    }
    for workers in [1, 2] {
        let runtime = common::runtime(workers);
        let tasks: Vec<_> = (0..30_usize)
            .map(|number| {
                runtime.go(move || {
                    tls::set("number", vec![number; 100]);
                    tls::at_exit(move || drop(black_box(vec![number; 10])));
                    let inner = common::raw(64 << 10, |yielder, word: String| {
                        let next: String = yielder.suspend(word + "a");
                        deep(5) + next.len()
                    })
                    .unwrap();
                    let State::Yielded(word) = inner.resume(String::from("x")) else { panic!() };
                    assert_eq!(inner.resume(word), State::Done(7));
                    assert_eq!(deep(20), 20);
                    assert!(catch_unwind(|| planned("caught")).is_err());
                    if number % 3 == 0 {
                        planned("not caught");
                    }
                    tls::get::<Vec<usize>>("number").unwrap().len()
                })
            })
            .collect();
        for (number, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.join().is_err(), number % 3 == 0);
        }
        // In the middle of their unwinding.
        struct Yields;
        impl Drop for Yields {
            fn drop(&mut self) {
                coro::yield_now();
            }
        }
        let panicking: Vec<_> = (0..10)
            .map(|_| {
                runtime.go(|| {
                    let _yields = Yields;
                    planned("with a destructor that yields");
                })
            })
            .collect();
        panicking.into_iter().for_each(|task: coro::JoinHandle<()>| drop(task.join()));
        let parked: Vec<_> = (0..10).map(|_| runtime.go(coro::park)).collect();
        parked.iter().for_each(coro::JoinHandle::cancel);
        parked.into_iter().for_each(|handle| drop(handle.join()));
    }
}

/// Reads memory that is freed, on a coroutine's stack of frames: what valgrind is there to find.
fn one_error() {
    let task = coro::go(|| {
        let freed = black_box(Box::into_raw(Box::new([7_u8; 100])));
        // SAFETY: the second line breaks the rules, which valgrind is to notice.
        unsafe {
            drop(Box::from_raw(freed));
            black_box((*freed)[3])
        }
    });
    black_box(task.join().unwrap());
}

fn under_valgrind(test: &str, case: &str) -> Option<Output> {
    if Command::new("valgrind").arg("--version").output().is_err() {
        eprintln!("{test}: skipped, there is no valgrind here");
        return None;
    }
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--error-exitcode=99", "--fair-sched=yes"]);
    let child = common::child_command(test, case);
    Some(common::run_below(&mut valgrind, &child).output().unwrap())
}

#[test]
#[cfg_attr(coro_asan, ignore = "AddressSanitizer cannot run below valgrind")]
fn stack_valgrind_finds_nothing() {
    const NAME: &str = "stack_valgrind_finds_nothing";
    let _watchdog = watchdog_for(LIMIT);
    if is_child("everything") {
        everything();
        exit(0);
    }
    let Some(output) = under_valgrind(NAME, "everything") else { return };
    let stderr = common::stderr(&output);
    assert!(output.status.success(), "{}{stderr}", common::stdout(&output));
    assert!(stderr.contains("ERROR SUMMARY: 0 errors"), "{stderr}");
    for complaint in ["switching stacks", "unhandled", "WARNING"] {
        assert!(!stderr.contains(complaint), "{complaint}: {stderr}");
    }
}

/// It would find something: the check above can fail.
#[test]
#[cfg_attr(coro_asan, ignore = "AddressSanitizer cannot run below valgrind")]
fn stack_valgrind_finds_an_error() {
    const NAME: &str = "stack_valgrind_finds_an_error";
    let _watchdog = watchdog_for(LIMIT);
    if is_child("error") {
        one_error();
        exit(0);
    }
    let Some(output) = under_valgrind(NAME, "error") else { return };
    let stderr = common::stderr(&output);
    assert_eq!(output.status.code(), Some(99), "{stderr}");
    assert!(stderr.contains("Invalid read of size 1"), "{stderr}");
    assert!(stderr.contains("coro_trampoline"), "the report reaches the stack's base: {stderr}");
}
