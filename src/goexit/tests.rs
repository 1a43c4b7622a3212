//! The trampoline by itself, and what stops a process whose stack was overwritten.
//!
//! How coroutines end is tested from outside (`tests/switch/`); here stand the two things that
//! cannot be seen from there, for a coroutine's root frames are compiled code that happens to need few
//! registers, and no safe program can overwrite a return address.

use std::arch::asm;
use std::env;
use std::mem::MaybeUninit;
use std::os::unix::process::ExitStatusExt;
use std::process::{self, Command};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use super::coro_trampoline;
use crate::base::id::Id;
use crate::coroutine::raw::{self, State};
use crate::record::{self, Phase, Record, Running};
use crate::{inspect, tls};

/// Calls `function` with the record through the trampoline, with a number in each register that is
/// the caller's to keep. 0, if each of them came back as it was.
fn changed_by_trampoline(record: &Record, function: unsafe extern "C" fn(*mut ())) -> u64 {
    let changed: u64;
    // SAFETY: the trampoline is given a record that stands for this piece of the thread's stack, and
    // nothing here unwinds. The two registers that cannot be named as clobbered are saved by hand.
    unsafe {
        asm!(
            "push rbx",
            "push rbp",
            "mov ebx, 11",
            "mov ebp, 22",
            "mov r12d, 33",
            "mov r13d, 44",
            "mov r14d, 55",
            "mov r15d, 66",
            "call {trampoline}",
            "xor rbx, 11",
            "xor rbp, 22",
            "xor r12, 33",
            "xor r13, 44",
            "xor r14, 55",
            "xor r15, 66",
            "or rbx, rbp",
            "or rbx, r12",
            "or rbx, r13",
            "or rbx, r14",
            "or rbx, r15",
            "mov rax, rbx",
            "pop rbp",
            "pop rbx",
            trampoline = sym coro_trampoline,
            in("rdi") ptr::from_ref(record),
            in("rsi") ptr::from_ref(record),
            in("rdx") function,
            lateout("rax") changed,
            out("r12") _,
            out("r13") _,
            out("r14") _,
            out("r15") _,
            clobber_abi("C"),
        );
    }
    changed
}

#[test]
fn the_trampoline_keeps_callee_saved_registers_at_both_ends() {
    static CLEANED: AtomicU32 = AtomicU32::new(0);

    unsafe extern "C" fn stores_nothing(_: *mut ()) {}

    unsafe extern "C" fn stores(record: *mut ()) {
        // SAFETY: the record that the test passes, and that stands for this stack.
        let record = unsafe { Running::assume(&*record.cast::<Record>()) };
        record.hijack();
        record.locals().at_exit(|| {
            CLEANED.fetch_add(1, Ordering::Relaxed);
        });
    }

    let functions: [unsafe extern "C" fn(*mut ()); 2] = [stores_nothing, stores];
    for (function, cleaned) in functions.into_iter().zip([0, 1]) {
        let mut place = MaybeUninit::<Record>::zeroed();
        // SAFETY: a place of our own, of the right size and alignment; written, it may be borrowed.
        let record = unsafe {
            Record::write(place.as_mut_ptr(), Id::next(), ptr::null(), None);
            place.assume_init_ref()
        };
        assert_eq!(changed_by_trampoline(record, function), 0);
        assert_eq!(CLEANED.load(Ordering::Relaxed), cleaned);
        assert_eq!(record.phase.get() == Phase::Cleaning, cleaned == 1);
    }
}

/// What no return address is.
const RUBBISH: usize = 0xbad;

/// Overwrites the return address of the running coroutine's function.
fn overwrite() {
    // SAFETY: it breaks H1, which is what the process is to find out before it returns there.
    record::with(|record| unsafe { record.return_slot.get().write_volatile(RUBBISH) });
}

/// Whoever rewrites the return address, or reads it, looks first, and ends the process rather than
/// return to where no code is, or hide that something writes over stacks.
#[test]
fn an_overwritten_return_address_ends_the_process() {
    const CHILD: &str = "CORO_GOEXIT_TEST_CHILD";
    let cases: [(&str, fn()); 3] = [
        ("hijack", || {
            overwrite();
            tls::set("key", 1);
        }),
        ("restore", || {
            tls::set("key", 1);
            overwrite();
            tls::unload();
        }),
        ("question", || {
            overwrite();
            let _ = inspect::exit_target();
        }),
    ];
    if let Ok(wanted) = env::var(CHILD) {
        let (_, body) = cases.into_iter().find(|(case, _)| *case == wanted).expect("a case");
        let body = move |_: &raw::Yielder<(), ()>, ()| {
            body();
            // Not to return: that is what the crate should have prevented.
            process::exit(3);
        };
        let state = raw::with(64 << 10, body, |coroutine| coroutine.resume(())).unwrap();
        assert_eq!(state, State::Done(()));
    }
    for (case, _) in cases {
        let output = Command::new(env::current_exe().unwrap())
            .args(["goexit::tests::an_overwritten_return_address_ends_the_process", "--exact"])
            .arg("--nocapture")
            .env(CHILD, case)
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{case}: {stderr}");
        let told = "its return address was overwritten (found 0xbad); the stack is corrupt";
        assert!(stderr.contains(told), "{case}: {stderr}");
    }
}
