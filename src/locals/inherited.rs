//! What a coroutine leaves to those that it starts: clones of its inheritable values.
//!
//! Inheritance is a copy at a moment, not a link: [`Locals::snapshot`] clones, and what becomes of
//! the originals afterwards does not show in the copies. The copies are `Send`, and wait in the
//! closure of the coroutine to be until it runs and installs them.
//!
//! Whether a value is inheritable is written in its vtable, so a plain `set` of the same key, which
//! brings another vtable, makes it private again.

use std::hash::Hash;
use std::marker::PhantomData;

use super::Locals;
use super::name::Keyed;
use super::node::{Extra, Kind, Node, NodeVTable};
use super::owner::Ref;

/// A cloned pair of key and value on its way to another coroutine.
pub(crate) trait InheritedValue: Send {
    /// Stores the pair, inheritable in turn.
    fn install(self: Box<Self>, target: &Locals);
}

struct Pair<K, V> {
    key: K,
    value: V,
}

impl<K, V> InheritedValue for Pair<K, V>
where
    K: Hash + Eq + Clone + Send + 'static,
    V: Clone + Send + 'static,
{
    fn install(self: Box<Self>, target: &Locals) {
        target.store(Keyed(self.key), self.value, Kind::INHERITABLE);
    }
}

/// What a vtable holds for a value that is inheritable: clones the name and the value of a node.
struct Inherit(fn(&Ref) -> Box<dyn InheritedValue>);

/// How a value is inherited, if it is.
fn inherit_of(vtable: &NodeVTable) -> Option<&Inherit> {
    vtable.extra?.downcast_ref()
}

impl<K, V> Kind<Keyed<K>, V>
where
    K: Hash + Eq + Clone + Send + 'static,
    V: Clone + Send + 'static,
{
    /// Snapshots hold a clone of it.
    pub(crate) const INHERITABLE: Self = {
        let extra: &Extra = &Inherit(inherit::<K, V>);
        Kind { vtable: &Node::<Keyed<K>, V>::vtable(Some(extra)), types: PhantomData }
    };
}

/// Clones name and value. User code runs, while `node` keeps both in place.
fn inherit<K, V>(node: &Ref) -> Box<dyn InheritedValue>
where
    K: Hash + Eq + Clone + Send + 'static,
    V: Clone + Send + 'static,
{
    let (Some(Keyed(key)), Some(value)) = (node.name::<Keyed<K>>(), node.value::<V>()) else {
        unreachable!("a vtable knows the types of its node");
    };
    Box::new(Pair { key: key.clone(), value: value.clone() })
}

impl Locals {
    /// Clones of all inheritable values that are stored now, oldest first.
    pub(crate) fn snapshot(&self) -> Vec<Box<dyn InheritedValue>> {
        // Nothing is cloned before all nodes are counted, so a `Clone` that stores or deletes
        // neither adds to this snapshot nor takes from it.
        let nodes = self
            .order
            .pick(|node| node.home.get().is_place() && inherit_of(node.vtable.get()).is_some());
        let clones: Vec<_> = nodes
            .iter()
            .filter_map(|node| Some(inherit_of(node.header().vtable.get())?.0(node)))
            .collect();
        // Here and not at the end, as everywhere: what is returned already when a `Drop` panics is
        // leaked, and a node that was deleted meanwhile has its `Drop` now.
        drop(nodes);
        clones
    }
}
