//! What a function does when it is unwound, as its compiler has written it down.
//!
//! This is the "language-specific data" of the Itanium C++ ABI, level II, in the layout that GCC gave it
//! (`unwind-pe.h`) and LLVM shares. std's personality routine reads the same tables.
//!
//! ```text
//!   landing base   an encoding, and an address if there is one
//!   types          an encoding, and how far away they are if there are any
//!   call sites     an encoding, their length, and of each:
//!                    start, length   which calls, counted from the function's first byte
//!                    landing pad     where the unwinder goes on in this function; 0: nowhere
//!                    action          1 + the offset of the first action; 0: none
//!   actions        of each: a number, and how far away the next is, seen from there; 0: there is none.
//!                  The number is 0 for destructors, above that for a catch of this type, and below for a
//!                  filter, which here is empty and lets nothing pass
//! ```

use std::ops::Range;

/// What becomes of an unwinding that comes from one of the calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// The call is not listed: it is not meant to unwind.
    Unlisted,
    /// Nothing is to be done here.
    Unhandled,
    /// It goes on when destructors have run.
    PassedOn,
    Caught,
    /// It is not let through: the process ends. A catch within that may come first.
    Refused,
}

/// A place in a table, from where it is read on.
#[derive(Clone, Copy)]
pub(super) struct Table {
    next: *const u8,
}

/// How a number is written (`DW_EH_PE_*`).
#[derive(Clone, Copy, PartialEq, Eq)]
struct Encoding(u8);

impl Encoding {
    const OMITTED: Encoding = Encoding(0xff);
}

/// The part of a table that lists the calls.
struct Sites {
    next: Table,
    encoding: Encoding,
    /// What comes behind it.
    actions: Table,
}

impl Table {
    /// A table at its beginning.
    ///
    /// # Safety
    ///
    /// It is one, as in U1.
    pub(super) unsafe fn at(first: *const u8) -> Table {
        Table { next: first }
    }

    /// The fate of what comes from the call at `offset` in the function. `None`: the table is not as we
    /// know them.
    pub(super) fn fate(self, offset: usize) -> Option<Fate> {
        let mut sites = self.sites()?;
        while let Some((calls, fate)) = sites.next()? {
            if calls.contains(&offset) {
                return Some(fate);
            }
        }
        Some(Fate::Unlisted)
    }

    /// Whether there is a call from which nothing is let through. `None` as above.
    pub(super) fn refuses_any(self) -> Option<bool> {
        let mut sites = self.sites()?;
        while let Some((_, fate)) = sites.next()? {
            if fate == Fate::Refused {
                return Some(true);
            }
        }
        Some(false)
    }

    fn sites(mut self) -> Option<Sites> {
        let landing_base = Encoding(self.byte());
        if landing_base != Encoding::OMITTED {
            self.number(landing_base)?;
        }
        if Encoding(self.byte()) != Encoding::OMITTED {
            self.uleb128();
        }
        let encoding = Encoding(self.byte());
        let length = self.uleb128();
        Some(Sites { next: self, encoding, actions: self.skipped(length) })
    }

    /// What the chain of actions that begins here comes to.
    fn fate_by_actions(mut self) -> Fate {
        let mut fate = Fate::PassedOn;
        loop {
            match self.sleb128() {
                ..0 => return Fate::Refused,
                0 => {}
                1.. => fate = Fate::Caught,
            }
            let here = self;
            match self.sleb128() {
                0 => return fate,
                next => self = here.skipped(next as usize),
            }
        }
    }

    fn skipped(self, length: usize) -> Table {
        Table { next: self.next.wrapping_add(length) }
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        // SAFETY: U1, within the table as it describes itself.
        let bytes = unsafe { self.next.cast::<[u8; N]>().read() };
        *self = self.skipped(N);
        bytes
    }

    fn byte(&mut self) -> u8 {
        let [byte] = self.bytes();
        byte
    }

    /// An unsigned number. One that counts from an address is not among those that we need.
    fn number(&mut self, encoding: Encoding) -> Option<usize> {
        Some(match encoding.0 {
            0x00 | 0x04 => usize::from_le_bytes(self.bytes()),
            0x01 => self.uleb128(),
            0x02 => u16::from_le_bytes(self.bytes()).into(),
            0x03 => u32::from_le_bytes(self.bytes()) as usize,
            _ => return None,
        })
    }

    fn uleb128(&mut self) -> usize {
        self.leb128().0
    }

    fn sleb128(&mut self) -> isize {
        let (value, bits) = self.leb128();
        let unused = usize::BITS.saturating_sub(bits);
        (value << unused).cast_signed() >> unused
    }

    /// Seven bits a byte, the least significant first; and how many bits there were.
    fn leb128(&mut self) -> (usize, u32) {
        let (mut value, mut bits) = (0, 0);
        loop {
            let byte = self.byte();
            value |= usize::from(byte & 0x7f).unbounded_shl(bits);
            bits += 7;
            if byte & 0x80 == 0 {
                return (value, bits);
            }
        }
    }
}

impl Sites {
    /// The next calls of the function, and the fate of what comes from them. `Some(None)`: there are no more.
    fn next(&mut self) -> Option<Option<(Range<usize>, Fate)>> {
        if self.next.next >= self.actions.next {
            return Some(None);
        }
        let start = self.next.number(self.encoding)?;
        let length = self.next.number(self.encoding)?;
        let landing_pad = self.next.number(self.encoding)?;
        let fate = match (landing_pad, self.next.uleb128()) {
            (0, _) => Fate::Unhandled,
            (_, 0) => Fate::PassedOn,
            (_, action) => self.actions.skipped(action - 1).fate_by_actions(),
        };
        Some(Some((start..start + length, fate)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use Fate::{Caught, PassedOn, Refused, Unhandled, Unlisted};

    /// At 1 destructors; at 3 a catch; at 5 a filter; at 7 a catch and then the filter; at 9 destructors
    /// and then the catch.
    const ACTIONS: [u8; 10] = [0, 0, 1, 0, 0x7f, 0, 2, 0x7d, 0, 0x79];

    /// Start, length, landing pad and action, as in a function of 1,000 bytes.
    const SITES: [(u64, u64, u64, u64); 8] = [
        (10, 5, 700, 0),
        (20, 5, 0, 0),
        (25, 5, 700, 3),
        (30, 200, 700, 5),
        (300, 5, 700, 1),
        (305, 5, 0, 3),
        (310, 5, 700, 7),
        (315, 5, 700, 9),
    ];

    fn uleb128(mut value: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while value > 0x7f {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    }

    fn encoded(encoding: u8, value: u64) -> Vec<u8> {
        match encoding {
            0x01 => uleb128(value),
            0x02 => (value as u16).to_le_bytes().into(),
            0x03 => (value as u32).to_le_bytes().into(),
            _ => value.to_le_bytes().into(),
        }
    }

    fn table(beginning: &[u8], encoding: u8, sites: &[(u64, u64, u64, u64)]) -> Vec<u8> {
        let number = |value| encoded(encoding, value);
        let sites: Vec<u8> = sites
            .iter()
            .flat_map(|&(start, length, pad, action)| {
                [number(start), number(length), number(pad), uleb128(action)].concat()
            })
            .collect();
        let length = uleb128(sites.len() as u64);
        [beginning, &[encoding], &length, &sites, &ACTIONS].concat()
    }

    fn at(table: &[u8]) -> Table {
        // SAFETY: U1, we are the compiler.
        unsafe { Table::at(table.as_ptr()) }
    }

    #[test]
    fn a_table_says_of_each_call_what_becomes_of_its_unwinding() {
        // No landing base and no types; types 3, or 300, bytes on; a landing base.
        let beginnings: [&[u8]; 4] =
            [&[0xff, 0xff], &[0xff, 0x9b, 3], &[0xff, 0x9b, 0xac, 2], &[0x01, 0x85, 9, 0xff]];
        let expected = [
            (0..10, Unlisted),
            (10..15, PassedOn),
            (15..20, Unlisted),
            (20..25, Unhandled),
            (25..30, Caught),
            (30..230, Refused),
            (230..300, Unlisted),
            (300..305, PassedOn),
            (305..310, Unhandled),
            (310..315, Refused),
            (315..320, Caught),
            (320..1000, Unlisted),
        ];
        for beginning in beginnings {
            for encoding in [0x00, 0x01, 0x02, 0x03, 0x04] {
                let bytes = table(beginning, encoding, &SITES);
                for (offsets, expected) in expected.clone() {
                    for offset in offsets {
                        let fate = at(&bytes).fate(offset);
                        assert_eq!(fate, Some(expected), "{beginning:?}, {encoding}, {offset}");
                    }
                }
                assert_eq!(at(&bytes).refuses_any(), Some(true));
                let bytes = table(beginning, encoding, &SITES[..3]);
                assert_eq!(at(&bytes).refuses_any(), Some(false));
                let bytes = table(beginning, encoding, &SITES[6..7]);
                assert_eq!(at(&bytes).refuses_any(), Some(true));
            }
        }
    }

    #[test]
    fn a_table_in_another_encoding_says_nothing() {
        for encoding in [0x09, 0x0b, 0x1b, 0x9b, 0xff] {
            for bytes in [
                table(&[0xff, 0xff], encoding, &SITES),
                table(&[encoding & 0x7f, 0, 0xff], 0x01, &SITES),
            ] {
                assert_eq!(at(&bytes).fate(12), None);
                assert_eq!(at(&bytes).refuses_any(), None);
            }
        }
    }
}
