//! What the process does at a signal.

use std::io;
use std::mem;
use std::ptr;

use libc::{c_int, sigaction};

/// What it does at this one.
pub(crate) fn get(signal: c_int) -> io::Result<sigaction> {
    // SAFETY: S8.
    let mut action: sigaction = unsafe { mem::zeroed() };
    // SAFETY: S8, it changes nothing.
    match unsafe { libc::sigaction(signal, ptr::null(), &mut action) } {
        0 => Ok(action),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether nobody has said what it is to do at this one.
pub(crate) fn is_default(signal: c_int) -> io::Result<bool> {
    Ok(get(signal)?.sa_sigaction == libc::SIG_DFL)
}
