//! Unwinders see through a coroutine to whoever resumed it: before the return address
//! is hijacked, after it, in a panic, in cleanup, 64 coroutines deep, and wherever the two stacks lie.

mod common;

use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, Once};

use coro::inspect::{ExitTarget, exit_target};
use coro::raw::{Coroutine, State, Yielder};
use coro::tls;

use common::{Counter, is_planned, message, planned, watchdog};

const STACK: usize = 256 << 10;

/// The message of the panics that [`capture_in_panic_hook`] looks at.
const TRACED: &str = "to be traced";

/// The frame that a backtrace from inside has to reach.
#[inline(never)]
fn frame_of_the_resumer<In: 'static, Out: 'static, Ret: 'static>(
    coroutine: &mut Coroutine<In, Out, Ret>,
    input: In,
) -> State<Out, Ret> {
    let state = coroutine.resume(input);
    black_box(&state);
    state
}

/// The frame that it starts from.
#[inline(never)]
fn frame_of_the_capture() -> String {
    black_box(Backtrace::force_capture().to_string())
}

/// Goes from the capture over the trampoline and the resumer to the thread's first function.
#[track_caller]
fn assert_whole(trace: &str, moment: &str) {
    let position = |name: &str| {
        trace.find(name).unwrap_or_else(|| panic!("{moment}: no {name} in this backtrace\n{trace}"))
    };
    let way = [
        position("frame_of_the_capture"),
        position("coro_trampoline"),
        position("frame_of_the_resumer"),
        trace.rfind("start_thread").or(trace.rfind("__libc_start")).unwrap_or(0),
    ];
    assert!(way.is_sorted(), "{moment}: {way:?} in this backtrace\n{trace}");
    assert_eq!(trace.matches("coro_trampoline").count(), 1, "{moment}:\n{trace}");
}

thread_local! {
    /// What the panic hook has captured on this thread, oldest first.
    static IN_HOOK: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

fn capture_in_panic_hook() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if message(info.payload()) == TRACED {
                let trace = frame_of_the_capture();
                IN_HOOK.with_borrow_mut(|traces| traces.push(trace));
            } else {
                before(info);
            }
        }));
    });
}

#[test]
fn switch_backtrace_reaches_the_resumer_at_every_moment() {
    let _watchdog = watchdog();
    capture_in_panic_hook();
    let traces: Arc<Mutex<Vec<(&str, String)>>> = Arc::default();
    let sink = Arc::clone(&traces);
    let mut coroutine = common::raw::<(), (), ()>(STACK, move |yielder, ()| {
        let note = |moment: &'static str| {
            let trace = frame_of_the_capture();
            sink.lock().unwrap().push((moment, trace));
        };
        note("at the start");
        yielder.suspend(());
        note("after a switch");

        assert_eq!(exit_target(), Some(ExitTarget::Goexit));
        let caught = catch_unwind(AssertUnwindSafe(|| panic!("{TRACED}")));
        assert!(caught.is_err());
        let trace = IN_HOOK.with_borrow_mut(Vec::pop).expect("the hook ran");
        sink.lock().unwrap().push(("in the panic hook, before the hijack", trace));

        let on_drop = {
            let sink = Arc::clone(&sink);
            move |moment| {
                let sink = Arc::clone(&sink);
                common::RunOnDrop(move || {
                    sink.lock().unwrap().push((moment, frame_of_the_capture()))
                })
            }
        };
        tls::set("value", on_drop("in the drop of a value, in cleanup"));
        let handler = on_drop("in a handler");
        tls::at_exit(move || drop(handler));
        assert_eq!(exit_target(), Some(ExitTarget::Cleanup));
        note("after the hijack");
        yielder.suspend(());
        note("after the hijack and a switch");
        let nested = Arc::clone(&sink);
        tls::at_exit(move || {
            let caught = catch_unwind(AssertUnwindSafe(|| panic!("{TRACED}")));
            assert!(caught.is_err());
            let trace = IN_HOOK.with_borrow_mut(Vec::pop).expect("the hook ran");
            nested.lock().unwrap().push(("in a panic in a handler", trace));
        });
        let _during = on_drop("in a drop, during the unwinding");
        panic!("{TRACED}");
    })
    .unwrap();
    assert_eq!(frame_of_the_resumer(&mut coroutine, ()), State::Yielded(()));
    assert_eq!(frame_of_the_resumer(&mut coroutine, ()), State::Yielded(()));
    let payload = catch_unwind(AssertUnwindSafe(|| frame_of_the_resumer(&mut coroutine, ())));
    assert!(message(&*payload.unwrap_err()) == TRACED);
    let trace = IN_HOOK.with_borrow_mut(Vec::pop).expect("the hook ran");
    traces.lock().unwrap().push(("in the panic hook, after the hijack", trace));

    let traces = traces.lock().unwrap();
    let moments: Vec<_> = traces.iter().map(|(moment, _)| *moment).collect();
    assert_eq!(
        moments,
        [
            "at the start",
            "after a switch",
            "in the panic hook, before the hijack",
            "after the hijack",
            "after the hijack and a switch",
            "in a drop, during the unwinding",
            "in a panic in a handler",
            "in a handler",
            "in the drop of a value, in cleanup",
            "in the panic hook, after the hijack",
        ]
    );
    for (moment, trace) in traces.iter() {
        assert_whole(trace, moment);
    }
}

#[test]
fn switch_backtrace_of_a_task_reaches_the_worker_loop() {
    let _watchdog = watchdog();
    let traces: Arc<Mutex<Vec<String>>> = Arc::default();
    let sink = Arc::clone(&traces);
    let task = coro::go(move || {
        let note = || sink.lock().unwrap().push(frame_of_the_capture());
        note();
        coro::yield_now();
        note();
        let later = Arc::clone(&sink);
        tls::at_exit(move || later.lock().unwrap().push(frame_of_the_capture()));
        note();
    });
    task.join().unwrap();
    let traces = traces.lock().unwrap();
    assert_eq!(traces.len(), 4);
    for trace in traces.iter() {
        let way = ["frame_of_the_capture", "coro_trampoline", "coro::runtime", "start_thread"]
            .map(|name| trace.find(name).unwrap_or_else(|| panic!("no {name} in\n{trace}")));
        assert!(way.is_sorted(), "{way:?} in\n{trace}");
    }
}

const DEPTH: usize = 64;

/// Resumes coroutines inside each other, `depth` deep, and calls `at_bottom` in the innermost.
fn nest(depth: usize, drops: &Counter, at_bottom: fn() -> String) -> String {
    if depth == 0 {
        return at_bottom();
    }
    let token = drops.clone();
    let mut coroutine = common::raw(STACK, move |yielder: &Yielder<(), usize>, ()| {
        let _token = token.on_drop();
        tls::set("depth", depth);
        let counted = token.clone();
        tls::at_exit(move || counted.add());
        yielder.suspend(depth);
        let below = nest(depth - 1, &token, at_bottom);
        assert_eq!(tls::get::<usize>("depth").as_deref(), Some(&depth));
        below
    })
    .unwrap();
    assert_eq!(frame_of_the_resumer(&mut coroutine, ()), State::Yielded(depth));
    match frame_of_the_resumer(&mut coroutine, ()) {
        State::Done(trace) => trace,
        State::Yielded(_) => unreachable!("suspended a second time"),
    }
}

#[test]
fn switch_backtrace_passes_64_nested_coroutines() {
    let _watchdog = watchdog();
    let drops = Counter::default();
    let trace = nest(DEPTH, &drops, frame_of_the_capture);
    assert_eq!(trace.matches("coro_trampoline").count(), DEPTH, "{trace}");
    assert!(trace.matches("frame_of_the_resumer").count() >= DEPTH);
    assert!(trace.contains("start_thread") || trace.contains("__libc_start"), "{trace}");
    // A token and a handler at each depth.
    assert_eq!(drops.get(), 2 * DEPTH);
}

#[test]
fn switch_a_panic_unwinds_64_nested_coroutines() {
    let _watchdog = watchdog();
    common::quiet();
    let drops = Counter::default();
    let payload = catch_unwind(AssertUnwindSafe(|| {
        nest(DEPTH, &drops, || planned("at the bottom"));
    }));
    assert!(is_planned(&*payload.unwrap_err(), "at the bottom"));
    assert_eq!(drops.get(), 2 * DEPTH);
    assert!(!std::thread::panicking());
}

#[test]
fn switch_dropping_the_outermost_unwinds_64_nested_coroutines() {
    let _watchdog = watchdog();
    thread_local!(static OUT: Cell<*const Yielder<(), ()>> = const { Cell::new(std::ptr::null()) });
    let drops = Counter::default();
    let inside = drops.clone();
    let outermost = common::raw::<(), (), ()>(STACK, move |yielder, ()| {
        OUT.set(yielder);
        nest(DEPTH - 1, &inside, || {
            // SAFETY: the outermost coroutine waits, below us, in `resume`.
            unsafe { (*OUT.get()).suspend(()) };
            unreachable!("resumed")
        });
    })
    .unwrap();
    assert_eq!(outermost.resume(()), State::Yielded(()));
    assert_eq!(drops.get(), 0);
    drop(outermost);
    assert_eq!(drops.get(), 2 * (DEPTH - 1));
}

/// Where the threads' stacks may be, seen from the coroutines'.
fn place_for_a_stack(above: bool) -> Option<usize> {
    const SIZE: usize = 1 << 20;
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let own_start = |name: &str| {
        let line = maps.lines().find(|line| line.ends_with(name))?;
        usize::from_str_radix(line.split('-').next()?, 16).ok()
    };
    // Below the first stack of the process there is room for it to grow; and nothing at all lies
    // at a low address of a position-independent program.
    let wanted = if above { own_start("[stack]")? - (64 << 20) } else { 0x10_0000_0000 };
    let (access, flags) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE,
    );
    // SAFETY: a new mapping that replaces none.
    let mapped = unsafe { libc::mmap((wanted & !4095) as *mut _, SIZE, access, flags, -1, 0) };
    if mapped == libc::MAP_FAILED {
        return None; // something is there
    }
    let mut thread = 0;
    // SAFETY: the mapping is the thread's alone and is never unmapped.
    unsafe {
        let mut attributes = std::mem::zeroed();
        assert_eq!(libc::pthread_attr_init(&mut attributes), 0);
        assert_eq!(libc::pthread_attr_setstack(&mut attributes, mapped, SIZE), 0);
        let argument = std::ptr::null_mut();
        assert_eq!(libc::pthread_create(&mut thread, &attributes, on_placed_stack, argument), 0);
        let mut result = std::ptr::null_mut();
        assert_eq!(libc::pthread_join(thread, &mut result), 0);
        Some(result as usize)
    }
}

/// Backtrace, panic and 8 nested coroutines from a thread whose stack was put somewhere; gives an
/// address of a coroutine's stack.
extern "C" fn on_placed_stack(_: *mut libc::c_void) -> *mut libc::c_void {
    let drops = Counter::default();
    let trace = nest(8, &drops, frame_of_the_capture);
    assert_eq!(trace.matches("coro_trampoline").count(), 8, "{trace}");
    assert!(trace.contains("on_placed_stack"), "{trace}");
    let payload = catch_unwind(AssertUnwindSafe(|| nest(8, &drops, || planned("placed"))));
    assert!(is_planned(&*payload.unwrap_err(), "placed"));
    assert_eq!(drops.get(), 4 * 8);
    let mut coroutine =
        common::raw::<(), (), usize>(STACK, |_, ()| coro::inspect::stack_bounds().unwrap().start);
    let here = (&raw const coroutine).addr();
    let State::Done(there) = coroutine.as_mut().unwrap().resume(()) else { unreachable!() };
    (there > here) as usize as *mut _
}

#[test]
fn switch_unwinds_to_stacks_above_and_below() {
    let _watchdog = watchdog();
    common::quiet();
    // At a low address AddressSanitizer has its shadow memory.
    let places = if cfg!(coro_asan) { &[true][..] } else { &[false, true] };
    for &above in places {
        match place_for_a_stack(above) {
            Some(coroutines_are_above) => assert_ne!(coroutines_are_above == 1, above),
            None => eprintln!("skipped: there is no place for a stack there"),
        }
    }
}
