//! The frames of a stack that does not run, from outside: where each returns to, and what is called there.
//!
//! `_Unwind_Backtrace`, which panics and the `backtrace` crate use, walks the stack that calls it. A suspended coroutine
//! calls nothing. So here the same unwind tables are read (by the `gimli` crate), and the walk begins with registers
//! that the caller gives. Frame pointers are not used: a program need not have them.
//!
//! | file | its one idea |
//! |---|---|
//! | `end` | how far a walk has come |
//! | `tables` | the unwind tables of the objects that are loaded |
//! | `registers` | the registers of a frame |
//! | `rule` | what a table says of one address |
//! | `walk` | from frame to frame |
//! | `symbols` | the functions at an address |

mod end;
#[cfg(feature = "dump")]
mod registers;
#[cfg(feature = "dump")]
mod rule;
#[cfg(any(feature = "dump", feature = "check"))]
mod symbols;
#[cfg(feature = "dump")]
mod tables;
#[cfg(feature = "dump")]
mod walk;

pub(crate) use end::WalkEnd;
#[cfg(any(feature = "dump", feature = "check"))]
pub(crate) use symbols::symbols_at;
#[cfg(feature = "dump")]
pub(crate) use {registers::Registers, tables::Tables, walk::Walker};
