//! What is known of one coroutine.

use std::fmt;
use std::panic::Location;
use std::time::Duration;

use super::traces::TraceId;
use crate::base::id::Id;
use crate::task::{TaskLabel, WaitLabel, Waiting};

/// What a started coroutine does.
///
/// # Examples
///
/// ```
/// use coro::inspect::{self, CoroutineState};
///
/// let parked = coro::go(coro::park);
/// # while inspect::dump().with_id(parked.id()).in_state(CoroutineState::Parked).is_empty() {}
/// let dump = inspect::dump().in_state(CoroutineState::Parked);
/// assert!(dump.coroutines().iter().any(|coroutine| coroutine.id() == parked.id()));
/// parked.handle().unpark();
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub enum CoroutineState {
    /// It has had its turn for so long that the dump has not waited for its end. Its stack is not looked at.
    Running,
    /// It waits for its turn.
    Ready,
    /// It waits for something else.
    Parked,
}

impl fmt::Display for CoroutineState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CoroutineState::Running => "running",
            CoroutineState::Ready => "ready",
            CoroutineState::Parked => "parked",
        })
    }
}

/// A coroutine, as a [`Dump`](super::Dump) has it.
///
/// # Examples
///
/// ```
/// use coro::inspect;
///
/// let listener = coro::Builder::new().name("listener").spawn(|| {
///     let client = coro::Builder::new().name("client").spawn(|| {
///         inspect::label("request", "/index");
///         coro::park();
///     });
///     coro::park();
///     client
/// })?;
/// # let parked = |name: &str| inspect::dump().named(name).in_state(inspect::CoroutineState::Parked).len();
/// # while parked("client") < 1 || parked("listener") < 1 {}
/// let dump = inspect::dump().named("client");
/// let client = &dump.coroutines()[0];
/// println!("coroutine {}, spawned at {}", client.id(), client.spawned_at());
/// assert_eq!((client.name(), client.state()), (Some("client"), inspect::CoroutineState::Parked));
/// assert_eq!(client.spawned_by(), Some(listener.id()));
/// assert_eq!(client.spawned_by_name(), Some("listener"));
/// assert_eq!(client.waits_for().as_deref(), Some("park"));
/// assert_eq!(client.labels().collect::<Vec<_>>(), [("request", "/index")]);
/// assert_eq!(client.span(), None); // of `tracing`
/// if let (Some(time), Some(bytes)) = (client.parked_for(), client.stack_used()) {
///     println!("parked for {time:?}, with {bytes} bytes on its stack");
/// }
/// listener.handle().unpark();
/// listener.join().unwrap()?.handle().unpark();
/// # std::io::Result::Ok(())
/// ```
pub struct DumpedCoroutine {
    pub(super) label: TaskLabel,
    pub(super) state: CoroutineState,
    pub(super) waiting: Option<WaitLabel>,
    /// The turn of its worker before whose end it has parked, if it is parked.
    pub(super) parked_in: u64,
    pub(super) parked_for: Option<Duration>,
    pub(super) stack_used: Option<usize>,
    pub(super) trace: TraceId,
    pub(super) labels: Vec<(&'static str, String)>,
    pub(super) span: Option<String>,
    pub(super) spawned_by: Option<Id>,
    /// The name of that one, if it is listed as well.
    pub(super) spawners_name: Option<String>,
}

impl DumpedCoroutine {
    /// The identity that it was started with.
    pub fn id(&self) -> Id {
        self.label.id()
    }

    /// The name given by [`Builder::name`](crate::Builder::name). Of one that is
    /// [running](CoroutineState::Running) it is known only if its runtime is watched (`CORO_WATCH`).
    pub fn name(&self) -> Option<&str> {
        self.label.name()
    }

    /// What it does.
    pub fn state(&self) -> CoroutineState {
        self.state
    }

    /// Where in the program it was spawned.
    pub fn spawned_at(&self) -> &'static Location<'static> {
        self.label.location
    }

    /// The coroutine that has spawned it. `None`: it was no coroutine, but a thread. It is not known of a coroutine that
    /// is [running](CoroutineState::Running).
    pub fn spawned_by(&self) -> Option<Id> {
        self.spawned_by
    }

    /// The name of the coroutine that has spawned it, if that has one and has not ended.
    pub fn spawned_by_name(&self) -> Option<&str> {
        self.spawners_name.as_deref()
    }

    /// What it waits for, if it is parked: "a value from a channel made at src/main.rs:4:24". If it waits for a lock
    /// that a coroutine holds, that one is named.
    pub fn waits_for(&self) -> Option<String> {
        self.waiting.map(|waiting| waiting.to_string())
    }

    /// For how long it has been parked, if it is. The time may be a tenth too short, or a few milliseconds, and is
    /// never too long: a worker reads no clock when a coroutine parks. `None` also where the system has refused the
    /// thread that looks at the workers.
    pub fn parked_for(&self) -> Option<Duration> {
        self.parked_for
    }

    /// How many bytes of its stack are in use. `None` where that is not known: without the Cargo feature `dump`, and of
    /// a coroutine that runs.
    pub fn stack_used(&self) -> Option<usize> {
        self.stack_used
    }

    /// The labels that it has given itself by [`label`](crate::inspect::label), in the order in which they came.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.labels.iter().map(|(name, text)| (*name, text.as_str()))
    }

    /// The spans of `tracing` that it has entered, the outermost first, each with its fields:
    /// `request{id=7}:query{table="users"}`. `None` where it has entered none, and without the Cargo feature `tracing`
    /// and its `trace::SpanLayer`.
    pub fn span(&self) -> Option<&str> {
        self.span.as_deref()
    }

    /// The kind of what it waits for.
    pub(super) fn waiting(&self) -> Option<Waiting> {
        self.waiting.map(WaitLabel::waiting)
    }
}

impl fmt::Debug for DumpedCoroutine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DumpedCoroutine")
            .field("id", &self.id())
            .field("name", &self.name())
            .field("state", &self.state)
            .field("waits_for", &self.waits_for())
            .field("parked_for", &self.parked_for)
            .field("spawned_at", &self.spawned_at())
            .finish_non_exhaustive()
    }
}
