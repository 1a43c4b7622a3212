//! What the environment says. A variable that is empty counts as one that is not set, and nonsense in
//! one is a clear panic, not a guess.

use std::env;
use std::fmt;

/// What `parse` makes of the variable `name`; `None` where that is not set, or empty.
///
/// # Panics
///
/// When `parse` can make nothing of it; `expected` says what it could have.
#[track_caller]
pub(crate) fn variable<T>(
    name: &str,
    expected: impl fmt::Display,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Option<T> {
    let value = env::var_os(name).filter(|value| !value.is_empty())?;
    let parsed = value.to_str().and_then(parse);
    assert!(parsed.is_some(), "{name}={value:?}: expected {expected}");
    parsed
}

/// What `parse` makes of a variable that is another program's too: nonsense counts as not set.
pub(crate) fn foreign_variable<T>(name: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
    env::var(name).ok().and_then(|value| parse(&value))
}

/// The number from 1 to `most` that the variable `name` holds; `None` where that is not set, or empty.
///
/// # Panics
///
/// When it holds anything else.
#[track_caller]
pub(crate) fn count(name: &str, most: usize) -> Option<usize> {
    let parse = |value: &str| value.parse().ok().filter(|n| (1..=most).contains(n));
    variable(name, format_args!("a number from 1 to {most}"), parse)
}
