//! The load that this crate is measured by: many short coroutines, each with storage of its own.
//!
//! ```sh
//! cargo run --release --example gls -- [coroutines] [rounds]      # 100000 and 50 if not given
//! ```
//!
//! It is the test of mgkanani/gls, a package for Go, in Rust. A round starts that many coroutines
//! and waits until all have ended, their cleanup included. Each does 40 operations on its own slot:
//! for `i` in 4..44, where 4 divides `i` it stores `i`, and elsewhere it reads, and what it reads
//! must be one of the last three numbers before `i`. A value that crossed from one coroutine into
//! another would show up as a number that is too large or too small.
//!
//! There are three kinds of rounds:
//!
//! - **kept**: the slot is left as it is, and the coroutine's end has to clean up,
//! - **deleted**: the coroutine deletes its slot as the last thing it does,
//! - **counted**: the values count how often they are dropped, and each coroutine registers an exit
//!   handler, which checks that the last value is still there.
//!
//! Exits with 0 if nothing was amiss, with 1 if anything was (a wrong read, a drop or a handler too
//! many or too few, memory that grows from round to round), with 2 if the arguments make no sense.

use std::env;
use std::fs;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use coro::{JoinHandle, go, tls};

/// What a coroutine does: its body, which counts the operations that went wrong.
type Body = fn() -> u64;

/// The key of every coroutine's one slot. A type of its own, so that nobody else has the key.
#[derive(PartialEq, Eq, Hash)]
struct Slot;

/// Stores per coroutine: 4, 8, .. 40.
const STORES: u64 = 10;
const LAST_STORED: u32 = 40;

/// How much more memory may be resident after the last round than after the first: a quarter, for
/// the rounds differ in how many coroutines are alive at once, and this. In 50 rounds of 100,000
/// that notices a loss of five bytes a coroutine; in three rounds, only one of some hundred.
const GROWTH_ALLOWED: u64 = 16 << 20;

static DROPS: AtomicU64 = AtomicU64::new(0);
static HANDLERS: AtomicU64 = AtomicU64::new(0);

/// What is stored: a number.
trait Value: 'static {
    fn new(number: u32) -> Self;
    fn number(&self) -> u32;
}

impl Value for u32 {
    fn new(number: u32) -> u32 {
        number
    }

    fn number(&self) -> u32 {
        *self
    }
}

/// A number whose drops are counted.
struct Counted(u32);

impl Value for Counted {
    fn new(number: u32) -> Counted {
        Counted(number)
    }

    fn number(&self) -> u32 {
        self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        DROPS.fetch_add(1, Relaxed);
    }
}

/// The forty operations; gives the number of wrong reads.
fn operate<V: Value>() -> u64 {
    let mut wrong = 0;
    for i in 4..44 {
        if i % 4 == 0 {
            tls::set(Slot, V::new(i));
        } else {
            let read = tls::get::<V>(Slot).map_or(0, |value| value.number());
            wrong += u64::from(read >= i || read < i - 3);
        }
    }
    wrong
}

fn kept() -> u64 {
    operate::<u32>()
}

fn deleted() -> u64 {
    operate::<u32>() + u64::from(!tls::del(Slot))
}

fn counted() -> u64 {
    tls::at_exit(|| {
        if tls::get::<Counted>(Slot).is_some_and(|value| value.number() == LAST_STORED) {
            HANDLERS.fetch_add(1, Relaxed);
        }
    });
    operate::<Counted>()
}

/// Starts all, waits for all; gives how long that took and what went wrong.
fn round(coroutines: usize, body: Body, handles: &mut Vec<JoinHandle<u64>>) -> (Duration, u64) {
    let start = Instant::now();
    handles.extend((0..coroutines).map(|_| go(body)));
    let wrong = handles.drain(..).map(|handle| handle.join().unwrap_or(1)).sum();
    (start.elapsed(), wrong)
}

/// What all rounds of one kind came to.
struct Summary {
    rounds: Vec<Duration>,
    wrong: u64,
    resident_first: u64,
    resident_last: u64,
}

impl Summary {
    fn of(coroutines: usize, rounds: usize, body: Body) -> Summary {
        let mut handles = Vec::with_capacity(coroutines);
        let mut summary =
            Summary { rounds: Vec::new(), wrong: 0, resident_first: 0, resident_last: 0 };
        for _ in 0..rounds {
            let (duration, wrong) = round(coroutines, body, &mut handles);
            summary.rounds.push(duration);
            summary.wrong += wrong;
            summary.resident_last = resident();
            if summary.rounds.len() == 1 {
                summary.resident_first = summary.resident_last;
            }
        }
        summary
    }

    /// Prints a line, and a complaint for whatever is amiss; tells whether all was well.
    fn report(&self, kind: &str, coroutines: usize) -> bool {
        let total: Duration = self.rounds.iter().sum();
        let milliseconds = |duration: Duration| duration.as_secs_f64() * 1e3;
        let rate = coroutines as f64 * self.rounds.len() as f64 / total.as_secs_f64();
        println!(
            "{kind:<9} {:>8.1} {:>8.1} {:>8.1} {rate:>14.0} {:>10.1} {:>10.1}",
            milliseconds(self.rounds.iter().min().copied().unwrap_or_default()),
            milliseconds(self.rounds.iter().max().copied().unwrap_or_default()),
            milliseconds(total) / self.rounds.len() as f64,
            mebibytes(self.resident_first),
            mebibytes(self.resident_last),
        );
        let growth = self.resident_last.saturating_sub(self.resident_first);
        let flat = growth <= self.resident_first / 4 + GROWTH_ALLOWED;
        if self.wrong != 0 {
            eprintln!("{kind}: {} operations went wrong", self.wrong);
        }
        if !flat {
            eprintln!("{kind}: {:.1} MiB more resident than at first", mebibytes(growth));
        }
        self.wrong == 0 && flat
    }
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// The resident memory of this process in bytes.
fn resident() -> u64 {
    const PAGE: u64 = 4096;
    let statm = fs::read_to_string("/proc/self/statm").expect("Linux shows a process its memory");
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.expect("the second number is the resident pages") * PAGE
}

fn check(what: &str, found: u64, expected: u64) -> bool {
    println!("{what}: {found} of {expected}");
    found == expected
}

/// The whole load; tells whether all was well.
fn run(coroutines: usize, rounds: usize) -> bool {
    println!("{coroutines} coroutines a round, {rounds} rounds of each kind");
    println!(
        "{:<9} {:>8} {:>8} {:>8} {:>14} {:>10} {:>10}",
        "", "min ms", "max ms", "avg ms", "coroutines/s", "MiB first", "MiB last"
    );
    let mut well = true;
    for (kind, body) in [("kept", kept as Body), ("deleted", deleted), ("counted", counted)] {
        well &= Summary::of(coroutines, rounds, body).report(kind, coroutines);
    }
    let all = coroutines as u64 * rounds as u64;
    well &= check("values dropped", DROPS.load(Relaxed), all * STORES);
    well &= check("handlers run", HANDLERS.load(Relaxed), all);
    well
}

/// The two arguments, or what is wrong with them.
fn arguments() -> Result<(usize, usize), String> {
    let given: Vec<_> = env::args_os().skip(1).collect();
    if given.len() > 2 {
        return Err(format!("at most two arguments are expected, not {}", given.len()));
    }
    let number = |index: usize, name: &str, default| match given.get(index) {
        None => Ok(default),
        Some(text) => text
            .to_str()
            .and_then(|text| text.parse().ok())
            .filter(|&number| (1..=100_000_000).contains(&number))
            .ok_or_else(|| format!("{name}: {text:?} is not a number from 1 to 100000000")),
    };
    Ok((number(0, "coroutines", 100_000)?, number(1, "rounds", 50)?))
}

fn main() -> ExitCode {
    match arguments() {
        // The main function of a Go program is a goroutine, and so it is here.
        Ok((coroutines, rounds)) => match go(move || run(coroutines, rounds)).join() {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        },
        Err(message) => {
            eprintln!("{message}\nusage: gls [coroutines] [rounds]");
            ExitCode::from(2)
        }
    }
}
