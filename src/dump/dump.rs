//! The whole, and what is to be seen of it.

use std::fmt;
use std::time::Duration;

use super::coroutine::{CoroutineState, DumpedCoroutine};
use super::fresh::FreshTasks;
use super::group::DumpGroup;
use super::names::Names;
use super::survey::HeldUp;
use super::traces::{Trace, TraceSet};
use crate::base::id::Id;
use crate::frames::WalkEnd;

/// What all coroutines of the process do; from [`dump`](crate::inspect::dump).
///
/// As text ([`Display`](fmt::Display)) and as JSON ([`to_json`](Dump::to_json)), coroutines that are alike are one
/// [group](DumpGroup), which is counted. The methods that take `self` choose what is shown, and can be combined.
///
/// # Examples
///
/// ```
/// use coro::inspect::{self, CoroutineState};
///
/// let parked = coro::Builder::new().name("sleeper").spawn(coro::park)?;
/// # while inspect::metrics().parked < 1 {}
/// let dump = inspect::dump().named("sleeper").in_state(CoroutineState::Parked).limit(100);
/// let text = dump.to_string();
/// assert!(text.contains("1 parked, waiting for park"), "{text}");
/// parked.handle().unpark();
/// # std::io::Result::Ok(())
/// ```
pub struct Dump {
    /// In the order of their ids.
    pub(super) coroutines: Vec<DumpedCoroutine>,
    /// How many there were before some were left out.
    pub(super) total: usize,
    pub(super) traces: TraceSet,
    pub(super) names: Names,
    pub(super) fresh: FreshTasks,
    pub(super) held_up: Vec<HeldUp>,
    /// How many the system has refused the memory for.
    pub(super) without_memory: usize,
    /// What else there is to say.
    pub(super) remark: Option<String>,
    /// So many groups are shown at most.
    pub(super) limit: usize,
}

impl Dump {
    pub(super) fn nothing() -> Dump {
        Dump {
            coroutines: Vec::new(),
            total: 0,
            traces: TraceSet::default(),
            names: Names::default(),
            fresh: FreshTasks::default(),
            held_up: Vec::new(),
            without_memory: 0,
            remark: None,
            limit: usize::MAX,
        }
    }

    /// The coroutines, in the order of their ids. All have started.
    ///
    /// # Examples
    ///
    /// ```
    /// use coro::inspect;
    ///
    /// let parked = coro::go(coro::park);
    /// # while inspect::dump().with_id(parked.id()).in_state(inspect::CoroutineState::Parked).is_empty() {}
    /// for one in inspect::dump().coroutines() {
    ///     println!("{} is {}", one.id(), one.state());
    /// }
    /// # let dump = inspect::dump();
    /// # assert!(dump.coroutines().iter().any(|one| one.id() == parked.id()));
    /// parked.handle().unpark();
    /// ```
    pub fn coroutines(&self) -> &[DumpedCoroutine] {
        &self.coroutines
    }

    /// How many coroutines it shows.
    ///
    /// # Examples
    ///
    /// ```
    /// use coro::inspect;
    ///
    /// let parked = coro::go(coro::park);
    /// # while inspect::dump().with_id(parked.id()).in_state(inspect::CoroutineState::Parked).is_empty() {}
    /// assert_eq!(inspect::dump().with_id(parked.id()).len(), 1);
    /// parked.handle().unpark();
    /// ```
    pub fn len(&self) -> usize {
        self.coroutines.len()
    }

    /// Whether it shows none.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(coro::inspect::dump().named("nobody").is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.coroutines.is_empty()
    }

    /// The coroutines that have not started, which have no stack yet.
    ///
    /// # Examples
    ///
    /// ```
    /// println!("{} coroutines have not started", coro::inspect::dump().fresh());
    /// ```
    pub fn fresh(&self) -> u64 {
        self.fresh.total
    }

    /// The started coroutines that it knows nothing of: those of workers that were held up by a long turn, and those
    /// that the system has refused the memory for. The coroutine that holds the worker is listed, as
    /// [running](CoroutineState::Running).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    /// use coro::inspect;
    ///
    /// static STOP: AtomicBool = AtomicBool::new(false);
    /// let runtime = coro::Runtime::builder().workers(1).build()?;
    /// let parked = runtime.go(coro::park);
    /// # while inspect::dump().with_id(parked.id()).in_state(inspect::CoroutineState::Parked).is_empty() {}
    /// let busy = runtime.go(|| while !STOP.load(Relaxed) {}); // never suspends
    /// # while inspect::dump().with_id(busy.id()).is_empty() {}
    /// let dump = inspect::dump();
    /// assert!(dump.unlisted() >= 1); // the worker does not come to `parked`
    /// STOP.store(true, Relaxed);
    /// parked.handle().unpark();
    /// # std::io::Result::Ok(())
    /// ```
    pub fn unlisted(&self) -> usize {
        self.without_memory + self.held_up.iter().map(|held_up| held_up.others).sum::<usize>()
    }

    /// The coroutines that are alike, the largest group first. All of them, whatever the [`limit`](Dump::limit).
    ///
    /// # Examples
    ///
    /// ```
    /// use coro::inspect;
    ///
    /// let sleepers: Vec<_> = (0..3).map(|_| coro::Builder::new().name("sleeper").spawn(coro::park).unwrap()).collect();
    /// # while inspect::dump().named("sleeper").in_state(inspect::CoroutineState::Parked).len() < 3 {}
    /// let dump = inspect::dump().named("sleeper");
    /// assert_eq!(dump.groups().len(), 1);
    /// assert_eq!(dump.groups()[0].coroutines().len(), 3);
    /// sleepers.iter().for_each(|sleeper| sleeper.handle().unpark());
    /// ```
    pub fn groups(&self) -> Vec<DumpGroup<'_>> {
        DumpGroup::all(&self.coroutines, &self.traces, &self.names)
    }

    /// Shows as text and as JSON at most `n` groups, and of each at most `n` coroutines one by one. The others are
    /// counted.
    ///
    /// # Examples
    ///
    /// ```
    /// use coro::inspect;
    ///
    /// let parked = coro::go(coro::park);
    /// # while inspect::dump().with_id(parked.id()).in_state(inspect::CoroutineState::Parked).is_empty() {}
    /// let text = inspect::dump().limit(0).to_string();
    /// assert!(text.contains("more groups, of "), "{text}");
    /// parked.handle().unpark();
    /// ```
    #[must_use]
    pub fn limit(mut self, n: usize) -> Dump {
        self.limit = n;
        self
    }

    /// Only those that `f` says yes to.
    ///
    /// # Examples
    ///
    /// ```
    /// let dump = coro::inspect::dump().filter(|one| one.stack_used().is_some_and(|n| n > 64 << 10));
    /// assert!(dump.is_empty());
    /// ```
    #[must_use]
    pub fn filter(mut self, f: impl FnMut(&DumpedCoroutine) -> bool) -> Dump {
        self.coroutines.retain(f);
        self
    }

    /// Only those of this name.
    ///
    /// # Examples
    ///
    /// ```
    /// use coro::inspect;
    ///
    /// let parked = coro::Builder::new().name("listener").spawn(coro::park)?;
    /// # while inspect::dump().with_id(parked.id()).in_state(inspect::CoroutineState::Parked).is_empty() {}
    /// assert_eq!(inspect::dump().named("listener").coroutines()[0].id(), parked.id());
    /// parked.handle().unpark();
    /// # std::io::Result::Ok(())
    /// ```
    #[must_use]
    pub fn named(self, name: &str) -> Dump {
        self.filter(|one| one.name() == Some(name))
    }

    /// Only the one with this id.
    ///
    /// # Examples
    ///
    /// ```
    /// use coro::inspect;
    ///
    /// let parked = coro::go(coro::park);
    /// # while inspect::dump().with_id(parked.id()).in_state(inspect::CoroutineState::Parked).is_empty() {}
    /// println!("{}", inspect::dump().with_id(parked.id()));
    /// # assert_eq!(inspect::dump().with_id(parked.id()).len(), 1);
    /// parked.handle().unpark();
    /// ```
    #[must_use]
    pub fn with_id(self, id: Id) -> Dump {
        self.filter(|one| one.id() == id)
    }

    /// Only those that do this.
    ///
    /// # Examples
    ///
    /// ```
    /// use coro::inspect::{self, CoroutineState};
    ///
    /// let parked = coro::go(coro::park);
    /// # while inspect::dump().with_id(parked.id()).in_state(CoroutineState::Parked).is_empty() {}
    /// let dump = inspect::dump().in_state(CoroutineState::Parked);
    /// assert!(dump.coroutines().iter().any(|one| one.id() == parked.id()));
    /// parked.handle().unpark();
    /// ```
    #[must_use]
    pub fn in_state(self, state: CoroutineState) -> Dump {
        self.filter(|one| one.state() == state)
    }

    /// Only those that have been parked for longer than this.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let dump = coro::inspect::dump().parked_longer_than(Duration::from_secs(60));
    /// assert!(dump.is_empty());
    /// ```
    #[must_use]
    pub fn parked_longer_than(self, time: Duration) -> Dump {
        self.filter(|one| one.parked_for().is_some_and(|parked_for| parked_for > time))
    }

    /// Adds the coroutine that holds a worker up.
    pub(super) fn add_running(&mut self, held_up: &HeldUp) {
        let trace = self.traces.add(Trace { addresses: &[], end: WalkEnd::Running });
        let (Some(label), Some(trace)) = (held_up.by.clone(), trace) else { return };
        self.coroutines.push(DumpedCoroutine {
            label,
            state: CoroutineState::Running,
            waiting: None,
            parked_in: 0,
            parked_for: None,
            stack_used: None,
            trace,
            labels: Vec::new(),
            span: None,
            spawned_by: None,
            spawners_name: None,
        });
    }

    /// The lines that tell what is missing.
    pub(super) fn remarks(&self) -> Vec<String> {
        let held_up = self.held_up.iter().map(|held_up| {
            let others = held_up.others;
            match &held_up.by {
                Some(by) => {
                    format!("{by} holds its worker, whose {others} other coroutines are not listed")
                }
                None => {
                    format!("the worker that asks does not answer, and has {others} coroutines")
                }
            }
        });
        let memory = (self.without_memory > 0)
            .then(|| format!("there was no memory to list {} coroutines", self.without_memory));
        held_up.chain(memory).chain(self.remark.clone()).collect()
    }
}

impl fmt::Debug for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dump")
            .field("coroutines", &self.coroutines)
            .field("fresh", &self.fresh())
            .field("unlisted", &self.unlisted())
            .finish_non_exhaustive()
    }
}
