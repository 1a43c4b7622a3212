//! What all coroutines do.

use std::fmt::Display;
use std::time::Duration;

use crate::dump::{self, Dump, Which};
use crate::runtime::fresh_tasks;
use crate::tls;

/// What all started coroutines of the process do: id, name, state, for how long, what each waits for and who holds that,
/// where it was spawned and by whom, its labels, the spans of `tracing` that it is in, how much of its stack it uses, and
/// its backtrace.
///
/// Workers go on meanwhile. Each of them looks at its own coroutines between two turns, for a few milliseconds at a time.
/// So a dump is of one moment for each coroutine, and not for all of them. A worker that one coroutine has held for
/// 200 ms is not waited for: that coroutine is listed as [running](crate::inspect::CoroutineState::Running), and the
/// others of that worker are [counted](Dump::unlisted). No code of the user's runs, and no lock is taken that a coroutine
/// could hold.
///
/// Backtraces need the Cargo feature `dump`, which is on by default. They have functions and lines as far as the program
/// has symbols and line tables, and need no frame pointers. In a coroutine, the names of the functions are found by a
/// thread that is started for it.
///
/// Where the system refuses a worker memory, the dump has fewer coroutines, and [counts](Dump::unlisted) the others. Whoever
/// asks needs memory as any code does, and the process ends where that is refused.
///
/// In a process that was forked from one that uses coroutines the dump is empty, and says so.
///
/// `CORO_DUMP=SIGQUIT` in the environment has it printed on stderr whenever that signal comes, and
/// `CORO_INSPECT=/tmp/%p.sock` serves it on a Unix socket.
///
/// # Panics
///
/// In a coroutine: unwinds, without calling the panic hook, when it is cancelled or a [`timeout`](crate::timeout) around
/// it elapses, and panics in a [`no_suspend`](crate::no_suspend()).
///
/// # Examples
///
/// ```
/// let (send, receive) = coro::chan::bounded::<u32>(0);
/// let receiver = coro::go(move || receive.recv());
/// # while coro::inspect::metrics().parked < 1 {}
/// let dump = coro::inspect::dump();
/// assert!(dump.to_string().contains("waiting for a value from a channel made at"), "{dump}");
/// send.send(1).unwrap();
/// assert_eq!(receiver.join().unwrap(), Ok(1));
/// ```
pub fn dump() -> Dump {
    dump::take(Which::All, fresh_tasks)
}

/// A [`dump`] of the coroutines that have been parked for longer than this.
///
/// # Panics
///
/// As [`dump`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// let forgotten = coro::go(coro::park);
/// # while coro::inspect::stuck(Duration::from_millis(10)).is_empty() {}
/// let stuck = coro::inspect::stuck(Duration::from_millis(10));
/// assert_eq!(stuck.coroutines()[0].id(), forgotten.id());
/// assert!(coro::inspect::stuck(Duration::from_secs(3600)).is_empty());
/// forgotten.handle().unpark();
/// ```
pub fn stuck(longer_than: Duration) -> Dump {
    dump().parked_longer_than(longer_than)
}

/// Gives the running coroutine a label, which a [`dump`] shows: a request, a user, a step. In place of an earlier one of
/// the same name.
///
/// The text is made at once, and stored with the coroutine's [locals](crate::tls): [`tls::reset`] and [`tls::unload`] drop
/// it. A [raw coroutine](crate::raw) has labels of its own, as it has locals of its own, and no dump shows them: a dump
/// lists the coroutine that has resumed it, with the labels that this one has given itself.
///
/// # Panics
///
/// Only if the value's `Display` panics.
///
/// # Examples
///
/// ```
/// let serving = coro::go(|| {
///     coro::inspect::label("request", format_args!("GET {}", "/index"));
///     coro::park();
/// });
/// # while coro::inspect::metrics().parked < 1 {}
/// let dump = coro::inspect::dump();
/// assert_eq!(dump.coroutines()[0].labels().next(), Some(("request", "GET /index")));
/// serving.handle().unpark();
/// ```
pub fn label(name: &'static str, value: impl Display) {
    tls::set_label(name, value.to_string());
}
