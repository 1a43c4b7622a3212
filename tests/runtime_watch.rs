//! The monitor: it tells who holds a worker for too long, once for each place of spawning, and of
//! nobody else.
//!
//! A child holds its workers until it is told to let go, and its parent tells it so when it has read what
//! it waits for.

mod common;

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::panic::{Location, catch_unwind};
use std::process::{Child, ChildStderr, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use coro::{Builder, JoinHandle, Runtime};

use common::{Counter, Gate};

const LIMIT: Duration = Duration::from_millis(20);

/// A child whose stderr is read line by line.
struct Watched {
    child: Child,
    stdin: ChildStdin,
    stderr: BufReader<ChildStderr>,
    /// What it has said of itself, and what the library has.
    said: Vec<String>,
    told: Vec<String>,
}

impl Watched {
    fn start(command: &mut Command) -> Watched {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (stdin, stderr) = (child.stdin.take().unwrap(), child.stderr.take().unwrap());
        Watched { child, stdin, stderr: BufReader::new(stderr), said: vec![], told: vec![] }
    }

    /// Reads until the library has told `n` lines in all.
    fn read_until_told(&mut self, n: usize) {
        while self.told.len() < n {
            assert!(self.read_line(), "it has ended and told {:?}", self.told);
        }
    }

    fn read_line(&mut self) -> bool {
        let mut line = String::new();
        let read = self.stderr.read_line(&mut line).unwrap();
        let line = line.trim_end();
        if line.starts_with("coro: ") {
            self.told.push(line.to_owned());
        } else if let Some(said) = line.strip_prefix("said: ") {
            self.said.push(said.to_owned());
        } else if !line.is_empty() {
            eprintln!("{line}");
        }
        read > 0
    }

    /// Has it go on.
    fn go_on(&mut self) {
        writeln!(self.stdin).unwrap();
    }

    /// Waits for its end, which must be a good one; gives what it said and what it was told.
    fn end(mut self) -> (Vec<String>, Vec<String>) {
        while self.read_line() {}
        assert!(self.child.wait().unwrap().success(), "{:?}", self.told);
        (self.said, self.told)
    }
}

/// In the child: waits until the parent has it go on.
fn wait_for_parent() {
    assert_ne!(io::stdin().read_line(&mut String::new()).unwrap(), 0, "the parent is gone");
}

/// In the child: holds a worker, as code does that computes, until the gate is open.
fn hold(begun: &Counter, gate: &Gate) {
    begun.add();
    gate.block();
}

/// In the child: tells what a line about this coroutine begins with.
#[track_caller]
fn say<T>(handle: &JoinHandle<T>, name: Option<&str>, line: u32) {
    let name = name.map(|name| format!(" '{name}'")).unwrap_or_default();
    let file = Location::caller().file();
    common::say(format_args!(
        "said: coro: coroutine {}{name}, spawned at {file}:{line}:",
        handle.id()
    ));
}

fn watching(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).watch(LIMIT).build().unwrap()
}

/// How long a line says that the worker was held.
fn held(told: &str) -> Duration {
    let (_, rest) = told.split_once(" has held its worker for ").expect(told);
    let time = rest.strip_suffix(" without suspending").expect(told);
    match (time.strip_suffix("ms"), time.strip_suffix('s')) {
        (Some(millis), _) => Duration::from_millis(millis.parse().expect(told)),
        (None, Some(seconds)) => Duration::from_secs(seconds.parse().expect(told)),
        (None, None) => panic!("{told}"),
    }
}

#[test]
fn runtime_watch_tells_who_once_for_each_site() {
    let _watchdog = common::watchdog();
    if common::is_child("sites") {
        let _watchdog = common::watchdog();
        let runtime = watching(2);
        let (begun, gate) = (Counter::default(), Gate::default());
        let hold_in = |gate: &Gate| {
            let (begun, gate) = (begun.clone(), gate.clone());
            move || hold(&begun, &gate)
        };
        let handle = runtime.go(hold_in(&gate));
        say(&handle, None, line!() - 1);
        begun.wait_for(1);
        wait_for_parent(); // who has read one line
        // Not in a coroutine, which might be told of itself where its worker is preempted.
        let inner = Builder::new().name("the second").spawn_on(&runtime, hold_in(&gate)).unwrap();
        say(&inner, Some("the second"), line!() - 1);
        begun.wait_for(2);
        wait_for_parent(); // who has read another
        gate.open();
        handle.join().unwrap();
        inner.join().unwrap();
        // Three more of one place: one line.
        for round in 0..3 {
            let gate = Gate::default();
            let again = runtime.go(hold_in(&gate));
            if round == 0 {
                say(&again, None, line!() - 2);
            }
            begun.wait_for(3 + round);
            if round == 0 {
                wait_for_parent();
            } else {
                // Told or not, it is held for long enough.
                std::thread::sleep(4 * LIMIT);
            }
            gate.open();
            again.join().unwrap();
        }
        return;
    }
    let test = "runtime_watch_tells_who_once_for_each_site";
    let mut watched = Watched::start(&mut common::child_command(test, "sites"));
    for n in 1..=3 {
        watched.read_until_told(n);
        watched.go_on();
    }
    let (said, told) = watched.end();
    assert_eq!(told.len(), 3, "{told:#?}");
    assert_eq!(said.len(), 3);
    for (said, told) in said.iter().zip(&told) {
        assert!(told.starts_with(said), "{told} for {said}");
        assert!(held(told) >= LIMIT, "{told}");
    }
}

/// Nobody who suspends now and then is told of, however busy; nor who is parked.
///
/// On a machine that is busy enough a worker may come to no turn for that long, and who runs on it is told of
/// by right. So the child measures the longest time between two suspensions.
#[test]
fn runtime_watch_spares_who_suspends() {
    let _watchdog = common::watchdog();
    // Far more than a turn takes, also on a machine that is busy.
    const LIMIT: Duration = Duration::from_millis(500);
    if common::is_child("suspends") {
        let _watchdog = common::watchdog();
        let runtime = Runtime::builder().workers(2).watch(LIMIT).build().unwrap();
        let parked = runtime.go(|| {
            loop {
                coro::park();
            }
        });
        let start = Instant::now();
        let busy: Vec<_> = (0..3)
            .map(|_| {
                runtime.go(move || {
                    let began = Instant::now();
                    let body = |_: &coro::raw::Yielder<(), ()>, ()| {
                        let (mut longest, mut since) = (Duration::ZERO, began);
                        while start.elapsed() < 3 * LIMIT {
                            longest = longest.max(since.elapsed());
                            coro::yield_now();
                            since = Instant::now();
                        }
                        longest
                    };
                    let state = coro::raw::with(65536, body, |raw| raw.resume(())).unwrap();
                    let coro::raw::State::Done(longest) = state else { unreachable!() };
                    longest
                })
            })
            .collect();
        let longest = busy.into_iter().map(|busy| busy.join().unwrap()).max().unwrap();
        common::say(format_args!("said: longest {}", longest.as_millis()));
        assert!(!parked.is_finished());
        // And it was looking: this one is told of.
        let (begun, gate) = (Counter::default(), Gate::default());
        let holds = runtime.go({
            let gate = gate.clone();
            move || hold(&begun, &gate)
        });
        say(&holds, None, line!() - 4);
        wait_for_parent();
        gate.open();
        holds.join().unwrap();
        return;
    }
    let test = "runtime_watch_spares_who_suspends";
    for _ in 0..5 {
        let mut watched = Watched::start(&mut common::child_command(test, "suspends"));
        // Who holds its worker is the last that the child speaks of, and is told of in the end.
        while watched.said.len() < 2 {
            assert!(watched.read_line(), "it has ended");
        }
        let holds = watched.said[1].clone();
        while !watched.told.iter().any(|told| told.starts_with(&holds)) {
            assert!(watched.read_line(), "it has ended and told {:?}", watched.told);
        }
        watched.go_on();
        let (said, told) = watched.end();
        let longest: u64 = said[0].strip_prefix("longest ").unwrap().parse().unwrap();
        if told.len() == 1 {
            return;
        }
        // Half of it, for the worker may also have been held up when it had switched already.
        assert!(longest >= LIMIT.as_millis() as u64 / 2, "{told:#?} though none took {longest} ms");
    }
    panic!("this machine has no time for a test");
}

/// `CORO_WATCH` counts where the program has not said otherwise, the default runtime included.
#[test]
fn runtime_watch_by_the_environment() {
    let _watchdog = common::watchdog();
    const TEST: &str = "runtime_watch_by_the_environment";
    let hold_until_told = |runtime: Option<&Runtime>| {
        let _watchdog = common::watchdog();
        let (begun, gate) = (Counter::default(), Gate::default());
        let holds = {
            let gate = gate.clone();
            move || hold(&begun, &gate)
        };
        let holds = match runtime {
            Some(runtime) => runtime.go(holds),
            None => coro::go(holds),
        };
        wait_for_parent();
        gate.open();
        holds.join().unwrap();
    };
    if common::is_child("default") {
        return hold_until_told(None);
    }
    if common::is_child("built") {
        return hold_until_told(Some(&common::runtime(1)));
    }
    if common::is_child("overridden") {
        // An hour in the environment, and this runtime knows better.
        return hold_until_told(Some(&watching(1)));
    }
    for (case, value) in
        [("default", "20ms"), ("built", "20000us"), ("built", "1s"), ("overridden", "3600s")]
    {
        let mut command = common::child_command(TEST, case);
        let mut watched = Watched::start(command.env("CORO_WATCH", value));
        watched.read_until_told(1);
        watched.go_on();
        let (_, told) = watched.end();
        assert_eq!(told.len(), 1, "{case} {value}");
        let least = if value == "1s" { Duration::from_secs(1) } else { LIMIT };
        assert!(held(&told[0]) >= least, "{value}: {told:?}");
    }
}

#[test]
fn runtime_watch_refuses_nonsense() {
    let _watchdog = common::watchdog();
    const TEST: &str = "runtime_watch_refuses_nonsense";
    if common::is_child("nonsense") {
        let payload = catch_unwind(|| common::runtime(1)).map(drop).unwrap_err();
        common::say(format_args!("said: {}", common::message(&*payload)));
        // Where it is not asked for, it does no harm.
        let runtime = watching(1);
        assert_eq!(runtime.go(|| 1).join().unwrap(), 1);
        return;
    }
    for value in
        [" ", "0ms", "0s", "ms", "20", "20 ms", "-1s", "1.5s", "20m", "99999999999999999999s"]
    {
        let output = common::child_command(TEST, "nonsense").env("CORO_WATCH", value).output();
        let output = output.unwrap();
        let stderr = common::stderr(&output);
        assert!(output.status.success(), "{value}: {stderr}");
        let message = format!("said: CORO_WATCH={value:?}: expected a time such as 100ms or 2s");
        assert!(stderr.lines().any(|line| line == message), "{stderr}");
    }
    let refused = Runtime::builder().workers(1).watch(Duration::ZERO).build().unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    assert!(refused.to_string().contains("RuntimeBuilder::watch"), "{refused}");
    // And the longest of times is none.
    let runtime = Runtime::builder().workers(1).watch(Duration::MAX).build().unwrap();
    assert_eq!(runtime.go(|| 1).join().unwrap(), 1);
}

/// Threads of the process whose name is this.
fn threads_named(name: &str) -> usize {
    let threads = fs::read_dir("/proc/self/task").unwrap();
    // One that is ending may be gone by the time that it is asked.
    let names = threads.flatten().map(|thread| fs::read_to_string(thread.path().join("comm")));
    names.flatten().filter(|comm| comm.trim_end() == name).count()
}

/// How often the thread of this name has gone to sleep; `None` if it has ended.
fn switches_of(name: &str) -> Option<u64> {
    let threads = fs::read_dir("/proc/self/task").unwrap().flatten();
    let statuses = threads.flat_map(|thread| fs::read_to_string(thread.path().join("status")));
    let field = |status: &str, key| {
        status.lines().find_map(|line| line.strip_prefix(key).map(|rest| rest.trim().to_owned()))
    };
    let status =
        statuses.into_iter().find(|status| field(status, "Name:").as_deref() == Some(name))?;
    field(&status, "voluntary_ctxt_switches:")?.parse().ok()
}

/// One thread watches all runtimes; and who comes after a watched one is not watched.
#[test]
fn runtime_watch_ends_with_its_runtime() {
    let _watchdog = common::watchdog();
    const TEST: &str = "runtime_watch_ends_with_its_runtime";
    if common::is_child("ends") {
        for round in 0..20 {
            let runtime = watching(1);
            assert_eq!(runtime.go(|| 1).join().unwrap(), 1);
            match round % 3 {
                0 => runtime.shutdown(),
                1 => assert_eq!(runtime.shutdown_timeout(Duration::MAX), 0),
                _ => drop(runtime),
            }
            let runtime = common::runtime(1);
            let holds = runtime.go(|| std::thread::sleep(4 * LIMIT));
            holds.join().unwrap();
        }
        assert_eq!(threads_named("monitor"), 1);
        return;
    }
    let output = common::child(TEST, "ends");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(common::stderr(&output), "");
}

/// Where nobody reads what is told, watching goes on all the same.
#[test]
fn runtime_watch_outlives_a_closed_stderr() {
    let _watchdog = common::watchdog();
    const TEST: &str = "runtime_watch_outlives_a_closed_stderr";
    if common::is_child("closed") {
        wait_for_parent(); // who has closed its end
        let runtime = watching(1);
        let (begun, gate) = (Counter::default(), Gate::default());
        let holds = runtime.go({
            let (begun, gate) = (begun.clone(), gate.clone());
            move || hold(&begun, &gate)
        });
        begun.wait_for(1);
        while threads_named("monitor") == 0 {
            std::thread::yield_now();
        }
        // It looks each half of the limit, and sleeps in between. By the fourth look it has told.
        let looks = || switches_of("monitor");
        let before = looks();
        while looks().is_some_and(|looks| looks < before.unwrap_or_default() + 8) {
            std::thread::sleep(LIMIT);
        }
        let watching = threads_named("monitor");
        gate.open();
        holds.join().unwrap();
        std::process::exit(if watching == 1 { 0 } else { 3 });
    }
    let mut command = common::child_command(TEST, "closed");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stderr.take());
    writeln!(child.stdin.as_mut().unwrap()).unwrap();
    let status = child.wait().unwrap();
    assert!(status.success(), "{status}");
}

/// Whoever ends a runtime may hold stderr's lock, for which a report would wait.
#[test]
fn runtime_watch_while_stderr_is_locked() {
    let _watchdog = common::watchdog();
    const TEST: &str = "runtime_watch_while_stderr_is_locked";
    if common::is_child("locked") {
        // A watchdog would have to wait for the lock as well.
        // SAFETY: a system call that touches no memory.
        unsafe { libc::alarm(common::CHILDS_LIMIT.as_secs() as u32) };
        let runtime = watching(1);
        let (begun, gate) = (Counter::default(), Gate::default());
        let stderr = io::stderr().lock();
        let holds = runtime.go({
            let (begun, gate) = (begun.clone(), gate.clone());
            move || hold(&begun, &gate)
        });
        begun.wait_for(1);
        wait_for_parent(); // who has read the report, though the lock is held
        gate.open();
        holds.join().unwrap();
        runtime.shutdown();
        drop(stderr);
        return;
    }
    let mut watched = Watched::start(&mut common::child_command(TEST, "locked"));
    watched.read_until_told(1);
    watched.go_on();
    let (_, told) = watched.end();
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(held(&told[0]) >= LIMIT, "{told:?}");
}
