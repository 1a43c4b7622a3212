//! The object that this code is in stays loaded.
//!
//! A program may load a library that uses coroutines (`dlopen`), and unload it again. Then the fault handler
//! would point to nothing, and so would the workers' threads. Neither can be taken back at that moment: a
//! handler that was installed later passes on to ours, and a thread may be blocked. So, before the first of
//! them exists, the object becomes one that `dlclose` leaves where it is.
//!
//! Not part of a program that is linked statically, which loads nothing.

use std::mem;

use libc::{Dl_info, c_void};

/// Keeps the object loaded until the process ends. Where the loader refuses, nothing is wrong until somebody
/// unloads the object, so that is no error.
pub(crate) fn keep_loaded() {
    // SAFETY: S8, it reads what the kernel has given to the process.
    let program = unsafe { libc::getauxval(libc::AT_PHDR) } as usize;
    let Some(here) = object_at(keep_loaded as *const () as usize) else { return };
    // The program itself cannot be unloaded.
    if object_at(program).is_some_and(|program| program.dli_fbase == here.dli_fbase) {
        return;
    }
    let flags = libc::RTLD_LAZY | libc::RTLD_NOLOAD | libc::RTLD_NODELETE;
    // SAFETY: S8, the loader's own name of a loaded object, of which this runs no code. The handle stays open.
    unsafe { libc::dlopen(here.dli_fname, flags) };
}

/// The object that is loaded where `address` lies.
fn object_at(address: usize) -> Option<Dl_info> {
    // SAFETY: S8.
    let mut object: Dl_info = unsafe { mem::zeroed() };
    // SAFETY: S8, any address may be asked about.
    let is_known = unsafe { libc::dladdr(address as *const c_void, &raw mut object) } != 0;
    (is_known && !object.dli_fname.is_null()).then_some(object)
}
