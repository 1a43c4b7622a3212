//! Stacks that overflow, and stacks in great numbers. Every test runs itself again as a child. Binaries of their own are
//! `stack_before_main`, `stack_unload` and `stack_valgrind`, which build programs or run under one, `stack_memory`, which
//! looks at its own process, and `stack_foreign_frames`, where the functions are to be as cold as in a fresh program.

#[path = "../common/mod.rs"]
mod common;

mod overflow;
mod pool;
