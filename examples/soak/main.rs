//! A mix of everything, at random, for as long as you like.
//!
//! ```sh
//! cargo run --release --example soak -- SECONDS [SEED]
//! ```
//!
//! Two threads and a coroutine play short *acts*: they spawn, join, detach, cancel, park, sleep, block,
//! panic, store, open scopes, send, choose, lock, make raw coroutines and runtimes of their own. What an act does
//! follows from the seed, which is printed, and from the act's number; what comes of it depends on the
//! clock and the threads as well, so a seed brings a mix back and not a run.
//!
//! Each act checks its own outcome. Every few seconds all players stop, and when the last coroutine has
//! ended the books must balance:
//!
//! | what | must be |
//! |---|---|
//! | values that count their drops | as many dropped as made |
//! | exit handlers | each run once, or dropped by `unload` |
//! | coroutines alive, stacks in use | none |
//! | threads | as many as at the beginning |
//! | file descriptors | as many as at the first stop |
//! | mappings, heap, resident memory | not much more than at the first stop |
//!
//! A stop hangs if it takes longer than a minute, or if all threads sleep for seconds on end: no act
//! waits so long, so what they wait for will not come.
//!
//! Prints one line a second. Exits with 0 if nothing was amiss, with 1 at the first thing that is, and
//! with 2 if the arguments make no sense.

mod acts;
mod books;
mod counted;
mod dice;

use std::collections::hash_map::RandomState;
use std::env;
use std::hash::{BuildHasher, Hasher};
use std::panic;
use std::process::{self, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use coro::{go, inspect};

use acts::PLAYERS;
use books::Books;

/// How long is played between two stops, at most.
const STRETCH: Duration = Duration::from_secs(5);
/// What takes so long to come to rest hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// The time between two looks at what is waited for.
const PAUSE: Duration = Duration::from_millis(10);
/// So many looks at sleeping threads, one after another, and they will not wake. Looks and not seconds,
/// so that a machine which stood still itself is not taken for a hang.
const LOOKS: u32 = 200;

/// Waits until `calm` says so. Called by the main thread, which waits for nothing in any other way: a
/// hang does not catch it.
fn wait_until(what: &str, calm: impl Fn() -> bool) {
    let start = Instant::now();
    let mut still = 0;
    while !calm() {
        still = if books::others_sleep() { still + 1 } else { 0 };
        assert!(
            start.elapsed() < PATIENCE && still < LOOKS,
            "waited for {:?} until {what}: {:?}",
            start.elapsed(),
            inspect::metrics()
        );
        thread::sleep(PAUSE);
    }
}

/// Plays for so long, and prints a line a second.
fn stretch(length: Duration, begun: Instant) {
    static STOP: AtomicBool = AtomicBool::new(false);
    STOP.store(false, Relaxed);
    let play = |player| {
        while !STOP.load(Relaxed) {
            acts::play_one(player);
        }
    };
    let mut players: Vec<_> =
        (1..PLAYERS).map(|player| thread::spawn(move || play(player))).collect();
    // A thread that waits for the coroutine, so that there is one kind of handle.
    players.push(thread::spawn(move || go(move || play(0)).join().expect("no panic is planned")));
    let start = Instant::now();
    let mut acts = acts::played();
    while start.elapsed() < length {
        thread::sleep(Duration::from_secs(1).min(length.saturating_sub(start.elapsed())));
        let moved = acts::played();
        report(begun, moved - acts);
        acts = moved;
    }
    STOP.store(true, Relaxed);
    wait_until("all players stop", || players.iter().all(thread::JoinHandle::is_finished));
    players.into_iter().for_each(|player| player.join().expect("no panic is planned"));
}

fn report(begun: Instant, acts: u64) {
    let metrics = inspect::metrics();
    println!(
        "{:>5} s  {acts:>6} acts  {:>10} spawned  {:>9} stolen  {:>6} live  {:>6} parked  {:>5} stacks  \
         {:>10} values  {:>9} handlers",
        begun.elapsed().as_secs(),
        metrics.spawned,
        metrics.stolen,
        metrics.live,
        metrics.parked,
        metrics.stacks_in_use,
        counted::MADE.load(Relaxed),
        counted::REGISTERED.load(Relaxed),
    );
}

/// Waits for the last coroutine, and balances the books.
fn balance(threads: u64) -> Books {
    wait_until("all coroutines have ended", || inspect::metrics().live == 0);
    wait_until("all stacks are idle", || inspect::metrics().stacks_in_use == 0);
    wait_until("all threads but the default runtime's have ended", || books::threads() == threads);
    counted::balance();
    let metrics = inspect::metrics();
    assert_eq!((metrics.fresh, metrics.parked), (0, 0));
    Books::read()
}

fn soak(length: Duration) {
    let begun = Instant::now();
    // Two stops at least, since what is kept of the system is compared from stop to stop.
    let between = STRETCH.min(length / 2);
    // With this the default runtime is there, and its threads belong to the books.
    let first = go(|| ());
    wait_until("the first coroutine has ended", || first.is_finished());
    let threads = books::threads();
    let mut at_first = None;
    while begun.elapsed() < length {
        stretch(between.min(length.saturating_sub(begun.elapsed())), begun);
        let books = balance(threads);
        books.check(at_first.get_or_insert(books));
        println!("{:>5} s  all is balanced: {books:?}", begun.elapsed().as_secs());
    }
}

/// Seconds and seed, or what is wrong with them.
fn arguments() -> Result<(u64, u64), String> {
    let given: Vec<String> = env::args().skip(1).collect();
    let number = |text: &String| {
        text.parse::<u64>().map_err(|error| format!("{text:?} is not a number: {error}"))
    };
    match given.as_slice() {
        [seconds, ..] if number(seconds) == Ok(0) => Err("in 0 seconds nothing is seen".into()),
        [seconds] => Ok((number(seconds)?, RandomState::new().build_hasher().finish())),
        [seconds, seed] => Ok((number(seconds)?, number(seed)?)),
        _ => Err(format!("one or two arguments are expected, not {}", given.len())),
    }
}

fn main() -> ExitCode {
    let (seconds, seed) = match arguments() {
        Ok(arguments) => arguments,
        Err(message) => {
            eprintln!("{message}\nusage: soak SECONDS [SEED]");
            return ExitCode::from(2);
        }
    };
    dice::SEED.set(seed).expect("set once");
    println!("seed {seed}");
    // Whoever panics and was not asked to has found something, on whatever thread.
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !acts::is_planned(info.payload()) {
            report(info);
            eprintln!("seed {seed}, being played: {}", acts::being_played());
            process::exit(1);
        }
    }));
    soak(Duration::from_secs(seconds));
    println!("seed {seed}: all well after {} acts", acts::played());
    ExitCode::SUCCESS
}
