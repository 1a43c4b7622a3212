//! Who owns a node: [`Unstored`], [`Ref`], [`Held`], [`WeakNode`].
//!
//! Counting is what lets user code run at any moment. A lookup that is about to call the user's
//! `Eq` takes a [`Ref`] first. Whatever that `Eq` deletes, the block that it looks at stays.
//!
//! There are two counts, as an `Rc` has: one for the value, and one for the block with the name. A
//! scope needs the name of its value at its end, but must not keep the value from being dropped or
//! taken meanwhile. So it has a [`WeakNode`].
//!
//! | owner | owns | knows the type of |
//! |---|---|---|
//! | `Unstored<N, V>` | the value and the block, alone | both |
//! | `Ref` | a count of the value | neither |
//! | `Held<V>` | a count of the value | the value |
//! | `WeakNode` | a part of the block | neither |
//!
//! The invariants are those of the parent module.

use std::hint;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::process;
use std::ptr::{self, NonNull};

use super::name::Name;
use super::node::{Block, Head, Home, Kind, Node, NodeHeader, name_in};
use crate::base::report;

/// A node that is not stored yet, and has no other owner.
pub(crate) struct Unstored<N, V> {
    node: Ref,
    types: PhantomData<Node<N, V>>,
}

impl<N: Name, V: 'static> Block<N, V> {
    /// # Safety
    ///
    /// The value was written.
    #[inline]
    pub(crate) unsafe fn filled(self) -> Unstored<N, V> {
        Unstored { node: Ref(self.into_raw()), types: PhantomData }
    }
}

impl<N: Name, V: 'static> Unstored<N, V> {
    pub(super) fn new(name: N, value: V, kind: Kind<N, V>) -> Unstored<N, V> {
        let block = Block::new(name, kind);
        // SAFETY: L1, the block is new and ours, and whole then.
        unsafe {
            block.value().write(value);
            block.filled()
        }
    }

    #[inline]
    pub(super) fn name(&self) -> &N {
        // SAFETY: L1 and L3, we own a count, and the name is an `N`.
        unsafe { &(*self.node.0.cast::<Node<N, V>>().as_ptr()).name }
    }

    pub(super) fn hold(&self) -> Held<V> {
        Held { node: self.node.clone(), _value: PhantomData }
    }

    #[inline]
    pub(super) fn into_ref(self) -> Ref {
        self.node
    }
}

/// The most owners that a node may have, without those that it is lent to. Each of these has a frame of its own on one
/// stack of a coroutine.
pub(crate) const MOST: u32 = u32::MAX / 2;

/// Shared ownership of a node, whatever its types.
pub(super) struct Ref(NonNull<NodeHeader>);

impl Ref {
    /// A further owner of a node.
    ///
    /// # Safety
    ///
    /// `node` is alive: someone owns a count of it.
    #[inline(always)]
    pub(super) unsafe fn share(node: NonNull<NodeHeader>) -> Ref {
        // SAFETY: L1, the caller's word.
        let count = unsafe { &node.as_ref().count };
        // So the compiler knows that what raises the count and lowers it again does not free the node.
        // SAFETY: L1, it is alive.
        unsafe { hint::assert_unchecked(count.get() > 0) };
        if count.get() >= MOST {
            too_many();
        }
        count.set(count.get() + 1);
        Ref(node)
    }

    /// Takes over a count that [`into_raw`](Ref::into_raw) gave away.
    ///
    /// # Safety
    ///
    /// Once for each `into_raw`.
    #[inline(always)]
    pub(super) unsafe fn from_raw(node: NonNull<NodeHeader>) -> Ref {
        Ref(node)
    }

    /// Leaves the count to whoever gets the pointer.
    #[inline(always)]
    pub(super) fn into_raw(self) -> NonNull<NodeHeader> {
        ManuallyDrop::new(self).0
    }

    #[inline(always)]
    pub(super) fn as_ptr(&self) -> NonNull<NodeHeader> {
        self.0
    }

    #[inline(always)]
    pub(super) fn header(&self) -> &NodeHeader {
        // SAFETY: L1, we own a count.
        unsafe { self.0.as_ref() }
    }

    /// How many own the node, this one included.
    #[inline(always)]
    pub(super) fn count(&self) -> u32 {
        self.header().count.get()
    }

    #[inline(always)]
    pub(super) fn is_stored(&self) -> bool {
        self.header().home.get().is_place()
    }

    /// The name, if it is an `N`.
    #[inline(always)]
    pub(super) fn name<N: Name>(&self) -> Option<&N> {
        // SAFETY: L1, we own a count.
        unsafe { name_in(self.0).map(|name| name.as_ref()) }
    }

    /// Whether the value is a `V`.
    #[inline(always)]
    pub(super) fn holds<V: 'static>(&self) -> bool {
        self.header().holds::<V>()
    }

    /// The name of the value's type.
    pub(super) fn type_name(&self) -> &'static str {
        (self.header().vtable.get().type_name)()
    }

    /// The value, if it is a `V`.
    pub(super) fn value<V: 'static>(&self) -> Option<&V> {
        // SAFETY: L1 and L3, checked just now; L4, nobody writes while we own a count.
        self.holds::<V>().then(|| unsafe { &*self.0.cast::<Head<V>>().as_ref().value })
    }

    /// The same ownership with the value's type known, if it is a `V`.
    #[inline(always)]
    pub(super) fn typed<V: 'static>(self) -> Option<Held<V>> {
        if self.holds::<V>() { Some(Held { node: self, _value: PhantomData }) } else { None }
    }

    /// Exchanges the value and another.
    ///
    /// # Safety
    ///
    /// The value is a `V`, and nobody else can look at it (L4).
    #[inline(always)]
    pub(super) unsafe fn swap<V>(&self, value: &mut V) {
        // SAFETY: L3, it is a `V`; L4, no reference to it exists.
        unsafe {
            let stored = &raw mut (*self.0.cast::<Head<V>>().as_ptr()).value;
            // And not `mem::swap`, which in a debug build makes a copy on the stack.
            ptr::swap_nonoverlapping(stored.cast(), value, 1);
        }
    }

    /// Moves the value out and drops the rest.
    ///
    /// # Safety
    ///
    /// The node is a `Node<N, V>` and this is the only owner of its value (L4).
    pub(super) unsafe fn into_value<N: Name, V: 'static>(self) -> V {
        debug_assert!(self.count() == 1 && self.header().home.get() == Home::Nowhere);
        let node = self.0.cast::<Node<N, V>>().as_ptr();
        if self.header().blocks.get() == 1 {
            // The name is dropped first. If its `Drop` panics, `self` drops the value. A value that was moved out
            // before would be leaked.
            self.header().vtable.set(const { &Node::<ManuallyDrop<N>, V>::vtable(None) });
            // SAFETY: L1 and L3, no `WeakNode` keeps the name, and the new vtable does not drop it.
            unsafe { (&raw mut (*node).name).drop_in_place() };
        }
        self.header().count.set(0);
        // SAFETY: L1 and L3, the value's owners had this part of the block.
        let _block = unsafe { Block::<ManuallyDrop<N>, V>::from_raw(self.into_raw()) };
        // SAFETY: L3, it is a `V`; L1, with a count of zero nobody drops it again.
        unsafe { (&raw const (*node).head.value).cast::<V>().read() }
    }
}

impl Clone for Ref {
    #[inline(always)]
    fn clone(&self) -> Ref {
        // SAFETY: L1, we own a count.
        unsafe { Ref::share(self.0) }
    }
}

impl Drop for Ref {
    #[inline(always)]
    fn drop(&mut self) {
        let count = &self.header().count;
        count.set(count.get() - 1);
        if count.get() == 0 {
            free(self.0);
        }
    }
}

/// Kept out of line: most owners are not the last.
#[inline(never)]
fn free(node: NonNull<NodeHeader>) {
    // SAFETY: L1, the count has just come down to zero, so the block is still whole.
    let free = unsafe { node.as_ref().vtable.get().free };
    // SAFETY: L1 and L3, the last owner, and the vtable is that of the block's types.
    unsafe { free(node) }
}

/// Only `mem::forget` in a loop gets here. A count that wrapped would free a value that is in use.
#[cold]
fn too_many() -> ! {
    report::line(format_args!("coro: a stored value has more than {MOST} owners"));
    process::abort()
}

/// Shared ownership of a node whose value is a `V`.
pub(crate) struct Held<V> {
    node: Ref,
    _value: PhantomData<V>,
}

impl<V: 'static> Held<V> {
    /// A further owner of a node. As [`Ref::share`] and [`Ref::typed`], but the type was compared before the count is
    /// raised. So after inlining, a count that is raised and soon lowered costs nothing.
    ///
    /// # Safety
    ///
    /// As [`Ref::share`]. The value is a `V` (L3).
    #[inline(always)]
    pub(super) unsafe fn share(node: NonNull<NodeHeader>) -> Held<V> {
        // SAFETY: L1, the caller's word.
        Held { node: unsafe { Ref::share(node) }, _value: PhantomData }
    }

    /// As [`share`](Held::share), for the length of a call: the count is not compared with the most there may be.
    ///
    /// # Safety
    ///
    /// As [`share`](Held::share). It stays in the frame of a call on a coroutine's stack, and is dropped when the call
    /// ends.
    #[inline(always)]
    pub(super) unsafe fn lend(node: NonNull<NodeHeader>) -> Held<V> {
        // SAFETY: L1, the caller's word.
        let count = unsafe { &node.as_ref().count };
        // SAFETY: L1, it is alive.
        unsafe { hint::assert_unchecked(count.get() > 0) };
        count.set(count.get().wrapping_add(1));
        Held { node: Ref(node), _value: PhantomData }
    }
}

impl<V> Held<V> {
    #[inline(always)]
    pub(super) fn into_ref(self) -> Ref {
        self.node
    }

    #[inline(always)]
    pub(crate) fn value(&self) -> &V {
        // SAFETY: L1 and L3, made by `Ref::typed`; L4, nobody writes while we own a count.
        unsafe { &self.node.0.cast::<Head<V>>().as_ref().value }
    }
}

impl<V> Clone for Held<V> {
    #[inline]
    fn clone(&self) -> Self {
        Held { node: self.node.clone(), _value: PhantomData }
    }
}

/// Keeps a node's name where it is, and nothing of its value.
pub(super) struct WeakNode(NonNull<NodeHeader>);

impl WeakNode {
    pub(super) fn new(node: &Ref) -> WeakNode {
        let blocks = &node.header().blocks;
        blocks.set(blocks.get().checked_add(1).expect("a node is kept once, by its scope"));
        WeakNode(node.0)
    }

    fn header(&self) -> &NodeHeader {
        // SAFETY: L1, we own a part of the block.
        unsafe { self.0.as_ref() }
    }

    /// The node, if it is stored.
    pub(super) fn stored(&self) -> Option<Ref> {
        // SAFETY: L2, what has a home is in the order list, which owns a count.
        self.header().home.get().is_place().then(|| unsafe { Ref::share(self.0) })
    }

    pub(super) fn name<N: Name>(&self) -> Option<&N> {
        // SAFETY: L1, we own a part of the block.
        unsafe { name_in(self.0).map(|name| name.as_ref()) }
    }
}

impl Drop for WeakNode {
    fn drop(&mut self) {
        let release = self.header().vtable.get().release;
        // SAFETY: L1 and L3, we own a part of the block, and this is its vtable.
        unsafe { release(self.0) }
    }
}
