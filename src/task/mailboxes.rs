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

    /// Wakes each of these workers that sleeps. What it is to find was stored before.
    pub(crate) fn wake_each<'a>(mailboxes: impl IntoIterator<Item = &'a Mailbox<Header>>) {
        fence(Ordering::SeqCst);
        mailboxes.into_iter().for_each(|mailbox| mailbox.sleep().wake());
    }

    /// Wakes every worker that there is.
    pub(crate) fn wake_all() {
        Mailbox::wake_each(ALL.iter());
    }

    /// Wakes the workers of the same runtime.
    pub(crate) fn wake_siblings(&self) {
        Mailbox::wake_each(ALL.iter().filter(|mailbox| mailbox.is_sibling_of(self)));
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
