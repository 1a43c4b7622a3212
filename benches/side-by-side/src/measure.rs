//! One measurement, in a process of its own: something is done until it is warm, and then for about as long as it shall.

use std::time::Duration;

use crate::catalogue::{Side, Work};
use crate::servers;

/// What a side is to do.
#[derive(Clone, Copy)]
pub struct Task {
    /// Worker threads, or threads that may run at a time.
    pub workers: usize,
    /// How large it is: how many coroutines take turns, how many leaves the tree has.
    pub size: u64,
    /// How often.
    pub times: u64,
}

/// Measures once. The values are those that the row describes, in nanoseconds where they are times.
pub fn measure(side: &Side, workers: usize, size: u64, first: u64, goal: Duration) -> Vec<f64> {
    let task = |times| Task { workers, size, times };
    match side.work {
        Work::Repeated(run) => vec![each(first, goal, |times| run(&task(times)))],
        Work::Once(run) => run(&task(1)),
        Work::Server(load) => servers::measure(side.peer, workers, load, goal),
        Work::Program | Work::Cannot(_) => panic!("{} is not for this process", side.peer),
    }
}

/// How many nanoseconds a single one takes of what `run` does so many times, once it is warm. It is done for `goal` then,
/// and at least `first` times. What takes twenty times as long when it is done first is warm enough.
pub fn each(first: u64, goal: Duration, mut run: impl FnMut(u64) -> Duration) -> f64 {
    let mut times = first;
    let mut took = run(times);
    while took < goal / 4 {
        times *= 10;
        took = run(times);
    }
    if took >= goal * 20 {
        return took.as_nanos() as f64 / times as f64;
    }
    let wanted = (times as f64 * goal.as_secs_f64() / took.as_secs_f64()) as u64;
    let times = wanted.max(first);
    run(times).as_nanos() as f64 / times as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_warms_up_and_divides_by_how_often() {
        let mut calls = Vec::new();
        let value = each(1_000, Duration::from_millis(100), |times| {
            calls.push(times);
            Duration::from_nanos(times * 5)
        });
        assert_eq!(value, 5.0);
        // 5 us, 50 us, .., 50 ms, which is more than a quarter; then what takes 100 ms.
        assert_eq!(calls, [1_000, 10_000, 100_000, 1_000_000, 10_000_000, 20_000_000]);
    }

    #[test]
    fn each_does_what_takes_long_twice_or_once() {
        for (seconds, times_of_each) in [(1, vec![1, 1]), (2, vec![1])] {
            let mut calls = Vec::new();
            let value = each(1, Duration::from_millis(100), |times| {
                calls.push(times);
                Duration::from_secs(times * seconds)
            });
            assert_eq!((value, calls), (1e9 * seconds as f64, times_of_each));
        }
    }
}
