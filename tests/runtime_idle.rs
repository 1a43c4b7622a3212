//! A runtime that has nothing to do does nothing: no CPU, no waking up to look.

mod common;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use common::Counter;

/// The CPU time that this process has used.
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec, which is ours.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    assert_eq!(status, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The threads whose name begins with `coro-`, and their context switches, summed.
fn switches_of_workers() -> (usize, u64) {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let statuses = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("status")));
    let workers = statuses.map(Result::unwrap).filter(|status| status.contains("coro-"));
    let switches = workers.map(|status| -> u64 {
        let lines = status.lines().filter(|line| line.contains("ctxt_switches"));
        lines.map(|line| line.split_whitespace().last().unwrap().parse::<u64>().unwrap()).sum()
    });
    switches.fold((0, 0), |(count, sum), switches| (count + 1, sum + switches))
}

/// Under 10 ms of CPU in 5 s, and not one wake-up, with coroutines parked and timers set.
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
        let mut switches = switches_of_workers();
        loop {
            thread::sleep(Duration::from_millis(100));
            let now = switches_of_workers();
            // A worker that has not begun yet has no name.
            if now == switches && now.0 == common::WORKERS.iter().sum::<usize>() {
                break;
            }
            switches = now;
        }
        let (start, cpu) = (Instant::now(), cpu_time());
        // Here the passing of time is what is tested.
        thread::sleep(Duration::from_secs(5));
        let used = cpu_time() - cpu;
        assert!(start.elapsed() >= Duration::from_secs(5));
        assert!(used < Duration::from_millis(10), "{used:?} of CPU");
        assert_eq!(switches_of_workers(), switches, "a worker woke up for nothing");
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
