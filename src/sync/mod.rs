//! Locks and what else coroutines and threads wait for each other by, in any mixture.
//!
//! | to | use |
//! |---|---|
//! | have one at a time use a value | [`Mutex`]; [`RwLock`] if most of them only read, for long |
//! | wait until a guarded value has changed | [`Condvar`] |
//! | have so many at a time do something | [`Semaphore`] |
//! | wake a coroutine that has something to do | [`Notify`] |
//! | go on together | [`Barrier`] |
//! | wait until all is done | [`scope`](crate::scope()) or [`JoinSet`](crate::JoinSet); [`WaitGroup`] where neither fits |
//! | make a value once, when it is first used | [`LazyLock`], or [`OnceLock`] if it needs something from its user |
//! | hand values over | a [channel](crate::chan) |
//!
//! A coroutine that waits is suspended, and its worker runs others. A lock of [`std::sync`] blocks the worker instead.
//! That is fine where the lock is held for a moment, and not across a suspension; otherwise its holder may be waiting
//! for the very worker that it blocks.
//!
//! The names are those of std. There is no poison: a cancellation or a [`timeout`](crate::timeout) unwinds through
//! guards as a matter of course, and they release what they hold. A panic does the same.
//!
//! A cancellation and a timeout reach whoever waits. What was given at the same moment, a lock, a permit, a
//! notification, counts as given, and the interruption comes at the next suspension. So nothing is lost.
//!
//! `CORO_DEADLOCK=report` tells what each coroutine waits for, where that was made, and which coroutine holds the lock.
//!
//! # Examples
//!
//! ```
//! use coro::sync::{Condvar, Mutex, Semaphore};
//!
//! /// Jobs that are still to be done, of which two are done at a time.
//! static JOBS: Mutex<u32> = Mutex::new(8);
//! static DONE: Condvar = Condvar::new();
//! static SLOTS: Semaphore = Semaphore::new(2);
//!
//! for _ in 0..8 {
//!     coro::go(|| {
//!         let slot = SLOTS.acquire();
//!         coro::yield_now(); // the job
//!         drop(slot);
//!         *JOBS.lock() -= 1;
//!         DONE.notify_one();
//!     });
//! }
//! let left = DONE.wait_while(JOBS.lock(), |left| *left > 0);
//! assert_eq!(*left, 0);
//! ```

// The models run the mutex's lock and the count of permits; under loom the others could not be made in a constant.
#[cfg_attr(coro_loom, allow(dead_code))]
mod permit_count;
#[cfg_attr(coro_loom, allow(dead_code))]
mod raw_lock;

#[cfg(not(coro_loom))]
mod waiters;

#[cfg(not(coro_loom))]
mod permits;

#[cfg(not(coro_loom))]
mod barrier;
#[cfg(not(coro_loom))]
mod condvar;
#[cfg(not(coro_loom))]
mod lazy_lock;
#[cfg(not(coro_loom))]
mod mutex;
#[cfg(not(coro_loom))]
mod mutex_guard;
#[cfg(not(coro_loom))]
mod notify;
#[cfg(not(coro_loom))]
mod once_lock;
#[cfg(not(coro_loom))]
mod rw_lock;
#[cfg(not(coro_loom))]
mod rw_lock_read_guard;
#[cfg(not(coro_loom))]
mod rw_lock_write_guard;
#[cfg(not(coro_loom))]
mod semaphore;
#[cfg(not(coro_loom))]
mod wait_group;

#[cfg(not(coro_loom))]
pub use {
    barrier::{Barrier, BarrierWaitResult},
    condvar::{Condvar, WaitTimeoutResult},
    lazy_lock::LazyLock,
    mutex::Mutex,
    mutex_guard::{MappedMutexGuard, MutexGuard},
    notify::Notify,
    once_lock::OnceLock,
    rw_lock::RwLock,
    rw_lock_read_guard::{MappedRwLockReadGuard, RwLockReadGuard},
    rw_lock_write_guard::{MappedRwLockWriteGuard, RwLockWriteGuard},
    semaphore::{Semaphore, SemaphorePermit},
    wait_group::{WaitGroup, WaitGroupGuard},
};
