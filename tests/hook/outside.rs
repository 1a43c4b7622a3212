//! What the code of a carry may do, that runs on a worker outside of any coroutine, and what comes of a panic there.

use std::future::pending;
use std::mem::{self, ManuallyDrop};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::time::Duration;

use coro::hook::attach;
use coro::raw::{self, Yielder};
use coro::{Builder, Runtime, chan, sync, tls};

use crate::common::{self, Counter, Payload, message, planned, quiet, watchdog};
use crate::{CURRENT, Calls, Current, Log, Noting};

const SHORT: Duration = Duration::from_millis(1);

/// Runs `f` in the `suspend` of a carry.
fn in_a_carry(runtime: &Runtime, f: impl FnOnce() + Send + 'static) {
    let ran = Counter::default();
    let task = runtime.go({
        let ran = ran.clone();
        move || {
            let mut f = Some(f);
            let suspend = move || {
                if let Some(f) = f.take() {
                    f();
                    ran.add();
                }
            };
            let _attached =
                attach(Calls { suspend, resume: || (), _dropped: Counter::default().on_drop() });
            coro::yield_now();
        }
    });
    task.join().unwrap();
    assert_eq!(ran.get(), 1, "it has panicked");
}

#[test]
fn hook_a_carry_may_do_what_does_not_wait() {
    let _watchdog = watchdog();
    let (sender, receiver) = chan::unbounded();
    let runtime = common::runtime(1);
    in_a_carry(&runtime, move || {
        assert!(coro::current().is_none());
        let before = tls::id();
        tls::set("the worker's own", before);
        assert_eq!(tls::take("the worker's own"), Some(before));
        let from_child = sender.clone();
        coro::go(move || from_child.send("child").unwrap());
        sender.send("carry").unwrap();
        assert_eq!(*sync::Mutex::new(1).lock(), 1);
        assert_eq!(coro::wait(async { 7 }), 7);
        assert!(coro::timeout(SHORT, || ()).is_ok());
        let twice = |yielder: &Yielder<(), ()>, ()| yielder.suspend(());
        raw::with(65536, twice, |coroutine| {
            coroutine.resume(());
            coroutine.resume(());
        })
        .unwrap();
    });
    let got: Vec<_> = (0..2).map(|_| receiver.recv().unwrap()).collect();
    assert_eq!(got, ["carry", "child"]);
}

type Waits = (&'static str, Box<dyn FnOnce() + Send>);

/// Everything that would suspend a coroutine is a clear panic, and leaves nothing behind.
#[test]
fn hook_a_carry_that_would_wait_panics() {
    let _watchdog = watchdog();
    quiet();
    in_a_carry(&common::runtime(1), || {
        let (full, _receiver) = chan::bounded(0);
        let (_sender, empty) = chan::bounded::<()>(0);
        let held: &'static sync::Mutex<()> = Box::leak(Box::new(sync::Mutex::new(())));
        mem::forget(held.lock());
        let mut set = coro::JoinSet::new();
        set.insert(coro::go(|| coro::sleep(Duration::MAX)));
        let waits: Vec<Waits> = vec![
            ("yield_now", Box::new(coro::yield_now)),
            ("park", Box::new(coro::park)),
            ("park_timeout", Box::new(|| coro::park_timeout(SHORT))),
            ("sleep", Box::new(|| coro::sleep(SHORT))),
            ("timeout", Box::new(|| _ = coro::timeout(SHORT, coro::park))),
            ("wait", Box::new(|| coro::wait(pending()))),
            ("join", Box::new(|| _ = coro::go(|| coro::sleep(Duration::MAX)).join())),
            ("JoinSet", Box::new(move || drop(set.join_next()))),
            ("blocking", Box::new(|| coro::blocking(|| ()))),
            ("scope", Box::new(|| coro::scope(|_| ()))),
            ("shutdown", Box::new(|| ManuallyDrop::new(common::runtime(1)).shutdown())),
            ("send", Box::new(move || full.send(()).unwrap())),
            ("recv", Box::new(move || _ = empty.recv())),
            ("lock", Box::new(|| drop(held.lock()))),
            (
                "raw",
                Box::new(|| {
                    raw::with(
                        65536,
                        |_: &Yielder<(), ()>, ()| coro::park(),
                        |coroutine| _ = coroutine.resume(()),
                    )
                    .unwrap();
                }),
            ),
        ];
        for (what, wait) in waits {
            let payload = catch_unwind(AssertUnwindSafe(wait)).expect_err(what);
            assert!(
                message(&*payload).contains("and cannot wait there"),
                "{what}: {}",
                message(&*payload)
            );
        }
    });
}

/// What a carry panics with in the named method, besides a plain panic.
fn panics(what: &str) {
    match what {
        "suspends" => coro::yield_now(),
        "attaches" => Noting::attach("never", &Log::default()).keep(),
        "payload" => {
            struct PanicsInDrop;
            impl Drop for PanicsInDrop {
                fn drop(&mut self) {
                    coro::yield_now();
                }
            }
            panic_any(Payload(Box::new(PanicsInDrop)));
        }
        _ => planned(what),
    }
}

/// A carry whose method panics once.
struct PanicsIn {
    method: &'static str,
    what: &'static str,
    log: Log,
}

impl PanicsIn {
    fn called(&mut self, method: &str) {
        self.log.note(method);
        if self.method == method {
            panics(self.what);
        }
    }
}

impl coro::hook::Carry for PanicsIn {
    fn suspend(&mut self) {
        self.called("suspend");
    }

    fn resume(&mut self) {
        self.called("resume");
    }
}

impl Drop for PanicsIn {
    fn drop(&mut self) {
        self.called("drop");
    }
}

/// In a process of its own: the panic hook and a line on stderr tell of each.
#[test]
fn hook_a_panic_in_a_carry_is_reported_and_detaches_it() {
    const TEST: &str = "hook_a_panic_in_a_carry_is_reported_and_detaches_it";
    let _watchdog = watchdog();
    if common::is_child(TEST) {
        let runtime = common::runtime(1);
        for what in ["panics", "suspends", "attaches", "payload"] {
            for method in ["suspend", "resume", "drop"] {
                let (log, around) = (Log::default(), Log::default());
                let body = {
                    let (log, around) = (log.clone(), around.clone());
                    move || {
                        let _before = Noting::attach("a", &around);
                        attach(PanicsIn { method, what, log }).keep();
                        let _after = Noting::attach("b", &around);
                        Current::set(7).keep();
                        coro::yield_now();
                        coro::yield_now();
                        assert_eq!(CURRENT.get(), 7);
                    }
                };
                let name = format!("{what} in {method}");
                Builder::new().name(&*name).spawn_on(&runtime, body).unwrap().join().unwrap();
                assert_eq!(around.take(), "-b -a +a +b -b -a +a +b xb xa", "{name}");
                let calls = match method {
                    "suspend" => "suspend drop",
                    "resume" => "suspend resume drop",
                    _ => "suspend resume suspend resume suspend drop",
                };
                assert_eq!(log.take(), calls, "{name}");
                assert_eq!(runtime.go(|| CURRENT.get()).join().unwrap(), 0);
            }
        }
        runtime.shutdown();
        return;
    }
    let output = common::child(TEST, TEST);
    assert!(output.status.success(), "{output:?}");
    let said = common::stderr(&output);
    for what in ["panics", "suspends", "attaches", "payload"] {
        for method in ["suspend", "resume", "drop"] {
            let told = said.lines().filter(|line| {
                line.contains(&format!("'{what} in {method}'"))
                    && line.contains(&format!("panicked in `{method}`, and is detached"))
            });
            assert_eq!(told.count(), 1, "{what} in {method}: {said}");
        }
    }
    assert!(said.contains("a `Carry` cannot attach another while a worker calls it"), "{said}");
    assert!(said.contains("outside of any coroutine, and cannot wait there"), "{said}");
}

/// To leave the process from a carry is as from a coroutine: from another thread, after the cleanup.
#[test]
fn hook_exit_in_a_carry_ends_the_process() {
    const TEST: &str = "hook_exit_in_a_carry_ends_the_process";
    let _watchdog = watchdog();
    if common::is_child(TEST) {
        coro::go(|| {
            tls::at_exit(|| println!("cleaned up"));
            let suspend = || coro::exit(7);
            attach(Calls { suspend, resume: || (), _dropped: Counter::default().on_drop() }).keep();
            coro::sleep(Duration::MAX);
        })
        .join()
        .unwrap_err();
        loop {
            std::thread::park();
        }
    }
    let output = common::child(TEST, TEST);
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert!(common::stdout(&output).contains("cleaned up"), "{output:?}");
}

/// A process that is forked by a carry ends when the carry returns, and runs nothing of its parent's.
#[test]
fn hook_a_process_forked_by_a_carry_ends() {
    const TEST: &str = "hook_a_process_forked_by_a_carry_ends";
    let _watchdog = watchdog();
    if common::is_child(TEST) {
        in_a_carry(&common::runtime(1), || {
            // SAFETY: the new process has this thread alone, and does nothing that another would have to.
            let pid = unsafe { libc::fork() };
            if pid > 0 {
                let status = common::wait_for_forked(pid);
                assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 101, "{status}");
            }
        });
        return;
    }
    let output = common::child(TEST, TEST);
    let said = common::stderr(&output);
    assert!(output.status.success(), "{said}");
    let lines: Vec<_> = said.lines().filter(|line| line.contains("in a forked process")).collect();
    assert!(matches!(lines[..], [line] if line.contains("a `Carry` of coroutine")), "{said}");
}
