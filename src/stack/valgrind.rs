//! Telling valgrind that a slot is a stack.
//!
//! Memcheck follows the stack pointer and marks what lies below it as dead. When the pointer moves
//! far, it has to guess between a large frame and a switch to another stack; a wrong guess marks
//! live memory as dead, or prints "client switching stacks" at each switch. With every slot's bounds
//! told, no guess is needed. Slots live as long as the process, so nothing is ever taken back and the
//! id that valgrind answers with is not kept.
//!
//! A client request is four rotations of a register that sum up to 128 bits, hence change nothing,
//! and an exchange of a register with itself. On a CPU it is five idle instructions; valgrind, which
//! translates all code, knows the pattern. The numbers are from `valgrind.h`.

use std::arch::asm;

const RUNNING_ON_VALGRIND: usize = 0x1001;
const STACK_REGISTER: usize = 0x1501;

/// Does valgrind run this program?
pub(super) fn is_present() -> bool {
    request(RUNNING_ON_VALGRIND, 0, 0) != 0
}

/// Makes known that the stack between these two addresses exists. Nothing at all, but under valgrind.
pub(super) fn register_stack(limit: usize, end: usize) {
    if is_present() {
        // Valgrind wants the last byte, not the first after it.
        request(STACK_REGISTER, limit, end - 1);
    }
}

/// The answer; 0, when there is nobody to give one.
fn request(request: usize, first: usize, second: usize) -> usize {
    let message = [request, first, second, 0, 0, 0];
    let mut answer = 0;
    // SAFETY: S8, a live local's six words are read; on a CPU nothing changes at all.
    unsafe {
        asm!(
            "rol rdi, 3",
            "rol rdi, 13",
            "rol rdi, 61",
            "rol rdi, 51",
            "xchg rbx, rbx",
            in("rax") message.as_ptr(),
            inout("rdx") answer,
            options(nostack),
        );
    }
    answer
}
