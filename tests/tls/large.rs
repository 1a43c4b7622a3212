//! Values, captures and results of 48 KiB, on a stack of the default size, which is 3.5 times as
//! large. In a debug build each function that a value is passed on through has a copy of it in its
//! frame, so there is room for two besides the caller's own, and a third one overflows: in a child
//! process, because that is its end.

use std::cell::RefCell;
use std::time::Duration;

use coro::{go, tls};

use crate::common::{self, Counter};

const LIMIT: Duration = common::CHILDS_LIMIT;
const SIZE: usize = 48 << 10;

type Big = [u8; SIZE];

/// Bytes that differ from their neighbours, and from those of another seed.
const fn bytes(seed: u8) -> Big {
    let mut bytes = [0; SIZE];
    let mut index = 0;
    while index < SIZE {
        bytes[index] = (index as u8).wrapping_mul(31) ^ (index >> 8) as u8 ^ seed;
        index += 1;
    }
    bytes
}

static ONE: Big = bytes(1);
static TWO: Big = bytes(2);

// Each step is a function of its own: a frame has room for everything that its function ever has.

/// Runs the steps in one coroutine.
fn run<const N: usize>(steps: [fn(); N]) {
    go(move || steps.iter().for_each(|step| step())).join().unwrap();
}

fn set_one() {
    tls::set("big", ONE);
}

fn set_two() {
    tls::set("big", TWO);
}

#[track_caller]
fn look(expected: &Big) {
    assert!(*tls::get::<Big>("big").unwrap() == *expected);
}

fn set_a_variable() {
    let value = ONE;
    tls::set("big", value);
    assert!(value == ONE);
}

#[test]
fn tls_large_values_are_set() {
    common::in_child("tls_large_values_are_set", LIMIT, || {
        let inheritable = || tls::set_inheritable("big", ONE);
        for new in [set_one, set_a_variable, inheritable] {
            run([new, || look(&ONE)]);
        }
        let other = || tls::set("big", 7);
        run([other, set_one, || look(&ONE), other, set_one, || look(&ONE)]);
        run([set_one, set_two, || look(&TWO), inheritable, || look(&ONE)]);
        let while_held = || {
            let held = tls::get::<Big>("big").unwrap();
            set_two();
            assert!(*held == ONE);
        };
        run([set_one, while_held, || look(&TWO)]);
    });
}

#[test]
fn tls_large_values_are_taken() {
    common::in_child("tls_large_values_are_taken", LIMIT, || {
        let take = || assert!(tls::take::<Big>("big").as_ref() == Some(&ONE));
        run([set_one, take, || assert!(tls::get::<Big>("big").is_none())]);
        // In one frame, as the caller may have it.
        run([|| {
            tls::set("big", ONE);
            assert!(tls::take::<Big>("big").as_ref() == Some(&ONE));
        }]);
    });
}

#[test]
fn tls_large_values_are_scoped() {
    common::in_child("tls_large_values_are_scoped", LIMIT, || {
        run([|| tls::scope("big", ONE, || look(&ONE))]);
        run([set_two, || tls::scope("big", ONE, || look(&ONE)), || look(&TWO)]);
        run([|| {
            let value = TWO;
            tls::scope("big", value, || look(&TWO));
            assert!(value == TWO);
        }]);
    });
}

#[test]
fn tls_large_handlers() {
    common::in_child("tls_large_handlers", LIMIT, || {
        let (runs, drops) = (Counter::default(), Counter::default());
        let register = {
            let (runs, drops) = (runs.clone(), drops.clone());
            move || {
                let (runs, token) = (runs.clone(), drops.on_drop());
                let value = ONE;
                tls::at_exit(move || {
                    assert!(value == ONE);
                    runs.add();
                    drop(token);
                });
            }
        };
        go(register.clone()).join().unwrap();
        assert_eq!((runs.get(), drops.get()), (1, 1));
        go(move || {
            register();
            tls::unload();
        })
        .join()
        .unwrap();
        assert_eq!((runs.get(), drops.get()), (1, 2), "dropped, and not run");
    });
}

coro::local! {
    static CONSTANT: RefCell<Big> = const { RefCell::new(bytes(1)) };
    static MADE: RefCell<Big> = RefCell::new(TWO);
}

#[test]
fn tls_large_locals() {
    common::in_child("tls_large_locals", LIMIT, || {
        run([|| CONSTANT.with_borrow(|value| assert!(*value == ONE))]);
        run([|| MADE.with_borrow(|value| assert!(*value == TWO))]);
    });
}
