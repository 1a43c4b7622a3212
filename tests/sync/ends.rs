//! What ends a wait, for every kind of wait: a cancellation, a `timeout`, a `no_suspend`. Nothing is taken then, and
//! whoever holds what is waited for notices nothing.

use std::panic::catch_unwind;

use coro::sync::{
    Barrier, Condvar, LazyLock, Mutex, Notify, OnceLock, RwLock, Semaphore, WaitGroup,
};

use crate::common::{self, Counter, Gate};
use crate::{LONG, SHORT, spawn_waiting};

static MUTEX: Mutex<()> = Mutex::new(());
static RW_LOCK: RwLock<()> = RwLock::new(());
static CONDVAR: Condvar = Condvar::new();
static OF_CONDVAR: Mutex<()> = Mutex::new(());
static SEMAPHORE: Semaphore = Semaphore::new(1);
static BARRIER: Barrier = Barrier::new(2);
static ONCE: OnceLock<u8> = OnceLock::new();
static LAZY: LazyLock<u8> = LazyLock::new(|| {
    BEGUN.get_or_init(Counter::default).add();
    OPEN.get_or_init(Gate::default).pass();
    7
});
static BEGUN: std::sync::OnceLock<Counter> = std::sync::OnceLock::new();
static OPEN: std::sync::OnceLock<Gate> = std::sync::OnceLock::new();
static GROUP: WaitGroup = WaitGroup::new();
static NOTIFY: Notify = Notify::new();

/// Each waits, if what it waits for is held.
const WAITS: [fn(); 16] = [
    || drop(MUTEX.lock()),
    || drop(MUTEX.lock_timeout(LONG)),
    || drop(RW_LOCK.read()),
    || drop(RW_LOCK.write()),
    || drop(RW_LOCK.read_timeout(LONG)),
    || drop(CONDVAR.wait(OF_CONDVAR.lock())),
    || drop(CONDVAR.wait_timeout(OF_CONDVAR.lock(), LONG)),
    || drop(SEMAPHORE.acquire_many(2)),
    || drop(SEMAPHORE.acquire_many_timeout(2, LONG)),
    || assert!(BARRIER.wait().is_leader()),
    || _ = BARRIER.wait_timeout(LONG),
    || _ = *ONCE.wait(),
    || _ = LazyLock::force(&LAZY),
    || GROUP.wait(),
    || NOTIFY.wait(),
    || _ = NOTIFY.wait_timeout(LONG),
];

#[test]
fn sync_ends_every_kind_of_wait_by_what_interrupts_it() {
    let _watchdog = common::watchdog();
    let held = (MUTEX.lock(), RW_LOCK.write());
    GROUP.add(1);
    let makes = common::runtime(1);
    let made = makes.go(|| *LAZY);
    BEGUN.get_or_init(Counter::default).wait_for(1);
    common::on_workers(|runtime, _| {
        for (kind, wait) in WAITS.into_iter().enumerate() {
            let cancelled = spawn_waiting(runtime, wait);
            cancelled.cancel();
            common::assert_cancelled(cancelled.join());
            let limited = runtime.go(move || coro::timeout(SHORT, wait).is_err());
            assert!(limited.join().unwrap(), "kind {kind}");
            assert!(coro::timeout(SHORT, wait).is_err(), "kind {kind}, on a thread");
            let refused = runtime.go(move || catch_unwind(|| coro::no_suspend(wait)).unwrap_err());
            let payload = refused.join().unwrap();
            assert!(common::message(&*payload).contains("no_suspend"), "kind {kind}");
        }
    });
    drop(held);
    GROUP.done();
    OPEN.get_or_init(Gate::default).open();
    assert_eq!(made.join().unwrap(), 7);
    assert!(!MUTEX.is_locked() && !OF_CONDVAR.is_locked() && RW_LOCK.try_write().is_some());
    assert_eq!((SEMAPHORE.available_permits(), ONCE.get(), GROUP.count()), (1, None, 0));
    assert!(BARRIER.wait_timeout(SHORT).is_none(), "nobody has come");
    assert!(!NOTIFY.wait_timeout(SHORT));
}
