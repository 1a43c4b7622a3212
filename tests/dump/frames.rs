//! The frames of suspended coroutines.

use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};

use coro::raw::{self, Coroutine, Yielder};
use coro::{inspect, tls};

use crate::{common, dump_when_parked, functions, known, only_group};

/// Where the call of `park` stands.
const LINE: u32 = line!() + 5;

/// Where all of them end.
#[inline(never)]
fn stands_here() {
    coro::park();
    black_box(());
}

#[inline(never)]
pub(crate) fn middle(n: u32) -> u32 {
    if n == 0 {
        stands_here()
    } else {
        _ = black_box(middle(n - 1))
    }
    black_box(n)
}

/// A frame that is aligned, so its end is not known from the stack pointer.
#[inline(never)]
fn aligned() {
    #[repr(align(256))]
    struct Aligned([u8; 512]);
    let mut bytes = Aligned([1; 512]);
    black_box(&mut bytes);
    middle(1);
    black_box(&bytes.0);
}

/// A large frame.
#[inline(never)]
fn large() {
    let mut bytes = [1u8; 20_000];
    black_box(&mut bytes);
    middle(0);
    black_box(&bytes);
}

extern "C" fn compare(_: *const libc::c_void, _: *const libc::c_void) -> libc::c_int {
    middle(0);
    0
}

/// Frames of C code in between.
#[inline(never)]
fn through_c() {
    let mut numbers = [2, 1];
    // SAFETY: two numbers, of this size; the function compares nothing.
    unsafe { libc::qsort(numbers.as_mut_ptr().cast(), 2, 4, Some(compare)) };
    black_box(numbers);
}

#[inline(never)]
pub(crate) fn in_a_raw_coroutine() {
    let body = |_: &Yielder<(), ()>, ()| in_another();
    raw::with(64 << 10, body, |coroutine: &Coroutine<(), (), ()>| _ = coroutine.resume(()))
        .unwrap();
    black_box(());
}

#[inline(never)]
fn in_another() {
    let body = |_: &Yielder<(), ()>, ()| _ = middle(0);
    raw::with(64 << 10, body, |coroutine: &Coroutine<(), (), ()>| _ = coroutine.resume(()))
        .unwrap();
    black_box(());
}

struct ParksWhenDropped;

impl Drop for ParksWhenDropped {
    fn drop(&mut self) {
        middle(0);
    }
}

#[inline(never)]
fn in_a_panic() {
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let _parks = ParksWhenDropped;
        common::planned("a panic whose unwinding parks")
    }));
    assert!(unwound.is_err());
}

#[inline(never)]
fn in_a_handler() {
    tls::at_exit(|| _ = middle(0));
}

/// What a coroutine does, and the functions that it then stands in, the innermost first.
type Case = (fn(), &'static [&'static str]);

#[test]
fn dump_frames_are_those_of_the_calls() {
    let _watchdog = common::watchdog();
    common::quiet();
    const KNOWN: [&str; 10] = [
        "stands_here",
        "middle",
        "aligned",
        "large",
        "compare",
        "through_c",
        "in_a_raw_coroutine",
        "in_another",
        "in_a_panic",
        "ParksWhenDropped",
    ];
    let cases: [Case; 7] = [
        (|| _ = middle(3), &["stands_here", "middle"]),
        (aligned, &["stands_here", "middle", "aligned"]),
        (large, &["stands_here", "middle", "large"]),
        (through_c, &["stands_here", "middle", "compare", "through_c"]),
        (in_a_raw_coroutine, &["stands_here", "middle", "in_another", "in_a_raw_coroutine"]),
        (in_a_panic, &["stands_here", "middle", "in_a_panic"]),
        (in_a_handler, &["stands_here", "middle"]),
    ];
    common::on_workers(|runtime, _| {
        for (index, (case, expected)) in cases.into_iter().enumerate() {
            let coroutine = runtime.go(case);
            let dump = dump_when_parked(std::slice::from_ref(&coroutine));
            let group = only_group(&dump);
            assert_eq!(group.frames_end(), None, "case {index}: {dump}");
            let found: Vec<_> = known(&group, &KNOWN)
                .into_iter()
                .filter(|name| *name != "ParksWhenDropped")
                .collect();
            assert_eq!(found, expected, "case {index}: {dump}");
            // AddressSanitizer's `qsort` compares twice, so that one parks twice.
            while !coroutine.is_finished() {
                coroutine.handle().unpark();
                std::thread::yield_now();
            }
            coroutine.join().unwrap();
        }
    });
}

#[test]
fn dump_frames_have_lines() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(1);
    let coroutine = runtime.go(|| _ = middle(0));
    let dump = dump_when_parked(std::slice::from_ref(&coroutine));
    let group = only_group(&dump);
    let mut functions = group.frames().flat_map(|frame| frame.functions());
    let stands = functions.find(|function| function.name().contains("stands_here")).unwrap();
    assert!(stands.file().unwrap().ends_with("tests/dump/frames.rs"), "{stands:?}");
    assert_eq!(stands.line(), Some(LINE), "{stands:?}");
    coroutine.handle().unpark();
    coroutine.join().unwrap();
}

#[test]
fn dump_frames_are_as_many_as_the_calls() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(1);
    let count = |depth| {
        let coroutine = runtime.go(move || _ = middle(depth));
        let dump = dump_when_parked(std::slice::from_ref(&coroutine));
        let group = only_group(&dump);
        coroutine.handle().unpark();
        coroutine.join().unwrap();
        let middles = functions(&group).iter().filter(|name| name.contains("middle")).count();
        (middles, group.frames_end())
    };
    // The last call of a chain may be a jump, or not.
    let (one, end) = count(1);
    assert_eq!(end, None);
    assert_eq!(count(101), (one + 100, None));
    // There is an end to what is given.
    let (many, end) = count(1000);
    assert!((200..300).contains(&many), "{many}");
    assert_eq!(end.as_deref(), Some("there are more frames"));
}

#[test]
fn dump_knows_how_much_of_a_stack_is_used() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(1);
    let used = |f: fn()| {
        let coroutine = runtime.go(f);
        let dump = dump_when_parked(std::slice::from_ref(&coroutine));
        coroutine.handle().unpark();
        coroutine.join().unwrap();
        dump.coroutines()[0].stack_used().unwrap()
    };
    let (small, large) = (used(|| _ = middle(0)), used(large));
    assert!((500..16_000).contains(&small), "{small}");
    assert!((small + 19_000..small + 24_000).contains(&large), "{small}, {large}");
    // All of its stacks count.
    assert!(used(in_a_raw_coroutine) > small + 1_000);
}

/// A dump neither wakes nor changes who is listed.
#[test]
fn dump_changes_nothing() {
    let _watchdog = common::watchdog();
    let runtime = common::runtime(2);
    let coroutines: Vec<_> = (0..20)
        .map(|n| {
            runtime.go(move || {
                tls::set("number", n);
                inspect::label("number", n);
                stands_here();
                *tls::get::<i32>("number").unwrap()
            })
        })
        .collect();
    let first = dump_when_parked(&coroutines);
    for _ in 0..20 {
        let again = dump_when_parked(&coroutines);
        assert_eq!(functions(&only_group(&again)), functions(&only_group(&first)));
        assert_eq!(only_group(&again).coroutines().len(), 20);
    }
    for (n, coroutine) in coroutines.into_iter().enumerate() {
        coroutine.handle().unpark();
        assert_eq!(coroutine.join().unwrap(), n as i32);
    }
}
