//! Waiting for a descriptor of any kind.

use std::io;
use std::os::fd::AsFd;

use crate::source::{Side, SourceUser};
use crate::task::spend_budget;

/// Waits until a read from `fd` would not block: until there is input, or its end, or an error. On a plain thread it
/// blocks the thread.
///
/// It takes nothing, so the input may be gone by the time that it is read, if others read too. For a descriptor that is
/// waited for often, [`Async`](super::Async) costs less: this tells the kernel each time.
///
/// # Errors
///
/// What the kernel says if it refuses: `OutOfMemory`, or that there are too many descriptors to wait for
/// (`fs.epoll.max_user_watches`) or too many open files.
///
/// # Panics
///
/// Unwinds, without calling the panic hook, when the coroutine that waits is cancelled or a
/// [`timeout`](crate::timeout) around it elapses. In a [`no_suspend`](crate::no_suspend()), where it would wait.
///
/// # Examples
///
/// ```
/// use std::io::{Read, Write};
///
/// let (mut reader, mut writer) = std::io::pipe()?;
/// let waiting = coro::go(move || {
///     coro::io::wait_readable(&reader)?;
///     let mut word = [0; 5];
///     reader.read_exact(&mut word)?; // does not block the worker's thread
///     Ok::<_, std::io::Error>(word)
/// });
/// writer.write_all(b"hello")?;
/// assert_eq!(&waiting.join().unwrap()?, b"hello");
/// # std::io::Result::Ok(())
/// ```
pub fn wait_readable(fd: impl AsFd) -> io::Result<()> {
    wait_for(fd, Side::Read)
}

/// Waits until a write to `fd` would not block: until there is room, or an error. On a plain thread it blocks the
/// thread. Otherwise as [`wait_readable`].
///
/// # Errors
///
/// As [`wait_readable`].
///
/// # Panics
///
/// As [`wait_readable`].
///
/// # Examples
///
/// ```
/// let (_reader, writer) = std::io::pipe()?;
/// coro::io::wait_writable(&writer)?;
/// # std::io::Result::Ok(())
/// ```
pub fn wait_writable(fd: impl AsFd) -> io::Result<()> {
    wait_for(fd, Side::Write)
}

fn wait_for(fd: impl AsFd, side: Side) -> io::Result<()> {
    spend_budget();
    // SAFETY: E2, the descriptor is borrowed for longer.
    let user = unsafe { SourceUser::new(fd.as_fd())? };
    user.wait_untried(side, None).map(|_| ())
}
