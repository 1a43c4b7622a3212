//! Coroutines that are alike.

use std::collections::HashMap;
use std::panic::Location;
use std::time::Duration;

use super::coroutine::{CoroutineState, DumpedCoroutine};
use super::names::{DumpFrame, Names};
use super::traces::{Trace, TraceSet};
use crate::base::id::Id;

/// Coroutines of a [`Dump`](super::Dump) that were spawned at the same place, stand at the same place, and wait for the
/// same kind of thing.
///
/// # Examples
///
/// ```
/// let sleepers: Vec<_> = (0..3).map(|_| coro::go(coro::park)).collect();
/// # while coro::inspect::metrics().parked < 3 {}
/// let dump = coro::inspect::dump();
/// let group = &dump.groups()[0];
/// println!("{} are {}, spawned at {}", group.coroutines().len(), group.state(), group.spawned_at());
/// # assert_eq!(group.coroutines().len(), 3);
/// assert_eq!(group.waits_for().as_deref(), Some("park"));
/// assert_eq!(group.spawned_by(), None); // but by a thread
/// for frame in group.frames() {
///     println!("{:#x}", frame.address());
/// }
/// if let Some(why) = group.frames_end() {
///     println!("the frames end too early: {why}");
/// }
/// sleepers.iter().for_each(|sleeper| sleeper.handle().unpark());
/// ```
pub struct DumpGroup<'a> {
    trace: Trace<'a>,
    names: &'a Names,
    /// Not empty. Those that have been parked for longest come first.
    members: Vec<&'a DumpedCoroutine>,
}

impl<'a> DumpGroup<'a> {
    /// The groups of these coroutines, the largest first.
    pub(super) fn all(
        coroutines: &'a [DumpedCoroutine],
        traces: &'a TraceSet,
        names: &'a Names,
    ) -> Vec<DumpGroup<'a>> {
        let mut members: HashMap<_, Vec<&DumpedCoroutine>> = HashMap::new();
        for coroutine in coroutines {
            let key =
                (coroutine.trace, coroutine.state, coroutine.waiting(), coroutine.spawned_at());
            members.entry(key).or_default().push(coroutine);
        }
        let group = |members: Vec<&'a DumpedCoroutine>| DumpGroup {
            trace: traces.get(members[0].trace),
            names,
            members,
        };
        let mut groups: Vec<_> = members.into_values().map(group).collect();
        for group in &mut groups {
            group.members.sort_by_key(|one| (std::cmp::Reverse(one.parked_for), one.id()));
        }
        groups.sort_by_key(|group| (std::cmp::Reverse(group.members.len()), group.members[0].id()));
        groups
    }

    /// Its coroutines, those that have been parked for longest first.
    pub fn coroutines(&self) -> &[&'a DumpedCoroutine] {
        &self.members
    }

    /// What they do.
    pub fn state(&self) -> CoroutineState {
        self.first().state
    }

    /// What they wait for, if they are parked: exactly, if that is the same for all, and else by its kind.
    pub fn waits_for(&self) -> Option<String> {
        let exact = self.first().waits_for();
        let is_same = self.members.iter().all(|one| one.waits_for() == exact);
        if is_same { exact } else { self.first().waiting().map(|waiting| waiting.to_string()) }
    }

    /// Where in the program they were spawned.
    pub fn spawned_at(&self) -> &'static Location<'static> {
        self.first().spawned_at()
    }

    /// The coroutine that has spawned all of them; `None`: there is no such coroutine.
    pub fn spawned_by(&self) -> Option<Id> {
        let spawner = self.first().spawned_by()?;
        self.members.iter().all(|one| one.spawned_by() == Some(spawner)).then_some(spawner)
    }

    /// Where their stacks stand, the innermost frame first: that in which a coroutine switches to its worker. The root,
    /// below the coroutine's function, is left out.
    pub fn frames(&self) -> impl Iterator<Item = &'a DumpFrame> {
        let names = self.names;
        self.trace.addresses.iter().map(|address| names.at(*address))
    }

    /// Why the frames do not reach the root of the stack; `None`: they do.
    pub fn frames_end(&self) -> Option<String> {
        let end = self.trace.end;
        (!end.is_root()).then(|| end.to_string())
    }

    /// How many have been parked for so long, from the shortest time to the longest.
    pub(super) fn ages(&self) -> impl Iterator<Item = (&'static str, usize)> {
        const AGES: [(u64, &str); 4] = [
            (1, "less than 1 s"),
            (60, "1 s to 1 min"),
            (3600, "1 min to 1 h"),
            (u64::MAX, "more than 1 h"),
        ];
        let of = |one: &DumpedCoroutine| {
            let parked_for = one.parked_for?;
            AGES.iter().position(|(below, _)| parked_for < Duration::from_secs(*below))
        };
        let mut counts = [0; AGES.len()];
        self.members.iter().filter_map(|one| of(one)).for_each(|age| counts[age] += 1);
        AGES.into_iter().map(|(_, name)| name).zip(counts).filter(|(_, count)| *count > 0)
    }

    fn first(&self) -> &'a DumpedCoroutine {
        self.members[0]
    }
}
