//! Fairness: nobody who can run waits for ever, whoever else runs; and the shapes of machine and
//! process on which that must hold: more workers than cores, one core, a storm of signals.

use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use coro::{JoinHandle, Runtime, tls};

use crate::common::{self, Counter, Gate};

/// Keeps something going until it is told to stop.
struct Busy {
    stop: Arc<AtomicBool>,
    parts: Vec<JoinHandle<()>>,
}

impl Busy {
    fn start(runtime: &Runtime, n: usize, step: fn()) -> Busy {
        let (stop, going) = (Arc::new(AtomicBool::new(false)), Counter::default());
        let parts = (0..n)
            .map(|_| {
                let (stop, going) = (Arc::clone(&stop), going.clone());
                runtime.go(move || {
                    step();
                    going.add();
                    while !stop.load(Ordering::Relaxed) {
                        step();
                    }
                })
            })
            .collect();
        // They do not starve each other either.
        going.wait_for(n);
        Busy { stop, parts }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for part in self.parts {
            part.join().unwrap();
        }
    }
}

/// All that must get through while others keep every worker busy.
pub(crate) fn everybody_gets_through(runtime: &Runtime) {
    // Fresh, from outside.
    assert_eq!(runtime.go(|| 1).join().unwrap(), 1);
    // Fresh, from inside.
    assert_eq!(runtime.go(|| coro::go(|| 2).join().unwrap()).join().unwrap(), 2);
    // Started: parked and woken from outside.
    let inside = Counter::default();
    let parked = runtime.go({
        let inside = inside.clone();
        move || {
            inside.add();
            coro::park();
        }
    });
    inside.wait_for(1);
    parked.handle().unpark();
    parked.join().unwrap();
    // Timers.
    runtime.go(|| coro::sleep(Duration::from_millis(2))).join().unwrap();
    runtime.go(|| coro::park_timeout(Duration::from_millis(2))).join().unwrap();
    // Cancelling.
    let cancelled = runtime.go(|| coro::sleep(Duration::MAX));
    cancelled.cancel();
    cancelled.join().unwrap_err();
}

#[test]
fn runtime_yielding_for_ever_starves_nobody() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, workers| {
        for n in [1, workers, 20 * workers] {
            let busy = Busy::start(runtime, n, coro::yield_now);
            everybody_gets_through(runtime);
            busy.stop();
        }
        let busy = Busy::start(runtime, 2 * workers, || coro::sleep(Duration::ZERO));
        everybody_gets_through(runtime);
        busy.stop();
    });
}

#[test]
fn runtime_spawning_for_ever_starves_nobody() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, workers| {
        let busy = Busy::start(runtime, 2 * workers, || {
            let children: Vec<_> = (0..10).map(|_| coro::go(coro::yield_now)).collect();
            children.into_iter().for_each(|child| child.join().unwrap());
        });
        everybody_gets_through(runtime);
        busy.stop();
    });
}

/// Each end starts a successor.
pub(crate) fn chain(stop: Arc<AtomicBool>) {
    if !stop.load(Ordering::Relaxed) {
        coro::go(move || chain(stop));
    }
}

/// The newest is first: the oldest must still come to its turn.
#[test]
fn runtime_a_chain_of_spawns_buries_nobody() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, workers| {
        let stop = Arc::new(AtomicBool::new(false));
        for _ in 0..2 * workers {
            let stop = Arc::clone(&stop);
            // The buried one lies under the first link of the chain, in the same queue.
            let buried = runtime.go(move || {
                let buried = coro::go(|| 3);
                coro::go(move || chain(stop));
                buried
            });
            assert_eq!(buried.join().unwrap().join().unwrap(), 3);
        }
        everybody_gets_through(runtime);
        stop.store(true, Ordering::Relaxed);
    });
}

/// Nor do coroutines that come from outside, as many as there may be.
#[test]
fn runtime_a_flood_from_outside_buries_nobody() {
    const FLOOD: usize = 10_000;
    let _watchdog = common::watchdog();
    let runtime = common::runtime(1);
    let (inside, flooded, flood) = (Counter::default(), Gate::default(), Counter::default());
    let stop = Arc::new(AtomicBool::new(false));
    let buried = runtime.go({
        let (inside, flooded, flood) = (inside.clone(), flooded.clone(), flood.clone());
        let stop = Arc::clone(&stop);
        move || {
            inside.add();
            flooded.block();
            let buried = coro::go(move || flood.get());
            coro::go(move || chain(stop));
            buried
        }
    });
    inside.wait_for(1);
    for _ in 0..FLOOD {
        let flood = flood.clone();
        runtime.go(move || flood.add());
    }
    flooded.open();
    let before = buried.join().unwrap().join().unwrap();
    stop.store(true, Ordering::Relaxed);
    assert!(before < FLOOD / 10, "{before} others were first");
}

#[test]
fn runtime_ping_pong_starves_nobody() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, workers| {
        let stop = Arc::new(AtomicBool::new(false));
        let pairs: Vec<_> = (0..workers)
            .map(|_| {
                let stop = Arc::clone(&stop);
                runtime.go(move || {
                    let me = coro::current().unwrap();
                    let other = {
                        let stop = Arc::clone(&stop);
                        coro::go(move || {
                            while !stop.load(Ordering::Relaxed) {
                                me.unpark();
                                coro::park();
                            }
                            me.unpark();
                        })
                    };
                    let control = other.handle();
                    while !stop.load(Ordering::Relaxed) {
                        control.unpark();
                        coro::park();
                    }
                    control.unpark();
                    other.join().unwrap();
                })
            })
            .collect();
        everybody_gets_through(runtime);
        stop.store(true, Ordering::Relaxed);
        for pair in pairs {
            while !pair.is_finished() {
                pair.handle().unpark();
                thread::yield_now();
            }
            pair.join().unwrap();
        }
    });
}

/// As many as there are workers, spinning for each other without a suspension: all run at once.
#[test]
fn runtime_spinning_coroutines_run_on_all_workers() {
    let _watchdog = common::watchdog();
    fn meet(arrived: &AtomicUsize, n: usize) {
        arrived.fetch_add(1, Ordering::AcqRel);
        while arrived.load(Ordering::Acquire) < n {
            thread::yield_now(); // the kernel's turn, not ours
        }
    }
    common::on_workers(|runtime, workers| {
        for round in 0..50 {
            let arrived = Arc::new(AtomicUsize::new(0));
            let spawn = move |spawn: &dyn Fn(Box<dyn FnOnce() + Send>) -> JoinHandle<()>| {
                let all: Vec<_> = (0..workers)
                    .map(|_| {
                        let arrived = Arc::clone(&arrived);
                        spawn(Box::new(move || meet(&arrived, workers)))
                    })
                    .collect();
                all.into_iter().for_each(|one| one.join().unwrap());
            };
            if round % 2 == 0 {
                spawn(&|f| runtime.go(f));
            } else {
                // From inside; the spawner is parked in `join` meanwhile.
                runtime.go(move || spawn(&|f| coro::go(f))).join().unwrap();
            }
        }
    });
}

/// A worker that is held up for long has fresh coroutines in its queue. The others take them, also
/// when they always have something else to do: within so many of their turns.
#[test]
fn runtime_busy_workers_steal_from_one_that_is_held_up() {
    const TURNS: usize = 100_000;
    let _watchdog = common::watchdog();
    let runtime = common::runtime(2);
    let ran = Counter::default();
    let (inside, both, given_up) = (Counter::default(), Gate::default(), Gate::default());
    let yielder = runtime.go({
        let (ran, inside, both) = (ran.clone(), inside.clone(), both.clone());
        let given_up = given_up.clone();
        move || {
            inside.add();
            both.block();
            // The other worker has something to be taken.
            inside.wait_for(3);
            let taken = (0..TURNS).any(|_| {
                coro::yield_now();
                ran.get() > 0
            });
            given_up.open();
            taken
        }
    });
    let held_up = runtime.go({
        let (inside, both) = (inside.clone(), both.clone());
        move || {
            inside.add();
            both.block();
            let fresh = coro::go({
                let ran = ran.clone();
                move || ran.add()
            });
            inside.add();
            while ran.get() == 0 && !given_up.is_open() {
                thread::yield_now();
            }
            fresh.join().unwrap();
        }
    });
    // Each holds a worker, so they are on two.
    inside.wait_for(2);
    both.open();
    assert!(yielder.join().unwrap(), "it has had {TURNS} turns, and has not taken the fresh one");
    held_up.join().unwrap();
}

#[test]
fn runtime_stolen_work_stays_where_it_started() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, workers| {
        let handles: Vec<_> = (0..500 * workers)
            .map(|_| {
                runtime.go(|| {
                    let thread = thread::current().id();
                    for i in 0..5 {
                        if i % 2 == 0 {
                            coro::yield_now()
                        } else {
                            coro::sleep(Duration::ZERO)
                        }
                        assert_eq!(thread::current().id(), thread, "a started one is pinned");
                    }
                    tls::set("thread", thread);
                    coro::park_timeout(Duration::from_micros(50));
                    assert_eq!(*tls::get::<thread::ThreadId>("thread").unwrap(), thread);
                    assert_eq!(thread::current().id(), thread);
                })
            })
            .collect();
        handles.into_iter().for_each(|handle| handle.join().unwrap());
    });
}

/// Who is woken by a coroutine of another worker goes on with its own.
#[test]
fn runtime_woken_by_another_worker_stays_where_it_started() {
    const ROUNDS: usize = 100;
    let _watchdog = common::watchdog();
    // Dropped at the end only: workers that have got hold of each other's coroutines, which is what
    // fails here, may not end.
    let runtime = ManuallyDrop::new(common::runtime(2));
    let (send, parked) = mpsc::channel::<coro::Handle>();
    let up = Counter::default();
    // While this one waits it holds its worker, so the next one has to start on the other.
    let wakes = runtime.go({
        let up = up.clone();
        move || {
            up.add();
            for handle in parked {
                handle.unpark();
                coro::yield_now();
            }
            thread::current().id()
        }
    });
    up.wait_for(1);
    let (tell, told) = mpsc::channel();
    let parks = runtime.go(move || {
        tell.send(thread::current().id()).unwrap();
        for _ in 0..ROUNDS {
            send.send(coro::current().unwrap()).unwrap();
            coro::park();
            tell.send(thread::current().id()).unwrap();
        }
    });
    let first = told.recv().unwrap();
    for _ in 0..ROUNDS {
        assert_eq!(told.recv().unwrap(), first, "a started one is pinned");
    }
    parks.join().unwrap();
    assert_ne!(wakes.join().unwrap(), first);
    drop(ManuallyDrop::into_inner(runtime));
}

/// A bit of everything: spawning, joining, storing, parking, timers, cancelling, panics.
fn mixed_work(runtime: &Runtime, n: usize) {
    let handles: Vec<_> = (0..n)
        .map(|i| {
            runtime.go(move || {
                tls::set("i", i);
                tls::at_exit(coro::yield_now);
                match i % 6 {
                    0 => coro::yield_now(),
                    1 => coro::sleep(Duration::from_micros(300)),
                    2 => {
                        coro::go(|| coro::park_timeout(Duration::from_micros(100))).join().unwrap()
                    }
                    3 => coro::sleep(Duration::MAX),
                    4 => common::planned("mixed work"),
                    _ => {
                        let me = coro::current().unwrap();
                        coro::go(move || me.unpark());
                        coro::park();
                    }
                }
                *tls::get::<usize>("i").unwrap()
            })
        })
        .collect();
    for (i, handle) in handles.into_iter().enumerate() {
        if i % 6 == 3 {
            handle.cancel();
        }
        match handle.join() {
            Ok(value) => assert!(value == i && !matches!(i % 6, 3 | 4)),
            Err(coro::JoinError::Cancelled) => assert_eq!(i % 6, 3),
            Err(coro::JoinError::Panicked(_)) => assert_eq!(i % 6, 4),
        }
    }
}

#[test]
fn runtime_with_four_times_as_many_workers_as_cores() {
    let _watchdog = common::watchdog();
    common::quiet();
    let cores = thread::available_parallelism().unwrap().get();
    // As many as a runtime may have, at most.
    let runtime = common::runtime((4 * cores).min(4096));
    mixed_work(&runtime, 3000);
    everybody_gets_through(&runtime);
    runtime.shutdown();
}

#[test]
fn runtime_on_one_core() {
    let _watchdog = common::watchdog();
    if common::is_child("one core") {
        common::quiet();
        // SAFETY: the set is a plain array of bits, all zero is the empty one; `sched_setaffinity`
        // reads it.
        let pinned = unsafe {
            let mut cores: libc::cpu_set_t = std::mem::zeroed();
            libc::sched_getaffinity(0, size_of_val(&cores), &raw mut cores);
            let first = (0..libc::CPU_SETSIZE as usize).find(|&cpu| libc::CPU_ISSET(cpu, &cores));
            cores = std::mem::zeroed();
            libc::CPU_SET(first.unwrap(), &mut cores);
            libc::sched_setaffinity(0, size_of_val(&cores), &raw const cores)
        };
        assert_eq!(pinned, 0);
        assert_eq!(thread::available_parallelism().unwrap().get(), 1);
        // The default runtime has one worker then.
        let threads = (0..50).map(|_| coro::go(|| thread::current().id()).join().unwrap());
        assert_eq!(threads.collect::<std::collections::HashSet<_>>().len(), 1);
        common::on_workers(|runtime, _| {
            mixed_work(runtime, 600);
            everybody_gets_through(runtime);
        });
        return;
    }
    let output = common::child("runtime_on_one_core", "one core");
    assert!(output.status.success(), "{}", common::stderr(&output));
}

/// A signal every millisecond, without SA_RESTART: every system call of ours may say EINTR.
#[test]
fn runtime_in_a_storm_of_signals() {
    let _watchdog = common::watchdog();
    static SIGNALS: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn count(_: libc::c_int) {
        SIGNALS.fetch_add(1, Ordering::Relaxed);
    }
    if common::is_child("storm") {
        common::quiet();
        let interval = libc::timeval { tv_sec: 0, tv_usec: 1000 };
        let timer = libc::itimerval { it_interval: interval, it_value: interval };
        // SAFETY: the handler does nothing but add to an atomic; both structures are ours.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = count as extern "C" fn(libc::c_int) as usize;
            assert_eq!(libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut()), 0);
            assert_eq!(
                libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()),
                0
            );
        }
        while SIGNALS.load(Ordering::Relaxed) < 1000 {
            common::on_workers(|runtime, _| {
                mixed_work(runtime, 600);
                everybody_gets_through(runtime);
                let naps: Vec<_> = (0..50)
                    .map(|i| runtime.go(move || coro::sleep(Duration::from_micros(100 * i))))
                    .collect();
                naps.into_iter().for_each(|nap| nap.join().unwrap());
            });
        }
        return;
    }
    let output = common::child("runtime_in_a_storm_of_signals", "storm");
    assert!(output.status.success(), "{:?} {}", output.status, common::stderr(&output));
}

/// How long a slow turn is: long enough for the monitor to be scheduled meanwhile, whatever else the machine does.
const SLOW: Duration = Duration::from_millis(200);

/// Computes for so long.
fn compute(time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// What a worker has to look round for is seen within two turns, also if these are long.
#[test]
fn runtime_slow_turns_hold_up_nobody() {
    let _watchdog = common::watchdog();
    // Another worker would run all but the sleeper.
    let runtime = common::runtime(1);
    let (turns, stop) = (Counter::default(), Counter::default());
    let slow = runtime.go({
        let (turns, stop) = (turns.clone(), stop.clone());
        move || {
            // The first slow turn comes when all have been quick.
            let quick = coro::go(|| (0..100_000).for_each(|_| coro::yield_now()));
            (0..100_000).for_each(|_| coro::yield_now());
            quick.join().unwrap();
            while stop.get() == 0 && !coro::is_cancelled() {
                turns.add();
                compute(SLOW);
                coro::yield_now();
            }
        }
    });
    turns.wait_for(1);
    // One in which it is spawned, and two more at most.
    let within_three_turns = |what: &str, task: JoinHandle<usize>, since: usize| {
        let until = task.join().unwrap();
        assert!(until <= since + 3, "{what}: after {} turns", until - since);
    };
    for _ in 0..2 {
        let since = turns.get();
        let seen = turns.clone();
        within_three_turns("spawned outside", runtime.go(move || seen.get()), since);
    }
    let seen = turns.clone();
    let sleeper = runtime.go(move || {
        let since = seen.get();
        coro::sleep(Duration::from_millis(1));
        seen.get() - since
    });
    within_three_turns("a sleeper", sleeper, 0);
    stop.add();
    slow.join().unwrap();
}

/// Another worker takes the only coroutine that one has spawned, if that one goes on computing.
#[test]
fn runtime_a_child_of_a_busy_coroutine_is_stolen() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(2);
    for _ in 0..50 {
        let parent = runtime.go(|| {
            let has_run = Arc::new(AtomicBool::new(false));
            let child = coro::go({
                let has_run = Arc::clone(&has_run);
                move || has_run.store(true, Ordering::Relaxed)
            });
            while !has_run.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
            child.join().unwrap();
        });
        parent.join().unwrap();
    }
}

/// What a coroutine spawns runs next on its worker, before others that are ready.
#[test]
fn runtime_a_child_that_is_joined_at_once_comes_next() {
    const OTHERS: usize = 20;
    let _watchdog = common::watchdog();
    let runtime = common::runtime(1);
    let turns = Counter::default();
    let stop = Arc::new(AtomicBool::new(false));
    let first = runtime.go({
        let (turns, stop) = (turns.clone(), Arc::clone(&stop));
        move || {
            let other = |_| {
                let (turns, stop) = (turns.clone(), Arc::clone(&stop));
                coro::go(move || {
                    while !stop.load(Ordering::Relaxed) {
                        turns.add();
                        coro::yield_now();
                    }
                })
            };
            let others: Vec<_> = (0..OTHERS).map(other).collect();
            (0..10).for_each(|_| coro::yield_now());
            let between = |_| {
                coro::yield_now();
                let before = turns.get();
                let seen = turns.clone();
                coro::go(move || seen.get()).join().unwrap() - before
            };
            let between: Vec<usize> = (0..100).map(between).collect();
            stop.store(true, Ordering::Relaxed);
            others.into_iter().for_each(|other| other.join().unwrap());
            between
        }
    });
    let between = first.join().unwrap();
    assert!(between.iter().all(|&turns| turns == 0), "turns of others came first: {between:?}");
}

/// A ready coroutine is not held up by fresh ones that compute for long, however many they are.
#[test]
fn runtime_slow_fresh_ones_hold_up_nobody() {
    const FRESH: usize = 40;
    let _watchdog = common::watchdog();
    let runtime = common::runtime(1);
    let turns = Counter::default();
    let first = runtime.go({
        let turns = turns.clone();
        move || {
            let started: Vec<_> = (0..FRESH)
                .map(|_| {
                    let turns = turns.clone();
                    // For longer than the monitor takes to see it.
                    coro::go(move || {
                        turns.add();
                        compute(Duration::from_millis(30));
                    })
                })
                .collect();
            let mut longest = 0;
            while turns.get() < FRESH {
                let before = turns.get();
                coro::yield_now();
                longest = longest.max(turns.get() - before);
            }
            started.into_iter().for_each(|one| one.join().unwrap());
            longest
        }
    });
    // Of four turns two are for who is ready, and before each of them the worker may look round and start another.
    let longest = first.join().unwrap();
    assert!(longest <= 4, "{longest} turns of others in a row");
}

/// A shutdown reaches the coroutines of a worker whose turns are slow.
#[test]
fn runtime_slow_turns_do_not_hide_a_shutdown() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(1);
    let turns = Counter::default();
    let slow = |turns: &Counter| {
        let turns = turns.clone();
        move || {
            loop {
                turns.add();
                compute(SLOW);
                coro::yield_now();
            }
        }
    };
    let tasks = [runtime.go(slow(&turns)), runtime.go(slow(&turns))];
    turns.wait_for(2);
    let since = turns.get();
    drop(runtime);
    let after = turns.get() - since;
    assert!(
        after <= 4,
        "each is cancelled at its second turn at the latest, not after {after} together"
    );
    tasks.into_iter().for_each(|task| common::assert_cancelled(task.join()));
}
