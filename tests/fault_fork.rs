//! `fork` in a coroutine: the new process may exec or exit; to use coroutines there is one clear
//! panic. A process that was forked before the first coroutine may use them.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::time::Duration;

use coro::raw::{Coroutine, State};
use coro::{Builder, Runtime, tls};

use common::in_child;

const LIMIT: Duration = Duration::from_secs(30);

/// Forks; the new process ends with what `body` returns. Gives back how it ended, as a status.
fn forked(body: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the new process has this thread alone, runs `body` and ends.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        // Ends it if it hangs: the parent's watchdog has no thread here.
        // SAFETY: takes a number.
        unsafe { libc::alarm(20) };
        let status = catch_unwind(AssertUnwindSafe(body)).unwrap_or(111);
        // SAFETY: ends this process, without the parent's destructors.
        unsafe { libc::_exit(status) };
    }
    let status = common::wait_for_forked(pid);
    assert!(libc::WIFEXITED(status), "ended by signal {}", libc::WTERMSIG(status));
    libc::WEXITSTATUS(status)
}

#[test]
fn fault_fork_in_a_coroutine_may_exit() {
    in_child("fault_fork_in_a_coroutine_may_exit", LIMIT, || {
        for runtime in [common::runtime(1), common::runtime(2)] {
            let task = runtime.go(|| {
                tls::set("key", 7);
                forked(|| *tls::get::<i32>("key").unwrap())
            });
            assert_eq!(task.join().unwrap(), 7);
            // The parent is as it was.
            assert_eq!(runtime.go(|| 42).join().unwrap(), 42);
        }
    });
}

#[test]
fn fault_fork_in_a_coroutine_may_exec() {
    in_child("fault_fork_in_a_coroutine_may_exec", LIMIT, || {
        let task = coro::go(|| {
            // By std: fork (or its like) and exec.
            let output = Command::new("/bin/sh").args(["-c", "echo hello; exit 3"]).output();
            let by_std = output.unwrap();
            assert_eq!((by_std.status.code(), &*by_std.stdout), (Some(3), &b"hello\n"[..]));
            // By hand.
            forked(|| {
                let arguments =
                    [c"sh".as_ptr(), c"-c".as_ptr(), c"exit 5".as_ptr(), std::ptr::null()];
                // SAFETY: strings that end, and a list that ends.
                unsafe { libc::execv(c"/bin/sh".as_ptr(), arguments.as_ptr()) };
                112
            })
        });
        assert_eq!(task.join().unwrap(), 5);
    });
}

/// Whether `body` panics with the words that a forked process is told.
fn refused<T>(body: impl FnOnce() -> T) -> bool {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(_) => false,
        Err(payload) => common::message(&*payload).contains("forked"),
    }
}

/// What a forked process may try with coroutines, other than those made by hand. The number of the
/// first that was not refused with the right words, or 0.
fn try_everything(runtime: &Runtime, parked: &coro::JoinHandle<()>, inside: bool) -> i32 {
    let _ = parked;
    let results = [
        refused(|| coro::go(|| ())),
        refused(|| drop(Builder::new().spawn(|| ()))),
        refused(|| drop(Builder::new().name("x").stack_size(65536).spawn(|| ()))),
        refused(|| runtime.go(|| ())),
        // To suspend is to switch to a worker that would go on in both processes.
        !inside || refused(coro::yield_now),
        !inside || refused(coro::park),
        !inside || refused(|| coro::sleep(Duration::from_millis(1))),
    ];
    results.iter().position(|refused| !refused).map_or(0, |index| index as i32 + 1)
}

#[test]
fn fault_coroutines_in_a_process_forked_by_a_thread_are_one_clear_panic() {
    let test = "fault_coroutines_in_a_process_forked_by_a_thread_are_one_clear_panic";
    in_child(test, LIMIT, || {
        let runtime = common::runtime(1);
        let parked = runtime.go(coro::park);
        assert_eq!(forked(|| try_everything(&runtime, &parked, false)), 0);
        // The parent is as it was.
        parked.handle().unpark();
        parked.join().unwrap();
        assert_eq!(coro::go(|| 42).join().unwrap(), 42);
        assert_eq!(forked(|| i32::from(!refused(|| coro::go(|| ())))), 0);
    });
}

#[test]
fn fault_coroutines_in_a_process_forked_by_a_coroutine_are_one_clear_panic() {
    let test = "fault_coroutines_in_a_process_forked_by_a_coroutine_are_one_clear_panic";
    in_child(test, LIMIT, || {
        let task = coro::go(|| {
            let runtime = common::runtime(1);
            let parked = runtime.go(coro::park);
            let outcome = forked(|| try_everything(&runtime, &parked, true));
            parked.handle().unpark();
            parked.join().unwrap();
            outcome
        });
        assert_eq!(task.join().unwrap(), 0, "the number of what was not refused");
    });
}

/// Nothing that waits in the parent's queues may run a second time, in the new process.
#[test]
fn fault_a_forked_process_runs_none_of_the_parents_coroutines() {
    let test = "fault_a_forked_process_runs_none_of_the_parents_coroutines";
    in_child(test, LIMIT, || {
        let mut ends = [0; 2];
        // SAFETY: two descriptors of our own.
        assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
        let [receive, send] = ends;
        let runtime = common::runtime(1);
        let task = runtime.go(move || {
            let queued: Vec<_> = (0..10)
                .map(|_| {
                    coro::go(move || {
                        // SAFETY: one byte of our own.
                        unsafe { libc::write(send, c"x".as_ptr().cast(), 1) };
                    })
                })
                .collect();
            let status = forked(|| {
                // Refused or not: it must not reach the parent's work.
                let _ = catch_unwind(coro::yield_now);
                let _ = catch_unwind(coro::yield_now);
                0
            });
            assert_eq!(status, 0);
            queued.into_iter().for_each(|task| task.join().unwrap());
        });
        task.join().unwrap();
        let mut bytes = [0_u8; 64];
        // SAFETY: a buffer of our own.
        let count = unsafe { libc::read(receive, bytes.as_mut_ptr().cast(), bytes.len()) };
        assert_eq!(count, 10, "each of the ten has run once");
    });
}

/// A coroutine made by hand needs no worker.
#[test]
fn fault_a_raw_coroutine_goes_on_in_a_forked_process() {
    in_child("fault_a_raw_coroutine_goes_on_in_a_forked_process", LIMIT, || {
        coro::go(|| ()).join().unwrap();
        let mut coroutine = Coroutine::<i32, i32, i32>::new(65536, |yielder, n| {
            tls::set("n", n);
            let next = yielder.suspend(n + 1);
            next + *tls::get::<i32>("n").unwrap()
        })
        .unwrap();
        assert_eq!(coroutine.resume(1), State::Yielded(2));
        let status = forked(|| match coroutine.resume(10) {
            State::Done(n) => n,
            State::Yielded(_) => 113,
        });
        assert_eq!(status, 11);
        assert_eq!(coroutine.resume(20), State::Done(21));
    });
}

#[test]
fn fault_a_process_forked_before_the_first_coroutine_may_use_them() {
    in_child("fault_a_process_forked_before_the_first_coroutine_may_use_them", LIMIT, || {
        let status = forked(|| {
            let tasks: Vec<_> = (0..10).map(|n| coro::go(move || n)).collect();
            tasks.into_iter().map(|task| task.join().unwrap()).sum()
        });
        assert_eq!(status, 45);
        assert_eq!(coro::go(|| 42).join().unwrap(), 42);
    });
}
