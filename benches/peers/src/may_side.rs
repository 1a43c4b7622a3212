//! may.

use std::hint::black_box;
use std::time::Duration;

use may::sync::spsc;

use crate::timed;

pub(crate) fn configure(workers: usize) {
    may::config().set_workers(workers);
}

pub(crate) fn spsc_round_trip(times: u64) -> Duration {
    let (time, measured) = std::sync::mpsc::channel();
    may::go!(move || {
        let (to, from) = (spsc::channel::<u64>(), spsc::channel::<u64>());
        let (to_echo, echo_receives) = to;
        let (echo_sends, from_echo) = from;
        may::go!(move || {
            while let Ok(value) = echo_receives.recv() {
                if echo_sends.send(value).is_err() {
                    break;
                }
            }
        });
        let _ = time.send(timed(times, || {
            to_echo.send(black_box(7)).expect("open");
            _ = black_box(from_echo.recv());
        }));
    });
    measured.recv().expect("it does not panic")
}
