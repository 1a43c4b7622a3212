//! Random numbers that need to be fair, and not secret.

use std::cell::Cell;

thread_local! {
    static STATE: Cell<u32> = const { Cell::new(0) };
}

/// A number below `bound`, which is not zero. (G. Marsaglia, "Xorshift RNGs", Journal of Statistical Software 8(14),
/// 2003; D. Lemire, "Fast Random Integer Generation in an Interval", ACM TOMACS 29(1), 2019, without the rejection.)
#[inline]
pub(crate) fn below(bound: u32) -> u32 {
    let state = STATE.with(|state| {
        let mut x = state.get();
        if x == 0 {
            // Differs from thread to thread, and is never zero.
            x = (state.as_ptr().addr() >> 4) as u32 | 1;
        }
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        state.set(x);
        x
    });
    ((u64::from(state) * u64::from(bound)) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::below;

    #[test]
    fn random_numbers_are_even_and_below_their_bound() {
        let mut counts = [0; 5];
        (0..100_000).for_each(|_| counts[below(5) as usize] += 1);
        assert!(counts.iter().all(|count| (19_000..21_000).contains(count)), "{counts:?}");
    }
}
