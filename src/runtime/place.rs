//! Where a coroutine starts.
//!
//! A started coroutine stays on its worker, so load is spread when coroutines start or not at all. A fresh one goes to
//! the queue of the worker that spawns it, and the others steal only while they have nothing to do. So the coroutines
//! that one coroutine starts, one now and then, end up on its own worker. Whoever starts long-lived ones places them.

use std::io;

use super::default::default_runtime;
use super::shared::Shared;
use super::worker::Worker;

/// On which worker of its runtime a coroutine starts; for [`Builder::place`](crate::Builder::place).
///
/// A coroutine that has started stays on its worker, whichever that is.
///
/// # Examples
///
/// A coroutine that starts one for each connection spreads them over all workers:
///
/// ```
/// use coro::{Builder, Place};
///
/// let runtime = coro::Runtime::builder().workers(4).thread_name("serve").build()?;
/// let accept = runtime.go(|| {
///     let connection = || {
///         let worker = std::thread::current().name().map(str::to_owned);
///         coro::park();
///         worker
///     };
///     let started: Vec<_> = (0..40)
///         .map(|_| Builder::new().place(Place::Balanced).spawn(connection).unwrap())
///         .collect();
///     started.iter().for_each(|one| one.handle().unpark());
///     started.into_iter().map(|one| one.join().unwrap().unwrap()).collect::<Vec<_>>()
/// });
/// let mut workers = accept.join().unwrap();
/// workers.sort();
/// workers.dedup();
/// assert_eq!(workers, ["serve-0", "serve-1", "serve-2", "serve-3"]);
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Place {
    /// On the worker that takes it first. That is mostly the one that spawns it, unless another has nothing to do.
    #[default]
    Stealable,
    /// On the worker with the fewest coroutines. Those count that have started there and not ended, and those that were
    /// placed with it and have not started. Of several such workers it is the caller's, or else the first.
    ///
    /// It starts there and nowhere else, however busy that worker is.
    Balanced,
    /// On the worker of this number, from 0 on, and nowhere else.
    Worker(usize),
}

impl Place {
    /// The number of the worker that it means, in this runtime; `None`: any.
    ///
    /// # Errors
    ///
    /// `InvalidInput` where there is no such worker.
    pub(super) fn worker(self, runtime: &Shared) -> io::Result<Option<usize>> {
        let workers = runtime.mailboxes.len();
        match self {
            Place::Stealable => Ok(None),
            Place::Balanced => {
                let own = Worker::with_one_of(runtime, |worker| worker.map(Worker::index));
                Ok((0..workers).min_by_key(|&worker| (runtime.load(worker), Some(worker) != own)))
            }
            Place::Worker(worker) if worker < workers => Ok(Some(worker)),
            Place::Worker(worker) => {
                let message = format!(
                    "no worker {worker}: the number of workers is {workers}, counted from 0"
                );
                Err(io::Error::new(io::ErrorKind::InvalidInput, message))
            }
        }
    }
}

/// How many workers the caller's runtime has; outside of a coroutine, the default one.
///
/// # Errors
///
/// Why the default runtime cannot be started.
pub(crate) fn worker_count() -> io::Result<usize> {
    let here = Worker::with(|worker| worker.map(|worker| worker.shared().mailboxes.len()));
    match here {
        Some(count) => Ok(count),
        None => Ok(default_runtime()?.shared.mailboxes.len()),
    }
}
