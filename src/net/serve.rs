//! [`serve`]: a coroutine for each connection.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::panic::Location;
use std::sync::{Arc, Mutex, MutexGuard, Once, Weak};
use std::time::{Duration, Instant};

use super::tcp_listener::TcpListener;
use super::tcp_stream::TcpStream;
use crate::base::id::Id;
use crate::base::lock::lock;
use crate::base::report;
use crate::runtime::{Builder, Place, worker_count};
use crate::task::{Handle, ParkReason, WaitList, Waiting, current, wait_until, wake_all};
use crate::time::sleep;

/// Accepts connections, and runs `handler` for each in a coroutine of its own. Returns at once.
///
/// The coroutines run on the caller's runtime, or else on the default one. Each starts on the worker with the fewest
/// coroutines ([`Place::Balanced`](crate::Place)), because a coroutine stays where it has started. When the handler
/// returns, the connection is closed. A handler that panics closes its own connection and no other; the panic hook tells of it,
/// and the first time a line on stderr too.
///
/// A connection that cannot be accepted is no reason to stop: one that the peer has given up is passed over; with too
/// many open files, one is turned away, a line on stderr says so, and there is a pause, which grows from 5 ms to a
/// second for as long as that goes on.
///
/// # Panics
///
/// As [`go`](crate::go()).
///
/// # Examples
///
/// ```
/// use coro::net::{self, TcpListener, TcpStream};
/// use std::io::{Read, Write};
/// use std::time::Duration;
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let address = listener.local_addr()?;
/// let server = net::serve(listener, |mut stream, from| {
///     let _ = writeln!(stream, "hello, {from}");
/// });
/// let mut client = TcpStream::connect(address)?;
/// let mut text = String::new();
/// client.read_to_string(&mut text)?;
/// assert_eq!(text, format!("hello, {}\n", client.local_addr()?));
/// assert_eq!(server.shutdown(Duration::from_secs(1)), 0); // nobody had to be cancelled
/// # std::io::Result::Ok(())
/// ```
#[track_caller]
pub fn serve(
    listener: TcpListener,
    handler: impl Fn(TcpStream, SocketAddr) + Send + Sync + 'static,
) -> Server {
    let listener = Arc::new(listener);
    let state = State { first: Arc::downgrade(&listener), ..State::default() };
    let location = Location::caller();
    let shared = Shared { state: Mutex::new(state), handler: Box::new(handler), location };
    let server = Server { shared: Arc::new(shared) };
    if let Err(error) = server.accept_from(listener, Place::Stealable) {
        panic!("a server cannot be started: {error}");
    }
    server
}

/// A server that runs; made by [`serve`]. Its clones are the same server. It goes on when all of them are dropped.
///
/// # Examples
///
/// See [`serve`].
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    handler: Box<dyn Fn(TcpStream, SocketAddr) + Send + Sync>,
    /// Where `serve` was called.
    location: &'static Location<'static>,
}

#[derive(Default)]
struct State {
    /// How many connections there may be at a time; `None`: any number.
    limit: Option<usize>,
    open: usize,
    /// The coroutines that have begun with their connection.
    running: HashMap<Id, Handle>,
    acceptors: Vec<Handle>,
    /// How many acceptors have not ended.
    accepting: usize,
    /// Of the first acceptor.
    first: Weak<TcpListener>,
    /// Why an acceptor has ended.
    error: Option<io::Error>,
    phase: Phase,
    /// Those who wait for a change of the above.
    waiters: WaitList,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Default)]
enum Phase {
    #[default]
    Accepting,
    /// No connection is accepted any more.
    Ending,
    /// And those that there are were cancelled.
    Cancelling,
}

const REASON: ParkReason = ParkReason::new(Waiting::Connections, false);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Waits until `is_over` says so of the state, or until `deadline`; true: the former.
    #[track_caller]
    fn wait_until(
        &self,
        deadline: Option<Instant>,
        is_over: impl FnMut(&mut State) -> bool,
    ) -> bool {
        wait_until(&self.state, |state| &mut state.waiters, deadline, REASON, is_over)
    }

    /// Changes the state, and wakes who waits for that.
    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let changed = change(&mut self.lock());
        wake_all(&self.state, |state| &mut state.waiters);
        changed
    }
}

impl State {
    fn has_room(&self) -> bool {
        self.limit.is_none_or(|limit| self.open < limit)
    }
}

impl Server {
    /// At most so many connections at a time. More wait in the listener's queue until others have ended. Without this
    /// there is no limit but that of open files (`RLIMIT_NOFILE`).
    ///
    /// # Panics
    ///
    /// When `connections` is zero.
    ///
    /// # Examples
    ///
    /// ```
    /// # use coro::net::{self, TcpListener};
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let server = net::serve(listener, |_, _| ()).limit(10_000);
    /// # server.shutdown(std::time::Duration::ZERO);
    /// # std::io::Result::Ok(())
    /// ```
    #[track_caller]
    pub fn limit(self, connections: usize) -> Server {
        assert!(connections > 0, "a server has room for one connection at least");
        self.shared.change(|state| state.limit = Some(connections));
        self
    }

    /// Accepts on every worker, each with a listener of its own at the same address (`SO_REUSEPORT`), among which the
    /// kernel spreads the connections. It is for many short connections, of which one coroutine could not accept as many
    /// as come.
    ///
    /// # Errors
    ///
    /// What the kernel says if it refuses a listener. The server goes on as it was then.
    ///
    /// # Examples
    ///
    /// ```
    /// # use coro::net::{self, TcpListener};
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let server = net::serve(listener, |_, _| ()).per_worker()?;
    /// # server.shutdown(std::time::Duration::ZERO);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn per_worker(self) -> io::Result<Server> {
        let Some(first) = self.shared.lock().first.upgrade() else { return Ok(self) };
        socket2::SockRef::from(&*first).set_reuse_port(true)?;
        let address = first.local_addr()?;
        let workers = 1..worker_count()?;
        let more = workers.clone().map(|_| TcpListener::listen(address, true));
        for (listener, worker) in more.collect::<io::Result<Vec<_>>>()?.into_iter().zip(workers) {
            self.accept_from(Arc::new(listener), Place::Worker(worker))?;
        }
        Ok(self)
    }

    /// Accepts no more, waits up to `limit` until the connections have ended, cancels what is left then, and waits for the
    /// end of that. Gives how many were cancelled. Connections that the listener has not accepted are refused. A
    /// connection has ended when its exit handlers have run and what it has stored is dropped.
    ///
    /// A handler that waits for its client's next request does not end by itself: let it wait for the end of the server
    /// too, by `select!` over `readable` and a channel that is closed before this is called.
    ///
    /// # Panics
    ///
    /// Unwinds, without calling the panic hook, when the coroutine that waits is cancelled or a
    /// [`timeout`](crate::timeout) around it elapses; the server goes on to end.
    ///
    /// # Examples
    ///
    /// See [`serve`].
    pub fn shutdown(&self, limit: Duration) -> usize {
        let deadline = Instant::now().checked_add(limit);
        self.begin(Phase::Ending);
        let acceptors = std::mem::take(&mut self.shared.lock().acceptors);
        acceptors.iter().for_each(Handle::cancel);
        self.shared.wait_until(None, |state| state.accepting == 0);
        if self.shared.wait_until(deadline, |state| state.open == 0) {
            return 0;
        }
        self.begin(Phase::Cancelling);
        let (left, running) = {
            let state = self.shared.lock();
            (state.open, state.running.values().cloned().collect::<Vec<_>>())
        };
        running.iter().for_each(Handle::cancel);
        self.shared.wait_until(None, |state| state.open == 0);
        left
    }

    /// Waits until the server accepts no more, because of a [`shutdown`](Server::shutdown) or an error, and until its
    /// connections have ended.
    ///
    /// # Errors
    ///
    /// What the kernel has said of the listener, if that was the reason.
    ///
    /// # Panics
    ///
    /// Unwinds, without calling the panic hook, when the coroutine that waits is cancelled or a
    /// [`timeout`](crate::timeout) around it elapses.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # use coro::net::{self, TcpListener};
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let server = net::serve(listener, |_, _| ());
    /// let stopping = server.clone();
    /// coro::go(move || stopping.shutdown(Duration::from_secs(1)));
    /// server.join()
    /// # ?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn join(&self) -> io::Result<()> {
        self.shared.wait_until(None, |state| state.accepting == 0 && state.open == 0);
        self.shared.lock().error.take().map_or(Ok(()), Err)
    }

    /// How many connections there are.
    ///
    /// # Examples
    ///
    /// ```
    /// # use coro::net::{self, TcpListener};
    /// # let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let server = net::serve(listener, |_, _| ());
    /// assert_eq!(server.connections(), 0);
    /// # server.shutdown(std::time::Duration::ZERO);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn connections(&self) -> usize {
        self.shared.lock().open
    }

    /// Goes on to a phase, unless it is further.
    fn begin(&self, phase: Phase) {
        self.shared.change(|state| {
            if state.phase < phase {
                state.phase = phase;
            }
        });
    }

    /// Starts a coroutine that accepts.
    fn accept_from(&self, listener: Arc<TcpListener>, place: Place) -> io::Result<()> {
        self.shared.lock().accepting += 1;
        let acceptor = Acceptor { listener, server: Accepting(Arc::clone(&self.shared)) };
        let started = Builder::new()
            .name("accept")
            .location(self.shared.location)
            .place(place)
            .spawn(move || acceptor.run())?;
        let mut state = self.shared.lock();
        // A shutdown that has begun meanwhile may have found it missing.
        if state.phase == Phase::Accepting {
            state.acceptors.push(started.handle());
        } else {
            drop(state);
            started.handle().cancel();
        }
        Ok(())
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut server = f.debug_struct("Server");
        server.field("connections", &self.connections()).finish_non_exhaustive()
    }
}

/// What accepts from one listener.
struct Acceptor {
    listener: Arc<TcpListener>,
    /// Dropped last, when the listener is closed.
    server: Accepting,
}

/// A server that somebody accepts for, who counts. The drop says that it is over.
struct Accepting(Arc<Shared>);

/// The first pause after an error that may pass, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// What an error of `accept` means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Failure {
    /// It is of one connection.
    Connection,
    /// Something is used up.
    Resources,
    /// The listener can be used no more.
    Listener,
}

/// As accept(2) tells them apart.
fn failure(error: &io::Error) -> Failure {
    match error.raw_os_error() {
        Some(
            libc::ECONNABORTED
            | libc::EPERM
            | libc::EPROTO
            | libc::ENOPROTOOPT
            | libc::ENETDOWN
            | libc::EHOSTDOWN
            | libc::ENONET
            | libc::EHOSTUNREACH
            | libc::ENETUNREACH
            | libc::ETIMEDOUT
            | libc::EINTR,
        ) => Failure::Connection,
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => Failure::Resources,
        None if error.kind() == io::ErrorKind::OutOfMemory => Failure::Resources,
        _ => Failure::Listener,
    }
}

impl Acceptor {
    fn run(self) {
        let mut reserve = open_reserve();
        let mut pause = PAUSES.0;
        loop {
            self.server.wait_until(None, |state| state.has_room());
            let error = match self.listener.accept() {
                Ok((stream, from)) => {
                    pause = PAUSES.0;
                    self.start(stream, from);
                    continue;
                }
                Err(error) => error,
            };
            match failure(&error) {
                Failure::Connection => {}
                Failure::Resources => {
                    if pause == PAUSES.0 {
                        tell(&error);
                    }
                    if reserve.take().is_some() {
                        self.turn_one_away();
                        reserve = open_reserve();
                    }
                    sleep(pause);
                    pause = PAUSES.1.min(pause * 2);
                }
                Failure::Listener => {
                    self.server.lock().error = Some(error);
                    return;
                }
            }
        }
    }

    /// Starts the coroutine of a connection, when there is room for it.
    fn start(&self, stream: TcpStream, from: SocketAddr) {
        // Another acceptor may have had the room that there was.
        self.server.wait_until(None, |state| {
            let has_room = state.has_room();
            state.open += usize::from(has_room);
            has_room
        });
        let connection = Connection { shared: Arc::clone(&self.server.0), id: None };
        let accepted = Accepted { stream, from, connection };
        let builder = Builder::new().location(self.server.location).place(Place::Balanced);
        // If it is refused, the connection is closed.
        let _ = builder.spawn(move || accepted.serve());
    }

    /// Closes a connection that there is no descriptor for, so that its client is not left to wait.
    fn turn_one_away(&self) {
        let _ = self.listener.set_nonblocking(true);
        drop(self.listener.accept());
        let _ = self.listener.set_nonblocking(false);
    }
}

impl Deref for Accepting {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        self.change(|state| state.accepting -= 1);
    }
}

/// A descriptor that can be spared.
fn open_reserve() -> Option<File> {
    File::open("/dev/null").ok()
}

fn tell(error: &io::Error) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        report::line(format_args!(
            "coro: a connection cannot be accepted: {error}; connections are turned away until that \
             is over; raise the limit (RLIMIT_NOFILE), or give the server one (`Server::limit`)"
        ));
    });
}

crate::local! {
    /// What the coroutine has stored first, and so is dropped last in its cleanup: the connection counts until then.
    static CONNECTION: Cell<Option<Connection>> = const { Cell::new(None) };
}

/// What the coroutine of a connection is given.
struct Accepted {
    stream: TcpStream,
    from: SocketAddr,
    /// Dropped last, when the stream is closed.
    connection: Connection,
}

impl Accepted {
    fn serve(self) {
        // Dropped in the reverse order.
        let Accepted { mut connection, from, stream } = self;
        if connection.begin() {
            let shared = Arc::clone(&connection.shared);
            CONNECTION.set(Some(connection));
            (shared.handler)(stream, from);
        }
    }
}

/// A connection that counts. Its drop says that it has ended.
struct Connection {
    shared: Arc<Shared>,
    /// Of its coroutine, once it has begun.
    id: Option<Id>,
}

impl Connection {
    /// By the connection's coroutine. False: it came too late.
    fn begin(&mut self) -> bool {
        let handle = current().expect("a coroutine");
        let mut state = self.shared.lock();
        if state.phase == Phase::Cancelling {
            return false;
        }
        self.id = Some(handle.id());
        state.running.insert(handle.id(), handle);
        true
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let handle = self.shared.change(|state| {
            state.open -= 1;
            self.id.and_then(|id| state.running.remove(&id))
        });
        drop(handle);
    }
}
