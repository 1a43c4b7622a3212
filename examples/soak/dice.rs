//! What the acts roll. All of it follows from the seed and from the number of the act.

use std::sync::OnceLock;
use std::time::Duration;

pub(crate) static SEED: OnceLock<u64> = OnceLock::new();

/// Random numbers, by SplitMix64 (Steele, Lea and Flood, 2014).
pub(crate) struct Dice(u64);

impl Dice {
    /// Those of one act.
    pub(crate) fn of_act(number: u64) -> Dice {
        let seed = *SEED.get().expect("set at the start");
        // Neighbouring acts begin far from each other: the numbers of one are not those of the next, one
        // place further on.
        Dice(seed ^ number.wrapping_mul(0xd134_2543_de82_ef95))
    }

    /// Dice for a coroutine to take along.
    pub(crate) fn split(&mut self) -> Dice {
        Dice(self.roll(u64::MAX))
    }

    /// A number below `sides`.
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % sides
    }

    /// True once in so many times.
    pub(crate) fn once_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }

    pub(crate) fn micros(&mut self, most: u64) -> Duration {
        Duration::from_micros(self.roll(most + 1))
    }
}
