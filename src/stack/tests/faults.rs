//! What a fault prints, who gets it, and on which stack.

use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use libc::{c_int, c_void, siginfo_t};

use super::super::class::{GUARD, TOP};
use super::*;

const LINE: &str = "coroutine overflowed its stack (256 KiB)\n";

fn overflow_one(class: Class) {
    protect_thread().unwrap();
    call_on(&take(class).unwrap(), overflow, 0);
}

#[test]
fn stack_overflow_prints_one_line_and_aborts() {
    let output = in_child(stack_overflow_prints_one_line_and_aborts, || {
        overflow_one(Class::DEFAULT);
    });
    assert_signal(&output, libc::SIGABRT);
    assert_eq!(stderr_of(&output), LINE);
}

#[test]
fn stack_overflow_report_names_each_size() {
    let test = stack_overflow_report_names_each_size;
    for class in Class::all().step_by(3) {
        let size = class.slot_size().to_string();
        let output = in_child_with(test, &[("CORO_STACK_TEST_SIZE", &size)], || {
            let size = env::var("CORO_STACK_TEST_SIZE").unwrap().parse::<usize>().unwrap();
            overflow_one(Class::for_size(size - GUARD - TOP).unwrap());
        });
        assert_signal(&output, libc::SIGABRT);
        let kib = class.slot_size() >> 10;
        let size = if kib < 1024 { format!("{kib} KiB") } else { format!("{} MiB", kib >> 10) };
        assert_eq!(stderr_of(&output), format!("coroutine overflowed its stack ({size})\n"));
    }
}

#[test]
fn stack_overflow_report_describes_the_coroutine() {
    let output = in_child(stack_overflow_report_describes_the_coroutine, || {
        set_describe(|ceiling, line| {
            line.push_str("coroutine ");
            // SAFETY: written below, before the overflow.
            line.push_u64(unsafe { ((ceiling - 8) as *const u64).read() });
            line.push_str(" 'in a loop'");
        });
        protect_thread().unwrap();
        let slot = take(Class::DEFAULT).unwrap();
        // SAFETY: our slot; `call_on` starts below, as the ceiling's word is kept free by an offset.
        unsafe { ((slot.ceiling() - 8) as *mut u64).write(42) };
        extern "C" fn at_a_distance(_: usize) {
            overflow(0);
        }
        call_below(&slot, at_a_distance);
    });
    assert_signal(&output, libc::SIGABRT);
    assert_eq!(stderr_of(&output), "coroutine 42 'in a loop' overflowed its stack (256 KiB)\n");
}

/// As `call_on`, 64 bytes further down.
fn call_below(slot: &Slot, f: extern "C" fn(usize)) {
    // SAFETY: as in `call_on`; the call does not come back.
    unsafe {
        asm!(
            "mov rsp, {top}",
            "call {f}",
            "ud2",
            top = in(reg) slot.ceiling() - 64,
            f = in(reg) f,
            in("rdi") 0,
            options(noreturn),
        );
    }
}

#[test]
fn stack_overflow_on_another_thread_with_output_locked() {
    let output = in_child(stack_overflow_on_another_thread_with_output_locked, || {
        let locked = (std::io::stdout().lock(), std::io::stderr().lock());
        thread::spawn(|| overflow_one(Class::DEFAULT)).join().unwrap();
        drop(locked);
    });
    assert_signal(&output, libc::SIGABRT);
    assert_eq!(stderr_of(&output), LINE);
}

#[test]
fn stack_overflow_without_stderr_still_aborts() {
    let output = in_child(stack_overflow_without_stderr_still_aborts, || {
        // SAFETY: nobody in this process writes to it again.
        unsafe { libc::close(libc::STDERR_FILENO) };
        overflow_one(Class::DEFAULT);
    });
    assert_signal(&output, libc::SIGABRT);
}

#[test]
fn stack_a_deep_frame_that_jumps_into_the_guard_is_an_overflow() {
    let output = in_child(stack_a_deep_frame_that_jumps_into_the_guard_is_an_overflow, || {
        protect_thread().unwrap();
        let slot = take(Class::DEFAULT).unwrap();
        // The stack pointer passes the whole guard, then the frame touches it from below.
        // SAFETY: ends the process.
        unsafe {
            asm!(
                "mov rsp, {below}",
                "mov byte ptr [rsp + 512], 1",
                "ud2",
                below = in(reg) slot.start() - 256,
                options(noreturn),
            );
        }
    });
    assert_signal(&output, libc::SIGABRT);
    assert_eq!(stderr_of(&output), LINE);
}

#[test]
fn stack_a_wild_pointer_into_a_guard_is_no_overflow() {
    let output = in_child(stack_a_wild_pointer_into_a_guard_is_no_overflow, || {
        protect_thread().unwrap();
        let slots = [take(Class::DEFAULT).unwrap(), take(Class::DEFAULT).unwrap()];
        extern "C" fn write_to(addr: usize) {
            write_byte(addr, 1);
        }
        // From the slot above; from a thread's stack it is the same.
        call_on(&slots[1], write_to, slots[0].limit() - 1);
    });
    assert_signal(&output, libc::SIGSEGV);
    assert_eq!(stderr_of(&output), "");
}

#[test]
fn stack_a_null_dereference_dies_as_ever() {
    let output = in_child(stack_a_null_dereference_dies_as_ever, || {
        protect_thread().unwrap();
        extern "C" fn read_null(_: usize) {
            read_byte(0);
        }
        call_on(&take(Class::DEFAULT).unwrap(), read_null, 0);
    });
    assert_signal(&output, libc::SIGSEGV);
    assert_eq!(stderr_of(&output), "");
}

#[test]
fn stack_a_plain_threads_overflow_is_reported_by_std() {
    let output = in_child(stack_a_plain_threads_overflow_is_reported_by_std, || {
        init().unwrap();
        let thread = thread::Builder::new().name("plain".to_owned());
        thread.spawn(|| use_stack(usize::MAX)).unwrap().join().unwrap();
    });
    assert_signal(&output, libc::SIGABRT);
    assert!(stderr_of(&output).contains("thread 'plain'"), "{}", stderr_of(&output));
    assert!(stderr_of(&output).contains("has overflowed its stack"));
}

/// Installs a handler, or SIG_DFL or SIG_IGN, for both signals.
fn set_action(handler: usize, flags: c_int, also_blocked: Option<c_int>) {
    // SAFETY: live locals of the right types.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = flags;
        if let Some(signal) = also_blocked {
            libc::sigaddset(&mut action.sa_mask, signal);
        }
        for signal in [libc::SIGSEGV, libc::SIGBUS] {
            assert_eq!(libc::sigaction(signal, &action, ptr::null_mut()), 0);
        }
    }
}

fn exit_now(status: c_int) -> ! {
    // SAFETY: ends the process, in a signal handler too.
    unsafe { libc::_exit(status) }
}

extern "C" fn exit_with_info(signal: c_int, info: *mut siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel's siginfo_t.
    let addr = unsafe { (*info).si_addr() } as usize;
    exit_now(if signal == libc::SIGSEGV && addr == 0x18 { 42 } else { 1 });
}

#[test]
fn stack_an_earlier_handler_gets_what_is_not_ours() {
    let output = in_child(stack_an_earlier_handler_gets_what_is_not_ours, || {
        let handler = exit_with_info as *const () as usize;
        set_action(handler, libc::SA_SIGINFO | libc::SA_ONSTACK, None);
        init().unwrap();
        read_byte(0x18);
    });
    assert_eq!(output.status.code(), Some(42));
}

#[test]
fn stack_an_earlier_handler_does_not_hide_an_overflow() {
    let output = in_child(stack_an_earlier_handler_does_not_hide_an_overflow, || {
        let handler = exit_with_info as *const () as usize;
        set_action(handler, libc::SA_SIGINFO | libc::SA_ONSTACK, None);
        overflow_one(Class::DEFAULT);
    });
    assert_signal(&output, libc::SIGABRT);
    assert_eq!(stderr_of(&output), LINE);
}

/// A page that the handler below opens.
static CLOSED: AtomicUsize = AtomicUsize::new(0);
static CALLS: AtomicUsize = AtomicUsize::new(0);

fn is_blocked(signal: c_int) -> bool {
    // SAFETY: a live local of the right type.
    unsafe {
        let mut mask: libc::sigset_t = std::mem::zeroed();
        libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), &mut mask);
        libc::sigismember(&mask, signal) == 1
    }
}

extern "C" fn open_the_page(signal: c_int) {
    let page = CLOSED.load(Ordering::Relaxed);
    // SAFETY: the test's own page.
    unsafe {
        libc::mprotect(page as *mut _, 4096, libc::PROT_READ | libc::PROT_WRITE);
        *libc::__errno_location() = libc::EDOM;
    }
    let masked = is_blocked(libc::SIGUSR1) && !is_blocked(signal);
    CALLS.fetch_add(if masked { 1 } else { 100 }, Ordering::Relaxed);
}

#[test]
fn stack_an_earlier_handler_can_repair_the_fault() {
    let output = in_child(stack_an_earlier_handler_can_repair_the_fault, || {
        let handler = open_the_page as *const () as usize;
        set_action(handler, libc::SA_NODEFER, Some(libc::SIGUSR1));
        init().unwrap();
        let page = Mapping::new(4096);
        CLOSED.store(page.0, Ordering::Relaxed);
        for round in 1..=3 {
            // SAFETY: the test's own page; errno is the thread's.
            let errno = unsafe {
                libc::mprotect(page.0 as *mut _, 4096, libc::PROT_NONE);
                *libc::__errno_location() = libc::ERANGE;
                (page.0 as *mut u8).write_volatile(round);
                *libc::__errno_location()
            };
            assert_eq!((read_byte(page.0), errno), (round, libc::ERANGE));
        }
        assert_eq!(CALLS.load(Ordering::Relaxed), 3);
        assert!(!is_blocked(libc::SIGUSR1) && !is_blocked(libc::SIGSEGV));
    });
    assert_success(&output);
}

#[test]
fn stack_an_earlier_handler_for_once_is_called_once() {
    let output = in_child(stack_an_earlier_handler_for_once_is_called_once, || {
        let handler = open_the_page as *const () as usize;
        set_action(handler, libc::SA_NODEFER | libc::SA_RESETHAND, Some(libc::SIGUSR1));
        init().unwrap();
        let page = Mapping::new(4096);
        CLOSED.store(page.0, Ordering::Relaxed);
        for round in 1..=2 {
            // SAFETY: the test's own page.
            unsafe { libc::mprotect(page.0 as *mut _, 4096, libc::PROT_NONE) };
            write_byte(page.0, round);
            eprintln!("{} call", CALLS.load(Ordering::Relaxed));
        }
    });
    assert_signal(&output, libc::SIGSEGV);
    assert_eq!(stderr_of(&output), "1 call\n");
}

#[test]
fn stack_a_later_handler_wins() {
    let output = in_child(stack_a_later_handler_wins, || {
        extern "C" fn later(_: c_int) {
            exit_now(43);
        }
        init().unwrap();
        set_action(later as *const () as usize, libc::SA_ONSTACK, None);
        overflow_one(Class::DEFAULT);
    });
    assert_eq!(output.status.code(), Some(43));
}

#[test]
fn stack_signals_that_were_sent_keep_their_action() {
    let test = stack_signals_that_were_sent_keep_their_action;
    for (action, signal, expected) in [
        ("ignore", libc::SIGSEGV, None),
        ("ignore", libc::SIGBUS, None),
        ("default", libc::SIGSEGV, Some(libc::SIGSEGV)),
        ("default", libc::SIGBUS, Some(libc::SIGBUS)),
    ] {
        let number = signal.to_string();
        let variables = [("CORO_STACK_TEST_ACTION", action), ("CORO_STACK_TEST_SIGNAL", &number)];
        let output = in_child_with(test, &variables, || {
            let ignore = env::var("CORO_STACK_TEST_ACTION").unwrap() == "ignore";
            set_action(if ignore { libc::SIG_IGN } else { libc::SIG_DFL }, 0, None);
            init().unwrap();
            let signal = env::var("CORO_STACK_TEST_SIGNAL").unwrap().parse().unwrap();
            // SAFETY: a signal to this thread.
            unsafe { libc::raise(signal) };
        });
        match expected {
            None => assert_success(&output),
            Some(signal) => assert_signal(&output, signal),
        }
    }
}

#[test]
fn stack_an_ignored_signal_does_not_hide_a_fault() {
    let output = in_child(stack_an_ignored_signal_does_not_hide_a_fault, || {
        set_action(libc::SIG_IGN, 0, None);
        init().unwrap();
        read_byte(0);
    });
    assert_signal(&output, libc::SIGSEGV);
}

fn active_stack() -> libc::stack_t {
    // SAFETY: a live local of the right type.
    unsafe {
        let mut active: libc::stack_t = std::mem::zeroed();
        assert_eq!(libc::sigaltstack(ptr::null(), &mut active), 0);
        active
    }
}

#[test]
fn stack_alternate_stack_comes_once_and_goes_with_the_thread() {
    let output = in_child(stack_alternate_stack_comes_once_and_goes_with_the_thread, || {
        let stack_of_thread = || {
            thread::spawn(|| {
                protect_thread().unwrap();
                let first = active_stack();
                assert!(first.ss_flags & libc::SS_DISABLE == 0 && first.ss_size >= 64 << 10);
                assert!(is_writable(first.ss_sp as usize));
                assert!(!is_writable(first.ss_sp as usize - 1));
                protect_thread().unwrap();
                assert_eq!(active_stack().ss_sp, first.ss_sp);
                first.ss_sp as usize
            })
        };
        let gone = stack_of_thread().join().unwrap();
        assert!(!is_writable(gone));
        let (before, _) = count_mappings();
        for _ in 0..500 {
            stack_of_thread().join().unwrap();
        }
        // One that stayed would be two mappings, the stack and its guard. The allocator's arenas, one for
        // each of some threads, and the C library's stock of stacks are fewer.
        let (after, _) = count_mappings();
        assert!(after < before + 500, "{before} -> {after}");
    });
    assert_success(&output);
}

#[test]
fn stack_alternate_stack_of_the_programs_stays_if_large_enough() {
    thread::spawn(|| {
        let own = Mapping::new(256 << 10);
        let stack = libc::stack_t { ss_sp: own.0 as *mut _, ss_flags: 0, ss_size: own.1 };
        // SAFETY: a mapping that outlives its use: taken away below.
        assert_eq!(unsafe { libc::sigaltstack(&stack, ptr::null_mut()) }, 0);
        protect_thread().unwrap();
        assert_eq!(active_stack().ss_sp as usize, own.0);
        let none = libc::stack_t { ss_sp: ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
        // SAFETY: as above.
        assert_eq!(unsafe { libc::sigaltstack(&none, ptr::null_mut()) }, 0);
    })
    .join()
    .unwrap();
}

/// What the alternate stack is after `protect_thread`'s own destructor, in a thread that std does
/// not know: std would take any away at its threads' end.
fn alternate_stack_left_by(body: extern "C" fn(*mut c_void) -> *mut c_void) -> usize {
    let mut thread = 0;
    // SAFETY: live locals; the function takes no argument.
    unsafe {
        let (attributes, argument) = (ptr::null(), ptr::null_mut());
        assert_eq!(libc::pthread_create(&mut thread, attributes, body, argument), 0);
        assert_eq!(libc::pthread_join(thread, ptr::null_mut()), 0);
    }
    LEFT.load(Ordering::Relaxed)
}

static LEFT: AtomicUsize = AtomicUsize::new(0);

/// A thread-local used before ours is dropped after it.
struct Last(Mapping);

impl Drop for Last {
    fn drop(&mut self) {
        LEFT.store(active_stack().ss_sp as usize, Ordering::Relaxed);
    }
}

thread_local!(static LAST: Last = Last(Mapping::new(256 << 10)));

#[test]
fn stack_alternate_stack_is_taken_away_only_if_ours() {
    extern "C" fn ours(_: *mut c_void) -> *mut c_void {
        LAST.with(|_| protect_thread().unwrap());
        assert_eq!(active_stack().ss_flags & libc::SS_DISABLE, 0);
        ptr::null_mut()
    }
    extern "C" fn replaced(_: *mut c_void) -> *mut c_void {
        let own = LAST.with(|last| (last.0.0, last.0.1));
        protect_thread().unwrap();
        assert_ne!(active_stack().ss_sp as usize, own.0);
        let stack = libc::stack_t { ss_sp: own.0 as *mut _, ss_flags: 0, ss_size: own.1 };
        // SAFETY: the mapping lives until the thread's very end.
        assert_eq!(unsafe { libc::sigaltstack(&stack, ptr::null_mut()) }, 0);
        EXPECTED.store(own.0, Ordering::Relaxed);
        ptr::null_mut()
    }
    static EXPECTED: AtomicUsize = AtomicUsize::new(0);
    LEFT.store(1, Ordering::Relaxed);
    assert_eq!(alternate_stack_left_by(ours), 0);
    let left = alternate_stack_left_by(replaced);
    assert_ne!(left, 0);
    assert_eq!(left, EXPECTED.load(Ordering::Relaxed));
}
