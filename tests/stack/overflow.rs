//! What happens when a stack overflows: one line that names the coroutine, then the end. And what
//! does not change: the overflow of a plain thread, faults that are none of ours, other handlers.
//!
//! All of it in processes of their own. `stack_overflows_with_mprotect_guards` runs the whole module a
//! second time with the other kind of guard.

use std::hint::black_box;
use std::process::{self, Command, Output};
use std::sync::mpsc;

use coro::{Builder, Runtime, inspect, tls};

use crate::common::{self, Counter, is_child, watchdog};

/// Never comes back.
#[inline(never)]
fn overflow(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    if depth == u64::MAX {
        return 0;
    }
    overflow(depth + 1) + black_box(&frame)[3]
}

/// Tells the parent whose overflow it will be, on stdout; stderr is for the report alone.
fn announce() {
    println!("id={}", tls::id());
}

fn announce_and_overflow() {
    announce();
    overflow(0);
}

/// Runs `case` of this test in a child and checks that it dies by the report of one coroutine: the
/// one announced, with this name and size.
#[track_caller]
fn assert_report(test: &str, case: &str, name: &str, size: &str) {
    let output = common::child(test, case);
    let stdout = common::stdout(&output);
    assert_eq!(common::signal(&output), Some(libc::SIGABRT), "{case}: {output:?}");
    let id = stdout.lines().find_map(|line| line.split_once("id=")).expect("announced").1;
    let expected = format!("coroutine {id}{name} overflowed its stack ({size})\n");
    assert_eq!(common::stderr(&output), expected, "{case}");
}

/// A runtime of two workers, and a coroutine of each that holds it until the other is held too.
fn on_worker(index: usize, body: fn()) -> ! {
    let runtime = Runtime::builder().workers(2).thread_name("held").build().unwrap();
    let up = Counter::default();
    let hold = |up: Counter| {
        move || {
            up.add();
            while up.get() < 2 {
                std::hint::spin_loop();
            }
            let name = std::thread::current().name().unwrap().to_owned();
            if name == format!("held-{index}") {
                body();
            }
            // The other one waits, without an end, for the process to die.
            coro::park();
        }
    };
    let first = runtime.go(hold(up.clone()));
    let second = runtime.go(hold(up.clone()));
    first.join().unwrap();
    second.join().unwrap();
    process::exit(3);
}

#[test]
fn stack_overflow_prints_one_line_and_aborts() {
    const NAME: &str = "stack_overflow_prints_one_line_and_aborts";
    let _watchdog = watchdog();
    match common::child_case().as_deref() {
        None => {}
        Some("unnamed") => drop(coro::go(announce_and_overflow).join()),
        Some("named") => {
            let builder = Builder::new().name("deep one").stack_size(256 << 10);
            drop(builder.spawn(announce_and_overflow).unwrap().join());
        }
        Some("large") => {
            let builder = Builder::new().name("große \u{1F980}").stack_size((1 << 20) + 1);
            drop(builder.spawn(announce_and_overflow).unwrap().join());
        }
        Some("smallest") => {
            // Announced by its parent: it has no room to print.
            let (send, receive) = mpsc::channel::<()>();
            let task = Builder::new().stack_size(1).spawn(move || {
                receive.recv().unwrap();
                overflow(0);
            });
            let task = task.unwrap();
            println!("id={}", task.id());
            send.send(()).unwrap();
            drop(task.join());
        }
        Some("first worker") => on_worker(0, announce_and_overflow),
        Some("second worker") => on_worker(1, announce_and_overflow),
        Some("grandchild") => {
            let task = coro::go(|| {
                let child = coro::go(|| {
                    let grandchild = Builder::new().name("grandchild");
                    drop(grandchild.spawn(announce_and_overflow).unwrap().join());
                });
                drop(child.join());
            });
            drop(task.join());
        }
        Some("output locked") => {
            let task = coro::go(|| {
                announce();
                let _locked = (std::io::stdout().lock(), std::io::stderr().lock());
                overflow(0);
            });
            drop(task.join());
        }
        Some("output locked by another") => {
            let (start, started) = mpsc::channel();
            let (lock, locked) = mpsc::channel::<()>();
            let task = coro::go(move || {
                announce();
                start.send(()).unwrap();
                locked.recv().unwrap();
                overflow(0);
            });
            started.recv().unwrap();
            let _locked = (std::io::stdout().lock(), std::io::stderr().lock());
            lock.send(()).unwrap();
            drop(task.join());
        }
        Some("raw") => {
            let coroutine = common::raw::<(), (), ()>(32 << 10, |_, ()| {
                overflow(0);
            })
            .unwrap();
            // Its id is the next one that a coroutine of this thread gets, less one.
            let next = common::raw::<(), (), _>(1 << 20, |_, ()| tls::id().get()).unwrap();
            let coro::raw::State::Done(after) = next.resume(()) else { unreachable!() };
            println!("id={}", after - 1);
            coroutine.resume(());
        }
        Some("handler") => {
            let task = coro::go(|| {
                announce();
                tls::at_exit(|| {
                    overflow(0);
                });
            });
            drop(task.join());
        }
        Some("unwinding") => {
            struct Overflows;
            impl Drop for Overflows {
                fn drop(&mut self) {
                    overflow(0);
                }
            }
            common::quiet();
            let task = coro::go(|| {
                announce();
                let _overflows = Overflows;
                common::planned("on the way");
            });
            let _: Result<(), _> = task.join();
        }
        Some("after others") => {
            let runtime = common::runtime(1);
            let below = |builder: Builder, body: fn(usize) -> usize, argument| {
                let inner = move || builder.spawn(move || body(argument)).unwrap().join().unwrap();
                runtime.go(inner).join().unwrap()
            };
            let former =
                below(Builder::new().name("former"), |_| inspect::record_address().unwrap(), 0);
            for _ in 0..100 {
                let body = |former| {
                    if inspect::record_address() == Some(former) {
                        announce_and_overflow();
                    }
                    0
                };
                below(Builder::new(), body, former);
            }
        }
        Some("renewed") => {
            let task = coro::go(|| {
                tls::unload();
                announce_and_overflow();
            });
            drop(task.join());
        }
        Some("one byte") => {
            let task = coro::go(|| {
                announce();
                let below = inspect::stack_bounds().unwrap().start - 1;
                // SAFETY: the guard; it faults.
                unsafe { (black_box(below) as *mut u8).write_volatile(1) };
            });
            drop(task.join());
        }
        Some("a signal") => {
            extern "C" fn ignore(_: i32) {}
            fn deep(limit: usize) -> u8 {
                let frame = black_box([1_u8; 100]);
                if frame.as_ptr().addr() < limit + 700 {
                    // SAFETY: a signal to this thread, whose handler touches nothing. There is room for
                    // the call, and none for a signal frame.
                    unsafe { libc::raise(libc::SIGUSR1) };
                    eprintln!("it went on");
                    return frame[0];
                }
                deep(limit) + frame[1]
            }
            // SAFETY: a live local of the right type; no SA_ONSTACK.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = ignore as *const () as usize;
                libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut());
            }
            let task = coro::go(|| {
                announce();
                let limit = inspect::stack_bounds().unwrap().start;
                black_box(deep(limit))
            });
            drop(task.join());
        }
        Some("one large frame") => {
            #[inline(never)]
            fn large() -> u8 {
                let frame = black_box([1_u8; 1 << 20]);
                frame[0]
            }
            let task = coro::go(|| {
                announce();
                black_box(large())
            });
            drop(task.join());
        }
        Some(other) => panic!("{other}"),
    }
    if common::child_case().is_some() {
        process::exit(3);
    }
    for (case, name, size) in [
        ("unnamed", "", "256 KiB"),
        ("named", " 'deep one'", "512 KiB"),
        ("large", " 'große \u{1F980}'", "2 MiB"),
        ("smallest", "", "128 KiB"),
        ("first worker", "", "256 KiB"),
        ("second worker", "", "256 KiB"),
        ("grandchild", " 'grandchild'", "256 KiB"),
        ("output locked", "", "256 KiB"),
        ("output locked by another", "", "256 KiB"),
        ("raw", "", "128 KiB"),
        ("handler", "", "256 KiB"),
        ("unwinding", "", "256 KiB"),
        ("after others", "", "256 KiB"),
        ("renewed", "", "256 KiB"),
        ("one byte", "", "256 KiB"),
        ("a signal", "", "256 KiB"),
        ("one large frame", "", "256 KiB"),
    ] {
        if cfg!(coro_asan) && case == "one large frame" {
            continue; // with AddressSanitizer the compiler probes no stack
        }
        assert_report(NAME, case, name, size);
    }
}

/// A name of any length leaves the line whole: cut between two characters, the rest still there.
#[test]
fn stack_overflow_line_holds_a_long_name() {
    const NAME: &str = "stack_overflow_line_holds_a_long_name";
    let _watchdog = watchdog();
    if is_child("long") {
        let builder = Builder::new().name("ü".repeat(5000));
        drop(builder.spawn(announce_and_overflow).unwrap().join());
    }
    let output = common::child(NAME, "long");
    assert_eq!(common::signal(&output), Some(libc::SIGABRT), "{output:?}");
    let line = String::from_utf8(output.stderr).expect("whole characters");
    let (start, end) = line.split_once(" '").expect("a name");
    assert!(start.starts_with("coroutine ") && end.starts_with("üüü"), "{line}");
    assert!(end.ends_with(" overflowed its stack (256 KiB)\n"), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(line.len() <= 512, "{}", line.len());
}

#[test]
fn stack_overflow_with_stderr_closed_still_aborts() {
    let _watchdog = watchdog();
    if is_child("closed") {
        let task = coro::go(|| {
            // SAFETY: nobody in this process writes to it again.
            unsafe { libc::close(libc::STDERR_FILENO) };
            overflow(0);
        });
        drop(task.join());
    }
    let output = common::child("stack_overflow_with_stderr_closed_still_aborts", "closed");
    assert_eq!(common::signal(&output), Some(libc::SIGABRT), "{output:?}");
    assert_eq!(common::stderr(&output), "");
}

#[test]
fn stack_a_plain_threads_overflow_is_reported_by_std() {
    const NAME: &str = "stack_a_plain_threads_overflow_is_reported_by_std";
    let _watchdog = watchdog();
    if is_child("thread") {
        coro::go(|| ()).join().unwrap();
        let thread = std::thread::Builder::new().name(String::from("plain"));
        drop(thread.spawn(|| overflow(0)).unwrap().join());
    }
    // A thread that resumes coroutines itself has another alternate stack than std gave it.
    if is_child("resumer") {
        let thread = std::thread::Builder::new().name(String::from("plain"));
        let body = || {
            let coroutine = common::raw::<(), (), ()>(65536, |_, ()| ()).unwrap();
            coroutine.resume(());
            overflow(0)
        };
        drop(thread.spawn(body).unwrap().join());
    }
    for case in ["thread", "resumer"] {
        let output = common::child(NAME, case);
        assert_eq!(common::signal(&output), Some(libc::SIGABRT), "{case}: {output:?}");
        let stderr = common::stderr(&output);
        assert!(stderr.contains("thread 'plain'"), "{case}: {stderr}");
        assert!(stderr.contains("has overflowed its stack"), "{case}: {stderr}");
        assert!(!stderr.contains("coroutine"), "{case}: {stderr}");
    }
}

/// Where the tests' null dereferences point.
const NULL: usize = 0x18;

fn dereference_null() {
    // SAFETY: faults, which is the purpose.
    unsafe { (black_box(NULL) as *const u8).read_volatile() };
}

extern "C" fn exit_42(signal: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel's siginfo_t; the process ends.
    unsafe {
        let address = (*info).si_addr() as usize;
        libc::_exit(if signal == libc::SIGSEGV && address == NULL { 42 } else { 1 });
    }
}

extern "C" fn exit_43(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the process ends.
    unsafe { libc::_exit(43) };
}

fn handle_faults(handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void)) {
    // SAFETY: a live local of the right type; the handlers make one system call.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        assert_eq!(libc::sigaction(libc::SIGSEGV, &action, std::ptr::null_mut()), 0);
    }
}

fn status_of(test: &str, case: &str) -> (Option<i32>, Option<i32>, String) {
    let output: Output = common::child(test, case);
    (output.status.code(), common::signal(&output), common::stderr(&output))
}

#[test]
fn stack_faults_of_others_go_to_their_handlers() {
    const NAME: &str = "stack_faults_of_others_go_to_their_handlers";
    let _watchdog = watchdog();
    match common::child_case().as_deref() {
        None => {}
        Some("nobody's") => drop(coro::go(dereference_null).join()),
        Some("earlier") => {
            handle_faults(exit_42);
            drop(coro::go(dereference_null).join());
        }
        Some("earlier, on a thread") => {
            handle_faults(exit_42);
            coro::go(|| ()).join().unwrap();
            dereference_null();
        }
        Some("earlier, overflow") => {
            handle_faults(exit_42);
            drop(coro::go(announce_and_overflow).join());
        }
        Some("later") => {
            coro::go(|| ()).join().unwrap();
            handle_faults(exit_43);
            drop(coro::go(dereference_null).join());
        }
        Some("later, overflow") => {
            coro::go(|| ()).join().unwrap();
            handle_faults(exit_43);
            drop(coro::go(announce_and_overflow).join());
        }
        Some("a wild pointer into another's guard") => {
            let (send, receive) = mpsc::channel();
            let parked: Vec<_> = (0..4)
                .map(|_| {
                    let send = send.clone();
                    coro::go(move || {
                        send.send(inspect::stack_bounds().unwrap().start - 1).unwrap();
                        loop {
                            coro::park();
                        }
                    })
                })
                .collect();
            let guards: Vec<usize> = receive.iter().take(parked.len()).collect();
            let task = coro::go(move || {
                // Not the next stack's: an overflow that jumps over the guard looks the same.
                let here = inspect::stack_bounds().unwrap().start;
                let far = guards.iter().max_by_key(|guard| guard.abs_diff(here)).unwrap();
                // SAFETY: faults, which is the purpose.
                unsafe { (black_box(*far) as *mut u8).write_volatile(1) };
            });
            drop(task.join());
        }
        Some("sent") => {
            coro::go(|| ()).join().unwrap();
            // std's handler, which was there before, lets the first one pass.
            for _ in 0..2 {
                // SAFETY: a signal to this thread.
                unsafe { libc::raise(libc::SIGSEGV) };
            }
        }
        Some(other) => panic!("{other}"),
    }
    if common::child_case().is_some() {
        process::exit(3);
    }
    let silent = |signal| (None, Some(signal), String::new());
    assert_eq!(status_of(NAME, "nobody's"), silent(libc::SIGSEGV));
    assert_eq!(status_of(NAME, "earlier"), (Some(42), None, String::new()));
    assert_eq!(status_of(NAME, "earlier, on a thread"), (Some(42), None, String::new()));
    assert_report(NAME, "earlier, overflow", "", "256 KiB");
    assert_eq!(status_of(NAME, "later"), (Some(43), None, String::new()));
    assert_eq!(status_of(NAME, "later, overflow"), (Some(43), None, String::new()));
    let wild = status_of(NAME, "a wild pointer into another's guard");
    assert_eq!(wild, silent(libc::SIGSEGV));
    assert_eq!(status_of(NAME, "sent"), silent(libc::SIGSEGV));
}

#[test]
fn stack_overflows_with_mprotect_guards() {
    let _watchdog = watchdog();
    let forced = std::env::var_os("CORO_GUARD").is_some();
    if forced || common::child_case().is_some() {
        return;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .arg("overflow::")
        .env("CORO_GUARD", "mprotect")
        .output()
        .unwrap();
    let said = common::stdout(&output);
    assert!(output.status.success() && !said.contains("ok. 0 passed"), "{said}");
}
