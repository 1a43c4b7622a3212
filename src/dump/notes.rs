//! What a worker notes of its tasks.

use super::coroutine::{CoroutineState, DumpedCoroutine};
use super::traces::{Trace, TraceId, TraceSet};
use crate::frames::WalkEnd;
use crate::task::Listed;
#[cfg(feature = "dump")]
use crate::task::TaskWalker;
use crate::tls::labels_of;

/// What a worker has noted so far.
pub(super) struct Notes {
    /// `None`: no frames are asked for.
    #[cfg(feature = "dump")]
    walker: Option<TaskWalker>,
    pub(super) coroutines: Vec<DumpedCoroutine>,
    pub(super) traces: TraceSet,
    /// The tasks that there was no memory for, or that are beyond the limit.
    pub(super) unlisted: usize,
    limit: usize,
    /// The addresses of a trace.
    addresses: Vec<usize>,
}

impl Notes {
    #[cfg(feature = "dump")]
    pub(super) fn new(walker: TaskWalker) -> Notes {
        Notes { walker: Some(walker), ..Notes::without_frames(usize::MAX) }
    }

    /// For up to `limit` tasks. The others are counted.
    pub(super) fn without_frames(limit: usize) -> Notes {
        Notes {
            #[cfg(feature = "dump")]
            walker: None,
            coroutines: Vec::new(),
            traces: TraceSet::default(),
            unlisted: 0,
            limit,
            addresses: Vec::new(),
        }
    }

    /// Makes room for so many tasks, if there is memory, by whoever asks: to move what is noted would hold up the worker.
    pub(super) fn reserve(&mut self, tasks: usize) {
        let _ = self.coroutines.try_reserve(tasks.min(self.limit));
    }

    /// Notes a task. By its worker, between two turns, of which the last was `turn`.
    pub(super) fn note(&mut self, task: &Listed, turn: u64) {
        if self.coroutines.len() >= self.limit || self.try_note(task, turn).is_none() {
            self.unlisted += 1;
        }
    }

    /// `None`: there is no memory.
    fn try_note(&mut self, task: &Listed, turn: u64) -> Option<()> {
        self.coroutines.try_reserve(1).ok()?;
        let (trace, stack_used) = self.trace(task)?;
        let waiting = task.waits_for();
        let mut span = String::new();
        task.describe_carries(&mut span)?;
        self.coroutines.push(DumpedCoroutine {
            label: task.try_label()?,
            state: match waiting {
                Some(_) => CoroutineState::Parked,
                None => CoroutineState::Ready,
            },
            waiting,
            parked_in: task.parked_in(turn),
            parked_for: None,
            stack_used,
            trace,
            labels: task.with_own_record(labels_of)?,
            span: (!span.is_empty()).then_some(span),
            spawned_by: task.parent(),
            spawners_name: None,
        });
        Some(())
    }

    #[cfg(feature = "dump")]
    fn trace(&mut self, task: &Listed) -> Option<(TraceId, Option<usize>)> {
        let Notes { walker, traces, addresses, .. } = self;
        let Some(walker) = walker else {
            return Some((traces.add(Trace { addresses: &[], end: WalkEnd::NotBuilt })?, None));
        };
        addresses.clear();
        let mut is_whole = true;
        let (end, used) = walker.walk(task, |address| match addresses.try_reserve(1) {
            Ok(()) => addresses.push(address),
            Err(_) => is_whole = false,
        });
        if !is_whole {
            return None;
        }
        Some((traces.add(Trace { addresses, end })?, used))
    }

    #[cfg(not(feature = "dump"))]
    fn trace(&mut self, _task: &Listed) -> Option<(TraceId, Option<usize>)> {
        let trace = Trace { addresses: &self.addresses, end: WalkEnd::NotBuilt };
        Some((self.traces.add(trace)?, None))
    }
}
