//! The bank: a thread of the library's own that makes credits.
//!
//! The bank raises its own count of panics, and lends the exceptions out
//! ([`credits`](super::credits)). It is started when a coroutine is first suspended in the middle of its
//! unwinding. It makes credits in batches that double, because 100,000 coroutines that are cancelled at once
//! may need as many. It catches credits that nobody needs: while std's count for the whole
//! process is not zero, every `panicking()` has to read a thread-local.
//!
//! A forked process has no bank. It starts its own when it first needs one.
//!
//! - **U3** The credits of a bank are never freed.

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU8, Ordering};
use std::sync::{Once, mpsc};
use std::thread;

use super::credits::{BankWork, Credits};
use super::panic_count::{Credit, lower, raise, works};
use crate::base::report;

/// The most credits that are made at a time, unless more wait.
const BATCH: usize = 1024;

/// Nobody has needed a bank.
const NONE: u8 = 0;
/// Somebody is starting it.
const STARTING: u8 = 1;
/// [`CREDITS`] are there.
const OPEN: u8 = 2;
/// Panics cannot be moved in this process. They stay with their thread.
const CLOSED: u8 = 3;

static STATE: AtomicU8 = AtomicU8::new(NONE);
static CREDITS: AtomicPtr<Credits<Credit>> = AtomicPtr::new(ptr::null_mut());

/// The bank's credits. The bank is started if there is none. `None`: panics cannot be moved in this process.
pub(super) fn open() -> Option<&'static Credits<Credit>> {
    loop {
        // Acquire: pairs with `start`.
        match STATE.load(Ordering::Acquire) {
            // SAFETY: U3, they are there and stay.
            OPEN => return unsafe { CREDITS.load(Ordering::Relaxed).as_ref() },
            CLOSED => return None,
            NONE => start(),
            _ => thread::yield_now(),
        }
    }
}

/// Whether the coroutines of a thread share its panics, because these cannot be moved.
pub(crate) fn shares_panics() -> bool {
    STATE.load(Ordering::Relaxed) == CLOSED
}

/// How many threads the bank has: none, or one.
pub(crate) fn threads() -> usize {
    usize::from(STATE.load(Ordering::Relaxed) == OPEN)
}

#[cold]
fn start() {
    if STATE.compare_exchange(NONE, STARTING, Ordering::Relaxed, Ordering::Relaxed).is_err() {
        return; // somebody else does
    }
    static NOTICE_FORKS: Once = Once::new();
    // SAFETY: S8, a function that stores one number. If it is refused, a forked process that needs the bank
    // waits for it in vain.
    NOTICE_FORKS.call_once(|| _ = unsafe { libc::pthread_atfork(None, None, Some(in_child)) });
    let credits: &Credits<Credit> = Box::leak(Box::new(Credits::new()));
    let (tell, told) = mpsc::channel();
    let life = move || {
        let works = works();
        let _ = tell.send(works); // the thread that opens the bank waits for it
        if works {
            serve(credits);
        }
    };
    let problem = match crate::thread::spawn("coro-panics", life) {
        Err(error) => {
            format!("there is no thread for it: {error}; see ulimit -u, pids.max of the cgroup")
        }
        Ok(_) if told.recv() == Ok(true) => {
            CREDITS.store(ptr::from_ref(credits).cast_mut(), Ordering::Relaxed);
            // Release: pairs with `open`.
            return STATE.store(OPEN, Ordering::Release);
        }
        Ok(_) => String::from("this standard library counts panics in another way"),
    };
    STATE.store(CLOSED, Ordering::Relaxed);
    report::line(format_args!(
        "coro: coroutines of one thread share their panics from now on: {problem}; while one is suspended in \
         its unwinding, no other of its thread is cancelled"
    ));
}

/// The bank's thread exists in the parent only, and its lock may be held for ever.
extern "C" fn in_child() {
    if STATE.load(Ordering::Relaxed) != CLOSED {
        STATE.store(NONE, Ordering::Relaxed);
    }
}

/// What the bank's thread does.
fn serve(credits: &Credits<Credit>) -> ! {
    let mut batch = 1;
    loop {
        match credits.next_work() {
            BankWork::Make(number) => {
                // All are made before the lock is taken.
                let made: Vec<_> = (0..number.max(batch)).map_while(|_| raise()).collect();
                credits.add(made);
                batch = (2 * batch).min(BATCH);
            }
            BankWork::Catch(idle) => {
                idle.into_iter().for_each(|credit| _ = lower(credit));
                batch = 1;
            }
        }
    }
}

/// Takes a credit that was made in restoring panics.
pub(super) fn take_back(credit: Credit) {
    // SAFETY: U3.
    match unsafe { CREDITS.load(Ordering::Relaxed).as_ref() } {
        Some(credits) if threads() > 0 => credits.settle(1, Some(credit)),
        // The panic was set aside in the parent of this forked process. The exception is leaked.
        _ => {}
    }
}

/// So many of the credits that were lent do not come back.
pub(super) fn write_off(count: u32) {
    if let Some(credits) = open() {
        credits.settle(count as usize, None);
    }
}

#[cfg(test)]
mod tests {
    use super::super::panic_count::panicking;
    use super::*;

    #[test]
    fn the_bank_lends_more_than_a_batch_and_catches_what_comes_back() {
        let credits = open().expect("this standard library is known");
        let lent: Vec<_> = (0..3 * BATCH).map(|_| credits.lend()).collect();
        assert!(!panicking());
        for credit in lent {
            take_back(credit);
        }
        // Other tests may borrow at the same time, and give back as well.
        while credits.has_idle() {
            thread::yield_now();
        }
    }

    #[test]
    fn the_bank_forgets_nobody_who_waits() {
        let credits = open().expect("this standard library is known");
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..5_000).for_each(|_| take_back(credits.lend())));
            }
        });
    }
}
