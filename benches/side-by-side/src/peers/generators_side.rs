//! Coroutines without a scheduler: corosensei and generator, each with its stacks as they are by default.

use std::cell::Cell;
use std::hint::black_box;
use std::time::Duration;

use crate::common::timed;
use crate::measure::Task;

pub fn corosensei(task: &Task) -> Duration {
    let stop = Cell::new(false);
    let mut bare = corosensei::Coroutine::<bool, (), ()>::new(|yielder, mut go_on| {
        while go_on {
            go_on = yielder.suspend(());
        }
    });
    let time = timed(task.times, || _ = black_box(bare.resume(!stop.get())));
    stop.set(true);
    bare.resume(!stop.get());
    time
}

pub fn generator(task: &Task) -> Duration {
    let mut bare = generator::Gn::<bool>::new_scoped(|mut scope| {
        let mut go_on = true;
        while go_on {
            go_on = scope.yield_(()).expect("it is sent");
        }
        generator::done!()
    });
    // Up to where it first waits for a value.
    bare.raw_send(None);
    let time = timed(task.times, || _ = black_box(bare.raw_send(Some(black_box(true)))));
    bare.raw_send(Some(false));
    time
}
