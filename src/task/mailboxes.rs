//! Every mailbox that there is.

use std::sync::Mutex;

use super::counters::{Counter, Counters};
use super::header::Header;
use super::mailbox::Mailbox;
use crate::base::append_only_list::AppendOnlyList;
use crate::base::atomics::{Ordering, fence};
use crate::base::lock::lock;

/// Those that no worker uses.
static UNUSED: Mutex<Vec<&'static Mailbox<Header>>> = Mutex::new(Vec::new());
static ALL: AppendOnlyList<Mailbox<Header>> = AppendOnlyList::new();

impl Mailbox<Header> {
    /// A mailbox for a worker that is being made.
    pub(crate) fn acquire() -> &'static Mailbox<Header> {
        let unused = lock(&UNUSED).pop();
        unused.unwrap_or_else(|| ALL.add(Mailbox::new()))
    }

    /// Makes the mailbox free for another worker.
    ///
    /// # Safety
    ///
    /// It was acquired, and its worker has ended, or never began.
    pub(crate) unsafe fn release(&'static self) {
        lock(&UNUSED).push(self);
    }

    /// Wakes every worker that there is.
    pub(crate) fn wake_all() {
        fence(Ordering::SeqCst);
        ALL.iter().for_each(|mailbox| mailbox.sleep().wake());
    }

    /// The sum of one count over all workers that there ever were.
    pub(crate) fn count(which: fn(&Counters) -> &Counter) -> u64 {
        ALL.iter().map(|mailbox| which(mailbox.counters()).get()).sum()
    }

    /// Every mailbox that there is, in use or not.
    pub(crate) fn all() -> impl Iterator<Item = &'static Mailbox<Header>> {
        ALL.iter()
    }
}
