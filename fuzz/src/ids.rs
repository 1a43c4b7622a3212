//! All ids that were ever seen in this process: one bit each, since a long run sees many millions.

use std::sync::{Mutex, PoisonError};

use coro::tls::Id;

static SEEN: Mutex<Vec<u64>> = Mutex::new(Vec::new());

/// Notes an id that its owner has just got, and which nobody may have had before.
pub fn claim(id: Id) {
    let number = usize::try_from(id.get()).expect("ids count from 1");
    assert_ne!(number, 0, "an id is never 0");
    let (word, bit) = (number / 64, 1u64 << (number % 64));
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    if seen.len() <= word {
        seen.resize((word + 1).next_power_of_two(), 0);
    }
    assert_eq!(seen[word] & bit, 0, "id {id} was used before");
    seen[word] |= bit;
}
