//! coro beside its peers: channels, select and a tree of tasks, each with one and with two worker threads.
//!
//! ```text
//! cargo run --release --manifest-path benches/peers/Cargo.toml -- 1             # worker threads: 1 or 2
//! cargo run --release --manifest-path benches/peers/Cargo.toml -- 2 select      # the rows that say so
//! ```
//!
//! Each row is measured in rounds, and in each round everybody has a turn, one after another. So what slows the machine
//! down for a while slows all of them down. A figure is the median of its rounds, in nanoseconds an operation; the last
//! column is coro's, divided by the best of the others'.

#[path = "../../common/channels.rs"]
mod channels;
mod coro_side;
mod may_side;
mod thread_side;
mod tokio_side;

use std::time::{Duration, Instant};

const ROUNDS: usize = 15;

/// Does something so many times, and tells how long that took.
type Measured<'a> = Box<dyn FnMut(u64) -> Duration + 'a>;

struct Row<'a> {
    what: &'static str,
    times: u64,
    sides: Vec<(&'static str, Measured<'a>)>,
}

fn main() {
    let workers = match std::env::args().nth(1).as_deref() {
        None | Some("1") => 1,
        Some("2") => 2,
        Some(other) => panic!("{other}: 1 or 2 worker threads"),
    };
    let coro = coro::Runtime::builder().workers(workers).build().expect("worker threads");
    let tokio = tokio_side::runtime(workers);
    may_side::configure(workers);
    let rows = [
        Row {
            what: "rendezvous, a round trip",
            times: 100_000,
            sides: vec![
                ("coro bounded(0)", Box::new(|n| coro_side::rendezvous(&coro, n))),
                ("tokio mpsc(1)", Box::new(|n| tokio_side::mpsc_round_trip(&tokio, n))),
                ("flume(0) on tokio", Box::new(|n| tokio_side::flume_round_trip(&tokio, n))),
                ("may spsc", Box::new(may_side::spsc_round_trip)),
            ],
        },
        Row {
            what: "bounded(1024), one to one, a value",
            times: 1_000_000,
            sides: vec![
                ("coro", Box::new(|n| coro_side::pass(&coro, n, 1))),
                ("tokio mpsc", Box::new(|n| tokio_side::mpsc_pass(&tokio, n))),
                ("flume on tokio", Box::new(|n| tokio_side::flume_pass(&tokio, n, 1))),
                (
                    "async-channel on tokio",
                    Box::new(|n| tokio_side::async_channel_pass(&tokio, n, 1)),
                ),
            ],
        },
        Row {
            what: "bounded(1024), four to four, a value",
            times: 1_000_000,
            sides: vec![
                ("coro", Box::new(|n| coro_side::pass(&coro, n, 4))),
                ("flume on tokio", Box::new(|n| tokio_side::flume_pass(&tokio, n, 4))),
                (
                    "async-channel on tokio",
                    Box::new(|n| tokio_side::async_channel_pass(&tokio, n, 4)),
                ),
                ("crossbeam on threads", Box::new(|n| thread_side::pass(n, 4))),
            ],
        },
        Row {
            what: "select over 4, one ready",
            times: 300_000,
            sides: vec![
                ("coro", Box::new(|n| coro_side::select(&coro, n))),
                ("tokio over mpsc", Box::new(|n| tokio_side::select(&tokio, n))),
                ("crossbeam", Box::new(thread_side::select)),
            ],
        },
        Row {
            what: "skynet with a channel a node, 1,000,000 leaves",
            times: 1,
            sides: vec![
                ("coro", Box::new(|n| coro_side::skynet(&coro, n))),
                ("tokio", Box::new(|n| tokio_side::skynet(&tokio, n))),
            ],
        },
    ];
    println!("{workers} worker thread(s)\n");
    let wanted = std::env::args().nth(2).unwrap_or_default();
    for mut row in rows.into_iter().filter(|row| row.what.contains(&wanted)) {
        let rounds = if row.times == 1 { 5 } else { ROUNDS };
        let mut figures = vec![Vec::new(); row.sides.len()];
        for _ in 0..rounds {
            for ((_, measured), figures) in row.sides.iter_mut().zip(&mut figures) {
                figures.push(measured(row.times).as_nanos() as f64 / row.times as f64);
            }
        }
        let medians: Vec<_> = figures.iter_mut().map(|figures| median(figures)).collect();
        let best = medians[1..].iter().copied().fold(f64::INFINITY, f64::min);
        println!("{}", row.what);
        for ((name, _), median) in row.sides.iter().zip(&medians) {
            println!("  {name:24} {median:14.1}");
        }
        println!("  {:24} {:14.2}x\n", "coro / best of the others", medians[0] / best);
    }
    // may's threads never end.
    std::process::exit(0);
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// How long it takes to do it so many times.
fn timed(times: u64, mut f: impl FnMut()) -> Duration {
    let begin = Instant::now();
    (0..times).for_each(|_| f());
    begin.elapsed()
}
