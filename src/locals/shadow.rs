//! A value for the length of a call, and then as before.
//!
//! [`Locals::swap_in`] stores a value and gives back a [`Shadow`], which remembers what was there.
//! [`Locals::put_back`] restores that, whatever happened in between: `set`, `del`, `reset` and
//! `unload` act on the scoped value and never reach the one in its shadow.
//!
//! ```text
//!             before              in the scope                   after
//!   lookup --> [old]        lookup --> [scoped]            lookup --> [old]
//!   order:     a old b      order: scoped a (old) b        order:     a old b
//! ```
//!
//! The old node keeps its place in the order list, so that a scope does not change which value is
//! dropped before which. A snapshot does not see it.
//!
//! A scope may end in an unwinding, where a second panic would abort the process. So `put_back` lets
//! no panic out, and hands what it removed to its caller, who knows how to drop it.

use super::Locals;
use super::name::Name;
use super::node::Home;
use super::owner::{Ref, Unstored, WeakNode};
use crate::unwind::catch_and_report;

/// What a scoped value hides. To be given to [`Locals::put_back`] of the same locals.
#[must_use = "what was stored before stays hidden"]
pub(crate) struct Shadow {
    /// Of the scoped value, which is as free as any other; `None` where storing was refused.
    name: Option<WeakNode>,
    /// What was stored under that name.
    old: Option<Ref>,
}

/// Nodes that are no longer needed. Dropping them may run user code.
pub(crate) struct Removed {
    _nodes: [Option<Ref>; 2],
    _name: Option<WeakNode>,
}

impl Shadow {
    /// Whether something will be stored when the scope ends.
    pub(crate) fn hides(&self) -> bool {
        self.old.is_some()
    }
}

impl Locals {
    /// Stores a node until [`put_back`](Locals::put_back).
    pub(crate) fn swap_in<N: Name, V: 'static>(&self, scoped: Unstored<N, V>) -> Shadow {
        let mut digest = None;
        let old = self.find(scoped.name(), &mut digest);
        let scoped = scoped.into_ref();
        if self.refuses() {
            drop(old);
            self.refuse(scoped);
            return Shadow { name: None, old: None };
        }
        let name = Some(WeakNode::new(&scoped));
        let old = self.settle::<N>(old, &scoped, &mut digest);
        match &old {
            Some(old) => {
                self.substitute(old, &scoped, Home::Shadowed);
                self.enlist(scoped);
            }
            None => self.attach::<N>(scoped, digest),
        }
        Shadow { name, old }
    }

    /// Ends the scope: what is stored under the name now goes, what was there before comes back.
    ///
    /// Runs the user's `Eq`, and perhaps `Hash`, if the scoped value was replaced or deleted. Where
    /// they panic the name counts as absent, and an old value that cannot be hashed is lost.
    pub(crate) fn put_back<N: Name>(&self, shadow: Shadow) -> Removed {
        let Shadow { name: Some(name), old } = shadow else {
            return Removed { _nodes: [None, None], _name: None };
        };
        let mut digest = None;
        let now = match name.stored() {
            Some(scoped) => Some(scoped),
            None => attempt(|| self.find(name.name::<N>()?, &mut digest)).flatten(),
        };
        if now.is_none() && old.is_some() && digest.is_none() {
            digest = attempt(|| name.name::<N>().map(N::digest)).flatten();
        }
        // From here on no user code runs, so what `home` and `is_closed` say stays true.
        if let Some(old) = &old {
            let listed = old.header().home.get() == Home::Shadowed;
            let restored = match &now {
                Some(now) => {
                    self.substitute(now, old, Home::Nowhere);
                    // SAFETY: L2, it was stored until a moment ago.
                    drop(unsafe { self.order.remove(now.as_ptr()) });
                    true
                }
                None if digest.is_some() && !self.is_closed() => {
                    self.place::<N>(old, digest);
                    true
                }
                None => false,
            };
            match (restored, listed) {
                (true, true) | (false, false) => {}
                // Cleanup has taken the list down under an open scope. So it may on a thread, where
                // another library's coroutine can be suspended inside one.
                (true, false) => self.order.push(old.clone()),
                (false, true) => drop(self.detach(old)),
            }
        } else if let Some(now) = &now {
            drop(self.detach(now));
        }
        // The old node first. What is restored loses nothing but our count of it, and the `Drop` of what
        // goes finds it as free to be taken or dropped as anything that is stored.
        Removed { _nodes: [old, now], _name: Some(name) }
    }
}

/// What user code says, or nothing if it panics.
fn attempt<T>(user_code: impl FnOnce() -> T) -> Option<T> {
    let mut answer = None;
    catch_and_report(|| answer = Some(user_code()));
    answer
}
