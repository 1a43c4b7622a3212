//! What the switch keeps of the CPU's state, and what it leaves to the thread.
//!
//! Kept: the registers that a callee must preserve, on both sides. Not kept: the modes of the
//! floating-point units (MXCSR, x87 control word). They belong to the thread, like its signal mask:
//! a coroutine that changes them changes them for its worker, and puts them back before it suspends.

use std::arch::{asm, global_asm};
use std::sync::mpsc;

use coro::raw::{State, Yielder};

use crate::common::{self, Counter, watchdog};

const STACK: usize = 64 << 10;

// Fills every callee-saved register with a number of its own (seed + 1 .. seed + 6), calls
// `function(argument)`, and returns one bit for each register that came back changed.
global_asm!(
    ".text",
    ".balign 16",
    ".globl switch_test_keep",
    ".hidden switch_test_keep",
    ".type switch_test_keep, @function",
    "switch_test_keep:",
    ".cfi_startproc",
    "push rbp",
    ".cfi_adjust_cfa_offset 8",
    ".cfi_rel_offset rbp, 0",
    "push rbx",
    ".cfi_adjust_cfa_offset 8",
    ".cfi_rel_offset rbx, 0",
    "push r12",
    ".cfi_adjust_cfa_offset 8",
    ".cfi_rel_offset r12, 0",
    "push r13",
    ".cfi_adjust_cfa_offset 8",
    ".cfi_rel_offset r13, 0",
    "push r14",
    ".cfi_adjust_cfa_offset 8",
    ".cfi_rel_offset r14, 0",
    "push r15",
    ".cfi_adjust_cfa_offset 8",
    ".cfi_rel_offset r15, 0",
    "push rdx",
    ".cfi_adjust_cfa_offset 8",
    "lea rbp, [rdx + 1]",
    "lea rbx, [rdx + 2]",
    "lea r12, [rdx + 3]",
    "lea r13, [rdx + 4]",
    "lea r14, [rdx + 5]",
    "lea r15, [rdx + 6]",
    "mov rax, rdi",
    "mov rdi, rsi",
    "call rax",
    "pop rdx",
    ".cfi_adjust_cfa_offset -8",
    "xor eax, eax",
    "sub rbp, rdx",
    "sub rbx, rdx",
    "sub r12, rdx",
    "sub r13, rdx",
    "sub r14, rdx",
    "sub r15, rdx",
    "xor ecx, ecx",
    "cmp rbp, 1",
    "setne cl",
    "or eax, ecx",
    "cmp rbx, 2",
    "setne cl",
    "shl ecx, 1",
    "or eax, ecx",
    "xor ecx, ecx",
    "cmp r12, 3",
    "setne cl",
    "shl ecx, 2",
    "or eax, ecx",
    "xor ecx, ecx",
    "cmp r13, 4",
    "setne cl",
    "shl ecx, 3",
    "or eax, ecx",
    "xor ecx, ecx",
    "cmp r14, 5",
    "setne cl",
    "shl ecx, 4",
    "or eax, ecx",
    "xor ecx, ecx",
    "cmp r15, 6",
    "setne cl",
    "shl ecx, 5",
    "or eax, ecx",
    "pop r15",
    ".cfi_adjust_cfa_offset -8",
    "pop r14",
    ".cfi_adjust_cfa_offset -8",
    "pop r13",
    ".cfi_adjust_cfa_offset -8",
    "pop r12",
    ".cfi_adjust_cfa_offset -8",
    "pop rbx",
    ".cfi_adjust_cfa_offset -8",
    "pop rbp",
    ".cfi_adjust_cfa_offset -8",
    "ret",
    ".cfi_endproc",
    ".size switch_test_keep, . - switch_test_keep",
);

unsafe extern "C" {
    fn switch_test_keep(function: extern "C" fn(*mut ()), argument: *mut (), seed: usize) -> u32;
}

/// Calls `f` with all callee-saved registers filled; a mask of those that it did not keep.
fn changed_by<F: FnMut()>(seed: usize, mut f: F) -> u32 {
    extern "C" fn call<F: FnMut()>(f: *mut ()) {
        // SAFETY: the pointer that `changed_by` passes.
        unsafe { (*f.cast::<F>())() };
    }
    // SAFETY: `call::<F>` gets a pointer to `F`, and does not unwind unless a test has failed.
    unsafe { switch_test_keep(call::<F>, (&raw mut f).cast(), seed) }
}

/// The check itself must notice: each register is changed in turn.
#[test]
fn switch_register_check_notices_a_change() {
    let _watchdog = watchdog();
    extern "C" fn clobber(_: *mut ()) {
        // SAFETY: breaks the ABI towards `switch_test_keep` alone, which puts its caller's back.
        unsafe { asm!("not r12", "not r14", options(nomem, nostack)) };
    }
    // A Rust function saves r12 and r14 around the asm only if told that they are clobbered, which
    // it is not here.
    // SAFETY: `clobber` ignores its argument.
    let mask = unsafe { switch_test_keep(clobber, std::ptr::null_mut(), 1000) };
    assert_eq!(mask, 0b010100);
}

#[test]
fn switch_keeps_callee_saved_registers_on_both_sides() {
    let _watchdog = watchdog();
    let coroutine = common::raw(STACK, |yielder: &Yielder<usize, u32>, first| {
        let mut seed = first;
        let mut changed = 0;
        loop {
            let mut next = 0;
            changed |= changed_by(seed, || next = yielder.suspend(changed));
            seed = next;
            if seed == 0 {
                return changed;
            }
        }
    })
    .unwrap();
    let mut inside = 0;
    for round in 1..1000 {
        // Numbers on the two sides differ, and from one round to the next.
        let seed = round * 1_000_003;
        let outside = changed_by(!seed, || match coroutine.resume(seed) {
            State::Yielded(mask) => inside |= mask,
            State::Done(_) => unreachable!("not told to end"),
        });
        assert_eq!((outside, inside), (0, 0), "round {round}");
    }
    let mut end = None;
    assert_eq!(changed_by(77, || end = Some(coroutine.resume(0))), 0);
    assert_eq!(end, Some(State::Done(0)));
}

/// The same with one coroutine after another of a worker, parking as well as yielding, and with the
/// exit through the hijacked return.
#[test]
fn switch_keeps_callee_saved_registers_of_tasks() {
    let _watchdog = watchdog();
    common::on_workers(|runtime, _| {
        let tasks: Vec<_> = (1..=16)
            .map(|number: usize| {
                runtime.go(move || {
                    let mut changed = 0;
                    for round in 0..200 {
                        changed |= changed_by(number << 32 | round << 8, || {
                            if round % 3 == 0 {
                                coro::current().unwrap().unpark();
                                coro::park();
                            } else {
                                coro::yield_now();
                            }
                        });
                        if round == 100 {
                            coro::tls::set("armed", number);
                        }
                    }
                    changed
                })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.join().unwrap(), 0);
        }
    });
}

fn flags() -> u64 {
    let flags: u64;
    // SAFETY: reads the flags through the stack.
    unsafe { asm!("pushfq", "pop {}", out(reg) flags) };
    flags
}

fn direction_is_up() -> bool {
    const DIRECTION: u64 = 1 << 10;
    flags() & DIRECTION == 0
}

#[test]
fn switch_direction_flag_is_clear() {
    let _watchdog = watchdog();
    let coroutine = common::raw(STACK, |yielder: &Yielder<(), bool>, ()| {
        let mut clear = direction_is_up();
        for _ in 0..3 {
            yielder.suspend(clear);
            clear &= direction_is_up();
        }
        coro::tls::at_exit(move || assert!(direction_is_up()));
        clear
    })
    .unwrap();
    for _ in 0..3 {
        assert_eq!(coroutine.resume(()), State::Yielded(true));
        assert!(direction_is_up());
    }
    assert_eq!(coroutine.resume(()), State::Done(true));
    assert!(direction_is_up());
}

/// MXCSR: flush to zero.
const FLUSH: u32 = 1 << 15;
/// x87 control word: rounding control, here "towards zero".
const ROUNDING: u16 = 3 << 10;

fn mxcsr() -> u32 {
    let mut value = 0;
    // SAFETY: stores one register to the local.
    unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut value, options(nostack)) };
    value
}

fn set_mxcsr(value: u32) {
    // SAFETY: no floating point runs until the test puts the old value back.
    unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const value, options(nostack)) };
}

fn control_word() -> u16 {
    let mut value = 0;
    // SAFETY: stores one register to the local.
    unsafe { asm!("fnstcw [{}]", in(reg) &raw mut value, options(nostack)) };
    value
}

fn set_control_word(value: u16) {
    // SAFETY: no floating point runs until the test puts the old value back.
    unsafe { asm!("fldcw [{}]", in(reg) &raw const value, options(nostack)) };
}

fn modes() -> (u32, u16) {
    (mxcsr() & FLUSH, control_word() & ROUNDING)
}

fn set_modes(on: bool) {
    set_mxcsr(if on { mxcsr() | FLUSH } else { mxcsr() & !FLUSH });
    set_control_word(if on { control_word() | ROUNDING } else { control_word() & !ROUNDING });
}

const ON: (u32, u16) = (FLUSH, ROUNDING);
const OFF: (u32, u16) = (0, 0);

#[test]
fn switch_floating_point_modes_belong_to_the_thread_raw() {
    let _watchdog = watchdog();
    assert_eq!(modes(), OFF);
    let coroutine = common::raw(STACK, |yielder: &Yielder<(), _>, ()| {
        let inherited = modes();
        set_modes(true);
        yielder.suspend(inherited);
        let after = modes();
        set_modes(false);
        after
    })
    .unwrap();
    assert_eq!(coroutine.resume(()), State::Yielded(OFF));
    assert_eq!(modes(), ON, "what the coroutine set is the thread's");
    assert_eq!(coroutine.resume(()), State::Done(ON));
    assert_eq!(modes(), OFF);

    set_modes(true);
    let heir = common::raw::<(), (), _>(STACK, |_, ()| modes()).unwrap();
    let inherited = heir.resume(());
    set_modes(false);
    assert_eq!(inherited, State::Done(ON), "a coroutine starts with the modes of its resumer");
}

#[test]
fn switch_floating_point_modes_belong_to_the_worker() {
    let _watchdog = watchdog();
    let runtime = common::runtime(1);
    let (set, looked) = (Counter::default(), Counter::default());
    let setter = {
        let (set, looked) = (set.clone(), looked.clone());
        runtime.go(move || {
            set_modes(true);
            set.add();
            looked.wait_for(1);
            let kept = modes();
            set_modes(false);
            kept
        })
    };
    let neighbour = runtime.go(move || {
        set.wait_for(1);
        let seen = modes();
        looked.add();
        seen
    });
    assert_eq!(neighbour.join().unwrap(), ON, "a neighbour on the same worker sees it");
    assert_eq!(setter.join().unwrap(), ON, "and it is still there after the switch");
    assert_eq!(runtime.go(modes).join().unwrap(), OFF, "put back, it is back for all");

    // Another thread has its own: both workers are held at once, so the two run on different ones.
    let runtime = common::runtime(2);
    let (mine, theirs) = (mpsc::channel(), mpsc::channel());
    let first = runtime.go(move || {
        set_modes(true);
        mine.0.send(()).unwrap();
        theirs.1.recv().unwrap();
        set_modes(false);
    });
    let second = runtime.go(move || {
        mine.1.recv().unwrap();
        let seen = modes();
        theirs.0.send(()).unwrap();
        seen
    });
    first.join().unwrap();
    assert_eq!(second.join().unwrap(), OFF);
}
