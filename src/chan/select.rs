//! [`Select`]: a choice among a number of operations that is known when the program runs.

use std::fmt;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::choose::{Arm, Choice, Patience, Polled, choose};
use super::error::{RecvError, SendError};
use super::operation::{Receiving, Sending};
use super::ready::Awaiting;
use super::receiver::Receiver;
use super::sender::Sender;
use crate::source::Side;

/// A choice among operations whose number is known when the program runs only. For a fixed number there is
/// [`select!`](crate::select).
///
/// Each operation has a function, which is called with its outcome when the operation is chosen; what the function gives
/// is what [`select`](Select::select) gives. A receive stays in the `Select`, to be chosen again, until its channel
/// has told that it is closed. A send and a future leave it when they are done. What is not chosen stays as it is.
///
/// # Examples
///
/// ```
/// use coro::chan::{self, Select};
///
/// let receivers: Vec<_> = (0..5)
///     .map(|i| {
///         let (sender, receiver) = chan::bounded(0);
///         coro::go(move || sender.send(i).unwrap());
///         receiver
///     })
///     .collect();
/// let mut select = Select::new();
/// for receiver in &receivers {
///     select.recv(receiver, |number| number.unwrap_or(0));
/// }
/// let mut sum = 0;
/// while !select.is_empty() {
///     sum += select.select();
/// }
/// assert_eq!(sum, 10);
/// ```
pub struct Select<'a, R> {
    arms: Vec<Box<dyn Selectable<R> + 'a>>,
}

/// An operation with its function.
trait Selectable<R> {
    fn arm(&mut self) -> Arm<'_>;

    /// Calls the function, once the operation is done.
    fn finish(&mut self) -> R;

    /// Whether it may be chosen again.
    fn is_left(&self) -> bool {
        false
    }

    /// After each choice.
    fn rest(&mut self) {}
}

const DONE: &str = "the operation is done, and its function was not called";

struct SelectedRecv<'a, T, F> {
    receiver: &'a Receiver<T>,
    receiving: Receiving<'a, T>,
    function: F,
    is_closed: bool,
}

impl<T, R, F: FnMut(Result<T, RecvError>) -> R> Selectable<R> for SelectedRecv<'_, T, F> {
    fn arm(&mut self) -> Arm<'_> {
        Arm::new(Choice::Operation(&self.receiving))
    }

    fn finish(&mut self) -> R {
        let received = self.receiving.take().expect(DONE);
        self.is_closed = received.is_err();
        self.receiving = Receiving::new(self.receiver.channel());
        (self.function)(received)
    }

    fn is_left(&self) -> bool {
        !self.is_closed
    }
}

struct SelectedSend<'a, T, F> {
    sending: Sending<'a, T>,
    function: Option<F>,
}

impl<T, R, F: FnOnce(Result<(), SendError<T>>) -> R> Selectable<R> for SelectedSend<'_, T, F> {
    fn arm(&mut self) -> Arm<'_> {
        Arm::new(Choice::Operation(&self.sending))
    }

    fn finish(&mut self) -> R {
        let sent = self.sending.take().expect(DONE);
        self.function.take().expect(DONE)(sent)
    }
}

struct SelectedReady<'a, T, F> {
    fd: &'a T,
    side: Side,
    /// During a choice only: a `Select` may be forgotten, and this may not (E2).
    awaiting: Option<Awaiting>,
    function: Option<F>,
}

impl<T: AsFd, R, F: FnOnce() -> R> Selectable<R> for SelectedReady<'_, T, F> {
    fn arm(&mut self) -> Arm<'_> {
        // SAFETY: E2, `rest` drops it, and the descriptor is borrowed for longer.
        let awaiting = unsafe { Awaiting::new(self.fd, self.side) };
        Arm::new(Choice::Operation(self.awaiting.insert(awaiting)))
    }

    fn finish(&mut self) -> R {
        self.function.take().expect(DONE)()
    }

    fn rest(&mut self) {
        self.awaiting = None;
    }
}

struct SelectedWait<O, P, F> {
    future: Pin<P>,
    output: Option<O>,
    function: Option<F>,
}

impl<O, P, F> Polled for SelectedWait<O, P, F>
where
    P: std::ops::DerefMut<Target: Future<Output = O>>,
{
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.future.as_mut().poll(context).map(|output| self.output = Some(output))
    }
}

impl<O, R, P, F> Selectable<R> for SelectedWait<O, P, F>
where
    P: std::ops::DerefMut<Target: Future<Output = O>>,
    F: FnOnce(O) -> R,
{
    fn arm(&mut self) -> Arm<'_> {
        Arm::new(Choice::Future(self))
    }

    fn finish(&mut self) -> R {
        let output = self.output.take().expect(DONE);
        self.function.take().expect(DONE)(output)
    }
}

impl<'a, R> Select<'a, R> {
    /// A choice among nothing yet.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut select = coro::chan::Select::<()>::new();
    /// assert_eq!(select.try_select(), None);
    /// ```
    pub fn new() -> Select<'a, R> {
        Select { arms: Vec::new() }
    }

    /// Adds a receive. It stays until the channel has told that it is closed.
    ///
    /// # Examples
    ///
    /// ```
    /// let (sender, receiver) = coro::chan::bounded(2);
    /// let mut select = coro::chan::Select::new();
    /// select.recv(&receiver, |number| number);
    /// sender.send(1).unwrap();
    /// sender.send(2).unwrap();
    /// assert_eq!(select.select(), Ok(1));
    /// assert_eq!(select.select(), Ok(2));
    /// ```
    pub fn recv<T>(
        &mut self,
        receiver: &'a Receiver<T>,
        function: impl FnMut(Result<T, RecvError>) -> R + 'a,
    ) -> &mut Select<'a, R> {
        let receiving = Receiving::new(receiver.channel());
        self.add(SelectedRecv { receiver, receiving, function, is_closed: false })
    }

    /// Adds a send. It leaves when `value` is sent, or the channel is closed.
    ///
    /// # Examples
    ///
    /// ```
    /// let (sender, receiver) = coro::chan::bounded(1);
    /// let mut select = coro::chan::Select::new();
    /// select.send(&sender, "word", |sent| sent.is_ok());
    /// assert!(select.select());
    /// assert!(select.is_empty());
    /// assert_eq!(receiver.recv(), Ok("word"));
    /// ```
    pub fn send<T: 'a>(
        &mut self,
        sender: &'a Sender<T>,
        value: T,
        function: impl FnOnce(Result<(), SendError<T>>) -> R + 'a,
    ) -> &mut Select<'a, R> {
        let sending = Sending::new(sender.channel(), value);
        self.add(SelectedSend { sending, function: Some(function) })
    }

    /// Adds a wait until a read from `fd` would not block. It leaves when it was chosen.
    ///
    /// # Examples
    ///
    /// ```
    /// let (reader, writer) = std::io::pipe()?;
    /// let mut select = coro::chan::Select::new();
    /// select.readable(&reader, || "its end");
    /// assert_eq!(select.try_select(), None);
    /// drop(writer);
    /// assert_eq!(select.select(), "its end");
    /// # std::io::Result::Ok(())
    /// ```
    pub fn readable<T: AsFd>(
        &mut self,
        fd: &'a T,
        function: impl FnOnce() -> R + 'a,
    ) -> &mut Select<'a, R> {
        let function = Some(function);
        self.add(SelectedReady { fd, side: Side::Read, awaiting: None, function })
    }

    /// Adds a wait until a write to `fd` would not block. It leaves when it was chosen.
    ///
    /// # Examples
    ///
    /// ```
    /// let (_reader, writer) = std::io::pipe()?;
    /// let mut select = coro::chan::Select::new();
    /// select.writable(&writer, || "room");
    /// assert_eq!(select.select(), "room");
    /// # std::io::Result::Ok(())
    /// ```
    pub fn writable<T: AsFd>(
        &mut self,
        fd: &'a T,
        function: impl FnOnce() -> R + 'a,
    ) -> &mut Select<'a, R> {
        let function = Some(function);
        self.add(SelectedReady { fd, side: Side::Write, awaiting: None, function })
    }

    /// Adds a wait for a future. It leaves when the future is ready.
    ///
    /// # Examples
    ///
    /// ```
    /// let child = coro::go(|| 6 * 7);
    /// let mut select = coro::chan::Select::new();
    /// select.wait(child, |answer| answer.unwrap());
    /// assert_eq!(select.select(), 42);
    /// ```
    pub fn wait<F: IntoFuture + 'a>(
        &mut self,
        future: F,
        function: impl FnOnce(F::Output) -> R + 'a,
    ) -> &mut Select<'a, R>
    where
        F::IntoFuture: 'a,
        F::Output: 'a,
    {
        let future = Box::pin(future.into_future());
        self.add(SelectedWait { future, output: None, function: Some(function) })
    }

    fn add(&mut self, arm: impl Selectable<R> + 'a) -> &mut Select<'a, R> {
        self.arms.push(Box::new(arm));
        self
    }

    /// How many operations there are to choose from.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut select = coro::chan::Select::new();
    /// select.wait(async { 1 }, |number| number);
    /// assert_eq!(select.len(), 1);
    /// ```
    pub fn len(&self) -> usize {
        self.arms.len()
    }

    /// Whether there is nothing to choose from.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(coro::chan::Select::<()>::new().is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.arms.is_empty()
    }

    /// Waits until one of the operations can be done, does it, and calls its function. With nothing to choose from it
    /// waits for ever.
    ///
    /// # Panics
    ///
    /// As [`recv`](Receiver::recv), and with whatever the function or a future panics with.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let limit = coro::chan::after(Duration::from_millis(2));
    /// let mut select = coro::chan::Select::new();
    /// select.recv(&limit, |_| "late").wait(std::future::pending(), |word| word);
    /// assert_eq!(select.select(), "late");
    /// ```
    #[track_caller]
    pub fn select(&mut self) -> R {
        loop {
            if let Some(output) = self.choose(Patience::Endless) {
                return output;
            }
        }
    }

    /// Does one of the operations if one can be done without waiting, and calls its function.
    ///
    /// # Panics
    ///
    /// With whatever the function or a future panics with.
    ///
    /// # Examples
    ///
    /// ```
    /// let (_sender, receiver) = coro::chan::bounded::<i32>(0);
    /// let mut select = coro::chan::Select::new();
    /// select.recv(&receiver, |number| number);
    /// assert_eq!(select.try_select(), None);
    /// ```
    #[track_caller]
    pub fn try_select(&mut self) -> Option<R> {
        self.choose(Patience::Zero)
    }

    /// As [`select`](Select::select), for `limit` at most.
    ///
    /// # Panics
    ///
    /// As [`select`](Select::select).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let (_sender, receiver) = coro::chan::bounded::<i32>(0);
    /// let mut select = coro::chan::Select::new();
    /// select.recv(&receiver, |number| number);
    /// assert_eq!(select.select_timeout(Duration::from_millis(1)), None);
    /// ```
    #[track_caller]
    pub fn select_timeout(&mut self, limit: Duration) -> Option<R> {
        self.choose(Patience::within(limit))
    }

    #[track_caller]
    fn choose(&mut self, patience: Patience) -> Option<R> {
        let index = Resting(&mut self.arms).choose(patience)?;
        // The function may panic, and is not to be called once more.
        let mut chosen = self.arms.swap_remove(index);
        let output = chosen.finish();
        if chosen.is_left() {
            self.arms.push(chosen);
        }
        Some(output)
    }
}

/// Operations, which rest when this is dropped.
struct Resting<'b, 'a, R>(&'b mut [Box<dyn Selectable<R> + 'a>]);

impl<R> Resting<'_, '_, R> {
    #[track_caller]
    fn choose(&mut self, patience: Patience) -> Option<usize> {
        let mut arms: Vec<_> = self.0.iter_mut().map(|arm| arm.arm()).collect();
        choose(&mut arms, patience)
    }
}

impl<R> Drop for Resting<'_, '_, R> {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(|arm| arm.rest());
    }
}

impl<R> Default for Select<'_, R> {
    fn default() -> Self {
        Select::new()
    }
}

impl<R> fmt::Debug for Select<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Select").field("len", &self.len()).finish_non_exhaustive()
    }
}
