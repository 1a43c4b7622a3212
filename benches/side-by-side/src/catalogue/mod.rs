//! What is measured, of whom: one table of rows, and in each row its sides.

mod channels;
mod crowds;
mod locks;
mod memory;
mod scheduling;
mod servers;
mod storage;

use std::time::Duration;

use indicatif::HumanCount;

use crate::measure::Task;
use crate::servers::Load;

/// One line of the table, or several, if there is more than one size.
pub struct Row {
    /// How it is called on the command line, and in the programs of other languages.
    pub name: &'static str,
    pub group: &'static str,
    pub what: &'static str,
    /// What a measurement gives. The first is what ratios are made of; a side may leave the others out.
    pub metrics: &'static [Metric],
    pub per: Per,
    pub workers: Workers,
    pub sizes: &'static [u64],
    pub sides: &'static [Side],
}

pub struct Metric {
    pub what: &'static str,
    pub unit: &'static str,
    /// What a measured value is divided by to be shown in that unit.
    pub scale: f64,
    pub more_is_better: bool,
}

/// What the first value is for.
#[derive(Clone, Copy, PartialEq)]
pub enum Per {
    /// One of thousands of operations.
    Operation,
    /// One of operations of which `size` take turns.
    Turn,
    /// Each of the `size` parts of something that is done as a whole.
    Part,
    /// The whole.
    Whole,
}

#[derive(Clone, Copy)]
pub enum Workers {
    /// As the command line says.
    Asked,
    One,
    /// From one to eight, whatever the command line says and the machine has.
    OneToEight,
}

/// Whoever does the work.
pub struct Side {
    pub peer: &'static str,
    pub work: Work,
    /// The largest size of which it is capable, and why.
    pub most: Option<(u64, &'static str)>,
}

#[derive(Clone, Copy)]
pub enum Work {
    /// It is done so many times, and the side says how long that took.
    Repeated(fn(&Task) -> Duration),
    /// It is done once, and the side says the values.
    Once(fn(&Task) -> Vec<f64>),
    /// A server of this peer's under a load.
    Server(Load),
    /// A program in another language does it.
    Program,
    /// There is nothing of the kind, or it cannot be compared.
    Cannot(&'static str),
}

impl Row {
    /// An operation that takes some nanoseconds.
    const fn of_operation(
        group: &'static str,
        workers: Workers,
        name: &'static str,
        what: &'static str,
        sides: &'static [Side],
    ) -> Row {
        let (metrics, sizes) = (&[NANOSECONDS], &[1]);
        Row { name, group, what, metrics, per: Per::Operation, workers, sizes, sides }
    }

    /// How often it is done at least.
    pub fn first(&self, size: u64) -> u64 {
        match self.per {
            Per::Operation => 1_000,
            Per::Turn => size.max(1_000),
            Per::Part | Per::Whole => 1,
        }
    }

    /// The values of a measurement as they are shown.
    pub fn shown(&self, values: &[f64], size: u64) -> Vec<f64> {
        let parts = if self.per == Per::Part { size as f64 } else { 1.0 };
        let mut shown: Vec<f64> =
            values.iter().zip(self.metrics).map(|(value, metric)| value / metric.scale).collect();
        if let Some(first) = shown.first_mut() {
            *first /= parts;
        }
        shown
    }

    /// What a line of it is about.
    pub fn line(&self, size: u64) -> String {
        self.what.replace("{}", &grouped(size))
    }
}

/// A number with commas.
pub fn grouped(number: u64) -> String {
    HumanCount(number).to_string()
}

pub fn rows() -> impl Iterator<Item = &'static Row> {
    [
        storage::ROWS,
        scheduling::ROWS,
        crowds::ROWS,
        channels::ROWS,
        locks::ROWS,
        servers::ROWS,
        memory::ROWS,
    ]
    .into_iter()
    .flatten()
}

const fn metric(what: &'static str, unit: &'static str, scale: f64) -> Metric {
    Metric { what, unit, scale, more_is_better: false }
}

const NANOSECONDS: Metric = metric("time", "ns", 1.0);
const MILLISECONDS: Metric = metric("time", "ms", 1e6);

/// Powers of ten.
const CURVE: &[u64] = &[1, 10, 100, 1_000, 10_000, 100_000, 1_000_000];

const fn runs(peer: &'static str, run: fn(&Task) -> Duration) -> Side {
    Side { peer, work: Work::Repeated(run), most: None }
}

const fn once(peer: &'static str, run: fn(&Task) -> Vec<f64>) -> Side {
    Side { peer, work: Work::Once(run), most: None }
}

const fn server(peer: &'static str, load: Load) -> Side {
    Side { peer, work: Work::Server(load), most: None }
}

const fn program(peer: &'static str) -> Side {
    Side { peer, work: Work::Program, most: None }
}

const fn cannot(peer: &'static str, why: &'static str) -> Side {
    Side { peer, work: Work::Cannot(why), most: None }
}

impl Side {
    const fn up_to(mut self, most: u64, why: &'static str) -> Side {
        self.most = Some((most, why));
        self
    }

    /// Why this side has no value for this size, if that is known beforehand.
    pub fn refusal(&self, size: u64) -> Option<&'static str> {
        match (self.work, self.most) {
            (Work::Cannot(why), _) => Some(why),
            (_, Some((most, why))) if size > most => Some(why),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sound() {
        let mut names: Vec<_> = rows().map(|row| row.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "names of rows");
        for row in rows() {
            assert!(!row.metrics.is_empty() && !row.sizes.is_empty(), "{}", row.name);
            assert_eq!(row.sides[0].peer, "coro", "{}: the first side", row.name);
            let mut peers: Vec<_> = row.sides.iter().map(|side| side.peer).collect();
            peers.sort_unstable();
            peers.dedup();
            assert_eq!(peers.len(), row.sides.len(), "{}: peers", row.name);
            assert_eq!(row.sizes != [1], row.what.contains("{}"), "{}: sizes", row.name);
        }
    }

    #[test]
    fn a_value_is_shown_in_its_unit_and_by_part() {
        let row = rows().find(|row| row.name == "spawn").expect("a row");
        assert_eq!(row.shown(&[5_000.0], 100), [50.0]);
        let row = rows().find(|row| row.name == "skynet").expect("a row");
        assert_eq!(row.shown(&[5e6], 100), [5.0]);
    }

    #[test]
    fn numbers_are_grouped_by_three() {
        assert_eq!([7, 100, 1_000, 1_234_567].map(grouped), ["7", "100", "1,000", "1,234,567"]);
    }
}
