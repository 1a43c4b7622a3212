//! What every other part of the crate may use, and what uses none of them: ids, the environment's variables, lines on
//! stderr, a list that only grows, locks, a word to wait on, random numbers, and the atomics that loom stands in for.

pub(crate) mod append_only_list;
pub(crate) mod atomics;
pub(crate) mod env;
pub(crate) mod futex;
pub(crate) mod id;
pub(crate) mod lock;
pub(crate) mod random;
pub(crate) mod report;
