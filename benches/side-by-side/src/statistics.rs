//! Medians and ratios.

use serde::{Deserialize, Serialize};

/// What repeats of one measurement say.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Summary {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Summary {
    /// Of at least one value.
    pub fn of(values: &[f64]) -> Summary {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        } else {
            sorted[middle]
        };
        Summary { median, min: sorted[0], max: sorted[sorted.len() - 1] }
    }
}

/// Our figure by the peer's, or the peer's by ours where more is better: below 1 ours is the better one. None where there is
/// nothing to divide.
pub fn ratio(ours: f64, peers: f64, more_is_better: bool) -> Option<f64> {
    let (worse, better) = if more_is_better { (peers, ours) } else { (ours, peers) };
    (worse > 0.0 && better > 0.0).then(|| worse / better)
}

/// The value below which so great a part of the sorted values lies. There is at least one.
pub fn percentile<T: Copy>(sorted: &[T], part: f64) -> T {
    let index = (sorted.len() as f64 * part).ceil() as usize;
    sorted[index.clamp(1, sorted.len()) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_and_order_does_not_matter() {
        assert_eq!(Summary::of(&[9.0, 1.0, 4.0]), Summary { median: 4.0, min: 1.0, max: 9.0 });
        assert_eq!(Summary::of(&[8.0, 2.0, 4.0, 1.0]).median, 3.0);
        assert_eq!(Summary::of(&[5.0]), Summary { median: 5.0, min: 5.0, max: 5.0 });
    }

    #[test]
    fn a_ratio_below_one_says_that_we_are_better() {
        assert_eq!(ratio(10.0, 20.0, false), Some(0.5));
        assert_eq!(ratio(10.0, 20.0, true), Some(2.0));
        assert_eq!(ratio(0.0, 20.0, false), None);
    }

    #[test]
    fn a_percentile_is_a_value_that_was_seen() {
        let values: Vec<u32> = (1..=200).collect();
        assert_eq!(percentile(&values, 0.99), 198);
        assert_eq!(percentile(&values, 0.5), 100);
        assert_eq!(percentile(&[7], 0.99), 7);
    }
}
