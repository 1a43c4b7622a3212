//! `CORO_CHECK=nesting`: each way to break the nesting rule is reported, and what only looks like one is not.
//!
//! Every case is a process of its own, since the checker is one, and ends it.

#![cfg(feature = "check")]

mod common;

use std::arch::global_asm;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{self, Output};
use std::task::Poll;
use std::time::Duration;

use coro::raw::{self, State, Yielder};

use common::{child_case, planned, quiet, watchdog};

const STACK: usize = 64 * 1024;

/// Runs `case` of `test` in a child that is checked.
fn checked(test: &str, case: &str, variable: &str) -> Output {
    common::child_command(test, case)
        .env("CORO_CHECK", variable)
        .env("CORO_WORKERS", "1")
        .output()
        .unwrap()
}

/// Runs each case in a child, and checks that it is reported as `what`; gives the last report.
#[track_caller]
fn assert_reported(test: &str, variable: &str, cases: &[&str], what: &str) -> String {
    let mut report = String::new();
    for case in cases {
        let output = checked(test, case, variable);
        report = common::stderr(&output);
        assert_eq!(common::signal(&output), Some(libc::SIGABRT), "{case}: {report}");
        assert!(report.starts_with("coro: "), "{case}: {report}");
        assert!(report.contains(&format!("is suspended inside {what}\n")), "{case}: {report}");
        assert_eq!(report.matches("\n  =>").count(), 1, "{case}: {report}");
    }
    report
}

/// Ends a child that should not have come so far.
fn not_reported() -> ! {
    process::exit(3);
}

/// Waits for a future that another coroutine of this worker wakes, which can run only meanwhile.
fn wait_for_another() {
    let mut is_polled = false;
    coro::wait(poll_fn(|context| {
        if std::mem::replace(&mut is_polled, true) {
            return Poll::Ready(());
        }
        let waker = context.waker().clone();
        drop(coro::go(move || waker.wake()));
        Poll::Pending
    }));
}

/// Suspends the running coroutine in the way that the case says.
fn suspend_by(case: &str) {
    match case {
        "yield" => coro::yield_now(),
        "park" => coro::park(),
        "sleep" => coro::sleep(Duration::from_millis(1)),
        "wait" => wait_for_another(),
        "join" => coro::go(|| ()).join().unwrap(),
        other => panic!("no such case: {other}"),
    }
}

#[test]
fn check_initialiser_that_suspends_is_reported() {
    const NAME: &str = "check_initialiser_that_suspends_is_reported";
    let _watchdog = watchdog();
    if let Some(case) = child_case() {
        thread_local! {
            static VALUE: Cell<u32> = {
                suspend_by(&child_case().unwrap());
                Cell::new(1)
            };
            static DROPPED: RefCell<String> = {
                suspend_by(&child_case().unwrap());
                RefCell::default()
            };
        }
        let init = move || match &*case {
            "join" => DROPPED.with_borrow_mut(|value| value.push('a')),
            _ => assert_eq!(VALUE.get(), 1),
        };
        coro::Builder::new().name("accept loop").spawn(init).unwrap().join().unwrap();
        not_reported();
    }
    let cases = ["yield", "park", "sleep", "wait", "join"];
    let report = assert_reported(NAME, "nesting", &cases, "the initialiser of a thread_local!");

    let mut lines = report.lines();
    let first = lines.next().unwrap();
    assert!(first.starts_with("coro: coroutine "), "{report}");
    assert!(first.contains(" 'accept loop', spawned at "), "{report}");
    let rest = lines.collect::<Vec<_>>().join("\n");
    for part in [
        "\n  instead: ",
        "coro::local!",
        "get_or_init_slow",
        "suspend_by",
        "tests/check_nesting.rs:",
    ] {
        assert!(format!("\n{rest}").contains(part), "{part:?}: {report}");
    }
    assert!(rest.starts_with("  this is undefined behaviour: "), "{report}");
    assert!(!rest.contains("trace_unsynchronized"), "frames of the checker: {report}");
    assert!(!rest.contains("Worker"), "frames of the worker: {report}");
}

thread_local! {
    /// Runs what [`NEXT`] says, while it is initialised.
    static RUNS: Cell<u32> = {
        NEXT.take().unwrap()();
        Cell::new(1)
    };
    static NEXT: Cell<Option<fn()>> = const { Cell::new(None) };
}

/// Runs `f` inside the initialiser of a thread-local.
fn in_initialiser(f: fn()) {
    NEXT.set(Some(f));
    assert_eq!(RUNS.get(), 1);
}

/// The yielder of the outer coroutine, for the inner one.
type Unit = Yielder<(), ()>;

thread_local! {
    static OUTER: Cell<*const Unit> = const { Cell::new(std::ptr::null()) };
}

fn suspend_outer() {
    // SAFETY: the outer coroutine waits for us, and its yielder is on its stack.
    unsafe { &*OUTER.get() }.suspend(());
}

/// Resumes a raw coroutine once that runs `f`.
fn resume_one(f: fn()) {
    raw::with(STACK, |_: &Unit, ()| f(), |coroutine| coroutine.resume(())).unwrap();
}

#[test]
fn check_raw_coroutine_in_an_initialiser_is_reported() {
    const NAME: &str = "check_raw_coroutine_in_an_initialiser_is_reported";
    let _watchdog = watchdog();
    let on_outer = |f: fn()| {
        let body = |yielder: &Unit, ()| {
            OUTER.set(yielder);
            f();
        };
        raw::with(STACK, body, |coroutine| while let State::Yielded(()) = coroutine.resume(()) {})
            .unwrap();
    };
    match child_case().as_deref() {
        Some("suspend") => on_outer(|| in_initialiser(suspend_outer)),
        Some("suspend, on a task") => {
            coro::go(move || on_outer(|| in_initialiser(suspend_outer))).join().unwrap();
        }
        // The initialiser is on the outer coroutine's stack, the suspension on that of one further in.
        Some("suspend, from further in") => {
            on_outer(|| in_initialiser(|| resume_one(suspend_outer)));
        }
        Some("task") => coro::go(|| in_initialiser(|| resume_one(coro::yield_now))).join().unwrap(),
        Some("task, initialiser further in") => {
            coro::go(|| resume_one(|| in_initialiser(coro::yield_now))).join().unwrap();
        }
        Some(other) => panic!("no such case: {other}"),
        None => {
            let what = "the initialiser of a thread_local!";
            let cases = ["suspend", "suspend, on a task", "suspend, from further in"];
            let report = assert_reported(NAME, "nesting", &cases, what);
            assert!(report.starts_with("coro: raw coroutine "), "{report}");
            let cases = ["task", "task, initialiser further in"];
            let report = assert_reported(NAME, "nesting", &cases, what);
            assert!(report.starts_with("coro: coroutine "), "{report}");
            return;
        }
    }
    not_reported();
}

scoped_tls::scoped_thread_local!(static SCOPED: u32);

#[test]
fn check_scoped_tls_that_suspends_is_reported() {
    const NAME: &str = "check_scoped_tls_that_suspends_is_reported";
    let _watchdog = watchdog();
    if child_case().is_some() {
        coro::go(|| SCOPED.set(&1, coro::yield_now)).join().unwrap();
        not_reported();
    }
    let what = "the function that a scoped thread-local is set for";
    assert_reported(NAME, "nesting", &["set"], what);
}

#[test]
fn check_destructor_that_suspends_is_reported() {
    const NAME: &str = "check_destructor_that_suspends_is_reported";
    struct Suspends;
    impl Drop for Suspends {
        fn drop(&mut self) {
            coro::yield_now();
        }
    }
    thread_local! {
        static LAZY: RefCell<Option<Suspends>> = RefCell::new("".parse::<u32>().ok().map(|_| Suspends));
        static CONSTANT: RefCell<Option<Suspends>> = const { RefCell::new(None) };
    }
    let _watchdog = watchdog();
    match child_case().as_deref() {
        Some("lazy") => coro::go(|| {
            LAZY.set(Some(Suspends));
            process::exit(3)
        })
        .join()
        .unwrap(),
        Some("constant") => coro::go(|| {
            CONSTANT.set(Some(Suspends));
            process::exit(3)
        })
        .join()
        .unwrap(),
        Some(other) => panic!("no such case: {other}"),
        None => {
            let what = "the destructor of a thread-local";
            assert_reported(NAME, "nesting", &["lazy", "constant"], what);
        }
    }
}

/// A function of the user's that must not be suspended.
#[inline(never)]
fn hold(f: impl FnOnce()) {
    f();
    std::hint::black_box(());
}

mod inner {
    /// Which the compiler may inline.
    pub(crate) fn hold(f: impl FnOnce()) {
        f();
        std::hint::black_box(());
    }
}

#[test]
fn check_function_on_the_users_list_is_reported() {
    const NAME: &str = "check_function_on_the_users_list_is_reported";
    let _watchdog = watchdog();
    match child_case().as_deref() {
        Some("outer") => coro::go(|| hold(coro::yield_now)).join().unwrap(),
        Some("inner") => coro::go(|| inner::hold(coro::yield_now)).join().unwrap(),
        Some(other) => panic!("no such case: {other}"),
        None => {
            for (path, case) in
                [("check_nesting::hold", "outer"), ("check_nesting::inner::hold", "inner")]
            {
                let variable = format!("nesting,nowhere::at::all,{path}");
                let what = format!("{path}, which CORO_CHECK lists");
                assert_reported(NAME, &variable, &[case], &what);
            }
            for case in ["outer", "inner"] {
                assert_eq!(checked(NAME, case, "nesting").status.code(), Some(3), "{case}");
            }
            return;
        }
    }
    not_reported();
}

#[test]
fn check_what_keeps_the_rule_is_not_reported() {
    const NAME: &str = "check_what_keeps_the_rule_is_not_reported";
    thread_local! {
        static PLAIN: Cell<u32> = Cell::new(process::id());
    }
    /// Suspends itself twice, and ends.
    fn raw_to_its_end() {
        let body = |yielder: &Unit, ()| (0..2).for_each(|_| yielder.suspend(()));
        raw::with(STACK, body, |coroutine| while let State::Yielded(()) = coroutine.resume(()) {})
            .unwrap();
    }
    /// Suspended in it when it is dropped.
    fn raw_that_is_unwound() {
        let body = |yielder: &Unit, ()| loop {
            yielder.suspend(());
        };
        raw::with(STACK, body, |coroutine| coroutine.resume(())).unwrap();
    }
    let _watchdog = watchdog();
    match child_case().as_deref() {
        Some("inside LocalKey::with") => {
            let pair = || {
                PLAIN.with(|value| {
                    let before = value.get();
                    (0..100).for_each(|_| coro::yield_now());
                    value.set(before + 1);
                });
            };
            let (first, second) = (coro::go(pair), coro::go(pair));
            first.join().unwrap();
            second.join().unwrap();
        }
        Some("a raw coroutine in an initialiser, on a thread") => in_initialiser(raw_to_its_end),
        Some("a raw coroutine in an initialiser, in a coroutine") => {
            coro::go(|| in_initialiser(raw_to_its_end)).join().unwrap();
        }
        Some("a raw coroutine in an initialiser, unwound") => in_initialiser(raw_that_is_unwound),
        Some("an initialiser that spawns") => {
            coro::go(|| in_initialiser(|| drop(coro::go(|| ())))).join().unwrap()
        }
        Some("an initialiser that waits on a thread") => {
            in_initialiser(|| coro::go(coro::yield_now).join().unwrap());
        }
        Some("scoped_tls that was set before") => coro::go(|| {
            SCOPED.set(&1, || SCOPED.with(|value| assert_eq!(*value, 1)));
            coro::yield_now();
        })
        .join()
        .unwrap(),
        Some("in an unwinding") => {
            quiet();
            coro::go(|| {
                let unwound = catch_unwind(AssertUnwindSafe(|| {
                    let _guard = common::RunOnDrop(coro::yield_now);
                    planned("unwinds");
                }));
                assert!(unwound.is_err());
            })
            .join()
            .unwrap();
        }
        Some(other) => panic!("no such case: {other}"),
        None => {
            for case in [
                "inside LocalKey::with",
                "a raw coroutine in an initialiser, on a thread",
                "a raw coroutine in an initialiser, in a coroutine",
                "a raw coroutine in an initialiser, unwound",
                "an initialiser that spawns",
                "an initialiser that waits on a thread",
                "scoped_tls that was set before",
                "in an unwinding",
            ] {
                let output = checked(NAME, case, "nesting");
                assert_eq!(output.status.code(), Some(7), "{case}: {}", common::stderr(&output));
                assert_eq!(common::stderr(&output), "", "{case}");
            }
            return;
        }
    }
    process::exit(7);
}

global_asm!(
    ".pushsection .text",
    // Calls its argument, and has no unwind table.
    ".globl check_without_a_table",
    "check_without_a_table:",
    "sub rsp, 8",
    "call rdi",
    "add rsp, 8",
    "ret",
    ".popsection",
);

unsafe extern "C" {
    safe fn check_without_a_table(f: extern "C" fn());
}

extern "C" fn yields_twice() {
    coro::yield_now();
    coro::yield_now();
}

#[test]
fn check_frames_that_cannot_be_followed_are_told_once() {
    const NAME: &str = "check_frames_that_cannot_be_followed_are_told_once";
    let _watchdog = watchdog();
    if child_case().is_some() {
        coro::go(|| check_without_a_table(yields_twice)).join().unwrap();
        process::exit(7);
    }
    let output = checked(NAME, "no table", "nesting");
    let report = common::stderr(&output);
    assert_eq!(output.status.code(), Some(7), "{report}");
    assert!(report.starts_with("coro: CORO_CHECK: the frames of coroutine "), "{report}");
    assert_eq!(report.matches("cannot be followed beyond").count(), 1, "{report}");
}

#[test]
fn check_forked_process_does_not_wait_for_the_checker() {
    const NAME: &str = "check_forked_process_does_not_wait_for_the_checker";
    let _watchdog = watchdog();
    if child_case().is_some() {
        resume_one(|| ());
        // SAFETY: the child runs a coroutine of this thread's, and leaves by `_exit`.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            raw::with(
                STACK,
                |yielder: &Unit, ()| yielder.suspend(()),
                |coroutine| {
                    coroutine.resume(());
                },
            )
            .unwrap();
            // SAFETY: takes a number.
            unsafe { libc::_exit(7) };
        }
        process::exit(libc::WEXITSTATUS(common::wait_for_forked(pid)));
    }
    assert_eq!(checked(NAME, "fork", "nesting").status.code(), Some(7));
}

#[test]
fn check_nonsense_is_a_panic() {
    const NAME: &str = "check_nonsense_is_a_panic";
    let _watchdog = watchdog();
    if child_case().is_some() {
        coro::go(|| ()).join().unwrap();
        not_reported();
    }
    for nonsense in ["nonsense", "nesting,", "nesting,a b", "nesting;a"] {
        let output = checked(NAME, "nonsense", nonsense);
        let report = common::stderr(&output);
        assert_eq!(output.status.code(), Some(101), "{report}");
        let expected = format!("CORO_CHECK={nonsense:?}: expected `nesting`, or `nesting,path");
        assert!(report.contains(&expected), "{report}");
    }
    assert_eq!(checked(NAME, "empty", "").status.code(), Some(3));
}
