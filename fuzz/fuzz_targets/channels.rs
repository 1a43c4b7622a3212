#![no_main]
//! Tasks and a thread that send and receive on the same few channels in every way: each value arrives once, or comes
//! back, or is dropped with whoever was cancelled, and nothing hangs.
//!
//! What comes out of a run depends on the threads, so there is no model of each step. What holds whatever the order:
//!
//! - each value is dropped once;
//! - a value whose send has succeeded is received once, by a task or by what empties the channels in the end; one whose
//!   send has failed is received by nobody;
//! - whoever waits is told of a close, so that all tasks end once everything is closed.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use arbitrary::Arbitrary;
use coro::chan::{self, Receiver, Select, Sender, after};
use coro::select;
use goexit_fuzz::harness::{self, Input, Players};
use libfuzzer_sys::fuzz_target;

const CHANNELS: usize = 3;
/// The most values of one run.
const MOST: usize = 4096;

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Step {
    Yield,
    Send(u8),
    TrySend(u8),
    SendTimeout(u8, u8),
    Recv(u8),
    TryRecv(u8),
    RecvTimeout(u8, u8),
    /// Receives at most so many.
    Iterate(u8, u8),
    /// Receives from one or sends to another.
    Select(u8, u8),
    /// The same, with a limit and a future that is never ready.
    SelectWithin(u8, u8, u8),
    SelectNow(u8, u8),
    /// Receives from all and sends to one, by a `Select`, so many times.
    SelectValue(u8, u8),
    /// Polls a receive once, and drops it.
    DropRecv(u8),
    /// Polls a send once, and drops it.
    DropSend(u8),
    AwaitRecv(u8),
    AwaitSend(u8),
    Timeout(u8, u8),
    Close(u8),
}

#[derive(Arbitrary, Debug)]
struct Program {
    workers: u8,
    capacities: [u8; CHANNELS],
    /// One for each task; the last is for a thread.
    bodies: Vec<Vec<Step>>,
    /// Which tasks are cancelled, in between.
    cancels: Vec<u8>,
}

const UNSENT: u8 = 0;
const SENT: u8 = 1;
const REFUSED: u8 = 2;

/// What becomes of one value.
#[derive(Default)]
struct Fate {
    sent: AtomicU8,
    received: AtomicU8,
    dropped: AtomicU8,
}

struct World {
    channels: Vec<(Sender<Value>, Receiver<Value>)>,
    fates: Vec<Fate>,
    made: AtomicUsize,
}

/// Its number, and who keeps the accounts.
struct Value(usize, Arc<World>);

impl Drop for Value {
    fn drop(&mut self) {
        let before = self.1.fates[self.0].dropped.fetch_add(1, Ordering::Relaxed);
        assert_eq!(before, 0, "dropped twice");
    }
}

impl World {
    fn sender(&self, channel: u8) -> &Sender<Value> {
        &self.channels[usize::from(channel) % CHANNELS].0
    }

    fn receiver(&self, channel: u8) -> &Receiver<Value> {
        &self.channels[usize::from(channel) % CHANNELS].1
    }

    /// A new value, and its number; `None`: there are many.
    fn value(self: &Arc<World>) -> Option<(usize, Value)> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        (number < MOST).then(|| (number, Value(number, Arc::clone(self))))
    }

    /// Notes how a send has ended.
    fn note<E>(&self, number: usize, sent: Result<(), E>) {
        let how = if sent.is_ok() { SENT } else { REFUSED };
        self.fates[number].sent.store(how, Ordering::Relaxed);
    }
}

/// Takes note of a value that has arrived.
fn got<E>(value: Result<Value, E>) -> bool {
    let Ok(value) = value else { return false };
    let before = value.1.fates[value.0].received.fetch_add(1, Ordering::Relaxed);
    assert_eq!(before, 0, "received twice");
    true
}

fn micros(n: u8) -> Duration {
    Duration::from_micros(u64::from(n))
}

fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

fn play(world: &Arc<World>, steps: &[Step]) {
    for &step in steps {
        play_step(world, step);
    }
}

fn play_step(world: &Arc<World>, step: Step) {
    match step {
        Step::Yield => coro::yield_now(),
        Step::Recv(from) => _ = got(world.receiver(from).recv()),
        Step::TryRecv(from) => _ = got(world.receiver(from).try_recv()),
        Step::RecvTimeout(from, limit) => {
            _ = got(world.receiver(from).recv_timeout(micros(limit)));
        }
        Step::Iterate(from, most) => {
            world
                .receiver(from)
                .iter()
                .take(usize::from(most))
                .for_each(|value| _ = got(Ok::<_, ()>(value)));
        }
        Step::DropRecv(from) => {
            if let Some(value) = poll_once(world.receiver(from).recv_async()) {
                got(value);
            }
        }
        Step::AwaitRecv(from) => _ = got(coro::wait(world.receiver(from).recv_async())),
        Step::Timeout(from, limit) => {
            if let Ok(value) = coro::timeout(micros(limit), || world.receiver(from).recv()) {
                got(value);
            }
        }
        Step::Close(channel) => _ = world.sender(channel).close(),
        _ => play_send(world, step),
    }
}

/// A step with a value to be sent.
fn play_send(world: &Arc<World>, step: Step) {
    let Some((number, value)) = world.value() else { return };
    match step {
        Step::Send(to) => world.note(number, world.sender(to).send(value)),
        Step::TrySend(to) => world.note(number, world.sender(to).try_send(value)),
        Step::SendTimeout(to, limit) => {
            world.note(number, world.sender(to).send_timeout(value, micros(limit)));
        }
        Step::AwaitSend(to) => world.note(number, coro::wait(world.sender(to).send_async(value))),
        Step::DropSend(to) => {
            // One that is pending has sent, or drops its value.
            if let Some(sent) = poll_once(world.sender(to).send_async(value)) {
                world.note(number, sent);
            }
        }
        Step::Select(from, to) => select! {
            recv(world.receiver(from)) -> value => {
                got(value);
                world.note(number, Err(()));
            }
            send(world.sender(to), value) -> sent => world.note(number, sent),
        },
        Step::SelectWithin(from, to, limit) => select! {
            send(world.sender(to), value) -> sent => world.note(number, sent),
            recv(world.receiver(from)) -> value => {
                got(value);
                world.note(number, Err(()));
            }
            recv(after(micros(limit))) -> _ => world.note(number, Err(())),
            wait(std::future::pending::<()>()) -> () => unreachable!(),
        },
        Step::SelectNow(from, to) => select! {
            recv(world.receiver(from)) -> value => {
                got(value);
                world.note(number, Err(()));
            }
            send(world.sender(to), value) -> sent => world.note(number, sent),
            default => world.note(number, Err(())),
        },
        Step::SelectValue(to, times) => {
            let mut select = Select::new();
            for (_, receiver) in &world.channels {
                select.recv(receiver, |value| _ = got(value));
            }
            // It may be sent in any of the rounds; or not, and then it is dropped with the `Select`.
            select.send(world.sender(to), value, |sent| world.note(number, sent));
            for _ in 0..times % 8 {
                if select.is_empty() {
                    break;
                }
                _ = select.select_timeout(micros(times));
            }
            drop(select);
            let sent = &world.fates[number].sent;
            let _ = sent.compare_exchange(UNSENT, REFUSED, Ordering::Relaxed, Ordering::Relaxed);
        }
        _ => unreachable!("{step:?} sends nothing"),
    }
}

fuzz_target!(init: harness::init(), |program: Program| {
    let _input = Input::begin();
    let world = Arc::new(World {
        channels: program
            .capacities
            .iter()
            .map(|&capacity| match capacity % 5 {
                4 => chan::unbounded(),
                capacity => chan::bounded(usize::from(capacity)),
            })
            .collect(),
        fates: (0..MOST).map(|_| Fate::default()).collect(),
        made: AtomicUsize::new(0),
    });
    let players =
        Players::start(program.workers, &world, program.bodies, 8, &program.cancels, play);
    // Whoever waits is told.
    world.channels.iter().for_each(|(sender, _)| _ = sender.close());
    players.join();
    world.channels.iter().for_each(|(_, receiver)| receiver.try_iter().for_each(|value| _ = got(Ok::<_, ()>(value))));
    harness::settle();
    let made = world.made.load(Ordering::Relaxed).min(MOST);
    for (number, fate) in world.fates[..made].iter().enumerate() {
        let (sent, received, dropped) = (
            fate.sent.load(Ordering::Relaxed),
            fate.received.load(Ordering::Relaxed),
            fate.dropped.load(Ordering::Relaxed),
        );
        assert_eq!(dropped, 1, "value {number} of {made}");
        match sent {
            SENT => assert_eq!(received, 1, "value {number} was sent, and is lost"),
            REFUSED => assert_eq!(received, 0, "value {number} was not sent, and has arrived"),
            _ => {}
        }
    }
});
