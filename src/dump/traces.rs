//! Chains of calls, each kept once.

use std::collections::HashMap;

use crate::frames::WalkEnd;

/// Which of a set of traces.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) struct TraceId(u32);

/// The addresses that the frames of a stack go on at, the innermost first, and where the walk has ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Trace<'a> {
    pub(super) addresses: &'a [usize],
    pub(super) end: WalkEnd,
}

/// Different traces.
#[derive(Default)]
pub(super) struct TraceSet {
    traces: Vec<(std::ops::Range<usize>, WalkEnd)>,
    /// The addresses of one after those of another.
    addresses: Vec<usize>,
    by_hash: HashMap<u64, TraceId>,
}

impl TraceSet {
    pub(super) fn get(&self, id: TraceId) -> Trace<'_> {
        let (range, end) = &self.traces[id.0 as usize];
        Trace { addresses: &self.addresses[range.clone()], end: *end }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Trace<'_>> {
        (0..self.traces.len()).map(|index| self.get(TraceId(index as u32)))
    }

    /// Keeps a trace, if it is not there. `None`: there is no memory for it.
    pub(super) fn add(&mut self, trace: Trace<'_>) -> Option<TraceId> {
        let mut hash = hash(trace.addresses);
        loop {
            match self.by_hash.get(&hash) {
                None => break,
                Some(&id) if self.get(id) == trace => return Some(id),
                // Another of the same hash.
                Some(_) => hash = hash.wrapping_add(1),
            }
        }
        self.by_hash.try_reserve(1).ok()?;
        self.traces.try_reserve(1).ok()?;
        self.addresses.try_reserve(trace.addresses.len()).ok()?;
        let id = TraceId(self.traces.len() as u32);
        let start = self.addresses.len();
        self.addresses.extend_from_slice(trace.addresses);
        self.traces.push((start..self.addresses.len(), trace.end));
        self.by_hash.insert(hash, id);
        Some(id)
    }
}

fn hash(addresses: &[usize]) -> u64 {
    addresses.iter().fold(0, |hash, &address| {
        let hash = (hash ^ address as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash ^ hash >> 32
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_kept_once() {
        let mut set = TraceSet::default();
        let mut add = |addresses: &[usize], end| set.add(Trace { addresses, end }).unwrap();
        let first = add(&[1, 2, 3], WalkEnd::Root);
        assert_eq!(add(&[1, 2, 3], WalkEnd::Root), first);
        let others = [
            add(&[1, 2], WalkEnd::Root),
            add(&[3, 2, 1], WalkEnd::Root),
            // Of the same hash.
            add(&[1, 2, 3], WalkEnd::Running),
            add(&[], WalkEnd::Root),
        ];
        assert!(others.iter().all(|other| *other != first));
        assert_eq!(add(&[1, 2, 3], WalkEnd::Running), others[2]);
        assert_eq!(set.iter().count(), 5);
        assert_eq!(set.get(others[1]).addresses, [3, 2, 1]);
    }
}
