//! A runtime that has nothing to do does nothing: no CPU, no waking up to look.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::Duration;

use crate::common::{self, Counter};

/// The threads whose name begins with `coro-`: of each, whether it sleeps and its context switches.
///
/// A thread that sleeps and has not switched since it slept before has not run: it has used no CPU time.
fn workers() -> BTreeMap<String, (bool, u64)> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    // One that is ending may be gone by the time that it is asked.
    let statuses = tasks.flatten().map(|task| fs::read_to_string(task.path().join("status")));
    let look = |status: String| {
        let field = |key| status.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim();
        let switches = ["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"];
        let switches = switches.map(|key| field(key).parse::<u64>().unwrap()).iter().sum();
        let name = field("Name:");
        // The same name is in several runtimes, so the thread's number is added.
        let key = format!("{name} {}", field("Pid:"));
        name.starts_with("coro-").then(|| (key, (field("State:").starts_with('S'), switches)))
    };
    statuses.flatten().filter_map(look).collect()
}

/// Not one wake-up in 5 s, with coroutines parked and timers set.
#[test]
fn runtime_idle_costs_nothing() {
    let _watchdog = common::watchdog();
    if common::is_child("idle") {
        let runtimes = common::WORKERS.map(common::runtime);
        for runtime in &runtimes {
            let waiting = Counter::default();
            for i in 0..300 {
                let waiting = waiting.clone();
                runtime.go(move || {
                    waiting.add();
                    match i % 3 {
                        0 => coro::park(),
                        1 => coro::sleep(Duration::from_secs(3600)),
                        _ => coro::sleep(Duration::MAX),
                    }
                });
            }
            waiting.wait_for(300);
        }
        // Until every worker sleeps: two looks that find no difference.
        let look_twice = |pause| {
            let before = workers();
            // Here the passing of time is what is tested.
            thread::sleep(pause);
            (before, workers())
        };
        let settled = |(before, after): &(BTreeMap<_, (bool, _)>, BTreeMap<_, _>)| {
            // A worker that has not begun yet has no name.
            let all = after.len() == common::WORKERS.iter().sum::<usize>();
            all && before == after && after.values().all(|(sleeps, _)| *sleeps)
        };
        while !settled(&look_twice(Duration::from_millis(100))) {}
        // The kernel itself may wake a thread, as where all are frozen for a moment. Who wakes up for
        // nothing does so again and again.
        let mut woken = Vec::new();
        while woken.len() < 5 {
            let looks = look_twice(Duration::from_secs(5));
            if settled(&looks) {
                break;
            }
            woken.push(looks);
        }
        assert!(woken.len() < 5, "workers wake up for nothing: {woken:#?}");
        // They are asleep, not dead.
        for runtime in runtimes {
            assert_eq!(runtime.go(|| 1).join().unwrap(), 1);
        }
        return;
    }
    // Alone in a process, or the other tests would be measured.
    let output = common::child("runtime_idle_costs_nothing", "idle");
    assert!(output.status.success(), "{}", common::stderr(&output));
}
