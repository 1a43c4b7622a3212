//! The credits that the bank and its borrowers share, and who waits for whom.
//!
//! A borrower that finds no credit counts itself as waiting, notifies the bank, and sleeps. The bank
//! sleeps while there are as many credits as waiting borrowers.
//!
//! No borrower sleeps for ever. It counts itself and notifies under the lock, while there is no credit. The
//! bank then takes the lock and finds more borrowers than credits, and makes some; or a credit was added first. But
//! a thread that adds credits while borrowers wait wakes a borrower for each. A borrower that is woken
//! after another has taken the credit starts over.

use std::mem;
use std::time::Duration;

use crate::base::atomics::{Condvar, Mutex, MutexGuard, wait_timeout};

/// For how long credits are kept that nobody needs.
const KEPT: Duration = Duration::from_millis(10);

/// The credits, and two places to sleep.
pub(super) struct Credits<C> {
    books: Mutex<Books<C>>,
    /// Where the bank sleeps.
    called: Condvar,
    /// Where borrowers sleep.
    added: Condvar,
}

struct Books<C> {
    idle: Vec<C>,
    /// Borrowers that wait, or were woken and have not looked yet.
    waiting: usize,
    /// Credits that are to come back.
    lent: usize,
}

/// What the bank has to do.
pub(super) enum BankWork<C> {
    /// To make and add so many credits, or more.
    Make(usize),
    /// To catch these, which nobody needs.
    Catch(Vec<C>),
}

impl<C> Credits<C> {
    pub(super) fn new() -> Credits<C> {
        Credits {
            books: Mutex::new(Books { idle: Vec::new(), waiting: 0, lent: 0 }),
            called: Condvar::new(),
            added: Condvar::new(),
        }
    }

    /// No code under this lock panics. A panic of the borrowing coroutine may be under way, and poisons nothing.
    fn lock(&self) -> MutexGuard<'_, Books<C>> {
        self.books.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Lends a credit; blocks until there is one.
    pub(super) fn lend(&self) -> C {
        let mut books = self.lock();
        loop {
            if let Some(credit) = books.idle.pop() {
                books.lent += 1;
                return credit;
            }
            books.waiting += 1;
            self.called.notify_one();
            books = self.added.wait(books).unwrap_or_else(|poisoned| poisoned.into_inner());
            books.waiting -= 1;
        }
    }

    /// Notes that so many credits are no longer lent, and takes one that has come back.
    pub(super) fn settle(&self, count: usize, back: Option<C>) {
        let mut books = self.lock();
        books.lent = books.lent.saturating_sub(count);
        books.idle.extend(back);
        if books.waiting > 0 {
            self.added.notify_one();
        } else if books.lent == 0 {
            self.called.notify_one();
        }
    }

    /// Adds credits that the bank has made.
    pub(super) fn add(&self, made: impl IntoIterator<Item = C>) {
        let mut books = self.lock();
        books.idle.extend(made);
        self.added.notify_all();
    }

    /// What the bank has to do next; blocks until there is something.
    pub(super) fn next_work(&self) -> BankWork<C> {
        let mut books = self.lock();
        loop {
            if books.waiting > books.idle.len() {
                return BankWork::Make(books.waiting - books.idle.len());
            }
            let unneeded = |books: &Books<C>| books.lent == 0 && books.waiting == 0;
            if unneeded(&books) && !books.idle.is_empty() {
                let elapsed;
                (books, elapsed) = wait_timeout(&self.called, books, KEPT);
                if elapsed && unneeded(&books) {
                    return BankWork::Catch(mem::take(&mut books.idle));
                }
            } else {
                books = self.called.wait(books).unwrap_or_else(|poisoned| poisoned.into_inner());
            }
        }
    }

    #[cfg(test)]
    pub(super) fn has_idle(&self) -> bool {
        !self.lock().idle.is_empty()
    }

    #[cfg(all(test, not(coro_loom)))]
    fn has_waiting(&self) -> bool {
        self.lock().waiting > 0
    }
}

#[cfg(all(test, not(coro_loom)))]
mod tests {
    use std::thread;

    use super::*;

    /// Whoever waits gets what others give back, though nobody makes any.
    #[test]
    fn a_credit_that_comes_back_wakes_who_waits() {
        let credits = Credits::new();
        thread::scope(|scope| {
            let waits = scope.spawn(|| credits.lend());
            while !credits.has_waiting() {
                thread::yield_now();
            }
            credits.settle(1, Some(7));
            assert_eq!(waits.join().expect("it gets the credit"), 7);
        });
    }
}

#[cfg(all(test, coro_loom))]
mod models {
    use loom::thread;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::base::atomics::explore;

    /// One borrows a credit and gives it back, another gives one back, and the bank makes them and catches what
    /// is left. In a model the time for which credits are kept is over at once.
    #[test]
    fn loom_bank_forgets_nobody() {
        explore(None, &[0, 1], |seen| {
            let credits = Arc::new(Credits::new());
            credits.add([0]);
            let lent = credits.lend();
            // Not loom's: it says when the model is over, and nothing else hangs on it.
            let done = Arc::new(AtomicUsize::new(0));
            let note = |done: &AtomicUsize| _ = done.fetch_add(1, Ordering::Relaxed);
            let borrows = {
                let (credits, done) = (Arc::clone(&credits), Arc::clone(&done));
                thread::spawn(move || {
                    let credit = credits.lend();
                    note(&done);
                    credits.settle(1, Some(credit));
                })
            };
            let gives_back = {
                let (credits, done) = (Arc::clone(&credits), Arc::clone(&done));
                thread::spawn(move || {
                    note(&done);
                    credits.settle(1, Some(lent));
                })
            };
            let mut made = 0;
            loop {
                match credits.next_work() {
                    BankWork::Make(number) => {
                        made += number;
                        credits.add((0..number).map(|_| 1));
                    }
                    BankWork::Catch(_) if done.load(Ordering::Relaxed) == 2 => break,
                    BankWork::Catch(_) => {}
                }
            }
            seen.note(made as u32);
            assert!(!credits.has_idle(), "each credit is caught");
            borrows.join().unwrap();
            gives_back.join().unwrap();
        });
    }
}
