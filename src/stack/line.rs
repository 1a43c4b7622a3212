//! One line of text without an allocation, for the fault handler.
//!
//! ```text
//!  coroutine 42 'accept loop' overflowed its stack (256 KiB)\n
//!  |------ described ------->|------------ added by us -----|
//!                            ^ at most CAPACITY - TAIL: a long name is cut, never the rest
//! ```

const CAPACITY: usize = 512;

/// Room kept free for what follows the description.
const TAIL: usize = 64;

/// Text of a bounded length. What does not fit is cut off, between two characters.
pub(crate) struct Line {
    bytes: [u8; CAPACITY],
    length: usize,
    limit: usize,
}

impl Line {
    /// An empty line, to be described.
    pub(super) const fn new() -> Line {
        Line { bytes: [0; CAPACITY], length: 0, limit: CAPACITY - TAIL }
    }

    /// Ends the description: the room kept free may be used from now on.
    pub(super) fn open_tail(&mut self) {
        self.limit = CAPACITY;
    }

    /// Adds text.
    pub(crate) fn push_str(&mut self, text: &str) {
        let mut fits = text.len().min(self.limit - self.length);
        while !text.is_char_boundary(fits) {
            fits -= 1;
        }
        let end = self.length + fits;
        self.bytes[self.length..end].copy_from_slice(&text.as_bytes()[..fits]);
        self.length = end;
    }

    /// Adds a number in decimal.
    pub(crate) fn push_u64(&mut self, number: u64) {
        let mut digits = [0; 20];
        let mut first = digits.len();
        let mut rest = number;
        loop {
            first -= 1;
            digits[first] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        // Digits only, so this cannot fail; cutting nothing is right if it ever did.
        self.push_str(std::str::from_utf8(&digits[first..]).unwrap_or_default());
    }

    /// The text so far.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}
