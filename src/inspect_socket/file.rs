//! The file goes when the process ends, and a forked process has no part in it.
//!
//! A process that is killed leaves its file, which the next one replaces. A forked process has no thread that would
//! serve. If it kept the listening descriptor, clients would wait for it when its parent has ended, and the file would
//! look as that of a living process.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, Once};

use crate::base::lock::lock;
use crate::fork;

/// The file that this process has made.
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

static FILE: Mutex<Option<SocketFile>> = Mutex::new(None);

/// The listening descriptor. -1: none.
static LISTENER: AtomicI32 = AtomicI32::new(-1);

/// Sees to the ends of a socket that was just bound to this path.
pub(super) fn own(listener: &UnixListener, path: PathBuf) {
    // If somebody has removed it already, it is not ours to remove.
    let metadata = fs::symlink_metadata(&path).ok();
    *lock(&FILE) =
        metadata.map(|metadata| SocketFile { path, device: metadata.dev(), inode: metadata.ino() });
    LISTENER.store(listener.as_raw_fd(), Ordering::Relaxed);
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // If one of them is refused, what it would do is left undone.
        // SAFETY: S8, functions that stay; the object that they are in is kept loaded.
        unsafe {
            libc::atexit(at_exit);
            libc::pthread_atfork(None, None, Some(in_child));
        }
    });
}

/// Nobody serves after all.
pub(super) fn give_up() {
    LISTENER.store(-1, Ordering::Relaxed);
    remove();
}

/// Removes the file, unless there is another in its place.
fn remove() {
    let Some(file) = lock(&FILE).take() else { return };
    if fs::symlink_metadata(&file.path)
        .is_ok_and(|found| (found.dev(), found.ino()) == (file.device, file.inode))
    {
        // An error leaves it, as the end of a process that is killed does.
        let _ = fs::remove_file(&file.path);
    }
}

extern "C" fn at_exit() {
    if !fork::is_child() {
        remove();
    }
}

extern "C" fn in_child() {
    let listener = LISTENER.swap(-1, Ordering::Relaxed);
    if listener >= 0 {
        // SAFETY: S8, a number; the thread that owns the descriptor is the parent's.
        unsafe { libc::close(listener) };
    }
}
