//! A socket's file that nobody else may open, in place of one whose process has died.
//!
//! Whether a process listens is told by a connection. Between the bind and the listening a socket looks as one whose
//! process has died. So whoever binds holds a lock on the directory meanwhile: of several processes that start at once,
//! with one path, the first has it, and no socket that somebody listens at is taken away.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, fchmod, flock};
use rustix::io::Errno;
use rustix::net::{
    self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, listen, socket_with,
};

/// How many clients may wait to be accepted.
const BACKLOG: i32 = 16;

/// For how long another process may hold the lock.
const PATIENCE: Duration = Duration::from_secs(1);

/// A socket that listens at this path.
///
/// # Errors
///
/// Why the path cannot be had: another process listens there, or there is a file of another kind, or what the system
/// says.
pub(super) fn bind(path: &Path) -> io::Result<UnixListener> {
    let _lock = lock_directory(path)?;
    let listener = match listen_at(path) {
        Err(Errno::ADDRINUSE) => {
            remove_if_dead(path)?;
            listen_at(path)
        }
        outcome => outcome,
    };
    Ok(listener?.into())
}

fn lock_directory(path: &Path) -> io::Result<File> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = File::open(parent.unwrap_or(Path::new(".")))?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(directory),
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(Errno::WOULDBLOCK) => {
                return Err(io::Error::other("another process holds a lock on its directory"));
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn new_socket() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

fn listen_at(path: &Path) -> Result<OwnedFd, Errno> {
    let socket = new_socket()?;
    // The file is made with the mode of the socket. So it never has another.
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Removes the socket's file of a process that has died.
fn remove_if_dead(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(io::Error::other("there is a file that is no socket"));
    }
    match connect(&new_socket()?, &SocketAddrUnix::new(path)?) {
        Err(Errno::CONNREFUSED) => fs::remove_file(path),
        // The latter: so many wait that there is no room for another.
        Ok(()) | Err(Errno::AGAIN) => {
            Err(io::Error::other("another process listens there; %p gives each its own path"))
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(all(test, not(coro_loom)))]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::sync::Barrier;

    use rustix::net::Shutdown;

    use super::*;

    /// As if its process had died. A process that another test has forked may have the descriptor too, until its `exec`.
    fn die(listener: UnixListener) {
        net::shutdown(&listener, Shutdown::Both).unwrap();
    }

    #[test]
    fn inspect_bind_of_many_at_once_is_one_s() {
        const THREADS: usize = 4;
        let directory =
            std::env::temp_dir().join(format!("coro-inspect-bind-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("s");
        for _ in 0..100 {
            // The file stays.
            die(bind(&path).unwrap());
            let barrier = Barrier::new(THREADS);
            let attempt = || {
                barrier.wait();
                bind(&path).map_err(|error| error.to_string())
            };
            let outcomes: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(attempt)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            let (mut bound, refused): (Vec<_>, Vec<_>) =
                outcomes.into_iter().partition(Result::is_ok);
            assert_eq!(bound.len(), 1, "{refused:?}");
            for error in refused {
                assert!(error.unwrap_err().starts_with("another process listens there"));
            }
            let client = UnixStream::connect(&path).unwrap();
            // Nonblocking: the client is there.
            let listener = bound.pop().unwrap().unwrap();
            let (_, _) = listener.accept().unwrap();
            drop(client);
            die(listener);
        }
        fs::remove_dir_all(&directory).unwrap();
    }
}
