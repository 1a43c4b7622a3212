//! Where coroutines start: on the worker that they are placed with, and nowhere else; evenly, where that is asked for;
//! and what becomes of those that are placed with a worker that ends.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use coro::{Builder, JoinError, JoinHandle, Place, Runtime, inspect};

use crate::common::{self, Counter, Gate, assert_cancelled};
use crate::fair::{chain, everybody_gets_through};

/// The number of the worker that the caller runs on. Workers of other runtimes than [`common::runtime`]'s have none.
fn worker() -> usize {
    thread::current().name().unwrap().strip_prefix("coro-").unwrap().parse().unwrap()
}

fn placed<T: Send + 'static>(
    runtime: &Runtime,
    place: Place,
    f: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    Builder::new().place(place).spawn_on(runtime, f).unwrap()
}

/// Workers that run nothing until this is dropped.
struct Held {
    gate: Gate,
    holders: Vec<JoinHandle<()>>,
}

impl Held {
    /// Holds these workers.
    fn hold(runtime: &Runtime, workers: impl IntoIterator<Item = usize>) -> Held {
        let (gate, inside) = (Gate::default(), Counter::default());
        let hold = |worker| {
            let (gate, inside) = (gate.clone(), inside.clone());
            placed(runtime, Place::Worker(worker), move || {
                inside.add();
                gate.block();
            })
        };
        let holders: Vec<_> = workers.into_iter().map(hold).collect();
        inside.wait_for(holders.len());
        Held { gate, holders }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.gate.open();
        self.holders.drain(..).for_each(|holder| holder.join().unwrap());
    }
}

#[test]
fn runtime_place_names_and_default() {
    assert_eq!(Place::default(), Place::Stealable);
    assert_ne!(Place::Worker(0), Place::Worker(1));
    let place = Place::Worker(3);
    let copy = place;
    assert_eq!(format!("{place:?} {copy:?} {:?}", Place::Balanced), "Worker(3) Worker(3) Balanced");
}

/// Whoever places it, from wherever, and also when another worker has nothing to do.
#[test]
fn runtime_place_worker_starts_there() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, workers| {
        let other = common::runtime(2);
        for round in 0..20 {
            for target in 0..workers {
                let place = Place::Worker(target);
                let look = move || {
                    let first = worker();
                    coro::yield_now();
                    coro::sleep(Duration::ZERO);
                    assert_eq!(worker(), first, "a started one is pinned");
                    first
                };
                // From a thread, which lets the workers fall asleep now and then.
                if round == 0 {
                    thread::sleep(Duration::from_millis(20));
                }
                assert_eq!(placed(runtime, place, look).join().unwrap(), target);
                // From a coroutine of each worker, the target included.
                for from in 0..workers {
                    let spawn = move || Builder::new().place(place).spawn(look).unwrap().join();
                    let from = placed(runtime, Place::Worker(from), spawn);
                    assert_eq!(from.join().unwrap().unwrap(), target);
                }
                // From a coroutine of another runtime, and from a thread that lends itself to one.
                coro::scope(|s| {
                    let place = || placed(runtime, place, look).join().unwrap();
                    let spawner = Builder::new().spawn_scoped(s, place).unwrap();
                    assert_eq!(spawner.join().unwrap(), target);
                    let blocking = s.go(move || coro::blocking(place));
                    assert_eq!(blocking.join().unwrap(), target);
                });
                other.scope(|s| {
                    let spawner = s.go(|| placed(runtime, place, look).join().unwrap());
                    assert_eq!(spawner.join().unwrap(), target);
                });
            }
        }
    });
}

/// In a blocking call, as on a thread, it is the default runtime that has the workers.
#[test]
fn runtime_place_outside_is_on_the_default_runtime() {
    let _watchdog = common::watchdog();
    let by_thread = Builder::new().place(Place::Worker(0)).spawn(worker).unwrap();
    assert_eq!(by_thread.join().unwrap(), 0);
    let runtime = common::runtime(3);
    let by_blocking = runtime.go(|| {
        coro::blocking(|| Builder::new().place(Place::Worker(usize::MAX)).spawn(|| ()).map(drop))
    });
    assert_eq!(by_blocking.join().unwrap().unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn runtime_place_of_scoped_ones() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, workers| {
        let seen = Mutex::new(Vec::new());
        let look = || seen.lock().unwrap().push(worker());
        runtime.scope(|s| {
            for target in 0..workers {
                Builder::new().place(Place::Worker(target)).spawn_scoped(s, look).unwrap();
            }
            let refused = Builder::new().place(Place::Worker(workers)).spawn_scoped(s, look);
            assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        });
        let mut seen = seen.into_inner().unwrap();
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..workers));
    });
}

/// A clear error, and nothing is left behind.
#[test]
fn runtime_place_out_of_range_is_refused() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, workers| {
        for number in [workers, workers + 1, usize::MAX] {
            let dropped = Counter::default();
            let captured = dropped.on_drop();
            let builder = Builder::new().place(Place::Worker(number));
            let error = builder.spawn_on(runtime, move || drop(captured)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            let message = error.to_string();
            assert!(message.contains(&format!("no worker {number}:")), "{message}");
            assert!(message.contains(&format!("number of workers is {workers}")), "{message}");
            assert_eq!(dropped.get(), 1);
        }
    });
}

/// What is stealable is stolen from a worker that is held up, and what is placed there is not. It starts when the worker
/// is free, in the order of spawning.
#[test]
fn runtime_place_is_not_stolen() {
    const PLACED: usize = 100;
    let _watchdog = common::watchdog();
    let runtime = common::runtime(2);
    let held = Held::hold(&runtime, [0]);
    let order = Arc::new(Mutex::new(Vec::new()));
    let there: Vec<_> = (0..PLACED)
        .map(|n| {
            let order = Arc::clone(&order);
            placed(&runtime, Place::Worker(0), move || {
                order.lock().unwrap().push(n);
                worker()
            })
        })
        .collect();
    // The other worker has nothing to do but these, one after the other, so it looks for work again and again.
    for _ in 0..100 {
        assert_eq!(placed(&runtime, Place::Stealable, worker).join().unwrap(), 1);
    }
    assert_eq!(order.lock().unwrap().len(), 0);
    assert!(!there.iter().any(JoinHandle::is_finished));
    drop(held);
    there.into_iter().for_each(|one| assert_eq!(one.join().unwrap(), 0));
    assert!(order.lock().unwrap().iter().copied().eq(0..PLACED));
}

/// A coroutine that holds its worker spawns another: the other worker takes that.
#[test]
fn runtime_place_stealable_starts_on_whichever_is_free() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(2);
    let spawner = placed(&runtime, Place::Worker(0), || {
        let child = Builder::new().place(Place::Stealable).spawn(worker).unwrap();
        while !child.is_finished() {
            thread::yield_now();
        }
        child.join().unwrap()
    });
    assert_eq!(spawner.join().unwrap(), 1);
}

const MANY: usize = 1000;
const FOUR: usize = 4;

/// Places [`MANY`] coroutines on the caller's runtime, which has four workers, and waits until they are all there. Gives
/// the number on each worker.
fn place_many(between: impl FnOnce()) -> [usize; FOUR] {
    let counts: Arc<[Counter; FOUR]> = Arc::default();
    let all = Counter::default();
    let place = |_| {
        let (counts, all) = (Arc::clone(&counts), all.clone());
        let park = move || {
            counts[worker()].add();
            all.add();
            coro::park();
        };
        Builder::new().place(Place::Balanced).spawn(park).unwrap()
    };
    let placed: Vec<_> = (0..MANY).map(place).collect();
    between();
    all.wait_for(MANY);
    placed.iter().for_each(|one| one.handle().unpark());
    placed.into_iter().for_each(|one| one.join().unwrap());
    [0, 1, 2, 3].map(|worker| counts[worker].get())
}

/// What was placed counts before it starts: here none can, until all have been placed.
#[test]
fn runtime_place_balanced_spreads_a_burst() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(FOUR);
    for spawner in 0..FOUR {
        let held = Held::hold(&runtime, (0..FOUR).filter(|&worker| worker != spawner));
        let spawner = placed(&runtime, Place::Worker(spawner), || place_many(|| drop(held)));
        // Each of the workers had one, those that were held and that of the spawner.
        assert_eq!(spawner.join().unwrap(), [MANY / FOUR; FOUR]);
    }
}

/// And while it starts.
#[test]
fn runtime_place_balanced_spreads_while_they_start() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(FOUR);
    let counts = runtime.go(|| place_many(|| ())).join().unwrap();
    // One that is just about to start is counted neither as placed nor as started.
    let expected = MANY / FOUR - 10..=MANY / FOUR + 10;
    assert!(counts.iter().all(|count| expected.contains(count)), "{counts:?}");
}

/// Those that live on a worker count, however they came to it, and those that have ended do not.
#[test]
fn runtime_place_balanced_goes_where_the_fewest_are() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(FOUR);
    let up = Counter::default();
    let park = |worker| {
        let up = up.clone();
        placed(&runtime, Place::Worker(worker), move || {
            up.add();
            coro::park();
        })
    };
    // Two on each worker, and one on the third.
    let parked: Vec<_> = [0, 0, 1, 1, 2, 3, 3].map(park).into();
    up.wait_for(parked.len());
    for _ in 0..10 {
        assert_eq!(placed(&runtime, Place::Balanced, worker).join().unwrap(), 2);
        // `join` returns just after the end was counted, so the next is placed as this one was.
    }
    parked.iter().for_each(|one| one.handle().unpark());
    parked.into_iter().for_each(|one| one.join().unwrap());
}

/// Of workers with as many it is the caller's, and from outside the first.
#[test]
fn runtime_place_balanced_prefers_the_callers_worker() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(FOUR);
    let place = || Builder::new().place(Place::Balanced).spawn(worker).unwrap().join().unwrap();
    for caller in 0..FOUR {
        let held = Held::hold(&runtime, (0..FOUR).filter(|&worker| worker != caller));
        let caller_runs = placed(&runtime, Place::Worker(caller), place);
        assert_eq!(caller_runs.join().unwrap(), caller);
        drop(held);
    }
    let first = placed(&runtime, Place::Balanced, worker);
    assert_eq!(first.join().unwrap(), 0);
    // A worker of another runtime is no worker of this one.
    let other = common::runtime(2);
    let from_other = other.scope(|s| {
        let place = || placed(&runtime, Place::Balanced, worker).join().unwrap();
        Builder::new().place(Place::Worker(1)).spawn_scoped(s, place).unwrap().join().unwrap()
    });
    assert_eq!(from_other, 0);
}

/// Whoever runs on the worker for ever, a placed one gets its turn; and however many are placed, the others get theirs.
#[test]
fn runtime_place_starves_nobody_and_is_not_starved() {
    fn chain_of_placed(stop: Arc<AtomicBool>, place: Place) {
        if !stop.load(Ordering::Relaxed) {
            Builder::new().place(place).spawn(move || chain_of_placed(stop, place)).unwrap();
        }
    }
    fn yields(stop: Arc<AtomicBool>) {
        while !stop.load(Ordering::Relaxed) {
            coro::yield_now();
        }
    }
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, workers| {
        let get_through = || {
            for target in (0..workers).cycle().take(20) {
                assert_eq!(placed(runtime, Place::Worker(target), worker).join().unwrap(), target);
                placed(runtime, Place::Balanced, || ()).join().unwrap();
            }
        };
        let stop = Arc::new(AtomicBool::new(false));
        let mut busy = Vec::new();
        // One kind after the other, and each goes on beside the next.
        for kind in 0..4 {
            for target in (0..workers).cycle().take(2 * workers) {
                let (place, stop) = (Place::Worker(target), Arc::clone(&stop));
                busy.push(match kind {
                    0 => placed(runtime, place, move || yields(stop)),
                    1 => placed(runtime, place, move || chain(stop)),
                    2 => placed(runtime, place, move || chain_of_placed(stop, place)),
                    _ => placed(runtime, place, move || chain_of_placed(stop, Place::Balanced)),
                });
            }
            get_through();
            everybody_gets_through(runtime);
        }
        stop.store(true, Ordering::Relaxed);
        busy.into_iter().for_each(|one| one.join().unwrap());
    });
}

/// A placed one starts within four turns of its worker, whoever else the worker has. Before each of them the worker may
/// look round, if turns are slow, and start another.
#[test]
fn runtime_place_waits_for_few_turns() {
    const CHILDREN: usize = 100;
    let _watchdog = common::watchdog();
    let runtime = common::runtime(1);
    let turns = Counter::default();
    let first = runtime.go({
        let turns = turns.clone();
        move || {
            let child = |_| {
                let turns = turns.clone();
                coro::go(move || {
                    turns.add();
                    coro::yield_now();
                    turns.add();
                })
            };
            let children: Vec<_> = (0..CHILDREN).map(child).collect();
            let placed = Builder::new().place(Place::Worker(0)).spawn(move || turns.get()).unwrap();
            children.into_iter().for_each(|child| child.join().unwrap());
            placed.join().unwrap()
        }
    });
    let before = first.join().unwrap();
    assert!(before <= 3 + 4, "{before} turns of others came first");
    assert_eq!(turns.get(), 2 * CHILDREN);
}

/// When a limited shutdown gives the worker up, they are dropped, on the thread that waits for it.
#[test]
fn runtime_place_unstarted_when_a_shutdown_gives_up() {
    const EACH: usize = 50;
    let _watchdog = common::watchdog();
    for workers in common::WORKERS {
        let runtime = common::runtime(workers);
        let held = Held::hold(&runtime, 0..workers);
        let dropped = Counter::default();
        let place = |n| {
            let captured = dropped.on_drop();
            placed(&runtime, Place::Worker(n % workers), move || drop(captured))
        };
        let unstarted: Vec<_> = (0..EACH * workers).map(place).collect();
        assert_eq!(runtime.shutdown_timeout(Duration::ZERO), workers, "only those that run");
        assert_eq!(dropped.get(), EACH * workers);
        unstarted.into_iter().for_each(|one| assert_cancelled(one.join()));
        // No worker will look any more, but for one that is held.
        let late: Vec<_> = (0..workers).map(place).collect();
        late.into_iter().for_each(|one| assert_cancelled(one.join()));
        assert_eq!(dropped.get(), (EACH + 1) * workers);
        drop(held);
    }
}

/// A shutdown waits for the worker, which ends them unrun.
#[test]
fn runtime_place_unstarted_at_a_shutdown() {
    const EACH: usize = 50;
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, workers| {
        let held = Held::hold(runtime, 0..workers);
        let dropped = Counter::default();
        let place = |place| {
            let captured = dropped.on_drop();
            placed(runtime, place, move || drop(captured))
        };
        let everywhere = || (0..workers).map(Place::Worker).chain([Place::Balanced]);
        let unstarted: Vec<_> = (0..EACH).flat_map(|_| everywhere()).map(place).collect();
        thread::scope(|threads| {
            threads.spawn(|| runtime.shutdown());
            // Until the shutdown has begun, and drops what comes from outside.
            while !runtime.go(|| ()).is_finished() {
                thread::yield_now();
            }
            drop(held);
        });
        assert_eq!(dropped.get(), EACH * (workers + 1));
        unstarted.into_iter().for_each(|one| assert_cancelled(one.join()));
        for place_of in everywhere() {
            assert_cancelled(place(place_of).join());
        }
    });
}

/// Threads and coroutines place all over a runtime while it ends: each closure is run or dropped, once, and each join
/// returns.
#[test]
fn runtime_place_races_a_shutdown() {
    const ROUNDS: usize = 200;
    const THREADS: usize = 3;
    const EACH: usize = 20;
    let _watchdog = common::watchdog();
    for round in 0..ROUNDS {
        let workers = common::WORKERS[round % common::WORKERS.len()];
        let runtime = common::runtime(workers);
        let (ran, dropped, begun) = (Counter::default(), Counter::default(), Counter::default());
        // Where one of them is placed, and what it does.
        let one = {
            let (ran, dropped) = (ran.clone(), dropped.clone());
            move |n: usize| {
                let place =
                    if n.is_multiple_of(3) { Place::Balanced } else { Place::Worker(n % workers) };
                let (ran, captured) = (ran.clone(), dropped.on_drop());
                let body = move || {
                    ran.add();
                    drop(captured);
                };
                (Builder::new().place(place), body)
            }
        };
        let from_threads = |n: usize| {
            let place = |n| {
                begun.add();
                let (builder, body) = one(n);
                builder.spawn_on(&runtime, body).unwrap()
            };
            (n..n + EACH).map(place).collect::<Vec<_>>()
        };
        let placers: Vec<_> = (0..workers)
            .map(|n| {
                let (one, begun) = (one.clone(), begun.clone());
                let place = move |n| {
                    begun.add();
                    let (builder, body) = one(n);
                    builder.spawn(body).unwrap()
                };
                let place_some = move || (n..n + EACH).map(place).collect::<Vec<_>>();
                placed(&runtime, Place::Worker(n), place_some)
            })
            .collect();
        let mut all: Vec<JoinHandle<()>> = thread::scope(|threads| {
            let place_some = |n| threads.spawn(move || from_threads(n));
            let threads: Vec<_> = (0..THREADS).map(place_some).collect();
            // From one moment to another of theirs.
            begun.wait_for(round % (THREADS * EACH));
            runtime.shutdown();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        // A placer that has not begun is cancelled itself.
        all.extend(placers.into_iter().filter_map(|placer| placer.join().ok()).flatten());
        let count = all.len();
        let is_cancelled = |outcome: &Result<(), JoinError>| match outcome {
            Ok(()) => false,
            Err(JoinError::Cancelled) => true,
            Err(error) => panic!("{error}"),
        };
        let cancelled = all.into_iter().map(JoinHandle::join).filter(is_cancelled).count();
        assert_eq!(dropped.get(), count, "in round {round}");
        assert_eq!(ran.get() + cancelled, count, "in round {round}");
    }
}

/// What is placed counts as fresh until it starts or is dropped, and nothing is left in the counts.
#[test]
fn runtime_place_is_counted() {
    common::in_child("runtime_place_is_counted", common::CHILDS_LIMIT, || {
        let runtime = common::runtime(2);
        let held = Held::hold(&runtime, [0, 1]);
        let place = |n: usize| placed(&runtime, Place::Worker(n % 2), coro::park);
        let unstarted: Vec<_> = (0..10).map(place).collect();
        let metrics = inspect::metrics();
        assert_eq!((metrics.live, metrics.fresh, metrics.spawned), (12, 10, 12));
        drop(held);
        let is_parked = || inspect::metrics().parked == 10;
        while !is_parked() {
            thread::yield_now();
        }
        assert_eq!(inspect::metrics().fresh, 0);
        let held = Held::hold(&runtime, [0]);
        let never: Vec<_> = (0..5).map(|_| placed(&runtime, Place::Worker(0), || ())).collect();
        assert_eq!(inspect::metrics().fresh, 5);
        // The parked ones of the worker that is held, and the one that holds it.
        assert_eq!(runtime.shutdown_timeout(Duration::from_millis(100)), 5 + 1);
        never.into_iter().for_each(|one| assert_cancelled(one.join()));
        assert_eq!(inspect::metrics().fresh, 0);
        drop(held);
        unstarted.into_iter().for_each(|one| assert_cancelled(one.join()));
        let metrics = inspect::metrics();
        assert_eq!((metrics.live, metrics.fresh), (0, 0));
    });
}
