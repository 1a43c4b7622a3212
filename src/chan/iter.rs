//! Receiving in a loop.

use super::receiver::Receiver;

/// Receives until the channel is empty and closed. By [`Receiver::iter`].
///
/// # Examples
///
/// ```
/// let (sender, receiver) = coro::chan::unbounded();
/// coro::go(move || (0..3).for_each(|i| sender.send(i).unwrap()));
/// assert_eq!(receiver.iter().collect::<Vec<_>>(), [0, 1, 2]);
/// ```
#[derive(Debug)]
pub struct Iter<'a, T> {
    receiver: &'a Receiver<T>,
}

/// Receives what needs no waiting. By [`Receiver::try_iter`].
///
/// # Examples
///
/// ```
/// let (sender, receiver) = coro::chan::unbounded();
/// sender.send(1).unwrap();
/// assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [1]);
/// ```
#[derive(Debug)]
pub struct TryIter<'a, T> {
    receiver: &'a Receiver<T>,
}

/// As [`Iter`], with the receiver. By `into_iter`.
///
/// # Examples
///
/// ```
/// let (sender, receiver) = coro::chan::unbounded();
/// coro::go(move || (0..3).for_each(|i| sender.send(i).unwrap()));
/// let mut sum = 0;
/// for i in receiver {
///     sum += i;
/// }
/// assert_eq!(sum, 3);
/// ```
#[derive(Debug)]
pub struct IntoIter<T> {
    receiver: Receiver<T>,
}

impl<T> Receiver<T> {
    /// Receives until the channel is empty and closed; waits in between.
    ///
    /// # Examples
    ///
    /// ```
    /// let (sender, receiver) = coro::chan::bounded(1);
    /// coro::go(move || (0..10).for_each(|i| sender.send(i).unwrap()));
    /// assert_eq!(receiver.iter().sum::<i32>(), 45);
    /// ```
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { receiver: self }
    }

    /// Receives what needs no waiting.
    ///
    /// # Examples
    ///
    /// ```
    /// let (sender, receiver) = coro::chan::unbounded();
    /// (0..10).for_each(|i| sender.send(i).unwrap());
    /// assert_eq!(receiver.try_iter().sum::<i32>(), 45);
    /// ```
    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter { receiver: self }
    }
}

impl<T> Iterator for Iter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

impl<T> Iterator for TryIter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.try_recv().ok()
    }
}

impl<T> Iterator for IntoIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

impl<T> IntoIterator for Receiver<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter { receiver: self }
    }
}

impl<'a, T> IntoIterator for &'a Receiver<T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}
