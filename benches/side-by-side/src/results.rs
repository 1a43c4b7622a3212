//! What was measured: a file of JSON for each row.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::catalogue::Row;
use crate::machine::Machine;
use crate::statistics::Summary;

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Results {
    pub row: String,
    /// Few and small: no figures to be compared.
    pub quick: bool,
    pub machine: Machine,
    pub lines: Vec<Line>,
}

/// One side of one line of the table.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Line {
    pub size: u64,
    pub workers: usize,
    pub peer: String,
    /// For each metric, which is named by the row, what the repeats say in the metric's unit.
    pub values: Vec<Vec<f64>>,
    /// Why there is no value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cannot: Option<String>,
}

impl Line {
    pub fn summary(&self, metric: usize) -> Option<Summary> {
        self.values
            .get(metric)
            .filter(|values| !values.is_empty())
            .map(|values| Summary::of(values))
    }
}

impl Results {
    /// The lines of one size and number of workers, in the order of the row's sides.
    pub fn lines_of(&self, size: u64, workers: usize) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(move |line| line.size == size && line.workers == workers)
    }

    /// Each size and number of workers that there is, in order.
    pub fn points(&self) -> Vec<(u64, usize)> {
        let mut points: Vec<_> = self.lines.iter().map(|line| (line.size, line.workers)).collect();
        points.sort_unstable();
        points.dedup();
        points
    }

    /// The median of a peer's first metric.
    pub fn median(&self, peer: &str, size: u64, workers: usize) -> Option<f64> {
        let line = self.lines_of(size, workers).find(|line| line.peer == peer)?;
        line.summary(0).map(|summary| summary.median)
    }

    pub fn write(&self, directory: &Path) -> io::Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        fs::write(file(directory, &self.row), text)
    }

    /// What is there of a row. A file that is not as it should be is an error.
    pub fn read(directory: &Path, row: &Row) -> io::Result<Option<Results>> {
        match fs::read_to_string(file(directory, row.name)) {
            Ok(text) => Ok(Some(serde_json::from_str(&text)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn file(directory: &Path, row: &str) -> PathBuf {
    directory.join(format!("{row}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::rows;

    pub(crate) fn some() -> Results {
        let line = |peer: &str, values: Vec<Vec<f64>>| Line {
            size: 100,
            workers: 2,
            peer: peer.to_owned(),
            values,
            cannot: None,
        };
        let mut refused = line("may", vec![]);
        refused.cannot = Some(String::from("why"));
        Results {
            row: String::from("turn"),
            quick: true,
            machine: Machine::default(),
            lines: vec![
                line("coro", vec![vec![1.5, 0.1 + 0.2, 3.0]]),
                line("tokio", vec![vec![2.0]]),
                refused,
            ],
        }
    }

    #[test]
    fn results_come_back_from_json_as_they_were() {
        let directory =
            std::env::temp_dir().join(format!("side-by-side-test-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        let results = some();
        results.write(&directory).expect("it is written");
        let turn = rows().find(|row| row.name == "turn").expect("a row");
        let read = Results::read(&directory, turn).expect("it is read");
        assert_eq!(read, Some(results));
        let other = rows().find(|row| row.name == "spawn").expect("a row");
        assert_eq!(Results::read(&directory, other).expect("it is read"), None);
        fs::remove_dir_all(&directory).expect("it is removed");
    }

    #[test]
    fn lines_are_found_by_size_workers_and_peer() {
        let results = some();
        assert_eq!(results.points(), [(100, 2)]);
        assert_eq!(results.median("coro", 100, 2), Some(1.5));
        assert_eq!(results.median("may", 100, 2), None);
        assert_eq!(results.median("coro", 100, 1), None);
    }
}
