//! What the signal handler of a profiler asks: whom it has interrupted.

use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::future::Future;
use std::pin::pin;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use coro::inspect::{self, RunningCoroutine};
use coro::tls::Id;
use coro::{Builder, Place, Runtime};

use crate::common::{self, Gate, in_child};

/// How many samples are taken of coroutines.
const ENOUGH: usize = 5_000;
const NOBODY: u64 = u64::MAX;

/// What the handler has seen: each word `NOBODY`, or a fact.
struct Sample {
    /// By the stack pointer.
    id_at: AtomicU64,
    running: AtomicU64,
    /// From its name.
    number: AtomicU64,
    line: AtomicU64,
}

static SAMPLES: [Sample; ENOUGH] = [const {
    Sample {
        id_at: AtomicU64::new(NOBODY),
        running: AtomicU64::new(NOBODY),
        number: AtomicU64::new(NOBODY),
        line: AtomicU64::new(NOBODY),
    }
}; ENOUGH];
static TAKEN: AtomicUsize = AtomicUsize::new(0);

extern "C" fn take(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel's, for this handler.
    let sp =
        unsafe { (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs[libc::REG_RSP as usize] };
    let sp = sp as usize;
    let (id, running) = (inspect::id_at(sp), inspect::running());
    if id.is_none() && running.is_none() {
        return;
    }
    let Some(sample) = SAMPLES.get(TAKEN.fetch_add(1, Ordering::Relaxed)) else { return };
    assert_eq!(
        inspect::stack_bounds_at(sp).is_some_and(|bounds| bounds.contains(&sp)),
        id.is_some()
    );
    sample.id_at.store(id.map_or(NOBODY, Id::get), Ordering::Relaxed);
    let Some(running) = running else { return };
    let number = running.name().and_then(|name| name.strip_prefix("number ")?.parse().ok());
    sample.running.store(running.id().get(), Ordering::Relaxed);
    sample.number.store(number.unwrap_or(NOBODY), Ordering::Relaxed);
    sample.line.store(running.spawned_at().line().into(), Ordering::Relaxed);
}

/// Has SIGPROF taken on a stack of its own, every millisecond of the process's time.
fn start_profiling() {
    // SAFETY: live locals of the right types; the handler allocates nothing and takes no lock.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = take as *const () as usize;
        action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK | libc::SA_SIGINFO;
        assert_eq!(libc::sigaction(libc::SIGPROF, &action, ptr::null_mut()), 0);
        let every = libc::timeval { tv_sec: 0, tv_usec: 1_000 };
        let timer = libc::itimerval { it_interval: every, it_value: every };
        assert_eq!(libc::setitimer(libc::ITIMER_PROF, &timer, ptr::null_mut()), 0);
    }
}

/// Where the coroutines are spawned.
const NAMED: u32 = line!() + 10;
const UNNAMED: u32 = NAMED + 2;

/// Starts the coroutine of this number. Those with an even number have a name.
fn start(runtime: &Runtime, number: u64) -> coro::JoinHandle<()> {
    let body = move || {
        coro::yield_now();
        std::hint::black_box((0..2_000).fold(number, |sum, n| std::hint::black_box(sum ^ n)));
    };
    match number % 2 {
        0 => Builder::new().name(format!("number {number}")).spawn_on(runtime, body).unwrap(),
        // Here, and not in the line above.
        _ => runtime.go(body),
    }
}

/// Coroutines start, yield and end, and each sample is of one that there was, with its own name.
#[test]
fn fault_a_profilers_handler_knows_everybody() {
    in_child("fault_a_profilers_handler_knows_everybody", common::CHILDS_LIMIT, || {
        let runtime = common::runtime(2);
        let thread_of = |worker| {
            let place = Builder::new().place(Place::Worker(worker));
            // SAFETY: asks for a number.
            let asks = place.spawn_on(&runtime, || unsafe { libc::pthread_self() }).unwrap();
            (asks.id().get(), asks.join().unwrap())
        };
        let (ids, threads): (Vec<_>, Vec<_>) = [thread_of(0), thread_of(1)].into_iter().unzip();
        start_profiling();
        let over = AtomicBool::new(false);
        let mut numbers = HashMap::new();
        thread::scope(|scope| {
            let (over, threads) = (&over, &threads);
            // The kernel's clock ticks a few hundred times a second only.
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    for &thread in threads {
                        // SAFETY: the workers' threads, which live until the runtime ends.
                        unsafe { libc::pthread_kill(thread, libc::SIGPROF) };
                    }
                    thread::yield_now();
                }
            });
            while TAKEN.load(Ordering::Relaxed) < ENOUGH {
                let first = numbers.len() as u64;
                let some: Vec<_> =
                    (first..first + 100).map(|number| (start(&runtime, number), number)).collect();
                for (coroutine, number) in some {
                    numbers.insert(coroutine.id().get(), number);
                    coroutine.join().unwrap();
                }
            }
            over.store(true, Ordering::Relaxed);
        });
        runtime.shutdown();
        check(&numbers, &ids);
    });
}

/// `others` may have been at their ends still.
fn check(numbers: &HashMap<u64, u64>, others: &[u64]) {
    let mut seen = [0; 3];
    for sample in &SAMPLES {
        let [id_at, running, number, line] =
            [&sample.id_at, &sample.running, &sample.number, &sample.line]
                .map(|fact| fact.load(Ordering::Relaxed));
        if running == NOBODY {
            assert_eq!(id_at, NOBODY, "nobody runs there");
            continue;
        }
        if others.contains(&running) {
            continue;
        }
        // It may be on its way to the coroutine's stack, or back.
        assert!(id_at == running || id_at == NOBODY, "{id_at} on the stack of {running}");
        let expected = *numbers.get(&running).expect("a coroutine that there was");
        let named = expected.is_multiple_of(2);
        assert_eq!(line, if named { NAMED } else { UNNAMED }.into());
        // At its very end it has none.
        assert!(number == NOBODY || (named && number == expected), "{number}, not {expected}");
        seen[match (named, number) {
            (true, NOBODY) => 0,
            (true, _) => 1,
            (false, _) => 2,
        }] += 1;
    }
    assert!(seen[1] > ENOUGH / 10 && seen[2] > ENOUGH / 10, "{seen:?}");
}

/// A waker that asks who runs.
#[derive(Default)]
struct Asks(Mutex<Option<RunningCoroutine>>);

impl Wake for Asks {
    fn wake(self: Arc<Self>) {
        *self.0.lock().unwrap() = inspect::running();
    }
}

/// Its name goes with it, when others may free it.
#[test]
fn fault_who_has_ended_has_no_name() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(1);
    let gate = Gate::default();
    let body = {
        let gate = gate.clone();
        move || {
            gate.block();
            assert_eq!(inspect::running().unwrap().name(), Some("ends"));
        }
    };
    let coroutine = Builder::new().name("ends").spawn_on(&runtime, body).unwrap();
    let id = coroutine.id();
    let asks = Arc::new(Asks::default());
    let waker = Waker::from(Arc::clone(&asks));
    let mut coroutine = pin!(coroutine);
    assert!(coroutine.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    gate.open();
    let ended = loop {
        if let Some(ended) = asks.0.lock().unwrap().take() {
            break ended;
        }
        thread::yield_now();
    };
    assert_eq!((ended.id(), ended.name()), (id, None));
    let Poll::Ready(Ok(())) = coroutine.poll(&mut Context::from_waker(&waker)) else { panic!() };
}

/// What is too long is cut between two characters.
#[test]
fn fault_long_names_are_cut() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(1);
    let name = "x".to_owned() + &"é".repeat(100);
    let ask = || inspect::running().unwrap().name().map(str::to_owned);
    let cut = Builder::new().name(name.clone()).spawn_on(&runtime, ask).unwrap();
    assert_eq!(cut.join().unwrap().unwrap(), name[..63]);
    let empty = Builder::new().name("").spawn_on(&runtime, ask).unwrap();
    assert_eq!(empty.join().unwrap().as_deref(), Some(""));
}
