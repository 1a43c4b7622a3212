//! What runtimes and coroutines are made from: numbers, names and sizes, in range and out of it, the
//! environment; on which runtime `go` starts what; identities; and the counts of `inspect::metrics`.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use coro::{Builder, Runtime, inspect, tls};

use crate::common::{self, Counter, Gate};

#[track_caller]
fn assert_invalid<T>(result: io::Result<T>, says: &str) {
    let Err(error) = result else { panic!("it was accepted") };
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains(says), "{error}");
}

#[test]
fn runtime_builder_refuses_what_is_out_of_range() {
    let _watchdog = common::watchdog();
    for workers in [0, 4097, usize::MAX] {
        let says = format!("1 to 4096 workers, not {workers}");
        assert_invalid(Runtime::builder().workers(workers).build(), &says);
    }
    for size in [0, (64 << 20) + 1, usize::MAX] {
        assert_invalid(Runtime::builder().workers(1).stack_size(size).build(), "64 MiB");
        assert_invalid(Builder::new().stack_size(size).spawn(|| ()), "64 MiB");
        let runtime = common::runtime(1);
        assert_invalid(Builder::new().stack_size(size).spawn_on(&runtime, || ()), "64 MiB");
    }
    assert_invalid(Runtime::builder().thread_name("a\0b").build(), "NUL");
    // A refusal comes before anything is made.
    let capture = Counter::default();
    let local = capture.on_drop();
    Builder::new().stack_size(0).spawn(move || drop(local)).unwrap_err();
    assert_eq!(capture.get(), 1);
}

#[test]
fn runtime_builder_gives_stacks_of_the_size_asked_for() {
    let _watchdog = common::watchdog();
    common::on_workers(|_, workers| {
        for (asked, slot) in [(1, 128 << 10), (100_000, 256 << 10), (1 << 20, 2 << 20)] {
            let runtime = Runtime::builder().workers(workers).stack_size(asked).build().unwrap();
            let usable = runtime.go(|| inspect::stack_bounds().unwrap().len()).join().unwrap();
            assert!((asked..=slot - (80 << 10)).contains(&usable), "{asked}: {usable}");
            // What a coroutine starts has the runtime's size, unless it says otherwise.
            let inner = runtime.go(|| {
                let same = coro::go(|| inspect::stack_bounds().unwrap().len());
                let other = Builder::new()
                    .stack_size(1 << 20)
                    .spawn(|| inspect::stack_bounds().unwrap().len());
                (same.join().unwrap(), other.unwrap().join().unwrap())
            });
            let (same, other) = inner.join().unwrap();
            assert!(same < slot && other >= 1 << 20, "{asked}: {same} {other}");
        }
    });
}

#[test]
fn runtime_builder_names_its_threads() {
    let _watchdog = common::watchdog();
    let runtime = Runtime::builder().workers(3).thread_name(String::from("crunch")).build();
    let runtime = runtime.unwrap();
    let (inside, gate) = (Counter::default(), Gate::default());
    let names: Vec<_> = (0..3)
        .map(|_| {
            let (inside, gate) = (inside.clone(), gate.clone());
            runtime.go(move || {
                inside.add();
                gate.block();
                thread::current().name().unwrap().to_owned()
            })
        })
        .collect();
    inside.wait_for(3);
    gate.open();
    let names: HashSet<_> = names.into_iter().map(|name| name.join().unwrap()).collect();
    assert_eq!(names, ["crunch-0", "crunch-1", "crunch-2"].map(String::from).into());
    assert!(format!("{runtime:?}").contains('3'));
}

/// `go` in a coroutine starts the new one on the same runtime, through `Builder` as well.
#[test]
fn runtime_go_stays_on_its_runtime() {
    let _watchdog = common::watchdog();
    fn thread_name() -> String {
        thread::current().name().unwrap().to_owned()
    }
    let make = |name: &str| Runtime::builder().workers(2).thread_name(name).build().unwrap();
    let (left, right) = (make("left"), make("right"));
    for (runtime, name) in [(&left, "left-"), (&right, "right-")] {
        let names = runtime.go(|| {
            let inner = coro::go(thread_name).join().unwrap();
            let built = Builder::new().spawn(thread_name).unwrap().join().unwrap();
            let raw_coroutine =
                common::raw::<(), (), _>(1 << 16, |_, ()| coro::go(thread_name).join().unwrap())
                    .unwrap();
            let coro::raw::State::Done(nested) = raw_coroutine.resume(()) else { unreachable!() };
            let (send, receive) = mpsc::channel();
            tls::at_exit(move || send.send(coro::go(thread_name).join().unwrap()).unwrap());
            ([thread_name(), inner, built, nested], receive)
        });
        let (names, at_exit) = names.join().unwrap();
        assert!(names.iter().all(|found| found.starts_with(name)), "{names:?}");
        assert!(at_exit.recv().unwrap().starts_with(name));
    }
    // Elsewhere it is the default one, and a runtime can be told from outside of it.
    assert!(coro::go(thread_name).join().unwrap().starts_with("coro-"));
    let named = |runtime: &Runtime| Builder::new().name("named").spawn_on(runtime, thread_name);
    assert!(named(&left).unwrap().join().unwrap().starts_with("left-"));
    let (told, tells) = mpsc::channel();
    left.go({
        let inner = make("inner");
        move || told.send((named(&inner).unwrap().join().unwrap(), thread_name())).unwrap()
    });
    let (inner, outer) = tells.recv().unwrap();
    assert!(inner.starts_with("inner-") && outer.starts_with("left-"), "{inner} {outer}");
    let across = left.go(move || right.go(thread_name).join().unwrap()).join().unwrap();
    assert!(across.starts_with("right-"), "{across}");
}

#[test]
fn runtime_default_reads_the_environment() {
    let _watchdog = common::watchdog();
    const TEST: &str = "runtime_default_reads_the_environment";
    if common::is_child("run") {
        let names: HashSet<_> = (0..200)
            .map(|_| coro::go(|| thread::current().name().unwrap().to_owned()))
            .map(|handle| handle.join().unwrap())
            .collect();
        let all_names: HashSet<_> = (0..3).map(|i| format!("coro-{i}")).collect();
        assert!(names.is_subset(&all_names));
        // A thread gives itself its name when it begins. So all workers are held at once.
        let workers: usize = std::env::var("CORO_WORKERS").unwrap().parse().unwrap();
        let held = Arc::new(std::sync::Barrier::new(workers));
        let hold = |_| {
            let held = Arc::clone(&held);
            coro::go(move || _ = held.wait())
        };
        (0..workers)
            .map(hold)
            .collect::<Vec<_>>()
            .into_iter()
            .for_each(|task| task.join().unwrap());
        let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let names = threads.flat_map(|task| std::fs::read_to_string(task.path().join("comm")));
        println!("workers: {}", names.filter(|name| name.starts_with("coro-")).count());
        return;
    }
    let run = |value: &std::ffi::OsStr| {
        common::child_command(TEST, "run").env("CORO_WORKERS", value).output().unwrap()
    };
    for good in ["1", "3"] {
        let output = run(good.as_ref());
        assert!(output.status.success(), "{}", common::stderr(&output));
        assert!(common::stdout(&output).contains(&format!("workers: {good}\n")));
    }
    for bad in ["zero", "0", "-1", " ", " 2", "4097", "1e3", "99999999999999999999999"] {
        let output = run(bad.as_ref());
        let stderr = common::stderr(&output);
        assert_eq!(output.status.code(), Some(101), "{bad}: {stderr}");
        assert!(stderr.contains(&format!("CORO_WORKERS={bad:?}")), "{bad}: {stderr}");
        assert!(stderr.contains("a number from 1 to 4096"), "{bad}: {stderr}");
    }
    use std::os::unix::ffi::OsStrExt;
    let output = run(std::ffi::OsStr::from_bytes(b"\xff"));
    assert_eq!(output.status.code(), Some(101));
    assert!(common::stderr(&output).contains("CORO_WORKERS="));
}

/// The default stack's size, by the environment and by the program.
#[test]
fn runtime_default_stack_size() {
    let _watchdog = common::watchdog();
    const TEST: &str = "runtime_default_stack_size";
    let size = || inspect::stack_bounds().unwrap().len();
    if common::is_child("go") {
        // Whoever names a size has that.
        let named = Runtime::builder().workers(1).stack_size(1).build().unwrap();
        assert!(named.go(size).join().unwrap() < 64 << 10);
        let own = Runtime::builder().workers(1).build().unwrap();
        let sizes = (coro::go(size).join().unwrap(), own.go(size).join().unwrap());
        assert!(sizes.0.abs_diff(sizes.1) < 4 << 10, "one size for all: {sizes:?}");
        return println!("size: {}", sizes.0);
    }
    if common::is_child("code") {
        Runtime::builder().workers(1).stack_size(3 << 20).build_default().unwrap();
        assert!(coro::go(size).join().unwrap() >= 3 << 20);
        let late = Runtime::builder().build_default().unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::AlreadyExists);
        return;
    }
    if common::is_child("refused") {
        let refused = Runtime::builder().stack_size(0).build_default().unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        // That has started nothing.
        return Runtime::builder().workers(1).build_default().unwrap();
    }
    for case in ["code", "refused"] {
        let output = common::child(TEST, case);
        assert!(output.status.success(), "{case}: {output:?}");
    }
    let run = |name: &str, value: &str| {
        let mut command = common::child_command(TEST, "go");
        command.env_remove("CORO_STACK_SIZE").env_remove("RUST_MIN_STACK").env(name, value);
        command.output().unwrap()
    };
    for (name, value, least, most) in [
        ("CORO_STACK_SIZE", "1", 40 << 10, 48 << 10),
        ("CORO_STACK_SIZE", "300000", 300_000, 432 << 10),
        ("CORO_STACK_SIZE", "256K", 256 << 10, 432 << 10),
        ("CORO_STACK_SIZE", "64M", 64 << 20, 128 << 20),
        ("RUST_MIN_STACK", "1000000", 1_000_000, 2 << 20),
        ("RUST_MIN_STACK", "nonsense", 168 << 10, 176 << 10),
    ] {
        let output = run(name, value);
        assert!(output.status.success(), "{name}={value}: {output:?}");
        let stdout = common::stdout(&output);
        let (_, size) = stdout.split_once("size: ").unwrap();
        let size: usize = size.lines().next().unwrap().parse().unwrap();
        assert!((least..=most).contains(&size), "{name}={value}: {size}");
    }
    for bad in ["0", "-1", "65M", "1G", "K", "1.5M", "99999999999999999999M"] {
        let output = run("CORO_STACK_SIZE", bad);
        let stderr = common::stderr(&output);
        assert_eq!(output.status.code(), Some(101), "{bad}: {stderr}");
        assert!(stderr.contains(&format!("CORO_STACK_SIZE={bad:?}: expected")), "{bad}: {stderr}");
    }
}

/// A variable that is empty is not set. Nonsense is a panic that names variable and value, at the place
/// in the user's code.
#[test]
fn runtime_environment_empty_or_nonsense() {
    let _watchdog = common::watchdog();
    const TEST: &str = "runtime_environment_empty_or_nonsense";
    if common::is_child("go") {
        return coro::go(|| ()).join().unwrap();
    }
    if common::is_child("build") {
        Builder::new().spawn(|| ()).unwrap().join().unwrap();
        return common::runtime(1).go(|| ()).join().unwrap();
    }
    let run = |case: &str, name: &str, value: &str| {
        common::child_command(TEST, case).env(name, value).output().unwrap()
    };
    for name in ["CORO_WORKERS", "CORO_STACK_SIZE", "CORO_WATCH", "CORO_DEADLOCK", "CORO_GUARD"] {
        for case in ["go", "build"] {
            let output = run(case, name, "");
            assert!(output.status.success(), "{name}: {}", common::stderr(&output));
            let output = run(case, name, "nonsense");
            assert_eq!(output.status.code(), Some(101), "{name}");
            let stderr = common::stderr(&output);
            assert!(stderr.contains(&format!("{name}=\"nonsense\": expected")), "{stderr}");
            assert!(stderr.contains(concat!("panicked at ", file!(), ":")), "{stderr}");
        }
    }
}

/// CASES 34.
#[test]
fn runtime_ids_are_never_used_twice() {
    let _watchdog = common::watchdog();
    let mut seen = HashSet::new();
    let mut all = Vec::new();
    common::on_workers(|runtime, _| {
        // Spawned from several threads and from inside, ended and started anew, and unloaded.
        thread::scope(|threads| {
            let spawners: Vec<_> = (0..3)
                .map(|_| {
                    threads.spawn(|| {
                        let mut ids = vec![tls::id()];
                        for _ in 0..700 {
                            let handle = runtime.go(|| {
                                let first = tls::id();
                                assert_eq!(first, tls::id());
                                let inner = coro::go(tls::id).join().unwrap();
                                tls::unload();
                                let second = tls::id();
                                tls::set("key", 1);
                                tls::unload();
                                coro::yield_now();
                                [first, inner, second, tls::id()]
                            });
                            let id = handle.id();
                            let inside = handle.join().unwrap();
                            assert_eq!(inside[0], id, "the handle knows it too");
                            ids.extend(inside);
                        }
                        tls::unload();
                        ids.push(tls::id());
                        ids
                    })
                })
                .collect();
            all.extend(spawners.into_iter().flat_map(|spawner| spawner.join().unwrap()));
        });
    });
    for _ in 0..50 {
        let raw_coroutine = common::raw::<(), (), _>(1 << 16, |_, ()| tls::id()).unwrap();
        let coro::raw::State::Done(id) = raw_coroutine.resume(()) else { unreachable!() };
        all.push(id);
    }
    all.push(tls::id());
    assert_eq!(all.len(), 3 * 3 * (1 + 700 * 4 + 1) + 50 + 1);
    for id in all {
        assert_ne!(id.get(), 0);
        assert!(seen.insert(id), "{id} was used twice");
    }
}

/// While one coroutine starts others, which end on other workers, it is never counted out.
#[test]
fn runtime_metrics_hide_nobody_who_lives() {
    const TEST: &str = "runtime_metrics_hide_nobody_who_lives";
    common::in_child(TEST, common::CHILDS_LIMIT, || {
        let runtime = common::runtime(4);
        let over = Arc::new(AtomicBool::new(false));
        let says_so = Arc::clone(&over);
        let parent = runtime.go(move || {
            for _ in 0..2000 {
                let children: Vec<_> = (0..20).map(|_| coro::go(|| ())).collect();
                children.into_iter().for_each(|child| child.join().unwrap());
            }
            says_so.store(true, Release);
        });
        loop {
            let metrics = inspect::metrics();
            if over.load(Acquire) {
                break;
            }
            assert!(metrics.live > 0, "{metrics:?}");
        }
        parent.join().unwrap();
    });
}

/// Alone in a process, where the numbers are exact.
#[test]
fn runtime_metrics_count_exactly() {
    let _watchdog = common::watchdog();
    if !common::is_child("metrics") {
        let output = common::child("runtime_metrics_count_exactly", "metrics");
        assert!(output.status.success(), "{}", common::stderr(&output));
        return;
    }
    let wait_for = |what: &str, parked: u64| {
        while inspect::metrics().parked != parked {
            thread::yield_now();
        }
        assert_eq!(inspect::metrics().parked, parked, "{what}");
    };
    let mut spawned = 0;
    assert_eq!(inspect::metrics().spawned, 0);
    common::on_workers(|runtime, workers| {
        let parked: Vec<_> = (0..10).map(|_| runtime.go(coro::park)).collect();
        let sleeping: Vec<_> = (0..5).map(|_| runtime.go(|| coro::sleep(Duration::MAX))).collect();
        spawned += 15;
        wait_for("parked", 15);
        let metrics = inspect::metrics();
        assert_eq!((metrics.live, metrics.fresh, metrics.spawned), (15, 0, spawned));
        assert_eq!(metrics.stacks_in_use, 15);
        assert_eq!(metrics.stacks_in_use_bytes, 15 * (256 << 10));
        let warm = metrics.stacks_in_use + metrics.stacks_pooled - metrics.stacks_cold;
        assert_eq!(metrics.stacks_resident_bytes, warm * 4096);
        let addresses = metrics.stacks_in_use_bytes + metrics.stacks_pooled_bytes;
        assert!(metrics.stacks_reserved_bytes >= addresses);

        let occupied = common::occupy(runtime, workers);
        let fresh: Vec<_> = (0..20).map(|_| runtime.go(|| ())).collect();
        spawned += 20 + workers as u64;
        let metrics = inspect::metrics();
        assert_eq!((metrics.live, metrics.fresh), (35 + workers as u64, 20));
        fresh.iter().take(7).for_each(coro::JoinHandle::cancel);
        drop(occupied);
        for (i, handle) in fresh.into_iter().enumerate() {
            assert_eq!(handle.join().is_ok(), i >= 7);
        }

        parked.iter().for_each(|handle| handle.handle().unpark());
        parked.into_iter().for_each(|handle| handle.join().unwrap());
        wait_for("sleeping", 5);
        assert_eq!(inspect::metrics().live, 5);
        sleeping.iter().for_each(coro::JoinHandle::cancel);
        sleeping.into_iter().for_each(|handle| assert!(handle.join().is_err()));
        let metrics = inspect::metrics();
        assert_eq!((metrics.live, metrics.fresh, metrics.parked), (0, 0, 0));
        assert_eq!(metrics.spawned, spawned);
    });
    let metrics = inspect::metrics();
    assert_eq!((metrics.live, metrics.stacks_in_use), (0, 0));
    assert!(metrics.stacks_pooled > 0, "stacks are kept for the next");
}

/// Each stack has as many bytes for the coroutine's frames as were asked for, where its slot has none to spare.
#[test]
#[cfg_attr(coro_asan, ignore = "AddressSanitizer's frames are larger")]
fn runtime_builder_stack_size_counts_usable_bytes() {
    let _watchdog = common::watchdog();
    const TEST: &str = "runtime_builder_stack_size_counts_usable_bytes";
    if common::is_child("backtrace") {
        let panics = Builder::new().stack_size(1).spawn(|| panic!("with a backtrace"));
        assert!(panics.unwrap().join().unwrap_err().is_panic());
        return;
    }
    let output = common::child_command(TEST, "backtrace").env("RUST_BACKTRACE", "1").output();
    assert!(output.as_ref().unwrap().status.success(), "{output:?}");
    for size in [40, 168, 424].map(|kib| kib << 10) {
        let measure = || {
            let here = 0u8;
            (&raw const here).addr() - inspect::stack_bounds().unwrap().start
        };
        let raw = common::raw::<(), (), _>(size, move |_, ()| measure()).unwrap();
        let coro::raw::State::Done(left) = raw.resume(()) else { unreachable!() };
        assert!(left >= size, "{left} of {size}");
        // As many as there are colours, all at once.
        let (arrived, gate) = (Counter::default(), Gate::default());
        let spawn = || {
            let (arrived, gate) = (arrived.clone(), gate.clone());
            let wait = move || {
                arrived.add();
                gate.pass();
                measure()
            };
            Builder::new().stack_size(size).spawn(wait).unwrap()
        };
        let tasks: Vec<_> = (0..16).map(|_| spawn()).collect();
        arrived.wait_for(16);
        gate.open();
        for task in tasks {
            let left = task.join().unwrap();
            assert!((size..size + (8 << 10)).contains(&left), "{left} of {size}");
        }
    }
}
