//! Lines for people, on stderr.

use std::fmt;
use std::io;

/// Writes `text` to stderr, in one piece, past std's lock: whoever holds that may be waiting for the
/// one who reports. Nobody may be there to read it, which is no reason to panic as `eprintln!` does.
pub(crate) fn line(text: fmt::Arguments<'_>) {
    write(format!("{text}\n").as_bytes());
}

/// Writes to stderr what can be written. Takes no lock and no memory, for it is used in the fault
/// handler too (S6).
///
/// Where nobody reads and a pipe is full the call blocks, and then any signal interrupts it.
pub(crate) fn write(mut bytes: &[u8]) {
    while !bytes.is_empty() {
        // SAFETY: S8, bytes that live during the call.
        let written =
            unsafe { libc::write(libc::STDERR_FILENO, bytes.as_ptr().cast(), bytes.len()) };
        match written {
            1.. => bytes = &bytes[written.cast_unsigned()..],
            -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            // Closed, or a full disk: the line is lost, and the program goes on.
            _ => return,
        }
    }
}
