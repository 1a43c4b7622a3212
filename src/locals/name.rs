//! What a value is stored under.
//!
//! Two kinds of name share one store: a [`Keyed`] name is a key that the user made, of any type,
//! and a [`Fixed`] name is the address of a `static` that `coro::local!` declared. An address needs
//! no counter and no registration, and no other static can have it.
//!
//! A lookup compares what is cheap first: the 64-bit tag, which lies in the record itself, then
//! the full `TypeId` in the node's vtable, then the key by the user's `Eq`. If two types have the same tag, a lookup
//! makes one comparison more. The tags of keys are odd, and those of addresses are even and not 0. So an even tag
//! identifies its name, and no tag is 0.

use std::any::{Any, TypeId};
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::ptr;
use std::sync::LazyLock;

/// What a value can be stored under. Implemented here and nowhere else.
pub(crate) trait Name: Eq + 'static {
    /// Differs between most types of names, so most misses need no look at the node. Not 0.
    fn tag(&self) -> u64;

    /// The hash for the table. May run user code.
    fn digest(&self) -> u64;

    /// Whether the names are equal, if that can be told without user code.
    #[inline(always)]
    fn plainly_equals(&self, _other: &Self) -> Option<bool> {
        None
    }
}

/// A key of the user's. `==` runs the user's `Eq`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Keyed<K>(pub(crate) K);

impl<K: Hash + Eq + 'static> Name for Keyed<K> {
    #[inline(always)]
    fn tag(&self) -> u64 {
        tag_of::<K>() | 1
    }

    fn digest(&self) -> u64 {
        // One seed for the process, so that keys from outside cannot be chosen to collide.
        static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        SEED.hash_one(&self.0)
    }

    /// Told of the strings alone. Of other keys with an `Eq` of the compiler's making, the optimizer sees as much.
    #[inline(always)]
    fn plainly_equals(&self, other: &Self) -> Option<bool> {
        let (one, other): (&dyn Any, &dyn Any) = (&self.0, &other.0);
        if let (Some(one), Some(other)) = (one.downcast_ref(), other.downcast_ref()) {
            let (one, other): (&&'static str, &&'static str) = (one, other);
            // Most often it is the same literal.
            return Some(ptr::eq(*one, *other) || one == other);
        }
        let (one, other) = (one.downcast_ref::<String>()?, other.downcast_ref::<String>()?);
        Some(one == other)
    }
}

/// The address of a `static` that holds at least one byte.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fixed(usize);

impl Fixed {
    /// The name that `place` stands for.
    #[inline(always)]
    pub(crate) fn of<T>(place: &'static T) -> Fixed {
        const {
            assert!(size_of::<T>() > 0, "statics without a size may share an address");
            assert!(align_of::<T>() > 1, "the tag of an address is even");
        }
        Fixed((&raw const *place).addr())
    }
}

impl Name for Fixed {
    #[inline(always)]
    fn tag(&self) -> u64 {
        self.0 as u64
    }

    fn digest(&self) -> u64 {
        // Fibonacci hashing. The table uses the low bits of the hash, and the entropy of an address lies in its
        // higher ones. So the halves of the product are swapped.
        (self.0 as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32)
    }

    #[inline(always)]
    fn plainly_equals(&self, other: &Self) -> Option<bool> {
        Some(self == other)
    }
}

/// 64 bits of a type's identity; a constant after inlining.
#[inline(always)]
fn tag_of<T: 'static>() -> u64 {
    let mut tag = Tag(0);
    TypeId::of::<T>().hash(&mut tag);
    tag.0
}

/// A hasher that gives back what `TypeId` writes to it, which is a hash already.
struct Tag(u64);

impl Hasher for Tag {
    #[inline(always)]
    fn write_u64(&mut self, word: u64) {
        self.0 ^= word;
    }

    #[inline(always)]
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    #[inline(always)]
    fn finish(&self) -> u64 {
        self.0
    }
}
