//! User code that is called from the middle of things, and suspends there: in a value's `Drop`, `Clone`,
//! `Debug`, in a key's `Hash` and `Eq`, in a waker, in what `println!` prints. No lock and no borrow of
//! the library's is held, so on one worker, where anything held would block everybody, all others
//! go on.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use coro::{JoinError, Runtime, inspect, tls};

use crate::common::{self, Counter};

/// Suspends the coroutine in every way there is, and uses all of the library meanwhile.
fn suspend_in_every_way() {
    coro::yield_now();
    coro::sleep(Duration::from_micros(50));
    coro::park_timeout(Duration::from_micros(50));
    coro::go(|| tls::set("inner", 1)).join().unwrap();
    let me = coro::current().unwrap();
    coro::Builder::new().name("waker").spawn(move || me.unpark()).unwrap();
    coro::park_timeout(Duration::from_secs(5));
    assert!(inspect::metrics().spawned > 0);
}

/// Calls [`suspend_in_every_way`] in each of its traits, and counts the calls.
struct Suspends(u32, Counter);

impl Drop for Suspends {
    fn drop(&mut self) {
        suspend_in_every_way();
        self.1.add();
    }
}

impl Clone for Suspends {
    fn clone(&self) -> Suspends {
        suspend_in_every_way();
        Suspends(self.0, self.1.clone())
    }
}

impl fmt::Debug for Suspends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        suspend_in_every_way();
        write!(f, "Suspends({})", self.0)
    }
}

impl fmt::Display for Suspends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        suspend_in_every_way();
        write!(f, "{}", self.0)
    }
}

impl PartialEq for Suspends {
    fn eq(&self, other: &Suspends) -> bool {
        suspend_in_every_way();
        self.0 == other.0
    }
}

impl Eq for Suspends {}

impl Hash for Suspends {
    fn hash<H: Hasher>(&self, state: &mut H) {
        suspend_in_every_way();
        self.0.hash(state);
    }
}

/// Runs `f` in twenty coroutines at once while others come and go, and gives the sum.
fn in_a_crowd(runtime: &Runtime, f: fn(u32, &Counter) -> u32) -> (u32, usize) {
    let count = Counter::default();
    let crowd: Vec<_> = (0..20)
        .map(|i| {
            let count = count.clone();
            runtime.go(move || f(i, &count))
        })
        .collect();
    let passers_by: Vec<_> = (0..100).map(|_| runtime.go(coro::yield_now)).collect();
    passers_by.into_iter().for_each(|one| one.join().unwrap());
    (crowd.into_iter().map(|one| one.join().unwrap()).sum(), count.get())
}

const SUM: u32 = 190;

#[test]
fn runtime_suspending_in_stored_values() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        // Replaced, deleted, taken, reset, unloaded, and dropped at the end: seven of each.
        let (sum, dropped) = in_a_crowd(runtime, |i, count| {
            tls::set("key", Suspends(i, count.clone()));
            tls::set("key", Suspends(i, count.clone()));
            assert!(tls::del("key"));
            tls::set("key", Suspends(i, count.clone()));
            drop(tls::take::<Suspends>("key").unwrap());
            tls::set("key", Suspends(i, count.clone()));
            tls::reset();
            tls::set("key", Suspends(i, count.clone()));
            let count_of_handler = count.clone();
            let captured = Suspends(i, count_of_handler);
            tls::at_exit(move || drop(captured));
            tls::unload();
            tls::set("key", Suspends(i, count.clone()));
            i
        });
        assert_eq!((sum, dropped), (SUM, 20 * 7));
    });
}

#[test]
fn runtime_suspending_in_keys() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (sum, _) = in_a_crowd(runtime, |i, count| {
            // More than are found without a hash.
            for key in 0..8 {
                tls::set(Suspends(key, count.clone()), key + i);
            }
            let found = tls::get::<u32>(Suspends(7, count.clone())).map(|value| *value);
            assert!(tls::del(Suspends(3, count.clone())));
            found.unwrap() - 7
        });
        assert_eq!(sum, SUM);
    });
}

#[test]
fn runtime_suspending_in_clone_and_scope() {
    let _watchdog = common::watchdog();
    common::on_workers(|runtime, _| {
        let (sum, _) = in_a_crowd(runtime, |i, count| {
            tls::set_inheritable("heirloom", Suspends(i, count.clone()));
            let heir = coro::go(tls::inherit(|| tls::get::<Suspends>("heirloom").unwrap().0));
            tls::scope("scoped", Suspends(i, count.clone()), suspend_in_every_way);
            heir.join().unwrap()
        });
        assert_eq!(sum, SUM);
    });
}

#[test]
fn runtime_suspending_in_captures_values_and_payloads() {
    let _watchdog = common::watchdog();
    common::quiet();
    common::on_workers(|runtime, workers| {
        let (sum, dropped) = in_a_crowd(runtime, |i, count| {
            let returned = Suspends(i, count.clone());
            drop(coro::go(move || returned)); // detached: dropped where it ends
            let payload = Suspends(i, count.clone());
            drop(coro::go(move || std::panic::panic_any(common::Payload(Box::new(payload)))));
            let joined = Suspends(i, count.clone());
            coro::go(move || joined).join().unwrap().0
        });
        assert_eq!(sum, SUM);
        assert!(dropped >= 20);
        // Dropped unrun.
        let count = Counter::default();
        let occupied = common::occupy(runtime, workers);
        let capture = Suspends(1, count.clone());
        let unrun = runtime.go(move || capture);
        unrun.cancel();
        drop(occupied);
        assert!(matches!(unrun.join(), Err(JoinError::Cancelled)));
        assert_eq!(count.get(), 1);
    });
}

#[test]
fn runtime_suspending_in_wakers() {
    let _watchdog = common::watchdog();
    struct Wakes(Counter, thread::Thread);
    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            suspend_in_every_way();
            self.0.add();
            self.1.unpark();
        }
    }
    common::on_workers(|runtime, _| {
        let count = Counter::default();
        for i in 0..20 {
            let waker = Waker::from(Arc::new(Wakes(count.clone(), thread::current())));
            let mut handle = runtime.go(move || {
                coro::yield_now();
                i
            });
            loop {
                let poll = Pin::new(&mut handle).poll(&mut Context::from_waker(&waker));
                match poll {
                    Poll::Ready(value) => break assert_eq!(value.unwrap(), i),
                    Poll::Pending => thread::park(),
                }
            }
        }
        assert!(count.get() <= 20);
    });
}

/// `println!` holds std's own lock while it formats, and that belongs to the thread. So the coroutines
/// of one worker may all be in the middle of a line, and those of another wait for it as threads do.
#[test]
fn runtime_suspending_in_what_is_printed() {
    let _watchdog = common::watchdog();
    if common::is_child("prints") {
        common::on_workers(|runtime, _| {
            let (sum, _) = in_a_crowd(runtime, |i, count| {
                println!("a line {}", Suspends(i, count.clone()));
                assert_eq!(format!("{:?}", Suspends(i, count.clone())), format!("Suspends({i})"));
                i
            });
            assert_eq!(sum, SUM);
        });
        return;
    }
    // Not captured by the test harness, which has locks of its own.
    let output = common::child("runtime_suspending_in_what_is_printed", "prints");
    assert!(output.status.success(), "{:?} {}", output.status, common::stderr(&output));
    let stdout = common::stdout(&output);
    assert_eq!(stdout.matches("a line ").count(), 60, "{stdout}");
}

/// What is not `Send` may be held across every kind of suspension: the coroutine stays on its thread.
#[test]
fn runtime_suspending_with_a_borrowed_thread_local() {
    let _watchdog = common::watchdog();
    thread_local! {
        static DEPTH: Cell<usize> = const { Cell::new(0) };
    }
    static MOST: AtomicUsize = AtomicUsize::new(0);
    common::on_workers(|runtime, _| {
        let all: Vec<_> = (0..50)
            .map(|_| {
                runtime.go(|| {
                    DEPTH.with(|depth| {
                        depth.set(depth.get() + 1);
                        MOST.fetch_max(depth.get(), Ordering::Relaxed);
                        suspend_in_every_way();
                        depth.set(depth.get() - 1);
                        DEPTH.with(|again| assert!(std::ptr::eq(depth, again)));
                    });
                })
            })
            .collect();
        all.into_iter().for_each(|one| one.join().unwrap());
        let left = runtime.go(|| DEPTH.get()).join().unwrap();
        assert_eq!(left, 0);
    });
    assert!(MOST.load(Ordering::Relaxed) > 1, "they were in it together");
}
