//! A value for the length of a call, and then as before.
//!
//! [`Locals::swap_in`] stores a value and gives back a [`Shadow`], which keeps the node that was there.
//! [`Locals::put_back`] restores that node, whatever happened in between. In a scope, `set`, `del`, `reset` and
//! `unload` act on the scoped value, and never on the hidden one.
//!
//! ```text
//!             before              in the scope                   after
//!   lookup --> [old]        lookup --> [scoped]            lookup --> [old]
//!   order:     a old b      order: scoped a (old) b        order:     a old b
//! ```
//!
//! The old node keeps its place in the order list, so a scope does not change the order in which values are
//! dropped. A snapshot skips the old node.
//!
//! A scope may end in an unwinding, where a second panic would abort the process. So `put_back` does not panic.
//! It gives the removed nodes to its caller, who drops them under a catch if need be.

use super::Locals;
use super::name::Name;
use super::node::Home;
use super::owner::{Ref, Unstored, WeakNode};
use crate::unwind::catch_and_report;

/// What a scoped value hides. To be given to [`Locals::put_back`] of the same locals.
#[must_use = "what was stored before stays hidden"]
pub(crate) struct Shadow {
    /// Of the scoped value, which may be taken or dropped like any other. `None` if storing was refused.
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

    /// Ends the scope: removes what is stored under the name now, and restores what was there before.
    ///
    /// If the scoped value was replaced or deleted, this runs the user's `Eq`, and perhaps `Hash`. If one of them
    /// panics, the name counts as absent; an old value whose name cannot be hashed is lost.
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
        // From here on no user code runs, so `home` and `is_closed` do not change.
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
                // Cleanup has emptied the list under an open scope. It may do so on a thread, where a coroutine of
                // another library's can be suspended inside a scope.
                (true, false) => self.order.push(old.clone()),
                (false, true) => drop(self.detach(old)),
            }
        } else if let Some(now) = &now {
            drop(self.detach(now));
        }
        // The old node is dropped first: that gives up our count of it. The `Drop` of the removed node may then
        // take or delete the old one.
        Removed { _nodes: [old, now], _name: Some(name) }
    }
}

/// What user code says, or nothing if it panics.
fn attempt<T>(user_code: impl FnOnce() -> T) -> Option<T> {
    let mut answer = None;
    catch_and_report(|| answer = Some(user_code()));
    answer
}
