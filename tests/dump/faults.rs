//! Dumps where something is amiss.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use coro::inspect::{CoroutineState, dump};
use coro::{Builder, Runtime, inspect};

use crate::common::{self, Gate};
use crate::{dump_when_parked, only_group};

/// A worker whose coroutine does not come to its end is not waited for.
#[test]
fn dump_names_who_holds_a_worker_up() {
    let _watchdog = common::watchdog();
    let (held, free) = (common::runtime(1), common::runtime(1));
    let waiting: Vec<_> = (0..3).map(|_| held.go(coro::park)).collect();
    let listed = free.go(coro::park);
    drop(dump_when_parked(&waiting));
    drop(dump_when_parked(std::slice::from_ref(&listed)));
    let (begun, go_on) = (Gate::default(), Arc::new(AtomicBool::new(false)));
    let stuck = held.go({
        let (begun, go_on) = (begun.clone(), Arc::clone(&go_on));
        move || {
            begun.open();
            while !go_on.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        }
    });
    begun.block();
    let dump = dump();
    let one = dump.coroutines().iter().find(|one| one.id() == stuck.id()).unwrap();
    assert_eq!(one.state(), CoroutineState::Running);
    assert_eq!(one.spawned_at().file(), file!());
    assert!(dump.unlisted() >= 3);
    let text = dump.to_string();
    assert!(text.contains(&format!("coroutine {}, spawned at", stuck.id())), "{text}");
    assert!(text.contains("holds its worker, whose 3 other coroutines are not listed"), "{text}");
    assert!(text.contains("it runs"), "{text}");
    assert!(dump.coroutines().iter().any(|one| one.id() == listed.id()), "{text}");
    go_on.store(true, Ordering::Relaxed);
    stuck.join().unwrap();
    assert_eq!(dump_when_parked(&waiting).len(), 3);
}

/// A lock's holder is named.
#[test]
fn dump_names_who_holds_a_lock() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(2);
    let lock = Arc::new(coro::sync::Mutex::new(()));
    let holds = {
        let lock = Arc::clone(&lock);
        runtime.go(move || {
            let _held = lock.lock();
            coro::park();
        })
    };
    drop(dump_when_parked(std::slice::from_ref(&holds)));
    let waits = runtime.go(move || drop(lock.lock()));
    let dump = dump_when_parked(std::slice::from_ref(&waits));
    let waits_for = dump.coroutines()[0].waits_for().unwrap();
    assert!(waits_for.starts_with("a lock made at tests/dump/faults.rs:"), "{waits_for}");
    assert!(waits_for.ends_with(&format!("held by coroutine {}", holds.id())), "{waits_for}");
    holds.handle().unpark();
    waits.join().unwrap();
}

#[test]
fn dump_during_and_after_a_shutdown() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(2);
    let go_on = Arc::new(AtomicBool::new(false));
    let stays = {
        let go_on = Arc::clone(&go_on);
        runtime.go(move || {
            coro::shield(|| {
                while !go_on.load(Ordering::Relaxed) {
                    coro::sleep(Duration::from_millis(1));
                }
            })
        })
    };
    let id = stays.id();
    while dump().with_id(id).is_empty() {}
    let ended = std::thread::scope(|scope| {
        let shutdown = scope.spawn(|| runtime.shutdown());
        while runtime.go(|| ()).join().is_ok() {}
        let during = dump().with_id(id);
        assert_eq!(during.len(), 1);
        go_on.store(true, Ordering::Relaxed);
        shutdown.join().unwrap();
        dump().with_id(id)
    });
    assert!(ended.is_empty());
}

#[test]
fn dump_is_interrupted_by_a_cancellation() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(1);
    for _ in 0..20 {
        let dumps = runtime.go(|| {
            loop {
                drop(dump());
            }
        });
        runtime.go(coro::yield_now).join().unwrap();
        dumps.cancel();
        common::assert_cancelled(dumps.join());
    }
    assert_eq!(runtime.go(|| dump().with_id(coro::tls::id()).len()).join().unwrap(), 1);
}

#[test]
fn dump_in_a_no_suspend_is_a_panic() {
    let _watchdog = common::watchdog();
    common::quiet();
    let runtime = common::runtime(1);
    let coroutine = runtime.go(|| coro::no_suspend(|| drop(dump())));
    assert!(coroutine.join().is_err());
}

/// On the smallest stack, near its end.
#[test]
#[cfg_attr(coro_asan, ignore = "AddressSanitizer's frames are larger than such a stack")]
fn dump_where_a_stack_is_short() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(1);
    let coroutine = Builder::new()
        .stack_size(1)
        .spawn_on(&runtime, || {
            let bounds = inspect::stack_bounds().unwrap();
            let left = {
                let here = 0u8;
                &raw const here as usize - bounds.start
            };
            // As much as a few small functions need, and the checker's walk.
            use_up(left - if common::is_checked() { 24_000 } else { 12_000 })
        })
        .unwrap();
    assert!(coroutine.join().unwrap() >= 1);
}

/// Dumps with so many bytes of stack fewer.
fn use_up(bytes: usize) -> usize {
    let page = [0u8; 1024];
    std::hint::black_box(&page);
    let count = if bytes > 2048 { use_up(bytes - 1024 - 200) } else { dump().len() };
    std::hint::black_box(&page);
    count
}

/// Where no table describes a frame, or a wrong one, the frames are given up to there, with the reason.
#[test]
fn dump_says_why_frames_end() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(1);
    let cases: [(unsafe extern "C" fn(extern "C" fn()), &str, &str); 3] = [
        (without_a_table, "no unwind table covers 0x", ""),
        (with_a_table_that_leads_out, "the unwind table at 0x", " leads out of the stack"),
        (with_a_table_that_goes_nowhere, "the unwind table at 0x", " leads nowhere"),
    ];
    for (function, start, rest) in cases {
        // The checker's walk believes what a table says.
        if common::is_checked() && !start.starts_with("no") {
            continue;
        }
        // SAFETY: it calls a function that returns.
        let coroutine = runtime.go(move || unsafe { function(parks) });
        let dump = dump_when_parked(std::slice::from_ref(&coroutine));
        let group = only_group(&dump);
        let end = group.frames_end().unwrap();
        assert!(end.starts_with(start) && end.ends_with(rest), "{dump}");
        assert_eq!(crate::known(&group, &["parks"]), ["parks"], "{dump}");
        assert!(dump.to_string().contains(&end));
        coroutine.handle().unpark();
        coroutine.join().unwrap();
    }
}

extern "C" fn parks() {
    coro::park();
    std::hint::black_box(());
}

std::arch::global_asm!(
    ".text",
    ".macro dump_calls name, directives:vararg",
    ".globl \\name",
    ".hidden \\name",
    ".type \\name, @function",
    "\\name:",
    "\\directives",
    "sub rsp, 8",
    "call rdi",
    "add rsp, 8",
    "ret",
    ".endm",
    "dump_calls dump_without_a_table",
    ".cfi_startproc",
    "dump_calls dump_leads_out, .cfi_def_cfa rsp, 1 << 30",
    ".cfi_endproc",
    ".cfi_startproc",
    "dump_calls dump_goes_nowhere, .cfi_undefined rip",
    ".cfi_endproc",
);

unsafe extern "C" {
    #[link_name = "dump_without_a_table"]
    unsafe fn without_a_table(f: extern "C" fn());
    #[link_name = "dump_leads_out"]
    unsafe fn with_a_table_that_leads_out(f: extern "C" fn());
    #[link_name = "dump_goes_nowhere"]
    unsafe fn with_a_table_that_goes_nowhere(f: extern "C" fn());
}

/// A library is loaded and unloaded while its tables are looked for.
#[test]
#[cfg(not(target_feature = "crt-static"))]
fn dump_while_a_library_comes_and_goes() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(1);
    let parked = runtime.go(coro::park);
    let dumps = if cfg!(debug_assertions) { 200 } else { 2_000 };
    let is_over = AtomicBool::new(false);
    let mut loaded = 0;
    std::thread::scope(|scope| {
        let loads = scope.spawn(|| {
            let mut loaded = 0;
            while !is_over.load(Ordering::Relaxed) {
                // SAFETY: a library of the C library's, which nothing here uses.
                unsafe {
                    let library = libc::dlopen(c"libresolv.so.2".as_ptr(), libc::RTLD_NOW);
                    if library.is_null() {
                        break;
                    }
                    libc::dlclose(library);
                }
                loaded += 1;
            }
            loaded
        });
        for _ in 0..dumps {
            let dump = dump_when_parked(std::slice::from_ref(&parked));
            assert_eq!(only_group(&dump).frames_end(), None);
        }
        is_over.store(true, Ordering::Relaxed);
        loaded = loads.join().unwrap();
    });
    assert!(loaded > 0, "there is no libresolv.so.2");
    parked.handle().unpark();
}

#[test]
fn dump_in_a_forked_process_is_empty() {
    common::in_child("dump_in_a_forked_process_is_empty", common::CHILDS_LIMIT, || {
        let runtime = Runtime::builder().workers(2).build().unwrap();
        let parked = runtime.go(coro::park);
        drop(dump_when_parked(std::slice::from_ref(&parked)));
        let check = || {
            let dump = dump();
            let text = dump.to_string();
            i32::from(dump.is_empty() && text.contains("was forked") && dump.unlisted() == 0)
        };
        for in_coroutine in [false, true] {
            let fork = move || {
                // SAFETY: the new process has this thread alone, and does nothing that another would have to.
                let pid = unsafe { libc::fork() };
                if pid == 0 {
                    // SAFETY: takes a number; ends this process.
                    unsafe {
                        libc::alarm(100);
                        libc::_exit(check());
                    }
                }
                common::wait_for_forked(pid)
            };
            let status = if in_coroutine { runtime.go(fork).join().unwrap() } else { fork() };
            assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 1, "{status:#x}");
        }
        parked.handle().unpark();
    });
}
