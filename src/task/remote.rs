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
//! - **W2** `ready`, `pending` and the parker are touched by the worker's own thread only.
//!
//! The inbox is a stack of tasks linked through their headers, pushed by anyone, emptied by its
//! worker with one swap and then turned round, so tasks leave it in the order in which they came.
//! (R. K. Treiber, "Systems programming: coping with parallelism", 1986; to take the whole stack at
//! once leaves no room for the ABA problem.)
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
//!
//! # No wake-up is lost
//!
//! A worker falls asleep by storing `ASLEEP`, passing a `SeqCst` fence, looking once more at
//! everything that could be work, and only then blocking. Whoever brings work pushes it, passes a
//! `SeqCst` fence, and reads the state. The two fences have an order. If the worker's is first, the
//! other side reads `ASLEEP` and wakes it. If the other's is first, the worker's last look sees the
//! push. There is no third case.

use std::cell::{Cell, UnsafeCell};
use std::collections::VecDeque;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crossbeam_utils::CachePadded;
use crossbeam_utils::sync::{Parker, Unparker};

use super::header::{Header, Started};

/// The worker runs, or is about to look for work.
const AWAKE: u32 = 0;
/// The worker blocks, or is about to, unless its last look finds something.
const ASLEEP: u32 = 1;
/// Somebody has woken it, for what is in its inbox or for something else that is its own.
const WOKEN: u32 = 2;
/// Somebody has woken it to search for fresh tasks.
const WOKEN_TO_SEARCH: u32 = 3;

thread_local! {
    /// The worker that this thread is.
    static HERE: Cell<Option<&'static Remote>> = const { Cell::new(None) };
}

/// Every remote that no worker uses.
static UNUSED: Mutex<Vec<&'static Remote>> = Mutex::new(Vec::new());
/// Every remote there is.
static ALL: Mutex<Vec<&'static Remote>> = Mutex::new(Vec::new());

/// See the module's documentation.
pub(crate) struct Remote {
    inbox: CachePadded<AtomicPtr<Header>>,
    sleep: AtomicU32,
    unparker: Unparker,
    parker: UnsafeCell<Parker>,
    ready: UnsafeCell<VecDeque<Started>>,
    /// The task that parked last, while its park is not visible (W4).
    pending: Cell<*mut Header>,
    counters: Counters,
}

// SAFETY: W2; all else is atomic.
unsafe impl Sync for Remote {}

/// Why a worker that was asleep is awake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Woken {
    /// By itself: its deadline has come, or its last look found something.
    No,
    /// By somebody who has something for this worker.
    Called,
    /// By somebody who counts it among the searching workers from now on.
    ToSearch,
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

/// A number that one thread counts up and any thread reads.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// A load and a store, which is not atomic together and need not be: there is one writer.
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed) + n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Remote {
    /// A remote for a worker that is being made.
    pub(crate) fn acquire() -> &'static Remote {
        if let Some(remote) = UNUSED.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return remote;
        }
        let parker = Parker::new();
        let remote: &'static Remote = Box::leak(Box::new(Remote {
            inbox: CachePadded::new(AtomicPtr::new(ptr::null_mut())),
            sleep: AtomicU32::new(AWAKE),
            unparker: parker.unparker().clone(),
            parker: UnsafeCell::new(parker),
            ready: UnsafeCell::new(VecDeque::new()),
            pending: Cell::new(ptr::null_mut()),
            counters: Counters::default(),
        }));
        ALL.lock().unwrap_or_else(PoisonError::into_inner).push(remote);
        remote
    }

    /// Makes the remote free for another worker; its own has ended, or never began.
    pub(crate) fn release(&'static self) {
        self.sleep.store(AWAKE, Ordering::Relaxed);
        UNUSED.lock().unwrap_or_else(PoisonError::into_inner).push(self);
    }

    /// Wakes every worker that there is.
    pub(crate) fn wake_all() {
        fence(Ordering::SeqCst);
        let all = ALL.lock().unwrap_or_else(PoisonError::into_inner).clone();
        all.into_iter().for_each(Remote::wake);
    }

    /// Runs `f` with the counters of every worker that there is or was.
    pub(crate) fn each_counters(f: impl FnMut(&Counters)) {
        let all = ALL.lock().unwrap_or_else(PoisonError::into_inner).clone();
        all.into_iter().map(|remote| &remote.counters).for_each(f);
    }

    /// Makes the calling thread the worker of this remote, or of none.
    pub(crate) fn set_here(remote: Option<&'static Remote>) {
        HERE.set(remote);
    }

    #[inline]
    pub(crate) fn is_here(&self) -> bool {
        HERE.get().is_some_and(|here| ptr::eq(here, self))
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
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
        if !self.inbox.load(Ordering::Relaxed).is_null() {
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

    /// Unparks the task if it is pending, and if the calling thread is its worker. False: it is not.
    #[inline]
    pub(super) fn unpark_pending(&self, task: &Header) -> bool {
        if !self.is_here() || !ptr::eq(self.pending.get(), task) {
            return false;
        }
        self.pending.set(ptr::null_mut());
        // SAFETY: W4, it is in no queue and has not ended.
        self.push_ready(unsafe { Started::from_raw(ptr::from_ref(task).cast_mut()) });
        true
    }

    #[cold]
    fn push_inbox(&'static self, task: Started) {
        let task = task.into_raw();
        let mut head = self.inbox.load(Ordering::Relaxed);
        loop {
            // SAFETY: T2, the task is in no queue but this one, so its link is ours.
            unsafe { (*task).link.set(head) };
            // Release: pairs with the swap in `empty_inbox`.
            match self.inbox.compare_exchange_weak(head, task, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => break,
                Err(now) => head = now,
            }
        }
        if head.is_null() {
            // Whoever found it non-empty relies on us.
            fence(Ordering::SeqCst);
            self.wake();
        }
    }

    #[cold]
    fn empty_inbox(&self) {
        // Acquire: pairs with the push.
        let mut newest = self.inbox.swap(ptr::null_mut(), Ordering::Acquire);
        let mut oldest = ptr::null_mut();
        while !newest.is_null() {
            // SAFETY: T2, what was in the inbox is ours now.
            newest = unsafe { (*newest).link.replace(std::mem::replace(&mut oldest, newest)) };
        }
        while !oldest.is_null() {
            // SAFETY: T2, what was in the inbox is in no other queue.
            unsafe {
                let task = Started::from_raw(oldest);
                oldest = (*oldest).link.get();
                self.push_ready(task);
            }
        }
    }

    /// Whether a task is ready or on its way here. Only on the worker's own thread.
    pub(crate) fn has_ready(&self) -> bool {
        // SAFETY: W2.
        !self.inbox.load(Ordering::Relaxed).is_null() || unsafe { !(*self.ready.get()).is_empty() }
    }

    /// Announces that the worker is going to sleep; what the caller looks at afterwards decides.
    pub(crate) fn prepare_sleep(&self) {
        self.sleep.store(ASLEEP, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Blocks until somebody wakes the worker or `deadline` comes. The worker has announced it.
    pub(crate) fn sleep(&self, deadline: Option<Instant>) {
        // SAFETY: W2.
        let parker = unsafe { &*self.parker.get() };
        match deadline {
            None => parker.park(),
            Some(deadline) => parker.park_deadline(deadline),
        }
    }

    /// Ends what [`prepare_sleep`](Remote::prepare_sleep) began.
    pub(crate) fn end_sleep(&self) -> Woken {
        // Acquire: pairs with `wake`.
        match self.sleep.swap(AWAKE, Ordering::Acquire) {
            WOKEN => Woken::Called,
            WOKEN_TO_SEARCH => Woken::ToSearch,
            _ => Woken::No,
        }
    }

    /// Wakes the worker if it sleeps and nobody else has. The caller has passed a `SeqCst` fence
    /// after whatever it brought.
    pub(crate) fn wake(&self) {
        if self.rouse(WOKEN) {
            self.unparker.unpark();
        }
    }

    /// As [`wake`](Remote::wake), for a search; `count` runs before the worker does. False: it does
    /// not sleep.
    pub(crate) fn wake_to_search(&self, count: impl FnOnce()) -> bool {
        let roused = self.rouse(WOKEN_TO_SEARCH);
        if roused {
            count();
            self.unparker.unpark();
        }
        roused
    }

    fn rouse(&self, why: u32) -> bool {
        // The load keeps a busy worker's cache line where it is.
        self.sleep.load(Ordering::Relaxed) == ASLEEP
            && self
                .sleep
                .compare_exchange(ASLEEP, why, Ordering::Release, Ordering::Relaxed)
                .is_ok()
    }
}
