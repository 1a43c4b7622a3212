//! Storage that belongs to a coroutine, or to a thread. What looks at a whole process runs itself again as a child.

#[path = "../common/mod.rs"]
mod common;

mod ends;
mod handlers;
mod large;
mod load;
mod reentry;
mod rounds;
