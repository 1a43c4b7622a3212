//! Inherited values: clones of a coroutine's values, for the coroutines that it starts.

#[cfg(feature = "tracing")]
use std::any::Any;
#[cfg(feature = "tracing")]
use std::sync::OnceLock;

use super::{Key, storing};
use crate::locals::{Block, Keyed, Kind};
use crate::record;

/// As [`set`](super::set), and coroutines that are started through [`inherit`] get a clone.
///
/// A later plain `set` of the same key makes the value private again.
///
/// # Panics
///
/// As [`set`](super::set).
///
/// # Examples
///
/// ```
/// use coro::tls;
///
/// tls::set_inheritable("trace", 17u64);
/// let trace = || tls::get::<u64>("trace").map(|number| *number);
/// assert_eq!(coro::go(tls::inherit(trace)).join().unwrap(), Some(17));
/// assert_eq!(coro::go(trace).join().unwrap(), None);
/// ```
///
/// The clones go to other threads:
///
/// ```compile_fail,E0277
/// coro::tls::set_inheritable("trace", std::rc::Rc::new("not Send"));
/// ```
#[inline]
pub fn set_inheritable<K: Key + Clone + Send, V: Clone + Send + 'static>(key: K, mut value: V) {
    // SAFETY: R1, R2, it stays in this frame.
    let record = unsafe { record::here() };
    let name = Keyed(key);
    // A value that is replaced in its place needs no hijack: something was stored before.
    if let Err(found) = record.locals().replace(&name, &mut value, Kind::INHERITABLE) {
        let block = Block::new(name, Kind::INHERITABLE);
        let node = fill!(block.value() = value);
        storing(record, |locals| locals.insert_at(found, node));
    }
}

/// What is no value of a coroutine, and is inherited as well.
#[cfg(feature = "tracing")]
pub(crate) trait Inherits: Send {
    /// Begins with it, until what this gives is dropped.
    fn begin(self: Box<Self>) -> Box<dyn Any>;
}

/// Takes what is to be inherited from the calling coroutine, if there is anything.
#[cfg(feature = "tracing")]
type TakeInherited = fn() -> Option<Box<dyn Inherits>>;

#[cfg(feature = "tracing")]
static INHERIT: OnceLock<TakeInherited> = OnceLock::new();

/// Has [`inherit`] call this where it is called. The first one counts.
#[cfg(feature = "tracing")]
pub(crate) fn inherit_as_well(inherit: TakeInherited) {
    let _ = INHERIT.set(inherit);
}

/// Wraps `f` so that it runs with clones of the inheritable values of the running coroutine.
///
/// The clones are made now, so what the values become later does not matter. They are stored where
/// and when the wrapped function is called, whatever the coroutine or thread, and are inheritable
/// there in turn. Whoever drops the function uncalled drops the clones.
///
/// With feature `tracing` and its layer, `f` runs in the current span as well: see `trace`.
///
/// A value that a [`scope`](super::scope()) hides is not inherited, and one that is set by
/// [`scope_inheritable`](super::scope_inheritable) is.
///
/// # Panics
///
/// If the `Clone` of a key or a value panics. The wrapped function panics as
/// [`set`](super::set) does.
///
/// # Examples
///
/// ```
/// use coro::tls;
///
/// tls::set_inheritable("depth", 1);
/// let child = tls::inherit(|| {
///     let depth = *tls::get::<i32>("depth").unwrap();
///     tls::set_inheritable("depth", depth + 1);
///     let grandchild = tls::inherit(|| *tls::get::<i32>("depth").unwrap());
///     coro::go(grandchild).join().unwrap()
/// });
/// tls::set_inheritable("depth", 100); // too late for the child
/// assert_eq!(coro::go(child).join().unwrap(), 2);
/// ```
///
/// The wrapped function may be called on another thread:
///
/// ```compile_fail,E0277
/// let word = std::rc::Rc::new("not Send");
/// coro::tls::inherit(move || println!("{word}"));
/// ```
pub fn inherit<F, T>(f: F) -> impl FnOnce() -> T + Send
where
    F: FnOnce() -> T + Send,
{
    let inherited = record::with(|record| record.locals().snapshot());
    #[cfg(feature = "tracing")]
    let as_well = INHERIT.get().and_then(|inherit| inherit());
    move || {
        #[cfg(feature = "tracing")]
        let _inherited = as_well.map(Inherits::begin);
        if !inherited.is_empty() {
            record::with(|record| {
                storing(record, |locals| {
                    for value in inherited {
                        value.install(locals);
                    }
                });
            });
        }
        f()
    }
}
