//! What stands between coro and those crates that bring an interface for connections of their own.

pub mod hyper_runtime;
pub mod redis_connection;
pub mod ureq_transport;
