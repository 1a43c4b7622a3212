//! What is told of each worker.

use std::time::Duration;

use coro::inspect::{WorkerMetrics, workers};
use coro::{Builder, Place, Runtime};

use crate::common;

/// The workers as soon as it is so with them.
fn workers_when(is_so: impl Fn(&[WorkerMetrics]) -> bool) -> Vec<WorkerMetrics> {
    loop {
        let workers = workers();
        if is_so(&workers) {
            return workers;
        }
        std::thread::yield_now();
    }
}

#[test]
fn inspect_workers_tell_what_each_does() {
    const TEST: &str = "inspect_workers_tell_what_each_does";
    common::in_child(TEST, common::CHILDS_LIMIT, || {
        assert_eq!(workers(), []);
        let runtime = Runtime::builder().workers(2).thread_name("crunch").build().unwrap();
        let spawn = |worker, f: fn()| {
            Builder::new().place(Place::Worker(worker)).spawn_on(&runtime, f).unwrap()
        };
        let parked: Vec<_> = (0..3).map(|_| spawn(1, coro::park)).collect();
        let [first, second] = &workers_when(|all| {
            all.len() == 2 && all.iter().all(|one| one.is_asleep) && all[1].parked == 3
        })[..] else {
            panic!("it has two")
        };
        assert_eq!((first.runtime, first.index), (second.runtime, 0));
        assert_eq!((first.started, first.parked), (0, 0));
        assert_eq!((second.index, second.started, second.turns), (1, 3, 3));
        assert_eq!((second.running, second.queued, second.stolen), (None, 0, 0));
        assert_eq!(first.thread_name.as_deref(), Some("crunch-0"));
        assert_eq!(second.thread_name.as_deref(), Some("crunch-1"));

        // One holds the second worker, and two wait behind it.
        let gate = common::Gate::default();
        let inside = common::Counter::default();
        let holds = {
            let (gate, inside) = (gate.clone(), inside.clone());
            let hold = move || {
                inside.add();
                gate.block();
            };
            Builder::new().place(Place::Worker(1)).spawn_on(&runtime, hold).unwrap()
        };
        inside.wait_for(1);
        let behind = [spawn(1, || ()), spawn(1, || ())];
        let now = &workers()[1];
        assert_eq!((now.running, now.is_asleep), (Some(holds.id()), false));
        assert_eq!((now.started, now.parked, now.queued, now.turns), (4, 3, 2, 4));
        gate.open();
        holds.join().unwrap();
        behind.into_iter().for_each(|one| one.join().unwrap());

        // Its CPU time is its own, where the kernel counts it.
        let before = workers();
        if before.iter().all(|one| one.cpu_time.is_none()) {
            common::say(format_args!("skipped: this kernel counts no CPU time of threads"));
            std::process::exit(0);
        }
        let computes = Builder::new().place(Place::Worker(1)).spawn_on(&runtime, || {
            let cpu_time = || workers()[1].cpu_time.unwrap();
            let start = cpu_time();
            while cpu_time() - start < Duration::from_millis(30) {}
        });
        computes.unwrap().join().unwrap();
        let after = workers();
        let took = |index: usize| after[index].cpu_time.unwrap() - before[index].cpu_time.unwrap();
        assert!(took(1) >= Duration::from_millis(30), "{:?}", took(1));
        assert!(took(0) < took(1), "{:?} of the one that sleeps, {:?}", took(0), took(1));

        parked.iter().for_each(|one| one.handle().unpark());
        parked.into_iter().for_each(|one| one.join().unwrap());
        runtime.shutdown();
        assert_eq!(workers(), []);
    });
}
