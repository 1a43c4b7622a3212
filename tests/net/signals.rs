//! Signals, in processes of their own.

use std::time::Duration;

use coro::signal::{Signals, ctrl_c};

use crate::common;

const LIMIT: Duration = Duration::from_secs(60);

fn raise(signal: i32) {
    // SAFETY: takes a number.
    assert_eq!(unsafe { libc::raise(signal) }, 0);
}

#[test]
fn net_signals_come_one_by_one_to_whoever_waits() {
    common::in_child("net_signals_come_one_by_one_to_whoever_waits", LIMIT, || {
        common::on_workers(|runtime, _| {
            let signals =
                std::sync::Arc::new(Signals::new([libc::SIGUSR1, libc::SIGUSR2]).unwrap());
            let waiting: Vec<_> = (0..2)
                .map(|_| {
                    let signals = std::sync::Arc::clone(&signals);
                    runtime.go(move || signals.recv().unwrap())
                })
                .collect();
            std::thread::sleep(Duration::from_millis(2));
            // Both at once, so that one of the two who wait empties the pipe for both.
            raise(libc::SIGUSR1);
            raise(libc::SIGUSR2);
            let mut received: Vec<_> =
                waiting.into_iter().map(|waiting| waiting.join().unwrap()).collect();
            received.sort();
            assert_eq!(received, [libc::SIGUSR1, libc::SIGUSR2]);

            let thread = {
                let signals = std::sync::Arc::clone(&signals);
                common::spawn_until_blocked(move || signals.recv().unwrap())
            };
            raise(libc::SIGUSR1);
            assert_eq!(thread.join().unwrap(), libc::SIGUSR1);

            raise(libc::SIGUSR2);
            let selected = runtime.go(move || {
                coro::select! {
                    readable(signals) => signals.try_recv(),
                    default(LIMIT) => None,
                }
            });
            assert_eq!(selected.join().unwrap(), Some(libc::SIGUSR2));
        });
    });
}

/// An interruption ends the wait and not the process, and a later wait sees the next one only.
#[test]
fn net_ctrl_c_ends_the_wait() {
    common::in_child("net_ctrl_c_ends_the_wait", LIMIT, || {
        for _ in 0..2 {
            let waiting = common::spawn_until_blocked(|| {
                coro::go(|| ctrl_c().map_err(|error| error.kind())).join().unwrap()
            });
            raise(libc::SIGINT);
            waiting.join().unwrap().unwrap();
            assert!(coro::timeout(Duration::from_millis(5), ctrl_c).is_err());
        }
    });
}

#[test]
fn net_signals_that_cannot_be_waited_for_are_refused() {
    for signal in [libc::SIGKILL, libc::SIGSEGV, 0, -1, 65, 1000] {
        let refused = Signals::new([libc::SIGUSR1, signal]).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput, "{signal}");
    }
}
