//! A pipeline: a stage that produces, several workers, a stage that collects, and bounded channels between them.
//!
//! ```text
//! cargo run --release --example pipeline -- 5000000   # the longest Collatz sequence of a number below five million
//! ```
//!
//! - *Fan-out*: the workers receive from one channel; each chunk goes to one of them.
//! - *Fan-in*: they send to one channel, which ends when the last of them does.
//! - *Back-pressure*: the channels are short, so the producer waits for the slowest stage, and memory stays small.
//! - *Cancellation*: when the time is over, the sender `stop` is dropped. The producer sees that in its `select!` and
//!   ends, and with its channel the other stages end, with what they have.

use std::ops::Range;
use std::time::Duration;

use coro::chan::{Receiver, Sender, after, bounded, tick};
use coro::{go, select};
use indicatif::ProgressBar;

const WORKERS: usize = 8;
const CHUNK: u64 = 1000;

/// A number with the longest sequence, and its length.
type Longest = (u64, usize);

fn produce(end: u64, work: &Sender<Range<u64>>, stop: &Receiver<()>) {
    for start in (1..end).step_by(CHUNK as usize) {
        select! {
            send(work, start..end.min(start + CHUNK)) -> sent => if sent.is_err() { return },
            recv(stop) -> _ => return,
        }
    }
}

/// The longest sequence of a chunk, and how many numbers that has.
fn look_at(chunk: Range<u64>) -> (Longest, u64) {
    let successors = |&n: &u64| Some(if n.is_multiple_of(2) { n / 2 } else { 3 * n + 1 });
    let steps = |n| std::iter::successors(Some(n), successors).take_while(|&n| n != 1).count();
    let lengths = chunk.clone().map(|number| (number, steps(number)));
    (lengths.max_by_key(|&(_, length)| length).unwrap_or_default(), chunk.end - chunk.start)
}

fn collect(results: &Receiver<(Longest, u64)>, bar: &ProgressBar) -> (Longest, u64) {
    let (mut longest, mut done) = ((1, 0), 0);
    let redraw = tick(Duration::from_millis(50));
    loop {
        select! {
            recv(results) -> result => {
                let Ok((found, count)) = result else { break };
                done += count;
                longest = if found.1 > longest.1 { found } else { longest };
            }
            recv(redraw) -> _ => bar.set_position(done),
        }
    }
    bar.finish_and_clear();
    (longest, done)
}

/// The longest sequence of the numbers below `end` that are looked at within `limit`, and how many those are.
fn run(end: u64, limit: Duration) -> (Longest, u64) {
    let (work, chunks) = bounded(2 * WORKERS);
    let (result, results) = bounded(2 * WORKERS);
    let (stop, stopped) = bounded::<()>(0);
    go(move || produce(end, &work, &stopped));
    for _ in 0..WORKERS {
        let (chunks, result) = (chunks.clone(), result.clone());
        go(move || chunks.iter().try_for_each(|chunk| result.send(look_at(chunk))));
    }
    drop((chunks, result));
    let mut collects = go(move || collect(&results, &ProgressBar::new(end)));
    let (late, mut stop) = (after(limit), Some(stop));
    loop {
        select! {
            wait(&mut collects) -> collected => return collected.expect("it does not panic"),
            recv(late) -> _ => drop(stop.take()),
        }
    }
}

fn main() {
    let end = std::env::args().nth(1).map_or(1_000_000, |end| end.parse().expect("a number"));
    let ((number, length), done) = run(end, Duration::from_secs(60));
    println!("of {done} numbers {number} has the longest sequence, {length} steps");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipeline_runs_to_its_end_or_is_stopped() {
        assert_eq!(run(10_000, Duration::MAX), ((6171, 261), 9999));
        let (_, done) = run(u64::MAX, Duration::from_millis(50));
        assert_eq!(done % CHUNK, 0, "whole chunks only");
    }
}
