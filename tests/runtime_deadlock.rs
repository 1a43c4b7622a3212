//! `CORO_DEADLOCK=report`: where nothing can ever happen again there is one report that lists everybody,
//! and where something can there is none.
//!
//! The report counts the threads of the process, and the test harness has some of its own. So a child
//! runs its case on the main thread and before the harness begins: from a constructor of the program.

mod common;

use std::collections::BTreeSet;
use std::future::pending;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{FromRawFd, OwnedFd};
use std::panic::Location;
use std::process::{ChildStderr, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use coro::sync::{Barrier, Condvar, Mutex, Notify, OnceLock, RwLock, Semaphore, WaitGroup};
use coro::{Builder, Handle, JoinHandle, JoinSet, Runtime};

use common::{Counter, Gate};

const SHORT: Duration = Duration::from_millis(5);

#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = {
    extern "C" fn before_main() {
        let Some(case) = common::child_case() else { return };
        let (_, run) = CASES.iter().find(|(name, _)| *name == case).expect("a case");
        run();
        eprintln!("over");
        std::process::exit(0);
    }
    before_main
};

/// What a child may run.
const CASES: [(&str, fn()); 21] = [
    ("every reason", every_reason),
    ("every lock", every_lock),
    ("in a scope", in_a_scope),
    ("two join", two_join),
    ("one joins another", one_joins_another),
    ("watched", watched),
    ("default", default_runtime),
    ("with a thread for dumps", with_a_thread_for_dumps),
    ("with a thread for clients", with_a_thread_for_clients),
    ("a timer", a_timer),
    ("a descriptor", a_descriptor),
    ("a thread", a_thread),
    ("a timeout around the join", a_timeout_around_the_join),
    ("two runtimes", two_runtimes),
    ("a blocking call", a_blocking_call),
    ("it ends", it_ends),
    ("again", again),
    ("a thread ends", a_thread_ends),
    ("a thread receives", a_thread_receives),
    ("in a panic", in_a_panic),
    ("no stack", no_stack),
];

// What the children run.

/// Tells what a line of the report is to say.
fn expect(handle: &Handle, line: u32, waits_for: &str) {
    let name = handle.name().map(|name| format!(" '{name}'")).unwrap_or_default();
    let file = Location::caller().file();
    let id = handle.id();
    common::say(format_args!(
        "expect: coroutine {id}{name}, spawned at {file}:{line}: {waits_for}"
    ));
}

fn park_forever() {
    loop {
        coro::park();
    }
}

fn every_reason() {
    let runtime = common::runtime(1);
    let parks = runtime.go(park_forever);
    expect(&parks.handle(), line!() - 1, "park");
    let sleeps = runtime.go(|| coro::sleep(Duration::MAX));
    expect(&sleeps.handle(), line!() - 1, "sleep");
    let waits = runtime.go(|| coro::wait(pending::<()>()));
    expect(&waits.handle(), line!() - 1, "a future");
    let ticks = runtime.go(|| coro::interval(Duration::MAX).tick());
    expect(&ticks.handle(), line!() - 1, "sleep");
    let (sender, receiver) = coro::chan::bounded::<()>(0);
    let made = line!() - 1;
    let receives = runtime.go(move || receiver.recv());
    let reason = format!("a value from a channel made at tests/runtime_deadlock.rs:{made}:30");
    expect(&receives.handle(), line!() - 2, &reason);
    let (full, _unused) = coro::chan::bounded::<()>(0);
    let made = line!() - 1;
    let sends = runtime.go(move || full.send(()));
    let reason = format!("room in a channel made at tests/runtime_deadlock.rs:{made}:27");
    expect(&sends.handle(), line!() - 2, &reason);
    let (_nobody_sends, never) = coro::chan::bounded::<()>(0);
    let line = line!() + 1;
    let chooses = runtime.go(move || {
        coro::select! { recv(never) -> _ => () }
    });
    let reason = format!("a select at tests/runtime_deadlock.rs:{}:9", line + 1);
    expect(&chooses.handle(), line, &reason);
    let named = runtime.go(|| Builder::new().name("with a name").spawn(park_forever).unwrap());
    let line = line!() - 1;
    let named = named.join().unwrap();
    expect(&named.handle(), line, "park");
    let scopes = runtime.go(|| {
        coro::scope(|s| {
            let child = s.go(park_forever);
            expect(&child.handle(), line!() - 1, "park");
        });
    });
    expect(&scopes.handle(), line!() - 6, "the end of its scope's coroutines");
    let (of, id) = (parks.handle(), parks.id());
    let joins = runtime.go(|| parks.join());
    expect(&joins.handle(), line!() - 1, &format!("the end of coroutine {id}"));
    let raw_coroutine = runtime.go(|| {
        let run = |_: &coro::raw::Yielder<(), ()>, ()| park_forever();
        common::raw(65536, run).unwrap().resume(());
    });
    expect(&raw_coroutine.handle(), line!() - 4, "park");
    let members = runtime.go(|| {
        let mut set = JoinSet::new();
        set.spawn(park_forever);
        set.join_next();
    });
    // Its member is not known here; the line that is expected is that of the set's owner.
    expect(&members.handle(), line!() - 6, "a future");
    let _ = named.join();
    unreachable!("{of:?} is parked for ever, and {sender:?} is there");
}

/// Spawns what waits in something that was made so many lines before, at this column; tells what the report is to say.
macro_rules! waits_in {
    ($runtime:ident, $what:literal, $lines:literal, $column:literal, $held:expr, $wait:expr) => {{
        let task = $runtime.go($wait);
        let (file, line) = (file!(), line!() - $lines);
        let reason = format!("{} made at {file}:{line}:{}{}", $what, $column, $held);
        expect(&task.handle(), line!(), &reason);
    }};
}

fn every_lock() {
    let runtime = common::runtime(1);
    static MUTEX: Mutex<()> = Mutex::new(());
    static RW_LOCK: RwLock<()> = RwLock::new(());
    let holder = runtime.go(|| {
        let _both = (MUTEX.lock(), RW_LOCK.write());
        park_forever();
    });
    expect(&holder.handle(), line!() - 4, "park");
    while RW_LOCK.try_read().is_some() {
        thread::yield_now();
    }
    let held = format!(", held by coroutine {}", holder.id());
    waits_in!(runtime, "a lock", 11, 31, held, || drop(MUTEX.lock()));
    waits_in!(runtime, "a lock", 11, 34, held, || drop(RW_LOCK.read()));
    waits_in!(runtime, "a lock", 12, 34, held, || drop(RW_LOCK.write()));
    static CONDVAR: Condvar = Condvar::new();
    static OTHER: Mutex<()> = Mutex::new(());
    waits_in!(runtime, "a condition", 2, 31, "", || drop(CONDVAR.wait(OTHER.lock())));
    static SEMAPHORE: Semaphore = Semaphore::new(0);
    waits_in!(runtime, "a permit", 1, 35, "", || drop(SEMAPHORE.acquire()));
    static BARRIER: Barrier = Barrier::new(2);
    waits_in!(runtime, "a barrier", 1, 31, "", || BARRIER.wait().is_leader());
    static ONCE: OnceLock<u8> = OnceLock::new();
    waits_in!(runtime, "the value of a OnceLock", 1, 33, "", || *ONCE.wait());
    static GROUP: WaitGroup = WaitGroup::new();
    GROUP.add(1);
    waits_in!(runtime, "a wait group", 2, 31, "", || GROUP.wait());
    static NOTIFY: Notify = Notify::new();
    waits_in!(runtime, "a notification", 1, 29, "", || NOTIFY.wait());
    // A lock that a thread holds.
    static THREADS: Mutex<()> = Mutex::new(());
    let _held = THREADS.lock();
    waits_in!(runtime, "a lock", 2, 33, "", || drop(THREADS.lock()));
    let _ = holder.join();
}

fn in_a_scope() {
    let runtime = common::runtime(2);
    let outer = runtime.go(|| coro::scope(|s| drop(s.go(park_forever))));
    expect(&outer.handle(), line!() - 1, "the end of its scope's coroutines");
    let _ = outer.join();
}

/// The main thread and another, both in a join, and two workers.
fn two_join() {
    let runtime = Arc::new(common::runtime(2));
    let parked: Vec<_> = (0..2).map(|_| runtime.go(park_forever)).collect();
    for parked in &parked {
        expect(&parked.handle(), line!() - 2, "park");
    }
    let mut parked = parked.into_iter();
    let other = parked.next().unwrap();
    thread::spawn(move || other.join());
    let _ = parked.next().unwrap().join();
}

fn one_joins_another() {
    let runtime = common::runtime(2);
    // A ring: each waits for the next.
    let (sender, receiver) = std::sync::mpsc::channel::<JoinHandle<()>>();
    let first = runtime.go(move || drop(receiver.recv().unwrap().join()));
    let line = line!() - 1;
    let (control, id) = (first.handle(), first.id());
    let second = runtime.go(move || drop(first.join()));
    expect(&second.handle(), line!() - 1, &format!("the end of coroutine {id}"));
    expect(&control, line, &format!("the end of coroutine {}", second.id()));
    let watches = runtime.go(park_forever);
    expect(&watches.handle(), line!() - 1, "park");
    sender.send(second).unwrap();
    let _ = watches.join();
}

fn watched() {
    let runtime = Runtime::builder().workers(1).watch(Duration::from_secs(60)).build().unwrap();
    let parked = runtime.go(park_forever);
    expect(&parked.handle(), line!() - 1, "park");
    let _ = parked.join();
}

fn default_runtime() {
    let parked = coro::go(park_forever);
    expect(&parked.handle(), line!() - 1, "park");
    let _ = parked.join();
}

/// A thread that waits for signals, and wakes nobody.
fn with_a_thread_for_dumps() {
    // SAFETY: before main there is no other thread.
    unsafe { std::env::set_var("CORO_DUMP", "SIGUSR1") };
    default_runtime();
}

/// A thread that waits for clients, and wakes nobody.
fn with_a_thread_for_clients() {
    let path = std::env::temp_dir().join(format!("coro-deadlock-{}", std::process::id()));
    // SAFETY: before main there is no other thread.
    unsafe { std::env::set_var("CORO_INSPECT", &path) };
    coro::go(|| ()).join().unwrap();
    // This process is killed. The thread stays without the file.
    std::fs::remove_file(path).unwrap();
    default_runtime();
}

fn a_timer() {
    let runtime = common::runtime(2);
    let parked = runtime.go(coro::park);
    let handle = parked.handle();
    runtime.go(move || {
        coro::sleep(20 * SHORT);
        handle.unpark();
    });
    parked.join().unwrap();
    let limited = runtime.go(|| coro::timeout(20 * SHORT, park_forever));
    limited.join().unwrap().unwrap_err();
}

/// A descriptor that becomes ready by itself.
fn a_descriptor() {
    let runtime = common::runtime(2);
    let after = libc::timespec { tv_sec: 0, tv_nsec: 20 * SHORT.as_nanos() as i64 };
    let never = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let once = libc::itimerspec { it_interval: never, it_value: after };
    // SAFETY: numbers, and a live local; the descriptor is new.
    let timer = unsafe {
        let timer = libc::timerfd_create(libc::CLOCK_MONOTONIC, 0);
        assert_eq!(libc::timerfd_settime(timer, 0, &raw const once, std::ptr::null_mut()), 0);
        OwnedFd::from_raw_fd(timer)
    };
    runtime.go(move || coro::io::wait_readable(&timer)).join().unwrap().unwrap();
}

/// A thread that waits until all are asleep, and then wakes one.
fn a_thread() {
    let runtime = common::runtime(2);
    let parked = runtime.go(coro::park);
    let handle = parked.handle();
    let waker = thread::spawn(move || {
        while threads_asleep() < 3 {
            thread::yield_now();
        }
        thread::sleep(SHORT);
        handle.unpark();
    });
    parked.join().unwrap();
    waker.join().unwrap();
}

/// How many threads of the process sleep in the kernel.
fn threads_asleep() -> usize {
    let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let stats = threads.flat_map(|thread| std::fs::read_to_string(thread.path().join("stat")));
    stats.filter(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" S"))).count()
}

/// The thread that joins has a limit, and wakes the others when that is over.
fn a_timeout_around_the_join() {
    let runtime = common::runtime(2);
    let parked = runtime.go(coro::park);
    let handle = parked.handle();
    coro::timeout(20 * SHORT, || parked.join()).unwrap_err();
    handle.unpark();
    while !handle.is_finished() {
        thread::yield_now();
    }
    // And a runtime that comes later has nothing to add.
    runtime.shutdown();
    drop(runtime);
    let later = common::runtime(1);
    let parked = later.go(coro::park);
    let handle = parked.handle();
    later.go(move || {
        coro::sleep(SHORT);
        handle.unpark();
    });
    parked.join().unwrap();
}

fn two_runtimes() {
    let (first, second) = (common::runtime(1), common::runtime(1));
    let parked = first.go(coro::park);
    let handle = parked.handle();
    second.go(move || {
        coro::sleep(20 * SHORT);
        handle.unpark();
    });
    parked.join().unwrap();
}

fn a_blocking_call() {
    let runtime = common::runtime(1);
    let called = runtime.go(|| coro::blocking(|| thread::sleep(20 * SHORT)));
    called.join().unwrap();
}

/// Everybody is asleep again and again, and each time somebody is about to wake them.
fn it_ends() {
    let runtime = common::runtime(2);
    for _ in 0..200 {
        let (gate, begun) = (Gate::default(), Counter::default());
        let passes = runtime.go({
            let (gate, begun) = (gate.clone(), begun.clone());
            move || {
                begun.add();
                while !gate.is_open() {
                    coro::park();
                }
            }
        });
        let handle = passes.handle();
        let opener = runtime.go(move || {
            begun.wait_for(1);
            gate.open();
            handle.unpark();
        });
        passes.join().unwrap();
        opener.join().unwrap();
    }
}

/// One report is all there is, though a second thread comes to wait.
fn again() {
    let runtime = Arc::new(common::runtime(1));
    let parked: Vec<_> = (0..2).map(|_| runtime.go(park_forever)).collect();
    for parked in &parked {
        expect(&parked.handle(), line!() - 2, "park");
    }
    let mut parked = parked.into_iter();
    let (first, second) = (parked.next().unwrap(), parked.next().unwrap());
    let joins = thread::spawn(move || first.join());
    // While this thread is no joiner it may wake somebody, so there is no report yet.
    while threads_asleep() < 2 {
        thread::yield_now();
    }
    let _ = second.join();
    let _ = joins.join();
}

/// A thread that could wake somebody ends when everybody else has long been asleep.
fn a_thread_ends() {
    let runtime = common::runtime(1);
    let parked = runtime.go(park_forever);
    expect(&parked.handle(), line!() - 1, "park");
    let handle = parked.handle();
    thread::spawn(move || {
        thread::sleep(100 * SHORT);
        drop(handle);
    });
    let _ = parked.join();
}

/// Threads that wait for coroutines in anything of ours count as waiting: in a channel, in a lock.
fn a_thread_receives() {
    let runtime = common::runtime(1);
    let (sender, receiver) = coro::chan::bounded::<()>(0);
    let lock = Arc::new(coro::sync::Mutex::new(()));
    let held = Arc::clone(&lock);
    let holds = runtime.go(move || {
        let _held = held.lock();
        let _sender = sender;
        park_forever();
    });
    expect(&holds.handle(), line!() - 5, "park");
    while !lock.is_locked() {
        thread::yield_now();
    }
    thread::spawn(move || drop(lock.lock()));
    let _ = receiver.recv();
}

/// The thread that lends what moving panics takes is the library's own, and wakes nobody.
fn in_a_panic() {
    struct Parks;
    impl Drop for Parks {
        fn drop(&mut self) {
            park_forever();
        }
    }
    let runtime = common::runtime(1);
    let unwinds = runtime.go(|| {
        let _parks = Parks;
        std::panic::resume_unwind(Box::new(1))
    });
    expect(&unwinds.handle(), line!() - 4, "park");
    let _: Result<(), _> = unwinds.join();
}

/// Two have the only stacks of their size, and two wait for one.
fn no_stack() {
    let limit = libc::rlimit { rlim_cur: 2 << 30, rlim_max: 2 << 30 };
    // SAFETY: changes this process alone.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }, 0);
    let runtime = common::runtime(2);
    let up = Counter::default();
    let spawn = {
        let up = up.clone();
        move || {
            let park = move || {
                up.add();
                park_forever();
            };
            Builder::new().stack_size(31 << 20).spawn(park).unwrap()
        }
    };
    let line = line!() - 3;
    let parked: Vec<_> = (0..2).map(|_| runtime.go(spawn.clone()).join().unwrap()).collect();
    up.wait_for(2);
    parked.iter().for_each(|parked| expect(&parked.handle(), line, "park"));
    let waiting: Vec<_> = (0..2).map(|_| runtime.go(spawn.clone()).join().unwrap()).collect();
    waiting.iter().for_each(|waiting| expect(&waiting.handle(), line, "a stack"));
    for waiting in waiting {
        let _ = waiting.join();
    }
}

// What the tests look at.

/// A child with its stderr.
struct Running {
    child: std::process::Child,
    stderr: BufReader<ChildStderr>,
}

fn start(test: &str, case: &str, opted_in: bool) -> Running {
    let mut command: Command = common::child_command(test, case);
    command.env_remove("CORO_DEADLOCK").stdout(Stdio::null()).stderr(Stdio::piped());
    if opted_in {
        command.env("CORO_DEADLOCK", "report");
    }
    let mut child = command.spawn().unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    Running { child, stderr }
}

impl Running {
    fn line(&mut self) -> String {
        let mut line = String::new();
        assert_ne!(self.stderr.read_line(&mut line).unwrap(), 0, "it has ended");
        line.trim_end().to_owned()
    }

    /// How many of its threads sleep, and how many there are.
    fn asleep(&self) -> (usize, usize) {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let stats: Vec<_> = tasks
            .flatten()
            .flat_map(|task| std::fs::read_to_string(task.path().join("stat")))
            .collect();
        let sleeps = |stat: &&String| stat.rsplit(')').next().unwrap().starts_with(" S");
        (stats.iter().filter(sleeps).count(), stats.len())
    }

    /// Waits until all of it has been asleep for a while, ends it, and gives what it has said since.
    fn end_asleep(mut self) -> String {
        // Forty looks, but not in a row: something outside may wake a thread now and then (a signal).
        let mut found = 0;
        while found < 40 {
            let (asleep, all) = self.asleep();
            found += u32::from(asleep == all);
            thread::sleep(SHORT);
        }
        assert!(self.child.try_wait().unwrap().is_none(), "it goes on waiting");
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let mut rest = String::new();
        self.stderr.read_to_string(&mut rest).unwrap();
        rest
    }

    /// Waits until it ends by itself; gives what it said.
    fn end(mut self) -> (ExitStatus, String) {
        let mut all = String::new();
        self.stderr.read_to_string(&mut all).unwrap();
        (self.child.wait().unwrap(), all)
    }
}

/// What is expected, and the lines of the report, to be compared as sets.
fn report(mut child: Running) -> (usize, usize, BTreeSet<String>, BTreeSet<String>) {
    let mut expected = BTreeSet::new();
    let header = loop {
        let line = child.line();
        match line.strip_prefix("expect: ") {
            Some(line) => assert!(expected.insert(line.to_owned())),
            None if line.starts_with("coro: no stack of 32 MiB") => {}
            None => break line,
        }
    };
    let numbers = header.strip_prefix("coro: all coroutines are asleep, and ").expect(&header);
    let (threads, rest) = numbers.split_once(" thread(s) wait for them; ").expect(&header);
    let alive: usize = rest.strip_suffix(" alive:").expect(&header).parse().expect(&header);
    let mut listed = BTreeSet::new();
    for _ in 0..alive {
        let line = child.line();
        let line = line.strip_prefix("  ").expect(&line);
        let (who, waits_for) = line.split_once(", waits for ").expect(line);
        // The column of a site is the formatter's business.
        let (who, column) = who.rsplit_once(':').expect(line);
        assert!(column.parse::<u32>().is_ok(), "{line}");
        assert!(listed.insert(format!("{who}: {waits_for}")), "twice: {line}");
    }
    assert_eq!(child.end_asleep(), "", "nothing more, and it goes on waiting");
    (threads.parse().expect(&header), alive, expected, listed)
}

#[test]
fn runtime_deadlock_lists_everybody_and_why() {
    let _watchdog = common::watchdog();
    const TEST: &str = "runtime_deadlock_lists_everybody_and_why";
    for (case, threads, alive) in [
        ("every reason", 1, 14),
        ("every lock", 1, 11),
        ("in a scope", 1, 2),
        ("two join", 2, 2),
        ("one joins another", 1, 3),
        ("watched", 1, 1),
        ("default", 1, 1),
        ("with a thread for dumps", 1, 1),
        ("with a thread for clients", 1, 1),
        ("again", 2, 2),
        ("a thread ends", 1, 1),
        ("a thread receives", 2, 1),
        ("in a panic", 1, 1),
    ] {
        let (waiting, listed_alive, expected, listed) = report(start(TEST, case, true));
        assert_eq!((waiting, listed_alive), (threads, alive), "{case}: {listed:#?}");
        assert_eq!(listed.len(), alive, "{case}");
        let missing: Vec<_> = expected.difference(&listed).collect();
        assert!(missing.is_empty(), "{case}: {missing:#?} is not in {listed:#?}");
    }
}

#[test]
#[cfg_attr(coro_asan, ignore = "AddressSanitizer maps more than such a limit allows")]
fn runtime_deadlock_lists_who_waits_for_a_stack() {
    let _watchdog = common::watchdog();
    const TEST: &str = "runtime_deadlock_lists_who_waits_for_a_stack";
    let (waiting, alive, expected, listed) = report(start(TEST, "no stack", true));
    assert_eq!((waiting, alive), (1, 4), "{listed:#?}");
    assert_eq!(listed, expected);
}

#[test]
fn runtime_deadlock_is_not_reported_where_there_is_none() {
    let _watchdog = common::watchdog();
    const TEST: &str = "runtime_deadlock_is_not_reported_where_there_is_none";
    let mut wrong = Vec::new();
    for case in [
        "a timer",
        "a descriptor",
        "a thread",
        "a timeout around the join",
        "two runtimes",
        "a blocking call",
        "it ends",
    ] {
        let (status, said) = start(TEST, case, true).end();
        assert!(status.success(), "{case}: {status}\n{said}");
        if said != "over\n" {
            wrong.push((case, said));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn runtime_deadlock_is_not_reported_where_nobody_asked() {
    let _watchdog = common::watchdog();
    const TEST: &str = "runtime_deadlock_is_not_reported_where_nobody_asked";
    let mut child = start(TEST, "two join", false);
    for _ in 0..2 {
        assert!(child.line().starts_with("expect: "));
    }
    assert_eq!(child.end_asleep(), "");
}

#[test]
fn runtime_deadlock_refuses_nonsense() {
    let _watchdog = common::watchdog();
    const TEST: &str = "runtime_deadlock_refuses_nonsense";
    for value in [" ", "1", "Report", "report "] {
        let output = common::child_command(TEST, "it ends").env("CORO_DEADLOCK", value).output();
        let output = output.unwrap();
        assert!(!output.status.success(), "{value:?}");
        let message = format!("CORO_DEADLOCK={value:?}: expected report");
        assert!(common::stderr(&output).contains(&message), "{output:?}");
    }
}
