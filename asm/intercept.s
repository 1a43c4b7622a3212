// The intercepting frame: it stops an unwinding without catching it.
//
// std raises the thread's count of panics when an unwinding begins, and lowers it when `catch_unwind`
// catches the exception. This frame lies between the two. Its personality routine (`panic_count.rs`)
// tells the unwinder that a handler is here, and the handler returns the exception to the caller. Nobody
// has caught the exception, so the count stays one higher.
//
//      high  |  frames of the caller        |
//            +------------------------------+
//            |  return address              |
//            +------------------------------+
//            |  caller's RBP                |  <- RBP of this frame; CFA = RBP + 16
//            +------------------------------+
//      low   |  frames of the function      |  <- the unwinding begins here, and removes them
//
// The unwinder enters `coro_intercepted` with RSP as it is after the CALL, with every callee-saved
// register as it was at the CALL, and with the exception in RAX.

    .text
    .balign 16
    .globl  coro_intercept
    .hidden coro_intercept
    .type   coro_intercept, @function

// extern "C-unwind" fn coro_intercept(function: fn()) -> *mut Exception
//
//   RDI  the function, which unwinds
//   RAX  out: the exception; null if the function has returned
coro_intercept:
    .cfi_startproc
    // 0x1b: a signed 32-bit offset from here. The thunk below is in this file, so it is in reach.
    .cfi_personality 0x1b, coro_intercept_personality
    push    rbp
    .cfi_def_cfa_offset 16
    .cfi_offset rbp, -16
    mov     rbp, rsp
    .cfi_def_cfa_register rbp
    call    rdi
    xor     eax, eax

    .globl  coro_intercepted
    .hidden coro_intercepted
coro_intercepted:
    pop     rbp
    .cfi_def_cfa rsp, 8
    ret
    .cfi_endproc
    .size   coro_intercept, . - coro_intercept

// A symbol of this file, since the unwind table refers to the personality routine by an offset.
    .type   coro_intercept_personality, @function
coro_intercept_personality:
    .cfi_startproc
    jmp     {PERSONALITY}
    .cfi_endproc
    .size   coro_intercept_personality, . - coro_intercept_personality
