//! What a program meets that is in trouble: limits, forks, signals, panics that cannot be moved. Every test runs itself
//! again as a child. `fault_abort` builds a program, and `fault_alloc` and `fault_alloc_asks` have an allocator each, so
//! they are binaries of their own.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/unwinding.rs"]
mod unwinding;

mod fork;
mod interrupts;
mod limits;
mod panics;
mod profile;
mod sanitizer;
mod signals;
