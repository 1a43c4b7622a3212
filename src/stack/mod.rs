//! Memory for stacks: the region, slots, guards, and the pools of idle slots.
//!
//! A program may want a million stacks and reuse each of them a thousand times a second. `mmap` cannot do
//! that: a call takes microseconds, and a process may have some 65,000 mappings. So this module reserves *one* range of
//! addresses at first use, and never gives it back. To take a stack and to give it back is arithmetic and lists.
//!
//! ```text
//!  base             base + 1 TiB     + 2 TiB          + 3 TiB       + 10 TiB          + 11 TiB
//!   +----------------+----------------+----------------+- - - - - - -+-----------------+
//!   | 128 KiB slots  | 256 KiB slots  | 512 KiB slots  |             |  128 MiB slots  |
//!   +----------------+----------------+----------------+- - - - - - -+-----------------+
//!     class 0          class 1 (DEFAULT)                               class 10
//!
//!  one span:   handed out, in address order      guarded, kept ready    still PROT_NONE
//!             |  0  |  1  |  2  | ... | n - 1 |  n  | ... | n + 15  |  . . . . . . . . .
//!                                             ^ issued              ^ ready
//!
//!  one slot:  start          limit                                    ceiling       end
//!               +--------------+----------------------------------------+------------+
//!               |    guard     |  the stack, growing down         <---- |   colour   |
//!               +--------------+----------------------------------------+------------+
//!                   80 KiB                                                0..15 steps
//!                                                                         of 192 bytes
//! ```
//!
//! Every span is the same power of two, every slot is aligned to its size, and the colour follows
//! from the slot's number. Thus an address alone tells class, slot, guard and ceiling: no table, no
//! lookup, and the same answer in a signal handler ([`ceiling_of`], [`bounds_of`]).
//!
//! The files, each using only those before it:
//!
//! | file | its one idea |
//! |---|---|
//! | `class` | the eleven sizes |
//! | `slot` | the arithmetic from an address to its slot, and `Slot`, which owns one |
//! | `asan`, `valgrind` | what AddressSanitizer and valgrind have to be told of stacks |
//! | `advise` | one `madvise` for many ranges in one system call |
//! | `limits` | which part of the system's limits stacks may take, and what an error says of them |
//! | `guard` | the inaccessible low end, by guard marker or by `mprotect` |
//! | `resident` | the object that holds this code stays loaded |
//! | `line`, `overflow` | the one line that a stack overflow prints |
//! | `cold` | idle slots without pages, and blocks of them without page tables |
//! | `stack_pressure` | the classes in which the kernel has refused a stack and a scheduler waits for one |
//! | `tally` | a number of slots and their bytes, in one word |
//! | `region` | the reservation, and fresh slots cut from it |
//! | `pool` | idle slots: one cache for each worker, shelves that all share, pages given back |
//! | `altstack` | the stack on which the fault handler runs |
//!
//! # Invariants
//!
//! The `SAFETY` lines below cite these by number.
//!
//! - **S1, the region stays.** It is reserved once, before its place is published, and is neither
//!   moved nor unmapped. All its addresses are this module's until they go out in a `Slot`.
//! - **S2, one owner.** A slot belongs to one `Slot` value or to one entry of one list. Only
//!   `region::fresh` makes new slots, each place once.
//! - **S3, no stack without a guard.** A slot is handed out after its whole guard is in place. Nothing changes the
//!   guard afterwards, but that the guards of a retired block go with its page tables. Its slots are handed out again
//!   after they got new ones.
//! - **S4, idle means empty.** A slot that is given back has no live frame. Its pages may be
//!   discarded, and the next owner does not rely on their contents.
//! - **S5, own addresses only.** System calls that change memory get ranges inside the region, or
//!   inside a mapping that the same file made and still holds. New mappings go where the kernel
//!   likes, so they replace none, but for those of retired blocks, whose slots are idle.
//! - **S6, the handler is bare.** The fault handler computes, reads atomics that were published before, and calls
//!   C functions that POSIX allows there. It takes no lock, allocates nothing, and uses no thread-local but
//!   `errno`. What the kernel passes to the handler is valid until it returns.
//! - **S7, the earlier action stays readable.** It is published before our handler can run and is
//!   never freed.
//! - **S8, plain C calls.** They get numbers, and pointers to live locals of the right type. All-zero
//!   bytes are a valid value of `sigaction`, `sigset_t`, `stack_t`, `rlimit` and `Dl_info`.

mod advise;
mod altstack;
mod asan;
mod class;
mod cold;
mod guard;
mod limits;
mod line;
mod overflow;
mod pool;
mod region;
#[cfg(not(target_feature = "crt-static"))]
mod resident;
mod slot;
pub(crate) mod stack_pressure;
mod tally;
#[cfg(test)]
mod tests;
mod valgrind;

pub(crate) use altstack::protect_thread;
pub(crate) use asan::unmark;
pub(crate) use class::Class;
pub(crate) use line::Line;
pub(crate) use overflow::{catch_up, set_describe};
pub(crate) use pool::{Pool, give, provide, take, usage};
pub(crate) use region::init;
#[cfg(not(target_feature = "crt-static"))]
pub(crate) use resident::keep_loaded;
pub(crate) use slot::{Slot, bounds_of, ceiling_of};
