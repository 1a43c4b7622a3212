//! Lines for people, on stderr.

use std::fmt;
use std::io::{self, Write};

/// Writes `text` to stderr, in one piece. Nobody may be there to read it, which is no reason to panic
/// as `eprintln!` does: reports are made where a panic would do harm.
pub(crate) fn tell(text: fmt::Arguments<'_>) {
    let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
}
