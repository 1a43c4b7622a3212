//! What the parts cost: the table of costs in the README, row by row.
//!
//! ```sh
//! cargo bench --bench core                  # all, in about two minutes
//! cargo bench --bench core -- storage       # the rows of one group
//! ```
//!
//! A figure of one machine says little about another, so each group has beside it what it is to be
//! compared with, measured in the same run: a thread-local variable for storage, corosensei alone for
//! the switch, an operating system thread for a coroutine.
//!
//! Everything but the bare switch runs inside a coroutine, on a runtime with as many workers as the
//! row says. The time is taken in there too, so that waking a worker up is not part of it.

mod common;

use std::cell::{Cell, UnsafeCell};
use std::future;
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::thread;
use std::time::Duration;

use coro::{Runtime, go, raw, tls, wait};
use corosensei::stack::{Stack, StackPointer};
use criterion::{Bencher, Criterion, Throughput};

use common::channels::{pass, rendezvous};
use common::coroutines::{batches, hand_over, ping_pong, scopes, skynet, sleeper, yields};
use common::locks::*;
use common::storage::*;
use common::timed;

/// The number of coroutines in a batch, and in a round of the load.
const BATCH: u64 = 100_000;

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().expect("a runtime can be started")
}

/// Has `body` do something so many times, in a coroutine, and say how long that took.
fn inside(bencher: &mut Bencher, runtime: &Runtime, body: fn(u64) -> Duration) {
    bencher.iter_custom(|times| {
        runtime.go(move || body(times)).join().expect("a benchmark does not panic")
    });
}

fn storage(c: &mut Criterion) {
    let one = runtime(1);
    let mut group = c.benchmark_group("storage");
    group.bench_function("nothing, the call alone", |b| {
        inside(b, &one, |times| timed(times, || _ = call_nothing()));
    });
    group.bench_function("thread_local! const Cell", |b| {
        inside(b, &one, |times| {
            THREAD_LOCAL.set(black_box(7));
            timed(times, || _ = read_thread_local())
        });
    });
    group.bench_function("tls::id", |b| {
        inside(b, &one, |times| timed(times, || _ = read_id()));
    });
    group.bench_function("local! with", |b| {
        inside(b, &one, |times| {
            CORO_LOCAL.set(black_box(7));
            timed(times, || _ = read_coro_local())
        });
    });
    group.bench_function("tls::get, key a type", |b| {
        inside(b, &one, |times| {
            tls::set(Slot, 7u64);
            timed(times, || _ = get_by_type())
        });
    });
    group.bench_function("tls::get, key a &str", |b| {
        inside(b, &one, |times| {
            tls::set("slot", 7u64);
            timed(times, || _ = get_by_str())
        });
    });
    group.bench_function("tls::set of an existing key, a type", |b| {
        inside(b, &one, |times| {
            tls::set(Slot, 7u64);
            timed(times, || set_by_type(black_box(8)))
        });
    });
    group.bench_function("tls::set of an existing key, a &str", |b| {
        inside(b, &one, |times| {
            tls::set("slot", 7u64);
            timed(times, || set_by_str(black_box(8)))
        });
    });
    group.finish();
}

/// A stack for corosensei by itself: a piece of ordinary memory, as large as our default slot.
struct Plain(Box<UnsafeCell<[Line; Plain::LINES]>>);

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[expect(dead_code, reason = "it is there to be written over")] [u8; 64]);

impl Plain {
    const LINES: usize = (256 << 10) / size_of::<Line>();

    fn new() -> Plain {
        Plain(Box::new(UnsafeCell::new([Line([0; 64]); Plain::LINES])))
    }

    fn address(&self, line: usize) -> StackPointer {
        let address = self.0.get().expose_provenance() + line * size_of::<Line>();
        NonZeroUsize::new(address).expect("memory is not at 0")
    }
}

// SAFETY: the memory is readable, writable, and aligned to 64 bytes; it stays where it is for as
// long as `self` does; and a benchmark that suspends in a loop does not come near the end that has
// no guard.
unsafe impl Stack for Plain {
    fn base(&self) -> StackPointer {
        self.address(Plain::LINES)
    }

    fn limit(&self) -> StackPointer {
        self.address(0)
    }
}

fn switch(c: &mut Criterion) {
    let mut group = c.benchmark_group("switch");
    group.bench_function("corosensei alone, resume + suspend", |b| {
        let stop = Cell::new(false);
        let mut bare = corosensei::Coroutine::<bool, (), (), _>::with_stack(
            Plain::new(),
            |yielder, mut go_on| {
                while go_on {
                    go_on = yielder.suspend(());
                }
            },
        );
        b.iter(|| _ = black_box(bare.resume(!stop.get())));
        stop.set(true);
        bare.resume(!stop.get());
    });
    group.bench_function("raw::Coroutine, resume + suspend", |b| {
        let body = |yielder: &raw::Yielder<bool, ()>, mut go_on| {
            while go_on {
                go_on = yielder.suspend(());
            }
        };
        let resumes = |ours: &raw::Coroutine<bool, (), ()>| {
            let stop = Cell::new(false);
            b.iter(|| _ = black_box(ours.resume(!stop.get())));
            stop.set(true);
            ours.resume(!stop.get());
        };
        raw::with(256 << 10, body, resumes).expect("there is a stack");
    });
    group.finish();
}

fn spawn(c: &mut Criterion) {
    let one = runtime(1);
    let mut group = c.benchmark_group("spawn");
    group.bench_function("go + join", |b| {
        inside(b, &one, |times| timed(times, || _ = go(|| ()).join()));
    });
    group.bench_function("go + join, one set and one at_exit", |b| {
        inside(b, &one, |times| {
            timed(times, || {
                let body = || {
                    tls::set(Slot, 7u64);
                    tls::at_exit(|| _ = black_box(0));
                };
                _ = go(body).join();
            })
        });
    });
    group.bench_function("std::thread::spawn + join", |b| {
        b.iter(|| _ = thread::spawn(|| ()).join());
    });
    group.sample_size(20).throughput(Throughput::Elements(BATCH));
    group.bench_function("go in batches of 100,000, 1 worker", |b| {
        inside(b, &one, |times| batches(times, BATCH, || 0));
    });
    group.finish();
}

fn yielding(c: &mut Criterion) {
    let one = runtime(1);
    let mut group = c.benchmark_group("yield");
    group.bench_function("yield_now among 2", |b| {
        inside(b, &one, |times| yields(2, times));
    });
    group.bench_function("yield_now among 100", |b| {
        inside(b, &one, |times| yields(100, times));
    });
    group.bench_function("yield_now among 1,000", |b| {
        inside(b, &one, |times| yields(1000, times));
    });
    group.bench_function("yield_now among 10,000", |b| {
        inside(b, &one, |times| yields(10_000, times));
    });
    group.bench_function("yield_now among 100,000", |b| {
        inside(b, &one, |times| yields(100_000, times));
    });
    group.finish();
}

fn load(c: &mut Criterion) {
    let mut group = c.benchmark_group("load");
    group.sample_size(20).throughput(Throughput::Elements(BATCH));
    for workers in [1, 2] {
        let runtime = runtime(workers);
        group.bench_function(format!("a round of 100,000, {workers} workers"), |b| {
            inside(b, &runtime, |times| batches(times, BATCH, forty_operations));
        });
    }
    group.finish();
}

fn waiting(c: &mut Criterion) {
    let one = runtime(1);
    let mut group = c.benchmark_group("waiting");
    group.bench_function("park and unpark, a round trip of two", |b| {
        inside(b, &one, ping_pong);
    });
    group.bench_function("wait on a future that is ready", |b| {
        inside(b, &one, |times| timed(times, || _ = black_box(wait(future::ready(black_box(1))))));
    });
    group.bench_function("unpark, wait on a oneshot channel", |b| {
        inside(b, &one, hand_over);
    });
    group.finish();
}

fn handing_over(c: &mut Criterion) {
    let mut group = c.benchmark_group("channels");
    for workers in [1, 2] {
        let runtime = runtime(workers);
        group.bench_function(format!("a rendezvous and back, {workers} workers"), |b| {
            inside(b, &runtime, rendezvous);
        });
        group.bench_function(format!("bounded(1024), one to one, {workers} workers"), |b| {
            inside(b, &runtime, |times| pass(times, 1024, 1));
        });
        group.bench_function(format!("bounded(1024), four to four, {workers} workers"), |b| {
            inside(b, &runtime, |times| pass(times, 1024, 4));
        });
    }
    group.finish();
}

fn locks(c: &mut Criterion) {
    let (one, two) = (runtime(1), runtime(2));
    let mut group = c.benchmark_group("locks");
    group.bench_function("parking_lot::Mutex, lock + unlock", |b| {
        inside(b, &one, |times| timed(times, lock_parking_lot));
    });
    group.bench_function("std::sync::Mutex, lock + unlock", |b| {
        inside(b, &one, |times| timed(times, lock_std));
    });
    group.bench_function("Mutex, lock + unlock", |b| {
        inside(b, &one, |times| timed(times, lock_coro));
    });
    group.bench_function("RwLock, write + unlock", |b| {
        inside(b, &one, |times| timed(times, write_coro));
    });
    group.bench_function("Semaphore, acquire + release", |b| {
        inside(b, &one, |times| timed(times, acquire_coro));
    });
    group.bench_function("Mutex, 4 coroutines, 2 workers", |b| {
        inside(b, &two, |times| contended(times, 4));
    });
    group.finish();
}

fn crowds(c: &mut Criterion) {
    /// Children of a scope.
    const CHILDREN: u64 = 10_000;
    /// Leaves of the tree.
    const LEAVES: u64 = 1_000_000;

    let (one, two) = (runtime(1), runtime(2));
    let mut group = c.benchmark_group("crowds");
    group.sample_size(10).throughput(Throughput::Elements(CHILDREN));
    group.bench_function("scope of 10,000 children, 1 worker", |b| {
        inside(b, &one, |times| scopes(times, CHILDREN));
    });
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("100,000 sleepers of 1 ms, 2 workers", |b| {
        inside(b, &two, |times| batches(times, BATCH, sleeper));
    });
    group.throughput(Throughput::Elements(LEAVES));
    group.bench_function("skynet of 1,000,000, 2 workers", |b| {
        inside(b, &two, |times| timed(times, || _ = black_box(skynet(0, LEAVES))));
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    storage(&mut criterion);
    switch(&mut criterion);
    spawn(&mut criterion);
    yielding(&mut criterion);
    waiting(&mut criterion);
    handing_over(&mut criterion);
    locks(&mut criterion);
    crowds(&mut criterion);
    load(&mut criterion);
    criterion.final_summary();
}
