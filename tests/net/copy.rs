//! `io::copy`: what comes out is what went in, whatever the kernel can do for it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::time::Duration;

use coro::io::{Async, Transfer, copy};
use coro::net::UnixStream;

use crate::kernel::refuse;
use crate::{common, moment, pair};

const LIMIT: Duration = Duration::from_secs(60);

/// Around the length of the buffer, and of what a pipe holds; and more than all sockets on the way hold.
const LENGTHS: [usize; 6] = [0, 1, (16 << 10) - 1, 16 << 10, (64 << 10) + 1, 8 << 20];

/// Bytes that are the same nowhere near.
fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 31 % 251) as u8 ^ (i >> 8) as u8).collect()
}

/// Writes `length` bytes at the beginning of a chain, copies from its second part to its third, and reads them at the end.
fn copies(
    length: usize,
    mut first: impl Write + Send + 'static,
    from: impl Transfer + Send + 'static,
    to: impl Transfer + Send + 'static,
    mut last: impl Read,
) {
    let writing = coro::go(move || first.write_all(&bytes(length)));
    let copying = coro::go(move || copy(&from, &to));
    let mut read = Vec::new();
    last.read_to_end(&mut read).unwrap();
    writing.join().unwrap().unwrap();
    assert_eq!(copying.join().unwrap().unwrap(), length as u64);
    assert!(read == bytes(length), "{} of {length} bytes", read.len());
}

/// [`copies`], for each length and between each two kinds of descriptors that bytes go through.
fn copies_between_all() {
    for length in LENGTHS {
        let pipe = || {
            let (reader, writer) = io::pipe().unwrap();
            (Async::new(reader).unwrap(), Async::new(writer).unwrap())
        };
        let unix = || UnixStream::pair().unwrap();
        let ((first, from), (to, last)) = (pair(), pair());
        copies(length, first, from, to, last);
        let ((first, from), (to, last)) = (unix(), pair());
        copies(length, first, from, to, last);
        let ((from, first), (last, to)) = (pipe(), pipe());
        copies(length, first, from, to, last);
        let ((from, first), (to, last)) = (pipe(), unix());
        copies(length, first, from, to, last);
        // The kernel moves nothing to what is open for appending, so what it has moved into its own pipe is to be read.
        let ((first, from), (to, last)) = (pair(), unix());
        append(&to);
        copies(length, first, from, to, last);
    }
}

/// Has it open for appending, which is the same to whoever writes to a socket.
fn append(to: &UnixStream) {
    // SAFETY: an open descriptor.
    let set =
        unsafe { libc::fcntl(to.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK | libc::O_APPEND) };
    assert_eq!(set, 0, "{}", io::Error::last_os_error());
}

#[test]
fn net_copy_loses_nothing() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| runtime.go(copies_between_all).join().unwrap());
}

/// Where the kernel, or a filter of system calls, refuses to move bytes itself.
#[test]
fn net_copy_without_splice() {
    common::in_child("net_copy_without_splice", LIMIT, || {
        for errno in [libc::ENOSYS, libc::EINVAL, libc::EPERM] {
            refuse(libc::SYS_splice, errno);
            common::runtime(2).go(copies_between_all).join().unwrap();
        }
    });
}

/// Who has gone is an error, also in a program that would end at the signal for that.
#[test]
fn net_copy_to_who_has_gone() {
    common::in_child("net_copy_to_who_has_gone", LIMIT, || {
        let closed = || {
            let ((mut first, from), (to, last)) = (pair(), pair());
            let writing = coro::go(move || while first.write_all(&bytes(1 << 20)).is_ok() {});
            let copying = coro::go(move || copy(&from, &to));
            // What has come so far is read, so that much is under way.
            (&last).read_exact(&mut vec![0; 1 << 20]).unwrap();
            drop(last);
            let error = copying.join().unwrap().unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset));
            writing.join().unwrap();
        };
        common::runtime(2).go(closed).join().unwrap();
        // SAFETY: an action without a handler.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        common::runtime(2).go(closed).join().unwrap();
    });
}

/// A copy that is cut short leaves both ends as they are.
#[test]
fn net_copy_is_cancelled() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let ((mut first, from), (to, last)) = (pair(), pair());
        let (from_there, to_there) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        let copying = runtime.go(move || copy(&from, &to));
        // The first part is whole, so the kernel has taken over; nobody reads the rest before it is cancelled.
        let writing = runtime.go(move || first.write_all(&bytes(1 << 20)).map(|()| first));
        (&last).read_exact(&mut vec![0; 1 << 20]).unwrap();
        let mut first = writing.join().unwrap().unwrap();
        moment();
        copying.cancel();
        assert!(copying.join().unwrap_err().is_cancelled());
        first.write_all(b"more").unwrap();
        let mut more = [0; 4];
        (&from_there).read_exact(&mut more).unwrap();
        (&to_there).write_all(&more).unwrap();
        to_there.shutdown(Shutdown::Both).unwrap();
        let mut rest = Vec::new();
        (&last).read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"more");
    });
}
