//! When the kernel refuses another stack: idle stacks are given up first, then coroutines that have
//! not started wait until one is free, and one line on stderr names the limit. Nothing crashes and
//! nothing is lost.
//!
//! When it refuses a thread for a blocking call, the call waits for one that there is; where there is none
//! it is a clear panic.
//!
//! Each test runs in a process of its own, under a limit: of addresses (`RLIMIT_AS`), where a region
//! of 1 GiB has 256 stacks of the default size, of mappings (`vm.max_map_count`), which guards by
//! `mprotect` use up, or of threads (`RLIMIT_NPROC`).

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::fd::FromRawFd;
use std::panic::catch_unwind;
use std::process::{Output, exit};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use coro::{Builder, Handle, JoinError, JoinHandle, Place, Runtime, inspect, tls};

use crate::common::{self, Counter, Gate, child_command, is_child, message};

/// In the parent: runs `test` in a new process with this variable in its environment, and gives back
/// how it ended. In that process: runs `body` and exits.
fn in_child(test: &str, variable: (&str, &str), body: impl FnOnce()) -> Output {
    if is_child(test) {
        let _watchdog = common::watchdog_for(common::CHILDS_LIMIT);
        body();
        exit(0);
    }
    let _watchdog = common::watchdog();
    child_command(test, test).env(variable.0, variable.1).output().unwrap()
}

/// One worker for the default runtime, so that its stacks are easily counted.
const ONE_WORKER: (&str, &str) = ("CORO_WORKERS", "1");

#[track_caller]
fn assert_success(output: &Output) {
    let (stdout, stderr) = (common::stdout(output), common::stderr(output));
    assert!(output.status.success(), "{}\n{stdout}\n{stderr}", output.status);
}

/// What a child under the limit of addresses may have: the region takes up to half of it.
const ADDRESSES: u64 = 2 << 30;

fn limit_addresses() {
    let limit = libc::rlimit { rlim_cur: ADDRESSES, rlim_max: ADDRESSES };
    // SAFETY: changes this process alone.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }, 0);
}

/// How many stacks of the default size a region under this limit has.
fn stacks_by_address() -> usize {
    coro::go(|| ()).join().unwrap();
    const CLASSES: u64 = 11;
    (inspect::metrics().stacks_reserved_bytes / CLASSES) as usize / (256 << 10)
}

/// Runs `body` in a child under the limit of addresses; in the parent, checks how it ended, and that
/// it said `lines` on stderr.
#[track_caller]
fn under_address_limit(test: &str, said: &[&str], body: fn()) {
    let output = in_child(test, ONE_WORKER, || {
        limit_addresses();
        body();
    });
    assert_success(&output);
    let stderr = common::stderr(&output);
    if said.is_empty() {
        assert_eq!(stderr, "");
    } else {
        assert_one_line(&stderr, said);
    }
}

#[track_caller]
fn assert_one_line(stderr: &str, said: &[&str]) {
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    for part in said {
        assert!(stderr.contains(part), "no {part} in: {stderr}");
    }
}

const ADDRESS_LINE: [&str; 4] =
    ["coro: no stack of 256 KiB", "is full", "ulimit -v", "wait until a stack is free"];

/// A gate that opens when the process writes its next line to stderr. What was written is passed on.
struct StderrGate {
    pipe: BufReader<File>,
    original: i32,
}

impl StderrGate {
    fn new() -> StderrGate {
        let mut ends = [0; 2];
        // SAFETY: descriptors of our own; 2 is replaced by a pipe, and kept.
        unsafe {
            assert_eq!(libc::pipe(ends.as_mut_ptr()), 0);
            let original = libc::dup(libc::STDERR_FILENO);
            assert_eq!(libc::dup2(ends[1], libc::STDERR_FILENO), libc::STDERR_FILENO);
            libc::close(ends[1]);
            StderrGate { pipe: BufReader::new(File::from_raw_fd(ends[0])), original }
        }
    }

    /// Waits for a line.
    fn wait(&mut self) -> String {
        let mut line = String::new();
        self.pipe.read_line(&mut line).unwrap();
        line
    }

    /// Puts stderr back, and writes there what was read.
    fn close(self, line: &str) {
        // SAFETY: the descriptor kept by `new`.
        assert_eq!(unsafe { libc::dup2(self.original, libc::STDERR_FILENO) }, libc::STDERR_FILENO);
        eprint!("{line}");
    }
}

/// A coroutine that tells its handle, waits to be unparked, stores, and ends with a cleanup.
fn one(handles: mpsc::Sender<Handle>, number: usize, cleanups: Counter) -> impl FnOnce() -> usize {
    move || {
        tls::set("number", number);
        tls::at_exit(move || cleanups.add());
        handles.send(coro::current().unwrap()).unwrap();
        drop(handles);
        coro::park();
        *tls::get::<usize>("number").unwrap()
    }
}

/// What any program does that is not out of memory.
fn assert_program_goes_on() {
    // Each has a mapping of its own.
    let blocks: Vec<Vec<u8>> = (0..200).map(|_| vec![1; 256 << 10]).collect();
    let threads: Vec<_> = (0..20).map(|n| thread::spawn(move || n)).collect();
    assert!(threads.into_iter().map(|thread| thread.join().unwrap()).eq(0..20));
    assert!(blocks.iter().all(|block| block[block.len() / 2] == 1));
}

/// Spawns `count` coroutines that all want a stack at once, waits until `line` has been written,
/// lets them end as they come, and checks that all of them did.
fn more_than_there_are(runtime: &Runtime, place: Place, count: usize) {
    let (send, handles) = mpsc::channel();
    let cleanups = Counter::default();
    let mut gate = StderrGate::new();
    let spawn = |number| {
        let body = one(send.clone(), number, cleanups.clone());
        Builder::new().place(place).spawn_on(runtime, body).unwrap()
    };
    let tasks: Vec<JoinHandle<usize>> = (0..count).map(spawn).collect();
    drop(send);
    let line = gate.wait();
    gate.close(&line);
    assert!(inspect::metrics().fresh > 0, "no coroutine had to wait");
    assert_program_goes_on();
    let mut started = 0;
    for handle in handles {
        started += 1;
        handle.unpark();
    }
    assert_eq!(started, count);
    for (number, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.join().unwrap(), number);
    }
    assert_eq!(cleanups.get(), count);
}

#[test]
#[cfg_attr(coro_asan, ignore = "AddressSanitizer maps more than such a limit allows")]
fn fault_coroutines_wait_for_a_stack_one_worker() {
    let test = "fault_coroutines_wait_for_a_stack_one_worker";
    under_address_limit(test, &ADDRESS_LINE, || {
        more_than_there_are(&common::runtime(1), Place::Stealable, 2000);
    });
}

#[test]
#[cfg_attr(coro_asan, ignore = "AddressSanitizer maps more than such a limit allows")]
fn fault_coroutines_wait_for_a_stack_four_workers() {
    let test = "fault_coroutines_wait_for_a_stack_four_workers";
    under_address_limit(test, &ADDRESS_LINE, || {
        more_than_there_are(&common::runtime(4), Place::Stealable, 2000);
    });
}

/// Those that are placed wait, and no other worker starts them.
#[test]
#[cfg_attr(coro_asan, ignore = "AddressSanitizer maps more than such a limit allows")]
fn fault_placed_coroutines_wait_for_a_stack_one_worker() {
    let test = "fault_placed_coroutines_wait_for_a_stack_one_worker";
    under_address_limit(test, &ADDRESS_LINE, || {
        more_than_there_are(&common::runtime(2), Place::Worker(1), 2000);
    });
}

#[test]
#[cfg_attr(coro_asan, ignore = "AddressSanitizer maps more than such a limit allows")]
fn fault_placed_coroutines_wait_for_a_stack_four_workers() {
    let test = "fault_placed_coroutines_wait_for_a_stack_four_workers";
    under_address_limit(test, &ADDRESS_LINE, || {
        more_than_there_are(&common::runtime(4), Place::Balanced, 2000);
    });
}

/// Coroutines that start others wait like all, and those that have a stack go on meanwhile.
#[test]
#[cfg_attr(coro_asan, ignore = "AddressSanitizer maps more than such a limit allows")]
fn fault_started_coroutines_go_on_while_others_wait() {
    let test = "fault_started_coroutines_go_on_while_others_wait";
    under_address_limit(test, &ADDRESS_LINE, || {
        let runtime = common::runtime(2);
        let ended = Counter::default();
        let release = Counter::default();
        // Before there is anything to report.
        let mut gate = StderrGate::new();
        let tasks: Vec<_> = (0..20)
            .map(|_| {
                let (ended, release) = (ended.clone(), release.clone());
                runtime.go(move || {
                    let children: Vec<_> = (0..50)
                        .map(|_| {
                            let (ended, release) = (ended.clone(), release.clone());
                            coro::go(move || {
                                // Runs on and on until the main thread has seen some waiting.
                                release.wait_for(1);
                                ended.add();
                            })
                        })
                        .collect();
                    children.into_iter().for_each(|child| child.join().unwrap());
                    ended.add();
                })
            })
            .collect();
        let line = gate.wait();
        gate.close(&line);
        release.add();
        tasks.into_iter().for_each(|task| task.join().unwrap());
        assert_eq!(ended.get(), 20 * 51);
    });
}

/// Holds all stacks of a runtime at once, then ends them: they are idle in its worker's pool.
fn fill_pool(runtime: &Runtime, count: usize) {
    let (send, handles) = mpsc::channel();
    let cleanups = Counter::default();
    let tasks: Vec<_> =
        (0..count).map(|number| runtime.go(one(send.clone(), number, cleanups.clone()))).collect();
    drop(send);
    // All of them are up before the first may end.
    let handles: Vec<Handle> = handles.into_iter().take(count).collect();
    handles.iter().for_each(Handle::unpark);
    tasks.into_iter().for_each(|task| assert!(task.join().is_ok()));
    assert_eq!(cleanups.get(), count);
}

/// The stacks that one worker keeps idle are given up for another that needs them.
#[test]
#[cfg_attr(coro_asan, ignore = "AddressSanitizer maps more than such a limit allows")]
fn fault_idle_stacks_of_other_workers_are_reclaimed() {
    let test = "fault_idle_stacks_of_other_workers_are_reclaimed";
    let output = in_child(test, ONE_WORKER, || {
        limit_addresses();
        let all = stacks_by_address() - 8;
        let runtimes: Vec<_> = (0..3).map(|_| common::runtime(1)).collect();
        // Again and again, and whoever had them last.
        for round in 0..6 {
            fill_pool(&runtimes[round % runtimes.len()], all);
        }
    });
    assert_success(&output);
}

/// A refusal that no other worker could help with leaves later ones as able to.
#[test]
#[cfg_attr(coro_asan, ignore = "AddressSanitizer maps more than such a limit allows")]
fn fault_idle_stacks_are_reclaimed_after_an_earlier_refusal() {
    let test = "fault_idle_stacks_are_reclaimed_after_an_earlier_refusal";
    let output = in_child(test, ONE_WORKER, || {
        limit_addresses();
        // No default runtime: the only worker is the one that is refused.
        let first = common::runtime(1);
        more_than_there_are(&first, Place::Stealable, 1000);
        // Its pool has them all now. A second runtime needs them.
        let second = common::runtime(1);
        fill_pool(&second, 100);
        fill_pool(&first, 100);
        fill_pool(&second, 200);
    });
    assert_success(&output);
    assert_one_line(&common::stderr(&output), &ADDRESS_LINE);
}

/// All stacks but a few are held by raw coroutines on a plain thread; when these go, a
/// worker that waits for one notices.
#[test]
#[cfg_attr(coro_asan, ignore = "AddressSanitizer maps more than such a limit allows")]
fn fault_a_stack_freed_by_hand_wakes_who_waits() {
    let test = "fault_a_stack_freed_by_hand_wakes_who_waits";
    let output = in_child(test, ONE_WORKER, || {
        limit_addresses();
        let runtime = common::runtime(1);
        let mut raw_coroutine = Vec::new();
        let refused = loop {
            match common::raw::<(), (), ()>(160 << 10, |_, ()| ()) {
                Ok(coroutine) => raw_coroutine.push(coroutine),
                Err(error) => break error,
            }
        };
        assert_eq!(refused.kind(), io::ErrorKind::OutOfMemory);
        let mut gate = StderrGate::new();
        let waiting = runtime.go(|| 42);
        let line = gate.wait();
        gate.close(&line);
        assert!(!waiting.is_finished());
        drop(raw_coroutine.pop());
        assert_eq!(waiting.join().unwrap(), 42);
    });
    assert_success(&output);
    assert_one_line(&common::stderr(&output), &ADDRESS_LINE);
}

/// The same where they are held by coroutines of another runtime.
#[test]
#[cfg_attr(coro_asan, ignore = "AddressSanitizer maps more than such a limit allows")]
fn fault_a_stack_freed_by_another_runtime_wakes_who_waits() {
    let test = "fault_a_stack_freed_by_another_runtime_wakes_who_waits";
    let output = in_child(test, ONE_WORKER, || {
        limit_addresses();
        // A runtime begins with a stack for each worker, so this one is made while there are some.
        let (holder, other) = (common::runtime(1), common::runtime(1));
        let (send, handles) = mpsc::channel();
        let mut gate = StderrGate::new();
        let cleanups = Counter::default();
        let held: Vec<_> =
            (0..1000).map(|n| holder.go(one(send.clone(), n, cleanups.clone()))).collect();
        drop(send);
        // The holder has met the limit, and has fresh ones of its own that want what comes free:
        // these are cancelled, so that they want nothing any more.
        let line = gate.wait();
        gate.close(&line);
        let up: Vec<Handle> = handles.try_iter().collect();
        assert!(up.len() >= 100, "{}", up.len());
        let waiting = other.go(|| 42);
        held.iter().filter(|task| up.iter().all(|up| up.id() != task.id())).for_each(|task| {
            task.cancel();
        });
        up.iter().for_each(Handle::unpark);
        assert_eq!(waiting.join().unwrap(), 42);
        held.into_iter().for_each(|task| drop(task.join()));
    });
    assert_success(&output);
    assert_one_line(&common::stderr(&output), &ADDRESS_LINE);
}

/// Under the limit of addresses there are two stacks of this size, in slots of 32 MiB.
const LARGE: usize = 31 << 20;

const LARGE_LINE: [&str; 3] = ["coro: no stack of 32 MiB", "is full (2 slots)", "ulimit -v"];

/// A coroutine with a large stack.
fn large<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    large_at(Place::Stealable, f)
}

fn large_at<T: Send + 'static>(
    place: Place,
    f: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    Builder::new().stack_size(LARGE).place(place).spawn(f).unwrap()
}

/// Two coroutines that have the large stacks and are parked, and `count` that wait for one, once the
/// process has said so.
fn use_up_large(runtime: &Runtime, count: usize) -> (Vec<JoinHandle<()>>, Vec<JoinHandle<usize>>) {
    let mut gate = StderrGate::new();
    let up = Counter::default();
    let parked = runtime.go({
        let up = up.clone();
        move || {
            let park = move || {
                up.add();
                coro::park();
            };
            (0..2).map(|_| large(park.clone())).collect()
        }
    });
    let parked = parked.join().unwrap();
    up.wait_for(2);
    let waiting = runtime.go(move || (0..count).map(|n| large(move || n)).collect());
    let waiting = waiting.join().unwrap();
    let line = gate.wait();
    gate.close(&line);
    (parked, waiting)
}

/// Coroutines that wait for a stack of one size hold up nobody who wants another: not even the one
/// on whom it depends that they are served.
fn one_size_is_short(runtime: &Runtime) {
    let (parked, waiting) = use_up_large(runtime, 3);
    // From outside and from inside, and more of them than between two looks round.
    for _ in 0..200 {
        runtime.go(|| coro::go(|| ()).join().unwrap()).join().unwrap();
    }
    assert_eq!(inspect::metrics().fresh, 3);
    let unpark = move || parked.iter().for_each(|one| one.handle().unpark());
    runtime.go(move || coro::go(unpark).join().unwrap()).join().unwrap();
    for (n, one) in waiting.into_iter().enumerate() {
        assert_eq!(one.join().unwrap(), n);
    }
}

#[test]
#[cfg_attr(coro_asan, ignore = "AddressSanitizer maps more than such a limit allows")]
fn fault_a_shortage_of_one_size_holds_up_no_other_one_worker() {
    let test = "fault_a_shortage_of_one_size_holds_up_no_other_one_worker";
    under_address_limit(test, &LARGE_LINE, || one_size_is_short(&common::runtime(1)));
}

#[test]
#[cfg_attr(coro_asan, ignore = "AddressSanitizer maps more than such a limit allows")]
fn fault_a_shortage_of_one_size_holds_up_no_other_four_workers() {
    let test = "fault_a_shortage_of_one_size_holds_up_no_other_four_workers";
    under_address_limit(test, &LARGE_LINE, || one_size_is_short(&common::runtime(4)));
}

/// Those who wait for a stack get theirs in the order in which they were refused it.
#[test]
#[cfg_attr(coro_asan, ignore = "AddressSanitizer maps more than such a limit allows")]
fn fault_who_has_waited_longest_gets_the_next_stack() {
    let test = "fault_who_has_waited_longest_gets_the_next_stack";
    under_address_limit(test, &LARGE_LINE, || {
        let runtime = common::runtime(1);
        let (parked, first) = use_up_large(&runtime, 1);
        let (send, order) = mpsc::channel();
        let second: Vec<_> = (0..10)
            .map(|n| {
                let send = send.clone();
                let spawn = move || large(move || send.send(n).unwrap());
                let task = runtime.go(spawn).join().unwrap();
                // The worker has taken it up, and been refused, before it runs this.
                runtime.go(|| ()).join().unwrap();
                task
            })
            .collect();
        // One stack alone changes hands.
        parked[0].handle().unpark();
        assert_eq!(order.iter().take(10).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
        first.into_iter().for_each(|one| assert_eq!(one.join().unwrap(), 0));
        second.into_iter().for_each(|one| one.join().unwrap());
        parked[1].handle().unpark();
        parked.into_iter().for_each(|one| one.join().unwrap());
    });
}

/// Those that are placed with a worker and wait for a stack get it there, in the order in which they were placed, and
/// hold up no other that is placed there. Meanwhile no worker works in vain.
#[test]
#[cfg_attr(coro_asan, ignore = "AddressSanitizer maps more than such a limit allows")]
fn fault_placed_coroutines_wait_at_their_place() {
    const EACH: usize = 10;
    const WORKERS: usize = 3;
    const WATCHED: Duration = Duration::from_secs(1);
    let test = "fault_placed_coroutines_wait_at_their_place";
    under_address_limit(test, &LARGE_LINE, || {
        let runtime = common::runtime(WORKERS);
        let (parked, first) = use_up_large(&runtime, 1);
        let (send, order) = mpsc::channel();
        let place = move || {
            let one = |n| {
                let send = send.clone();
                let tell = move || {
                    let name = thread::current().name().unwrap().to_owned();
                    assert_eq!(name, format!("coro-{}", n % WORKERS));
                    send.send(n).unwrap();
                };
                large_at(Place::Worker(n % WORKERS), tell)
            };
            (0..EACH * WORKERS).map(one).collect::<Vec<_>>()
        };
        let waiting = runtime.go(place).join().unwrap();
        for worker in 0..WORKERS {
            let small = Builder::new().place(Place::Worker(worker));
            small.spawn_on(&runtime, || ()).unwrap().join().unwrap();
        }
        assert_eq!(inspect::metrics().fresh as usize, EACH * WORKERS + 1);
        let before = cpu_time();
        // Here the passing of time is what is tested.
        thread::sleep(WATCHED);
        let used = cpu_time() - before;
        assert!(used < WATCHED / 10, "{used:?}");
        assert!(order.try_recv().is_err());
        parked[0].handle().unpark();
        waiting.into_iter().for_each(|one| one.join().unwrap());
        first.into_iter().for_each(|one| assert_eq!(one.join().unwrap(), 0));
        let order: Vec<usize> = order.iter().take(EACH * WORKERS).collect();
        for worker in 0..WORKERS {
            let there = order.iter().copied().filter(|n| n % WORKERS == worker);
            assert!(there.eq((worker..EACH * WORKERS).step_by(WORKERS)), "{order:?}");
        }
        parked[1].handle().unpark();
        parked.into_iter().for_each(|one| one.join().unwrap());
    });
}

/// How long the process has run, all its threads together.
fn cpu_time() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a live local.
    let done = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut now) };
    assert_eq!(done, 0);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// A worker that is itself refused a stack gives up the idle ones of another size that somebody else
/// has asked for.
#[test]
#[cfg_attr(coro_asan, ignore = "AddressSanitizer maps more than such a limit allows")]
fn fault_who_is_refused_one_size_gives_up_another() {
    let test = "fault_who_is_refused_one_size_gives_up_another";
    under_address_limit(test, &LARGE_LINE, || {
        fn largest() -> JoinHandle<()> {
            Builder::new().stack_size(2 * LARGE).spawn(coro::park).unwrap()
        }
        let (holder, other) = (common::runtime(1), common::runtime(1));
        // Both large stacks are idle with the holder, and the only one of twice the size is in use.
        let both = || {
            let up = Counter::default();
            let one = |up: Counter| {
                large(move || {
                    up.add();
                    up.wait_for(2);
                })
            };
            let pair = [one(up.clone()), one(up)];
            pair.into_iter().for_each(|one| one.join().unwrap());
            largest()
        };
        let parked = holder.go(both).join().unwrap();
        let (inside, refused) = (Counter::default(), Gate::default());
        let next = holder.go({
            let (inside, refused) = (inside.clone(), refused.clone());
            move || {
                inside.add();
                refused.block();
                largest()
            }
        });
        inside.wait_for(1);
        let mut gate = StderrGate::new();
        let waiting = other.go(|| large(|| 42));
        let line = gate.wait();
        gate.close(&line);
        // The holder is refused in its next turn, before it looks round.
        refused.open();
        assert_eq!(waiting.join().unwrap().join().unwrap(), 42);
        let next = next.join().unwrap();
        parked.handle().unpark();
        next.handle().unpark();
        parked.join().unwrap();
        next.join().unwrap();
    });
}

/// Shortages of several sizes at once, in two runtimes that share the stacks.
#[test]
#[cfg_attr(coro_asan, ignore = "AddressSanitizer maps more than such a limit allows")]
fn fault_shortages_of_several_sizes_at_once() {
    let test = "fault_shortages_of_several_sizes_at_once";
    let output = in_child(test, ONE_WORKER, || {
        limit_addresses();
        let ended = Counter::default();
        for runtimes in [[1, 1], [2, 1], [2, 4]] {
            let before = ended.get();
            let runtimes = runtimes.map(common::runtime);
            let tasks: Vec<_> = (0..600)
                .map(|n| {
                    let ended = ended.clone();
                    // Each waits for one of another size, which waits for nobody.
                    runtimes[n % 2].go(move || {
                        tls::at_exit(coro::yield_now);
                        let end = ended.clone();
                        let other = Builder::new().stack_size((15 << 20) << (n % 3));
                        let other = other.spawn(move || {
                            coro::yield_now();
                            end.add();
                        });
                        coro::yield_now();
                        other.unwrap().join().unwrap();
                        ended.add();
                    })
                })
                .collect();
            tasks.into_iter().for_each(|task| task.join().unwrap());
            assert_eq!(ended.get() - before, 1200);
        }
    });
    assert_success(&output);
}

/// Who waits for a stack can be cancelled meanwhile: its closure is dropped unrun.
#[test]
#[cfg_attr(coro_asan, ignore = "AddressSanitizer maps more than such a limit allows")]
fn fault_who_waits_for_a_stack_is_cancelled() {
    let test = "fault_who_waits_for_a_stack_is_cancelled";
    under_address_limit(test, &LARGE_LINE, || {
        let runtime = common::runtime(2);
        let (parked, waiting) = use_up_large(&runtime, 10);
        waiting.iter().step_by(2).for_each(|one| one.cancel());
        parked[0].handle().unpark();
        for (n, one) in waiting.into_iter().enumerate() {
            match one.join() {
                Ok(value) => assert!(value == n && n % 2 == 1),
                cancelled => {
                    common::assert_cancelled(cancelled);
                    assert_eq!(n % 2, 0);
                }
            }
        }
        parked[1].handle().unpark();
    });
}

/// Who waits for a stack when its runtime ends is counted as alive until then, and dropped unrun.
#[test]
#[cfg_attr(coro_asan, ignore = "AddressSanitizer maps more than such a limit allows")]
fn fault_who_waits_for_a_stack_ends_with_the_runtime() {
    let test = "fault_who_waits_for_a_stack_ends_with_the_runtime";
    under_address_limit(test, &LARGE_LINE, || {
        let runtime = Arc::new(common::runtime(1));
        let (parked, first) = use_up_large(&runtime, 1);
        let dropped = Counter::default();
        let spawn = {
            let dropped = dropped.clone();
            move || {
                let one = |n| {
                    let on_drop = dropped.on_drop();
                    let place = if n % 2 == 0 { Place::Stealable } else { Place::Worker(0) };
                    large_at(place, move || panic!("{on_drop:?} had a stack"))
                };
                (0..10).map(one).collect::<Vec<JoinHandle<()>>>()
            }
        };
        let waiting = runtime.go(spawn).join().unwrap();
        assert_eq!(inspect::metrics().fresh, 11);
        let inside = Arc::clone(&runtime);
        let alive = runtime.go(move || inside.shutdown_timeout(Duration::ZERO));
        // Itself, those that hold the stacks, and those that wait.
        assert_eq!(alive.join().unwrap(), 1 + 2 + 11);
        runtime.shutdown();
        assert_eq!(dropped.get(), 10);
        parked.into_iter().for_each(|one| common::assert_cancelled(one.join()));
        first.into_iter().for_each(|one| common::assert_cancelled(one.join()));
        waiting.into_iter().for_each(|one| common::assert_cancelled(one.join()));
    });
}

/// A closure that never had a stack, and whose destructor starts another coroutine and waits for it, does not hold
/// the shutdown up.
#[test]
#[cfg_attr(coro_asan, ignore = "AddressSanitizer maps more than such a limit allows")]
fn fault_who_waits_for_a_stack_may_wait_in_its_destructor() {
    let test = "fault_who_waits_for_a_stack_may_wait_in_its_destructor";
    under_address_limit(test, &LARGE_LINE, || {
        let runtime = common::runtime(1);
        // The stacks are in use to the end, elsewhere.
        let held = [(); 2].map(|()| common::raw::<(), (), ()>(LARGE, |_, ()| ()).unwrap());
        let joined = Counter::default();
        let waits = common::RunOnDrop({
            let joined = joined.clone();
            move || {
                assert_eq!(coro::go(|| 5).join().unwrap(), 5);
                joined.add();
            }
        });
        let mut gate = StderrGate::new();
        let spawn = move || large(move || drop(waits));
        let waiting = runtime.go(spawn).join().unwrap();
        let line = gate.wait();
        gate.close(&line);
        runtime.shutdown();
        assert_eq!(joined.get(), 1);
        common::assert_cancelled(waiting.join());
        drop(held);
    });
}

/// A shutdown that gives up those who hold the stacks drops those who wait for one.
#[test]
#[cfg_attr(coro_asan, ignore = "AddressSanitizer maps more than such a limit allows")]
fn fault_who_waits_for_a_stack_of_the_given_up_is_dropped() {
    let test = "fault_who_waits_for_a_stack_of_the_given_up_is_dropped";
    let output = in_child(test, ONE_WORKER, || {
        limit_addresses();
        let runtime = common::runtime(1);
        let (up, release) = (Counter::default(), Counter::default());
        let hold = {
            let (up, release) = (up.clone(), release.clone());
            move || {
                up.add();
                while release.get() == 0 {
                    let _ = catch_unwind(coro::park);
                }
            }
        };
        let spawn = move || (0..2).map(|_| large(hold.clone())).collect::<Vec<_>>();
        let held = runtime.go(spawn).join().unwrap();
        up.wait_for(2);
        let waiting = runtime.go(|| (0..2).map(|_| large(|| ())).collect::<Vec<_>>());
        let waiting = waiting.join().unwrap();
        // The worker has taken them up, and been refused, before it runs this.
        runtime.go(|| ()).join().unwrap();
        assert_eq!(runtime.shutdown_timeout(Duration::from_millis(1)), 2);
        waiting.into_iter().for_each(|one| common::assert_cancelled(one.join()));
        release.add();
        for one in held {
            one.handle().unpark();
            one.join().unwrap();
        }
    });
    assert_success(&output);
}

/// What the kernel has refused it may grant later, though no stack has come free meanwhile.
#[test]
#[cfg_attr(coro_asan, ignore = "AddressSanitizer maps more than such a limit allows")]
fn fault_who_waits_for_a_stack_gets_one_when_the_limit_is_raised() {
    let test = "fault_who_waits_for_a_stack_gets_one_when_the_limit_is_raised";
    let output = in_child(test, ONE_WORKER, || {
        let runtime = common::runtime(1);
        runtime.go(|| ()).join().unwrap();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let data = status.lines().find_map(|line| line.strip_prefix("VmData:")).unwrap();
        let kib: u64 = data.trim().strip_suffix(" kB").unwrap().parse().unwrap();
        let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: changes this process alone; the hard limit stays.
        unsafe {
            libc::getrlimit(libc::RLIMIT_DATA, &raw mut before);
            // Room for three stacks of 32 MiB, in half of it.
            let tight = libc::rlimit { rlim_cur: (kib << 10) + (232 << 20), ..before };
            assert_eq!(libc::setrlimit(libc::RLIMIT_DATA, &raw const tight), 0);
        }
        let (up, go_on) = (Counter::default(), Counter::default());
        let mut gate = StderrGate::new();
        let all = runtime.go({
            let (up, go_on) = (up.clone(), go_on.clone());
            move || {
                let one = |_| {
                    let (up, go_on) = (up.clone(), go_on.clone());
                    let wait = move || {
                        up.add();
                        while go_on.get() == 0 {
                            coro::park();
                        }
                    };
                    Builder::new().stack_size(31 << 20).spawn(wait).unwrap()
                };
                (0..8).map(one).collect::<Vec<_>>()
            }
        });
        let all = all.join().unwrap();
        let line = gate.wait();
        gate.close(&line);
        assert!(up.get() < 8);
        // SAFETY: as above.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_DATA, &raw const before) }, 0);
        // The worker goes to sleep again after this one.
        runtime.go(|| ()).join().unwrap();
        up.wait_for(8);
        go_on.add();
        for one in all {
            one.handle().unpark();
            one.join().unwrap();
        }
    });
    assert_success(&output);
    let line = ["coro: no stack of 32 MiB", "half of ulimit -d", "wait until a stack is free"];
    assert_one_line(&common::stderr(&output), &line);
}

/// Who may fail is told, with the limit's name; later it works again.
#[test]
#[cfg_attr(coro_asan, ignore = "AddressSanitizer maps more than such a limit allows")]
fn fault_the_fallible_forms_name_the_limit() {
    let test = "fault_the_fallible_forms_name_the_limit";
    under_address_limit(test, &[], || {
        let room = stacks_by_address();
        let mut raw_coroutine = Vec::new();
        let check = |error: io::Error| {
            assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
            let text = error.to_string();
            assert!(text.contains("no stack of 256 KiB") && text.contains("ulimit -v"), "{text}");
        };
        for _ in 0..3 {
            let refused = loop {
                match common::raw::<(), (), ()>(160 << 10, |_, ()| ()) {
                    Ok(coroutine) => raw_coroutine.push(coroutine),
                    Err(error) => break error,
                }
            };
            check(refused);
            // The worker's pool has the one that found out how many there are.
            assert!(
                (room - 2..=room).contains(&raw_coroutine.len()),
                "{} of {room}",
                raw_coroutine.len()
            );
            raw_coroutine.clear();
        }
        // A size that has no place at all under this limit.
        let runs = Counter::default();
        let counter = runs.clone();
        let error = Builder::new().stack_size(64 << 20).spawn(move || counter.add());
        if let Err(error) = error {
            assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
            assert!(error.to_string().contains("128 MiB"), "{error}");
            assert_eq!(runs.get(), 0);
        }
        let task = Builder::new().stack_size(160 << 10).spawn(|| 5).unwrap();
        assert_eq!(task.join().unwrap(), 5);
    });
}

/// No address range at all: an error that names the limit, from whatever wants the first stack; and
/// when the limit is raised, it works.
#[test]
#[cfg_attr(coro_asan, ignore = "AddressSanitizer maps more than such a limit allows")]
fn fault_no_region_is_an_error_and_no_end() {
    let test = "fault_no_region_is_an_error_and_no_end";
    let output = in_child(test, ONE_WORKER, || {
        let mut before: libc::rlimit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: changes this process alone; the hard limit stays.
        unsafe {
            libc::getrlimit(libc::RLIMIT_AS, &raw mut before);
            let tight = libc::rlimit { rlim_cur: 100 << 20, ..before };
            assert_eq!(libc::setrlimit(libc::RLIMIT_AS, &raw const tight), 0);
        }
        for _ in 0..2 {
            let refused = [
                Runtime::builder().workers(1).build().err(),
                Builder::new().spawn(|| ()).err(),
                common::raw::<(), (), ()>(1, |_, ()| ()).err(),
            ];
            for error in refused {
                let error = error.expect("refused");
                assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
                assert!(error.to_string().contains("ulimit -v = 102400"), "{error}");
            }
        }
        // SAFETY: as above.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const before) }, 0);
        assert_eq!(coro::go(|| 42).join().unwrap(), 42);
    });
    assert_success(&output);
}

/// `go` panics with the same words.
#[test]
#[cfg_attr(coro_asan, ignore = "AddressSanitizer maps more than such a limit allows")]
fn fault_go_panics_where_there_is_no_region() {
    let test = "fault_go_panics_where_there_is_no_region";
    let output = in_child(test, ONE_WORKER, || {
        let tight = libc::rlimit { rlim_cur: 100 << 20, rlim_max: 100 << 20 };
        // SAFETY: changes this process alone.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const tight) }, 0);
        drop(coro::go(|| ()));
    });
    assert_eq!(output.status.code(), Some(101), "{output:?}");
    let stderr = common::stderr(&output);
    assert!(stderr.contains("no coroutine can be started: no addresses for stacks"), "{stderr}");
    assert!(stderr.contains("ulimit -v = 102400"), "{stderr}");
}

/// The knobs, in whatever says that there is no thread.
const THREADS: [&str; 3] = ["os error 11", "ulimit -u", "pids.max"];

/// It is refused, and neither its worker nor a later call suffers from it.
#[test]
fn fault_a_blocking_call_without_any_thread_is_a_clear_panic() {
    let test = "fault_a_blocking_call_without_any_thread_is_a_clear_panic";
    let output = in_child(test, ONE_WORKER, || {
        common::quiet();
        coro::go(|| ()).join().unwrap();
        common::become_limitable();
        common::limit_threads(true);
        for _ in 0..3 {
            let (dropped, captured) = (Counter::default(), Counter::default());
            let (on_drop, on_frame) = (captured.on_drop(), dropped.on_drop());
            let refused = coro::go(move || {
                let _on_frame = on_frame;
                coro::blocking(move || drop(on_drop));
            });
            match refused.join() {
                Err(JoinError::Panicked(payload)) => {
                    let said = message(&*payload);
                    assert!(said.contains("no thread for a blocking call"), "{said}");
                    assert!(THREADS.iter().all(|part| said.contains(part)), "{said}");
                }
                other => panic!("{other:?}"),
            }
            assert_eq!((dropped.get(), captured.get()), (1, 1));
            assert_eq!(coro::go(|| 2).join().unwrap(), 2);
        }
        common::limit_threads(false);
        assert_eq!(coro::go(|| coro::blocking(|| 1)).join().unwrap(), 1);
    });
    assert_success(&output);
}

/// Those that are called while it is busy wait for the only thread, in their order; and when the system
/// grants threads again, there are more.
#[test]
fn fault_blocking_calls_wait_for_the_threads_there_are() {
    let test = "fault_blocking_calls_wait_for_the_threads_there_are";
    let output = in_child(test, ONE_WORKER, || {
        let (gate, inside) = (Gate::default(), Counter::default());
        let call = |gate: &Gate, inside: &Counter| {
            let (gate, inside) = (gate.clone(), inside.clone());
            coro::go(move || {
                coro::blocking(|| {
                    inside.add();
                    gate.block();
                    thread::current().id()
                })
            })
        };
        let first = call(&gate, &inside);
        inside.wait_for(1);
        common::become_limitable();
        common::limit_threads(true);
        let (order, came) = mpsc::channel();
        let waiting: Vec<_> = (0..10)
            .map(|n| {
                let order = order.clone();
                let called = coro::go(move || {
                    coro::blocking(|| {
                        order.send(n).unwrap();
                        thread::current().id()
                    })
                });
                // The next is called when this one is.
                while inspect::metrics().parked < 2 + n {
                    thread::yield_now();
                }
                called
            })
            .collect();
        gate.open();
        let thread = first.join().unwrap();
        for called in waiting {
            assert_eq!(called.join().unwrap(), thread);
        }
        assert!(came.try_iter().eq(0..10));
        common::limit_threads(false);
        let (gate, inside) = (Gate::default(), Counter::default());
        let several = [0; 3].map(|_| call(&gate, &inside));
        inside.wait_for(3);
        gate.open();
        for called in several {
            called.join().unwrap();
        }
    });
    assert_success(&output);
    let said = ["coro: no further thread for blocking calls", "they wait for one of 1"];
    let said: Vec<_> = said.into_iter().chain(THREADS).collect();
    assert_one_line(&common::stderr(&output), &said);
}

/// Where bytes of data are limited, half of them stay the program's.
#[test]
#[cfg_attr(coro_asan, ignore = "AddressSanitizer maps more than such a limit allows")]
fn fault_at_the_limit_of_data_coroutines_wait() {
    let test = "fault_at_the_limit_of_data_coroutines_wait";
    let output = in_child(test, ONE_WORKER, || {
        let limit = libc::rlimit { rlim_cur: 512 << 20, rlim_max: 512 << 20 };
        // SAFETY: changes this process alone.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_DATA, &raw const limit) }, 0);
        more_than_there_are(&common::runtime(2), Place::Stealable, 2000);
    });
    assert_success(&output);
    let line = ["coro: no stack of 256 KiB", "half of ulimit -d", "wait until a stack is free"];
    assert_one_line(&common::stderr(&output), &line);
}

/// At `vm.max_map_count`: more coroutines than the kernel allows guards by `mprotect`.
#[test]
#[cfg_attr(coro_asan, ignore = "AddressSanitizer ends the process where it is refused a mapping")]
fn fault_at_max_map_count_coroutines_wait() {
    let test = "fault_at_max_map_count_coroutines_wait";
    let setting = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap();
    let mappings: usize = setting.trim().parse().unwrap();
    // The test itself costs a moment, and a machine that allows many more a long one.
    if mappings > 100_000 {
        return eprintln!("{test}: skipped, vm.max_map_count = {mappings} is too much to use up");
    }
    let output = in_child(test, ("CORO_GUARD", "mprotect"), || {
        let (runtime, other) = (common::runtime(2), common::runtime(1));
        // Two mappings each, and the program has its share.
        let stacks = mappings / 2 - (mappings / 8).max(2_000) / 2;
        more_than_there_are(&runtime, Place::Stealable, stacks + 2_000);
        // Nothing was lost by it: nearly as many at once, here and on workers that have none yet.
        fill_pool(&runtime, stacks - 10);
        fill_pool(&other, stacks - 10);
    });
    assert_success(&output);
    let stderr = common::stderr(&output);
    let knob = format!("vm.max_map_count = {mappings}");
    assert_one_line(&stderr, &["coro: no stack of 256 KiB: stacks have", &knob, "wait until"]);
}
