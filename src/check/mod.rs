//! `CORO_CHECK=nesting`: reports a coroutine that suspends where it must not.
//!
//! **The nesting rule.** Some safe code is sound only because on one thread whatever begins later ends
//! earlier: the initialiser of a `std::thread_local!`, the destructor of one, `scoped_tls`'s `set`, an
//! attachment of the thread to an interpreter. Two coroutines of one worker need not end in that order. So a
//! coroutine that suspends inside such a function is undefined behaviour, and no library can prevent
//! it. The checker finds it in a program's tests.
//!
//! At every suspension it walks the frames of the coroutine and looks for a function of its list
//! ([`rules`]). If it finds one, it reports the coroutine, the function and a backtrace on stderr, and aborts
//! the process. The walk goes from the suspension to the root of the stack that is switched away from: a
//! task's own, with the raw coroutines in between, or the raw coroutine's that a yielder suspends. Frames
//! further out are not suspended, so they do not count.
//!
//! | file | its one idea |
//! |---|---|
//! | `names` | whether a function of a backtrace is one that a path names |
//! | `rules` | the list: functions inside which no coroutine may suspend |
//! | `walk` | the addresses of a stack's frames, without an allocation |
//! | `thread` | the thread that gives addresses their names, and its proof that it can |
//! | `report` | what is printed |
//!
//! # How it is used
//!
//! The Cargo feature `check` compiles it in, and `CORO_CHECK` starts it:
//!
//! - `CORO_CHECK=nesting` looks for the functions of the list.
//! - `CORO_CHECK=nesting,path::of::a_function,other::path` looks for these as well. A path is that of the
//!   backtrace: with the private modules, without generic arguments. It may leave out the first segments.
//!   Closures inside the function count as the function.
//!
//! # What it costs
//!
//! A call chain that was seen before, which is known by a hash of its return addresses, costs one walk: no
//! allocation, and no lock but a reader's. Some 1.5 us, and 0.2 us for each frame of the user's, with 2.5 KiB
//! of stack. Any other chain costs a message to the checker's thread, which looks up the names: 0.1 to 2 ms.
//! Symbolisation needs more stack than a coroutine may have, and uses thread-locals and locks. So the
//! coroutine does not do it, but blocks its thread until it is done.
//!
//! # What it cannot see
//!
//! - A guard that is a value, such as that of tokio's `Handle::enter` or of `tracing`'s `Span::enter`. It has
//!   no frame.
//! - A function that the compiler has inlined, where there are no line tables. So at its start the checker
//!   looks for a frame that must be there: that of a thread-local's initialiser. Where it does not find it, no
//!   coroutine starts, and the error says why. It does not notice that a single package is built without line
//!   tables.
//! - A path, where the program has line tables and no more (`debug = "line-tables-only"`). Then a function
//!   has a bare name and a file. It is taken for the path's if its name is the last segment, and the file's place
//!   begins the path: `scoped_tls::ScopedKey::set` is a `set` in `scoped-tls-1.0.1/src/lib.rs`. So a path
//!   that the user adds has to begin with the file's module, or with the crate where the package's directory has
//!   that name. `debug = "limited"` keeps the paths.
//! - A suspension that does not take place: a `park` whose token is there, a `wait` whose future is ready.
//! - What lies beyond a frame without an unwind table, as of a just-in-time compiler. This is reported,
//!   once for each such frame, and is no error.

#[cfg(feature = "check")]
mod names;
#[cfg(feature = "check")]
mod report;
#[cfg(feature = "check")]
mod rules;
#[cfg(feature = "check")]
mod thread;
#[cfg(feature = "check")]
mod walk;

#[cfg(feature = "check")]
pub(crate) use thread::{start, suspension, threads};

#[cfg(not(feature = "check"))]
pub(crate) use off::{start, suspension, threads};

/// What starts the checker.
const VARIABLE: &str = "CORO_CHECK";

/// The same functions in a build without the checker.
#[cfg(not(feature = "check"))]
mod off {
    use std::io;

    use super::VARIABLE;
    use crate::base::env;

    #[track_caller]
    pub(crate) fn start() -> io::Result<()> {
        let expected =
            "nothing, as this build has no checker: enable the Cargo feature `check` of goexit";
        env::variable(VARIABLE, expected, |_| None::<()>);
        Ok(())
    }

    pub(crate) fn threads() -> usize {
        0
    }

    #[inline(always)]
    pub(crate) fn suspension(_root: *const (), _who: impl FnOnce() -> String) {}
}
