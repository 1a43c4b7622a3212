//! One stored value: a block that holds the value and its name.
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
//! The value comes first so that its place depends on `V` and on nothing else. So a [`Held`](super::Held) is
//! dereferenced without a look at the vtable, although it does not know the type of the name.
//!
//! The invariants are those of the parent module.

use std::any::{self, Any, TypeId};
use std::cell::Cell;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, offset_of};
use std::ptr::{self, NonNull};

use super::name::Name;
use crate::base::block::RawBlock;
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
    /// In no place: a scoped value has its place until the scope ends.
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
    pub(super) count: Cell<u32>,
    /// How many own the block: the owners of the value count as one, and a `WeakNode` as another.
    pub(super) blocks: Cell<u8>,
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
    pub(super) fn holds<V: 'static>(&self) -> bool {
        self.vtable.get().value == TypeId::of::<V>()
    }

    /// Whether this heads a `Node<N, V>`. The usual node of these types is recognised by the address of its vtable.
    /// Several vtables may be alike, of an inheritable value or of another unit of compilation, so another address
    /// proves nothing.
    #[inline(always)]
    pub(super) fn heads<N: Name, V: 'static>(&self) -> bool {
        let vtable = self.vtable.get();
        ptr::eq(vtable, Kind::<N, V>::PRIVATE.vtable)
            || (vtable.name == TypeId::of::<N>() && vtable.value == TypeId::of::<V>())
    }
}

const _: () = assert!(size_of::<NodeHeader>() == 48, "a small value and its key fit a cache line");

/// What a vtable can hold for its maker.
pub(super) type Extra = dyn Any + Send + Sync;

/// What is known of a node's types at run time.
pub(super) struct NodeVTable {
    pub(super) name: TypeId,
    value: TypeId,
    /// The name of the value's type, for messages.
    pub(super) type_name: fn() -> &'static str,
    name_offset: usize,
    /// Drops the value, and lets go of the block.
    pub(super) free: unsafe fn(NonNull<NodeHeader>),
    /// Lets go of the block: the last one drops the name and frees it.
    pub(super) release: unsafe fn(NonNull<NodeHeader>),
    /// What the maker of the vtable finds here again: how the value is inherited, if it is (`inherited.rs`). Opaque,
    /// since that needs whole `Locals`, and these are made of nodes.
    pub(super) extra: Option<&'static Extra>,
}

/// The start of every node that holds a `V`.
#[repr(C)]
pub(super) struct Head<V> {
    header: NodeHeader,
    /// Dropped, or moved out, when the count comes down to zero.
    pub(super) value: ManuallyDrop<V>,
}

/// A whole node. Dropping it drops the name alone.
#[repr(C)]
pub(super) struct Node<N, V> {
    pub(super) head: Head<V>,
    pub(super) name: N,
}

impl<N: 'static, V: 'static> Node<N, V> {
    pub(super) const fn vtable(extra: Option<&'static Extra>) -> NodeVTable {
        NodeVTable {
            name: TypeId::of::<N>(),
            value: TypeId::of::<V>(),
            type_name: any::type_name::<V>,
            name_offset: offset_of!(Self, name),
            free: Self::free,
            release: Self::release,
            extra,
        }
    }

    /// # Safety
    ///
    /// The last owner of a `Node<N, V>`'s value calls this, and never looks at it again.
    unsafe fn free(node: NonNull<NodeHeader>) {
        // Lets go of the block when the value's `Drop` has ended, by a panic too. Not before: meanwhile a scope that
        // keeps the name may end.
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
        let node = RawBlock::<Node<N, V>>::new().into_raw();
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
}

impl<N, V> Block<N, V> {
    /// Takes over a part of a block.
    ///
    /// # Safety
    ///
    /// The caller owns that part, and the block is a `Node<N, V>`.
    #[inline]
    pub(super) unsafe fn from_raw(node: NonNull<NodeHeader>) -> Block<N, V> {
        Block(node, PhantomData)
    }

    /// Leaves the part to whoever gets the pointer.
    #[inline]
    pub(super) fn into_raw(self) -> NonNull<NodeHeader> {
        ManuallyDrop::new(self).0
    }
}

impl<N, V> Drop for Block<N, V> {
    fn drop(&mut self) {
        // SAFETY: L1, we own a part of the block.
        let blocks = unsafe { &self.0.as_ref().blocks };
        blocks.set(blocks.get() - 1);
        if blocks.get() == 0 {
            // SAFETY: L1 and L3, `Block::new` made it for a node of this layout.
            let block = unsafe { RawBlock::<Node<N, V>>::from_raw(self.0.cast()) };
            // The block is freed after the name's `Drop`, by a panic too.
            // SAFETY: L1, as above; the value is gone, and the name is there.
            let drop_name = move || unsafe { ptr::drop_in_place(&raw mut (*block.as_ptr()).name) };
            if std::thread::panicking() {
                // The panic may be the value's. A second one, of the name, would abort the process.
                catch_and_report(drop_name);
            } else {
                drop_name();
            }
        }
    }
}

/// The name in a `Node<N, V>`.
///
/// # Safety
///
/// The block is alive, and a `Node<N, V>`.
#[inline(always)]
pub(super) unsafe fn name_of<N, V>(node: NonNull<NodeHeader>) -> NonNull<N> {
    // SAFETY: L3, an `N` lies at this offset.
    unsafe { node.byte_add(offset_of!(Node<N, V>, name)).cast() }
}

/// The name in a block, if it is an `N`.
///
/// # Safety
///
/// The block is alive.
#[inline(always)]
pub(super) unsafe fn name_in<N: Name>(node: NonNull<NodeHeader>) -> Option<NonNull<N>> {
    // SAFETY: L1, the caller's word.
    let vtable = unsafe { node.as_ref() }.vtable.get();
    // SAFETY: L3, an `N` lies at this offset.
    (vtable.name == TypeId::of::<N>()).then(|| unsafe { node.byte_add(vtable.name_offset).cast() })
}
