//! Has everything measured, each time in a process of its own, and all sides of a line in turn.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use rustix::process::{Pid, Signal};

use crate::catalogue::{Row, Side, Work, Workers};
use crate::machine::Machine;
use crate::programs::{self, Built};
use crate::results::{Line, Results};
use crate::table;

pub struct Plan {
    pub rows: Vec<&'static Row>,
    /// Words; a peer whose name contains one of them takes part. None: all do.
    pub peers: Option<Vec<String>>,
    pub workers: Vec<usize>,
    pub repeats: usize,
    pub quick: bool,
}

impl Plan {
    /// How long a measurement is to take when it is warm.
    fn goal(&self) -> Duration {
        if self.quick { Duration::from_millis(5) } else { Duration::from_millis(100) }
    }

    /// After which time a measurement is given up.
    fn limit(&self) -> Duration {
        if self.quick { Duration::from_secs(20) } else { Duration::from_secs(120) }
    }

    fn sizes(&self, row: &Row) -> Vec<u64> {
        /// A tree of this size is whole, too.
        const QUICK: u64 = 1_000;

        let largest = if self.quick { QUICK } else { u64::MAX };
        let mut sizes: Vec<u64> = row.sizes.iter().map(|size| *size.min(&largest)).collect();
        sizes.dedup();
        if self.quick && sizes.len() > 2 {
            // The ends of a curve.
            sizes = vec![sizes[0], sizes[sizes.len() - 1]];
        }
        sizes
    }

    fn workers(&self, row: &Row) -> Vec<usize> {
        match row.workers {
            Workers::Asked => self.workers.clone(),
            Workers::One => vec![1],
            Workers::OneToEight if self.quick => vec![1, 8],
            Workers::OneToEight => vec![1, 2, 3, 4, 6, 8],
        }
    }

    fn sides(&self, row: &'static Row) -> Vec<&'static Side> {
        let wanted = |side: &&Side| {
            self.peers.as_ref().is_none_or(|peers| {
                side.peer == "coro" || peers.iter().any(|word| side.peer.contains(word.as_str()))
            })
        };
        row.sides.iter().filter(wanted).collect()
    }

    fn count(&self) -> usize {
        let lines = |row: &&'static Row| {
            self.sizes(row).len() * self.workers(row).len() * self.sides(row).len()
        };
        self.rows.iter().map(lines).sum::<usize>() * self.repeats
    }

    /// Measures all, and writes and prints each row as soon as it is there. Tells whether all is well that is written here:
    /// coro's sides, and, if it is to be quick, those of other crates.
    pub fn run(&self, machine: &Machine, directory: &Path) -> io::Result<bool> {
        let bar = ProgressBar::new(self.count() as u64);
        let style = "{elapsed_precise} {bar:30} {pos}/{len}, {eta} left: {msg}";
        bar.set_style(ProgressStyle::with_template(style).expect("a template"));
        bar.set_message("building the programs of other languages");
        bar.enable_steady_tick(Duration::from_millis(200));
        let mut wanted: Vec<_> =
            self.rows.iter().flat_map(|row| self.sides(row)).map(|side| side.peer).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let built = programs::build(&wanted);
        let mut sound = true;
        for row in &self.rows {
            let lines = self.measure_row(row, &built, &bar, &mut sound);
            let results = Results {
                row: row.name.to_owned(),
                quick: self.quick,
                machine: machine.clone(),
                lines,
            };
            results.write(directory)?;
            bar.suspend(|| print!("{}", table::plain(row, &results)));
        }
        bar.finish_and_clear();
        Ok(sound)
    }

    fn measure_row(
        &self,
        row: &'static Row,
        built: &Built,
        bar: &ProgressBar,
        sound: &mut bool,
    ) -> Vec<Line> {
        let sides = self.sides(row);
        let mut lines = Vec::new();
        for workers in self.workers(row) {
            // Why a side can do no more of a row, once it has failed at a smaller size.
            let mut failed: Vec<Option<String>> = vec![None; sides.len()];
            for size in self.sizes(row) {
                let mut of_size: Vec<Line> = sides
                    .iter()
                    .zip(&failed)
                    .map(|(side, failed)| Line {
                        size,
                        workers,
                        peer: side.peer.to_owned(),
                        values: Vec::new(),
                        cannot: side
                            .refusal(size)
                            .map(str::to_owned)
                            .or_else(|| built.get(side.peer)?.clone().err())
                            .or_else(|| failed.clone()),
                    })
                    .collect();
                for repeat in 0..self.repeats {
                    for turn in 0..sides.len() {
                        let index = (turn + repeat) % sides.len();
                        let (side, line) = (sides[index], &mut of_size[index]);
                        bar.set_message(format!("{} {}, {workers}", row.line(size), side.peer));
                        bar.inc(1);
                        if line.cannot.is_some() {
                            continue;
                        }
                        match self.measure(row, side, workers, size) {
                            Ok(values) => add(&mut line.values, row.shown(&values, size)),
                            Err(why) => {
                                // Of others it is a fault of ours if not even little can be done.
                                let is_ours = self.quick && !matches!(side.work, Work::Program);
                                *sound &= side.peer != "coro" && !is_ours;
                                failed[index] = Some(why.clone());
                                line.cannot = Some(why);
                                line.values.clear();
                            }
                        }
                    }
                }
                lines.append(&mut of_size);
            }
        }
        lines
    }

    fn measure(
        &self,
        row: &Row,
        side: &Side,
        workers: usize,
        size: u64,
    ) -> Result<Vec<f64>, String> {
        let program = match side.work {
            Work::Program => programs::path(side.peer).expect("it is one of the programs"),
            _ => std::env::current_exe().expect("this program"),
        };
        let mut command = Command::new(program);
        command
            .args(["measure", row.name, side.peer])
            .args(
                [workers as u64, size, self.goal().as_millis() as u64, row.first(size)]
                    .map(|n| n.to_string()),
            )
            .env("RUST_BACKTRACE", "0")
            .env("GOMAXPROCS", workers.to_string())
            .env("SMOL_THREADS", workers.to_string());
        let output = finish(&mut command, self.limit())?;
        serde_json::from_slice(&output).map_err(|_| String::from("it prints no values"))
    }
}

fn add(all: &mut Vec<Vec<f64>>, values: Vec<f64>) {
    all.resize(all.len().max(values.len()), Vec::new());
    all.iter_mut().zip(values).for_each(|(all, value)| all.push(value));
}

/// Runs it to its end and gives what it prints, or says why it fails.
fn finish(command: &mut Command, limit: Duration) -> Result<Vec<u8>, String> {
    // Files: a pipe would have to be emptied while it runs.
    let home = std::env::temp_dir();
    let paths =
        ["out", "err"].map(|name| home.join(format!("side-by-side-{}.{name}", std::process::id())));
    let [output, errors] = [0, 1].map(|index| File::create(&paths[index]).expect("a file"));
    let started =
        command.process_group(0).stdin(Stdio::null()).stdout(output).stderr(errors).spawn();
    let mut child = started.map_err(|error| error.to_string())?;
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            break Some(status);
        }
        if begin.elapsed() > limit {
            // With the server that it may have started.
            let group = Pid::from_child(&child);
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
            let _ = child.wait();
            break None;
        }
        thread::sleep(Duration::from_millis(1));
    };
    let [output, errors] = paths.map(|path| {
        let text = std::fs::read(&path).unwrap_or_default();
        let _ = std::fs::remove_file(path);
        text
    });
    match status {
        Some(status) if status.success() => Ok(output),
        Some(status) => {
            let why = programs::reason(&errors).unwrap_or_else(|| status.to_string());
            Err(format!("fails: {why}"))
        }
        None => Err(format!("does not end within {} s", limit.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::rows;

    fn plan(quick: bool) -> Plan {
        Plan { rows: rows().collect(), peers: None, workers: vec![1, 2], repeats: 7, quick }
    }

    #[test]
    fn a_quick_plan_is_small() {
        let turn = rows().find(|row| row.name == "turn").expect("a row");
        assert_eq!(plan(true).sizes(turn), [1, 1_000]);
        assert_eq!(plan(false).sizes(turn), turn.sizes);
        let tree = rows().find(|row| row.name == "skynet").expect("a row");
        assert_eq!(plan(true).sizes(tree), [1_000]);
    }

    #[test]
    fn peers_are_chosen_by_a_part_of_their_names() {
        let row = rows().find(|row| row.name == "bounded").expect("a row");
        let chosen = Plan { peers: Some(vec![String::from("flume")]), ..plan(true) };
        let names: Vec<_> = chosen.sides(row).iter().map(|side| side.peer).collect();
        assert_eq!(names, ["coro", "flume on tokio"]);
    }

    #[test]
    fn values_of_repeats_are_kept_by_metric() {
        let mut all = Vec::new();
        add(&mut all, vec![1.0, 2.0]);
        add(&mut all, vec![3.0, 4.0]);
        assert_eq!(all, [[1.0, 3.0], [2.0, 4.0]]);
    }

    #[test]
    fn a_process_that_fails_or_hangs_is_a_reason() {
        let mut fails = Command::new("sh");
        fails.args(["-c", "echo out of stacks >&2; exit 3"]);
        assert_eq!(finish(&mut fails, Duration::from_secs(10)), Err("fails: out of stacks".into()));
        let mut hangs = Command::new("sleep");
        hangs.arg("60");
        let ended = finish(&mut hangs, Duration::from_millis(10));
        assert_eq!(ended, Err("does not end within 0 s".into()));
        let mut prints = Command::new("echo");
        prints.arg("[1.5]");
        assert_eq!(finish(&mut prints, Duration::from_secs(10)), Ok(b"[1.5]\n".to_vec()));
    }
}
