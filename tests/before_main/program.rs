//! A program whose first coroutines run before `main`; `tests/stack_before_main.rs` builds and runs it. Its first
//! argument names what they are, its second who overflows.

use std::env;
use std::hint::black_box;
use std::thread;

use coro::raw::{self, Yielder};

#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = before_main;

extern "C" fn before_main() {
    match env::args().nth(1).as_deref() {
        Some("raw") => {
            raw::with(1, |_: &Yielder<(), ()>, ()| (), |raw| _ = raw.resume(())).unwrap();
        }
        Some("task") => coro::go(|| ()).join().unwrap(),
        _ => {}
    }
}

/// Uses all of the stack.
#[inline(never)]
fn overflow(depth: usize) -> usize {
    let frame = black_box([depth; 64]);
    overflow(depth + 1) + frame[depth % 64]
}

fn main() {
    match env::args().nth(2).as_deref() {
        Some("thread") => drop(thread::Builder::new().name("plain".into()).spawn(|| overflow(0)).unwrap().join()),
        Some("main") => drop(overflow(0)),
        Some("coroutine") => drop(coro::go(|| overflow(0)).join()),
        Some("raw coroutine") => {
            raw::with(1, |_: &Yielder<(), ()>, ()| overflow(0), |raw| _ = raw.resume(())).unwrap();
        }
        other => panic!("{other:?}"),
    }
}
