//! One stored value: a counted block that holds the value and its name.
//!
//! ```text
//!   NonNull<NodeHeader> --> +-------------------------------------------+ <-- Held<V>, Data<V>
//!                           | NodeHeader   count, home, round, vtable,  |
//!                           |              order links, table link      |
//!                           +-------------------------------------------+
//!                           | value: V                                  |  found knowing V alone
//!                           +-------------------------------------------+
//!                           | name: N                                   |  found by `vtable.name_offset`
//!                           +-------------------------------------------+
//! ```
//!
//! The value comes first so that its place depends on `V` and on nothing else: a [`Held`] derefs
//! without a look at the vtable, although it does not know the type of the name.
//!
//! Counting is what lets user code run at any moment. A lookup that is about to call the user's
//! `Eq` takes a [`Ref`] first; whatever that `Eq` deletes, the block that it looks at stays.
//!
//! There are two counts, as an `Rc` has: one for the value, and one for the block with the name. A
//! scope needs the name of its value at the end, but must not keep the value from being dropped or
//! taken meanwhile; it has a [`WeakNode`].
//!
//! The invariants are those of the parent module.

use std::any::{self, TypeId};
use std::cell::Cell;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, offset_of};
use std::ptr::{self, NonNull};

use super::inherited::InheritedValue;
use super::name::Name;
use crate::unwind::catch_and_report;

/// A pointer from one node to another.
pub(super) type Link = Option<NonNull<NodeHeader>>;

/// Where a node can be looked up. Every node that is not `Nowhere` is in the order list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Home {
    /// In this place of the small array.
    Small(u8),
    /// In the table, in the bucket of its hash.
    Table,
    /// Not to be found: a scoped value stands in its place until the scope ends.
    Shadowed,
    /// Removed, or not yet stored.
    Nowhere,
}

impl Home {
    /// Whether a node with this home can be looked up.
    #[inline(always)]
    pub(super) fn is_place(self) -> bool {
        matches!(self, Home::Small(_) | Home::Table)
    }
}

/// The part of a node that does not depend on its types.
pub(super) struct NodeHeader {
    /// How many own the value (L1).
    count: Cell<u32>,
    /// How many own the block: all owners of the value together are one, a `WeakNode` is another.
    blocks: Cell<u8>,
    /// The round of cleanup in which the value was stored; 0 before cleanup.
    pub(super) round: Cell<u8>,
    pub(super) home: Cell<Home>,
    pub(super) vtable: Cell<&'static NodeVTable>,
    /// The neighbours in the order list.
    pub(super) newer: Cell<Link>,
    pub(super) older: Cell<Link>,
    /// The name's hash; set before the node goes into the table.
    pub(super) hash: Cell<u64>,
    /// The next node in the same bucket.
    pub(super) next: Cell<Link>,
}

impl NodeHeader {
    /// Whether the value is a `V`.
    #[inline(always)]
    fn holds<V: 'static>(&self) -> bool {
        self.vtable.get().value == TypeId::of::<V>()
    }
}

const _: () = assert!(size_of::<NodeHeader>() == 48, "a small value and its key fit a cache line");

/// Clones the name and the value of a node for another coroutine.
pub(super) type Inherit = fn(&Ref) -> Box<dyn InheritedValue>;

/// What is known of a node's types at run time.
pub(super) struct NodeVTable {
    pub(super) name: TypeId,
    value: TypeId,
    /// The name of the value's type, for messages.
    type_name: fn() -> &'static str,
    name_offset: usize,
    /// Drops the value, and lets go of the block.
    free: unsafe fn(NonNull<NodeHeader>),
    /// Lets go of the block: the last one drops the name and frees it.
    release: unsafe fn(NonNull<NodeHeader>),
    /// `None` where the value is not inheritable.
    pub(super) inherit: Option<Inherit>,
}

/// The start of every node that holds a `V`.
#[repr(C)]
struct Head<V> {
    header: NodeHeader,
    /// Dropped, or moved out, when the count comes down to zero.
    value: ManuallyDrop<V>,
}

/// A whole node. Dropping it drops the name alone.
#[repr(C)]
pub(super) struct Node<N, V> {
    head: Head<V>,
    name: N,
}

impl<N: 'static, V: 'static> Node<N, V> {
    pub(super) const fn vtable(inherit: Option<Inherit>) -> NodeVTable {
        NodeVTable {
            name: TypeId::of::<N>(),
            value: TypeId::of::<V>(),
            type_name: any::type_name::<V>,
            name_offset: offset_of!(Self, name),
            free: Self::free,
            release: Self::release,
            inherit,
        }
    }

    /// # Safety
    ///
    /// The last owner of a `Node<N, V>`'s value calls this, and never looks at it again.
    unsafe fn free(node: NonNull<NodeHeader>) {
        // Also if the value's `Drop` panics. Not before it has ended, in which time anything may
        // happen, such as the end of a scope that keeps the name.
        let _block = Block::<N, V>(node, PhantomData);
        // SAFETY: L1 and L3, the value is a `V`, and this was its last owner.
        unsafe { ManuallyDrop::drop(&mut (*node.cast::<Head<V>>().as_ptr()).value) }
    }

    /// # Safety
    ///
    /// An owner of a `Node<N, V>`'s block calls this, and never looks at it again.
    unsafe fn release(node: NonNull<NodeHeader>) {
        drop(Block::<N, V>(node, PhantomData));
    }
}

/// Whether a value is inheritable.
pub(crate) struct Kind<N, V> {
    /// That of its node (L3).
    pub(super) vtable: &'static NodeVTable,
    pub(super) types: PhantomData<Node<N, V>>,
}

impl<N: Name, V: 'static> Kind<N, V> {
    /// It stays in its coroutine.
    pub(crate) const PRIVATE: Self =
        Kind { vtable: &Node::<N, V>::vtable(None), types: PhantomData };
}

impl<N, V> Clone for Kind<N, V> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<N, V> Copy for Kind<N, V> {}

/// Ownership of a block and the name in it.
pub(crate) struct Block<N, V>(NonNull<NodeHeader>, PhantomData<Node<N, V>>);

impl<N: Name, V: 'static> Block<N, V> {
    /// A new block, whose value is to be written.
    #[inline]
    pub(crate) fn new(name: N, kind: Kind<N, V>) -> Block<N, V> {
        let header = NodeHeader {
            count: Cell::new(1),
            blocks: Cell::new(1),
            home: Cell::new(Home::Nowhere),
            round: Cell::new(0),
            vtable: Cell::new(kind.vtable),
            newer: Cell::new(None),
            older: Cell::new(None),
            hash: Cell::new(0),
            next: Cell::new(None),
        };
        let block = Box::leak(Box::<Node<N, V>>::new_uninit());
        // The pointer is made from the whole block, so it may reach beyond the header.
        let node = NonNull::from(block).cast::<Node<N, V>>();
        // SAFETY: L1, the block is new and ours.
        unsafe {
            (&raw mut (*node.as_ptr()).head.header).write(header);
            (&raw mut (*node.as_ptr()).name).write(name);
        }
        Block(node.cast(), PhantomData)
    }

    /// Where the value belongs.
    #[inline]
    pub(crate) fn value(&self) -> *mut V {
        // SAFETY: L1, we own the block.
        unsafe { (&raw mut (*self.0.cast::<Head<V>>().as_ptr()).value).cast() }
    }

    /// # Safety
    ///
    /// The value was written.
    #[inline]
    pub(crate) unsafe fn filled(self) -> Unstored<N, V> {
        Unstored { node: Ref(ManuallyDrop::new(self).0), types: PhantomData }
    }
}

impl<N, V> Drop for Block<N, V> {
    fn drop(&mut self) {
        // SAFETY: L1, we own a part of the block.
        let blocks = unsafe { &self.0.as_ref().blocks };
        blocks.set(blocks.get() - 1);
        if blocks.get() == 0 {
            // SAFETY: L1 and L3, a `Box` of this very type was leaked for it in `Block::new`.
            let block = unsafe { Box::from_raw(self.0.cast::<Node<N, V>>().as_ptr()) };
            if std::thread::panicking() {
                // It may be the value's panic; a second one, of the name, would abort the process.
                catch_and_report(|| drop(block));
            } else {
                drop(block);
            }
        }
    }
}

/// A node that is stored nowhere yet, and that nobody else knows.
pub(crate) struct Unstored<N, V> {
    node: Ref,
    types: PhantomData<Node<N, V>>,
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
        if count.get() == u32::MAX {
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
        unsafe { name_in(self.0) }
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
            // The name goes first. If its `Drop` panics, `self` drops the value; one that was
            // returned already would be leaked.
            self.header().vtable.set(const { &Node::<ManuallyDrop<N>, V>::vtable(None) });
            // SAFETY: L1 and L3, nobody keeps the name, and for the new vtable there is none.
            unsafe { (&raw mut (*node).name).drop_in_place() };
        }
        self.header().count.set(0);
        let _block = Block::<ManuallyDrop<N>, V>(self.into_raw(), PhantomData);
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

/// The name in a block, if it is an `N`.
///
/// # Safety
///
/// The block stays for as long as the reference is used.
#[inline(always)]
unsafe fn name_in<'a, N: Name>(node: NonNull<NodeHeader>) -> Option<&'a N> {
    // SAFETY: L1, the caller's word.
    let vtable = unsafe { node.as_ref() }.vtable.get();
    if vtable.name != TypeId::of::<N>() {
        return None;
    }
    // SAFETY: L3, an `N` lies at this offset.
    Some(unsafe { node.byte_add(vtable.name_offset).cast::<N>().as_ref() })
}

/// Kept out of line: most owners are not the last.
#[inline(never)]
fn free(node: NonNull<NodeHeader>) {
    // SAFETY: L1, the count has just come down to zero, so the block is still whole.
    let free = unsafe { node.as_ref().vtable.get().free };
    // SAFETY: L1 and L3, the last owner, and the vtable is that of the block's types.
    unsafe { free(node) }
}

/// Only `mem::forget` in a loop gets here. To go on would free what is in use.
#[cold]
fn too_many() -> ! {
    crate::base::report::line(format_args!(
        "coro: a stored value has more than {} owners",
        u32::MAX
    ));
    std::process::abort()
}

/// Shared ownership of a node whose value is a `V`.
pub(crate) struct Held<V> {
    node: Ref,
    _value: PhantomData<V>,
}

impl<V: 'static> Held<V> {
    /// A further owner of a node, if its value is a `V`. As [`Ref::share`] and [`Ref::typed`], but
    /// it looks first and counts then: a count that soon goes down again costs nothing after inlining.
    ///
    /// # Safety
    ///
    /// As [`Ref::share`].
    #[inline(always)]
    pub(super) unsafe fn share(node: NonNull<NodeHeader>) -> Option<Held<V>> {
        // SAFETY: L1, the caller's word.
        if !unsafe { node.as_ref() }.holds::<V>() {
            return None;
        }
        // SAFETY: L1, the caller's word.
        Some(Held { node: unsafe { Ref::share(node) }, _value: PhantomData })
    }
}

impl<V> Held<V> {
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
        unsafe { name_in(self.0) }
    }
}

impl Drop for WeakNode {
    fn drop(&mut self) {
        let release = self.header().vtable.get().release;
        // SAFETY: L1 and L3, we own a part of the block, and this is its vtable.
        unsafe { release(self.0) }
    }
}
