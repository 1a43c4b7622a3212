//! What every other part of the crate may use, and what uses none of them: ids, the environment's variables, lines on
//! stderr, JSON, a list that only grows, blocks of memory, copies of text, locks, a word to wait on, what is unusual about
//! the process, what it does at a signal, random numbers, and the atomics that loom stands in for.

pub(crate) mod append_only_list;
pub(crate) mod atomics;
pub(crate) mod block;
pub(crate) mod copy;
pub(crate) mod env;
pub(crate) mod futex;
pub(crate) mod id;
pub(crate) mod json;
pub(crate) mod lock;
pub(crate) mod process;
pub(crate) mod random;
pub(crate) mod report;
pub(crate) mod signal_action;
