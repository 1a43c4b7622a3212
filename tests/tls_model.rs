//! Random programs over several coroutines, against a model that knows what must happen.
//!
//! A program is a list of steps, each for one of a few places. In a place lives a coroutine, a raw one
//! or a task, which takes one command at a time and tells what came of it:
//!
//! ```text
//!   steps ---> driver ---- command ---> coroutine in place 0   (raw: resume and suspend)
//!                |    <---- report ----
//!                |     --- command ---> coroutine in place 1   (task: channels, park and unpark)
//!                |    <---- report ----
//!              model: the same command, what the report must say, and what the log must say
//! ```
//!
//! Everything runs in turn, so the log of what was dropped, run and made, which all of them share, is
//! the same as the model's to the last entry. Values and handlers may do things of their own when
//! they are dropped or run. In the end each value was dropped exactly once, and nobody is left who holds
//! a part of the world: neither a key, nor a handler, nor a value.
//!
//! Programs that have failed are kept in `proptest-regressions/tls_model.txt` and run first.

mod common;
#[path = "tls_model/coroutine.rs"]
mod coroutine;
#[path = "tls_model/model.rs"]
mod model;

use std::sync::Arc;

use coro::{JoinError, JoinHandle, Runtime, tls};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use common::{is_planned, quiet, runtime, watchdog};
use coroutine::{Command, Heirloom, Link, Report, World};
use model::{Model, Sibling};

/// In how many places coroutines live.
const PLACES: usize = 3;

/// How many names there are: of two types of keys, and of typed locals.
const NUMBERS: u8 = 5;
const WORDS: u8 = 3;
const STATICS: u8 = 2;

/// What a value does when it is dropped, or a handler when it is run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Act {
    Nothing,
    Panic,
    Yield,
    Look(Key),
    Del(Key),
    Reset,
    Unload,
    /// Stores a value that does the second thing.
    Set(Key, Tame),
    AtExit(Tame),
}

/// What a value does that another one's act has stored; so it all has an end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Tame {
    Nothing,
    Panic,
    Del(Key),
    Unload,
}

impl From<Tame> for Act {
    fn from(tame: Tame) -> Act {
        match tame {
            Tame::Nothing => Act::Nothing,
            Tame::Panic => Act::Panic,
            Tame::Del(key) => Act::Del(key),
            Tame::Unload => Act::Unload,
        }
    }
}

/// What values are stored under, except for typed locals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Key {
    Number(u8),
    Word(u8),
}

/// One command to a coroutine, as it is generated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Order {
    Set(Key, Act),
    /// A value of another type.
    SetOther(Key),
    SetInheritable(Key, Act),
    Local(u8, Act),
    Get(Key),
    /// Gets the value and keeps it.
    Hold(Key),
    /// Lets go of what was kept longest.
    Release,
    Take(Key),
    Del(Key),
    Reset,
    Unload,
    AtExit(Act),
    Scope(Key, Act),
    Catch,
    /// Closes the innermost scope, or catch.
    Close,
    Panic,
    Finish,
    /// Wraps a function, which is left with the driver.
    Inherit,
    /// Calls a function that some coroutine has left.
    Install,
}

/// What kind of coroutine is started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Species {
    Raw,
    Task,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Start(Species),
    Order(Order),
    /// Cancels a task, drops a raw coroutine.
    Cancel,
    /// Drops a function that some coroutine has left.
    Disown,
}

fn key() -> impl Strategy<Value = Key> {
    prop_oneof![(0..NUMBERS).prop_map(Key::Number), (0..WORDS).prop_map(Key::Word)]
}

fn tame() -> impl Strategy<Value = Tame> {
    prop_oneof![
        3 => Just(Tame::Nothing),
        1 => Just(Tame::Panic),
        1 => key().prop_map(Tame::Del),
        1 => Just(Tame::Unload),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        12 => Just(Act::Nothing),
        2 => Just(Act::Panic),
        1 => Just(Act::Yield),
        1 => key().prop_map(Act::Look),
        1 => key().prop_map(Act::Del),
        1 => Just(Act::Reset),
        1 => Just(Act::Unload),
        2 => (key(), tame()).prop_map(|(key, tame)| Act::Set(key, tame)),
        1 => tame().prop_map(Act::AtExit),
    ]
}

fn order() -> impl Strategy<Value = Order> {
    prop_oneof![
        8 => (key(), act()).prop_map(|(key, act)| Order::Set(key, act)),
        1 => key().prop_map(Order::SetOther),
        4 => (key(), act()).prop_map(|(key, act)| Order::SetInheritable(key, act)),
        3 => (0..STATICS, act()).prop_map(|(n, act)| Order::Local(n, act)),
        3 => key().prop_map(Order::Get),
        3 => key().prop_map(Order::Hold),
        2 => Just(Order::Release),
        2 => key().prop_map(Order::Take),
        2 => key().prop_map(Order::Del),
        1 => Just(Order::Reset),
        1 => Just(Order::Unload),
        4 => act().prop_map(Order::AtExit),
        4 => (key(), act()).prop_map(|(key, act)| Order::Scope(key, act)),
        1 => Just(Order::Catch),
        4 => Just(Order::Close),
        1 => Just(Order::Panic),
        1 => Just(Order::Finish),
        2 => Just(Order::Inherit),
        2 => Just(Order::Install),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => prop_oneof![Just(Species::Raw), Just(Species::Task)].prop_map(Step::Start),
        30 => order().prop_map(Step::Order),
        1 => Just(Step::Cancel),
        1 => Just(Step::Disown),
    ]
}

/// A coroutine in its place, and what the model knows of it.
struct Actor {
    body: Body,
    twin: Sibling,
}

enum Body {
    Raw(coroutine::Raw),
    Task(JoinHandle<()>, Link),
}

/// How an actor has ended.
#[derive(PartialEq, Eq, Debug)]
enum Ended {
    Returned,
    Panicked,
    Cancelled,
}

impl Body {
    fn start(species: Species, runtime: &Runtime, world: &Arc<World>) -> Body {
        match species {
            Species::Raw => Body::Raw(coroutine::raw(world)),
            Species::Task => {
                let (link, port) = coroutine::link();
                let world = Arc::clone(world);
                let handle = runtime.go(move || coroutine::run(&port, &world));
                Body::Task(handle, link)
            }
        }
    }

    /// Has a command carried out. `Err`: it has ended.
    fn tell(&mut self, command: Command) -> Result<Report, ()> {
        match self {
            Body::Raw(raw) => raw.tell(command),
            Body::Task(handle, link) => link.tell(command, &handle.handle()),
        }
    }

    /// How it ended, once it has; cancels it if it has not.
    fn end(self, cancel: bool) -> Ended {
        match self {
            Body::Raw(raw) => raw.end(),
            Body::Task(handle, _link) => {
                if cancel {
                    handle.cancel();
                }
                match handle.join() {
                    Ok(()) => Ended::Returned,
                    Err(JoinError::Cancelled) => Ended::Cancelled,
                    Err(JoinError::Panicked(payload)) => {
                        assert!(is_planned(&*payload, "an order"));
                        Ended::Panicked
                    }
                }
            }
        }
    }
}

/// Runs programs.
struct Driver<'a> {
    runtime: &'a Runtime,
    world: Arc<World>,
    model: Model,
    places: [Option<Actor>; PLACES],
    /// What was wrapped and not called yet, with what the model says is in it.
    heirlooms: Vec<(Heirloom, model::Clones)>,
}

impl Driver<'_> {
    fn step(&mut self, place: usize, step: Step) {
        match step {
            Step::Start(species) => self.start(place, species),
            Step::Order(order) => self.order(place, order),
            Step::Cancel => self.cancel(place),
            Step::Disown => {
                if let Some((heirloom, clones)) = self.heirlooms.pop() {
                    drop(heirloom);
                    self.model.disown(clones);
                }
            }
        }
        self.compare_logs();
    }

    #[track_caller]
    fn compare_logs(&mut self) {
        assert_eq!(self.world.take_log(), self.model.take_log());
    }

    fn start(&mut self, place: usize, species: Species) {
        if self.places[place].is_none() {
            let body = Body::start(species, self.runtime, &self.world);
            self.places[place] = Some(Actor { body, twin: Sibling::default() });
            self.order_to(place, Command::Nothing, |_, _| model::Expected::default());
        }
    }

    fn order(&mut self, place: usize, order: Order) {
        if self.places[place].is_none() {
            return;
        }
        match order {
            Order::Install => {
                if let Some((heirloom, clones)) = self.heirlooms.pop() {
                    self.order_to(place, Command::Install(heirloom), |model, twin| {
                        model.install(twin, clones)
                    });
                }
            }
            Order::Inherit => {
                let mut clones = None;
                let heirloom = self.order_to(place, Command::Inherit, |model, twin| {
                    clones = Some(model.inherit(twin));
                    model::Expected::default()
                });
                self.heirlooms.push((heirloom.unwrap(), clones.unwrap()));
            }
            order => {
                let command = Command::Order(order);
                self.order_to(place, command, |model, twin| model.order(twin, order));
            }
        }
    }

    /// Has a command carried out by the coroutine and by the model, and compares.
    fn order_to(
        &mut self,
        place: usize,
        command: Command,
        expect: impl FnOnce(&mut Model, &mut Sibling) -> model::Expected,
    ) -> Option<Heirloom> {
        let actor = self.places[place].as_mut().expect("somebody lives there");
        let report = actor.body.tell(command);
        let expected = expect(&mut self.model, &mut actor.twin);
        if let Some(ended) = expected.ended {
            assert!(report.is_err(), "it should have ended");
            let actor = self.places[place].take().expect("somebody lives there");
            assert_eq!(actor.body.end(false), ended);
            return None;
        }
        let report = report.expect("it should go on");
        assert_eq!(report.found, expected.found);
        assert_eq!(report.panicked, expected.panicked);
        assert_eq!(report.armed, actor.twin.is_armed());
        self.model.check_id(&mut actor.twin, report.id);
        report.heirloom
    }

    fn cancel(&mut self, place: usize) {
        if let Some(mut actor) = self.places[place].take() {
            self.model.unwind(&mut actor.twin);
            assert_eq!(actor.body.end(true), Ended::Cancelled);
        }
    }

    /// Ends everybody, each in its own way, and sees what is left.
    fn finish(mut self) {
        for place in 0..PLACES {
            match place {
                0 => self.order(place, Order::Finish),
                1 => self.cancel(place),
                _ => {
                    self.order(place, Order::Panic);
                    self.order(place, Order::Finish);
                }
            }
            self.compare_logs();
        }
        while !self.heirlooms.is_empty() {
            self.step(0, Step::Disown);
        }
        assert!(self.places.iter().all(Option::is_none));
        self.model.check_everything_ended();
        assert_eq!(Arc::strong_count(&self.world), 1, "somebody still holds the world");
    }
}

fn persistence() -> Option<Box<FileFailurePersistence>> {
    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/proptest-regressions/tls_model.txt");
    Some(Box::new(FileFailurePersistence::Direct(FILE)))
}

#[test]
fn tls_random_programs_agree_with_the_model() {
    let _watchdog = watchdog();
    quiet();
    let runtimes = [runtime(1), runtime(2)];
    let config = ProptestConfig {
        cases: if cfg!(debug_assertions) { 300 } else { 1500 },
        failure_persistence: persistence().map(|file| file as _),
        max_shrink_iters: 20_000,
        ..ProptestConfig::default()
    };
    let programs = (0..2usize, prop::collection::vec((0..PLACES, step()), 1..120));
    proptest!(config, |((workers, steps) in programs)| {
        let mut driver = Driver {
            runtime: &runtimes[workers],
            world: Arc::default(),
            model: Model::default(),
            places: [const { None }; PLACES],
            heirlooms: Vec::new(),
        };
        for place in 0..PLACES {
            let species = [Species::Raw, Species::Task][place % 2];
            driver.step(place, Step::Start(species));
        }
        for (place, step) in steps {
            driver.step(place, step);
        }
        driver.finish();
    });
    // The store of this thread was never meant.
    tls::unload();
}
