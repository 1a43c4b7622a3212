//! Coroutines that borrow from whoever starts them.

use std::fmt;
use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::panic::{
    AssertUnwindSafe, Location, RefUnwindSafe, UnwindSafe, catch_unwind, resume_unwind,
};
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::base::id::Id;
use crate::runtime::{Builder, Runtime, Shared, Worker, spawn_here};
use crate::task::{
    Child, Children, Handle, JoinError, JoinHandle, check_caller, wait_for_children,
};

/// Runs `f`, which may start coroutines that borrow what lives outside of the scope, and waits until
/// all of them have ended and their cleanup is over; as [`std::thread::scope`].
///
/// If `f` panics, or is cancelled, or a timeout around it elapses, the children are waited for just
/// the same, and the unwinding goes on after that. They are not cancelled.
///
/// Works in a coroutine and on a plain thread. The children are started as by [`go`](crate::go), on the runtime
/// of whoever starts them; those of [`Runtime::scope`] on that runtime.
///
/// # Panics
///
/// In a [`no_suspend`](crate::no_suspend()), unless on a plain thread. When a child has panicked and its handle was
/// not joined; and with whatever `f` panics with. When no coroutine can be started, as [`go`](crate::go).
///
/// # Examples
///
/// ```
/// let words = vec!["to", "be", "or", "not"];
/// let mut longest = 0;
/// let total: usize = coro::scope(|s| {
///     s.go(|| longest = words.iter().map(|word| word.len()).max().unwrap());
///     let halves = words.chunks(2).map(|half| s.go(move || half.concat().len()));
///     halves.collect::<Vec<_>>().into_iter().map(|half| half.join().unwrap()).sum()
/// });
/// assert_eq!((longest, total), (3, 9));
/// ```
///
/// What does not outlive the scope cannot be borrowed, and nothing borrowed gets out of it:
///
/// ```compile_fail,E0373
/// coro::scope(|s| {
///     let inside = 1;
///     s.go(|| println!("{inside}"));
/// });
/// ```
///
/// ```compile_fail,E0521
/// let mut kept = None;
/// coro::scope(|s| {
///     kept = Some(s.go(|| 1));
/// });
/// ```
///
/// ```compile_fail,E0499
/// let mut count = 0;
/// coro::scope(|s| {
///     s.go(|| count += 1);
///     s.go(|| count += 1);
/// });
/// ```
#[track_caller]
pub fn scope<'env, T>(f: impl for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T) -> T {
    within(None, f)
}

impl Runtime {
    /// As [`scope`](crate::scope()), and its children are started on this runtime, whoever starts them: by
    /// [`Scope::go`] and by [`Builder::spawn_scoped`](crate::Builder::spawn_scoped).
    ///
    /// After a [`shutdown`](Runtime::shutdown) they are dropped unrun, and their handles give
    /// [`Cancelled`](JoinError::Cancelled).
    ///
    /// # Panics
    ///
    /// As [`scope`](crate::scope()).
    ///
    /// # Examples
    ///
    /// ```
    /// let runtime = coro::Runtime::builder().workers(1).thread_name("crunch").build()?;
    /// let (words, mut count) = (vec!["to", "be"], 0);
    /// runtime.scope(|s| {
    ///     s.go(|| {
    ///         assert_eq!(std::thread::current().name(), Some("crunch-0"));
    ///         count = words.len();
    ///     });
    /// });
    /// assert_eq!(count, 2);
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// What does not outlive the scope cannot be borrowed:
    ///
    /// ```compile_fail,E0373
    /// let runtime = coro::Runtime::builder().workers(1).build().unwrap();
    /// runtime.scope(|s| {
    ///     let inside = 1;
    ///     s.go(|| println!("{inside}"));
    /// });
    /// ```
    #[track_caller]
    pub fn scope<'env, T>(
        &self,
        f: impl for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
    ) -> T {
        within(Some(&self.shared), f)
    }
}

#[track_caller]
fn within<'env, T>(
    runtime: Option<&Shared>,
    f: impl for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
) -> T {
    check_caller();
    let scope = Scope {
        children: Children::new(),
        runtime,
        location: Location::caller(),
        scope: PhantomData,
        env: PhantomData,
    };
    let outcome = catch_unwind(AssertUnwindSafe(|| f(&scope)));
    let elsewhere = runtime.is_some_and(|runtime| !Worker::is_one_of(runtime));
    wait_for_children(&scope.children, elsewhere);
    let value = outcome.unwrap_or_else(|payload| resume_unwind(payload));
    assert!(!scope.children.has_panicked(), "a coroutine of this scope panicked");
    value
}

/// Where coroutines are started that borrow; given to the function of [`scope`] and of [`Runtime::scope`].
///
/// # Examples
///
/// ```
/// fn squares<'scope>(s: &'scope coro::Scope<'scope, '_>, n: &'scope [u32]) -> u32 {
///     n.iter().map(|n| s.go(move || n * n)).map(|child| child.join().unwrap()).sum()
/// }
/// assert_eq!(coro::scope(|s| squares(s, &[1, 2, 3])), 14);
/// ```
pub struct Scope<'scope, 'env: 'scope> {
    children: Children,
    /// Where the children are started; `None`: on the runtime of whoever starts them.
    runtime: Option<&'scope Shared>,
    location: &'static Location<'static>,
    /// Invariant, as in std: neither lifetime may be stretched or shrunk.
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

impl<'scope> Scope<'scope, '_> {
    /// Starts a coroutine that may borrow what outlives the scope; otherwise as [`go`](crate::go), or, in a
    /// [`Runtime::scope`], as [`Runtime::go`].
    ///
    /// # Panics
    ///
    /// As [`go`](crate::go).
    ///
    /// # Examples
    ///
    /// ```
    /// let name = String::from("borrowed");
    /// coro::scope(|s| {
    ///     s.go(|| assert_eq!(name.len(), 8));
    /// });
    /// ```
    #[track_caller]
    pub fn go<F, T>(&'scope self, f: F) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        let child = match self.runtime {
            // SAFETY: T8, the child is counted, so the scope, and with it what `f` borrows, outlives it.
            Some(shared) => unsafe {
                shared.start(f, || self.adopt(), shared.plain_options(Location::caller()), None)
            },
            // SAFETY: T8, as above.
            None => unsafe { spawn_here(f, || self.adopt()) },
        };
        ScopedJoinHandle::new(child)
    }

    /// Counts a child, which takes the address along.
    fn adopt(&self) -> Child {
        self.children.add();
        Child(&raw const self.children)
    }
}

impl Builder {
    /// As [`spawn`](Builder::spawn), as a child of a [`scope`](crate::scope()), and on the runtime of a
    /// [`Runtime::scope`]; as [`Scope::go`].
    ///
    /// # Errors
    ///
    /// As [`spawn`](Builder::spawn).
    ///
    /// # Panics
    ///
    /// As [`spawn`](Builder::spawn).
    ///
    /// # Examples
    ///
    /// ```
    /// let words = vec!["to", "be"];
    /// let deep = coro::Builder::new().stack_size(1 << 20);
    /// let count = coro::scope(|s| deep.spawn_scoped(s, || words.len()).unwrap().join().unwrap());
    /// assert_eq!(count, 2);
    /// ```
    ///
    /// What does not outlive the scope cannot be borrowed:
    ///
    /// ```compile_fail,E0373
    /// coro::scope(|s| {
    ///     let inside = 1;
    ///     coro::Builder::new().spawn_scoped(s, || println!("{inside}")).unwrap();
    /// });
    /// ```
    #[track_caller]
    pub fn spawn_scoped<'scope, F, T>(
        self,
        scope: &'scope Scope<'scope, '_>,
        f: F,
    ) -> io::Result<ScopedJoinHandle<'scope, T>>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        // SAFETY: T8, the child is counted, so the scope, and with it what `f` borrows, outlives it.
        let handle = unsafe { self.start(scope.runtime, f, || scope.adopt())? };
        Ok(ScopedJoinHandle::new(handle))
    }
}

// As std's: what is shared is a count that changes in single steps.
impl RefUnwindSafe for Scope<'_, '_> {}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").field("location", &self.location).finish_non_exhaustive()
    }
}

/// The right to wait for a coroutine of a [`scope`] and to take its value. Dropping it just leaves the
/// waiting to the scope. It is also a [`Future`] of what [`join`](ScopedJoinHandle::join) returns.
///
/// # Examples
///
/// ```
/// let answer = coro::scope(|s| {
///     let child: coro::ScopedJoinHandle<'_, i32> = s.go(|| 42);
///     child.join().unwrap()
/// });
/// assert_eq!(answer, 42);
///
/// let words = [String::from("to"), String::from("be")];
/// let sum = coro::scope(|s| {
///     let (first, last) = (s.go(|| words[0].len()), s.go(|| words[1].len()));
///     coro::wait(async { first.await.unwrap() + last.await.unwrap() })
/// });
/// assert_eq!(sum, 4);
/// ```
pub struct ScopedJoinHandle<'scope, T> {
    handle: JoinHandle<T>,
    /// So that a panic that it takes is taken before the scope ends.
    scope: PhantomData<&'scope Children>,
}

// As for `JoinHandle`; the scope's count is changed in single steps.
impl<T> UnwindSafe for ScopedJoinHandle<'_, T> {}
impl<T> RefUnwindSafe for ScopedJoinHandle<'_, T> {}

impl<T> ScopedJoinHandle<'_, T> {
    fn new(handle: JoinHandle<T>) -> Self {
        ScopedJoinHandle { handle, scope: PhantomData }
    }

    /// As [`JoinHandle::join`].
    ///
    /// # Errors
    ///
    /// As [`JoinHandle::join`].
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(coro::scope(|s| s.go(|| 1).join().unwrap()), 1);
    /// ```
    pub fn join(self) -> Result<T, JoinError> {
        self.handle.join()
    }

    /// As [`JoinHandle::is_finished`].
    ///
    /// # Examples
    ///
    /// ```
    /// coro::scope(|s| {
    ///     let child = s.go(|| ());
    ///     while !child.is_finished() {
    ///         coro::yield_now();
    ///     }
    /// });
    /// ```
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    /// As [`JoinHandle::id`].
    ///
    /// # Examples
    ///
    /// ```
    /// coro::scope(|s| {
    ///     let child = s.go(coro::tls::id);
    ///     assert_eq!(child.id(), child.join().unwrap());
    /// });
    /// ```
    pub fn id(&self) -> Id {
        self.handle.id()
    }

    /// As [`JoinHandle::cancel`].
    ///
    /// # Examples
    ///
    /// ```
    /// coro::scope(|s| s.go(|| loop { coro::park() }).cancel());
    /// ```
    pub fn cancel(&self) {
        self.handle.cancel();
    }

    /// As [`JoinHandle::handle`].
    ///
    /// # Examples
    ///
    /// ```
    /// coro::scope(|s| s.go(coro::park).handle().unpark());
    /// ```
    pub fn handle(&self) -> Handle {
        self.handle.handle()
    }
}

impl<T> Future for ScopedJoinHandle<'_, T> {
    type Output = Result<T, JoinError>;

    /// As that of a [`JoinHandle`]: ready when the child has ended. The scope waits for the child
    /// whether or not anybody polls.
    ///
    /// # Panics
    ///
    /// When polled again after it was ready.
    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.handle).poll(context)
    }
}

impl<T> fmt::Debug for ScopedJoinHandle<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt(f)
    }
}
