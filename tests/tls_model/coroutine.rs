//! The coroutines of the random programs: what takes a command, carries it out through the public
//! functions of `tls`, and reports.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use coro::inspect::{ExitTarget, exit_target};
use coro::raw::{Coroutine, State, Yielder};
use coro::tls::{self, Data};
use coro::{Handle, park, yield_now};

use super::common::{is_planned, planned};
use super::{Act, Ended, Key, Order};

/// What everything of one program has in common. Whatever is stored holds it, and so shows that it is
/// still there.
#[derive(Default)]
pub(crate) struct World {
    log: Mutex<Vec<Event>>,
    next: AtomicU32,
}

/// What happens to values and handlers, by their numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    Dropped(u32),
    Ran(u32),
    Cloned(u32, u32),
    Saw(Option<u32>),
}

impl World {
    pub(crate) fn take_log(&self) -> Vec<Event> {
        std::mem::take(&mut self.log.lock().unwrap())
    }

    fn note(&self, event: Event) {
        self.log.lock().unwrap().push(event);
    }

    fn number(&self) -> u32 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }
}

/// A function that installs what it was wrapped with.
pub(crate) type Heirloom = Box<dyn FnOnce() + Send>;

pub(crate) enum Command {
    /// Just report.
    Nothing,
    Order(Order),
    Inherit,
    Install(Heirloom),
}

/// What came of a command.
pub(crate) struct Report {
    pub(crate) found: Option<u32>,
    pub(crate) panicked: bool,
    pub(crate) heirloom: Option<Heirloom>,
    /// The state of the coroutine after it.
    pub(crate) armed: bool,
    pub(crate) id: tls::Id,
}

/// A value: notes when it is dropped, and then does something.
struct Value {
    number: u32,
    act: Act,
    world: Arc<World>,
}

impl Value {
    fn new(world: &Arc<World>, act: Act) -> Value {
        Value { number: world.number(), act, world: Arc::clone(world) }
    }
}

impl Clone for Value {
    /// A clone does nothing when it is dropped: who drops several at once can bear one panic.
    fn clone(&self) -> Value {
        let clone = Value::new(&self.world, Act::Nothing);
        self.world.note(Event::Cloned(self.number, clone.number));
        if self.act == Act::Yield {
            yield_now();
        }
        clone
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.world.note(Event::Dropped(self.number));
        perform(&self.world, self.act);
    }
}

/// A value of another type.
struct Other(#[allow(dead_code)] Value);

/// A key as the store has it; holds the world, so that a key that is leaked shows.
#[derive(Clone)]
struct Called<T>(T, #[allow(dead_code)] Arc<World>);

impl<T: PartialEq> PartialEq for Called<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T: Eq> Eq for Called<T> {}

impl<T: Hash> Hash for Called<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

/// Calls something with the key that `$key` stands for.
macro_rules! with_key {
    ($key:expr, $world:expr, |$name:ident| $call:expr) => {
        match $key {
            Key::Number(number) => {
                let $name = Called(number, Arc::clone($world));
                $call
            }
            Key::Word(number) => {
                let $name = Called(format!("word {number}"), Arc::clone($world));
                $call
            }
        }
    };
}

coro::local! {
    static LOCALS_0: RefCell<Option<Value>> = const { RefCell::new(None) };
    static LOCALS_1: RefCell<Option<Value>> = RefCell::new(None);
}

/// What a value or a handler does of its own.
fn perform(world: &Arc<World>, act: Act) {
    match act {
        Act::Nothing => {}
        Act::Panic => planned("an act"),
        Act::Yield => yield_now(),
        Act::Look(key) => world.note(Event::Saw(look(world, key))),
        Act::Del(key) => drop(with_key!(key, world, |key| tls::del(key))),
        Act::Reset => tls::reset(),
        Act::Unload => tls::unload(),
        Act::Set(key, tame) => {
            let value = Value::new(world, tame.into());
            with_key!(key, world, |key| tls::set(key, value));
        }
        Act::AtExit(tame) => at_exit(world, tame.into()),
    }
}

fn at_exit(world: &Arc<World>, act: Act) {
    let captured = Value::new(world, Act::Nothing);
    tls::at_exit(move || {
        captured.world.note(Event::Ran(captured.number));
        perform(&captured.world, act);
    });
}

fn look(world: &Arc<World>, key: Key) -> Option<u32> {
    with_key!(key, world, |key| tls::get::<Value>(key)).map(|found| found.number)
}

/// Where commands come from.
pub(crate) trait Port {
    /// Hands out the report and waits for the next command.
    fn next(&self, report: Report) -> Command;
}

/// What the frames of one coroutine share.
struct Frame<'a> {
    world: &'a Arc<World>,
    port: &'a dyn Port,
    held: RefCell<Vec<Data<Value>>>,
    found: Cell<Option<u32>>,
    panicked: Cell<bool>,
    heirloom: Cell<Option<Heirloom>>,
    /// All levels are to be closed.
    finishing: Cell<bool>,
}

/// The body of every coroutine.
pub(crate) fn run(port: &dyn Port, world: &Arc<World>) {
    let frame = Frame {
        world,
        port,
        held: RefCell::default(),
        found: Cell::new(None),
        panicked: Cell::new(false),
        heirloom: Cell::new(None),
        finishing: Cell::new(false),
    };
    while !frame.finishing.get() {
        frame.level();
    }
}

impl Frame<'_> {
    /// Carries out commands until one closes this level.
    fn level(&self) {
        while !self.finishing.get() {
            let report = Report {
                found: self.found.take(),
                panicked: self.panicked.take(),
                heirloom: self.heirloom.take(),
                armed: exit_target().unwrap() == ExitTarget::Cleanup,
                id: tls::id(),
            };
            match self.port.next(report) {
                Command::Nothing => {}
                Command::Inherit => self.heirloom.set(Some(Box::new(tls::inherit(|| ())))),
                Command::Install(heirloom) => self.guarded(heirloom),
                Command::Order(Order::Close) => return,
                Command::Order(Order::Finish) => self.finishing.set(true),
                Command::Order(Order::Panic) => planned("an order"),
                Command::Order(Order::Catch) => self.caught(|| self.level(), "an order"),
                Command::Order(Order::Scope(key, act)) => {
                    let value = Value::new(self.world, act);
                    self.guarded(|| {
                        with_key!(key, self.world, |key| tls::scope(key, value, || self.level()));
                    });
                }
                Command::Order(order) => self.guarded(|| self.carry_out(order)),
            }
        }
    }

    /// Catches the panic of an act.
    fn guarded(&self, f: impl FnOnce()) {
        self.caught(f, "an act");
    }

    /// Catches one kind of panic, and no cancellation.
    fn caught(&self, f: impl FnOnce(), what: &str) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(f)) {
            if !is_planned(&*payload, what) {
                resume_unwind(payload);
            }
            self.panicked.set(true);
        }
    }

    fn carry_out(&self, order: Order) {
        let world = self.world;
        match order {
            Order::Set(key, act) => {
                let value = Value::new(world, act);
                with_key!(key, world, |key| tls::set(key, value));
            }
            Order::SetOther(key) => {
                let value = Other(Value::new(world, Act::Nothing));
                with_key!(key, world, |key| tls::set(key, value));
            }
            Order::SetInheritable(key, act) => {
                let value = Value::new(world, act);
                with_key!(key, world, |key| tls::set_inheritable(key, value));
            }
            Order::Local(number, act) => {
                let local = if number == 0 { &LOCALS_0 } else { &LOCALS_1 };
                drop(local.replace(Some(Value::new(world, act))));
            }
            Order::Get(key) => self.found.set(look(world, key)),
            Order::Hold(key) => {
                // What panics when it is dropped must not be dropped by an unwinding.
                let calm = |data: &Data<Value>| matches!(data.act, Act::Nothing | Act::Yield);
                let data = with_key!(key, world, |key| tls::get::<Value>(key)).filter(calm);
                self.found.set(data.as_ref().map(|data| data.number));
                self.held.borrow_mut().extend(data);
            }
            Order::Release => {
                let mut held = self.held.borrow_mut();
                let oldest = (!held.is_empty()).then(|| held.remove(0));
                drop(held);
                self.found.set(oldest.as_ref().map(|data| data.number));
                drop(oldest);
            }
            Order::Take(key) => {
                let taken = with_key!(key, world, |key| tls::take::<Value>(key));
                self.found.set(taken.as_ref().map(|value| value.number));
                drop(taken);
            }
            Order::Del(key) => {
                let deleted = with_key!(key, world, |key| tls::del(key));
                self.found.set(deleted.then_some(0));
            }
            Order::Reset => tls::reset(),
            Order::Unload => tls::unload(),
            Order::AtExit(act) => at_exit(world, act),
            Order::Scope(..) | Order::Catch | Order::Close => unreachable!("a level's own"),
            Order::Panic | Order::Finish | Order::Inherit | Order::Install => {
                unreachable!("a level's own")
            }
        }
    }
}

impl Port for Yielder<Command, Report> {
    fn next(&self, report: Report) -> Command {
        self.suspend(report)
    }
}

/// A raw coroutine, or how it has ended.
pub(crate) enum Raw {
    Alive(Coroutine<Command, Report, ()>),
    Ended(Result<(), Box<dyn Any + Send>>),
}

pub(crate) fn raw(world: &Arc<World>) -> Raw {
    let world = Arc::clone(world);
    let coroutine = crate::common::raw(64 << 10, move |yielder: &Yielder<_, _>, first| {
        assert!(matches!(first, Command::Nothing));
        run(yielder, &world);
    });
    Raw::Alive(coroutine.unwrap())
}

impl Raw {
    pub(crate) fn tell(&mut self, command: Command) -> Result<Report, ()> {
        let Raw::Alive(coroutine) = self else { panic!("it has ended") };
        match catch_unwind(AssertUnwindSafe(|| coroutine.resume(command))) {
            Ok(State::Yielded(report)) => return Ok(report),
            Ok(State::Done(())) => *self = Raw::Ended(Ok(())),
            Err(payload) => *self = Raw::Ended(Err(payload)),
        }
        Err(())
    }

    pub(crate) fn end(self) -> Ended {
        match self {
            Raw::Alive(coroutine) => {
                drop(coroutine);
                Ended::Cancelled
            }
            Raw::Ended(Ok(())) => Ended::Returned,
            Raw::Ended(Err(payload)) => {
                assert!(is_planned(&*payload, "an order"));
                Ended::Panicked
            }
        }
    }
}

/// The driver's end of the line to a task.
pub(crate) struct Link {
    commands: mpsc::Sender<Command>,
    reports: mpsc::Receiver<Report>,
}

/// The task's end.
pub(crate) struct TaskPort {
    commands: mpsc::Receiver<Command>,
    reports: mpsc::Sender<Report>,
    first: Cell<bool>,
}

pub(crate) fn link() -> (Link, TaskPort) {
    let (command, commands) = mpsc::channel();
    let (report, reports) = mpsc::channel();
    let port = TaskPort { commands, reports: report, first: Cell::new(true) };
    (Link { commands: command, reports }, port)
}

impl Link {
    pub(crate) fn tell(&self, command: Command, task: &Handle) -> Result<Report, ()> {
        self.commands.send(command).expect("the task listens");
        task.unpark();
        self.reports.recv().map_err(drop)
    }
}

impl Port for TaskPort {
    fn next(&self, report: Report) -> Command {
        // Nobody waits for the report that comes before the first command.
        if !self.first.replace(false) {
            self.reports.send(report).expect("the driver listens");
        }
        loop {
            if let Ok(command) = self.commands.try_recv() {
                return command;
            }
            park();
        }
    }
}
