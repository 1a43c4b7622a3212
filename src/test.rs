//! For tests of programs that use coroutines.

use std::panic::resume_unwind;
use std::time::{Duration, Instant};

use crate::dump::{self, Which};
use crate::runtime::Runtime;
use crate::task::JoinError;
use crate::time::sleep;

/// How long what is left has to end.
const GRACE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(1);

/// Runs `f`, and panics with a [`dump`](crate::inspect::dump) if a coroutine is left that `f` has started, or that such
/// a coroutine has started.
///
/// `f` runs in a coroutine of a runtime of its own, so what other tests do at the same time does not count. Nor does
/// what `f` starts on the default runtime, in a thread or in a [`blocking`](crate::blocking()) call, or on another
/// [`Runtime`].
///
/// A coroutine that is about to end has a second for that. What is left after the panic is cancelled.
///
/// # Panics
///
/// If a coroutine is left; with whatever `f` panics with; and if the system refuses the threads of a runtime.
///
/// # Examples
///
/// ```
/// coro::test::no_coroutines_left(|| {
///     let (send, receive) = coro::chan::bounded(1);
///     coro::go(move || send.send(42));
///     assert_eq!(receive.recv(), Ok(42));
/// });
/// ```
///
/// ```should_panic
/// coro::test::no_coroutines_left(|| {
///     coro::go(coro::park); // nobody wakes it
/// });
/// ```
#[track_caller]
pub fn no_coroutines_left<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    let runtime = Runtime::builder().build().expect("a runtime for the test");
    let value = match runtime.scope(|scope| scope.go(f).join()) {
        Ok(value) => value,
        Err(JoinError::Panicked(payload)) => resume_unwind(payload),
        Err(JoinError::Cancelled) => panic!("the function of the test was cancelled"),
    };
    let end = Instant::now() + GRACE;
    while runtime.shared.alive() > 0 && Instant::now() < end {
        sleep(PAUSE);
    }
    if runtime.shared.alive() > 0 {
        let shared = std::sync::Arc::clone(&runtime.shared);
        let left = dump::take(Which::Of(runtime.shared.id()), move || shared.fresh_tasks());
        // They may have ended while we looked.
        let count = left.len() + left.unlisted() + left.fresh() as usize;
        assert!(count == 0, "{count} coroutines are left\n{left}");
    }
    value
}
