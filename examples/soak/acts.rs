//! The acts: each a small program that checks its own outcome. They may be played on a thread and in a
//! coroutine alike, at the same time as others, and none waits for longer than some milliseconds.

mod storage;
mod tasks;
mod together;

use std::any::Any;
use std::panic;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

use coro::inspect::{ExitTarget, exit_target};
use coro::{JoinError, JoinHandle, go, tls};

use crate::counted::{Counted, at_exit};
use crate::dice::Dice;

type Act = fn(&mut Dice);

macro_rules! acts {
    ($($act:path),* $(,)?) => { &[$((stringify!($act), $act as Act)),*] };
}

/// Each with its name, for reports.
const ALL: &[(&str, Act)] = acts![
    tasks::join_some,
    tasks::detach_some,
    tasks::cancel_some,
    tasks::race,
    tasks::borrow,
    tasks::runtime,
    tasks::ping_pong,
    tasks::sleep_some,
    tasks::tick,
    tasks::time_out,
    tasks::wake,
    tasks::block,
    storage::store,
    storage::hand_down,
    storage::thread,
    storage::raw_coroutine,
    storage::unwind_raw_coroutine,
    storage::nest,
    together::pass,
    together::choose,
    together::merge,
    together::hurry,
    together::lock,
    together::meet,
];

/// Who plays: two threads and a coroutine.
pub(crate) const PLAYERS: usize = 3;

/// How many acts have begun; their numbers go from 1.
static PLAYED: AtomicU64 = AtomicU64::new(0);
/// The act that each player has begun last.
static BEING_PLAYED: [AtomicU64; PLAYERS] = [const { AtomicU64::new(0) }; PLAYERS];

/// Has a player play the next act.
pub(crate) fn play_one(player: usize) {
    let number = PLAYED.fetch_add(1, Relaxed) + 1;
    BEING_PLAYED[player].store(number, Relaxed);
    let mut dice = Dice::of_act(number);
    let (_, act) = choose(&mut dice);
    act(&mut dice);
}

fn choose(dice: &mut Dice) -> (&'static str, Act) {
    ALL[dice.roll(ALL.len() as u64) as usize]
}

pub(crate) fn played() -> u64 {
    PLAYED.load(Relaxed)
}

/// What the players were at when something went wrong. In the middle of a stop they are at nothing, and
/// these are the acts before it.
pub(crate) fn being_played() -> String {
    let numbers = BEING_PLAYED.iter().map(|number| number.load(Relaxed));
    let named = numbers.map(|number| format!("{number} {}", choose(&mut Dice::of_act(number)).0));
    named.collect::<Vec<_>>().join(", ")
}

/// The payload of a panic that an act asks for; the hook says nothing of it.
struct Planned;

fn panic_as_planned() -> ! {
    panic::panic_any(Planned)
}

pub(crate) fn is_planned(payload: &(dyn Any + Send)) -> bool {
    payload.is::<Planned>()
}

/// A value whose `Drop` suspends, and then stores another.
struct Restless(#[expect(dead_code, reason = "counts its drop")] Counted);

impl Drop for Restless {
    fn drop(&mut self) {
        coro::yield_now();
        tls::set("restless", Counted::new(0));
    }
}

/// Some of what coroutines do with their storage, whatever else they do. Tells how many handlers it has
/// registered.
fn use_storage(dice: &mut Dice) -> u64 {
    for _ in 0..dice.roll(8) {
        let (key, number) = (dice.roll(8), dice.roll(1000));
        let held = tls::get::<Counted>(key);
        let before = held.as_ref().map(|held| held.0);
        let held = held.filter(|_| dice.once_in(3));
        match dice.roll(5) {
            0..=2 => {
                tls::set(key, Counted::new(number));
                assert_eq!(tls::get::<Counted>(key).map(|value| value.0), Some(number));
            }
            3 => {
                let taken = tls::take::<Counted>(key).map(|value| value.0);
                assert_eq!(taken, before.filter(|_| held.is_none()), "nobody else holds it");
            }
            _ => {
                assert_eq!(tls::del(key), before.is_some());
                assert!(tls::get::<Counted>(key).is_none());
            }
        }
        assert!(held.is_none_or(|held| Some(held.0) == before), "what is held outlasts it");
    }
    match dice.roll(6) {
        0 => at_exit(|| tls::set("late", Counted::new(0))),
        1 => at_exit(|| at_exit(coro::yield_now)),
        2 => at_exit(|| panic_as_planned()),
        _ => return 0,
    }
    1
}

/// A coroutine's function, for the acts that care only for its end: it gives its number back, or panics.
fn chore(number: u64, mut dice: Dice) -> Counted {
    let captured = Counted::new(number);
    let home = thread::current().id();
    // The stack is another's former one, most often.
    assert_eq!(exit_target(), Some(ExitTarget::Goexit));
    assert!((0..8u64).all(|key| tls::get::<Counted>(key).is_none()));
    use_storage(&mut dice);
    match dice.roll(10) {
        0 => coro::yield_now(),
        1 => coro::sleep(dice.micros(500)),
        2 => coro::park_timeout(dice.micros(500)),
        3 => panic_as_planned(),
        4 => tls::set("restless", Restless(Counted::new(0))),
        _ => {}
    }
    assert_eq!(thread::current().id(), home, "what has started stays on its worker");
    captured
}

/// Spawns a [`chore`], and tells its number.
fn spawn(dice: &mut Dice) -> (u64, JoinHandle<Counted>) {
    let (number, inner) = (dice.roll(u64::MAX), dice.split());
    (number, go(move || chore(number, inner)))
}

/// Checks the outcome of a [`chore`]; `cancelled`: it may have been.
fn check(number: u64, outcome: Result<Counted, JoinError>, cancelled: bool) {
    match outcome {
        Ok(value) => assert_eq!(value.0, number),
        Err(JoinError::Panicked(payload)) => assert!(is_planned(&*payload)),
        Err(JoinError::Cancelled) => assert!(cancelled, "nobody has cancelled it"),
    }
}
