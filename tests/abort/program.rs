//! A program that is compiled with `panic = "abort"`; `tests/fault_abort.rs` builds and runs it. Its
//! argument names a case. A case that returns has kept its promises.

use std::cell::RefCell;
use std::env;
use std::panic::{panic_any, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use coro::raw::{self, Coroutine, State, Yielder};
use coro::{JoinError, JoinSet, Runtime, local, tls};

const SHORT: Duration = Duration::from_millis(5);

local! {
    static NOTES: RefCell<Vec<u32>> = RefCell::new(Vec::new());
}

fn main() {
    assert!(cfg!(panic = "abort"), "the flag has reached the compiler");
    match env::args().nth(1).as_deref() {
        Some("ends") => ends(),
        Some("timeouts") => timeouts(),
        Some("cancel a parked one") => cancel_a_parked_one(),
        Some("cancel a fresh one") => cancel_a_fresh_one(),
        Some("shutdown") => shutdown(),
        Some("raw") => raw_coroutine(2),
        Some("raw, suspended") => raw_coroutine(1),
        Some("panic") => panic_in_a_coroutine(),
        Some("panic in a handler") => panic_in_a_handler(),
        Some("resume_unwind") => unwind_in_a_coroutine(),
        case => panic!("there is no case {case:?}"),
    }
    println!("kept");
}

/// Says its number when it is dropped.
struct OnDrop(u32, Arc<Mutex<Vec<u32>>>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.1.lock().unwrap().push(self.0);
    }
}

/// `go` and `join`, in every way that there is; exit handlers run newest first, then values drop newest first.
fn ends() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&log);
    let told = coro::go(move || {
        NOTES.with(|notes| notes.borrow_mut().push(7));
        for n in [1, 2] {
            let seen = Arc::clone(&seen);
            tls::set(format!("value {n}"), OnDrop(n, Arc::clone(&seen)));
            tls::at_exit(move || seen.lock().unwrap().push(10 + n));
        }
        coro::yield_now();
        coro::sleep(SHORT);
        let _local = OnDrop(20, seen);
        NOTES.with(|notes| notes.borrow().clone())
    });
    assert_eq!(told.join().unwrap(), [7]);
    assert_eq!(*log.lock().unwrap(), [20, 12, 11, 2, 1]);

    let count = AtomicUsize::new(0);
    coro::scope(|s| {
        for _ in 0..1_000 {
            s.go(|| {
                coro::yield_now();
                count.fetch_add(1, Ordering::Relaxed);
            });
        }
    });
    assert_eq!(count.into_inner(), 1_000);

    let mut set = JoinSet::new();
    (0..100).for_each(|n| drop(set.spawn(move || n)));
    let mut sum = 0;
    while let Some(member) = set.join_next() {
        sum += member.unwrap();
    }
    assert_eq!(sum, 4_950);
    assert_eq!(coro::go(|| coro::blocking(|| 42)).join().unwrap(), 42);
}

/// Is resumed so often; two times are enough for it to end.
fn raw_coroutine(times: u32) {
    let body = |yielder: &Yielder<u32, u32>, n: u32| {
        tls::at_exit(|| ());
        yielder.suspend(n + 1) + 1
    };
    let resumes = |coroutine: &Coroutine<u32, u32, u32>| {
        assert_eq!(coroutine.resume(1), State::Yielded(2));
        if times > 1 {
            assert_eq!(coroutine.resume(5), State::Done(6));
        }
    };
    raw::with(64 << 10, body, resumes).unwrap();
}

/// Nothing can be unwound, so a function that is limited runs to its end, and has won.
fn timeouts() {
    let in_a_coroutine = || {
        let late = coro::timeout(SHORT, || {
            coro::sleep(10 * SHORT);
            coro::yield_now();
            coro::timeout(SHORT, || coro::sleep(2 * SHORT))
        });
        assert_eq!(late, Ok(Ok(())));
        assert_eq!(coro::timeout(SHORT, || 1), Ok(1));
    };
    coro::go(in_a_coroutine).join().unwrap();
    // A park returns when the time is over, as it may without a reason, and then waits for its `unpark`.
    let done = Arc::new(AtomicBool::new(false));
    let opened = Arc::clone(&done);
    let parked = coro::go(move || {
        coro::timeout(SHORT, || {
            while !opened.load(Ordering::Acquire) {
                coro::park();
            }
        })
    });
    coro::go(|| coro::sleep(10 * SHORT)).join().unwrap();
    assert!(!parked.is_finished(), "it waits for more than the time");
    done.store(true, Ordering::Release);
    parked.handle().unpark();
    assert_eq!(parked.join().unwrap(), Ok(()));
}

/// A coroutine that has started is not cancelled: it goes on, and its value is there.
fn cancel_a_parked_one() {
    let (started, starts) = mpsc::channel();
    let done = Arc::new(AtomicBool::new(false));
    let log = Arc::new(Mutex::new(Vec::new()));
    let (opened, seen) = (Arc::clone(&done), Arc::clone(&log));
    let parked = coro::go(move || {
        let _local = OnDrop(1, seen);
        started.send(()).unwrap();
        while !opened.load(Ordering::Acquire) {
            coro::park();
        }
        coro::sleep(SHORT);
        coro::is_cancelled()
    });
    starts.recv().unwrap();
    parked.cancel();
    coro::go(|| coro::sleep(2 * SHORT)).join().unwrap();
    assert!(!parked.is_finished());
    assert!(log.lock().unwrap().is_empty(), "nothing on its stack was dropped");
    done.store(true, Ordering::Release);
    parked.handle().unpark();
    assert!(parked.join().unwrap(), "it can see that it was asked to end");
    assert_eq!(*log.lock().unwrap(), [1]);
}

/// A coroutine that has not started is dropped unrun.
fn cancel_a_fresh_one() {
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let (open, opened) = mpsc::channel::<()>();
    let (started, starts) = mpsc::channel();
    let log = Arc::new(Mutex::new(Vec::new()));
    let blocker = runtime.go(move || {
        started.send(()).unwrap();
        opened.recv().unwrap();
    });
    starts.recv().unwrap();
    let captured = OnDrop(1, Arc::clone(&log));
    let fresh = runtime.go(move || drop(captured));
    fresh.cancel();
    open.send(()).unwrap();
    assert!(matches!(fresh.join(), Err(JoinError::Cancelled)));
    blocker.join().unwrap();
    runtime.shutdown();
    assert_eq!(*log.lock().unwrap(), [1]);
}

/// A shutdown leaves alone what is suspended, and counts it.
fn shutdown() {
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let (started, starts) = mpsc::channel();
    let parked = runtime.go(move || {
        started.send(()).unwrap();
        loop {
            coro::park();
        }
    });
    starts.recv().unwrap();
    assert_eq!(runtime.shutdown_timeout(10 * SHORT), 1);
    assert!(!parked.is_finished());
}

fn panic_in_a_coroutine() {
    let handle = coro::go(|| {
        tls::at_exit(|| println!("cleanup"));
        coro::yield_now();
        panic!("out of luck");
    });
    println!("joined: {}", handle.join().is_err());
}

fn panic_in_a_handler() {
    let handle = coro::go(|| tls::at_exit(|| panic_any(1)));
    println!("joined: {}", handle.join().is_err());
}

fn unwind_in_a_coroutine() {
    let handle = coro::go(|| resume_unwind(Box::new("out of luck")));
    println!("joined: {}", handle.join().is_err());
}
