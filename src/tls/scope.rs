//! A value for the length of a call.

use std::any::Any;
use std::marker::PhantomData;

use super::{Key, storing};
use crate::locals::{Block, Keyed, Kind, Removed, Shadow, Unstored};
use crate::record::{self, Running};
use crate::unwind::catch_and_report;

/// Runs `f` with `value` stored under `key`, and afterwards restores what was stored there before.
///
/// That holds whatever happens in `f`: the value may be replaced or deleted, everything may be reset
/// or unloaded, `f` may panic. Scopes may be nested. What was there before keeps its age, so the
/// order in which values are dropped in the end does not change.
///
/// Within `f` the key has this value and no other, whatever its type. So a `get` of the type that was stored
/// there before finds nothing ([Types](super#types)).
///
/// Where storing is refused, after cleanup, `value` is dropped at once and `f` runs without it.
///
/// # Panics
///
/// If `f` does, if the key's `Hash` or `Eq` does at the beginning, or if what is dropped at the end
/// does. A `Hash` or `Eq` that panics at the end, which can be asked only if `f` has replaced or
/// deleted the value, is reported by the panic hook, and counts as if nothing were stored.
///
/// # Examples
///
/// ```
/// use coro::tls;
///
/// fn user() -> &'static str {
///     tls::get("user").map_or("nobody", |name| *name)
/// }
///
/// tls::scope("user", "Ada", || {
///     assert_eq!(user(), "Ada");
///     tls::scope("user", "Grace", || assert_eq!(user(), "Grace"));
///     assert_eq!(user(), "Ada");
/// });
/// assert_eq!(user(), "nobody");
/// ```
pub fn scope<R>(key: impl Key, value: impl Any, f: impl FnOnce() -> R) -> R {
    let block = Block::new(Keyed(key), Kind::PRIVATE);
    let node = fill!(block.value() = value);
    within(node, f)
}

/// As [`scope`], and coroutines that are started through [`inherit`](super::inherit) within `f` get a
/// clone of the value, which is theirs and stays when the scope ends.
///
/// # Panics
///
/// As [`scope`].
///
/// # Examples
///
/// ```
/// use coro::tls;
///
/// fn user() -> Option<&'static str> {
///     tls::get("user").map(|name| *name)
/// }
///
/// tls::scope_inheritable("user", "Ada", || {
///     assert_eq!(coro::go(tls::inherit(user)).join().unwrap(), Some("Ada"));
///     assert_eq!(coro::go(user).join().unwrap(), None);
/// });
/// assert_eq!(coro::go(tls::inherit(user)).join().unwrap(), None);
/// ```
pub fn scope_inheritable<R>(
    key: impl Key + Clone + Send,
    value: impl Any + Clone + Send,
    f: impl FnOnce() -> R,
) -> R {
    let block = Block::new(Keyed(key), Kind::INHERITABLE);
    let node = fill!(block.value() = value);
    within(node, f)
}

/// Runs `f` with the node stored, and restores what was there.
fn within<K: Key, V: 'static, R>(node: Unstored<Keyed<K>, V>, f: impl FnOnce() -> R) -> R {
    record::with(|record| {
        let mut scope = ScopedValue::enter(record, node);
        let result = f();
        drop(scope.leave());
        result
    })
}

/// A scope that is open, and that an unwinding closes.
struct ScopedValue<'a, K: Key> {
    record: Running<'a>,
    /// What the scope hides; gone once it is restored.
    shadow: Option<Shadow>,
    key: PhantomData<K>,
}

impl<'a, K: Key> ScopedValue<'a, K> {
    fn enter<V: 'static>(record: Running<'a>, node: Unstored<Keyed<K>, V>) -> Self {
        let shadow = storing(record, |locals| locals.swap_in(node));
        ScopedValue { record, shadow: Some(shadow), key: PhantomData }
    }

    /// Restores what was stored before, and gives the removed nodes to the caller, who drops them.
    fn leave(&mut self) -> Option<Removed> {
        let shadow = self.shadow.take()?;
        if shadow.hides() {
            // `f` may have unloaded the coroutine, and something is about to be stored again.
            self.record.hijack();
        }
        Some(self.record.locals().put_back::<Keyed<K>>(shadow))
    }
}

impl<K: Key> Drop for ScopedValue<'_, K> {
    fn drop(&mut self) {
        // A second panic would abort the process.
        catch_and_report(|| drop(self.leave()));
    }
}
