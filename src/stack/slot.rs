//! A slot: one stack's place, and the arithmetic that finds it from any address in it.
//!
//! Everything follows from three numbers that `region` publishes once: the region's base, its length
//! and the binary logarithm of a span.
//!
//! ```text
//!  offset = address - base                          below the length, else not on a slot of ours
//!
//!           | class    | place in the class | place in the slot  |
//!           +----------+--------------------+--------------------+
//!            ^ from bit span_shift up        ^ the low 17 + class bits
//!
//!  end     = (address | low bits all one) + 1       slots are aligned to their size
//!  number  = address >> (17 + class)
//!  ceiling = end - (number & 15) * COLOUR_STEP
//! ```
//!
//! **Why the default class comes first.** Shifts by a number that is only known at run time cost three
//! micro-operations each, and there are three. Most stacks are of the default class, where all three
//! are constants, so [`ceiling_of`] asks first whether the address is there (measured: 1.0 ns a
//! [`tls::id`](crate::tls::id) against 1.7 ns).
//!
//! **Why a colour.** Slots are aligned to at least 128 KiB. Were all stacks to begin at the same
//! place in their slots, the lines that every switch touches would fall into the same few cache sets,
//! and a thousand coroutines would evict each other from a cache that could hold them all (measured:
//! 41 ns a switch against 13 ns). Neighbours differ in the low bits of their number, and fresh slots
//! go out in address order, so stacks that are made together have different colours.
//!
//! **Why the loads may be weak.** [`ceiling_of`] is the crate's hottest path. A base is stored last,
//! with Release, and read first, with Acquire, which on x86-64 is a plain load; whoever sees it sees
//! the rest, which never changes again. Until then the base is an address that no process has and the
//! length is 0, so nothing lies inside.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::class::{Class, GUARD, SMALLEST_SHIFT, TOP};

/// Bytes between one colour and the next. Three lines: sixteen colours are spread over the 64 sets
/// of a first-level cache, and a record that is three lines long never shares a set with the next
/// colour's.
const COLOUR_STEP: usize = 192;

const COLOURS: usize = 16;

const _: () = assert!(COLOUR_STEP.is_multiple_of(64), "a ceiling is aligned to a cache line");
const _: () = assert!(COLOURS * COLOUR_STEP <= TOP / 2, "colour leaves room");

/// Where the region lies.
struct Layout {
    base: AtomicUsize,
    length: AtomicUsize,
    span_shift: AtomicUsize,
}

/// Where the default class's part of it lies: what every [`ceiling_of`] looks at first.
struct Span {
    base: AtomicUsize,
    length: AtomicUsize,
}

/// Not canonical: no address of any process minus this is below any length.
const NOWHERE: usize = 1 << 63;

static LAYOUT: Layout = Layout {
    base: AtomicUsize::new(NOWHERE),
    length: AtomicUsize::new(0),
    span_shift: AtomicUsize::new(0),
};

static DEFAULT: Span = Span { base: AtomicUsize::new(NOWHERE), length: AtomicUsize::new(0) };

/// How many slots of each class were ever handed out. They are the class's first ones.
static ISSUED: [AtomicUsize; Class::COUNT] = [const { AtomicUsize::new(0) }; Class::COUNT];

/// What `tools/gdb/coro.py` finds a slot's ceiling with. Of a constant a debugger knows nothing.
#[used]
static SLOT_NUMBERS: SlotNumbers =
    SlotNumbers { smallest_shift: SMALLEST_SHIFT, colours: COLOURS, colour_step: COLOUR_STEP };

#[expect(dead_code, reason = "a debugger reads it")]
struct SlotNumbers {
    smallest_shift: usize,
    colours: usize,
    colour_step: usize,
}

/// Says where the region is. Called once, by `region::init`.
pub(super) fn publish(base: usize, span_shift: usize) {
    LAYOUT.span_shift.store(span_shift, Ordering::Relaxed);
    LAYOUT.length.store(Class::COUNT << span_shift, Ordering::Relaxed);
    DEFAULT.length.store(1 << span_shift, Ordering::Relaxed);
    // Release: pairs with the Acquire in `offset_of` and in `ceiling_of`.
    LAYOUT.base.store(base, Ordering::Release);
    DEFAULT.base.store(base + (Class::DEFAULT.index() << span_shift), Ordering::Release);
}

/// The region's length in bytes; 0 before it is reserved.
pub(super) fn region_length() -> usize {
    // Acquire, so that whoever sees a region may go on to use all of the layout.
    match LAYOUT.base.load(Ordering::Acquire) {
        NOWHERE => 0,
        _ => LAYOUT.length.load(Ordering::Relaxed),
    }
}

/// Says that the first `count` slots of `class` have been handed out.
pub(super) fn set_issued(class: Class, count: usize) {
    // Relaxed: the count only grows, and whoever stands on a slot has got it from the thread that
    // raised the count for it.
    ISSUED[class.index()].store(count, Ordering::Relaxed);
}

/// How many slots of `class` were ever handed out.
pub(super) fn issued(class: Class) -> usize {
    ISSUED[class.index()].load(Ordering::Relaxed)
}

/// How many slots of `class` the region has room for. None, if one is larger than a span.
pub(super) fn capacity(class: Class) -> usize {
    (1 << LAYOUT.span_shift.load(Ordering::Relaxed)) >> class.shift()
}

/// Where slot `index` of `class` starts.
pub(super) fn start_of(class: Class, index: usize) -> usize {
    debug_assert!(index < capacity(class));
    let span_shift = LAYOUT.span_shift.load(Ordering::Relaxed);
    let base = LAYOUT.base.load(Ordering::Relaxed);
    base + (class.index() << span_shift) + (index << class.shift())
}

/// The class and the index of the slot at this distance from the region's base.
#[inline(always)]
fn split(offset: usize) -> (Class, usize) {
    // Relaxed: whoever knows the distance has seen the layout.
    let span_shift = LAYOUT.span_shift.load(Ordering::Relaxed);
    let class = Class::from_index(offset >> span_shift);
    (class, (offset & ((1 << span_shift) - 1)) >> class.shift())
}

/// The region's base and the address's distance from it, if it lies in the region.
#[inline(always)]
fn offset_of(addr: usize) -> Option<(usize, usize)> {
    // Acquire: pairs with the Release in `publish`.
    let base = LAYOUT.base.load(Ordering::Acquire);
    let offset = addr.wrapping_sub(base);
    if offset < LAYOUT.length.load(Ordering::Relaxed) { Some((base, offset)) } else { None }
}

/// How far below a slot's end its ceiling is; any address of the slot will do.
#[inline(always)]
fn colour(addr: usize, class: Class) -> usize {
    ((addr >> class.shift()) % COLOURS) * COLOUR_STEP
}

/// From any address on a slot that is in use to that slot's ceiling; `None` outside the region.
///
/// The ceiling itself is the first address above the content. It lies on the slot only if the slot
/// has a colour; without one it is the next slot's start.
///
/// For an address inside the region that is on no slot handed out, the answer is a number that means
/// nothing: who does not already stand on a stack of ours asks [`bounds_of`].
#[inline(always)]
pub(crate) fn ceiling_of(addr: usize) -> Option<NonZeroUsize> {
    // Acquire: pairs with the Release in `publish`.
    let offset = addr.wrapping_sub(DEFAULT.base.load(Ordering::Acquire));
    let last = if offset < DEFAULT.length.load(Ordering::Relaxed) {
        last_of(addr, Class::DEFAULT)
    } else {
        last_of_other(addr)?
    };
    Some(ceiling_above(last))
}

/// [`last_of`], for addresses that are on no slot of the default class.
#[cold]
#[inline(never)]
fn last_of_other(addr: usize) -> Option<NonZeroUsize> {
    let (_, offset) = offset_of(addr)?;
    Some(last_of(addr, split(offset).0))
}

/// The last address below the ceiling of the slot of `class` that an address lies on. [`ceiling_of`] adds 1 where its two
/// ways have met. There the compiler makes one sum of it and of all that the caller adds.
#[inline(always)]
fn last_of(addr: usize, class: Class) -> NonZeroUsize {
    let last = (addr | (class.slot_size() - 1)) - colour(addr, class);
    // SAFETY: S1, it lies above the region's base and so is not 0.
    unsafe { NonZeroUsize::new_unchecked(last) }
}

#[inline(always)]
fn ceiling_above(last: NonZeroUsize) -> NonZeroUsize {
    // SAFETY: S1, a ceiling lies above the region's base and so is not 0.
    unsafe { NonZeroUsize::new_unchecked(last.get() + 1) }
}

/// The ceiling of the slot of `class` that an address lies on.
fn ceiling(addr: usize, class: Class) -> NonZeroUsize {
    ceiling_above(last_of(addr, class))
}

/// The usable part, limit to ceiling, of the slot that `addr` lies in, its guard and its colour
/// included. `None` outside the region, and on a slot that has never been handed out.
pub(crate) fn bounds_of(addr: usize) -> Option<Range<usize>> {
    place_of(addr).map(|place| place.limit()..place.ceiling)
}

/// What the fault handler has to know of a slot.
pub(super) struct Place {
    pub(super) class: Class,
    pub(super) start: usize,
    pub(super) ceiling: usize,
}

impl Place {
    pub(super) fn limit(&self) -> usize {
        self.start + GUARD
    }

    pub(super) fn end(&self) -> usize {
        self.start + self.class.slot_size()
    }
}

/// The slot that `addr` lies in, if it has ever been handed out. Fit for a signal handler.
pub(super) fn place_of(addr: usize) -> Option<Place> {
    let (base, offset) = offset_of(addr)?;
    let (class, index) = split(offset);
    if index >= ISSUED[class.index()].load(Ordering::Relaxed) {
        return None;
    }
    let start = base + (offset & !(class.slot_size() - 1));
    let ceiling = ceiling(start, class).get();
    Some(Place { class, start, ceiling })
}

/// One stack's place, owned. Known by its end, which is never 0, so that an `Option` of it is one
/// word.
///
/// There is no `Drop`: a slot goes back by [`Pool::give`](super::Pool::give) or
/// [`give`](super::give), after everything on it has ended (S4).
#[must_use = "a slot that is dropped is never used again: give it back"]
#[derive(Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Slot(NonZeroUsize);

const _: () = assert!(size_of::<Option<Slot>>() == size_of::<usize>());

impl Slot {
    /// The first address above the slot, a multiple of the slot's size.
    #[inline(always)]
    pub(crate) fn end(&self) -> usize {
        self.0.get()
    }

    /// The slot's class.
    #[inline(always)]
    pub(crate) fn class(&self) -> Class {
        self.class_and_index().0
    }

    /// Which of its class's slots it is.
    pub(super) fn index(&self) -> usize {
        self.class_and_index().1
    }

    #[inline(always)]
    fn class_and_index(&self) -> (Class, usize) {
        // Relaxed: this slot came from a thread that saw the layout.
        split(self.end() - 1 - LAYOUT.base.load(Ordering::Relaxed))
    }

    /// The slot's lowest address, that of its guard.
    #[cfg(test)]
    pub(crate) fn start(&self) -> usize {
        self.end() - self.class().slot_size()
    }

    /// The lowest address that may be touched.
    #[inline(always)]
    pub(crate) fn limit(&self) -> usize {
        let class = self.class();
        self.end() - class.slot_size() + GUARD
    }

    /// The end less the colour, a multiple of 64: where the slot's content begins, downwards.
    #[inline(always)]
    pub(crate) fn ceiling(&self) -> usize {
        ceiling(self.end() - 1, self.class()).get()
    }

    /// The slot of this index.
    ///
    /// # Safety
    ///
    /// It was issued, and nobody has it (S2).
    pub(super) unsafe fn at(class: Class, index: usize) -> Slot {
        let end = start_of(class, index) + class.slot_size();
        // SAFETY: S1, a slot's end lies above the region's base and so is not 0.
        Slot(unsafe { NonZeroUsize::new_unchecked(end) })
    }
}
