//! Programs for tasks: trees of bodies, each with steps and an end.
//!
//! A program is read byte by byte, so that every input is one. What is nested too deep, or comes after too
//! many bodies, is left out.

use arbitrary::{Arbitrary, Result, Unstructured};

const DEEPEST: u32 = 5;
const MOST: u32 = 60;

/// What a task does.
#[derive(Clone, Debug, Default)]
pub struct Body {
    /// In order.
    pub steps: Vec<Step>,
    /// Whether it panics in the end.
    pub panics: bool,
}

/// One step of a body.
#[derive(Clone, Debug)]
pub enum Step {
    /// Lets others go first.
    Yield,
    /// Parks until whoever spawned the task opens its gate once more.
    Pass,
    /// Sleeps for so many microseconds.
    Sleep(u64),
    /// Parks for so many microseconds at most.
    ParkTimeout(u64),
    /// Stores a value that counts its drop.
    Store(u8),
    /// Registers a handler that suspends so often.
    AtExit(u8),
    /// From here on a value is on the stack whose `Drop` suspends.
    Linger,
    /// Spawns a task, and this becomes of it.
    Spawn(Body, Fate),
    /// Spawns tasks in a scope, with the same fate each, and plays steps inside.
    Scope(Vec<Body>, Fate, Vec<Step>),
    /// Spawns tasks in a `JoinSet`, which ends like this.
    Set(Vec<Body>, SetEnd),
    /// Plays steps within so many microseconds.
    Timeout(u64, Vec<Step>),
    /// Plays steps, and catches what unwinds out of them.
    Catch(Vec<Step>),
    /// Blocks a thread of the pool. The call may panic.
    Blocking(bool),
    /// Plays steps in a shield.
    Shield(Vec<Step>),
    /// Panics, and plays steps in a destructor that the panic runs.
    Unwind(Vec<Step>),
    /// Plays steps in a raw coroutine, which suspends itself once, and then is resumed or dropped.
    Raw(Vec<Step>, bool),
    /// Cancels itself.
    CancelSelf,
    /// Unparks itself.
    UnparkSelf,
}

/// What becomes of a task that was spawned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Joined at once.
    Join,
    /// Waited for as a future.
    Wait,
    /// Joined when the body is over.
    JoinLate,
    /// Cancelled, and joined.
    Cancel,
    /// Lets others go first, cancels, and joins.
    CancelLate,
    /// Detached.
    Detach,
    /// Cancelled and detached.
    CancelDetach,
}

/// How a `JoinSet` ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetEnd {
    /// All members are joined.
    JoinAll,
    /// All are cancelled, and joined.
    Abort,
    /// One is joined, and the set is dropped.
    Drop,
    /// One is asked for, and the others are detached.
    Detach,
}

/// A whole input.
#[derive(Clone, Debug)]
pub struct Tree {
    /// For the target to read.
    pub mode: u8,
    /// The bodies that are there from the start.
    pub roots: Vec<(Body, Fate)>,
}

/// A microsecond or a few hundred.
fn micros(byte: u8) -> u64 {
    u64::from(byte & 63) * 8
}

struct Reader<'a, 'b> {
    bytes: &'b mut Unstructured<'a>,
    bodies: u32,
}

impl Reader<'_, '_> {
    /// The next byte, or 0 when there is none.
    fn byte(&mut self) -> u8 {
        self.bytes.arbitrary().unwrap_or(0)
    }

    fn body(&mut self, depth: u32) -> Body {
        self.bodies += 1;
        let head = self.byte();
        Body { steps: self.steps(head & 7, depth + 1), panics: head >> 3 == 31 }
    }

    fn bodies(&mut self, number: u8, depth: u32) -> Vec<Body> {
        let number = if depth < DEEPEST { number } else { 0 };
        let mut bodies = Vec::new();
        while bodies.len() < usize::from(number) && !self.bytes.is_empty() && self.bodies < MOST {
            bodies.push(self.body(depth));
        }
        bodies
    }

    fn steps(&mut self, number: u8, depth: u32) -> Vec<Step> {
        let number = if depth < 2 * DEEPEST { number } else { 0 };
        let mut steps = Vec::new();
        while steps.len() < usize::from(number) && !self.bytes.is_empty() {
            steps.extend(self.step(depth));
        }
        steps
    }

    fn step(&mut self, depth: u32) -> Option<Step> {
        let (what, with) = (self.byte(), self.byte());
        let few = with >> 6;
        Some(match what % 22 {
            0 | 1 => Step::Yield,
            2 | 3 => Step::Pass,
            4 => Step::Sleep(micros(with)),
            5 => Step::ParkTimeout(micros(with)),
            6 => Step::Store(with & 15),
            7 => Step::AtExit(with & 3),
            8 => Step::Linger,
            9..=11 => Step::Spawn(self.bodies(1, depth + 1).pop()?, fate(with)),
            12 => Step::Scope(
                self.bodies(few, depth + 1),
                fate(with),
                self.steps(with >> 3 & 3, depth + 1),
            ),
            13 | 14 => Step::Set(self.bodies(few + 1, depth + 1), set_end(with)),
            15 => Step::Timeout(micros(with), self.steps(few + 1, depth + 1)),
            16 => Step::Catch(self.steps(few + 1, depth + 1)),
            17 => Step::Blocking(with == 255),
            18 => Step::Raw(self.steps(few, depth + 1), with & 1 == 0),
            19 => Step::CancelSelf,
            20 => Step::UnparkSelf,
            _ if with & 1 == 0 => Step::Shield(self.steps(few + 1, depth + 1)),
            _ => Step::Unwind(self.steps(few + 1, depth + 1)),
        })
    }
}

fn fate(byte: u8) -> Fate {
    match byte & 7 {
        0 | 1 => Fate::Join,
        2 => Fate::Wait,
        3 => Fate::JoinLate,
        4 => Fate::Cancel,
        5 => Fate::CancelLate,
        6 => Fate::Detach,
        _ => Fate::CancelDetach,
    }
}

fn set_end(byte: u8) -> SetEnd {
    match byte & 3 {
        0 => SetEnd::JoinAll,
        1 => SetEnd::Abort,
        2 => SetEnd::Drop,
        _ => SetEnd::Detach,
    }
}

impl<'a> Arbitrary<'a> for Tree {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let mode = u.arbitrary()?;
        let mut reader = Reader { bytes: u, bodies: 0 };
        let mut roots = Vec::new();
        while reader.bodies < MOST && !reader.bytes.is_empty() && roots.len() < 6 {
            let fate = fate(reader.byte());
            roots.push((reader.body(0), fate));
        }
        Ok(Tree { mode, roots })
    }

    fn size_hint(_depth: usize) -> (usize, Option<usize>) {
        (1, None)
    }
}

impl Body {
    /// How often its gate has to be opened for it to come to its end.
    pub fn passes(&self) -> usize {
        passes(&self.steps)
    }
}

fn passes(steps: &[Step]) -> usize {
    let each = steps.iter().map(|step| match step {
        Step::Pass => 1,
        Step::Scope(_, _, steps)
        | Step::Timeout(_, steps)
        | Step::Catch(steps)
        | Step::Raw(steps, _)
        | Step::Shield(steps)
        | Step::Unwind(steps) => passes(steps),
        _ => 0,
    });
    each.sum()
}
