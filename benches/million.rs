//! What a million parked coroutines cost: memory, page tables, mappings; and what is left of it
//! when they have ended.
//!
//! ```sh
//! cargo bench --bench million               # 1,000,000; takes about 5 GiB of memory
//! cargo bench --bench million -- 100000
//! ```
//!
//! Each coroutine has a stack of the default size, has run, and is parked: it has touched what a
//! coroutine touches that calls nothing deep and stores nothing. The kernel's page tables are counted
//! in, because stacks that lie far apart need many of them.
//!
//! There are two lines to compare with. *Before* is the bare process, and what each coroutine costs
//! is counted from there. *Workers up* is the process with its workers, each of which has run one
//! coroutine: their threads, signal stacks and allocator arenas are some twenty mappings, however
//! few or many coroutines follow. How many mappings the coroutines add is told from both.
//!
//! Nothing is measured without an argument, so that `cargo test --all-targets` stays quick.

use std::env;
use std::fs;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use coro::{Runtime, inspect, park, yield_now};

static STARTED: AtomicUsize = AtomicUsize::new(0);

/// The memory of this process.
#[derive(Clone, Copy)]
struct Memory {
    /// KiB resident.
    resident: u64,
    /// KiB of page tables.
    tables: u64,
    mappings: usize,
}

impl Memory {
    fn now() -> Memory {
        let status = fs::read_to_string("/proc/self/status").expect("Linux shows a process itself");
        let kib = |name: &str| -> u64 {
            let line = status.lines().find(|line| line.starts_with(name));
            let number = line.and_then(|line| line.split_whitespace().nth(1));
            number.and_then(|number| number.parse().ok()).expect("a number of KiB")
        };
        let maps = fs::read_to_string("/proc/self/maps").expect("Linux shows a process itself");
        Memory { resident: kib("VmRSS:"), tables: kib("VmPTE:"), mappings: maps.lines().count() }
    }

    fn print(self, when: &str) {
        println!(
            "{when:<12} {:>10.1} MiB resident {:>8.1} MiB of page tables {:>5} mappings",
            self.resident as f64 / 1024.0,
            self.tables as f64 / 1024.0,
            self.mappings
        );
    }
}

/// A runtime of which every worker has run a coroutine.
fn warm_runtime() -> Runtime {
    let workers = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let runtime = Runtime::builder().workers(workers).build().expect("a runtime can be started");
    // A coroutine that blocks its thread leaves the next one to another worker.
    let meeting = Arc::new(Barrier::new(workers));
    let met: Vec<_> = (0..workers)
        .map(|_| {
            let meeting = Arc::clone(&meeting);
            runtime.go(move || _ = meeting.wait())
        })
        .collect();
    met.into_iter().for_each(|handle| handle.join().expect("it does not panic"));
    runtime
}

fn measure(coroutines: usize) {
    let before = Memory::now();
    before.print("before");
    let runtime = warm_runtime();
    let warm = Memory::now();
    warm.print("workers up");

    let start = Instant::now();
    let body = || {
        STARTED.fetch_add(1, Ordering::Relaxed);
        park();
    };
    let handles: Vec<_> = (0..coroutines).map(|_| runtime.go(body)).collect();
    while STARTED.load(Ordering::Relaxed) < coroutines
        || inspect::metrics().parked < coroutines as u64
    {
        yield_now();
    }
    let took = start.elapsed();
    let parked = Memory::now();
    parked.print("all parked");

    let start = Instant::now();
    handles.iter().for_each(|handle| handle.handle().unpark());
    handles.into_iter().for_each(|handle| handle.join().expect("it does not panic"));
    let ended_took = start.elapsed();
    Memory::now().print("all ended");
    // What goes back by and by has gone.
    thread::sleep(Duration::from_secs(1));
    Memory::now().print("a second on");

    let kib = (parked.resident + parked.tables).saturating_sub(before.resident + before.tables);
    println!(
        "each: {:.2} KiB, page tables included; {:.2} us to start and park, {:.2} us to end",
        kib as f64 / coroutines as f64,
        took.as_secs_f64() * 1e6 / coroutines as f64,
        ended_took.as_secs_f64() * 1e6 / coroutines as f64,
    );
    println!(
        "all: {} mappings more than with the workers up, {} more than before",
        parked.mappings.saturating_sub(warm.mappings),
        parked.mappings.saturating_sub(before.mappings),
    );
}

fn main() -> ExitCode {
    // Cargo says `--bench` where it is to measure.
    let arguments: Vec<_> = env::args().skip(1).collect();
    let number = arguments.iter().find(|argument| *argument != "--bench");
    match number.map(|number| number.parse()) {
        None if arguments.is_empty() => println!("usage: million COROUTINES"),
        None => measure(1_000_000),
        Some(Ok(coroutines)) if coroutines > 0 => measure(coroutines),
        Some(_) => {
            eprintln!("a number of coroutines is expected");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
