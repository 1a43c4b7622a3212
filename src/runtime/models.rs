//! Models of falling asleep and being woken, under loom: [`Idle`] and, below it, [`Sleep`].
//!
//! Both are the real ones. A [`Crew`] is as much of a runtime as they serve: a queue for tasks from
//! outside, two for each worker and one for those that were refused a stack, each of them just a
//! length, a shelf of stacks, just a number, and workers that go through
//! [`wait_for_work`](super::worker) step by step, in one round of search. Where that function
//! changes, its shadow here changes with it. The function itself cannot run here, for it runs tasks on
//! stacks of their own, and takes fresh ones from crossbeam's queues, which loom does not see into.
//!
//! A worker of a crew runs what it has found for ever: it leaves, and never looks at a queue again.
//! So a task that is left lying while a worker sleeps is a deadlock, which loom reports, and a
//! model that ends with as many tasks taken as there are workers has had every task found in time.
//! That is a promise of the runtime as well: as many coroutines as there are workers may wait for
//! each other by spinning.
//!
//! A length is read `Relaxed`, which is less than crossbeam's queues give. So what the models show
//! rests on `Idle` and `Sleep` alone.
//!
//! Most models are bounded by the number of switches that are forced on a thread that could go on;
//! the number is what a model of under twenty seconds allows.

use loom::sync::Mutex;
use loom::thread::{self, JoinHandle};
use std::sync::Arc;

use super::deadlock::all_asleep;
use super::idle::Idle;
use crate::base::atomics::{AtomicUsize, Ordering, Seen, explore, fence};
use crate::driver::{Events, Sleep};

/// How many fresh tasks are in a queue.
struct Queue(AtomicUsize);

impl Queue {
    fn with(tasks: usize) -> Queue {
        Queue(AtomicUsize::new(tasks))
    }

    fn push(&self, tasks: usize) {
        self.0.fetch_add(tasks, Ordering::Release);
    }

    fn is_empty(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    /// Takes up to `most` tasks, and says how many.
    fn take(&self, most: usize) -> usize {
        let mut length = self.0.load(Ordering::Relaxed);
        while length > 0 {
            let taken = length.min(most);
            match self.0.compare_exchange(
                length,
                length - taken,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return taken,
                Err(now) => length = now,
            }
        }
        0
    }
}

/// A worker as others see it.
struct Seat {
    sleep: Sleep,
    fresh: Queue,
    /// Tasks that are placed with this worker.
    placed: Queue,
    /// What is the worker's own: a started task in its inbox, or the news of a shutdown.
    call: AtomicUsize,
}

impl AsRef<Sleep> for Seat {
    fn as_ref(&self) -> &Sleep {
        &self.sleep
    }
}

/// The workers of a runtime.
struct Crew {
    idle: Idle,
    injector: Queue,
    refused: Queue,
    /// Stacks that are to be had.
    shelf: Mutex<usize>,
    /// Somebody was refused a stack, and none has come onto the shelf since.
    short: AtomicUsize,
    seats: Vec<Seat>,
    seen: Arc<Seen>,
}

/// What a model has to meet: a worker's last look finds nothing, or something.
const BLOCKED: u32 = 0;
const OVERLOOKED: u32 = 1;

impl Crew {
    fn new(workers: usize, injected: usize, seen: Arc<Seen>) -> Arc<Crew> {
        let seat = |_| Seat {
            sleep: Sleep::new(),
            fresh: Queue::with(0),
            placed: Queue::with(0),
            call: AtomicUsize::new(0),
        };
        let seats = (0..workers).map(seat).collect();
        Arc::new(Crew {
            idle: Idle::new(),
            injector: Queue::with(injected),
            refused: Queue::with(0),
            shelf: Mutex::new(0),
            short: AtomicUsize::new(0),
            seats,
            seen,
        })
    }

    /// As `Shared::spawn`.
    fn spawn_from_outside(&self) {
        self.injector.push(1);
        self.idle.notify(&self.seats);
    }

    /// As `Shared::place`.
    fn place(&self, worker: usize) {
        self.seats[worker].placed.push(1);
        fence(Ordering::SeqCst);
        self.seats[worker].sleep.wake();
    }

    /// As `Mailbox::push` into an empty inbox, and as `Shared::close`.
    fn call(&self, worker: usize) {
        self.seats[worker].call.store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.seats[worker].sleep.wake();
    }

    fn is_called(&self, worker: usize) -> bool {
        self.seats[worker].call.load(Ordering::Relaxed) == 1
    }

    /// Whether a fresh task is waiting anywhere, and not just for a stack.
    fn has_fresh(&self) -> bool {
        !self.injector.is_empty()
            || self.seats.iter().any(|seat| !seat.fresh.is_empty())
            || self.any_retryable()
    }

    /// As `StackWaitQueue::any_retryable`.
    fn any_retryable(&self) -> bool {
        !self.refused.is_empty() && self.short.load(Ordering::Relaxed) == 0
    }

    /// As `Worker::start`: takes a stack for a task, or sets the task aside.
    fn start(&self) -> bool {
        if self.take_stack() {
            return true;
        }
        self.refused.push(1);
        fence(Ordering::SeqCst);
        if self.any_retryable() {
            self.idle.notify(&self.seats);
        }
        false
    }

    /// As `Worker::take_retryable`.
    fn start_relieved(&self) -> bool {
        self.any_retryable() && self.take_stack() && {
            assert_eq!(self.refused.take(1), 1, "one stack is enough for all in these models");
            true
        }
    }

    /// As `Worker::take_stack`, where the kernel refuses.
    fn take_stack(&self) -> bool {
        self.unshelve() || {
            self.short.store(1, Ordering::Release);
            self.unshelve()
        }
    }

    fn unshelve(&self) -> bool {
        let mut shelf = self.shelf.lock().unwrap();
        let any = *shelf > 0;
        *shelf -= usize::from(any);
        any
    }

    /// As `stack::give`, and what that calls.
    fn give_stack(&self) {
        *self.shelf.lock().unwrap() += 1;
        if self.short.load(Ordering::Acquire) == 1 && self.short.swap(0, Ordering::AcqRel) == 1 {
            fence(Ordering::SeqCst);
            self.seats.iter().for_each(|seat| seat.sleep.wake());
        }
    }

    /// As `Worker::steal`: takes a task, and with it what more the `batch` allows into the own
    /// queue. What is on its way is in neither queue, as with crossbeam's.
    fn search(&self, worker: usize, batch: usize) -> bool {
        let own = &self.seats[worker].fresh;
        if own.take(1) == 1 {
            return true;
        }
        let others =
            self.seats.iter().map(|seat| &seat.fresh).filter(|queue| !std::ptr::eq(*queue, own));
        for queue in std::iter::once(&self.injector).chain(others) {
            let taken = queue.take(batch);
            if taken > 1 {
                own.push(taken - 1);
            }
            if taken > 0 {
                return true;
            }
        }
        false
    }

    /// As a worker does that is busy, at every 61st turn: it counts as searching while it takes the
    /// oldest task that there is.
    fn take_oldest(&self, worker: usize) -> bool {
        self.idle.start_search();
        let found = self.search(worker, 2);
        self.leave_search();
        found
    }

    /// As `Worker::leave_search`.
    fn leave_search(&self) {
        if self.idle.end_search() {
            fence(Ordering::SeqCst);
            if self.has_fresh() {
                self.idle.notify(&self.seats);
            }
        }
    }

    /// As `Detector::check`, as far as the workers are concerned.
    fn all_asleep(&self) -> bool {
        all_asleep(&self.seats, || true)
    }

    fn fall_asleep(&self, worker: usize) {
        self.idle.search_to_sleep(&self.seats[worker].sleep);
    }

    /// A worker that searches, or begins to, until it finds a fresh task.
    fn find(&self, worker: usize, batch: usize) {
        while !self.search(worker, batch) {
            self.fall_asleep(worker);
            self.sleep_on(worker, || self.has_fresh());
        }
        self.leave_search();
    }

    /// The rest of a worker's sleep, from its last look on.
    fn sleep_on(&self, worker: usize, overlooked: impl FnOnce() -> bool) {
        let sleep = &self.seats[worker].sleep;
        if overlooked() {
            self.seen.note(OVERLOOKED);
        } else {
            self.seen.note(BLOCKED);
            sleep.block(None, &mut Events::default());
        }
        self.idle.sleep_to_search(sleep);
    }

    /// A worker that was awake and has nothing to do, on a thread.
    fn idle_worker(self: &Arc<Crew>, worker: usize) -> JoinHandle<()> {
        let crew = Arc::clone(self);
        thread::spawn(move || {
            crew.idle.start_search();
            crew.find(worker, 1);
        })
    }

    /// A worker that is asleep before the model begins, on a thread.
    fn sleeping_worker(self: &Arc<Crew>, worker: usize) -> JoinHandle<()> {
        self.idle.start_search();
        self.fall_asleep(worker);
        let crew = Arc::clone(self);
        thread::spawn(move || {
            crew.sleep_on(worker, || false);
            crew.find(worker, 1);
        })
    }

    /// As `wait_for_work` and `look_around` of the only worker, which is called for the shutdown
    /// alone. Gives the number of tasks that it found.
    fn work_until_closed(&self) -> usize {
        let (mut closing, mut found) = (false, 0);
        self.idle.start_search();
        loop {
            if !closing && self.is_called(0) {
                closing = true;
                fence(Ordering::SeqCst);
            }
            if self.search(0, 1) || self.seats[0].placed.take(1) == 1 {
                self.leave_search();
                found += 1;
                self.idle.start_search();
                continue;
            }
            if closing {
                self.leave_search();
                return found;
            }
            self.fall_asleep(0);
            let placed = &self.seats[0].placed;
            self.sleep_on(0, || !placed.is_empty() || self.has_fresh() || self.is_called(0));
        }
    }

    /// At the end of a model: no worker is left, and nothing to do.
    fn assert_at_rest(&self) {
        assert!(!self.has_fresh());
        assert!(self.seats.iter().all(|seat| seat.placed.is_empty()));
        assert_eq!(self.idle.counts(), (0, 0), "searching and sleeping");
    }
}

/// One task, and a worker that is about to fall asleep.
#[test]
fn loom_spawn_races_sleep() {
    explore(None, &[BLOCKED, OVERLOOKED], |seen| {
        let crew = Crew::new(1, 0, seen);
        let worker = crew.idle_worker(0);
        crew.spawn_from_outside();
        worker.join().unwrap();
        crew.assert_at_rest();
    });
}

/// Two tasks, and two workers that are about to fall asleep.
#[test]
fn loom_two_spawns_two_sleepers() {
    explore(Some(2), &[BLOCKED, OVERLOOKED], |seen| {
        let crew = Crew::new(2, 0, seen);
        let workers = [0, 1].map(|worker| crew.idle_worker(worker));
        crew.spawn_from_outside();
        crew.spawn_from_outside();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        crew.assert_at_rest();
    });
}

/// Two tasks, and two workers that sleep: the second spawn may rely on the worker that the first
/// woke, and that one passes the wake-up on.
#[test]
fn loom_last_searcher_passes_on() {
    explore(Some(3), &[BLOCKED], |seen| {
        let crew = Crew::new(2, 0, seen);
        let workers = [0, 1].map(|worker| crew.sleeping_worker(worker));
        crew.spawn_from_outside();
        crew.spawn_from_outside();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        crew.assert_at_rest();
    });
}

/// A task each from two threads at once, for a worker that sleeps and one that is about to.
#[test]
fn loom_spawns_race_each_other() {
    explore(Some(2), &[BLOCKED, OVERLOOKED], |seen| {
        let crew = Crew::new(2, 0, seen);
        let worker = crew.sleeping_worker(1);
        let spawner = {
            let crew = Arc::clone(&crew);
            thread::spawn(move || crew.spawn_from_outside())
        };
        crew.spawn_from_outside();
        crew.idle.start_search();
        crew.find(0, 1);
        spawner.join().unwrap();
        worker.join().unwrap();
        crew.assert_at_rest();
    });
}

/// A worker steals two tasks at once and keeps one of them in its queue for later. While they are
/// on their way another looks for the last time before it sleeps, and it is the one that has to
/// see, or be told.
#[test]
fn loom_stolen_batch_races_sleep() {
    explore(None, &[BLOCKED, OVERLOOKED], |seen| {
        let crew = Crew::new(2, 2, seen);
        crew.idle.start_search();
        let other = crew.idle_worker(1);
        crew.find(0, 2);
        other.join().unwrap();
        crew.assert_at_rest();
    });
}

/// A worker that is busy steals two tasks at once between two turns, and goes on with its own. What
/// it keeps in its queue is there for another that looks for the last time.
#[test]
fn loom_busy_worker_races_sleep() {
    explore(Some(3), &[BLOCKED, OVERLOOKED], |seen| {
        let crew = Crew::new(2, 0, seen);
        let other = crew.idle_worker(1);
        let spawner = {
            let crew = Arc::clone(&crew);
            thread::spawn(move || {
                crew.spawn_from_outside();
                crew.spawn_from_outside();
            })
        };
        let found = crew.take_oldest(0);
        spawner.join().unwrap();
        other.join().unwrap();
        assert_eq!(crew.search(0, 2), !found, "each of the two has one");
        crew.assert_at_rest();
    });
}

/// A worker is called for something of its own while somebody else wakes it to search: whichever
/// comes first, it does both, and the counts stay right.
#[test]
fn loom_call_races_spawn() {
    explore(Some(3), &[BLOCKED, OVERLOOKED], |seen| {
        let crew = Crew::new(1, 0, seen);
        crew.idle.start_search();
        let caller = {
            let crew = Arc::clone(&crew);
            thread::spawn(move || crew.call(0))
        };
        let spawner = {
            let crew = Arc::clone(&crew);
            thread::spawn(move || crew.spawn_from_outside())
        };
        let (mut called, mut found) = (false, false);
        loop {
            called |= crew.is_called(0);
            found |= crew.search(0, 1);
            if called && found {
                break;
            }
            crew.fall_asleep(0);
            crew.sleep_on(0, || (!called && crew.is_called(0)) || crew.has_fresh());
        }
        crew.leave_search();
        caller.join().unwrap();
        spawner.join().unwrap();
        crew.assert_at_rest();
    });
}

/// Of two workers the second calls the first and falls asleep itself. Somebody looks at any time whether all are
/// asleep, and may not see it: once the second is asleep the first is called.
#[test]
fn loom_deadlock_is_not_seen_where_there_is_none() {
    explore(Some(3), &[BLOCKED, OVERLOOKED], |seen| {
        let crew = Crew::new(2, 0, seen);
        let workers = [0, 1].map(|worker| {
            let crew = Arc::clone(&crew);
            thread::spawn(move || {
                if worker == 1 {
                    crew.call(0);
                }
                crew.idle.start_search();
                while !crew.is_called(worker) {
                    crew.fall_asleep(worker);
                    crew.sleep_on(worker, || crew.is_called(worker));
                }
                crew.leave_search();
            })
        });
        assert!(!crew.all_asleep());
        let [first, second] = workers;
        first.join().unwrap();
        crew.call(1);
        second.join().unwrap();
        crew.assert_at_rest();
    });
}

/// Two workers fall asleep, and nobody has anything for them: somebody who looks again and again sees it.
#[test]
fn loom_deadlock_is_seen() {
    const AT_ONCE: u32 = 2;
    const LATER: u32 = 3;
    explore(None, &[AT_ONCE, LATER], |seen| {
        let crew = Crew::new(2, 0, Arc::clone(&seen));
        let workers = [0, 1].map(|worker| {
            let crew = Arc::clone(&crew);
            thread::spawn(move || {
                let sleep = &crew.seats[worker].sleep;
                sleep.prepare();
                sleep.block(None, &mut Events::default());
                sleep.end();
            })
        });
        let mut saw = AT_ONCE;
        while !crew.all_asleep() {
            saw = LATER;
            thread::yield_now();
        }
        seen.note(saw);
        crew.call(0);
        crew.call(1);
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    });
}

/// A shutdown calls every worker; one that is about to fall asleep sees it, or is woken.
#[test]
fn loom_close_races_sleep() {
    explore(Some(4), &[BLOCKED, OVERLOOKED], |seen| {
        let crew = Crew::new(2, 0, seen);
        let workers = [0, 1].map(|worker| {
            let crew = Arc::clone(&crew);
            thread::spawn(move || {
                crew.idle.start_search();
                while !crew.is_called(worker) {
                    crew.fall_asleep(worker);
                    crew.sleep_on(worker, || crew.is_called(worker));
                }
                crew.leave_search();
            })
        });
        crew.call(0);
        crew.call(1);
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        crew.assert_at_rest();
    });
}

/// A task is brought from outside while the runtime shuts down: its worker ends it, or whoever brought it takes it back.
/// The worker leaves when it finds nothing after it has seen the shutdown.
fn bring_races_close(bring: fn(&Crew), take_back: fn(&Crew) -> usize) {
    const BY_WORKER: u32 = 2;
    const BY_BRINGER: u32 = 3;
    explore(Some(3), &[BLOCKED, OVERLOOKED, BY_WORKER, BY_BRINGER], move |seen| {
        let crew = Crew::new(1, 0, Arc::clone(&seen));
        let worker = {
            let crew = Arc::clone(&crew);
            thread::spawn(move || crew.work_until_closed())
        };
        let closer = {
            let crew = Arc::clone(&crew);
            thread::spawn(move || crew.call(0))
        };
        bring(&crew);
        let by_bringer = if crew.is_called(0) { take_back(&crew) } else { 0 };
        closer.join().unwrap();
        let by_worker = worker.join().unwrap();
        assert_eq!(by_worker + by_bringer, 1);
        seen.note(if by_bringer == 1 { BY_BRINGER } else { BY_WORKER });
        crew.assert_at_rest();
    });
}

#[test]
fn loom_spawn_races_close() {
    bring_races_close(Crew::spawn_from_outside, |crew| crew.injector.take(1));
}

#[test]
fn loom_place_races_close() {
    bring_races_close(|crew| crew.place(0), |crew| crew.seats[0].placed.take(1));
}

/// Two workers are about to fall asleep, and a task is placed with one of them: that one starts it, and not the other.
#[test]
fn loom_place_races_sleep() {
    explore(Some(3), &[BLOCKED, OVERLOOKED], |seen| {
        let crew = Crew::new(2, 0, seen);
        let other = crew.idle_worker(1);
        let placer = {
            let crew = Arc::clone(&crew);
            thread::spawn(move || crew.place(0))
        };
        crew.idle.start_search();
        let placed = &crew.seats[0].placed;
        while placed.take(1) == 0 {
            crew.fall_asleep(0);
            crew.sleep_on(0, || !placed.is_empty());
        }
        crew.leave_search();
        placer.join().unwrap();
        crew.spawn_from_outside();
        other.join().unwrap();
        crew.assert_at_rest();
    });
}

/// A stack is given up while a worker is refused one and falls asleep.
#[test]
fn loom_relief_races_refusal() {
    const STARTED_LATER: u32 = 2;
    explore(None, &[BLOCKED, OVERLOOKED, STARTED_LATER], |seen| {
        let crew = Crew::new(1, 0, Arc::clone(&seen));
        let giver = {
            let crew = Arc::clone(&crew);
            thread::spawn(move || crew.give_stack())
        };
        crew.idle.start_search();
        if !crew.start() {
            while !crew.start_relieved() {
                crew.fall_asleep(0);
                crew.sleep_on(0, || crew.any_retryable());
            }
            seen.note(STARTED_LATER);
        }
        crew.leave_search();
        giver.join().unwrap();
        crew.assert_at_rest();
    });
}

/// A worker is refused a stack, and goes on with something else for ever. The task is another's, who
/// has to see it or be told, before the stack is given up or after.
#[test]
fn loom_refused_task_is_anybodys() {
    const BY_OTHER: u32 = 2;
    explore(Some(3), &[BLOCKED, OVERLOOKED, BY_OTHER], |seen| {
        let crew = Crew::new(2, 0, Arc::clone(&seen));
        let giver = {
            let crew = Arc::clone(&crew);
            thread::spawn(move || crew.give_stack())
        };
        let other = {
            let crew = Arc::clone(&crew);
            thread::spawn(move || {
                crew.idle.start_search();
                loop {
                    if crew.start_relieved() {
                        crew.seen.note(BY_OTHER);
                        break;
                    }
                    if crew.is_called(1) {
                        break;
                    }
                    crew.fall_asleep(1);
                    crew.sleep_on(1, || crew.any_retryable() || crew.is_called(1));
                }
                crew.leave_search();
            })
        };
        if crew.start() {
            crew.call(1);
        }
        giver.join().unwrap();
        other.join().unwrap();
        crew.assert_at_rest();
    });
}
