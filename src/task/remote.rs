//! The half of a worker that other threads may touch: where its started tasks come back to, and
//! how it is woken.
//!
//! A started task is pinned to its worker, so whoever unparks it from another thread leaves it in
//! that worker's inbox. Between the moment that the inbox has the task and the moment that the
//! waker has looked whether the worker sleeps, the task may run, end, and its runtime be dropped.
//! Therefore:
//!
//! - **W1** A `Remote` is never freed. It is leaked when made and used again by later workers, so
//!   it may be touched at any time; a late wake-up reaches a stranger, who finds nothing to do.
//! - **W2** `ready`, `pending` and `timers` are touched by the worker's own thread only.
//!
//! # Parking late
//!
//! To make a park visible and to undo it are two locked instructions, and a third for the unpark. But
//! a task can only go on where it is pinned, so nobody but its worker needs to know at once that it
//! is parked: until the worker makes it visible, a token is left by others as with a running task,
//! and found when it does. So a worker keeps the task that parked last *pending*, and makes the park
//! visible only when another task has had its turn, or before it sleeps. If that other task unparks
//! it, as in a join, a channel or a ping-pong, the worker just moves it to its queue.
//!
//! - **W4** The pending task is parked for its worker, and running for all others. It is in no queue.

use std::cell::{Cell, UnsafeCell};
use std::collections::VecDeque;
use std::fmt;
use std::panic::Location;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering, fence};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;

use super::header::{Header, Started};
use super::inbox::Inbox;
use super::sleep::Sleep;
use super::timers::{Timer, TimerKey, Timers};
use crate::base::append_only_list::AppendOnlyList;
use crate::base::id::Id;

thread_local! {
    /// The worker that this thread is.
    static HERE: Cell<Option<&'static Remote>> = const { Cell::new(None) };
}

/// Every remote that no worker uses.
static UNUSED: Mutex<Vec<&'static Remote>> = Mutex::new(Vec::new());
/// Every remote there is.
static ALL: AppendOnlyList<Remote> = AppendOnlyList::new();

/// A worker, as other threads see it. It also holds the queue, the pending task and the timers, which are the worker's own (W2).
pub(crate) struct Remote {
    inbox: CachePadded<Inbox<Header>>,
    sleep: Sleep,
    ready: UnsafeCell<VecDeque<Started>>,
    /// The task that parked last, while its park is not visible (W4).
    pending: Cell<*mut Header>,
    timers: UnsafeCell<Timers>,
    counters: Counters,
    running: Running,
    looks: Looks,
    /// A worker uses it.
    in_use: AtomicBool,
}

// SAFETY: W2; all else is atomic.
unsafe impl Sync for Remote {}

/// When a worker looks round at what it would see too late otherwise.
#[derive(Default)]
pub(crate) struct Looks {
    /// At this turn. Written by the worker, and by the monitor, which asks for the next turn.
    at: AtomicU64,
    count: Counter,
}

impl Looks {
    /// Whether the worker is to look round in this turn.
    #[inline]
    pub(crate) fn are_due(&self, turn: u64) -> bool {
        turn >= self.at.load(Ordering::Relaxed)
    }

    /// Whether the monitor has asked for the look that is due.
    pub(crate) fn were_asked_for(&self) -> bool {
        self.at.load(Ordering::Relaxed) == 0
    }

    /// By the worker, which looks round now: the next look is at this turn.
    pub(crate) fn set_next(&self, turn: u64) {
        self.count.add(1);
        // If this overwrites what the monitor asks for at the same moment, it was asked for this look.
        self.at.store(turn, Ordering::Relaxed);
    }

    /// Asks the worker to look round at its next turn.
    pub(crate) fn ask(&self) {
        self.at.store(0, Ordering::Relaxed);
    }

    /// How many looks there were.
    pub(crate) fn count(&self) -> u64 {
        self.count.get()
    }
}

/// What a worker has counted. Written by the worker alone, read by anyone.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) spawned: Counter,
    pub(crate) started: Counter,
    pub(crate) ended: Counter,
    pub(crate) stolen: Counter,
    /// Parks that were committed, and those of them that are over.
    pub(crate) parked: Counter,
    pub(crate) unparked: Counter,
}

impl Counters {
    /// Tasks that were started here and have not ended.
    pub(crate) fn alive(&self) -> u64 {
        let ended = self.ended.get();
        self.started.get().saturating_sub(ended)
    }
}

/// What a worker is running, for others to look at.
#[derive(Default)]
pub(crate) struct Running {
    /// 0: nothing.
    id: AtomicU64,
    location: AtomicPtr<Location<'static>>,
    /// Grows with every turn.
    turn: AtomicU64,
    /// Only where somebody watches, and only of tasks that have a name.
    name: Mutex<Option<Box<str>>>,
    /// After how many nanoseconds of a turn it is reported; 0 where nobody watches.
    limit: AtomicU64,
}

impl Running {
    /// Notes that `task` has its turn.
    #[inline]
    pub(crate) fn begin(&self, task: &Header, watched: bool) {
        self.turn.store(self.turn.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.location.store(ptr::from_ref(task.location()).cast_mut(), Ordering::Relaxed);
        if watched {
            self.note_name(task);
        }
        // Release: pairs with `get`.
        self.id.store(task.id().get(), Ordering::Release);
    }

    #[cold]
    fn note_name(&self, task: &Header) {
        let name = task.name().map(Box::from);
        *self.name.lock().unwrap_or_else(PoisonError::into_inner) = name;
    }

    /// Notes that the turn is over.
    #[inline]
    pub(crate) fn end(&self) {
        self.id.store(0, Ordering::Relaxed);
    }

    /// After how long a turn is to be reported; `None`: never.
    pub(crate) fn set_limit(&self, limit: Option<Duration>) {
        let nanos = limit.map_or(0, |limit| u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX));
        self.limit.store(nanos, Ordering::Relaxed);
    }

    pub(crate) fn limit(&self) -> Option<Duration> {
        match self.limit.load(Ordering::Relaxed) {
            0 => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }

    /// The number of turns so far.
    pub(crate) fn turn(&self) -> u64 {
        self.turn.load(Ordering::Relaxed)
    }

    /// Who has its turn. While turns change, the parts may be of different tasks.
    pub(crate) fn get(&self) -> Option<TaskLabel> {
        // Acquire: pairs with `begin`.
        let id = Id::from_number(self.id.load(Ordering::Acquire))?;
        let name = self.name.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // SAFETY: null, or a location that is there for ever.
        let location = unsafe { self.location.load(Ordering::Relaxed).as_ref() };
        Some(TaskLabel { id, name, location: location? })
    }
}

/// A task as reports name it.
pub(crate) struct TaskLabel {
    id: Id,
    name: Option<Box<str>>,
    pub(crate) location: &'static Location<'static>,
}

impl TaskLabel {
    pub(crate) fn of(task: &Header) -> TaskLabel {
        TaskLabel { id: task.id(), name: task.name().map(Box::from), location: task.location() }
    }
}

impl fmt::Display for TaskLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "coroutine {}", self.id)?;
        if let Some(name) = &self.name {
            write!(f, " '{name}'")?;
        }
        write!(f, ", spawned at {},", self.location)
    }
}

/// A number that one thread counts up and any thread reads.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// A load and a store, which is not atomic together and need not be: there is one writer.
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        // Release: whoever reads it finds all that was counted before it as well.
        self.0.store(self.0.load(Ordering::Relaxed) + n, Ordering::Release);
    }

    pub(crate) fn get(&self) -> u64 {
        // Acquire: pairs with `add`.
        self.0.load(Ordering::Acquire)
    }
}

impl Remote {
    /// A remote for a worker that is being made.
    pub(crate) fn acquire() -> &'static Remote {
        if let Some(remote) = UNUSED.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return remote;
        }
        ALL.add(Remote {
            inbox: CachePadded::new(Inbox::new()),
            sleep: Sleep::new(),
            ready: UnsafeCell::new(VecDeque::new()),
            pending: Cell::new(ptr::null_mut()),
            timers: UnsafeCell::default(),
            counters: Counters::default(),
            running: Running::default(),
            looks: Looks::default(),
            in_use: AtomicBool::new(false),
        })
    }

    /// Makes the remote free for another worker; its own has ended, or never began.
    pub(crate) fn release(&'static self) {
        UNUSED.lock().unwrap_or_else(PoisonError::into_inner).push(self);
    }

    /// Wakes every worker that there is.
    pub(crate) fn wake_all() {
        fence(Ordering::SeqCst);
        ALL.iter().for_each(|remote| remote.sleep.wake());
    }

    /// The sum of one count over all workers that there ever were.
    pub(crate) fn count(which: fn(&Counters) -> &Counter) -> u64 {
        ALL.iter().map(|remote| which(&remote.counters).get()).sum()
    }

    /// Every remote there is, in use or not.
    pub(crate) fn all() -> impl Iterator<Item = &'static Remote> {
        ALL.iter()
    }

    /// Makes the calling thread the worker of this remote, or of none.
    pub(crate) fn set_here(remote: Option<&'static Remote>) {
        let before = HERE.replace(remote);
        for (remote, in_use) in [(before, false), (remote, true)] {
            if let Some(remote) = remote {
                remote.in_use.store(in_use, Ordering::Relaxed);
            }
        }
    }

    /// Whether there is a worker that does not sleep.
    pub(crate) fn is_at_work(&self) -> bool {
        self.in_use.load(Ordering::Relaxed) && !self.sleep.is_asleep()
    }

    #[inline]
    pub(crate) fn is_here(&self) -> bool {
        HERE.get().is_some_and(|here| ptr::eq(here, self))
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(crate) fn running(&self) -> &Running {
        &self.running
    }

    pub(crate) fn looks(&self) -> &Looks {
        &self.looks
    }

    /// Queues a started task of this worker; from any thread.
    #[inline]
    pub(crate) fn enqueue(&'static self, task: Started) {
        if self.is_here() {
            self.push_ready(task);
        } else {
            self.push_inbox(task);
        }
    }

    /// Queues a task that is ready to run. Only on the worker's own thread.
    #[inline]
    pub(crate) fn push_ready(&self, task: Started) {
        debug_assert!(self.is_here());
        // SAFETY: W2, and nothing else is borrowed: no code of the user's runs in between.
        unsafe { (*self.ready.get()).push_back(task) };
    }

    /// The task that has been ready for longest. Only on the worker's own thread.
    #[inline]
    pub(crate) fn pop_ready(&self) -> Option<Started> {
        debug_assert!(self.is_here());
        if !self.inbox.is_empty() {
            self.empty_inbox();
        }
        // SAFETY: W2.
        unsafe { (*self.ready.get()).pop_front() }
    }

    /// Parks a task of this worker that has just switched away. Only on the worker's own thread.
    #[inline]
    pub(crate) fn park(&self, task: Started) {
        debug_assert!(self.is_here());
        self.settle(self.pending.replace(task.into_raw()));
    }

    /// Makes the pending park visible. Only on the worker's own thread.
    #[inline]
    pub(crate) fn settle_pending(&self) {
        self.settle(self.pending.replace(ptr::null_mut()));
    }

    #[inline]
    fn settle(&self, task: *mut Header) {
        if !task.is_null() {
            // SAFETY: W4, it is in no queue and has not ended.
            self.make_visible(unsafe { Started::from_raw(task) });
        }
    }

    fn make_visible(&self, task: Started) {
        match task.commit_park() {
            None => self.counters.parked.add(1),
            Some(notified) => self.push_ready(notified),
        }
    }

    /// Unparks the task if it is pending, if the calling thread is its worker, and if the token, if there
    /// is one, is for what it waits for. False: it is not.
    #[inline]
    pub(super) fn unpark_pending(&self, task: &Header, token: usize) -> bool {
        if !self.is_here() || !ptr::eq(self.pending.get(), task) || !task.give_pending(token) {
            return false;
        }
        self.pending.set(ptr::null_mut());
        // SAFETY: W4, it is in no queue and has not ended.
        self.push_ready(unsafe { Started::from_raw(ptr::from_ref(task).cast_mut()) });
        true
    }

    #[cold]
    fn push_inbox(&self, task: Started) {
        // SAFETY: I1 by T2, the task is in no queue, and it does not end before it is taken from one.
        if unsafe { self.inbox.push(task.into_raw()) } {
            // Whoever finds the inbox non-empty relies on us.
            fence(Ordering::SeqCst);
            self.sleep.wake();
        }
    }

    #[cold]
    fn empty_inbox(&self) {
        // SAFETY: T2, what was in the inbox is in no other queue.
        self.inbox.take_all(|task| self.push_ready(unsafe { Started::from_raw(task) }));
    }

    /// Has `task` unparked at `deadline`. Only on the worker's own thread.
    pub(super) fn set_timer(&'static self, deadline: Instant, task: Started) -> Timer {
        debug_assert!(self.is_here());
        // SAFETY: W2.
        Timer::new(self, unsafe { (*self.timers.get()).set(deadline, task) })
    }

    pub(super) fn clear_timer(&self, key: TimerKey) {
        // SAFETY: W2, a timer is dropped where it was set.
        unsafe { (*self.timers.get()).clear(key) };
    }

    /// When the first timer is due. Only on the worker's own thread.
    pub(crate) fn next_timer(&self) -> Option<Instant> {
        // SAFETY: W2.
        unsafe { (*self.timers.get()).next() }
    }

    /// Unparks the tasks whose time has come. Only on the worker's own thread.
    pub(crate) fn fire_timers(&self) {
        if self.next_timer().is_none() {
            return;
        }
        let now = Instant::now();
        // SAFETY: W2, and the borrow ends before the task is unparked.
        while let Some(task) = unsafe { (*self.timers.get()).pop_due(now) } {
            task.wake();
        }
    }

    /// Whether a task is ready or on its way here. Only on the worker's own thread.
    pub(crate) fn has_ready(&self) -> bool {
        // SAFETY: W2.
        !self.inbox.is_empty() || unsafe { !(*self.ready.get()).is_empty() }
    }

    pub(crate) fn sleep(&self) -> &Sleep {
        &self.sleep
    }
}

impl AsRef<Sleep> for Remote {
    fn as_ref(&self) -> &Sleep {
        &self.sleep
    }
}
