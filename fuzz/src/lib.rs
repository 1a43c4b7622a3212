//! What the fuzz targets share: programs, a plain model of what the crate promises, and the player that
//! runs the one against the other.
//!
//! | target | what it runs | what it checks after every step |
//! |---|---|---|
//! | `hijack` | programs over several raw coroutines, and exit handlers that go on with the program | H1 to H4, C1, R1, ids, order and number of drops and handlers |
//! | `tls_model` | the same on a thread, or in up to three tasks; keys and values whose `Hash`, `Eq`, `Clone` and `Drop` go on with the program, panic or suspend | L1 to L7, the order of everything where keys are tame |
//! | `tasks` | [trees](tree) of tasks on one to three workers | T1 to T8, D1: outcomes, counts that balance, no hang |
//! | `region` | stacks of every size, and arbitrary addresses | S1 to S4: the arithmetic from an address to its stack |
//!
//! A program of the first two is a list of two-byte steps ([`op`]). Whoever runs takes the next step: the
//! body of a coroutine, and as well a handler, a destructor or an `Eq` that the library calls in the middle
//! of the step before. So there is one list, whatever the nesting, and an input that is cut short is a
//! program.
//!
//! ```text
//!   bytes --> program --> player --> coro::tls, coro::raw
//!                            |              |
//!                            |              | calls back: Drop, handler, Hash, Eq, Clone
//!                            v              v
//!                          world: stores, tokens (what is stored, who may go now)
//! ```
//!
//! # AddressSanitizer
//!
//! The crate's feature `sanitizer` tells it of every switch of stacks. Two of its options are set by
//! [`harness`], which says why; without them a long run would fill the memory.

pub mod harness;
pub mod ids;
pub mod op;
pub mod planned;
pub mod play;
pub mod store;
pub mod token;
pub mod tree;
pub mod world;
