//! What a dump tells of the tasks that no worker has started.

use std::collections::BTreeMap;

use super::shared::Shared;
use super::totals::totals;
use crate::dump::FreshTasks;

/// Those of all runtimes.
pub(crate) fn fresh_tasks() -> FreshTasks {
    let totals = totals();
    let total = totals.spawned.saturating_sub(totals.started);
    FreshTasks { total, ..of(Shared::listed().iter().map(|shared| &**shared)) }
}

impl Shared {
    /// Those of this runtime.
    pub(crate) fn fresh_tasks(&self) -> FreshTasks {
        let started: u64 = self.mailboxes.iter().map(|mailbox| mailbox.counters().alive()).sum();
        let total = (self.alive() as u64).saturating_sub(started);
        FreshTasks { total, ..of([self]) }
    }
}

/// The places of those that wait for a stack, or are placed with a worker. Nobody can look into the queues of the others.
fn of<'a>(runtimes: impl IntoIterator<Item = &'a Shared>) -> FreshTasks {
    let mut places = BTreeMap::new();
    for queue in runtimes.into_iter().flat_map(Shared::stack_wait_queues) {
        queue.for_each(|task| *places.entry(task.location()).or_default() += 1);
    }
    FreshTasks { total: 0, places: places.into_iter().collect() }
}
