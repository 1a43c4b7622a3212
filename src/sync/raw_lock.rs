//! The lock of a [`Mutex`](super::Mutex), without the value.
//!
//! Whoever finds the lock free takes it, also while others wait: to switch to a waiter at every release would cost far
//! more than what the lock guards. A release wakes the waiter that came first, one at a time. If that waiter finds the
//! lock taken again, it becomes urgent, and the next release hands the lock over to it. A waiter that has seen
//! [`PATIENCE`] releases has the lock handed over as soon as it comes first, or has it kept until it runs. So with n
//! waiters before it, a waiter has the lock after about `PATIENCE` + 2n releases. (Go's `sync.Mutex` has the same two
//! modes since 1.9, and tells them apart by a millisecond.)
//!
//! - **N2** `LOCKED` is set by whoever takes the lock, and stays set until the holder releases it. A lock that is handed
//!   over or kept stays `LOCKED`. So there is one holder.
//! - **N3** `AWAITED` is set before a waiter is linked, and is cleared by a holder that finds nobody linked and nobody
//!   underway. Both happen under the queue's lock. So a release that does not see it leaves nobody behind.
//! - **N4** The slot of a waiter points to a [`LockWaiter`] in its frame. While the waiter is linked, that is touched
//!   under the queue's lock only.

use std::cell::Cell;
use std::mem;
use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::ptr;
use std::time::Instant;

use crate::base::atomics::{AtomicU32, Ordering};
use crate::base::lock::ShortLock;
use crate::task::{
    Caller, LockHolder, ParkReason, WaitEnd, WaitList, WaitNode, WaitSubject, Waiting,
};

const TO_LOCK: ParkReason = ParkReason::new(Waiting::Lock, false);

const FREE: u32 = 0;
const LOCKED: u32 = 1;
/// Somebody may be in the list.
const AWAITED: u32 = 2;

/// How many releases a waiter sees before the lock is handed over to it without trying.
const PATIENCE: u32 = 500;

/// A lock that suspends the coroutines that wait for it, and blocks the threads.
pub(super) struct RawLock {
    word: AtomicU32,
    queue: ShortLock<LockQueue>,
    holder: LockHolder,
    made_at: &'static Location<'static>,
}

// The queue is changed in single steps, and no code of the user's runs within one.
impl UnwindSafe for RawLock {}
impl RefUnwindSafe for RawLock {}

/// Those who wait.
struct LockQueue {
    list: WaitList,
    /// The one that was woken and found the lock taken, if there is one.
    urgent: WaitList,
    /// Somebody was woken, and has not tried to take the lock yet. It has seen the releases from this one on.
    underway: Option<u32>,
    /// The lock is kept for the one that is underway.
    is_kept: bool,
    /// How many releases there were while somebody waited.
    releases: u32,
}

impl LockQueue {
    const fn new() -> LockQueue {
        let (list, urgent) = (WaitList::new(), WaitList::new());
        LockQueue { list, urgent, underway: None, is_kept: false, releases: 0 }
    }

    /// The list in which a waiter is.
    fn list_of(&mut self, waiter: &LockWaiter) -> &mut WaitList {
        if waiter.was_woken { &mut self.urgent } else { &mut self.list }
    }
}

/// What a waiter and a release tell each other.
struct LockWaiter {
    /// The coroutine that waits, as a [`LockHolder`] names it.
    number: u64,
    was_woken: bool,
    /// The first release that it sees.
    since: Cell<u32>,
    /// The lock was handed over.
    has_it: Cell<bool>,
}

impl LockWaiter {
    fn new() -> LockWaiter {
        let (since, has_it) = (Cell::new(0), Cell::new(false));
        LockWaiter { number: LockHolder::here(), was_woken: false, since, has_it }
    }

    fn as_slot(&self) -> *mut () {
        ptr::from_ref(self).cast_mut().cast()
    }
}

impl RawLock {
    #[cfg(not(coro_loom))]
    #[track_caller]
    pub(super) const fn new() -> RawLock {
        RawLock {
            word: AtomicU32::new(FREE),
            queue: ShortLock::new(LockQueue::new()),
            holder: LockHolder::new(),
            made_at: Location::caller(),
        }
    }

    #[cfg(coro_loom)]
    #[track_caller]
    pub(super) fn new() -> RawLock {
        RawLock {
            word: AtomicU32::new(FREE),
            queue: ShortLock::new(LockQueue::new()),
            holder: LockHolder::new(),
            made_at: Location::caller(),
        }
    }

    #[inline]
    pub(super) fn lock(&self) {
        // Acquire: pairs with the releases below.
        if self.word.compare_exchange(FREE, LOCKED, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            self.holder.set(LockHolder::here());
        } else {
            // Without a limit it comes back with the lock, or unwinds. No guard is to rest on that.
            while !self.lock_held(None) {}
        }
    }

    /// Takes the lock if it is free.
    #[inline]
    pub(super) fn try_lock(&self) -> bool {
        let is_free = self.word.fetch_or(LOCKED, Ordering::Acquire) & LOCKED == 0;
        if is_free {
            self.holder.set(LockHolder::here());
        }
        is_free
    }

    /// False: the lock was not free until `deadline`; `None` is never.
    pub(super) fn lock_until(&self, deadline: Option<Instant>) -> bool {
        self.try_lock() || self.lock_held(deadline)
    }

    #[cold]
    fn lock_held(&self, deadline: Option<Instant>) -> bool {
        // It may be free, and awaited.
        if self.try_lock() {
            return true;
        }
        let caller = Caller::begin(WaitSubject::MadeAt(self.made_at));
        let mut waiter = LockWaiter::new();
        loop {
            let node = caller.node(waiter.as_slot());
            // SAFETY: Q1, N4, the node is told or unlinked below.
            if unsafe { self.take_or_link(&node, &waiter) } {
                return true;
            }
            let end = caller.wait_for_holder(&node, TO_LOCK, deadline, &self.holder);
            // SAFETY: Q1, it was linked to this list.
            let give_up = || unsafe { self.queue.lock().list_of(&waiter).give_up(&node) };
            match end.or_else(give_up) {
                Some(_) if waiter.has_it.get() => return true,
                Some(_) => waiter.was_woken = true,
                None => {
                    // Nobody has given it anything.
                    caller.interrupt();
                    return false;
                }
            }
        }
    }

    /// Takes the lock, or links the node.
    ///
    /// # Safety
    ///
    /// The node is in no list, its slot is the waiter's, and both stay where they are until the node is unlinked or
    /// told. A waiter that was woken comes here once for that.
    unsafe fn take_or_link(&self, node: &WaitNode, waiter: &LockWaiter) -> bool {
        let mut queue = self.queue.lock();
        let mut is_ours = false;
        if waiter.was_woken {
            queue.underway = None;
            is_ours = mem::take(&mut queue.is_kept);
        } else {
            waiter.since.set(queue.releases);
        }
        // If nobody waits, the release finds that out.
        is_ours |= self.word.fetch_or(LOCKED | AWAITED, Ordering::Acquire) & LOCKED == 0;
        if is_ours {
            self.holder.set(waiter.number);
        } else {
            // SAFETY: Q1, the caller's word.
            unsafe { queue.list_of(waiter).push(node) };
        }
        is_ours
    }

    /// Releases the lock, which the caller holds.
    #[inline]
    pub(super) fn unlock(&self) {
        self.holder.set(0);
        // Release: pairs with whoever takes the lock next.
        if self.word.compare_exchange(LOCKED, FREE, Ordering::Release, Ordering::Relaxed).is_err() {
            self.unlock_awaited();
        }
    }

    #[cold]
    fn unlock_awaited(&self) {
        let wakeup = {
            let mut queue = self.queue.lock();
            let queue = &mut *queue;
            queue.releases = queue.releases.wrapping_add(1);
            let releases = queue.releases;
            let is_old = |since| releases.wrapping_sub(since) > PATIENCE;
            if let Some(since) = queue.underway {
                // Nobody else is woken meanwhile, and nobody is urgent.
                queue.is_kept = is_old(since);
                if !queue.is_kept {
                    self.free(AWAITED);
                }
                return;
            }
            let (first, is_urgent) = match queue.urgent.take() {
                Some(urgent) => (urgent, true),
                None => match queue.list.take() {
                    Some(first) => (first, false),
                    None => {
                        self.free(FREE);
                        return;
                    }
                },
            };
            // SAFETY: N4, it is not told yet.
            let waiter = unsafe { &*first.slot().cast::<LockWaiter>() };
            let since = waiter.since.get();
            if is_urgent || is_old(since) {
                waiter.has_it.set(true);
                self.holder.set(waiter.number);
            } else {
                queue.underway = Some(since);
                self.free(AWAITED);
            }
            // SAFETY: Q2, it is woken below.
            unsafe { first.tell(WaitEnd::Served) }
        };
        wakeup.wake();
    }

    /// Frees the lock, with the queue locked. An exchange, because a `try_lock` that fails writes as well, and loom knows
    /// the order of exchanges alone.
    fn free(&self, word: u32) {
        self.word.swap(word, Ordering::Release);
    }

    /// Whether somebody holds it.
    pub(super) fn is_locked(&self) -> bool {
        self.word.load(Ordering::Relaxed) & LOCKED != 0
    }
}

#[cfg(all(test, coro_loom))]
mod tests {
    use std::sync::Arc;

    use loom::thread;

    use super::{LockWaiter, PATIENCE, RawLock};
    use crate::base::atomics::{Checked, explore};
    use crate::task::{Caller, ThreadParker, WaitNode};

    const HANDED_OVER: u32 = 0;
    const KEPT: u32 = 1;
    const TAKEN_FREE: u32 = 2;
    const GAVE_UP: u32 = 3;

    /// A waiter and its place in the queue, which another thread reaches by the node.
    struct ModelLockWaiter {
        waiter: LockWaiter,
        node: Option<WaitNode>,
    }

    impl ModelLockWaiter {
        fn new() -> ModelLockWaiter {
            ModelLockWaiter { waiter: LockWaiter::new(), node: None }
        }

        /// Tries to lock, and gives up at once if nobody has served it. Tells how that ended.
        fn try_for_a_moment(&mut self, lock: &RawLock) -> u32 {
            loop {
                let was_woken = self.waiter.was_woken;
                let caller = Caller::Thread(ThreadParker::of_model());
                let node = self.node.insert(caller.node(self.waiter.as_slot()));
                // SAFETY: Q1, N4, it is unlinked or told below.
                if unsafe { lock.take_or_link(node, &self.waiter) } {
                    return if was_woken { KEPT } else { TAKEN_FREE };
                }
                // SAFETY: Q1, it was linked to this list.
                let give_up = || unsafe { lock.queue.lock().list_of(&self.waiter).give_up(node) };
                match node.end().or_else(give_up) {
                    Some(_) if self.waiter.has_it.get() => return HANDED_OVER,
                    Some(_) => self.waiter.was_woken = true,
                    None => return GAVE_UP,
                }
            }
        }
    }

    /// Releases of the lock, the last of which may hand it over or keep it, race a waiter that comes and gives up. The
    /// waiter has the lock or not, nobody else has it then, and afterwards it is free.
    fn hand_over_races_giving_up(patience_left: u32, outcomes: &'static [u32]) {
        explore(Some(3), outcomes, move |seen| {
            let lock = Arc::new(RawLock::new());
            let value = Arc::new(Checked::new(0));
            lock.lock();
            let releases = {
                let (lock, value) = (Arc::clone(&lock), Arc::clone(&value));
                thread::spawn(move || {
                    value.write(|value| *value += 1);
                    // The waiter has seen all these.
                    let mut queue = lock.queue.lock();
                    queue.releases = queue.releases.wrapping_add(PATIENCE - patience_left);
                    drop(queue);
                    lock.unlock();
                    if lock.try_lock() {
                        value.write(|value| *value += 1);
                        lock.unlock();
                    }
                })
            };
            let outcome = ModelLockWaiter::new().try_for_a_moment(&lock);
            if outcome != GAVE_UP {
                value.write(|value| *value += 1);
                lock.unlock();
            }
            releases.join().unwrap();
            assert!(lock.try_lock(), "nobody holds it");
            value.read(|value| assert!((1..=3).contains(value)));
            seen.note(outcome);
        });
    }

    #[test]
    fn loom_lock_hand_over_races_giving_up() {
        hand_over_races_giving_up(0, &[HANDED_OVER, TAKEN_FREE, GAVE_UP]);
    }

    #[test]
    fn loom_lock_release_races_a_waiter_that_is_underway() {
        hand_over_races_giving_up(1, &[KEPT, TAKEN_FREE, GAVE_UP]);
    }
}
