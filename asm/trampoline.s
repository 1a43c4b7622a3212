// The trampoline: the frame whose return address is hijacked.
//
// A coroutine's function is called from here, and that call leaves on the stack the one word that
// this library is about: its return address, `goexit`. Everything that a coroutine needs at its
// end hangs on that word. As long as nothing was stored it says `goexit`, and the end costs a RET.
// From the first store on it says `cleanup`, and the same RET arrives there.
//
// The stack below the engine's root frame, while the function runs:
//
//      high  |  engine's root frame         |
//            +------------------------------+
//            |  return address to the root  |
//            +------------------------------+
//            |  caller's RBP                |  <- RBP of this frame; CFA = RBP + 16
//            +------------------------------+
//            |  the record's address        |  [rbp - 8]
//            +------------------------------+
//            |  (keeps calls aligned)       |  [rbp - 16]
//            +------------------------------+
//   slot --> |  goexit, or cleanup          |  [rbp - 24]   record.return_slot points here
//            +------------------------------+
//      low   |  frames of the function      |
//
// The frame is described by RBP alone, at every address between the prologue and the epilogue, and
// RBP is callee-saved. So the two places that the slot can name need no CFI of their own: the rule
// "CFA = RBP + 16" holds at both.
//
// An unwinder does not look up a return address but the byte before it, since a call may be the
// last instruction of a function. For `goexit` that byte belongs to the CALL. `cleanup` is never
// the target of a call, so a NOP stands before it that is never run: without it the unwinder would
// look at the RET that ends the epilogue, where the rule is another one, and leave the stack.
//
// Nothing unwinds through this frame: the function catches panics inside (invariant H4).

    .text
    .balign 16
    .globl  coro_trampoline
    .hidden coro_trampoline
    .type   coro_trampoline, @function

// extern "C" fn coro_trampoline(record: *const Record, argument: *mut (), function: fn(*mut ()))
//
//   RDI  the record of this stack
//   RSI  the argument for the function
//   RDX  the function
coro_trampoline:
    .cfi_startproc
    push    rbp
    .cfi_def_cfa_offset 16
    .cfi_offset rbp, -16
    mov     rbp, rsp
    .cfi_def_cfa_register rbp

    // Cleanup will want the record, and by then no register holds it.
    push    rdi
    sub     rsp, 8

    // Tell the record where the CALL below is going to leave its return address. Nobody ever
    // searches the stack for it.
    lea     rax, [rsp - 8]
    mov     [rdi + {RETURN_SLOT}], rax

    mov     rdi, rsi
2:
    call    rdx

    .globl  coro_goexit
    .hidden coro_goexit
coro_goexit:
    // The end of the coroutine: back to the engine's root frame.
    leave
    .cfi_remember_state
    .cfi_def_cfa rsp, 8
    ret

    .cfi_restore_state
    nop

    .globl  coro_cleanup
    .hidden coro_cleanup
coro_cleanup:
    // We arrive by RET, so RSP is where it was before the CALL above: aligned to 16, with the slot just below.
    // The same CALL now runs cleanup. It pushes goexit into the slot, so that from here on the slot is true
    // again: after cleanup comes goexit. A PUSH of goexit and a JMP would do the same. But then the CPU, which
    // predicts a RET by the CALLs that it has seen, would mispredict the RET of cleanup, and the one above.
    mov     rdi, [rbp - 8]
    lea     rdx, [rip + {CLEANUP}]
    jmp     2b
    .cfi_endproc
    .size   coro_trampoline, . - coro_trampoline
