//! `fork` in a coroutine: the new process may exec or exit; to use coroutines there is one clear
//! panic. A process that was forked before the first coroutine may use them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use coro::raw::State;
use coro::{Builder, JoinHandle, JoinSet, Runtime, tls};

use crate::common::{self, in_child};

const LIMIT: Duration = common::CHILDS_LIMIT;

/// Forks; the new process ends with what `body` returns. Gives back how it ended, as a status.
fn forked(body: impl FnOnce() -> i32) -> i32 {
    let Some(status) = fork() else {
        let status = catch_unwind(AssertUnwindSafe(body)).unwrap_or(111);
        // SAFETY: ends this process, without the parent's destructors.
        unsafe { libc::_exit(status) };
    };
    status
}

/// Forks, and gives the parent the status that the new process has ended with. That one gets `None`.
fn fork() -> Option<i32> {
    // SAFETY: the new process has this thread alone, and does nothing that another would have to.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        // Ends it if it hangs: the parent's watchdog has no thread here.
        // SAFETY: takes a number.
        unsafe { libc::alarm(100) };
        return None;
    }
    let status = common::wait_for_forked(pid);
    assert!(libc::WIFEXITED(status), "ended by signal {}", libc::WTERMSIG(status));
    Some(libc::WEXITSTATUS(status))
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

/// What a forked process may try with coroutines, other than raw ones. The number of the
/// first that was not refused with the right words, or 0.
fn try_everything(runtime: &Runtime, parked: &mut Parked, inside: bool) -> i32 {
    let results = [
        refused(|| coro::go(|| ())),
        refused(|| drop(Builder::new().spawn(|| ()))),
        refused(|| drop(Builder::new().name("x").stack_size(65536).spawn(|| ()))),
        refused(|| runtime.go(|| ())),
        // To suspend is to switch to a worker that would go on in both processes.
        !inside || refused(coro::yield_now),
        !inside || refused(coro::park),
        !inside || refused(|| coro::sleep(Duration::from_millis(1))),
        !inside || refused(|| coro::blocking(|| ())),
        // Who is waited for lives in the parent.
        refused(|| parked.to_join.take().unwrap().join()),
        refused(|| coro::wait(parked.to_poll.take().unwrap())),
        refused(|| parked.set.join_next()),
        refused(|| Runtime::builder().workers(1).build()),
    ];
    results.iter().position(|refused| !refused).map_or(0, |index| index as i32 + 1)
}

/// Coroutines of the parent that are parked, to be waited for in every way.
struct Parked {
    to_join: Option<JoinHandle<()>>,
    to_poll: Option<JoinHandle<()>>,
    set: JoinSet<()>,
}

impl Parked {
    fn on(runtime: &Runtime) -> Parked {
        let mut set = JoinSet::new();
        set.insert(runtime.go(coro::park));
        let (to_join, to_poll) = (Some(runtime.go(coro::park)), Some(runtime.go(coro::park)));
        Parked { to_join, to_poll, set }
    }

    /// Ends them, in the parent.
    fn end(mut self) {
        for parked in [self.to_join, self.to_poll].into_iter().flatten() {
            parked.handle().unpark();
            parked.join().unwrap();
        }
        self.set.cancel_all();
        common::assert_cancelled(self.set.join_next().unwrap());
    }
}

#[test]
fn fault_coroutines_in_a_process_forked_by_a_thread_are_one_clear_panic() {
    let test = "fault_coroutines_in_a_process_forked_by_a_thread_are_one_clear_panic";
    in_child(test, LIMIT, || {
        let runtime = common::runtime(1);
        let mut parked = Parked::on(&runtime);
        assert_eq!(forked(|| try_everything(&runtime, &mut parked, false)), 0);
        // The parent is as it was.
        parked.end();
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
            let mut parked = Parked::on(&runtime);
            let outcome = forked(|| try_everything(&runtime, &mut parked, true));
            parked.end();
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

/// Runs `body` in a process of its own. Gives the parent what that has said, after it has ended well.
fn said_by_child(test: &str, body: impl FnOnce()) -> String {
    let _watchdog = common::watchdog_for(LIMIT);
    if common::is_child(test) {
        body();
        std::process::exit(0);
    }
    let output = common::child(test, test);
    assert!(output.status.success(), "{output:?}");
    common::stderr(&output)
}

/// What goes on after a coroutine is its worker, which in the new process would run the parent's queue
/// a second time.
#[test]
fn fault_a_coroutine_that_ends_in_a_forked_process_ends_it() {
    let test = "fault_a_coroutine_that_ends_in_a_forked_process_ends_it";
    let ends: [fn(); 2] = [|| (), || common::planned("in a forked process")];
    let said = said_by_child(test, || {
        common::quiet();
        for end in ends {
            let (runtime, ran) = (common::runtime(1), Shared::default());
            let forks = runtime.go({
                let ran = ran.clone();
                move || {
                    let queued: Vec<_> = (0..3)
                        .map(|_| {
                            coro::go({
                                let ran = ran.clone();
                                move || ran.add()
                            })
                        })
                        .collect();
                    let cleaned = ran.clone();
                    tls::at_exit(move || cleaned.add());
                    let status = fork();
                    if status.is_none() {
                        end();
                    }
                    (status, queued)
                }
            });
            let (status, queued) = forks.join().unwrap();
            assert_eq!(status, Some(101));
            queued.into_iter().for_each(|queued| queued.join().unwrap());
            assert_eq!(ran.get(), 3 + 2, "each of the three ran once, the handler in both");
        }
    });
    assert_eq!(said.lines().count(), 2, "{said}");
    for line in said.lines() {
        assert!(line.starts_with("coro: coroutine ") && line.contains(file!()), "{line}");
        assert!(line.contains("forked") && line.contains("_exit"), "{line}");
    }
}

/// A number that this process shares with those that are forked from it.
#[derive(Clone)]
struct Shared(&'static AtomicUsize);

impl Default for Shared {
    fn default() -> Shared {
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, of zeros, that stays.
        unsafe {
            let page = libc::mmap(std::ptr::null_mut(), 4096, access, flags, -1, 0);
            assert_ne!(page, libc::MAP_FAILED);
            Shared(&*page.cast())
        }
    }
}

impl Shared {
    fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// The thread of a blocking call would go on with the calls that wait for it in the parent.
#[test]
fn fault_a_blocking_call_that_ends_in_a_forked_process_ends_it() {
    let test = "fault_a_blocking_call_that_ends_in_a_forked_process_ends_it";
    let said = said_by_child(test, || {
        let status = coro::go(|| coro::blocking(fork)).join().unwrap();
        assert_eq!(status, Some(101));
    });
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("coro: a blocking call") && said.contains("forked"), "{said}");
}

/// A scope whose children are the parent's cannot wait for them.
#[test]
fn fault_a_scope_in_a_forked_process_is_a_clear_panic() {
    in_child("fault_a_scope_in_a_forked_process_is_a_clear_panic", LIMIT, || {
        let scope = || {
            let mut status = None;
            let refused = refused(|| {
                coro::scope(|s| {
                    let child = s.go(coro::park);
                    status = fork();
                    child.handle().unpark();
                })
            });
            match status {
                // SAFETY: ends this process, without the parent's destructors.
                None => unsafe { libc::_exit(i32::from(!refused)) },
                Some(status) => (refused, status),
            }
        };
        assert_eq!(scope(), (false, 0));
        assert_eq!(coro::go(scope).join().unwrap(), (false, 0));
    });
}

/// The threads that a shutdown would wait for are the parent's.
#[test]
fn fault_a_runtime_in_a_forked_process_is_left_alone() {
    in_child("fault_a_runtime_in_a_forked_process_is_left_alone", LIMIT, || {
        let watched = Runtime::builder().workers(1).watch(Duration::from_secs(60));
        let runtimes = [common::runtime(2), watched.build().unwrap()];
        let begun = common::Counter::default();
        let mut runtimes = Some(runtimes.map(|runtime| {
            let begun = begun.clone();
            let parks = move || {
                begun.add();
                coro::park();
            };
            (runtime.go(parks), runtime)
        }));
        // One that is fresh would be dropped.
        begun.wait_for(2);
        let status = forked(|| {
            for (_, runtime) in runtimes.as_ref().unwrap() {
                runtime.shutdown();
                assert_eq!(runtime.shutdown_timeout(Duration::MAX), 1);
            }
            drop(runtimes.take());
            42
        });
        assert_eq!(status, 42);
        for (parked, runtime) in runtimes.unwrap() {
            parked.handle().unpark();
            parked.join().unwrap();
            runtime.shutdown();
        }
    });
}

/// A raw coroutine needs no worker.
#[test]
fn fault_a_raw_coroutine_goes_on_in_a_forked_process() {
    in_child("fault_a_raw_coroutine_goes_on_in_a_forked_process", LIMIT, || {
        coro::go(|| ()).join().unwrap();
        let coroutine = common::raw::<i32, i32, i32>(65536, |yielder, n| {
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
