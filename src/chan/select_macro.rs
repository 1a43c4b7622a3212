//! [`select!`](crate::select): what it becomes.
//!
//! The macro takes one arm after another, in two steps each (the compiler stops at 128). Of each arm it makes a variable,
//! which is told from the others by the macro's hygiene, in a block of its own: when an arm's expression runs, nothing is
//! borrowed any more but what it borrows itself.

/// What the macro needs to name.
pub mod parts {
    use std::marker::PhantomData;
    use std::os::fd::AsFd;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use crate::chan::choose::{self, Choice, Polled};
    use crate::chan::error::{RecvError, SendError};
    use crate::chan::operation::{Receiving, Sending};
    use crate::chan::ready::Awaiting;
    use crate::chan::receiver::Receiver;
    use crate::chan::sender::Sender;
    use crate::source::Side;

    pub use crate::chan::choose::{Arm, Patience};

    /// `recv(receiver)`.
    pub struct RecvArm<'a, T>(Receiving<'a, T>);

    impl<T> RecvArm<'_, T> {
        /// The arm, before the choice.
        #[inline]
        pub fn new(receiver: &Receiver<T>) -> RecvArm<'_, T> {
            RecvArm(Receiving::new(receiver.channel()))
        }

        /// As the choice needs it.
        pub fn arm(&mut self) -> Arm<'_> {
            Arm::new(Choice::Operation(&self.0))
        }

        /// `None`: another arm was chosen.
        #[inline]
        pub fn outcome(self) -> Option<Result<T, RecvError>> {
            self.0.take()
        }
    }

    /// `send(sender, value)`.
    pub struct SendArm<'a, T>(Sending<'a, T>);

    impl<T> SendArm<'_, T> {
        /// The arm, before the choice.
        #[inline]
        pub fn new(sender: &Sender<T>, value: T) -> SendArm<'_, T> {
            SendArm(Sending::new(sender.channel(), value))
        }

        /// As the choice needs it.
        pub fn arm(&mut self) -> Arm<'_> {
            Arm::new(Choice::Operation(&self.0))
        }

        /// `None`: another arm was chosen.
        #[inline]
        pub fn outcome(self) -> Option<Result<(), SendError<T>>> {
            self.0.take()
        }
    }

    /// `readable(fd)` or `writable(fd)`. It borrows the descriptor.
    pub struct ReadyArm<'a>(Awaiting, PhantomData<&'a ()>);

    impl ReadyArm<'_> {
        /// The arm of a `readable`, before the choice.
        #[track_caller]
        pub fn readable<T: AsFd>(fd: &T) -> ReadyArm<'_> {
            // SAFETY: E2, the descriptor is borrowed for longer.
            ReadyArm(unsafe { Awaiting::new(fd, Side::Read) }, PhantomData)
        }

        /// The arm of a `writable`, before the choice.
        #[track_caller]
        pub fn writable<T: AsFd>(fd: &T) -> ReadyArm<'_> {
            // SAFETY: E2, the descriptor is borrowed for longer.
            ReadyArm(unsafe { Awaiting::new(fd, Side::Write) }, PhantomData)
        }

        /// As the choice needs it.
        pub fn arm(&mut self) -> Arm<'_> {
            Arm::new(Choice::Operation(&self.0))
        }

        /// `None`: another arm was chosen.
        pub fn outcome(self) -> Option<()> {
            self.0.take().then_some(())
        }
    }

    /// `wait(future)`.
    pub struct WaitArm<'a, F: Future> {
        future: Pin<&'a mut F>,
        output: Option<F::Output>,
    }

    impl<F: Future> WaitArm<'_, F> {
        /// The arm, before the choice.
        #[inline]
        pub fn new(future: Pin<&mut F>) -> WaitArm<'_, F> {
            WaitArm { future, output: None }
        }

        /// As the choice needs it.
        pub fn arm(&mut self) -> Arm<'_> {
            Arm::new(Choice::Future(self))
        }

        /// `None`: another arm was chosen.
        #[inline]
        pub fn outcome(self) -> Option<F::Output> {
            self.output
        }
    }

    impl<F: Future> Polled for WaitArm<'_, F> {
        fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
            self.future.as_mut().poll(context).map(|output| self.output = Some(output))
        }
    }

    /// Does one of the arms. `None`: none could be done in time.
    #[track_caller]
    #[inline]
    pub fn choose(arms: &mut [Arm<'_>], patience: Patience) -> Option<usize> {
        choose::choose(arms, patience)
    }

    /// The outcome of the arm that was chosen.
    #[inline]
    pub fn chosen<T>(outcome: Option<T>) -> T {
        outcome.unwrap_or_else(|| none_chosen())
    }

    /// Where none of the arms is chosen: there is always one, or the wait has no end.
    #[cold]
    pub fn none_chosen() -> ! {
        unreachable!("a select has chosen none of its arms")
    }
}

/// Waits until one of several operations can be done, does it, and runs the expression of its arm: Go's `select`.
///
/// ```text
/// coro::select! {
///     recv(receiver) -> result => expression,        // result: Result<T, RecvError>
///     send(sender, value) -> result => expression,   // result: Result<(), SendError<T>>
///     wait(future) -> output => expression,          // output: the future's
///     readable(fd) => expression,                    // a read from the descriptor would not block
///     writable(fd) => expression,                    // a write to it would not block
///     default => expression,                         // if no other arm can be done at once
///     default(duration) => expression,               // or within a time
/// }
/// ```
///
/// Each arm may come any number of times, but for `default`, which comes once or not at all. An arm's expression is a
/// block, or it ends with a comma; what stands behind `->` is a pattern that always matches. All expressions have one
/// type, which is that of the `select!`. `break`, `continue`, `return` and `?` work in them. Without an arm it waits for
/// ever.
///
/// What stands in the parentheses is evaluated once, in the order in which it is written, before anything is done.
///
/// If several arms can be done, the one to be done is chosen at random: so none of them starves. The other arms lose
/// nothing: their channels are as they were. Their values and futures are dropped before the expression runs, so a
/// future or value that is to outlive the select is lent (`wait(&mut future)`), or put into a [`Select`], which keeps
/// it. A closed channel can always be received from and sent to: the result says so.
///
/// `readable` and `writable` take what is [`AsFd`](std::os::fd::AsFd), a socket say, and do nothing with it. Another
/// coroutine may have read by the time that the expression does.
///
/// To wait for a time, receive from [`after`](crate::chan::after). A select allocates nothing, and takes part in
/// everything as a [`recv`](crate::chan::Receiver::recv) does: it can be cancelled, and lets others go first now and then.
/// There may be some fifty arms; for more, or for a number that is known when the program runs, there is [`Select`].
///
/// [`Select`]: crate::chan::Select
///
/// # Panics
///
/// As [`recv`](crate::chan::Receiver::recv), and with whatever a future panics with.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use coro::chan;
///
/// let (sender, receiver) = chan::bounded(0);
/// let (stop, stopped) = chan::bounded::<()>(0);
/// let sum = coro::go(move || {
///     let mut sum = 0;
///     loop {
///         coro::select! {
///             recv(receiver) -> number => sum += number.unwrap_or(0),
///             recv(stopped) -> _ => break sum,
///             default(Duration::from_secs(60)) => panic!("nobody has come"),
///         }
///     }
/// });
/// (1..=4).for_each(|i| sender.send(i).unwrap());
/// drop(stop);
/// assert_eq!(sum.join().unwrap(), 10);
/// ```
///
/// An arm that is misspelt is named:
///
/// ```compile_fail
/// let (_sender, receiver) = coro::chan::bounded::<i32>(0);
/// coro::select! {
///     receive(receiver) -> number => drop(number), // error: select!: `receive` is no arm
/// }
/// ```
#[macro_export]
macro_rules! select {
    ($($arms:tt)*) => {
        $crate::__select_arms!((0) [] [] $($arms)*)
    };
}

/// `(index) [arms so far] [default] rest`. The index is that of the next arm. An arm so far is
/// `{(index) variable kind (arguments) (pattern) (expression)}`.
#[doc(hidden)]
#[macro_export]
macro_rules! __select_arms {
    ($index:tt [$($arms:tt)*] [$($default:tt)*]) => {
        $crate::__select_choose!([$($arms)*] [$($default)*])
    };
    ($index:tt $arms:tt $default:tt recv($receiver:expr $(,)?) -> $result:pat => $($rest:tt)*) => {
        $crate::__select_body!($index $arms $default {recv ($receiver) ($result)} $($rest)*)
    };
    ($index:tt $arms:tt $default:tt send($sender:expr, $value:expr $(,)?) -> $result:pat => $($rest:tt)*) => {
        $crate::__select_body!($index $arms $default {send ($sender, $value) ($result)} $($rest)*)
    };
    ($index:tt $arms:tt $default:tt wait($future:expr $(,)?) -> $output:pat => $($rest:tt)*) => {
        $crate::__select_body!($index $arms $default {wait ($future) ($output)} $($rest)*)
    };
    ($index:tt $arms:tt $default:tt readable($fd:expr $(,)?) => $($rest:tt)*) => {
        $crate::__select_body!($index $arms $default {readable ($fd) (())} $($rest)*)
    };
    ($index:tt $arms:tt $default:tt writable($fd:expr $(,)?) => $($rest:tt)*) => {
        $crate::__select_body!($index $arms $default {writable ($fd) (())} $($rest)*)
    };
    ($index:tt $arms:tt [] default => $($rest:tt)*) => {
        $crate::__select_default!($index $arms ($crate::chan::parts::Patience::Zero) $($rest)*)
    };
    ($index:tt $arms:tt [] default($duration:expr $(,)?) => $($rest:tt)*) => {
        $crate::__select_default!($index $arms ($crate::chan::parts::Patience::within($duration)) $($rest)*)
    };
    ($index:tt $arms:tt [] default $($rest:tt)*) => {
        ::std::compile_error!(
            "select!: the arm `default` is `default => expression` or `default(duration) => expression`"
        )
    };
    ($index:tt $arms:tt $default:tt default $($rest:tt)*) => {
        ::std::compile_error!("select!: there is a second arm `default`")
    };
    ($index:tt $arms:tt $default:tt recv $($rest:tt)*) => {
        ::std::compile_error!(::std::concat!(
            "select!: an arm `recv` is `recv(receiver) -> pattern => expression`, but here it is `recv ",
            ::std::stringify!($($rest)*), "`"
        ))
    };
    ($index:tt $arms:tt $default:tt send $($rest:tt)*) => {
        ::std::compile_error!(::std::concat!(
            "select!: an arm `send` is `send(sender, value) -> pattern => expression`, but here it is `send ",
            ::std::stringify!($($rest)*), "`"
        ))
    };
    ($index:tt $arms:tt $default:tt wait $($rest:tt)*) => {
        ::std::compile_error!(::std::concat!(
            "select!: an arm `wait` is `wait(future) -> pattern => expression`, but here it is `wait ",
            ::std::stringify!($($rest)*), "`"
        ))
    };
    ($index:tt $arms:tt $default:tt readable $($rest:tt)*) => {
        ::std::compile_error!(::std::concat!(
            "select!: an arm `readable` is `readable(fd) => expression`, but here it is `readable ",
            ::std::stringify!($($rest)*), "`"
        ))
    };
    ($index:tt $arms:tt $default:tt writable $($rest:tt)*) => {
        ::std::compile_error!(::std::concat!(
            "select!: an arm `writable` is `writable(fd) => expression`, but here it is `writable ",
            ::std::stringify!($($rest)*), "`"
        ))
    };
    ($index:tt $arms:tt $default:tt $other:tt $($rest:tt)*) => {
        ::std::compile_error!(::std::concat!(
            "select!: `", ::std::stringify!($other), "` is no arm; the arms are \
             recv(receiver) -> pattern => expression, send(sender, value) -> pattern => expression, \
             wait(future) -> pattern => expression, readable(fd) => expression, writable(fd) => expression, \
             default => expression"
        ))
    };
}

/// `(index) [arms so far] [default] {kind (arguments) (pattern)} expression, rest`. The `arm` that it adds is another
/// variable each time.
#[doc(hidden)]
#[macro_export]
macro_rules! __select_body {
    ($index:tt [$($arms:tt)*] $default:tt {$($head:tt)*} $body:block , $($rest:tt)*) => {
        $crate::__select_arms!((1 + $index) [$($arms)* {$index arm $($head)* ($body)}] $default $($rest)*)
    };
    ($index:tt [$($arms:tt)*] $default:tt {$($head:tt)*} $body:block $($rest:tt)*) => {
        $crate::__select_arms!((1 + $index) [$($arms)* {$index arm $($head)* ($body)}] $default $($rest)*)
    };
    ($index:tt [$($arms:tt)*] $default:tt {$($head:tt)*} $body:expr , $($rest:tt)*) => {
        $crate::__select_arms!((1 + $index) [$($arms)* {$index arm $($head)* ($body)}] $default $($rest)*)
    };
    ($index:tt [$($arms:tt)*] $default:tt {$($head:tt)*} $body:expr) => {
        $crate::__select_arms!((1 + $index) [$($arms)* {$index arm $($head)* ($body)}] $default)
    };
    ($index:tt $arms:tt $default:tt {$kind:ident $arguments:tt $pattern:tt} $($rest:tt)*) => {
        ::std::compile_error!(::std::concat!(
            "select!: the arm `", ::std::stringify!($kind $arguments), "` has no expression, or it does not end \
             with a comma: `", ::std::stringify!($($rest)*), "`"
        ))
    };
}

/// `(index) [arms so far] (patience) expression, rest`.
#[doc(hidden)]
#[macro_export]
macro_rules! __select_default {
    ($index:tt $arms:tt $patience:tt $body:block , $($rest:tt)*) => {
        $crate::__select_arms!($index $arms [$patience ($body)] $($rest)*)
    };
    ($index:tt $arms:tt $patience:tt $body:block $($rest:tt)*) => {
        $crate::__select_arms!($index $arms [$patience ($body)] $($rest)*)
    };
    ($index:tt $arms:tt $patience:tt $body:expr , $($rest:tt)*) => {
        $crate::__select_arms!($index $arms [$patience ($body)] $($rest)*)
    };
    ($index:tt $arms:tt $patience:tt $body:expr) => {
        $crate::__select_arms!($index $arms [$patience ($body)])
    };
    ($index:tt $arms:tt $patience:tt $($rest:tt)*) => {
        ::std::compile_error!(::std::concat!(
            "select!: the arm `default` has no expression, or it does not end with a comma: `",
            ::std::stringify!($($rest)*), "`"
        ))
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __select_choose {
    ($arms:tt []) => {
        $crate::__select_choose!(
            $arms
            [($crate::chan::parts::Patience::Endless) ($crate::chan::parts::none_chosen())]
        )
    };
    (
        [$({$index:tt $arm:ident $kind:ident $arguments:tt ($pattern:pat) ($body:expr)})*]
        [($patience:expr) ($default:expr)]
    ) => {{
        let (chosen, $($arm,)*) = {
            $($crate::__select_variable!($arm $kind $arguments);)*
            let chosen = $crate::chan::parts::choose(&mut [$($arm.arm()),*], $patience);
            (chosen, $($arm.outcome(),)*)
        };
        match chosen {
            $(::std::option::Option::Some(index) if index == $index => {
                let $pattern = $crate::chan::parts::chosen($arm);
                $body
            })*
            _ => $default,
        }
    }};
}

#[doc(hidden)]
#[macro_export]
macro_rules! __select_variable {
    ($arm:ident recv ($receiver:expr)) => {
        let receiver = &$receiver;
        let mut $arm = $crate::chan::parts::RecvArm::new(receiver);
    };
    ($arm:ident send ($sender:expr, $value:expr)) => {
        let sender = &$sender;
        let mut $arm = $crate::chan::parts::SendArm::new(sender, $value);
    };
    ($arm:ident readable ($fd:expr)) => {
        let fd = &$fd;
        let mut $arm = $crate::chan::parts::ReadyArm::readable(fd);
    };
    ($arm:ident writable ($fd:expr)) => {
        let fd = &$fd;
        let mut $arm = $crate::chan::parts::ReadyArm::writable(fd);
    };
    ($arm:ident wait ($future:expr)) => {
        let future = ::std::pin::pin!(::std::future::IntoFuture::into_future($future));
        let mut $arm = $crate::chan::parts::WaitArm::new(future);
    };
}
