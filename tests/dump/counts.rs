//! That everybody is listed, and counted right, whatever goes on meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use coro::chan::{Receiver, Sender, bounded};
use coro::inspect::{CoroutineState, Dump, dump, stuck};
use coro::sync::{Barrier, Condvar, Mutex, Notify, Semaphore, WaitGroup};
use coro::{JoinHandle, Runtime};

use crate::{common, known};

/// What the coroutines of a crowd wait for.
struct Things {
    full: (Sender<u32>, Receiver<u32>),
    empty: (Sender<u32>, Receiver<u32>),
    locked: Mutex<()>,
    condition: (Mutex<bool>, Condvar),
    permits: Semaphore,
    barrier: Barrier,
    group: WaitGroup,
    notify: Notify,
}

macro_rules! kinds {
    ($($name:ident: |$things:ident| $wait:expr;)*) => {
        $(#[inline(never)]
        fn $name($things: &Things) {
            $wait;
            std::hint::black_box(());
        })*
        const KINDS: &[(&str, fn(&Things))] = &[$((stringify!($name), $name)),*];
    };
}

kinds! {
    waits_to_send: |things| things.full.0.send(2).unwrap();
    waits_to_receive: |things| things.empty.1.recv().unwrap_err();
    waits_for_a_lock: |things| drop(things.locked.lock());
    waits_for_a_condition: |things| {
        let mut is_true = things.condition.0.lock();
        while !*is_true {
            is_true = things.condition.1.wait(is_true);
        }
    };
    waits_for_a_permit: |things| drop(things.permits.acquire());
    waits_at_a_barrier: |things| _ = things.barrier.wait();
    waits_for_a_group: |things| things.group.wait();
    waits_for_a_notification: |things| things.notify.wait();
    waits_for_a_time: |_things| coro::sleep(Duration::from_secs(3600));
    parks: |_things| coro::park();
}

/// How many coroutines there are of each kind, in most tests.
const EACH: usize = if cfg!(debug_assertions) { 200 } else { 1_000 };

/// How many make 100,000 in all, where that does not take too long.
const MANY: usize = if cfg!(any(debug_assertions, coro_asan)) { EACH } else { 10_000 };

/// Coroutines that wait for ten kinds of things.
struct Crowd {
    coroutines: Vec<JoinHandle<()>>,
}

impl Crowd {
    /// Nobody has what they wait for. Their runtime ends by cancelling them.
    fn gather(runtime: &Runtime, each: usize) -> Crowd {
        let things = Arc::new(Things {
            full: bounded(1),
            empty: bounded(1),
            locked: Mutex::new(()),
            condition: Default::default(),
            permits: Semaphore::new(0),
            barrier: Barrier::new(usize::MAX),
            group: WaitGroup::new(),
            notify: Notify::new(),
        });
        things.full.0.send(1).unwrap();
        things.group.add(1);
        std::mem::forget(things.locked.lock());
        let spawn = |wait: fn(&Things)| {
            let things = Arc::clone(&things);
            runtime.go(move || wait(&things))
        };
        let coroutines =
            (0..each).flat_map(|_| KINDS.iter().map(|(_, wait)| spawn(*wait))).collect();
        Crowd { coroutines }
    }

    /// Checks a dump of it: ten groups at least, for a coroutine may have been noted before it has parked, with as many
    /// coroutines in all as there are, each in the group of its kind.
    #[track_caller]
    fn check(&self, dump: &Dump) {
        let parked =
            dump.groups().into_iter().filter(|group| group.state() == CoroutineState::Parked);
        let mut counts = [0; KINDS.len()];
        for group in parked {
            let names: Vec<_> = KINDS.iter().map(|(name, _)| *name).collect();
            let Some(innermost) = known(&group, &names).first().copied() else { continue };
            assert_eq!(group.frames_end(), None, "{innermost}");
            let kind = names.iter().position(|name| *name == innermost).unwrap();
            let place = |id| self.coroutines.binary_search_by_key(&id, |one| one.id()).unwrap();
            assert!(group.coroutines().iter().all(|one| place(one.id()) % KINDS.len() == kind));
            counts[kind] += group.coroutines().len();
        }
        assert_eq!(
            counts,
            [self.coroutines.len() / KINDS.len(); KINDS.len()],
            "{} are not listed",
            dump.unlisted()
        );
    }

    fn wait_until_parked(&self) {
        let is_parked = |dump: &Dump| {
            let parked =
                dump.coroutines().iter().filter(|one| one.state() == CoroutineState::Parked);
            parked.filter(|one| self.has(one.id())).count() == self.coroutines.len()
        };
        while !is_parked(&dump()) {}
    }

    fn has(&self, id: coro::tls::Id) -> bool {
        self.coroutines.binary_search_by_key(&id, |one| one.id()).is_ok()
    }

    /// A dump of it alone, by a worker that was not held up: on a busy machine the kernel may hold up any.
    fn dump(&self) -> Dump {
        loop {
            let dump = dump();
            if dump.unlisted() == 0 {
                return dump.filter(|one| self.has(one.id()));
            }
        }
    }
}

#[test]
fn dump_ten_kinds_of_waits() {
    // In a process of their own, where no other test lists so many.
    common::in_child("dump_ten_kinds_of_waits", common::CHILDS_LIMIT, || {
        let runtime = common::runtime(2);
        let crowd = Crowd::gather(&runtime, MANY);
        crowd.wait_until_parked();
        let dump = crowd.dump();
        crowd.check(&dump);
        assert_eq!(dump.groups().len(), KINDS.len(), "{dump}");
        let waits: Vec<_> = dump.groups().iter().map(|group| group.waits_for().unwrap()).collect();
        for wait in [
            "room in a channel",
            "a value from a channel",
            "a lock",
            "a condition",
            "a permit",
            "a barrier",
            "a wait group",
            "a notification",
            "sleep",
            "park",
        ] {
            assert_eq!(
                waits.iter().filter(|one| one.starts_with(wait)).count(),
                1,
                "{wait}: {waits:?}"
            );
        }
        // Their text is no longer than that of one of each.
        assert!(dump.to_string().lines().count() < 3_000);
        // From a coroutine, which lists itself as well.
        let from_inside = runtime.go(dump_and_own_id).join().unwrap();
        let (dump, id) = from_inside;
        assert_eq!(dump.coroutines().iter().filter(|one| one.id() == id).count(), 1);
        crowd.check(&dump.filter(|one| crowd.has(one.id())));
    });
}

fn dump_and_own_id() -> (Dump, coro::tls::Id) {
    loop {
        let dump = dump();
        if dump.unlisted() == 0 {
            return (dump, coro::tls::id());
        }
    }
}

/// Coroutines that have turns, that start and that end, while the others are listed.
#[test]
fn dump_under_load_misses_nobody() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(2);
    let crowd = Crowd::gather(&runtime, EACH);
    crowd.wait_until_parked();
    let is_over = Arc::new(AtomicBool::new(false));
    let turns = Arc::new(AtomicU64::new(0));
    let load: Vec<_> = (0..20)
        .map(|_| {
            let (is_over, turns) = (Arc::clone(&is_over), Arc::clone(&turns));
            runtime.go(move || {
                while !is_over.load(Ordering::Relaxed) {
                    // Each that ends has another take its place in its worker's list.
                    coro::go(coro::yield_now).join().unwrap();
                    turns.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for _ in 0..5 {
        let before = turns.load(Ordering::Relaxed);
        crowd.check(&crowd.dump());
        while turns.load(Ordering::Relaxed) == before {}
    }
    // Two at once.
    std::thread::scope(|scope| {
        let dumps: Vec<_> = (0..2).map(|_| scope.spawn(|| crowd.dump())).collect();
        dumps.into_iter().for_each(|dump| crowd.check(&dump.join().unwrap()));
    });
    is_over.store(true, Ordering::Relaxed);
    load.into_iter().for_each(|one| one.join().unwrap());
}

/// Half of the crowd ends while it is listed: whoever stays is listed once.
#[test]
fn dump_while_coroutines_end() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(2);
    let coroutines: Vec<_> = (0..EACH * KINDS.len()).map(|_| runtime.go(coro::park)).collect();
    let all = Crowd { coroutines };
    all.wait_until_parked();
    let (ending, staying): (Vec<_>, Vec<_>) =
        all.coroutines.into_iter().enumerate().partition(|(n, _)| n % 2 == 0);
    let staying = Crowd { coroutines: staying.into_iter().map(|(_, one)| one).collect() };
    let first = ending[0].1.id();
    std::thread::scope(|scope| {
        let end = scope.spawn(|| {
            for (_, one) in ending {
                one.handle().unpark();
                one.join().unwrap();
            }
        });
        while !end.is_finished() {
            let dump = dump();
            if dump.unlisted() > 0 {
                continue;
            }
            let listed: Vec<_> = dump.coroutines().iter().map(|one| one.id()).collect();
            assert!(listed.is_sorted_by(|one, other| one < other), "nobody is listed twice");
            let stays = |id| listed.binary_search(&id).is_ok();
            assert!(staying.coroutines.iter().all(|one| stays(one.id())));
        }
    });
    assert_eq!(staying.dump().len(), staying.coroutines.len());
    let ended = |id| dump().with_id(id).is_empty();
    assert!(ended(first));
}

/// The longest time, on its CPU, that a worker does not get to its next turn while it is asked.
#[test]
fn dump_holds_no_worker_for_long() {
    // In a process of their own, where no other test lists so many.
    common::in_child("dump_holds_no_worker_for_long", common::CHILDS_LIMIT, || {
        fn cpu_time() -> Duration {
            let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            // SAFETY: a live timespec.
            unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
            Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
        }
        let runtime = common::runtime(1);
        let coroutines = (0..50_000).map(|_| runtime.go(coro::park)).collect();
        let parked = Crowd { coroutines };
        parked.wait_until_parked();
        let is_over = Arc::new(AtomicBool::new(false));
        let longest = {
            let is_over = Arc::clone(&is_over);
            runtime.go(move || {
                let (mut longest, mut last) = (Duration::ZERO, cpu_time());
                while !is_over.load(Ordering::Relaxed) {
                    coro::yield_now();
                    let now = cpu_time();
                    longest = longest.max(now - last);
                    last = now;
                }
                longest
            })
        };
        (0..3).for_each(|_| assert_eq!(parked.dump().len(), parked.coroutines.len()));
        is_over.store(true, Ordering::Relaxed);
        let longest = longest.join().unwrap();
        assert!(longest < Duration::from_millis(10), "{longest:?}");
        assert!(longest > Duration::from_millis(1), "it was not asked in between: {longest:?}");
    });
}

#[test]
fn dump_names_who_is_stuck() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(1);
    let waits = Duration::from_millis(100);
    let old = runtime.go(coro::park);
    while !stuck(waits).coroutines().iter().any(|one| one.id() == old.id()) {}
    let busy = runtime.go(|| {
        let sleep = Duration::from_millis(1);
        (0..100).for_each(|_| coro::sleep(sleep));
        coro::park();
    });
    // While it has turns it is not stuck, and the time that it has been there for does not count.
    let listed = loop {
        let dump = dump();
        if dump.coroutines().iter().any(|one| one.id() == busy.id()) {
            break dump;
        }
    };
    let time_of = |dump: &Dump, id| {
        let one = dump.coroutines().iter().find(|one| one.id() == id).unwrap();
        one.parked_for()
    };
    assert!(
        time_of(&listed, busy.id()).is_none_or(|time| time < time_of(&listed, old.id()).unwrap())
    );
    let both = loop {
        let stuck = stuck(waits);
        if stuck.len() == 2 {
            break stuck;
        }
    };
    assert!(time_of(&both, old.id()) > time_of(&both, busy.id()));
    assert!(both.coroutines().iter().all(|one| one.parked_for().unwrap() > waits));
}

/// A long turn is none of the time for which a coroutine has been parked.
#[test]
fn dump_counts_no_turn_as_parked() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(1);
    let long = Duration::from_millis(300);
    let coroutine = runtime.go(move || {
        std::thread::sleep(long);
        let parked = std::time::Instant::now();
        coro::park();
        parked
    });
    let (time, seen) = loop {
        let dump = dump().with_id(coroutine.id()).in_state(CoroutineState::Parked);
        if let [one] = dump.coroutines() {
            break (one.parked_for().unwrap(), std::time::Instant::now());
        }
    };
    coroutine.handle().unpark();
    let parked = coroutine.join().unwrap();
    assert!(time <= seen - parked, "{time:?} is longer than {:?}", seen - parked);
}
