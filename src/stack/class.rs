//! A class: all stacks of one size.
//!
//! There are eleven, each twice the one before. A slot costs addresses, not memory: its pages come
//! when they are touched. So sizes need no finer steps than powers of two, and these buy that an
//! address turns into its slot by shifts alone (see `slot`).
//!
//! ```text
//!  class        0         1         2        3      ...     9        10
//!  slot      128 KiB   256 KiB   512 KiB   1 MiB          64 MiB   128 MiB
//!  guard      80 KiB in every class
//!  usable     40 KiB   168 KiB   424 KiB   all but 88 KiB
//! ```
//!
//! **The guard** is larger than the frames that are not probed. rustc touches each page of a large frame in
//! order, so that any guard of a page stops an overflow. C compilers do not by default, and below a guard that a
//! frame steps over lie a neighbour's frames. glibc 2.36 has frames of up to 33,312 bytes and allows itself an
//! `alloca` of 65,536. Of 782 libraries of a Debian system, 74 have a frame that is a little larger than
//! 64 KiB, a `char buffer[65536]` and what is beside it; there are 8 more up to 80 KiB.

use std::fmt;
use std::io;

/// Bytes of a page: the smallest that x86-64 has, and all that the region has.
pub(super) const PAGE: usize = 4096;

/// The binary logarithm of the smallest slot.
pub(super) const SMALLEST_SHIFT: usize = 17;

/// Bytes at a slot's low end that cannot be touched.
pub(super) const GUARD: usize = 80 << 10;

/// Bytes at a slot's high end that are not the coroutine's: the colour, the record, the engine, and the frames
/// that call its function. Measured: 5 KiB in a debug build, and a reserve.
pub(super) const TOP: usize = 8 << 10;

/// A slot's size: `128 KiB << number`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Class(u8);

impl Class {
    /// Slots of 256 KiB, for whoever names no size.
    pub(crate) const DEFAULT: Class = Class(1);

    /// Slots of 128 MiB, the end of the row.
    pub(super) const LARGEST: Class = Class(Class::COUNT as u8 - 1);

    /// How many classes there are.
    pub(crate) const COUNT: usize = 11;

    /// The most bytes that can be asked for.
    pub(crate) const LARGEST_SIZE: usize = 64 << 20;

    /// The smallest class whose stacks have `bytes` bytes for the coroutine's own frames.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for 0 and for more than [`Class::LARGEST_SIZE`].
    pub(crate) fn for_size(bytes: usize) -> io::Result<Class> {
        if bytes == 0 || bytes > Class::LARGEST_SIZE {
            let largest = Size(Class::LARGEST_SIZE);
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("stack_size = {bytes}: the limits are 1 byte and {largest}"),
            ));
        }
        let shift = (GUARD + bytes + TOP).next_power_of_two().trailing_zeros() as usize;
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
}

const _: () = assert!(GUARD + Class::LARGEST_SIZE + TOP <= Class::LARGEST.slot_size());

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
