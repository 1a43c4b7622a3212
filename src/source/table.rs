//! Where the state of each descriptor lies: a table by the descriptor's number.
//!
//! - **E1** A place in the table is never freed, nor used for another number. So an event that comes late finds the
//!   place of its number, and by the generation in it that it is too late.
//!
//! The table grows in pieces, each twice as large as the one before, so that nothing in it ever moves.

use std::io;
use std::os::fd::RawFd;
use std::sync::OnceLock;

use super::state::Source;

/// How many places the first piece has.
const FIRST: usize = 64;
/// Enough pieces for every number that there is.
const PIECES: usize = 26;

static TABLE: [OnceLock<Box<[Source]>>; PIECES] = [const { OnceLock::new() }; PIECES];

/// In which piece a number's place is, and where in it.
fn place(fd: RawFd) -> (usize, usize) {
    let number = fd as usize + FIRST;
    let piece = (number / FIRST).ilog2() as usize;
    (piece, number - (FIRST << piece))
}

/// The place of this number, if somebody has asked [`place_of`] for its piece.
pub(super) fn look_up(fd: RawFd) -> Option<&'static Source> {
    let (piece, index) = place(fd);
    TABLE.get(piece)?.get()?.get(index)
}

/// The place of this number.
///
/// # Errors
///
/// `OutOfMemory`.
pub(super) fn place_of(fd: RawFd) -> io::Result<&'static Source> {
    let (piece, index) = place(fd);
    // The smaller ones first, so that there is no gap.
    if piece > 0 && TABLE[piece].get().is_none() {
        place_of((FIRST << piece) as RawFd - FIRST as RawFd - 1)?;
    }
    let sources = match TABLE[piece].get() {
        Some(sources) => sources,
        None => {
            let mut sources = Vec::new();
            sources.try_reserve_exact(FIRST << piece)?;
            sources.resize_with(FIRST << piece, Source::default);
            // If somebody else was faster, theirs is as good.
            TABLE[piece].get_or_init(|| sources.into_boxed_slice())
        }
    };
    Ok(&sources[index])
}

/// Every place that there is, with its number.
pub(super) fn all() -> impl Iterator<Item = (RawFd, &'static Source)> {
    (0..).zip(TABLE.iter().map_while(OnceLock::get).flat_map(|sources| sources.iter()))
}

#[cfg(test)]
mod tests {
    use super::{FIRST, PIECES, place};

    /// Each number has a place of its own, and the pieces have no gap.
    #[test]
    fn each_number_has_a_place() {
        let mut expected = (0, 0);
        for fd in 0..FIRST as i32 * 40 {
            assert_eq!(place(fd), expected, "of {fd}");
            expected.1 += 1;
            if expected.1 == FIRST << expected.0 {
                expected = (expected.0 + 1, 0);
            }
        }
        assert!(place(i32::MAX).0 < PIECES);
    }
}
