//! What belongs to a coroutine, and to a thread.

use std::cell::Cell;
use std::hint::black_box;

use coro::tls;

/// A key that is a type of its own.
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct Slot;

thread_local! {
    pub(crate) static THREAD_LOCAL: Cell<u64> = const { Cell::new(0) };
}

coro::local! {
    pub(crate) static CORO_LOCAL: Cell<u64> = const { Cell::new(0) };
}

// What is read is read in a function that is not inlined: in a loop the compiler would look the
// place up once, before the loop. The empty one shows what the call itself costs.

#[inline(never)]
pub(crate) fn call_nothing() -> u64 {
    black_box(0)
}

#[inline(never)]
pub(crate) fn read_thread_local() -> u64 {
    black_box(THREAD_LOCAL.get())
}

#[inline(never)]
pub(crate) fn read_id() -> u64 {
    black_box(tls::id().get())
}

#[inline(never)]
pub(crate) fn read_coro_local() -> u64 {
    black_box(CORO_LOCAL.with(Cell::get))
}

#[inline(never)]
pub(crate) fn get_by_type() -> u64 {
    black_box(tls::get::<u64>(Slot).map_or(0, |value| *value))
}

#[inline(never)]
pub(crate) fn get_by_str() -> u64 {
    black_box(tls::get::<u64>("slot").map_or(0, |value| *value))
}

#[inline(never)]
pub(crate) fn set_by_type(value: u64) {
    tls::set(Slot, value);
}

#[inline(never)]
pub(crate) fn set_by_str(value: u64) {
    tls::set("slot", value);
}

/// One coroutine of the load, as in `examples/gls.rs`: forty operations on its own slot.
pub(crate) fn forty_operations() -> u64 {
    let mut wrong = 0;
    for i in 4..44u32 {
        if i % 4 == 0 {
            tls::set(Slot, i);
        } else {
            let read = tls::get::<u32>(Slot).map_or(0, |value| *value);
            wrong += u64::from(read >= i || read < i - 3);
        }
    }
    wrong
}
