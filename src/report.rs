//! Lines for people, on stderr.

use std::fmt;

/// Writes `text` to stderr, in one piece, past std's lock: whoever holds that may be waiting for the
/// one who reports. Nobody may be there to read it, which is no reason to panic as `eprintln!` does.
pub(crate) fn tell(text: fmt::Arguments<'_>) {
    let line = format!("{text}\n");
    // SAFETY: S8, a buffer that lives during the call. What does not get through is lost.
    unsafe { libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len()) };
}
