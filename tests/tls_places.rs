//! The store and the identity on every kind of stack that a program can run on: the main thread,
//! threads of std and of C, stacks that others have made, signal stacks, and the destructors of
//! a thread. The answer is that of the coroutine whose stack it is, and otherwise that of the thread.

mod common;

use std::alloc::{Layout, alloc, dealloc};
use std::cell::{Cell, OnceCell};
use std::mem::MaybeUninit;
use std::num::NonZeroUsize;
use std::ptr;
use std::sync::Once;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use coro::inspect;
use coro::raw;
use coro::tls;
use corosensei::CoroutineResult;
use corosensei::stack::{Stack, StackPointer};
use libc::{c_int, c_void};

use common::{child, is_child, on_workers, runtime, signal, stdout, watchdog};

/// Everything that tells where we are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Here {
    id: tls::Id,
    record: Option<usize>,
    task: Option<tls::Id>,
    /// What is stored under "place".
    place: Option<&'static str>,
}

impl Here {
    #[inline(never)]
    fn look() -> Here {
        let (local, record) = (0u8, inspect::record_address());
        let bounds = inspect::stack_bounds();
        // All of `inspect` agrees on whether this is a coroutine's stack.
        assert_eq!(bounds.is_some(), record.is_some());
        if let Some(bounds) = bounds {
            assert!(bounds.contains(&(&raw const local as usize)));
            assert!(bounds.contains(&record.unwrap()));
        } else {
            assert_eq!(inspect::exit_target(), None);
            assert_eq!(inspect::id_at(&raw const local as usize), None);
        }
        Here {
            id: tls::id(),
            record,
            task: coro::current().map(|task| task.id()),
            place: tls::get::<&str>("place").map(|place| *place),
        }
    }

    fn is_coroutine(&self) -> bool {
        self.record.is_some()
    }
}

/// Memory for a stack, made as any program might make it.
struct Foreign {
    start: *mut u8,
}

impl Foreign {
    const LAYOUT: Layout = match Layout::from_size_align(256 << 10, 4096) {
        Ok(layout) => layout,
        Err(_) => panic!("a layout"),
    };

    fn new() -> Foreign {
        // SAFETY: the layout is not empty.
        let start = unsafe { alloc(Foreign::LAYOUT) };
        assert!(!start.is_null());
        Foreign { start }
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // SAFETY: allocated in `new`, with this layout.
        unsafe { dealloc(self.start, Foreign::LAYOUT) };
    }
}

// SAFETY: the memory is ours, of a good size, and aligned. It has no guard; what runs here is small.
unsafe impl Stack for Foreign {
    fn base(&self) -> StackPointer {
        NonZeroUsize::new(self.start as usize + Foreign::LAYOUT.size()).unwrap()
    }

    fn limit(&self) -> StackPointer {
        NonZeroUsize::new(self.start as usize).unwrap()
    }
}

/// Visits a foreign stack from wherever it is called, and checks that everything there is the thread's.
/// `thread` is what the thread itself looks like.
fn visit_foreign_stacks(thread: Here) {
    let outside = Here::look();
    let there = corosensei::on_stack(Foreign::new(), Here::look);
    assert_eq!(there, thread);
    // What is stored there is stored for the thread, as long as the thread lives.
    corosensei::on_stack(Foreign::new(), || tls::set("from a foreign stack", 1));
    assert!(corosensei::on_stack(Foreign::new(), || tls::del("from a foreign stack")));
    if outside.is_coroutine() {
        assert!(!tls::del("from a foreign stack"));
    }
    // A coroutine of somebody else's, suspended in a scope.
    let mut foreign =
        corosensei::Coroutine::<(), Here, Here, _>::with_stack(Foreign::new(), |yielder, ()| {
            tls::scope("place", "foreign scope", || {
                yielder.suspend(Here::look());
                Here::look()
            })
        });
    let CoroutineResult::Yield(first) = foreign.resume(()) else { unreachable!() };
    assert_eq!(first, Here { place: Some("foreign scope"), ..thread });
    if outside.is_coroutine() {
        assert_eq!(Here::look(), outside, "it is no business of ours");
    }
    let CoroutineResult::Return(last) = foreign.resume(()) else { unreachable!() };
    assert_eq!(last, first);
    // One of our own, resumed there, is itself all the same.
    let ours = corosensei::on_stack(Foreign::new(), || {
        let ours = common::raw::<(), (), _>(64 << 10, |_, ()| Here::look()).unwrap();
        match ours.resume(()) {
            raw::State::Done(here) => here,
            raw::State::Yielded(()) => unreachable!(),
        }
    });
    assert!(ours.is_coroutine() && ours.id != thread.id && ours.id != outside.id);
    assert_eq!(ours.place, None);
    assert_eq!(Here::look(), outside);
}

#[test]
fn tls_a_foreign_stack_belongs_to_its_thread() {
    let _watchdog = watchdog();
    thread::spawn(|| {
        tls::set("place", "thread");
        let here = Here::look();
        assert!(!here.is_coroutine());
        visit_foreign_stacks(here);
    })
    .join()
    .unwrap();
    on_workers(|runtime, _| {
        let visits: Vec<_> = (0..20)
            .map(|_| {
                runtime.go(|| {
                    // What the worker itself looks like, from outside of any coroutine.
                    let worker = corosensei::on_stack(Foreign::new(), || {
                        tls::set("place", "worker");
                        Here::look()
                    });
                    assert_eq!((worker.record, worker.task), (None, None));
                    tls::set("place", "coroutine");
                    let here = Here::look();
                    assert_eq!((here.place, here.task), (Some("coroutine"), Some(here.id)));
                    assert_ne!(here.id, worker.id);
                    visit_foreign_stacks(worker);
                    coro::yield_now();
                    assert_eq!(Here::look(), here);
                })
            })
            .collect();
        visits.into_iter().for_each(|visit| visit.join().unwrap());
    });
}

/// A value that sends its word when it is dropped.
struct Sent(&'static str, Sender<&'static str>);

impl Drop for Sent {
    fn drop(&mut self) {
        self.1.send(self.0).unwrap();
    }
}

fn words(receiver: &Receiver<&'static str>) -> Vec<&'static str> {
    receiver.try_iter().collect()
}

/// Runs `f` on a thread that C has made, until that thread is gone.
fn on_c_thread(f: impl FnOnce() + Send) {
    extern "C" fn start<F: FnOnce()>(f: *mut c_void) -> *mut c_void {
        // SAFETY: the closure that is passed below, which waits for us.
        let f = unsafe { (*f.cast::<Option<F>>()).take() };
        f.unwrap()();
        ptr::null_mut()
    }

    fn run<F: FnOnce() + Send>(f: F) {
        let mut f = Some(f);
        let mut thread = MaybeUninit::uninit();
        // SAFETY: `f` lives until the thread has been joined.
        unsafe {
            let status = libc::pthread_create(
                thread.as_mut_ptr(),
                ptr::null(),
                start::<F>,
                (&raw mut f).cast(),
            );
            assert_eq!(status, 0);
            assert_eq!(libc::pthread_join(thread.assume_init(), ptr::null_mut()), 0);
        }
    }
    run(f);
}

#[test]
fn tls_a_thread_made_by_c_is_served_and_cleaned_up() {
    let _watchdog = watchdog();
    let mine = tls::id();
    for _ in 0..100 {
        let (sender, receiver) = channel();
        on_c_thread(move || {
            let here = Here::look();
            assert_ne!(here.id, mine);
            assert_eq!((here.record, here.task, here.place), (None, None, None));
            tls::set("place", "C");
            tls::set(1, Sent("older", sender.clone()));
            tls::set(2, Sent("newer", sender.clone()));
            tls::at_exit(move || sender.send(Here::look().place.unwrap()).unwrap());
            visit_foreign_stacks(Here { place: Some("C"), ..here });
            // Raw coroutines run there too; and those of the runtime are started from there.
            let raw = common::raw::<(), (), _>(64 << 10, |_, ()| Here::look()).unwrap();
            let raw::State::Done(inside) = raw.resume(()) else { unreachable!() };
            assert!(inside.is_coroutine() && inside.id != here.id);
            assert_eq!(coro::go(|| Here::look().place).join().unwrap(), None);
        });
        assert_eq!(words(&receiver), ["C", "newer", "older"]);
    }
}

thread_local! {
    /// What a signal handler has seen on this thread.
    static SEEN: Cell<Option<(Here, bool)>> = const { Cell::new(None) };
}

/// Looks around, and says whether it did so on a signal stack.
extern "C" fn look_around(_: c_int) {
    let mut stack = MaybeUninit::<libc::stack_t>::uninit();
    // SAFETY: the kernel fills it in.
    let flags = unsafe {
        assert_eq!(libc::sigaltstack(ptr::null(), stack.as_mut_ptr()), 0);
        stack.assume_init().ss_flags
    };
    SEEN.set(Some((Here::look(), flags & libc::SS_ONSTACK != 0)));
}

/// Sends `signal` to this thread, which handles it before this returns.
fn interrupt(signal: c_int) -> (Here, bool) {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        for (signal, flags) in [(libc::SIGUSR1, 0), (libc::SIGUSR2, libc::SA_ONSTACK)] {
            // SAFETY: a handler of the right type, and all else zero.
            unsafe {
                let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
                action.sa_sigaction = look_around as extern "C" fn(c_int) as usize;
                action.sa_flags = flags;
                assert_eq!(libc::sigaction(signal, &raw const action, ptr::null_mut()), 0);
            }
        }
    });
    // SAFETY: a signal that has a handler.
    assert_eq!(unsafe { libc::raise(signal) }, 0);
    SEEN.take().expect("the signal was handled")
}

/// In a handler that runs on the interrupted stack nothing is different; on a signal stack everything
/// is the thread's.
#[test]
fn tls_a_signal_handler_sees_the_stack_that_it_runs_on() {
    let _watchdog = watchdog();
    thread::spawn(|| {
        tls::set("place", "thread");
        let here = Here::look();
        assert_eq!(interrupt(libc::SIGUSR1), (here, false));
        assert_eq!(interrupt(libc::SIGUSR2), (here, true), "std gives each thread a signal stack");
    })
    .join()
    .unwrap();
    on_workers(|runtime, _| {
        let visits: Vec<_> = (0..20)
            .map(|_| {
                runtime.go(|| {
                    let worker = corosensei::on_stack(Foreign::new(), || {
                        tls::set("place", "worker");
                        Here::look()
                    });
                    for place in ["one", "two"] {
                        tls::set("place", place);
                        let here = Here::look();
                        assert!(here.is_coroutine());
                        assert_eq!(interrupt(libc::SIGUSR1), (here, false));
                        assert_eq!(interrupt(libc::SIGUSR2), (worker, true));
                        coro::yield_now();
                    }
                    // The first question for the id of a thread may come from a handler.
                    tls::at_exit(|| assert!(interrupt(libc::SIGUSR1).0.is_coroutine()));
                })
            })
            .collect();
        visits.into_iter().for_each(|visit| visit.join().unwrap());
    });
    let id = thread::spawn(|| {
        let first = interrupt(libc::SIGUSR2).0.id;
        assert_eq!(first, tls::id());
        first
    });
    assert_ne!(id.join().unwrap(), tls::id());
}

/// Uses everything when it is dropped by its thread, after the thread's cleanup.
struct Late(Sender<&'static str>, tls::Id);

impl Drop for Late {
    fn drop(&mut self) {
        after_cleanup(&self.0, self.1);
    }
}

/// What is to be had on a thread whose cleanup is over.
fn after_cleanup(sender: &Sender<&'static str>, id: tls::Id) {
    assert_eq!(Here::look(), Here { id, record: None, task: None, place: None });
    tls::set("place", Sent("dropped at once", sender.clone()));
    assert!(tls::get::<Sent>("place").is_none() && tls::take::<Sent>("place").is_none());
    assert!(!tls::del("place"));
    let handler = sender.clone();
    tls::at_exit(move || handler.send("run at once").unwrap());
    tls::scope("place", Sent("scoped", sender.clone()), || sender.send("in the scope").unwrap());
    tls::set_inheritable("heirloom", 1);
    assert!(tls::inherit(|| tls::get::<i32>("heirloom").is_none())());
    tls::reset();
    assert_eq!(tls::id(), id);
    tls::unload();
    assert_ne!(tls::id(), id);
    assert_eq!(corosensei::on_stack(Foreign::new(), tls::id), tls::id());
    coro::yield_now();
    // A coroutine can still be had, with a store of its own that works.
    let inside = sender.clone();
    let raw = common::raw::<(), (), ()>(64 << 10, move |_, ()| {
        tls::set("place", Sent("of a coroutine", inside));
        assert!(tls::get::<Sent>("place").is_some());
    });
    assert_eq!(raw.unwrap().resume(()), raw::State::Done(()));
    sender.send("done").unwrap();
}

const AFTER_CLEANUP: [&str; 6] =
    ["dropped at once", "run at once", "scoped", "in the scope", "of a coroutine", "done"];

thread_local! {
    static LATE: OnceCell<Late> = const { OnceCell::new() };
}

#[test]
fn tls_in_the_last_destructors_of_a_thread() {
    let _watchdog = watchdog();
    let run = |sender: Sender<&'static str>| {
        // Registered before our own, so dropped after it.
        LATE.with(|late| assert!(late.set(Late(sender.clone(), tls::id())).is_ok()));
        tls::set("place", "before");
        tls::set(1, Sent("cleaned up", sender));
    };
    let expected = [&["cleaned up"][..], &AFTER_CLEANUP].concat();
    let (sender, receiver) = channel();
    thread::spawn(move || run(sender)).join().unwrap();
    assert_eq!(words(&receiver), expected);
    let (sender, receiver) = channel();
    on_c_thread(move || run(sender));
    assert_eq!(words(&receiver), expected);
}

/// A worker is a thread too: what coroutines leave in its thread-locals goes when it ends, and the
/// destructors are on no coroutine.
#[test]
fn tls_in_the_last_destructors_of_a_worker() {
    let _watchdog = watchdog();
    let runtime = runtime(1);
    let (sender, receiver) = channel();
    let id = runtime.go(move || {
        let worker = corosensei::on_stack(Foreign::new(), tls::id);
        LATE.with(|late| assert!(late.set(Late(sender.clone(), worker)).is_ok()));
        // Stored for the worker.
        corosensei::on_stack(Foreign::new(), || tls::set("place", Sent("of the worker", sender)));
        worker
    });
    let worker = id.join().unwrap();
    assert_eq!(
        runtime.go(|| corosensei::on_stack(Foreign::new(), tls::id)).join().unwrap(),
        worker
    );
    assert!(words(&receiver).is_empty());
    runtime.shutdown();
    assert_eq!(words(&receiver), [&["of the worker"][..], &AFTER_CLEANUP].concat());
}

/// The destructors of `pthread_key_create` come after the thread's cleanup where the C library destroys
/// thread-locals by itself. A static program has no such function, so std uses a key too, and the order is
/// that of the keys. Either way all of it is cleaned up once, in the same order.
#[test]
fn tls_in_the_destructors_of_pthread_keys() {
    /// What is to be had on a thread whose cleanup is still to come.
    fn before_cleanup(sender: &Sender<&'static str>, id: tls::Id) {
        assert_eq!(Here::look(), Here { id, record: None, task: None, place: None });
        tls::set("place", Sent("stored late", sender.clone()));
        let handler = sender.clone();
        tls::at_exit(move || handler.send("run late").unwrap());
        sender.send("done").unwrap();
    }

    extern "C" fn destroy(late: *mut c_void) {
        // SAFETY: the box that was leaked below.
        let (sender, id) = *unsafe { Box::from_raw(late.cast::<(Sender<_>, tls::Id)>()) };
        match tls::get::<Sent>(1) {
            Some(_) => before_cleanup(&sender, id),
            None => after_cleanup(&sender, id),
        }
    }

    let _watchdog = watchdog();
    let mut key = 0;
    // SAFETY: the destructor takes what is stored under this key alone.
    assert_eq!(unsafe { libc::pthread_key_create(&raw mut key, Some(destroy)) }, 0);
    let (sender, receiver) = channel();
    on_c_thread(move || {
        let late = Box::into_raw(Box::new((sender.clone(), tls::id())));
        // SAFETY: a key that exists.
        assert_eq!(unsafe { libc::pthread_setspecific(key, late.cast()) }, 0);
        tls::set(1, Sent("cleaned up", sender));
    });
    let sent = words(&receiver);
    match sent[0] {
        "cleaned up" => assert_eq!(sent[1..], AFTER_CLEANUP),
        _ => assert_eq!(sent, ["done", "run late", "stored late", "cleaned up"]),
    }
}

/// Says a word on stdout without std, which may be gone.
fn say(word: &str) {
    let line = format!("{word};");
    // SAFETY: the bytes of a string.
    unsafe { libc::write(1, line.as_ptr().cast(), line.len()) };
}

struct Said(&'static str);

impl Drop for Said {
    fn drop(&mut self) {
        say(self.0);
    }
}

/// The harness runs every test on a thread of its own, and the main thread is to be had only before
/// it starts. There the child of the test below does its work, and ends the process.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = {
    extern "C" fn before_main() {
        if is_child(MAIN) {
            on_main_thread();
        }
    }
    before_main
};

const MAIN: &str = "main";

/// std destroys the main thread's thread-locals where the C library does it for std, and in a static program
/// it does not.
const IS_CLEANED_UP: bool = cfg!(not(target_feature = "crt-static"));

/// Stores on the main thread, in all the ways there are, and sees the process end.
fn on_main_thread() -> ! {
    extern "C" fn at_process_exit() {
        // Where nothing was cleaned up, what is set takes the place of the older value.
        assert_eq!(tls::get::<Said>(1).is_none(), IS_CLEANED_UP);
        tls::set(1, Said("refused"));
        tls::at_exit(|| say("at once"));
        assert_ne!(tls::id().get(), 0);
        say("atexit");
    }

    // SAFETY: no arguments.
    let (process, thread) = unsafe { (libc::getpid(), libc::gettid()) };
    assert_eq!(process, thread, "this is the main thread");
    let here = Here::look();
    assert_eq!((here.record, here.task, here.place), (None, None, None));
    tls::set("place", "main");
    assert_eq!(coro::go(|| Here::look().place).join().unwrap(), None);
    visit_foreign_stacks(Here { place: Some("main"), ..here });
    assert_eq!(interrupt(libc::SIGUSR1), (Here::look(), false));
    // It has one since it ran a coroutine.
    assert_eq!(interrupt(libc::SIGUSR2), (Here::look(), true));
    // SAFETY: a function without arguments.
    assert_eq!(unsafe { libc::atexit(at_process_exit) }, 0);
    tls::set(1, Said("older"));
    tls::set(2, Said("newer"));
    tls::at_exit(|| say("handler"));
    std::process::exit(0);
}

#[test]
fn tls_the_main_thread_is_cleaned_up_when_the_process_ends() {
    let _watchdog = watchdog();
    let output = child("tls_the_main_thread_is_cleaned_up_when_the_process_ends", MAIN);
    assert_eq!(signal(&output), None, "{output:?}");
    assert!(output.status.success(), "{output:?}");
    let said = match IS_CLEANED_UP {
        true => "handler;newer;older;refused;at once;atexit;",
        false => "older;atexit;",
    };
    assert_eq!(stdout(&output), said);
}
