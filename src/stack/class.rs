//! A class: all stacks of one size.
//!
//! There are thirteen, each twice the one before. A slot costs addresses, not memory: its pages come
//! when they are touched. So sizes need no finer steps than powers of two, and these buy that an
//! address turns into its slot by shifts alone (see `slot`).
//!
//! ```text
//!  class       0       1       2        3        4       ...     11       12
//!  slot      16 KiB  32 KiB  64 KiB  128 KiB  256 KiB         32 MiB   64 MiB
//!  guard      4 KiB   8 KiB  16 KiB   16 KiB   16 KiB         16 KiB   16 KiB
//! ```
//!
//! The guard is part of the slot. Compilers touch every page of a large frame in order, so any guard
//! of a page or more stops an overflow; 16 KiB also stop foreign code that does not take that care.

use std::fmt;
use std::io;

/// The binary logarithm of the smallest slot.
pub(super) const SMALLEST_SHIFT: usize = 14;

const LARGEST_GUARD: usize = 16 << 10;

/// A stack size: `16 KiB << number`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Class(u8);

impl Class {
    /// 256 KiB, for whoever names no size.
    pub(crate) const DEFAULT: Class = Class(4);

    /// 64 MiB, the end of the row.
    pub(super) const LARGEST: Class = Class(Class::COUNT as u8 - 1);

    /// How many classes there are.
    pub(crate) const COUNT: usize = 13;

    /// The largest size that can be asked for.
    pub(crate) const LARGEST_SIZE: usize = Class::LARGEST.slot_size();

    /// The smallest class whose slot, guard included, has at least `bytes` bytes.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for 0 and for more than the largest slot.
    pub(crate) fn for_size(bytes: usize) -> io::Result<Class> {
        if bytes == 0 || bytes > Class::LARGEST_SIZE {
            let largest = Size(Class::LARGEST_SIZE);
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("stack_size = {bytes}: the limits are 1 byte and {largest}"),
            ));
        }
        let shift = bytes.next_power_of_two().trailing_zeros() as usize;
        Ok(Class(shift.saturating_sub(SMALLEST_SHIFT) as u8))
    }

    /// All classes, smallest first.
    pub(crate) fn all() -> impl Iterator<Item = Class> + Clone {
        (0..Class::COUNT as u8).map(Class)
    }

    /// The class with this number, which is below [`Class::COUNT`].
    #[inline(always)]
    pub(super) fn from_index(index: usize) -> Class {
        debug_assert!(index < Class::COUNT);
        Class(index as u8)
    }

    #[inline(always)]
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }

    /// The class in a set of classes.
    #[inline(always)]
    pub(crate) const fn bit(self) -> u32 {
        1 << self.0
    }

    /// The binary logarithm of the slot's size.
    #[inline(always)]
    pub(super) const fn shift(self) -> usize {
        SMALLEST_SHIFT + self.0 as usize
    }

    /// Bytes from a slot's start to its end.
    #[inline(always)]
    pub(crate) const fn slot_size(self) -> usize {
        1 << self.shift()
    }

    /// Bytes at a slot's low end that cannot be touched.
    #[inline(always)]
    pub(crate) const fn guard_size(self) -> usize {
        let quarter = self.slot_size() / 4;
        if quarter < LARGEST_GUARD { quarter } else { LARGEST_GUARD }
    }
}

/// A slot's size as people write it: `256 KiB`, `2 MiB`.
pub(super) struct Size(pub(super) usize);

impl Size {
    /// The number and the unit, for writers that cannot format.
    pub(super) const fn parts(&self) -> (u64, &'static str) {
        if self.0 < 1 << 20 {
            ((self.0 >> 10) as u64, " KiB")
        } else {
            ((self.0 >> 20) as u64, " MiB")
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, unit) = self.parts();
        write!(f, "{number}{unit}")
    }
}
