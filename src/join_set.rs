//! A set of coroutines that are joined in the order in which they end.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use crate::base::lock::lock;
use crate::task::{Handle, JoinError, JoinHandle, TaskRef, Waiter};

/// A set of coroutines that are joined in the order in which they end; after tokio's.
///
/// Dropping the set cancels what is still in it, without waiting. It drops the values of members that
/// have ended, and a panic in the `Drop` of one of them is the caller's, when the others are cancelled
/// and dropped as well; a second such panic aborts the process, as in a `Vec`.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// let mut set = coro::JoinSet::new();
/// for n in [3, 1, 2] {
///     set.spawn(move || {
///         coro::sleep(Duration::from_millis(20 * n));
///         n
///     });
/// }
/// assert_eq!(set.len(), 3);
/// let mut order = Vec::new();
/// while let Some(ended) = set.join_next() {
///     order.push(ended.unwrap());
/// }
/// assert_eq!(order, [1, 2, 3]);
/// ```
pub struct JoinSet<T> {
    /// By place; a place that is free is listed.
    members: Vec<Option<JoinHandle<T>>>,
    free: Vec<usize>,
    ended: Arc<Ended>,
}

/// The places of members that have ended, in that order.
#[derive(Default)]
struct Ended {
    queue: Mutex<EndedQueue>,
}

#[derive(Default)]
struct EndedQueue {
    places: VecDeque<usize>,
    /// Who waits for the next.
    waiter: Option<Waiter<TaskRef>>,
}

/// What a member wakes when it ends.
struct Member {
    place: usize,
    ended: Arc<Ended>,
}

impl Wake for Member {
    fn wake(self: Arc<Self>) {
        self.ended.push(self.place);
    }
}

impl Ended {
    fn push(&self, place: usize) {
        let waiter = {
            let mut queue = lock(&self.queue);
            queue.places.push_back(place);
            queue.waiter.take()
        };
        // Outside of the lock: a waker may be anybody's code.
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }

    fn pop(&self) -> Option<usize> {
        lock(&self.queue).places.pop_front()
    }

    /// The next place, or `waiter` is woken when there is one.
    fn poll_pop(&self, waiter: &Waker) -> Option<usize> {
        if let Some(place) = self.pop() {
            return Some(place);
        }
        // Cloned, and the former one dropped, outside of the lock, and while there is no place in hand
        // that could be lost if this unwinds.
        let waiter = Waiter::Waker(waiter.clone());
        let former = {
            let mut queue = lock(&self.queue);
            if queue.places.is_empty() { queue.waiter.replace(waiter) } else { Some(waiter) }
        };
        drop(former);
        self.pop()
    }
}

impl<T: Send + 'static> JoinSet<T> {
    /// An empty set.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(coro::JoinSet::<()>::new().is_empty());
    /// ```
    pub fn new() -> JoinSet<T> {
        JoinSet { members: Vec::new(), free: Vec::new(), ended: Arc::default() }
    }

    /// Starts a coroutine, as [`go`](crate::go), and adds it to the set. The handle is for whoever
    /// wants to cancel or unpark this one member.
    ///
    /// # Panics
    ///
    /// As [`go`](crate::go).
    ///
    /// # Examples
    ///
    /// ```
    /// let mut set = coro::JoinSet::new();
    /// set.spawn(|| 42);
    /// assert_eq!(set.join_next().unwrap().unwrap(), 42);
    ///
    /// let parked = set.spawn(|| loop { coro::park() });
    /// parked.cancel();
    /// assert!(set.join_next().unwrap().unwrap_err().is_cancelled());
    /// ```
    #[track_caller]
    pub fn spawn(&mut self, f: impl FnOnce() -> T + Send + 'static) -> Handle {
        let member = crate::go(f);
        let handle = member.handle();
        self.insert(member);
        handle
    }

    /// Adds a coroutine that was started elsewhere.
    ///
    /// # Panics
    ///
    /// If `handle` was polled before, and the destructor of the waker that it was polled with panics.
    /// Then the set is as it was.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut set = coro::JoinSet::new();
    /// set.insert(coro::Builder::new().stack_size(1 << 20).spawn(|| "deep")?);
    /// assert_eq!(set.join_next().unwrap().unwrap(), "deep");
    /// # std::io::Result::Ok(())
    /// ```
    pub fn insert(&mut self, mut handle: JoinHandle<T>) {
        handle.drop_waker();
        let place = self.free.pop().unwrap_or_else(|| {
            self.members.push(None);
            self.members.len() - 1
        });
        let member = self.members[place].insert(handle);
        let waker = Waker::from(Arc::new(Member { place, ended: Arc::clone(&self.ended) }));
        if member.notify(waker) {
            self.ended.push(place);
        }
    }

    /// Waits for the next coroutine to end, and gives what [`JoinHandle::join`] would. `None` when
    /// the set is empty. The last member, if it waits for itself, gets the error that it would get
    /// there.
    ///
    /// # Panics
    ///
    /// Unwinds, without calling the panic hook, when the waiting coroutine is cancelled or a
    /// [`timeout`](crate::timeout) around it elapses; no member is lost by that. In a process that was
    /// forked from one that uses coroutines, unless the set is empty.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut set = coro::JoinSet::new();
    /// set.spawn(|| panic!("a member"));
    /// assert!(set.join_next().unwrap().is_err());
    /// assert!(set.join_next().is_none());
    /// # let _: coro::JoinSet<()> = set;
    /// ```
    pub fn join_next(&mut self) -> Option<Result<T, JoinError>> {
        crate::wait(std::future::poll_fn(|context| self.poll_join_next(context)))
    }

    /// [`join_next`](JoinSet::join_next), for code that polls.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut set = coro::JoinSet::new();
    /// set.spawn(|| 1);
    /// let next = coro::wait(std::future::poll_fn(|context| set.poll_join_next(context)));
    /// assert_eq!(next.unwrap().unwrap(), 1);
    /// ```
    pub fn poll_join_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<T, JoinError>>> {
        if self.is_empty() {
            return Poll::Ready(None);
        }
        crate::fork::check();
        match self.ended.poll_pop(context.waker()) {
            Some(place) => Poll::Ready(Some(self.take(place))),
            None => match self.refuse_caller() {
                Some(error) => Poll::Ready(Some(Err(error))),
                None => Poll::Pending,
            },
        }
    }

    /// Takes the calling coroutine out of the set, if nobody else is in it: it would wait for ever.
    fn refuse_caller(&mut self) -> Option<JoinError> {
        if self.len() > 1 {
            return None;
        }
        let place = self.members.iter().position(Option::is_some)?;
        let error = self.members[place].as_mut()?.refuse_own()?;
        drop(self.vacate(place));
        Some(error)
    }

    /// Takes out the member at `place`, which has one.
    fn vacate(&mut self, place: usize) -> JoinHandle<T> {
        let member = self.members[place].take().expect("a place is queued once, while it is taken");
        self.free.push(place);
        member
    }

    /// As [`join_next`](JoinSet::join_next), but `None` as well when no member has ended yet.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut set = coro::JoinSet::new();
    /// set.spawn(coro::park);
    /// assert!(set.try_join_next().is_none());
    /// ```
    pub fn try_join_next(&mut self) -> Option<Result<T, JoinError>> {
        let place = self.ended.pop()?;
        Some(self.take(place))
    }

    /// The outcome of the member at `place`, which has ended.
    fn take(&mut self, place: usize) -> Result<T, JoinError> {
        self.vacate(place).join()
    }

    /// Cancels every member. They stay in the set and are joined as cancelled.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut set = coro::JoinSet::new();
    /// set.spawn(coro::park);
    /// set.cancel_all();
    /// assert!(matches!(set.join_next(), Some(Err(coro::JoinError::Cancelled))));
    /// ```
    pub fn cancel_all(&self) {
        self.members.iter().flatten().for_each(JoinHandle::cancel);
    }

    /// The former name of [`cancel_all`](JoinSet::cancel_all).
    ///
    /// # Examples
    ///
    /// ```
    /// # #![allow(deprecated)]
    /// coro::JoinSet::<()>::new().abort_all();
    /// ```
    #[deprecated(since = "0.3.0", note = "renamed to `cancel_all`")]
    pub fn abort_all(&self) {
        self.cancel_all();
    }

    /// Lets every member go on by itself, and empties the set.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut set = coro::JoinSet::new();
    /// set.spawn(|| println!("on my own"));
    /// set.detach_all();
    /// assert!(set.is_empty());
    /// ```
    pub fn detach_all(&mut self) {
        let former = std::mem::take(&mut self.members);
        self.free.clear();
        // A new queue: who ends later finds the old one.
        self.ended = Arc::default();
        drop(former);
    }

    /// How many coroutines are in the set, ended ones included.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut set = coro::JoinSet::new();
    /// set.spawn(|| ());
    /// assert_eq!(set.len(), 1);
    /// ```
    pub fn len(&self) -> usize {
        self.members.len() - self.free.len()
    }

    /// Whether the set is empty.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut set = coro::JoinSet::new();
    /// set.spawn(|| ());
    /// assert!(!set.is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T: Send + 'static> Default for JoinSet<T> {
    fn default() -> Self {
        JoinSet::new()
    }
}

impl<T> Drop for JoinSet<T> {
    fn drop(&mut self) {
        self.members.iter().flatten().for_each(JoinHandle::cancel);
    }
}

impl<T> fmt::Debug for JoinSet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.members.iter().flatten()).finish()
    }
}
