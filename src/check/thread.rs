//! The checker: what a suspension asks, and the thread that answers.
//!
//! A suspension waits for the answer with a lock and a condition variable. It does not receive from a channel:
//! that waits by `std::thread::park`, and may take the token of an `unpark` that was meant for the thread's own code.
//! No lock is held while user code runs.

use std::collections::{HashMap, HashSet};
use std::io;
use std::process;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, mpsc};

use super::VARIABLE;
use super::names::functions_at;
use super::report::Violation;
use super::rules::{Finding, Rules};
use super::walk::{Section, each_frame};
use crate::base::lock::{lock, wait};
use crate::base::{env, report};
use crate::record::stack_pointer;
use crate::stack;
use crate::{fork, thread};

/// There once the checker has started and proved itself.
static CHECKER: OnceLock<Checker> = OnceLock::new();

struct Checker {
    /// The hashes of the call chains that break no rule.
    good: Arc<RwLock<HashSet<u64>>>,
    chains: mpsc::Sender<FrameChain>,
}

/// A call chain that was not seen before, on its way to the thread.
struct FrameChain {
    hash: u64,
    /// The return addresses, the innermost first.
    addresses: Vec<usize>,
    /// Whether the last is the root's.
    is_whole: bool,
    /// The coroutine that suspends.
    who: String,
    /// Told when the chain breaks no rule.
    done: Arc<Answer<()>>,
}

/// A value that one thread waits for.
struct Answer<T> {
    value: Mutex<Option<T>>,
    given: Condvar,
}

impl<T> Answer<T> {
    fn new() -> Arc<Self> {
        Arc::new(Answer { value: Mutex::new(None), given: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, Option<T>> {
        lock(&self.value)
    }

    fn give(&self, value: T) {
        *self.lock() = Some(value);
        self.given.notify_one();
    }

    fn wait(&self) -> T {
        let mut value = self.lock();
        loop {
            match value.take() {
                Some(value) => return value,
                None => value = wait(&self.given, value),
            }
        }
    }
}

/// Starts the checker, if `CORO_CHECK` asks for it and it does not run yet.
///
/// # Errors
///
/// When there is no thread for it, or it cannot see what it is to look for.
///
/// # Panics
///
/// When `CORO_CHECK` holds nonsense.
#[track_caller]
pub(crate) fn start() -> io::Result<()> {
    let Some(rules) = env::variable(VARIABLE, Rules::SYNTAX, Rules::parse) else {
        return Ok(());
    };
    static STARTING: Mutex<()> = Mutex::new(());
    let _starting = lock(&STARTING);
    if CHECKER.get().is_some() {
        return Ok(());
    }
    fork::watch()?;
    let good = Arc::default();
    let (chains, received) = mpsc::channel();
    let proof = Answer::new();
    let serve = {
        let (good, proof) = (Arc::clone(&good), Arc::clone(&proof));
        move || {
            let mut judge = Judge { rules, seen: HashMap::new(), ends: HashSet::new() };
            proof.give(judge.prove());
            // Ends at once where there is no proof, for then nobody sends.
            judge.serve(&received, &good);
        }
    };
    let no_thread = |error: io::Error| {
        let message = format!(
            "{VARIABLE}: no thread for the checker: {error}; see ulimit -u, pids.max of the cgroup"
        );
        io::Error::new(error.kind(), message)
    };
    thread::spawn("nesting-check", serve).map_err(no_thread)?;
    proof.wait().map_err(|blind| io::Error::new(io::ErrorKind::Unsupported, blind))?;
    let _ = CHECKER.set(Checker { good, chains });
    Ok(())
}

/// How many threads the checker has.
pub(crate) fn threads() -> usize {
    usize::from(CHECKER.get().is_some())
}

/// Called before a coroutine is suspended. `root` is an address on its stack, and `who` says what reports call
/// it. Does not return if the coroutine breaks the nesting rule.
#[inline(always)]
pub(crate) fn suspension(root: *const (), who: impl FnOnce() -> String) {
    // Acquire, inside: whoever sees the checker may use it.
    if let Some(checker) = CHECKER.get() {
        checker.look(root, who);
    }
}

impl Checker {
    #[cold]
    #[inline(never)]
    fn look(&self, root: *const (), who: impl FnOnce() -> String) {
        if fork::is_child() {
            // The thread is the parent's, and so may be whoever held the lock.
            return;
        }
        let bounds = stack::bounds_of(root.addr()).expect("a coroutine's stack is a slot");
        let section = Section { inside: stack_pointer(), root: bounds };
        let hash = section.hash();
        let is_good = self.good.read().unwrap_or_else(PoisonError::into_inner).contains(&hash);
        if !is_good {
            self.ask(section, hash, who());
        }
    }

    #[inline(never)]
    fn ask(&self, section: Section, hash: u64, who: String) {
        let mut addresses = Vec::new();
        let is_whole = section.walk(|address| addresses.push(address));
        let done = Answer::new();
        let chain = FrameChain { hash, addresses, is_whole, who, done: Arc::clone(&done) };
        self.chains.send(chain).expect("the checker's thread does not end");
        done.wait();
    }
}

/// What the thread knows.
struct Judge {
    rules: Rules,
    /// The return addresses seen so far, and whether each is inside a function of the rules.
    seen: HashMap<usize, bool>,
    /// The last frames of the chains that could not be followed to their root.
    ends: HashSet<usize>,
}

impl Judge {
    /// Takes chains until the process ends, and answers those that break no rule.
    fn serve(&mut self, chains: &mpsc::Receiver<FrameChain>, good: &RwLock<HashSet<u64>>) {
        for chain in chains {
            if chain.addresses.iter().any(|&address| self.breaks_rule(address)) {
                report::line(format_args!(
                    "{}",
                    Violation::new(&chain.who, &chain.addresses, &self.rules)
                ));
                process::abort();
            }
            if !chain.is_whole {
                self.tell_of_end(&chain);
            }
            good.write().unwrap_or_else(PoisonError::into_inner).insert(chain.hash);
            chain.done.give(());
        }
    }

    fn breaks_rule(&mut self, address: usize) -> bool {
        let rules = &self.rules;
        *self.seen.entry(address).or_insert_with(|| {
            functions_at(address).iter().any(|function| rules.find(function).is_some())
        })
    }

    /// Says once where the frames of a stack cannot be followed any further.
    fn tell_of_end(&mut self, chain: &FrameChain) {
        let Some(&end) = chain.addresses.last() else { return };
        if self.ends.insert(end) {
            let functions = functions_at(end);
            let name =
                functions.last().map_or("a function without a name", |function| function.name());
            report::line(format_args!(
                "coro: {VARIABLE}: the frames of {} cannot be followed beyond {name} at {end:#x}, whose caller \
                 has no unwind table; what is further out is not checked",
                chain.who
            ));
        }
    }

    /// Whether a frame of a thread-local's initialiser would be found, even one that the compiler has
    /// inlined; otherwise why not.
    fn prove(&self) -> Result<(), &'static str> {
        thread_local! {
            static INSIDE: Vec<usize> = {
                let mut addresses = Vec::new();
                each_frame(|address, _| {
                    addresses.push(address);
                    addresses.len() < 64
                });
                addresses
            };
        }
        let functions: Vec<_> = INSIDE.with(|addresses| {
            addresses.iter().flat_map(|&address| functions_at(address)).collect()
        });
        if !functions.iter().any(|function| function.has_line_in(file!())) {
            return Err(NO_LINES);
        }
        let is_found = functions
            .iter()
            .any(|function| self.rules.find(function).is_some_and(Finding::is_initialiser));
        if is_found { Ok(()) } else { Err(UNKNOWN_STD) }
    }
}

const NO_LINES: &str = "CORO_CHECK=nesting: the frames of a thread_local's initialiser cannot be recognised in this \
                        program; build it with line tables (debug = \"line-tables-only\" in its Cargo profile) \
                        and do not strip it";

const UNKNOWN_STD: &str = "CORO_CHECK=nesting: the frames of a thread_local's initialiser cannot be recognised in \
                           this program: its standard library is one that this version of goexit does not know";
