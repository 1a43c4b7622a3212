//! What the integration tests share: a watchdog for every test, runtimes of every size that matters,
//! and a way to run a case in a process of its own.
//!
//! A test that can hang starts with [`watchdog`]. A test that must die, or that changes its process
//! (limits, signals, the default runtime), runs itself again as a child:
//!
//! ```ignore
//! #[test]
//! fn stack_dies_politely() {
//!     let _watchdog = common::watchdog();
//!     if common::is_child("overflow") {
//!         overflow();
//!     }
//!     let output = common::child("stack_dies_politely", "overflow");
//!     assert_eq!(common::signal(&output), Some(libc::SIGABRT), "{output:?}");
//!     assert!(common::stderr(&output).contains("overflowed its stack"));
//! }
//! ```
//!
//! Panics that a test causes on purpose carry a message or payload made by [`planned`], and a test
//! that causes many begins with [`quiet`], which keeps them out of the output.

// Every test binary is a crate of its own and uses a part of this.
#![allow(dead_code)]

use std::any::Any;
use std::env;
use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::panic;
use std::process::{self, Command, Output};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, Once, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use coro::raw::{Coroutine, Yielder};
use coro::{JoinError, JoinHandle, Runtime};

/// How many workers the runtimes of a test have: one, where everything takes turns; two, where
/// every race between a pair can happen; four, which is more than many machines have cores.
pub(crate) const WORKERS: [usize; 3] = [1, 2, 4];

/// How long a test may take. Generous, because several test processes may share two cores: it is there for
/// what would never end.
const LIMIT: Duration = Duration::from_secs(180);

/// How long a child may take: one that hangs is ended before its parent is, which then tells of it.
pub(crate) const CHILDS_LIMIT: Duration = Duration::from_secs(150);

/// How long a single wait may take that would be for ever if something is lost, where the test has more to
/// say of it than its watchdog would. `ci/mutants.sh` gives a test 20 seconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// Ends the process, with a message, if it is not dropped in time.
#[must_use = "the watchdog watches for as long as it is held"]
pub(crate) struct Watchdog {
    /// Dropping it tells the watching thread that the test has ended.
    _done: mpsc::Sender<()>,
}

/// Watches the calling test for as long as any may take.
#[track_caller]
pub(crate) fn watchdog() -> Watchdog {
    watchdog_for(LIMIT)
}

/// Watches the calling test for `limit`.
#[track_caller]
pub(crate) fn watchdog_for(limit: Duration) -> Watchdog {
    let place = panic::Location::caller();
    let (done, watched) = mpsc::channel::<()>();
    thread::Builder::new()
        .name(String::from("watchdog"))
        .spawn(move || {
            if watched.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
                eprintln!("watchdog: the test at {place} is still not over after {limit:?}");
                process::abort();
            }
        })
        .expect("a thread for the watchdog");
    Watchdog { _done: done }
}

/// A runtime of `workers` workers.
pub(crate) fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().expect("a runtime")
}

/// Runs `test` with a runtime of one worker, of two and of four, and shuts each down after it.
pub(crate) fn on_workers(mut test: impl FnMut(&Runtime, usize)) {
    for workers in WORKERS {
        let runtime = runtime(workers);
        test(&runtime, workers);
        runtime.shutdown();
    }
}

/// Where a child finds the name of its case.
const CASE: &str = "CORO_TEST_CHILD";

/// Whether this process was started by [`child`] to run `case`.
pub(crate) fn is_child(case: &str) -> bool {
    child_case().as_deref() == Some(case)
}

/// The case that this process was started by [`child`] to run.
pub(crate) fn child_case() -> Option<String> {
    env::var(CASE).ok()
}

/// Whether the frames of each suspension are looked through, which takes time and stack.
pub(crate) fn is_checked() -> bool {
    env::var_os("CORO_CHECK").is_some_and(|value| !value.is_empty())
}

/// Writes a line to stderr, in one piece: a thread of the library may be telling something at the same time.
pub(crate) fn say(line: fmt::Arguments<'_>) {
    io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// Runs `test`, alone, in a new process where [`is_child`] holds for `case`; waits for its end.
pub(crate) fn child(test: &str, case: &str) -> Output {
    child_command(test, case).output().expect("the test's own executable can be run")
}

/// The path of the test of this binary with this name: its modules and its name. The harness would run no test, and
/// end well, if it were given the name of a test that is in a module.
fn path_of(test: &str) -> &'static str {
    static PATHS: OnceLock<Vec<String>> = OnceLock::new();
    let paths = PATHS.get_or_init(|| {
        let list = Command::new(env::current_exe().expect("the test's own executable"))
            .args(["--list", "--format=terse"])
            .output()
            .expect("the test's own executable can be run");
        stdout(&list).lines().filter_map(|line| Some(line.strip_suffix(": test")?.into())).collect()
    });
    let is_it = |path: &&String| path.rsplit("::").next() == Some(test);
    let mut found = paths.iter().filter(is_it);
    match (found.next(), found.next()) {
        (Some(path), None) => path,
        _ => panic!("{test} is the name of no test, or of several"),
    }
}

/// The command that [`child`] runs, for callers who add to it.
///
/// The process leaves no core file, and dies with the thread that starts it, so a test that is
/// aborted by its watchdog leaves nothing behind.
pub(crate) fn child_command(test: &str, case: &str) -> Command {
    let mut command = child_command_with_core_file(test, case);
    let prepare = || {
        let no_core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: a system call that is allowed between fork and exec; the limit is on our stack.
        unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const no_core) };
        Ok(())
    };
    // SAFETY: `prepare` allocates nothing and takes no lock.
    unsafe { command.pre_exec(prepare) };
    command
}

/// Has `tool`, such as a debugger, run what `command` would run: adds its program, arguments and environment.
pub(crate) fn run_below<'a>(tool: &'a mut Command, command: &Command) -> &'a mut Command {
    tool.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => tool.env(name, value),
            None => tool.env_remove(name),
        };
    }
    tool
}

/// As [`child_command`], for a process that leaves a core file, as far as its limits allow that.
pub(crate) fn child_command_with_core_file(test: &str, case: &str) -> Command {
    let mut command = Command::new(env::current_exe().expect("the test's own executable"));
    command
        .args([path_of(test), "--exact", "--nocapture", "--test-threads=1"])
        .env(CASE, case)
        .env("RUST_BACKTRACE", "0")
        .env_remove("CORO_WORKERS");
    let prepare = || {
        // SAFETY: a system call that is allowed between fork and exec.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        Ok(())
    };
    // SAFETY: `prepare` allocates nothing and takes no lock.
    unsafe { command.pre_exec(prepare) };
    command
}

/// Runs `body` in a child process of the calling test, whose name is `test`; in the parent, checks that
/// it ended well.
#[track_caller]
pub(crate) fn in_child(test: &str, limit: Duration, body: impl FnOnce()) {
    let _watchdog = watchdog_for(limit);
    if is_child(test) {
        body();
        process::exit(0);
    }
    let output = child(test, test);
    assert!(output.status.success(), "{}\n{}\n{}", output.status, stdout(&output), stderr(&output));
}

/// The signal that ended a child.
pub(crate) fn signal(output: &Output) -> Option<i32> {
    output.status.signal()
}

/// What a child wrote to stderr.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What a child wrote to stdout; begins with what the test harness says.
pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// How many files this process may open, and those that it starts, which is as many as the system grants from here on.
pub(crate) fn open_files() -> libc::rlim_t {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a live local, in both calls.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
        limit.rlim_cur = limit.rlim_max;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
    }
    limit.rlim_cur
}

/// Waits for a process that was forked here; gives what `waitpid` says of its end.
pub(crate) fn wait_for_forked(pid: libc::pid_t) -> i32 {
    let mut status = -1;
    // SAFETY: a live local.
    while unsafe { libc::waitpid(pid, &raw mut status, 0) } != pid {
        let error = io::Error::last_os_error();
        assert_eq!(error.kind(), io::ErrorKind::Interrupted, "{error}");
    }
    status
}

/// Checks that a coroutine was cancelled.
#[track_caller]
pub(crate) fn assert_cancelled<T>(outcome: Result<T, JoinError>) {
    match outcome {
        Err(JoinError::Cancelled) => {}
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it gave a value"),
    }
}

/// What [`planned`] messages begin with.
const PLANNED: &str = "planned: ";

/// Panics as part of a test; see [`quiet`].
pub(crate) fn planned(what: &str) -> ! {
    panic!("{PLANNED}{what}");
}

/// Whether `payload` is that of `planned(what)`.
pub(crate) fn is_planned(payload: &(dyn Any + Send), what: &str) -> bool {
    message(payload).strip_prefix(PLANNED) == Some(what)
}

/// A payload that is no message, for planned panics too; what is inside tells when it is dropped.
pub(crate) struct Payload(pub(crate) Box<dyn Any + Send>);

/// How many planned panics the panic hook has seen since [`quiet`] was first called.
static REPORTED: AtomicUsize = AtomicUsize::new(0);

/// Keeps planned panics out of the output from now on, and counts them; see [`reported`].
pub(crate) fn quiet() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let payload = info.payload();
            if message(payload).starts_with(PLANNED) || payload.is::<Payload>() {
                REPORTED.fetch_add(1, Ordering::Relaxed);
            } else {
                before(info);
            }
        }));
    });
}

/// How many planned panics were reported to the panic hook, in the whole process.
pub(crate) fn reported() -> usize {
    REPORTED.load(Ordering::Relaxed)
}

/// The message of a panic, empty where the payload is none.
pub(crate) fn message<'a>(payload: &'a (dyn Any + 'static)) -> &'a str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("")
}

/// A counter that many may hold: of runs, of drops, of whatever must come out exact.
#[derive(Clone, Default, Debug)]
pub(crate) struct Counter(Arc<AtomicUsize>);

impl Counter {
    /// One more.
    pub(crate) fn add(&self) {
        // Release: pairs with `get`, so that who has seen the count sees what was done before it.
        self.0.fetch_add(1, Ordering::Release);
    }

    /// How many so far.
    /// A function that counts.
    pub(crate) fn adder(&self) -> impl FnOnce() + 'static {
        let counter = self.clone();
        move || counter.add()
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }

    /// Something that counts when it is dropped.
    pub(crate) fn on_drop(&self) -> OnDrop {
        OnDrop(self.clone())
    }

    /// Waits, by yielding, until the count is at least `n`; on a coroutine and on a thread.
    pub(crate) fn wait_for(&self, n: usize) {
        while self.get() < n {
            coro::yield_now();
        }
    }
}

/// Counts one when it is dropped; from [`Counter::on_drop`].
#[derive(Debug)]
pub(crate) struct OnDrop(Counter);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.add();
    }
}

/// A door that is shut until it is opened.
#[derive(Clone, Default, Debug)]
pub(crate) struct Gate(Arc<GateState>);

#[derive(Default, Debug)]
struct GateState {
    open: AtomicBool,
    lock: Mutex<()>,
    opened: Condvar,
}

impl Gate {
    /// Lets everybody through, from now on.
    pub(crate) fn open(&self) {
        let _lock = self.0.lock.lock().unwrap();
        // Release: pairs with `is_open`.
        self.0.open.store(true, Ordering::Release);
        self.0.opened.notify_all();
    }

    /// Whether it is.
    pub(crate) fn is_open(&self) -> bool {
        self.0.open.load(Ordering::Acquire)
    }

    /// Blocks the calling thread until the gate is open; on a coroutine, its worker.
    pub(crate) fn block(&self) {
        let lock = self.0.lock.lock().unwrap();
        drop(self.0.opened.wait_while(lock, |()| !self.is_open()).unwrap());
    }

    /// Waits, by yielding, until the gate is open; on a coroutine and on a thread.
    pub(crate) fn pass(&self) {
        while !self.is_open() {
            coro::yield_now();
        }
    }
}

/// Workers that can run nothing until this is dropped; from [`occupy`].
#[must_use = "the workers are free again when it is dropped"]
pub(crate) struct Occupied {
    gate: Gate,
    blockers: Vec<JoinHandle<()>>,
}

/// Keeps `n` workers of a runtime busy: what is spawned meanwhile stays fresh, if `n` is all of them.
pub(crate) fn occupy(runtime: &Runtime, n: usize) -> Occupied {
    let gate = Gate::default();
    let inside = Counter::default();
    let block = || {
        let (gate, inside) = (gate.clone(), inside.clone());
        runtime.go(move || {
            inside.add();
            gate.block();
        })
    };
    let blockers = (0..n).map(|_| block()).collect();
    inside.wait_for(n);
    Occupied { gate, blockers }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        self.gate.open();
        for blocker in self.blockers.drain(..) {
            let _ = blocker.join();
        }
    }
}

/// Runs `f` on a thread of its own and returns its handle as soon as `f` blocks in the kernel, which
/// it must.
///
/// A thread also sleeps for a moment where it waits for a lock, say the allocator's. So it has to be found
/// asleep several times, and not to have run in between.
pub(crate) fn spawn_until_blocked<T: Send + 'static>(
    f: impl FnOnce() -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    const LOOKS: usize = 10;
    let tid = Arc::new(AtomicUsize::new(0));
    let here = Arc::clone(&tid);
    let thread = thread::spawn(move || {
        // SAFETY: a system call without arguments.
        let me = unsafe { libc::gettid() };
        here.store(me as usize, Ordering::Release);
        f()
    });
    let (mut found, mut before) = (0, None);
    while found < LOOKS {
        let tid = tid.load(Ordering::Acquire);
        let status =
            fs::read_to_string(format!("/proc/self/task/{tid}/status")).unwrap_or_default();
        let field =
            |key| status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        let asleep = field("State:").trim_start().starts_with('S');
        let switches = asleep.then(|| field("voluntary_ctxt_switches:").to_owned());
        found = if asleep && switches == before { found + 1 } else { 0 };
        before = switches;
        assert!(!thread.is_finished(), "it was to block");
        // Not as a means to wait for it, which the looks are.
        thread::sleep(Duration::from_millis(1));
    }
    thread
}

/// Runs its function when it is dropped.
pub(crate) struct RunOnDrop<F: FnMut()>(pub(crate) F);

impl<F: FnMut()> Drop for RunOnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// A raw coroutine that the test owns.
pub(crate) fn raw<In, Yield, Ret>(
    stack_size: usize,
    f: impl FnOnce(&Yielder<In, Yield>, In) -> Ret + 'static,
) -> io::Result<Coroutine<In, Yield, Ret>> {
    // SAFETY: each test drops its coroutines before their thread ends, or is about one that does not.
    unsafe { Coroutine::new(stack_size, f) }
}

/// Makes the process one that is refused every thread while it is limited; see [`limit_threads`].
pub(crate) fn become_limitable() {
    // Root's threads are not limited. Where this is refused, root is no more than a name.
    // SAFETY: takes a number.
    let _ = unsafe { libc::setuid(65534) };
}

/// Has the process refused every further thread, or none again.
pub(crate) fn limit_threads(limited: bool) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: changes this process alone; the hard limit stays.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NPROC, &raw mut limit), 0);
        limit.rlim_cur = if limited { 1 } else { limit.rlim_max };
        assert_eq!(libc::setrlimit(libc::RLIMIT_NPROC, &raw const limit), 0);
    }
    assert_eq!(thread::Builder::new().spawn(|| ()).is_err(), limited);
}
