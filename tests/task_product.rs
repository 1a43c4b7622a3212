//! Every way for a coroutine to end, times every way to treat its handle, times everything that it
//! may have stored, times where it is spawned, what it returns and on how many workers: one test, and
//! for each combination the exact list of what happens, in order.

mod common;

use std::panic::panic_any;
use std::sync::{Arc, Mutex};

use coro::{JoinError, JoinHandle, Runtime, inspect, tls};

use common::{Counter, Gate, Payload};

/// How the coroutine ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Return,
    Panic,
    /// Cancelled before it has run.
    CancelFresh,
    /// Cancelled while it is parked.
    CancelParked,
    /// Cancelled while it runs; it suspends itself later.
    CancelRunning,
}

/// What becomes of its handle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Join,
    /// Dropped at once.
    Detach,
    /// Dropped when the coroutine has started and has not ended; a fresh one: when it is cancelled.
    DropEarly,
    /// Dropped when the coroutine has ended.
    DropLate,
}

/// What the coroutine has stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stored {
    Nothing,
    Data,
    Handler,
    PanickingHandler,
    PanickingDrop,
    All,
}

/// Who spawns it, and who joins it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Origin {
    Thread,
    Coroutine,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    end: End,
    way: Way,
    stored: Stored,
    origin: Origin,
    /// Whether the value that it returns has a destructor.
    droppable: bool,
    /// Whether somebody holds a `Handle` of it to the end.
    held: bool,
}

const ENDS: [End; 5] =
    [End::Return, End::Panic, End::CancelFresh, End::CancelParked, End::CancelRunning];
const WAYS: [Way; 4] = [Way::Join, Way::Detach, Way::DropEarly, Way::DropLate];
const STORED: [Stored; 6] = [
    Stored::Nothing,
    Stored::Data,
    Stored::Handler,
    Stored::PanickingHandler,
    Stored::PanickingDrop,
    Stored::All,
];

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for end in ENDS {
        for way in WAYS {
            for stored in STORED {
                for origin in [Origin::Thread, Origin::Coroutine] {
                    for droppable in [false, true] {
                        for held in [false, true] {
                            cases.push(Case { end, way, stored, origin, droppable, held });
                        }
                    }
                }
            }
        }
    }
    cases
}

impl Case {
    fn is_cancelled(self) -> bool {
        !matches!(self.end, End::Return | End::Panic)
    }

    /// What the log says in the end.
    fn expected(self) -> Vec<&'static str> {
        if self.end == End::CancelFresh {
            return vec!["capture dropped"];
        }
        let mut log = vec!["ran", "local dropped", "capture dropped"];
        let outcome = match self.end {
            End::Return if self.droppable => Some("value dropped"),
            End::Panic => Some("payload dropped"),
            _ => None,
        };
        let nobody_wants_it = matches!(self.way, Way::Detach | Way::DropEarly);
        log.extend(outcome.filter(|_| nobody_wants_it));
        log.extend(match self.stored {
            Stored::Nothing => &[][..],
            Stored::Data => &["data dropped"],
            Stored::Handler => &["handler ran"],
            Stored::PanickingHandler => &["handler panicked"],
            Stored::PanickingDrop => &["drop panicked"],
            // Newest first, and handlers before data.
            Stored::All => &["handler panicked", "handler ran", "drop panicked", "data dropped"],
        });
        log.extend(outcome.filter(|_| !nobody_wants_it));
        log
    }

    /// How many panics reach the hook.
    fn panics(self) -> usize {
        if self.end == End::CancelFresh {
            return 0;
        }
        let of_cleanup = match self.stored {
            Stored::Nothing | Stored::Data | Stored::Handler => 0,
            Stored::PanickingHandler | Stored::PanickingDrop => 1,
            Stored::All => 2,
        };
        of_cleanup + usize::from(self.end == End::Panic)
    }

    fn run(self, runtime: &Runtime, workers: usize) -> Log {
        if self.droppable {
            self.run_with(runtime, workers, |log| log.on_drop("value dropped"))
        } else {
            self.run_with(runtime, workers, |_| 42u32)
        }
    }

    fn run_with<T: Send + 'static>(
        self,
        runtime: &Runtime,
        workers: usize,
        value: fn(&Log) -> T,
    ) -> Log {
        let log = Log::default();
        let running = Counter::default();
        let go_on = Gate::default();
        let reported = common::reported();
        let body = {
            let (log, running, go_on) = (log.clone(), running.clone(), go_on.clone());
            let capture = log.on_drop("capture dropped");
            move || self.body(capture, &log, &running, &go_on, value)
        };

        // Fresh it stays only while no worker is free. The one that spawns it is not.
        let busy = match (self.end, self.origin) {
            (End::CancelFresh, Origin::Thread) => workers,
            (End::CancelFresh, Origin::Coroutine) => workers - 1,
            _ => 0,
        };
        let occupied = common::occupy(runtime, busy);
        let mut handle = match self.origin {
            Origin::Thread => Some(runtime.go(body)),
            Origin::Coroutine => {
                let spawn = move || {
                    let handle = coro::go(body);
                    if self.end == End::CancelFresh {
                        handle.cancel();
                    }
                    handle
                };
                Some(runtime.go(spawn).join().unwrap())
            }
        };
        let control = handle.as_ref().map(JoinHandle::handle).unwrap();
        if self.way == Way::Detach {
            handle = None;
        }
        match self.end {
            End::CancelFresh => control.cancel(),
            End::CancelParked => {
                while inspect::metrics().parked != 1 {
                    std::thread::yield_now();
                }
            }
            End::Return | End::Panic | End::CancelRunning => running.wait_for(1),
        }
        if self.way == Way::DropEarly {
            handle = None;
        }
        let joiner = match (self.way, self.origin) {
            (Way::Join, Origin::Coroutine) => handle.take().map(|h| runtime.go(|| h.join())),
            _ => None,
        };
        if self.is_cancelled() {
            control.cancel();
        }
        go_on.open();
        drop(occupied);

        let control = self.held.then_some(control);
        if let Some(handle) = handle {
            if self.way == Way::Join {
                self.check_outcome(handle.join());
            } else {
                while !handle.is_finished() {
                    std::thread::yield_now();
                }
            }
        }
        if let Some(joiner) = joiner {
            self.check_outcome(joiner.join().unwrap());
        }
        if let Some(control) = control {
            while !control.is_finished() {
                std::thread::yield_now();
            }
            control.cancel(); // too late to change anything
            control.unpark();
        }
        // Of a detached coroutine nothing else tells the end.
        let expected = self.expected();
        while log.len() < expected.len() || common::reported() - reported < self.panics() {
            std::thread::yield_now();
        }
        assert_eq!(log.entries(), expected, "{self:?} on {workers} workers");
        assert_eq!(common::reported() - reported, self.panics(), "{self:?} on {workers} workers");
        log
    }

    fn body<T>(
        self,
        capture: LogsDrop,
        log: &Log,
        running: &Counter,
        go_on: &Gate,
        value: fn(&Log) -> T,
    ) -> T {
        let _capture = capture;
        let _local = log.on_drop("local dropped");
        log.push("ran");
        self.store(log);
        running.add();
        match self.end {
            End::Return => go_on.pass(),
            End::Panic => {
                go_on.pass();
                panic_any(Payload(Box::new(log.on_drop("payload dropped"))));
            }
            End::CancelFresh => unreachable!("a fresh coroutine that is cancelled does not run"),
            End::CancelParked => loop {
                coro::park();
            },
            End::CancelRunning => {
                go_on.block();
                coro::yield_now();
                unreachable!("a cancelled coroutine does not come back from a suspension");
            }
        }
        value(log)
    }

    fn store(self, log: &Log) {
        let stores = |what| self.stored == what || self.stored == Stored::All;
        if stores(Stored::Data) {
            tls::set("data", log.on_drop("data dropped"));
        }
        if stores(Stored::Handler) {
            let log = log.clone();
            tls::at_exit(move || log.push("handler ran"));
        }
        if stores(Stored::PanickingHandler) {
            let log = log.clone();
            tls::at_exit(move || {
                log.push("handler panicked");
                common::planned("in a handler");
            });
        }
        if stores(Stored::PanickingDrop) {
            tls::set("panicking", PanicsInDrop(log.clone()));
        }
    }

    fn check_outcome<T>(self, outcome: Result<T, JoinError>) {
        match (self.end, outcome) {
            (End::Return, Ok(_)) => {}
            (End::Panic, Err(JoinError::Panicked(payload))) => {
                assert!(payload.is::<Payload>());
            }
            (_, Err(JoinError::Cancelled)) if self.is_cancelled() => {}
            (_, outcome) => panic!("{self:?}: {:?}", outcome.map(|_| "a value")),
        }
    }
}

/// What has happened to one coroutine.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<&'static str>>>);

impl Log {
    fn push(&self, entry: &'static str) {
        self.0.lock().unwrap().push(entry);
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn entries(&self) -> Vec<&'static str> {
        self.0.lock().unwrap().clone()
    }

    fn on_drop(&self, entry: &'static str) -> LogsDrop {
        LogsDrop(self.clone(), entry)
    }
}

struct LogsDrop(Log, &'static str);

impl Drop for LogsDrop {
    fn drop(&mut self) {
        self.0.push(self.1);
    }
}

struct PanicsInDrop(Log);

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        self.0.push("drop panicked");
        common::planned("in a destructor");
    }
}

/// CASES 22 and 25.
#[test]
fn task_full_product() {
    let _watchdog = common::watchdog();
    common::quiet();
    let cases = cases();
    assert_eq!(cases.len(), 5 * 4 * 6 * 2 * 2 * 2);
    common::on_workers(|_, workers| {
        // A runtime of its own, so that it can be shut down before the last look.
        let runtime = common::runtime(workers);
        let logs: Vec<_> = cases.iter().map(|case| case.run(&runtime, workers)).collect();
        runtime.shutdown();
        for (case, log) in cases.iter().zip(logs) {
            assert_eq!(log.entries(), case.expected(), "after the shutdown: {case:?}");
            assert_eq!(Arc::strong_count(&log.0), 1, "something is leaked: {case:?}");
        }
    });
    assert_eq!(inspect::metrics().live, 0);
    assert_eq!(inspect::metrics().stacks_in_use, 0);
}
