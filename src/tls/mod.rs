//! Storage and exit handlers that belong to the running coroutine.
//!
//! Each coroutine has a store of its own. [`set`] puts a value there under a key of any type,
//! [`get`] finds it again from anywhere below, and when the coroutine ends, by whatever way, its
//! handlers run and its values are dropped. Nothing has to be passed along, and nothing can leak into
//! another coroutine or outlive this one.
//!
//! ```
//! use coro::tls;
//!
//! fn log(line: &str) -> String {
//!     match tls::get::<u32>("request") {
//!         Some(number) => format!("[request {number}] {line}"),
//!         None => line.to_string(),
//!     }
//! }
//!
//! let handle = coro::go(|| {
//!     tls::set("request", 7u32);
//!     tls::at_exit(|| println!("{}", log("done")));
//!     log("hello")
//! });
//! assert_eq!(handle.join().unwrap(), "[request 7] hello");
//! assert_eq!(log("hello"), "hello");
//! ```
//!
//! On a plain thread the same functions serve the thread, and cleanup runs when the thread ends; on the main
//! thread, when the process does. It is a destructor of a thread-local. In a program that is linked statically
//! (`crt-static`) std runs none for the main thread, so what is stored there is not cleaned up.
//! For a value that has one place in the source, [`local!`](crate::local) declares a typed static and
//! needs no key.
//!
//! # Keys
//!
//! A key is anything that is `Hash + Eq + 'static`, and two keys are equal when their types and their
//! values are. So `1u32` and `1u64` are two keys, and a private type makes private keys.
//! Unlike a `HashMap`, which finds a `String` by a `&str`, this takes them for two keys: what is stored
//! under a `String` is found by an equal `String`, and where the name is known beforehand a
//! `&'static str` is the better key.
//!
//! ```
//! use coro::tls;
//!
//! #[derive(PartialEq, Eq, Hash)]
//! struct Mine(u32);
//!
//! tls::set(Mine(1), "one");
//! assert!(tls::get::<&str>(1u32).is_none());
//! assert_eq!(*tls::get::<&str>(Mine(1)).unwrap(), "one");
//!
//! tls::set(String::from("word"), 2);
//! assert!(tls::get::<i32>("word").is_none());
//! assert_eq!(*tls::get::<i32>("word".to_owned()).unwrap(), 2);
//! ```
//!
//! # Types
//!
//! A key has one value, of any type, and it is found as what it was stored as: to ask for another type is
//! to find nothing. **The type is inferred**: `set("retries", 3)` stores an `i32`, and `get::<u32>("retries")` is
//! `None`. So give a number's type where it is stored. [`try_get`] tells a value of another type from none. The
//! declaration of a [`local!`](crate::local) fixes its type.
//!
//! ```
//! use coro::tls;
//!
//! tls::set("retries", 3);
//! assert!(tls::get::<u32>("retries").is_none());
//! assert!(tls::try_get::<u32>("retries").is_err());
//!
//! tls::set("retries", 3u32);
//! assert_eq!(*tls::get::<u32>("retries").unwrap(), 3);
//! ```
//!
//! # The end of a coroutine
//!
//! 1. Handlers run, newest first, and all values are still there. A handler may do anything,
//!    storing, registering further handlers and suspending included.
//! 2. Values are dropped, newest first. A value that was replaced counts as new. A `Drop` may use this
//!    module too; a handler that it registers runs before the next value goes.
//! 3. This goes on until nothing is left. What is stored during cleanup belongs to the next round,
//!    and what is stored in the seventeenth is refused: a value is dropped at once, a handler is
//!    dropped without being run.
//!
//! A panic in a handler or a `Drop` is reported by the panic hook, and the rest goes on.
//!
//! Once cleanup is over, as in the last destructors of a plain thread, nothing here panics of itself:
//! [`get`] and [`take`] find nothing, [`set`] drops its value at once, [`at_exit`] runs its handler at
//! once, [`id`] still answers. A refused value whose `Drop` stores another, and so on, is forgotten
//! beyond a depth of 16.
//!
//! # Calling back
//!
//! `Hash`, `Eq`, `Clone`, `Drop` and handlers may call everything here, on the very key that is being
//! looked for, and may suspend. An `Eq` or a `Hash` that stores or deletes each time it is asked
//! makes a search start over; after 16 attempts the search takes what it has found.

/// Writes a value to its place in a new block, and gives the filled block: `fill!(block.value() = value)`. A
/// function would have a copy of the value in its frame; see [`locals`](crate::locals).
macro_rules! fill {
    ($block:ident.$place:ident() = $value:expr) => {{
        // SAFETY: L1, L7, the block is new and its owner's alone, and the value goes into its place.
        unsafe {
            std::ptr::write($block.$place(), $value);
            $block.filled()
        }
    }};
}

mod data;
mod inherit;
mod labels;
mod local;
mod scope;
#[cfg(test)]
mod tests;

use std::hash::Hash;

pub use data::{Data, WrongType};
#[cfg(feature = "tracing")]
pub(crate) use inherit::{Inherits, inherit_as_well};
pub use inherit::{inherit, set_inheritable};
pub(crate) use labels::{labels_of, set_label};
pub use local::{AccessError, LocalKey};
pub use scope::{scope, scope_inheritable};

pub use crate::base::id::Id;
use crate::locals::{Block, HandlerSlot, Keyed, Kind, Locals};
use crate::record::{self, Running};

/// What a value can be stored under: anything that is `Hash + Eq + 'static`.
///
/// # Examples
///
/// ```
/// use coro::tls;
///
/// tls::set(("user", 3), "Ada");
/// tls::set(vec![1, 2, 3], "a vector");
/// assert_eq!(*tls::get::<&str>(("user", 3)).unwrap(), "Ada");
/// ```
pub trait Key: Hash + Eq + 'static {}

impl<K: Hash + Eq + 'static> Key for K {}

/// The identity of the running coroutine, or of the thread where there is none.
///
/// It stays the same until [`unload`] gives a new one, and answers in every place, exit handlers and
/// the last destructors of a thread included.
///
/// # Examples
///
/// ```
/// use coro::tls;
///
/// let mine = tls::id();
/// let other = coro::go(tls::id).join().unwrap();
/// assert_ne!(mine, other);
/// assert_eq!(mine, tls::id());
/// ```
#[inline]
pub fn id() -> Id {
    record::with(|record| record.id())
}

/// Stores `value` under `key`, in place of what was stored there.
///
/// The old value is dropped, at the end of the call, unless a [`Data`] of it is held. The value
/// may be of another type than the one that it replaces, which is then found as that type
/// ([Types](self#types)). It need not be `Send`: a coroutine stays on its thread.
///
/// # Panics
///
/// Only if the key's `Hash`, `Eq` or `Drop`, or the old value's `Drop`, panics.
///
/// # Examples
///
/// ```
/// use coro::tls;
///
/// tls::set("answer", 41);
/// tls::set("answer", 42);
/// assert_eq!(*tls::get::<i32>("answer").unwrap(), 42);
/// ```
///
/// What is stored stays until it is replaced or the coroutine ends, so it cannot borrow:
///
/// ```compile_fail,E0597
/// let word = String::from("borrowed");
/// coro::tls::set("word", &word);
/// ```
#[inline]
pub fn set<K: Key, V: 'static>(key: K, mut value: V) {
    // SAFETY: R1, R2, it stays in this frame.
    let record = unsafe { record::here() };
    let name = Keyed(key);
    // A value that is replaced in its place needs no hijack: something was stored before.
    if let Err(found) = record.locals().replace(&name, &mut value, Kind::PRIVATE) {
        let block = Block::new(name, Kind::PRIVATE);
        let node = fill!(block.value() = value);
        storing(record, |locals| locals.insert_at(found, node));
    }
}

/// The value under `key`, or `None` if there is none or it is not a `V`.
///
/// The value stays where it is; the [`Data`] shares it and keeps it alive. [`try_get`] tells the two
/// reasons for `None` apart.
///
/// # Panics
///
/// Only if the key's `Hash`, `Eq` or `Drop` panics.
///
/// # Examples
///
/// ```
/// use coro::tls;
///
/// tls::set("words", vec!["a", "b"]);
/// let words = tls::get::<Vec<&str>>("words").unwrap();
/// assert_eq!(words.len(), 2);
/// assert!(tls::get::<String>("words").is_none());
/// assert!(tls::get::<Vec<&str>>("other").is_none());
/// ```
#[inline]
pub fn get<V: 'static>(key: impl Key) -> Option<Data<V>> {
    let key = Keyed(key);
    let found = record::with(|record| record.locals().get(&key));
    // Before the value is returned: if the key's `Drop` panicked later, the value would be leaked.
    drop(key);
    found.map(Data::new)
}

/// As [`get`], but a value that is not a `V` is an error. `Ok(None)`: nothing is stored under `key`.
///
/// # Errors
///
/// [`WrongType`], which names both types.
///
/// # Panics
///
/// Only if the key's `Hash`, `Eq` or `Drop` panics.
///
/// # Examples
///
/// ```
/// use coro::tls;
///
/// fn retries() -> Result<u32, tls::WrongType> {
///     Ok(tls::try_get("retries")?.map_or(0, |retries| *retries))
/// }
///
/// assert_eq!(retries(), Ok(0));
/// tls::set("retries", 3u32);
/// assert_eq!(retries(), Ok(3));
/// tls::set("retries", 3); // an `i32`
/// assert!(retries().is_err());
/// ```
#[inline]
pub fn try_get<V: 'static>(key: impl Key) -> Result<Option<Data<V>>, WrongType> {
    let key = Keyed(key);
    let found = record::with(|record| record.locals().try_get(&key));
    // Before the value is returned, as in `get`.
    drop(key);
    found.map(|held| held.map(Data::new)).map_err(WrongType::new::<V>)
}

/// Moves the value under `key` out of the store.
///
/// `None` if there is none, if it is not a `V`, or while a [`Data`] of it is held; then it stays
/// where it is. [`try_get`] tells a value of another type from none.
///
/// # Panics
///
/// Only if the key's `Hash`, `Eq` or `Drop` panics.
///
/// # Examples
///
/// ```
/// use coro::tls;
///
/// tls::set("name", String::from("Ada"));
/// let held = tls::get::<String>("name");
/// assert_eq!(tls::take::<String>("name"), None);
/// drop(held);
/// assert_eq!(tls::take::<String>("name"), Some(String::from("Ada")));
/// assert_eq!(tls::take::<String>("name"), None);
/// ```
#[inline]
pub fn take<V: 'static>(key: impl Key) -> Option<V> {
    record::with(|record| record.locals().take(Keyed(key)))
}

/// Removes what is stored under `key`, and drops it unless a [`Data`] of it is held. Tells whether
/// there was anything.
///
/// # Panics
///
/// Only if the key's `Hash`, `Eq` or `Drop`, or the value's `Drop`, panics.
///
/// # Examples
///
/// ```
/// use coro::tls;
///
/// tls::set(1, "one");
/// assert!(tls::del(1));
/// assert!(!tls::del(1));
/// ```
#[inline]
pub fn del(key: impl Key) -> bool {
    record::with(|record| record.locals().del(&Keyed(key)))
}

/// Drops all values, newest first, and keeps the exit handlers.
///
/// Values of [`local!`](crate::local) go as well and are initialised anew at their next use. A panic
/// in a value's `Drop` is reported by the panic hook and goes no further. What a `Drop` stores during
/// the call stays.
///
/// # Examples
///
/// ```
/// use coro::tls;
///
/// tls::set(1, "one");
/// tls::set(2, "two");
/// tls::reset();
/// assert!(tls::get::<&str>(1).is_none());
/// assert!(!tls::del(2));
/// ```
pub fn reset() {
    record::with(|record| record.locals().reset());
}

/// Forgets everything: drops all exit handlers without running them, and all values, each newest
/// first, and gives the coroutine a new [`id`].
///
/// The coroutine is then as it was before it first stored anything, and nothing is left to do when
/// it ends. What a `Drop` stores during the call stays, and is cleaned up as usual.
///
/// # Examples
///
/// ```
/// use coro::tls;
///
/// coro::go(|| {
///     let id = tls::id();
///     tls::set(1, "one");
///     tls::at_exit(|| unreachable!("unload has dropped it"));
///     tls::unload();
///     assert!(tls::get::<&str>(1).is_none());
///     assert_ne!(tls::id(), id);
/// })
/// .join()
/// .unwrap();
/// ```
pub fn unload() {
    record::with(|record| {
        record.locals().unload_contents();
        if record.locals().is_empty() {
            record.restore();
        }
        record.renew_id();
    });
}

/// Registers a handler that runs when the coroutine ends, on its own stack: after it has returned,
/// panicked, or been cancelled.
///
/// Handlers run newest first, before any value is dropped. A handler may do anything that the
/// coroutine may; a handler that it registers runs next. A panic in it is reported by the panic hook,
/// and the other handlers still run. `join` returns when all of them have.
///
/// # Panics
///
/// Not of itself. Once cleanup is over the handler runs at once, and then a panic in it is the
/// caller's.
///
/// # Examples
///
/// ```
/// use std::sync::mpsc;
///
/// use coro::tls;
///
/// let (sender, receiver) = mpsc::channel();
/// coro::go(move || {
///     let later = sender.clone();
///     tls::at_exit(move || later.send("registered first").unwrap());
///     tls::at_exit(move || sender.send("registered last").unwrap());
/// })
/// .join()
/// .unwrap();
/// assert_eq!(receiver.iter().collect::<Vec<_>>(), ["registered last", "registered first"]);
/// ```
///
/// It runs when the frame that registered it is gone, so it cannot borrow from there:
///
/// ```compile_fail,E0373
/// let word = String::from("borrowed");
/// coro::tls::at_exit(|| println!("{word}"));
/// ```
#[inline]
pub fn at_exit(f: impl FnOnce() + 'static) {
    let mut slot = HandlerSlot::new();
    let handler = fill!(slot.closure() = f);
    record::with(|record| storing(record, |locals| locals.register(handler)));
}

/// Runs `store`, which stores something, and makes sure that cleanup follows.
///
/// A hijack before `store` is not enough. `store` runs user code (a `Hash`, an `Eq`, an initialiser, a `Drop`), which
/// may call [`unload`]. That restores the return address, because nothing is stored yet. So if something is stored
/// afterwards, the return address is hijacked again.
#[inline]
fn storing<R>(record: Running<'_>, store: impl FnOnce(&Locals) -> R) -> R {
    struct HijackAgain<'a>(Running<'a>);

    impl Drop for HijackAgain<'_> {
        #[inline]
        fn drop(&mut self) {
            if !self.0.locals().is_empty() {
                self.0.hijack();
            }
        }
    }

    record.hijack();
    let _again = HijackAgain(record);
    store(record.locals())
}
