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
//!   actions        of each: a number, and the offset of the next. 0: destructors; more: a catch of this
//!                  type; less: a filter, which here is empty and lets nothing pass
//! ```

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

impl Table {
    /// A table at its beginning.
    ///
    /// # Safety
    ///
    /// It is one, as in U1.
    pub(super) unsafe fn at(first: *const u8) -> Table {
        Table { next: first }
    }

    /// Whether an unwinding that comes from the call at `offset` in the function is passed on. `None`:
    /// the table is not as we know them.
    pub(super) fn passes_on(mut self, offset: usize) -> Option<bool> {
        let landing_base = Encoding(self.byte());
        if landing_base != Encoding::OMITTED {
            self.number(landing_base)?;
        }
        if Encoding(self.byte()) != Encoding::OMITTED {
            self.uleb128();
        }
        let encoding = Encoding(self.byte());
        let length = self.uleb128();
        let actions = self.skipped(length);
        while self.next < actions.next {
            let start = self.number(encoding)?;
            let length = self.number(encoding)?;
            let landing_pad = self.number(encoding)?;
            let action = self.uleb128();
            if (start..start + length).contains(&offset) {
                let nothing = landing_pad == 0 || action == 0;
                return Some(nothing || actions.skipped(action - 1).byte() == 0);
            }
        }
        // Not meant to unwind.
        Some(false)
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

    /// Seven bits a byte, the least significant first.
    fn uleb128(&mut self) -> usize {
        let (mut value, mut bits) = (0, 0);
        loop {
            let byte = self.byte();
            value |= usize::from(byte & 0x7f).unbounded_shl(bits);
            bits += 7;
            if byte & 0x80 == 0 {
                return value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSES: Option<bool> = Some(true);
    const ENDS: Option<bool> = Some(false);

    /// Actions: none but to clean up, at 1; a catch, at 3; a filter, at 5.
    const ACTIONS: [u8; 6] = [0, 0, 1, 0, 0x7f, 0];
    const CLEANUP: u64 = 1;
    const CATCH: u64 = 3;
    const FILTER: u64 = 5;

    /// Start, length, landing pad and action, as in a function of 1,000 bytes.
    const SITES: [(u64, u64, u64, u64); 6] = [
        (10, 5, 700, 0),
        (20, 5, 0, 0),
        (25, 5, 700, CATCH),
        (30, 200, 700, FILTER),
        (300, 5, 700, CLEANUP),
        (305, 5, 0, CATCH),
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

    fn table(beginning: &[u8], encoding: u8) -> Vec<u8> {
        let number = |value| encoded(encoding, value);
        let sites: Vec<u8> = SITES
            .iter()
            .flat_map(|&(start, length, pad, action)| {
                [number(start), number(length), number(pad), uleb128(action)].concat()
            })
            .collect();
        let length = uleb128(sites.len() as u64);
        [beginning, &[encoding], &length, &sites, &ACTIONS].concat()
    }

    fn ask(table: &[u8], offset: usize) -> Option<bool> {
        // SAFETY: U1, we are the compiler.
        unsafe { Table::at(table.as_ptr()) }.passes_on(offset)
    }

    #[test]
    fn a_table_says_of_each_call_whether_it_is_passed_on() {
        // No landing base and no types; types 3, or 300, bytes on; a landing base.
        let beginnings: [&[u8]; 4] =
            [&[0xff, 0xff], &[0xff, 0x9b, 3], &[0xff, 0x9b, 0xac, 2], &[0x01, 0x85, 9, 0xff]];
        for beginning in beginnings {
            for encoding in [0x00, 0x01, 0x02, 0x03, 0x04] {
                let table = table(beginning, encoding);
                let expected = [
                    (0..10, ENDS),
                    (10..15, PASSES),
                    (15..20, ENDS),
                    (20..25, PASSES),
                    (25..230, ENDS),
                    (230..300, ENDS),
                    (300..310, PASSES),
                    (310..1000, ENDS),
                ];
                for (offsets, expected) in expected {
                    for offset in offsets {
                        let found = ask(&table, offset);
                        assert_eq!(found, expected, "{beginning:?}, {encoding}, {offset}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_table_in_another_encoding_says_nothing() {
        for encoding in [0x09, 0x0b, 0x1b, 0x9b, 0xff] {
            assert_eq!(ask(&table(&[0xff, 0xff], encoding), 12), None);
            assert_eq!(ask(&table(&[encoding & 0x7f, 0, 0xff], 0x01), 12), None);
        }
    }
}
