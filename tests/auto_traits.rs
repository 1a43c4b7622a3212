//! Which auto traits each public type has, beside those of its counterpart in std. Where the two differ, the
//! reason is given.

use std::any::Any;
use std::cell::Cell;
use std::marker::{PhantomData, PhantomPinned};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;

use coro::{chan, inspect, io, net, raw, sync, tls};

/// The auto traits of a type, as `Send Sync Unpin UnwindSafe RefUnwindSafe` where it has all.
macro_rules! traits {
    ($type:ty) => {
        [
            has!($type, Send),
            has!($type, Sync),
            has!($type, Unpin),
            has!($type, UnwindSafe),
            has!($type, RefUnwindSafe),
        ]
        .concat()
        .trim_end()
        .to_owned()
    };
}

/// The trait's name and a space if the type has it, else nothing.
macro_rules! has {
    ($type:ty, $trait:ident) => {{
        struct Of<T: ?Sized>(PhantomData<T>);

        // Found before that of `Otherwise`, where the bound holds.
        #[allow(dead_code)]
        impl<T: ?Sized + $trait> Of<T> {
            const NAME: &str = concat!(stringify!($trait), " ");
        }

        impl<T: ?Sized> Otherwise for Of<T> {}

        <Of<$type>>::NAME
    }};
}

trait Otherwise {
    const NAME: &str = "";
}

macro_rules! assert_traits {
    ($($type:ty: $traits:expr;)*) => {
        $(assert_eq!(traits!($type), $traits, "{}", stringify!($type));)*
    };
}

const ALL: &str = "Send Sync Unpin UnwindSafe RefUnwindSafe";

#[test]
fn traits_are_told_apart() {
    assert_traits! {
        u8: ALL;
        Cell<u8>: "Send Unpin UnwindSafe";
        &mut u8: "Send Sync Unpin RefUnwindSafe";
        *const u8: "Unpin UnwindSafe RefUnwindSafe";
        PhantomPinned: "Send Sync UnwindSafe RefUnwindSafe";
        dyn Any: "";
    }
}

#[test]
fn traits_are_those_of_the_counterparts() {
    assert_traits! {
        coro::Scope<'_, '_>: traits!(thread::Scope<'_, '_>);
        coro::Handle: traits!(thread::Thread);
        coro::Builder: traits!(thread::Builder);
        coro::RuntimeBuilder: traits!(thread::Builder);
        coro::JoinError: traits!(Box<dyn Any + Send>);
        coro::Elapsed: traits!(mpsc::RecvTimeoutError);
        tls::Id: traits!(thread::ThreadId);
        tls::AccessError: traits!(thread::AccessError);
        tls::WrongType: traits!(thread::AccessError);
        tls::LocalKey<u8>: traits!(thread::LocalKey<u8>);
        tls::LocalKey<Rc<Cell<u8>>>: traits!(thread::LocalKey<Rc<Cell<u8>>>);
        tls::LocalKey<PhantomPinned>: traits!(thread::LocalKey<PhantomPinned>);
        tls::Data<u8>: traits!(Rc<u8>);
        tls::Data<Cell<u8>>: traits!(Rc<Cell<u8>>);
        tls::Data<PhantomPinned>: traits!(Rc<PhantomPinned>);
    }
}

/// std's are not unwind safe, since they share the cell of the value with their thread. Ours give the value
/// away, and share a state word, which no panic leaves half changed.
#[test]
fn traits_of_join_handles_are_more_than_in_std() {
    const STD: &str = "Send Sync Unpin";
    assert_traits! {
        thread::JoinHandle<u8>: STD;
        thread::ScopedJoinHandle<'_, u8>: STD;
        coro::JoinHandle<u8>: ALL;
        coro::JoinHandle<Cell<u8>>: ALL;
        coro::JoinHandle<PhantomPinned>: ALL;
        coro::ScopedJoinHandle<'_, u8>: ALL;
        coro::ScopedJoinHandle<'_, Cell<u8>>: ALL;
        coro::ScopedJoinHandle<'_, PhantomPinned>: ALL;
    }
}

/// A value that is not `Send` never comes out of a coroutine, so there are no such handles. std's
/// `JoinHandle` is `Send` for them nevertheless, its `ScopedJoinHandle` is not.
#[test]
fn traits_of_a_join_handle_follow_its_value() {
    const NEITHER: &str = "Unpin UnwindSafe RefUnwindSafe";
    assert_traits! {
        coro::JoinHandle<Rc<u8>>: NEITHER;
        coro::ScopedJoinHandle<'_, Rc<u8>>: NEITHER;
        coro::JoinSet<Rc<u8>>: NEITHER;
    }
}

/// A value goes from thread to thread, and is never shared. std's receiver is not `Sync`: it has one owner.
#[test]
fn traits_of_channels_follow_their_values() {
    const NEITHER: &str = "Unpin UnwindSafe RefUnwindSafe";
    assert_traits! {
        chan::Sender<Cell<u8>>: ALL;
        chan::Sender<PhantomPinned>: ALL;
        chan::Sender<Rc<u8>>: NEITHER;
        chan::Receiver<Cell<u8>>: ALL;
        chan::Receiver<PhantomPinned>: ALL;
        chan::Receiver<Rc<u8>>: NEITHER;
        chan::IntoIter<Cell<u8>>: ALL;
        // In the list of a channel, so it stays where it is.
        chan::RecvFuture<'_, Cell<u8>>: "Send Sync";
        chan::SendFuture<'_, Cell<u8>>: "Send Sync";
        chan::RecvFuture<'_, Rc<u8>>: "";
        // Its functions are anybody's.
        chan::Select<'_, u8>: "Unpin";
        chan::TrySendError<u8>: traits!(mpsc::TrySendError<u8>);
        chan::RecvTimeoutError: traits!(mpsc::RecvTimeoutError);
    }
}

/// What is attached to a coroutine stays on its thread.
#[test]
fn traits_of_an_attached_carry() {
    assert_traits! {
        coro::hook::Attached: "Unpin UnwindSafe RefUnwindSafe";
    }
}

/// Guards are not `Send`, and shared they give shared access.
#[test]
fn traits_of_locks_are_those_of_their_counterparts() {
    assert_traits! {
        sync::Condvar: traits!(std::sync::Condvar);
        sync::Barrier: traits!(std::sync::Barrier);
        sync::WaitTimeoutResult: traits!(std::sync::WaitTimeoutResult);
        sync::BarrierWaitResult: traits!(std::sync::BarrierWaitResult);
        sync::OnceLock<u8>: traits!(std::sync::OnceLock<u8>);
        sync::OnceLock<Cell<u8>>: traits!(std::sync::OnceLock<Cell<u8>>);
        sync::OnceLock<Rc<u8>>: traits!(std::sync::OnceLock<Rc<u8>>);
        sync::LazyLock<u8>: traits!(std::sync::LazyLock<u8>);
        sync::LazyLock<Cell<u8>>: traits!(std::sync::LazyLock<Cell<u8>>);
        sync::LazyLock<Rc<u8>>: traits!(std::sync::LazyLock<Rc<u8>>);
        sync::LazyLock<u8, Rc<u8>>: traits!(std::sync::LazyLock<u8, Rc<u8>>);
        sync::Semaphore: ALL;
        sync::SemaphorePermit<'_>: ALL;
        sync::WaitGroup: ALL;
        sync::WaitGroupGuard<&sync::WaitGroup>: ALL;
        sync::Notify: ALL;
    }
}

/// Without poison, a value that a panic has left half changed is seen by the next, so a reference to such a lock is not unwind
/// safe. std's is, because the lock is poisoned then.
#[test]
fn traits_of_locks_without_poison() {
    assert_traits! {
        sync::Mutex<Cell<u8>>: "Send Sync Unpin UnwindSafe";
        std::sync::Mutex<Cell<u8>>: ALL;
        sync::Mutex<Rc<u8>>: "Unpin UnwindSafe";
        sync::Mutex<PhantomPinned>: "Send Sync UnwindSafe";
        sync::MutexGuard<'_, u8>: "Sync Unpin RefUnwindSafe";
        std::sync::MutexGuard<'_, u8>: "Sync Unpin UnwindSafe RefUnwindSafe";
        sync::MutexGuard<'_, Cell<u8>>: "Unpin";
        sync::MappedMutexGuard<'_, u8>: "Sync Unpin RefUnwindSafe";
        sync::MappedMutexGuard<'_, Cell<u8>>: "Unpin";
        sync::RwLock<u8>: "Send Sync Unpin UnwindSafe";
        sync::RwLock<Cell<u8>>: "Send Unpin UnwindSafe";
        sync::RwLockReadGuard<'_, u8>: "Sync Unpin UnwindSafe RefUnwindSafe";
        sync::RwLockReadGuard<'_, Cell<u8>>: "Unpin";
        sync::RwLockWriteGuard<'_, u8>: "Sync Unpin RefUnwindSafe";
        sync::RwLockWriteGuard<'_, Cell<u8>>: "Unpin";
        sync::MappedRwLockReadGuard<'_, u8>: "Sync Unpin UnwindSafe RefUnwindSafe";
        sync::MappedRwLockReadGuard<'_, Cell<u8>>: "Unpin";
        sync::MappedRwLockWriteGuard<'_, u8>: "Sync Unpin RefUnwindSafe";
        sync::MappedRwLockWriteGuard<'_, Cell<u8>>: "Unpin";
    }
}

#[test]
fn traits_of_sockets_are_those_of_their_counterparts() {
    use std::os::unix::net as unix;
    assert_traits! {
        net::TcpListener: traits!(std::net::TcpListener);
        net::Incoming<'_>: traits!(std::net::Incoming<'_>);
        net::TcpStream: traits!(std::net::TcpStream);
        net::UdpSocket: traits!(std::net::UdpSocket);
        net::UnixListener: traits!(unix::UnixListener);
        net::UnixIncoming<'_>: traits!(unix::Incoming<'_>);
        net::UnixStream: traits!(unix::UnixStream);
        net::UnixDatagram: traits!(unix::UnixDatagram);
        io::Async<std::io::PipeReader>: traits!(std::io::PipeReader);
        io::Async<std::io::Stdin>: traits!(std::io::Stdin);
    }
}

/// std has no such types.
#[test]
fn traits_without_a_counterpart() {
    assert_traits! {
        coro::Runtime: ALL;
        coro::JoinSet<u8>: ALL;
        coro::JoinSet<Cell<u8>>: ALL;
        coro::JoinSet<PhantomPinned>: ALL;
        coro::Interval: ALL;
        net::ReadHalf<net::TcpStream>: ALL;
        net::WriteHalf<net::UnixStream>: ALL;
        inspect::Metrics: ALL;
        inspect::WorkerMetrics: ALL;
        inspect::ExitTarget: ALL;
        inspect::CoroutineState: ALL;
        inspect::Dump: ALL;
        inspect::DumpedCoroutine: ALL;
        inspect::DumpGroup<'_>: ALL;
        inspect::DumpFrame: ALL;
        inspect::DumpFunction: ALL;
        inspect::RunningCoroutine: ALL;
        coro::Place: ALL;
        raw::State<u8, u8>: ALL;
        // It stays on its thread. Its function may have borrowed what a panic leaves half changed.
        raw::Coroutine<u8, u8, u8>: "Unpin";
        raw::Coroutine<Cell<u8>, PhantomPinned, PhantomPinned>: "Unpin";
        // Lent, and so not `Sync`: it serves its own coroutine. `catch_unwind(|| yielder.suspend(1))` is fine.
        &raw::Yielder<u8, u8>: "Unpin UnwindSafe RefUnwindSafe";
        &raw::Yielder<Cell<u8>, PhantomPinned>: "Unpin UnwindSafe RefUnwindSafe";
    }
}

/// The payload of a panic need not be `Sync`, and `JoinError::Panicked` shows it to whoever has a reference.
/// An `io::Error` has the message alone.
#[test]
fn traits_of_the_error_to_pass_on() {
    type Anything = Box<dyn std::error::Error + Send + Sync>;

    fn fails() -> Result<(), Anything> {
        let parked = coro::go(coro::park);
        parked.cancel();
        Ok(parked.join().map_err(std::io::Error::from)?)
    }
    assert_eq!(fails().unwrap_err().to_string(), "the coroutine was cancelled");
    assert_traits! {
        coro::JoinError: "Send Unpin";
        std::io::Error: "Send Sync Unpin";
    }
}
