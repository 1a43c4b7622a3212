//! [`OnceLock`]: a value that is written once.
//!
//! - **N7** The value is written by the one that has set `OnceProgress::Runs`, and is there from `is_set` on, which is not
//!   taken back while the lock is shared.

use std::cell::UnsafeCell;
use std::convert::Infallible;
use std::fmt;
use std::mem::MaybeUninit;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};

use super::waiters::{Crowd, Waiters, Wanted};
use crate::base::id::Id;
use crate::record;
use crate::task::Waiting;

/// A value that is written once and read by many: [`std::sync::OnceLock`] for coroutines and threads alike.
///
/// An initialiser may suspend; the others that want the value wait for it. If it panics, or its coroutine is cancelled,
/// the next of those runs its own.
///
/// # Examples
///
/// ```
/// use coro::sync::OnceLock;
///
/// static NAME: OnceLock<String> = OnceLock::new();
/// let tasks: Vec<_> = (0..3).map(|i| coro::go(move || NAME.get_or_init(|| format!("by {i}")))).collect();
/// let names: Vec<_> = tasks.into_iter().map(|task| task.join().unwrap()).collect();
/// assert!(names.iter().all(|name| *name == NAME.get().unwrap()));
/// ```
pub struct OnceLock<T> {
    is_set: AtomicBool,
    waiters: Waiters<OnceProgress>,
    value: UnsafeCell<MaybeUninit<T>>,
}

/// How far it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnceProgress {
    Empty,
    /// An initialiser runs, in this coroutine or thread.
    Runs(Id),
    Set,
}

// SAFETY: N7, the value goes from thread to thread.
unsafe impl<T: Send> Send for OnceLock<T> {}
// SAFETY: N7, the value is shared, and comes from another thread.
unsafe impl<T: Send + Sync> Sync for OnceLock<T> {}

// As std's: an initialiser that panics leaves no value.
impl<T: UnwindSafe> UnwindSafe for OnceLock<T> {}
impl<T: RefUnwindSafe + UnwindSafe> RefUnwindSafe for OnceLock<T> {}

/// The right to write the value. Dropped before that, it lets others try.
struct Turn<'a, T>(&'a OnceLock<T>);

impl<'a, T> Turn<'a, T> {
    fn set(self, value: T) -> &'a T {
        let once = self.0;
        // SAFETY: N7, it is our turn.
        unsafe { (*once.value.get()).write(value) };
        // Release: pairs with `get`.
        once.is_set.store(true, Ordering::Release);
        // And lets the others go on.
        drop(self);
        // SAFETY: N7.
        unsafe { once.value_ref() }
    }
}

impl<T> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        let is_set = self.0.is_set.load(Ordering::Relaxed);
        self.0.waiters.lock().state = if is_set { OnceProgress::Set } else { OnceProgress::Empty };
        self.0.waiters.serve_all();
    }
}

impl<T> OnceLock<T> {
    /// Without a value.
    ///
    /// # Examples
    ///
    /// ```
    /// static VALUE: coro::sync::OnceLock<u8> = coro::sync::OnceLock::new();
    /// assert_eq!(VALUE.get(), None);
    /// ```
    #[track_caller]
    pub const fn new() -> OnceLock<T> {
        OnceLock {
            is_set: AtomicBool::new(false),
            waiters: Waiters::new(OnceProgress::Empty, Waiting::Value),
            value: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    /// The value, if it is there. Never waits.
    ///
    /// # Examples
    ///
    /// ```
    /// let value = coro::sync::OnceLock::new();
    /// value.set(1).unwrap();
    /// assert_eq!(value.get(), Some(&1));
    /// ```
    #[inline]
    pub fn get(&self) -> Option<&T> {
        // Acquire: pairs with `Turn::set`.
        // SAFETY: N7.
        self.is_set.load(Ordering::Acquire).then(|| unsafe { self.value_ref() })
    }

    /// The value, if it is there, to be changed.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut value = coro::sync::OnceLock::from(1);
    /// *value.get_mut().unwrap() = 2;
    /// assert_eq!(value.into_inner(), Some(2));
    /// ```
    pub fn get_mut(&mut self) -> Option<&mut T> {
        // SAFETY: N7, and nobody else has it.
        self.is_set.get_mut().then(|| unsafe { self.value.get_mut().assume_init_mut() })
    }

    /// Writes the value. Waits while an initialiser runs.
    ///
    /// # Errors
    ///
    /// The value comes back if there is one already.
    ///
    /// # Panics
    ///
    /// As [`get_or_init`](OnceLock::get_or_init).
    ///
    /// # Examples
    ///
    /// ```
    /// let value = coro::sync::OnceLock::new();
    /// assert_eq!(value.set(1), Ok(()));
    /// assert_eq!(value.set(2), Err(2));
    /// ```
    #[track_caller]
    pub fn set(&self, value: T) -> Result<(), T> {
        self.try_insert(value).map(drop).map_err(|(_, value)| value)
    }

    /// As [`set`](OnceLock::set), and gives the value that is there then.
    ///
    /// # Errors
    ///
    /// The value that is there, and the one that was to be.
    ///
    /// # Panics
    ///
    /// As [`get_or_init`](OnceLock::get_or_init).
    ///
    /// # Examples
    ///
    /// ```
    /// let value = coro::sync::OnceLock::new();
    /// assert_eq!(value.try_insert(1), Ok(&1));
    /// assert_eq!(value.try_insert(2), Err((&1, 2)));
    /// ```
    #[track_caller]
    pub fn try_insert(&self, value: T) -> Result<&T, (&T, T)> {
        match self.turn() {
            Some(turn) => Ok(turn.set(value)),
            // SAFETY: N7.
            None => Err((unsafe { self.value_ref() }, value)),
        }
    }

    /// The value. If there is none, `init` makes it, unless another initialiser runs, for which it waits.
    ///
    /// # Panics
    ///
    /// With whatever `init` panics with; there is no value then. When `init` itself wants the value. Unwinds, without
    /// calling the panic hook, when the coroutine that waits is cancelled or a [`timeout`](crate::timeout) around it
    /// elapses. In a [`no_suspend`](crate::no_suspend()), where it would wait, and in a process that was forked from one
    /// that uses coroutines.
    ///
    /// # Examples
    ///
    /// See [`OnceLock`].
    #[inline]
    #[track_caller]
    pub fn get_or_init(&self, init: impl FnOnce() -> T) -> &T {
        match self.get_or_try_init(|| Ok::<T, Infallible>(init())) {
            Ok(value) => value,
            Err(never) => match never {},
        }
    }

    /// As [`get_or_init`](OnceLock::get_or_init), with an initialiser that may fail.
    ///
    /// # Errors
    ///
    /// That of `init`; there is no value then.
    ///
    /// # Panics
    ///
    /// As [`get_or_init`](OnceLock::get_or_init).
    ///
    /// # Examples
    ///
    /// ```
    /// let value = coro::sync::OnceLock::new();
    /// assert!(value.get_or_try_init(|| "x".parse::<u8>()).is_err());
    /// assert_eq!(value.get_or_try_init(|| "1".parse::<u8>()), Ok(&1));
    /// ```
    #[inline]
    #[track_caller]
    pub fn get_or_try_init<E>(&self, init: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        match self.get() {
            Some(value) => Ok(value),
            None => match self.turn() {
                Some(turn) => {
                    let value = init()?;
                    Ok(turn.set(value))
                }
                // SAFETY: N7.
                None => Ok(unsafe { self.value_ref() }),
            },
        }
    }

    /// Waits until somebody has written the value.
    ///
    /// # Panics
    ///
    /// Unwinds, without calling the panic hook, when the coroutine that waits is cancelled or a
    /// [`timeout`](crate::timeout) around it elapses. In a [`no_suspend`](crate::no_suspend()), where it would wait, and
    /// in a process that was forked from one that uses coroutines.
    ///
    /// # Examples
    ///
    /// ```
    /// static VALUE: coro::sync::OnceLock<u8> = coro::sync::OnceLock::new();
    /// let waits = coro::go(|| *VALUE.wait());
    /// VALUE.set(1).unwrap();
    /// assert_eq!(waits.join().unwrap(), 1);
    /// ```
    pub fn wait(&self) -> &T {
        loop {
            if let Some(value) = self.get() {
                return value;
            }
            self.wait_while(|progress| progress != OnceProgress::Set);
        }
    }

    /// The value, which leaves.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut value = coro::sync::OnceLock::from(1);
    /// assert_eq!(value.take(), Some(1));
    /// assert_eq!(value.take(), None);
    /// ```
    pub fn take(&mut self) -> Option<T> {
        if !std::mem::take(self.is_set.get_mut()) {
            return None;
        }
        self.waiters.lock().state = OnceProgress::Empty;
        // SAFETY: N7, it was there, and is not any more.
        Some(unsafe { self.value.get_mut().assume_init_read() })
    }

    /// The value, if there is one.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(coro::sync::OnceLock::from(1).into_inner(), Some(1));
    /// ```
    pub fn into_inner(mut self) -> Option<T> {
        self.take()
    }

    /// # Safety
    ///
    /// There is a value (N7).
    unsafe fn value_ref(&self) -> &T {
        // SAFETY: the caller's word.
        unsafe { (*self.value.get()).assume_init_ref() }
    }

    /// The right to write the value. `None`: it is there, and to be seen.
    #[cold]
    #[track_caller]
    fn turn(&self) -> Option<Turn<'_, T>> {
        let me = record::with(|record| record.id());
        loop {
            let found = {
                let mut crowd = self.waiters.lock();
                let found = crowd.state;
                if found == OnceProgress::Empty {
                    crowd.state = OnceProgress::Runs(me);
                }
                found
            };
            match found {
                OnceProgress::Empty => return Some(Turn(self)),
                // The lock orders the value before this.
                OnceProgress::Set => return None,
                OnceProgress::Runs(id) if id == me => {
                    panic!("the initialiser of a OnceLock wants the value that it is to make")
                }
                OnceProgress::Runs(_) => {
                    self.wait_while(|progress| matches!(progress, OnceProgress::Runs(_)));
                }
            }
        }
    }

    /// Waits for a change, if that is the state.
    fn wait_while(&self, is_so: impl FnOnce(OnceProgress) -> bool) {
        let admit = |crowd: &mut Crowd<OnceProgress>| !is_so(crowd.state);
        self.waiters.wait_or_unwind(Wanted::default(), admit, |_| false);
    }
}

impl<T> Drop for OnceLock<T> {
    fn drop(&mut self) {
        if *self.is_set.get_mut() {
            // SAFETY: N7, it is there, and nobody uses it any more.
            unsafe { self.value.get_mut().assume_init_drop() };
        }
    }
}

impl<T> Default for OnceLock<T> {
    #[track_caller]
    fn default() -> OnceLock<T> {
        OnceLock::new()
    }
}

impl<T> From<T> for OnceLock<T> {
    #[track_caller]
    fn from(value: T) -> OnceLock<T> {
        let once = OnceLock::new();
        // There is none.
        let _ = once.set(value);
        once
    }
}

impl<T: Clone> Clone for OnceLock<T> {
    #[track_caller]
    fn clone(&self) -> OnceLock<T> {
        self.get().map_or_else(OnceLock::new, |value| OnceLock::from(value.clone()))
    }
}

impl<T: PartialEq> PartialEq for OnceLock<T> {
    fn eq(&self, other: &OnceLock<T>) -> bool {
        self.get() == other.get()
    }
}

impl<T: Eq> Eq for OnceLock<T> {}

impl<T: fmt::Debug> fmt::Debug for OnceLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_tuple("OnceLock");
        match self.get() {
            Some(value) => shown.field(value),
            None => shown.field(&format_args!("<uninit>")),
        };
        shown.finish()
    }
}
