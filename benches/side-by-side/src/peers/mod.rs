//! The work, as each peer wants it done.

pub mod coro_side;
pub mod futures_side;
pub mod generators_side;
pub mod may_side;
pub mod memory_side;
pub mod smol_side;
pub mod threads_side;
pub mod tokio_side;

/// How many of `times` fall to one of `users`.
fn share(times: u64, users: u64, number: u64) -> u64 {
    times / users + u64::from(number < times % users)
}
