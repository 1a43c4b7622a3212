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
        let inner = {
            let hold = hold_in(&gate);
            runtime.go(move || Builder::new().name("the second").spawn(hold).unwrap())
        };
        let inner = inner.join().unwrap();
        say(&inner, Some("the second"), line!() - 3);
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
                    let mut by_hand =
                        coro::raw::Coroutine::<(), (), ()>::new(65536, move |_, ()| {
                            while start.elapsed() < 3 * LIMIT {
                                coro::yield_now();
                            }
                        })
                        .unwrap();
                    by_hand.resume(());
                })
            })
            .collect();
        busy.into_iter().for_each(|busy| busy.join().unwrap());
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
    let mut watched = Watched::start(&mut common::child_command(test, "suspends"));
    watched.read_until_told(1);
    watched.go_on();
    let (said, told) = watched.end();
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].starts_with(&said[0]), "{told:?} for {said:?}");
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

#[test]
fn runtime_watch_ends_with_its_runtime() {
    let _watchdog = common::watchdog();
    for round in 0..20 {
        let builder = Runtime::builder().workers(1).thread_name("seen");
        let runtime = builder.watch(Duration::from_secs(3600)).build().unwrap();
        assert_eq!(runtime.go(|| 1).join().unwrap(), 1);
        // A thread names itself when it begins.
        while threads_named("seen-watch") != 1 {
            coro::yield_now();
        }
        match round % 3 {
            0 => runtime.shutdown(),
            1 => assert_eq!(runtime.shutdown_timeout(Duration::MAX), 0),
            _ => drop(runtime),
        }
        // The kernel lists a thread for a moment after it was joined.
        while threads_named("seen-watch") != 0 {
            coro::yield_now();
        }
    }
}

/// Where nobody reads what is told, watching goes on all the same.
#[test]
fn runtime_watch_outlives_a_closed_stderr() {
    let _watchdog = common::watchdog();
    const TEST: &str = "runtime_watch_outlives_a_closed_stderr";
    if common::is_child("closed") {
        wait_for_parent(); // who has closed its end
        let runtime =
            Runtime::builder().workers(1).watch(LIMIT).thread_name("deaf").build().unwrap();
        let (begun, gate) = (Counter::default(), Gate::default());
        let holds = runtime.go({
            let (begun, gate) = (begun.clone(), gate.clone());
            move || hold(&begun, &gate)
        });
        begun.wait_for(1);
        while threads_named("deaf-watch") == 0 {
            std::thread::yield_now();
        }
        std::thread::sleep(10 * LIMIT);
        let watching = threads_named("deaf-watch");
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
        unsafe { libc::alarm(20) };
        let runtime = watching(1);
        let (begun, gate) = (Counter::default(), Gate::default());
        let stderr = io::stderr().lock();
        let holds = runtime.go({
            let (begun, gate) = (begun.clone(), gate.clone());
            move || hold(&begun, &gate)
        });
        begun.wait_for(1);
        std::thread::sleep(10 * LIMIT);
        gate.open();
        holds.join().unwrap();
        runtime.shutdown();
        drop(stderr);
        return;
    }
    let output = common::child(TEST, "locked");
    assert!(output.status.success(), "{}", output.status);
    assert_eq!(common::stderr(&output).matches(" has held its worker for ").count(), 1);
}
