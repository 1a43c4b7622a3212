//! When a worker's turns were, for how long a task has been parked.
//!
//! A worker does not read a clock at a park. It counts its turns, and notes with a task in which turn it has parked. The
//! monitor looks at the count every few milliseconds, and notes when it has seen which. So of each turn it is known when
//! it was over at the latest.
//!
//! Of the past few milliseconds every look is kept, and of an hour ago one in six minutes: a time is a tenth of itself too
//! short at most, and never too long.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::running_task::RunningTask;
use crate::base::lock::lock;

/// So many looks are kept before some are forgotten: twice as many as a year leaves.
const KEPT: usize = 1024;

/// The part of a time by which it may be too short.
const PRECISION: u32 = 10;

/// A park in one word: the turn before whose end it was, as far as there is room for it, above 16 bits for a token that
/// has ended it.
#[derive(Clone, Copy, Default)]
pub(super) struct ParkNote(u64);

impl ParkNote {
    #[inline]
    pub(super) fn of_turn(turn: u64) -> ParkNote {
        ParkNote(turn << 16)
    }

    #[inline]
    pub(super) fn of_token(token: usize) -> ParkNote {
        ParkNote(token as u64)
    }

    #[inline]
    pub(super) fn token(self) -> usize {
        usize::from(self.0 as u16)
    }

    /// The turn, which is `now` or one before. One of 2^48 turns ago, which is a year of short ones, is taken for a later
    /// one.
    pub(super) fn turn(self, now: u64) -> u64 {
        let turns_ago = ((now << 16).wrapping_sub(self.0)) >> 16;
        now.wrapping_sub(turns_ago)
    }
}

/// A look at a worker.
#[derive(Clone, Copy)]
struct Look {
    /// The last turn that had begun.
    turn: u64,
    /// When it was over, unless it goes on.
    time: Instant,
    goes_on: bool,
}

/// The looks at one worker, the oldest first.
#[derive(Default)]
pub(crate) struct TurnTimes(Mutex<Vec<Look>>);

impl TurnTimes {
    /// By the monitor, again and again.
    pub(crate) fn note(&self, running: &RunningTask, now: Instant) {
        let look = Look { turn: running.turn(), time: now, goes_on: running.is_any() };
        let mut looks = lock(&self.0);
        if let Some(last) = looks.last_mut()
            && last.goes_on
        {
            last.time = now;
            last.goes_on = look.goes_on && last.turn == look.turn;
        }
        if looks.last().is_some_and(|last| last.turn == look.turn) {
            return;
        }
        if looks.len() == KEPT {
            thin_out(&mut looks, now);
        }
        looks.push(look);
    }

    /// How long ago this turn was over at least. `None`: nobody looks.
    pub(crate) fn since(&self, turn: u64, now: Instant) -> Option<Duration> {
        let looks = lock(&self.0);
        if looks.is_empty() {
            return None;
        }
        let seen = looks.get(looks.partition_point(|look| look.turn < turn));
        let over = seen.filter(|look| !look.goes_on || look.turn > turn);
        Some(over.map_or(Duration::ZERO, |look| now.saturating_duration_since(look.time)))
    }
}

/// Forgets a look if the one before it and the next that is kept are close together, for their age.
fn thin_out(looks: &mut Vec<Look>, now: Instant) {
    let mut kept: Vec<Look> = Vec::with_capacity(KEPT);
    for (index, look) in looks.iter().enumerate().rev() {
        let before = index.checked_sub(1).map(|index| looks[index]);
        let is_close = kept.last().zip(before).is_some_and(|(next, before)| {
            next.time - before.time <= (now - before.time) / PRECISION
        });
        if !is_close {
            kept.push(*look);
        }
    }
    kept.reverse();
    *looks = kept;
}

#[cfg(all(test, not(coro_loom)))]
mod tests {
    use std::panic::Location;

    use super::*;
    use crate::base::id::Id;

    /// A worker that begins `turns` turns.
    fn begin(running: &RunningTask, turns: u64) {
        (0..turns).for_each(|_| running.begin(Id::next(), Location::caller()));
    }

    #[test]
    fn a_turn_has_room_beside_a_token() {
        for turn in [0, 1, 0xffff, 0x1_0000, 0xffff_ffff, 0x1234_5678_9abc, (1 << 48) + 5, 1 << 63]
        {
            assert_eq!(ParkNote::of_turn(turn).token(), 0);
            for later in [0, 1, 1 << 20, (1 << 48) - 1] {
                assert_eq!(ParkNote::of_turn(turn).turn(turn + later), turn, "{later}");
            }
        }
        assert_eq!(ParkNote::of_turn(7).turn(7 + (1 << 48)), 7 + (1 << 48));
        assert_eq!(ParkNote::of_token(0x8001).token(), 0x8001);
    }

    #[test]
    fn a_turn_is_over_when_that_is_seen() {
        let (times, running, start) =
            (TurnTimes::default(), RunningTask::default(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        let since = |turn| times.since(turn, at(100)).map(|time| time.as_millis());
        begin(&running, 3);
        assert_eq!(since(1), None);
        times.note(&running, at(2));
        assert_eq!(since(2), Some(98));
        assert_eq!(since(3), Some(0), "it goes on");
        times.note(&running, at(4));
        running.end();
        assert_eq!(since(3), Some(0), "nobody has looked");
        times.note(&running, at(6));
        times.note(&running, at(8));
        assert_eq!(since(3), Some(94));
        begin(&running, 2);
        assert_eq!(since(5), Some(0));
        times.note(&running, at(10));
        assert_eq!(since(4), Some(90));
        running.end();
        begin(&running, 1);
        times.note(&running, at(12));
        assert_eq!(since(5), Some(88), "a turn that went on is known to be over later");
    }

    #[test]
    fn a_time_is_a_tenth_too_short_at_most_and_never_too_long() {
        let (times, running, start) =
            (TurnTimes::default(), RunningTask::default(), Instant::now());
        let ends: Vec<_> = (1..200_000)
            .map(|millis| {
                begin(&running, 1);
                running.end();
                let now = start + Duration::from_millis(2 * millis);
                times.note(&running, now);
                (running.turn(), now)
            })
            .collect();
        let now = ends.last().unwrap().1;
        assert!(lock(&times.0).len() <= KEPT);
        for (turn, end) in ends {
            let (real, known) = (now - end, times.since(turn, now).unwrap());
            assert!(known <= real, "turn {turn}: {known:?} is longer than {real:?}");
            assert!(known >= real.mul_f64(0.9), "turn {turn}: {known:?} of {real:?}");
        }
    }
}
