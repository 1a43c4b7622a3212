//! A worker: the thread that runs coroutines, and its loop.
//!
//! A worker has three queues. *Ready* holds started tasks, which stay on this worker, first in first out. *Fresh* holds
//! tasks that have never run. The worker takes the newest of them, which is still in the cache; other workers steal
//! the oldest. *Placed* holds fresh tasks that no other worker may start, first in first out (see
//! [`stack_wait`](super::stack_wait)). Of four turns in a row two are for ready, one is for placed and one for fresh,
//! so none of the three starves. If the queue whose turn it is has no task, another queue is served. If ready was
//! served when it was the turn of fresh, that turn is made up for when a task is spawned. So what a ready task spawns
//! runs next.
//!
//! At every 61st turn the worker looks round, and takes the oldest fresh task that it can find. It begins at another
//! place each time, so that neither a chain of spawns nor a flood of them elsewhere buries a task. If turns are slow,
//! the [`monitor`] asks the worker to look round sooner. From then on the worker measures its turns, and looks round
//! after a millisecond or after every turn, whichever is longer. A look that starts a task is no turn, and between two
//! looks there is always one.
//!
//! A fresh task that is refused a stack is set aside (see [`stack_wait`](super::stack_wait)), and the worker goes on
//! with others.
//!
//! # Invariants
//!
//! - **W3** A `Worker` is `!Sync`, and code on its thread reaches it by [`Worker::with`] only while
//!   [`Worker::run`] runs.
//! - **W5** A worker's thread runs until every task that was started on it has ended, also when a shutdown has
//!   abandoned them: a frame may have lent a reference to a thread-local to another thread.
//! - **W6** No field of a worker is borrowed while a task runs. Each borrow ends inside a function of this module,
//!   and those functions call no user code.

use std::cell::{Cell, RefCell};
use std::io;
use std::num::NonZeroU64;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use crossbeam_deque as deque;
use rustix::thread::{gettid, set_current_timer_slack};

use super::monitor;
use super::shared::{Shared, retry};
use super::stack_wait::StackWaitQueue;
use super::survivors::{self, NAMED};
use crate::driver::Events;
use crate::dump::{self, ReportedTask};
use crate::source;
use crate::stack::{self, Class, Pool, Slot, stack_pressure};
use crate::task::{Fresh, Listed, Local, Mailbox, ResumeOutcome, Started, SwitchReason};
use crate::unwind;

/// At the latest after so many turns the worker looks round, at what it would otherwise see last. A prime, so
/// that it does not beat in time with a program's own rhythm.
const FAIRNESS: u64 = 61;
/// How long it is between two looks where turns are slow, if a turn is not longer.
const PACE: Duration = Duration::from_millis(1);
/// How long it is at least between two polls of a worker that is busy.
const POLL_PACE: Duration = Duration::from_micros(100);
/// How many times a worker that finds nothing looks again before it sleeps: a few microseconds.
const SEARCH_ROUNDS: u32 = 12;
/// How long the coroutines of a worker that shuts down may all be silent before they are abandoned.
const SILENCE: Duration = Duration::from_secs(3);

thread_local! {
    static HERE: Cell<*const Worker> = const { Cell::new(ptr::null()) };
}

/// Grows when the kernel refuses a stack; a worker that sees it grow gives its idle stacks up.
static RECLAIM: AtomicUsize = AtomicUsize::new(0);

/// A worker: its queues, its stacks, and the list of what it has started.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    local: Local,
    index: usize,
    fresh: deque::Worker<Fresh>,
    /// Fresh tasks that no other worker may start.
    placed: Arc<StackWaitQueue>,
    pool: RefCell<Pool>,
    /// The started tasks that have not ended; each knows its place.
    started: RefCell<Vec<Listed>>,
    turn: Cell<u64>,
    /// Ready had a turn that would have been for fresh, which was empty.
    owes_fresh: Cell<bool>,
    /// How many turns there are between two looks.
    interval: Cell<u64>,
    /// When the worker looked round last, where turns are slow.
    looked_at: Cell<Option<Instant>>,
    looks: Cell<u64>,
    /// When the worker, which is busy, asked for events last.
    polled_at: Cell<Option<Instant>>,
    /// Room for events.
    events: Cell<Events>,
    /// The last `RECLAIM` that the worker followed.
    reclaimed: Cell<usize>,
    /// The shutdown has reached this worker's tasks.
    closing: Cell<bool>,
    /// The last survey that the worker has answered to the end.
    dumped: Cell<usize>,
    /// A shutdown waits for the tasks of this worker no more.
    has_abandoned: Cell<bool>,
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, index: usize, fresh: deque::Worker<Fresh>) -> Worker {
        Worker {
            // SAFETY: W1, each worker of a runtime has a mailbox of its own, and is made once.
            local: unsafe { Local::new(shared.mailboxes[index]) },
            placed: Arc::clone(&shared.placed[index]),
            shared,
            index,
            fresh,
            pool: RefCell::new(Pool::new()),
            started: RefCell::default(),
            turn: Cell::new(0),
            owes_fresh: Cell::new(false),
            interval: Cell::new(FAIRNESS),
            looked_at: Cell::new(None),
            looks: Cell::new(0),
            polled_at: Cell::new(None),
            events: Cell::default(),
            reclaimed: Cell::new(RECLAIM.load(Ordering::Relaxed)),
            closing: Cell::new(false),
            dumped: Cell::new(0),
            has_abandoned: Cell::new(false),
        }
    }

    /// Runs `f` with the worker that the calling thread is; `None`: it is none.
    #[inline]
    pub(crate) fn with<R>(f: impl FnOnce(Option<&Worker>) -> R) -> R {
        // SAFETY: W3, `run` is under way, for it resets this.
        f(unsafe { HERE.get().as_ref() })
    }

    /// As [`with`](Worker::with), where only a worker of this runtime counts.
    #[inline]
    pub(crate) fn with_one_of<R>(runtime: &Shared, f: impl FnOnce(Option<&Worker>) -> R) -> R {
        Worker::with(
            |worker| f(worker.filter(|worker| ptr::eq(&raw const *worker.shared, runtime))),
        )
    }

    /// Whether the calling thread is a worker.
    #[inline]
    pub(crate) fn is_here() -> bool {
        !HERE.get().is_null()
    }

    /// Whether the calling thread is a worker of this runtime.
    pub(crate) fn is_one_of(runtime: &Shared) -> bool {
        Worker::with_one_of(runtime, |worker| worker.is_some())
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Which of its runtime's workers it is.
    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// Queues a fresh task.
    #[inline]
    pub(super) fn spawn(&self, task: Fresh) {
        self.local.mailbox().counters().spawned.add(1);
        self.fresh.push(task);
        let deferred = self.local.mailbox().deferred_notify();
        if !deferred.is_due() {
            deferred.defer();
            self.go_on_with_fresh();
        } else if self.shared.mailboxes.len() > 1 {
            self.shared.idle.notify(&self.shared.mailboxes);
        }
    }

    /// Has the next turn begin with fresh, if ready had the last one of fresh.
    #[inline]
    fn go_on_with_fresh(&self) {
        let turn = self.turn.get();
        if self.owes_fresh.take() && !turn.is_multiple_of(2) {
            self.turn.set(turn + 1);
        }
    }

    /// Queues a fresh task with a worker of the same runtime, this one or another.
    pub(super) fn place(&self, task: Fresh, worker: usize) {
        self.local.mailbox().counters().spawned.add(1);
        if worker == self.index {
            self.placed.push(task);
        } else if !self.shared.place(task, worker) {
            // They will not run, so where they are dropped does not matter.
            while let Some(task) = self.shared.placed[worker].pop_any() {
                self.fresh.push(task);
            }
        }
    }

    /// The whole life of the thread as a worker. False: its tasks were abandoned, and nobody waits for its end.
    pub(super) fn run(&self) -> bool {
        HERE.set(self);
        self.local.mailbox().set_thread(gettid().as_raw_nonzero().get());
        // By default a sleep lasts 50 us longer than it has to. Where this is refused it goes on to.
        let _ = set_current_timer_slack(NonZeroU64::new(1));
        if self.shared.watched {
            self.local.attend();
        }
        // A thread's first steal allocates: at its start, rather than where memory may have run out.
        let stolen = self.steal_own();
        debug_assert!(stolen.is_none(), "nothing has come yet");
        self.local.run(|| {
            monitor::wake();
            self.local.mailbox().looks().set_next(FAIRNESS);
            while self.turn() {}
        });
        source::abandon(self.local.mailbox());
        HERE.set(ptr::null());
        // Nothing is left but what has waited for a stack to the end. From here on the thread is a plain one: what a
        // destructor spawns is run by another runtime, and it may wait for that.
        let pop = || self.shared.stack_wait.pop_any().or_else(|| self.placed.pop_any());
        while let Some(task) = pop().or_else(|| self.fresh.pop()) {
            task.discard();
        }
        debug_assert!(self.started.borrow().is_empty(), "W5");
        !self.has_abandoned.get()
    }

    /// Runs one task, or waits until there is one. False: there will be none.
    #[inline]
    fn turn(&self) -> bool {
        let turn = self.turn.get() + 1;
        if self.local.mailbox().looks().are_due(turn) && self.look(turn) {
            return true; // not counted, so that the next is not one with a look
        }
        self.turn.set(turn);
        // Who comes first in this turn: ready, placed, ready, fresh. Below, fresh would always come before the others.
        if turn.is_multiple_of(2) {
            if let Some(task) = self.local.pop_ready() {
                self.resume(task);
                return true;
            }
        } else if turn & 2 == 0
            && let Some((task, slot)) = self.next_placed()
        {
            self.start_on(task, slot);
            return true;
        }
        if let Some(task) = self.fresh.pop() {
            self.local.mailbox().deferred_notify().cancel();
            self.start(task);
        } else if let Some((task, slot)) = self.retryable() {
            self.start_on(task, slot);
        } else if let Some(task) = self.local.pop_ready() {
            self.owes_fresh.set(true);
            self.resume(task);
        } else if let Some((task, slot)) = self.next_placed() {
            self.start_on(task, slot);
        } else {
            return self.wait_for_work();
        }
        true
    }

    /// Looks round. True: it has found a task that has waited long, and run it.
    #[cold]
    fn look(&self, turn: u64) -> bool {
        let looks = self.looks.get() + 1;
        self.looks.set(looks);
        let interval = self.next_interval();
        self.look_around();
        self.poll();
        // Rarely: to be refused again takes several system calls.
        if looks.is_multiple_of(FAIRNESS) {
            self.ask_again();
        }
        let start_relieved =
            || self.retryable().map(|(task, slot)| self.start_on(task, slot)).is_some();
        let start_oldest = || {
            // Counted as searching, for what it moves into its own queue others may have looked for.
            self.shared.idle.start_search();
            let oldest = self.oldest_fresh();
            self.leave_search();
            oldest.map(|task| self.start(task)).is_some()
        };
        let mut places: [&dyn Fn() -> bool; 2] = [&start_relieved, &start_oldest];
        places.rotate_left((looks % 2) as usize);
        let has_started = places.iter().any(|start| start());
        // Last, for the monitor asks again where the turn of that task was slow, and a look after a look would hold up
        // whoever is ready.
        self.local.mailbox().looks().set_next(turn + interval);
        has_started
    }

    /// After how many turns the worker is to look round again.
    fn next_interval(&self) -> u64 {
        if dump::asked_since(self.dumped.get()).is_some() {
            return 1; // it may take more than one look to answer
        }
        let interval = self.interval.get();
        let asked = self.local.mailbox().looks().were_asked_for();
        if interval == FAIRNESS && !asked {
            return FAIRNESS; // turns are quick, and the clock is left alone
        }
        let now = Instant::now();
        let next = match self.looked_at.replace(Some(now)) {
            Some(before) if !asked => {
                let took = (now - before).as_nanos().max(1);
                let fitting = u128::from(interval) * PACE.as_nanos() / took;
                fitting.clamp(1, u128::from(FAIRNESS.min(2 * interval))) as u64
            }
            _ => 1,
        };
        if next == FAIRNESS {
            self.looked_at.set(None);
        }
        self.interval.set(next);
        next
    }

    /// A task that has waited long: from outside, from the far end of the own queue, or from that of another worker,
    /// which may be held up. Another of these places comes first each time, because any of them may never be empty.
    fn oldest_fresh(&self) -> Option<Fresh> {
        const PLACES: [fn(&Worker) -> Option<Fresh>; 3] =
            [Worker::steal_injected, Worker::steal_own, Worker::steal_from_others];
        let first = self.looks.get() as usize;
        (0..PLACES.len()).find_map(|step| PLACES[(first + step) % PLACES.len()](self))
    }

    /// A fresh task from anywhere else, and often more of them into the own queue.
    fn steal(&self) -> Option<Fresh> {
        self.steal_injected().or_else(|| self.steal_from_others())
    }

    fn steal_injected(&self) -> Option<Fresh> {
        retry(|| self.shared.injector.steal_batch_and_pop(&self.fresh))
    }

    /// The oldest of the own queue.
    fn steal_own(&self) -> Option<Fresh> {
        retry(|| self.shared.stealers[self.index].steal())
    }

    fn steal_from_others(&self) -> Option<Fresh> {
        let stealers = &self.shared.stealers;
        let before = self.fresh.len();
        let stolen = (1..stealers.len())
            .map(|step| &stealers[(self.index + step) % stealers.len()])
            .find_map(|other| retry(|| other.steal_batch_and_pop(&self.fresh)))?;
        let more = self.fresh.len().saturating_sub(before);
        self.local.mailbox().counters().stolen.add(1 + more as u64);
        Some(stolen)
    }

    /// A task that is placed with this worker, and a stack for it.
    #[inline]
    fn next_placed(&self) -> Option<(Fresh, Slot)> {
        if self.placed.is_empty() { None } else { self.take_waiting(&self.placed) }
    }

    /// A task that was refused a stack before, and one for it.
    #[inline]
    fn retryable(&self) -> Option<(Fresh, Slot)> {
        let queue = &self.shared.stack_wait;
        if queue.is_empty() { None } else { self.take_waiting(queue) }
    }

    /// A task that waits for a stack, and one for it.
    #[cold]
    fn take_waiting(&self, queue: &StackWaitQueue) -> Option<(Fresh, Slot)> {
        let class = queue.retryable(self.turn.get())?;
        // The stack comes first, so that a task that is refused again keeps its place.
        let slot = self.take_stack(class)?;
        let Some(task) = queue.pop(class) else {
            self.pool.borrow_mut().give(slot);
            return None;
        };
        Some((task, slot))
    }

    /// Runs a fresh task, or sets it aside where there is no stack for it.
    #[inline]
    fn start(&self, task: Fresh) {
        match self.take_stack(task.class()) {
            Some(slot) => self.start_on(task, slot),
            None => self.shared.set_aside(task),
        }
    }

    #[inline]
    fn take_stack(&self, class: Class) -> Option<Slot> {
        stack::catch_up();
        let taken = self.pool.borrow_mut().take(class);
        taken.or_else(|error| self.take_scarce(class, error)).ok()
    }

    /// Binds a fresh task to a stack and runs it.
    #[inline]
    fn start_on(&self, task: Fresh, slot: Slot) {
        if self.shared.closing.load(Ordering::Relaxed) {
            task.cancel();
        }
        // SAFETY: W3, this is the worker's thread.
        let task = unsafe { task.bind(self.local.mailbox(), slot) };
        self.local.mailbox().counters().started.add(1);
        {
            let mut started = self.started.borrow_mut();
            // SAFETY: T1, `unlist` takes it out when the task has ended.
            let listed = unsafe { Listed::new(&task) };
            listed.set_index(started.len());
            started.push(listed);
        }
        self.run_task(task);
    }

    /// Goes on with a task that was ready.
    #[inline]
    fn resume(&self, task: Started) {
        if task.commit_unpark() {
            self.local.mailbox().counters().unparked.add(1);
        }
        self.run_task(task);
    }

    #[inline(always)]
    fn run_task(&self, task: Started) {
        if self.local.is_attended() {
            self.begin_attended(&task);
        }
        let outcome = self.take_turn(&task);
        if self.local.is_attended() {
            self.end_attended(task, outcome);
        } else {
            self.end_turn(task, outcome);
        }
    }

    #[inline(always)]
    fn take_turn(&self, task: &Started) -> ResumeOutcome {
        self.local.begin_turn(task);
        // SAFETY: C2, T2: pinned to this worker, and in no queue.
        let outcome = unsafe { task.resume() };
        self.local.mailbox().running().end();
        unwind::assert_calm();
        outcome
    }

    #[inline(always)]
    fn end_turn(&self, task: Started, outcome: ResumeOutcome) {
        if let ResumeOutcome::Suspended(SwitchReason::Park) = outcome {
            return self.local.park(task);
        }
        self.local.settle_pending();
        match outcome {
            ResumeOutcome::Suspended(_) => self.local.push_ready(task),
            ResumeOutcome::Ended(slot, index) => {
                self.pool.borrow_mut().give(slot);
                self.unlist(index);
            }
        }
    }

    /// What precedes a turn where there is more to do.
    #[cold]
    fn begin_attended(&self, task: &Started) {
        if self.shared.watched {
            self.local.mailbox().running().note_name(task.name());
        }
        task.resume_carries();
    }

    /// What follows a turn there.
    #[cold]
    fn end_attended(&self, task: Started, mut outcome: ResumeOutcome) {
        match outcome {
            ResumeOutcome::Suspended(SwitchReason::EndCarries) => {
                task.end_carries();
                outcome = self.take_turn(&task);
            }
            ResumeOutcome::Suspended(_) => task.suspend_carries(),
            ResumeOutcome::Ended(..) => {}
        }
        self.end_turn(task, outcome);
    }

    /// Forgets a task that has ended.
    #[inline]
    fn unlist(&self, index: u32) {
        let mut started = self.started.borrow_mut();
        started.swap_remove(index as usize);
        if let Some(moved) = started.get(index as usize) {
            moved.set_index(index as usize);
        }
    }

    /// What is looked at now and then, and before sleeping.
    fn look_around(&self) {
        self.local.fire_timers();
        if let Some(asked) = dump::asked_since(self.dumped.get()) {
            // The pending task is parked as well.
            self.local.settle_pending();
            if dump::answer(self.local.mailbox(), &self.started.borrow()) {
                self.dumped.set(asked);
            }
        }
        if RECLAIM.load(Ordering::Relaxed) != self.reclaimed.get() {
            self.give_up_stacks();
        }
        if self.shared.closing.load(Ordering::Relaxed) && !self.closing.replace(true) {
            // What is injected from here on is its injector's to discard; see `Shared::spawn`.
            fence(Ordering::SeqCst);
            for task in self.started.borrow().iter() {
                task.cancel();
            }
        }
    }

    /// Takes what events there are, if the worker waits for descriptors and the last time was a while ago.
    fn poll(&self) {
        let Some(poller) = self.local.mailbox().sleep().poller() else { return };
        let now = Instant::now();
        if self.polled_at.get().is_none_or(|polled_at| now - polled_at >= POLL_PACE) {
            self.polled_at.set(Some(now));
            self.take_events(|events| poller.poll(events));
        }
    }

    /// Has `wait` fetch events, and wakes whoever waits for them.
    fn take_events(&self, wait: impl FnOnce(&mut Events)) {
        let mut events = self.events.take();
        wait(&mut events);
        source::dispatch(&events);
        self.events.set(events);
    }

    /// Searches for work, and sleeps when there is none. False: there will be none.
    #[cold]
    fn wait_for_work(&self) -> bool {
        self.local.settle_pending();
        let shared = &*self.shared;
        let mut silent_since = None;
        shared.idle.start_search();
        let goes_on = loop {
            self.look_around();
            if self.has_work() {
                break true;
            }
            if let Some(task) = self.search() {
                self.leave_search();
                self.start(task);
                return true;
            }
            self.ask_again();
            if self.has_work() {
                break true;
            }
            let mut deadline = self.local.next_timer();
            if self.closing.get() {
                if self.started.borrow().is_empty() {
                    break false;
                }
                let started = self.started.borrow();
                let ends_by_itself =
                    |task: &Listed| task.parked_for().is_some_and(|reason| reason.ends_by_itself());
                let comes = started.iter().any(ends_by_itself);
                drop(started);
                if deadline.is_none() && !comes && !self.has_abandoned.get() {
                    let since = *silent_since.get_or_insert_with(Instant::now);
                    if since.elapsed() < SILENCE {
                        deadline = Some(since + SILENCE);
                    } else {
                        self.abandon_tasks();
                    }
                }
            }
            shared.idle.search_to_sleep(self.local.mailbox().sleep());
            let sleep = self.local.mailbox().sleep();
            if self.overlooked() {
                shared.idle.sleep_to_search(sleep);
            } else {
                self.take_events(|events| {
                    sleep.block(deadline, events);
                    shared.idle.sleep_to_search(sleep);
                });
            }
            monitor::wake();
        };
        self.leave_search();
        goes_on
    }

    /// Whether there is a task to run that a search does not look for.
    fn has_work(&self) -> bool {
        self.local.has_ready()
            || self.placed.any_retryable()
            || self.shared.stack_wait.any_retryable()
    }

    /// Takes this worker out of the searching ones, and wakes another if it was the last and there
    /// is more to find.
    fn leave_search(&self) {
        if self.shared.idle.end_search() {
            fence(Ordering::SeqCst);
            if self.shared.has_fresh() {
                self.shared.idle.notify(&self.shared.mailboxes);
            }
        }
    }

    /// Looks for a fresh task a few times over.
    fn search(&self) -> Option<Fresh> {
        for round in 0..SEARCH_ROUNDS {
            if let Some(task) = self.fresh.pop().or_else(|| self.steal()) {
                return Some(task);
            }
            let sleep = self.local.mailbox().sleep();
            // To ask for events costs a system call, and to sleep costs no more.
            let never_spins = self.shared.mailboxes.len() == 1 || sleep.poller().is_some();
            if self.has_work() || never_spins {
                return None;
            }
            for _ in 0..1 << round.min(6) {
                std::hint::spin_loop();
            }
        }
        None
    }

    /// The last look before sleeping, after the fence.
    fn overlooked(&self) -> bool {
        self.local.has_ready()
            || self.placed.any_retryable()
            || self.shared.has_fresh()
            || self.shared.closing.load(Ordering::Relaxed) != self.closing.get()
            || RECLAIM.load(Ordering::Relaxed) != self.reclaimed.get()
            || dump::asked_since(self.dumped.get()).is_some()
    }

    /// The kernel has refused a stack: asks all other workers to give up their idle ones, and looks
    /// once more for one that has been given up meanwhile.
    #[cold]
    fn take_scarce(&self, class: Class, error: io::Error) -> io::Result<Slot> {
        static REPORT: Once = Once::new();
        REPORT.call_once(|| {
            crate::base::report::line(format_args!(
                "coro: {error}; coroutines that have not started wait until a stack is free"
            ));
        });
        if stack_pressure::announce(class) {
            // Release: whoever follows the call finds the shortage announced. This worker follows it
            // too, for there may be an earlier one that it has not followed, for another class.
            RECLAIM.fetch_add(1, Ordering::Release);
            Mailbox::wake_all();
        }
        // Whoever gave one up before the announcement did not know that we want it.
        self.pool.borrow_mut().take(class)
    }

    /// Asks once more for what was refused: when the kernel changes its mind, nobody tells those who
    /// wait.
    #[inline]
    fn ask_again(&self) {
        for class in self.shared.stack_wait.short().chain(self.placed.short()) {
            if let Ok(slot) = stack::take(class) {
                stack::give(slot);
            }
        }
    }

    /// Gives the idle stacks of this worker to those who need one.
    #[cold]
    fn give_up_stacks(&self) {
        // Acquire: pairs with `take_scarce`.
        self.reclaimed.set(RECLAIM.load(Ordering::Acquire));
        self.pool.borrow_mut().give_up();
    }

    /// Tells which tasks were cancelled and do not end. A shutdown no longer waits for them, and the worker goes on
    /// until they have ended (W5).
    #[cold]
    fn abandon_tasks(&self) {
        self.has_abandoned.set(true);
        if !self.shared.abandoned[self.index].swap(true, Ordering::Relaxed) {
            let started = self.started.borrow();
            let all = started.len();
            let some: Vec<_> = started.iter().take(NAMED).map(ReportedTask::of).collect();
            drop(started);
            survivors::tell(some, all);
        }
        self.shared.shutdown_latch.worker_goes_on();
    }
}
