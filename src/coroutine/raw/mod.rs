//! Raw coroutines: coroutines that their maker resumes, without a scheduler.
//!
//! A raw coroutine has a stack, an identity, storage and exit handlers of its own
//! ([`tls`](crate::tls)), and stays on the thread that made it. A call that suspends a *task*, such as
//! [`park`](crate::park()), suspends the task that resumed the coroutine, with everything in between.
//!
//! [`with`] lends a coroutine to a function and ends it when the function returns. It is safe, and the
//! coroutine may borrow. [`Coroutine::new`] gives one away, and is `unsafe`: nothing that Rust knows of keeps
//! an owned coroutine from outliving what it has borrowed of its thread.
//!
//! # How one ends
//!
//! A coroutine whose function returns or panics has ended: its exit handlers have run and its data is gone
//! when [`resume`](Coroutine::resume) returns. One that is suspended when it is dropped, or when [`with`]
//! returns, is unwound: destructors run, then its exit handlers, then its data is dropped. One that was
//! never resumed just drops its function.
//!
//! Some cannot be unwound. These end the process, with a line on stderr that names the coroutine and the
//! reason:
//!
//! - It swallows the unwinding and suspends itself again, 16 times.
//! - It is suspended in a destructor that its own panic runs, where a second panic aborts.
//! - The program was compiled with `panic = "abort"`.

mod coroutine;
mod work;
mod yielder;

use std::io;
use std::ptr::NonNull;

pub use coroutine::{Coroutine, State};
use work::Work;
pub use yielder::Yielder;

/// Makes a coroutine that will run `body` on a stack of its own, lends it to `f`, and ends it. Gives what
/// `f` gives.
///
/// The coroutine has ended when this returns, however it returns. So `body` may borrow what lives outside
/// of the call, as the threads of [`std::thread::scope`] may. [How one ends](self#how-one-ends) says what
/// becomes of one that is suspended then.
///
/// `stack_size` is how many bytes the coroutine's frames may take at least, up to 64 MiB; see
/// [`Builder::stack_size`](crate::Builder::stack_size).
///
/// # Errors
///
/// `InvalidInput` where `stack_size` is 0 or above 64 MiB, `OutOfMemory` where the kernel
/// grants no further stack, `Unsupported` under a user shadow stack. Neither function has run then.
///
/// # Panics
///
/// With whatever `f` panics with. When `CORO_GUARD` is nonsense.
///
/// # Examples
///
/// ```
/// use coro::raw::{self, State};
///
/// let words = String::from("to be or not");
/// let mut seen = 0;
/// let longest = raw::with(
///     64 * 1024,
///     |yielder, ()| {
///         for word in words.split(' ') {
///             seen += 1; // both are borrowed
///             yielder.suspend(word);
///         }
///     },
///     |coroutine| {
///         let mut longest = "";
///         while let State::Yielded(word) = coroutine.resume(()) {
///             if word.len() > longest.len() {
///                 longest = word;
///             }
///         }
///         longest
///     },
/// )?;
/// assert_eq!((longest, seen), ("not", 4));
/// # std::io::Result::Ok(())
/// ```
///
/// What does not outlive the call cannot be borrowed, and the coroutine does not get out of it:
///
/// ```compile_fail,E0597
/// use coro::raw::{self, Yielder};
///
/// let kept = std::cell::Cell::new(None);
/// let body = |_: &Yielder<_, ()>, inside: &i32| kept.set(Some(inside));
/// raw::with(65536, body, |coroutine| {
///     let inside = 1;
///     coroutine.resume(&inside);
/// });
/// kept.take();
/// ```
///
/// ```compile_fail,E0521
/// use coro::raw::{self, Yielder};
///
/// let mut kept = None;
/// raw::with(65536, |_: &Yielder<(), ()>, ()| (), |coroutine| kept = Some(coroutine));
/// ```
///
/// It cannot leave its thread:
///
/// ```compile_fail,E0277
/// use coro::raw::{self, Yielder};
///
/// raw::with(65536, |_: &Yielder<(), ()>, ()| (), |coroutine| {
///     std::thread::scope(|scope| _ = scope.spawn(|| coroutine.resume(())));
/// });
/// ```
#[track_caller]
pub fn with<In, Yield, Ret, R>(
    stack_size: usize,
    body: impl FnOnce(&Yielder<In, Yield>, In) -> Ret,
    f: impl FnOnce(&Coroutine<In, Yield, Ret>) -> R,
) -> io::Result<R> {
    // It stays in this frame until the end, so it needs no allocation.
    let work = Work::new(body);
    // SAFETY: C6, the coroutine is dropped before the work is, whether `f` returns or panics.
    let coroutine = unsafe { Coroutine::on(stack_size, NonNull::from(&work), None) }?;
    Ok(f(&coroutine))
}
