//! Whom does a signal interrupt: for profilers.
//!
//! What is here may be called in a signal handler: it takes no lock and allocates nothing.

use std::fmt;
use std::ops::Range;
use std::panic::Location;

use crate::base::id::Id;
use crate::record::Record;
use crate::stack;
use crate::task::with_running_task;

/// Whose stack an address lies on, for profilers: the id of the coroutine that runs or is suspended
/// there, or of the last one that did. `None` for an address that is on no coroutine's stack.
///
/// May be called on any thread and in a signal handler, with any address. In a handler, give it the stack pointer that the
/// signal has interrupted, since the handler may run on another stack.
///
/// # Examples
///
/// ```
/// use coro::{inspect, tls};
///
/// coro::go(|| {
///     let on_stack = 0u8;
///     assert_eq!(inspect::id_at(&raw const on_stack as usize), Some(tls::id()));
/// })
/// .join()
/// .unwrap();
/// assert_eq!(inspect::id_at(0x1000), None);
/// ```
pub fn id_at(sp: usize) -> Option<Id> {
    Record::id_at(sp)
}

/// The stack that an address lies on, for profilers that walk it: from the guard's end to where its colour begins. `None`
/// for an address that is on no coroutine's stack.
///
/// May be called on any thread and in a signal handler, with any address. The memory is readable from then on, but what
/// it holds is only of use to whoever has interrupted the coroutine that runs there.
///
/// # Examples
///
/// ```
/// coro::go(|| {
///     let on_stack = 0u8;
///     let bounds = coro::inspect::stack_bounds_at(&raw const on_stack as usize);
///     assert_eq!(bounds, coro::inspect::stack_bounds());
/// })
/// .join()
/// .unwrap();
/// assert_eq!(coro::inspect::stack_bounds_at(0x1000), None);
/// ```
pub fn stack_bounds_at(sp: usize) -> Option<Range<usize>> {
    Record::id_at(sp)?;
    stack::bounds_of(sp)
}

/// As many bytes of a name are copied at most.
const NAME_BYTES: usize = 64;

/// The coroutine that a thread runs; from [`running`]. It owns what it says, so it can be kept in a profiler's buffer.
///
/// # Examples
///
/// ```
/// let unnamed = coro::go(|| coro::inspect::running().unwrap()).join().unwrap();
/// assert_eq!(unnamed.name(), None);
/// println!("coroutine {}, spawned at {}", unnamed.id(), unnamed.spawned_at());
/// ```
#[derive(Clone, Copy)]
pub struct RunningCoroutine {
    id: Id,
    spawned_at: &'static Location<'static>,
    name: [u8; NAME_BYTES],
    /// `None`: it has no name.
    name_len: Option<u8>,
}

impl RunningCoroutine {
    /// The identity that it was started with.
    pub fn id(&self) -> Id {
        self.id
    }

    /// Its name, or the first 64 bytes of it, as far as they are whole characters. `None` also in what it runs at its
    /// very end, after its cleanup: a [`Waker`](std::task::Waker) of whoever waits for it.
    pub fn name(&self) -> Option<&str> {
        std::str::from_utf8(&self.name[..usize::from(self.name_len?)]).ok()
    }

    /// Where in the program it was spawned.
    pub fn spawned_at(&self) -> &'static Location<'static> {
        self.spawned_at
    }
}

impl fmt::Debug for RunningCoroutine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningCoroutine")
            .field("id", &self.id)
            .field("name", &self.name())
            .field("spawned_at", &self.spawned_at)
            .finish()
    }
}

/// The coroutine that has its turn on the calling thread, for the signal handlers of profilers. `None`: the thread runs
/// none. In a [raw coroutine](crate::raw) it is the coroutine that has resumed it.
///
/// May be called in a signal handler, which may run on a stack of its own: no stack pointer is looked at. It reads
/// a thread-local variable. So in a library that was loaded by `dlopen`, the C library may allocate at the first call on a
/// thread that is no worker.
///
/// Outside of a handler, [`current`](crate::current) gives a handle.
///
/// # Examples
///
/// ```
/// use coro::inspect::running;
///
/// let job = coro::Builder::new().name("job").spawn(|| {
///     let running = running().unwrap();
///     assert_eq!((running.id(), running.name()), (coro::tls::id(), Some("job")));
///     println!("spawned at {}", running.spawned_at());
/// })?;
/// job.join().unwrap();
/// assert!(running().is_none());
/// # std::io::Result::Ok(())
/// ```
pub fn running() -> Option<RunningCoroutine> {
    with_running_task(|id, spawned_at, name| {
        let mut running =
            RunningCoroutine { id, spawned_at, name: [0; NAME_BYTES], name_len: None };
        if let Some(name) = name {
            let start = &name.as_bytes()[..name.floor_char_boundary(NAME_BYTES)];
            running.name[..start.len()].copy_from_slice(start);
            running.name_len = Some(start.len() as u8);
        }
        running
    })
}
