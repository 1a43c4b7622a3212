//! What is carried with a coroutine: [`Carry`], and the list of those of one coroutine.
//!
//! A carry is shared by the list and by the [`Attached`](super::hook::Attached) that stands for it, both on one thread.
//! Whoever calls it takes it out for that long. So no borrow is held while its code runs, and that code may detach it.

use std::cell::Cell;
use std::rc::Rc;

/// Something of the thread's that belongs to a coroutine: it is taken from the thread when the coroutine is suspended,
/// and brought back when the coroutine goes on. See [`attach`](super::hook::attach).
///
/// The calls alternate. For one that was [attached](super::hook::attach) the first is `suspend`, for one that was
/// [inherited](Carry::inherit) it is `resume`. The last is always `suspend`, unless the carry is detached before.
///
/// # Where they run
///
/// `suspend` and `resume` run on the coroutine's worker, outside of any coroutine, and so does the carry's `Drop` when
/// the coroutine has ended. There [`current`](crate::current()) is `None`, and [`tls`](crate::tls) is the thread's own.
/// Coroutines may be started, channels, locks and handles be used as long as nothing waits. A call that would suspend
/// a coroutine panics, as in [`no_suspend`](crate::no_suspend()): [`park`](crate::park()), a contended lock, a join of
/// a coroutine that runs, [`blocking`](crate::blocking()), [`scope`](crate::scope()). So does
/// [`attach`](super::hook::attach). Detaching is allowed there. Code that blocks the thread by other means blocks the
/// worker.
///
/// # Panics
///
/// If `suspend` or `resume` panics, the panic hook reports the panic, a line on stderr says whose carry it was, and the
/// carry is detached and dropped. The coroutine, its other carries and the worker go on. The same holds for a panic in
/// the `Drop` of a carry that the worker drops.
pub trait Carry {
    /// Takes it from the thread. The coroutine has just been suspended, or has ended.
    fn suspend(&mut self);

    /// Brings it to the thread. The coroutine is about to go on, or, with an inherited carry, to begin.
    fn resume(&mut self);

    /// What a coroutine gets that the carry's coroutine starts, by whatever function; by default nothing. It is called
    /// in the coroutine that starts the other. The first call of what it gives is `resume`, on the worker that the new
    /// coroutine is started on. If the new coroutine never starts, it is dropped.
    ///
    /// It must not suspend the coroutine: it has the carry, so that this cannot be taken from the thread. If it does, a
    /// line on stderr says so, and the carry is detached.
    ///
    /// # Panics
    ///
    /// A panic in it is one of the function that was to start the coroutine, which is not started.
    fn inherit(&self) -> Option<Box<dyn Carry + Send>> {
        None
    }
}

/// What a dump says of something that is carried with a coroutine.
#[cfg_attr(not(feature = "tracing"), allow(dead_code))]
pub(crate) trait Describe {
    /// Appends a text, or nothing. `None`: there is no memory for it. By the coroutine's worker, while it is suspended.
    /// Runs no code of the user's.
    fn describe(&self, text: &mut String) -> Option<()>;
}

/// A carry, until it is detached.
pub(super) struct Carried {
    description: Option<Rc<dyn Describe>>,
    /// `None`: it is being called, or it is detached.
    carry: Cell<Option<Box<dyn Carry>>>,
    detached: Cell<bool>,
}

impl Carried {
    pub(super) fn new(carry: Box<dyn Carry>, description: Option<Rc<dyn Describe>>) -> Rc<Carried> {
        Rc::new(Carried { description, carry: Cell::new(Some(carry)), detached: Cell::new(false) })
    }

    /// Runs `f` with the carry, if it is neither detached nor being called.
    pub(super) fn lend<R>(&self, f: impl FnOnce(&mut dyn Carry) -> R) -> Option<R> {
        struct Lent<'a>(&'a Carried, Option<Box<dyn Carry>>);
        impl Drop for Lent<'_> {
            fn drop(&mut self) {
                if !self.0.detached.get() {
                    self.0.carry.set(self.1.take());
                }
            }
        }
        let mut lent = Lent(self, self.carry.take());
        let carry = lent.1.as_mut()?;
        Some(f(&mut **carry))
    }

    /// Detaches and drops the carry. If it is being called, it is dropped when that call returns.
    pub(super) fn detach(&self) {
        self.detached.set(true);
        drop(self.carry.take());
    }

    /// Whether it is being called, and so cannot be called.
    pub(super) fn is_lent(&self) -> bool {
        let carry = self.carry.take();
        let is_lent = carry.is_none() && !self.detached.get();
        self.carry.set(carry);
        is_lent
    }

    fn is_detached(&self) -> bool {
        self.detached.get()
    }
}

/// The carries of one coroutine, in the order in which they were attached.
#[derive(Default)]
pub(super) struct CarryList(Cell<Vec<Rc<Carried>>>);

impl CarryList {
    /// Those that were inherited.
    pub(super) fn inherited(carries: Vec<Box<dyn Carry + Send>>) -> CarryList {
        CarryList(Cell::new(carries.into_iter().map(|carry| Carried::new(carry, None)).collect()))
    }

    pub(super) fn push(&self, carried: Rc<Carried>) {
        let mut list = self.0.take();
        // Those that come and go without a suspension in between do not pile up.
        while list.pop_if(|last| last.is_detached()).is_some() {}
        list.push(carried);
        self.0.set(list);
    }

    /// Appends what there is to say of them. `None`: there is no memory for it.
    pub(super) fn describe(&self, text: &mut String) -> Option<()> {
        let list = self.0.take();
        let descriptions = list.iter().filter(|carried| !carried.is_detached());
        let outcome = descriptions
            .filter_map(|carried| carried.description.as_ref())
            .try_for_each(|description| description.describe(text));
        self.0.set(list);
        outcome
    }

    /// All of them at this moment. While they are called, others may come and go.
    pub(super) fn all(&self) -> Vec<Rc<Carried>> {
        let list = self.0.take();
        let all = list.clone();
        self.0.set(list);
        all
    }

    /// Runs `f` with all of them, where none can be attached meanwhile, and forgets those that are detached.
    pub(super) fn with_all(&self, f: impl FnOnce(&[Rc<Carried>])) {
        let mut list = self.0.take();
        f(&list);
        list.retain(|carried| !carried.is_detached());
        let attached = self.0.replace(list);
        debug_assert!(attached.is_empty(), "A2");
    }
}
