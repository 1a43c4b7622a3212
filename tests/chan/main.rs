//! Channels: what goes through them and in which order, how they close, how one chooses among them, and that of a value and
//! an interruption that meet nothing is lost. Each on 1, 2 and 4 workers, with threads among the users.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/counting.rs"]
mod counting;

mod close;
mod drops;
mod futures;
mod go;
mod order;
mod races;
mod select;
