//! Inherited values: clones of a coroutine's inheritable values, for the coroutines that it starts.
//!
//! [`Locals::snapshot`] clones the values as they are at that moment. Later changes of the originals do not
//! change the clones. The clones are `Send`. They lie in the closure of the new coroutine, which stores them
//! when it runs.
//!
//! A value's vtable says whether the value is inheritable. A plain `set` of the same key brings another vtable,
//! so it makes the value private again.

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
        // All nodes are counted before the first is cloned. So a `Clone` that stores or deletes does not change
        // this snapshot.
        let nodes = self
            .order
            .pick(|node| node.home.get().is_place() && inherit_of(node.vtable.get()).is_some());
        let clones: Vec<_> = nodes
            .iter()
            .filter_map(|node| Some(inherit_of(node.header().vtable.get())?.0(node)))
            .collect();
        // Before the clones are returned: a node that was deleted meanwhile is dropped here, and if its `Drop`
        // panicked later, the clones would be leaked.
        drop(nodes);
        clones
    }
}
