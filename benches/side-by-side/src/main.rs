//! coro beside its peers: the same work, each in a process of its own.
//!
//! ```text
//! cargo run --release -p side-by-side                             # all, in under an hour
//! cargo run --release -p side-by-side -- --quick                  # whether every row runs, in under two minutes
//! cargo run --release -p side-by-side -- --only 'turn|http'       # the rows whose names match
//! cargo run --release -p side-by-side -- --peers tokio,go         # beside those whose names contain this
//! cargo run --release -p side-by-side -- list                     # the rows and their peers
//! cargo run --release -p side-by-side -- readme                   # what was measured, as tables for the README
//! cargo run --release -p side-by-side -- serve echo tokio 1       # a server by hand, which tells its address ...
//! cargo run --release -p side-by-side -- load echo 127.0.0.1:4    # ... for these clients
//! ```
//!
//! `bash ci/peers.sh` installs the peers that are no crates. One that is missing is a line that says so.
//!
//! - A measurement is a process: it warms up, does the work for a tenth of a second, or once if that takes longer, and
//!   prints the values. All sides of a line have a turn, in another order each time, and then again, seven times.
//! - A figure is the median. A ratio is coro's figure by the peer's; where more is better, the peer's by coro's. So below
//!   1 coro is better.
//! - `benches/results` has a file of JSON for each row, with every value, and the plots. `--quick` writes elsewhere.

mod catalogue;
#[path = "../../common/mod.rs"]
mod common;
mod machine;
mod measure;
mod peers;
mod plot;
mod profile;
mod programs;
mod results;
mod run;
mod servers;
mod statistics;
mod table;

use std::error::Error;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use regex::Regex;

use catalogue::{Row, Work, rows};
use machine::Machine;
use results::Results;
use run::Plan;

/// coro beside its peers: the same work, each in a process of its own.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Run,
}

#[derive(Args)]
struct Run {
    /// Rows whose names match this regular expression
    #[arg(long, default_value = "")]
    only: Regex,
    /// Peers whose names contain one of these
    #[arg(long, value_delimiter = ',')]
    peers: Option<Vec<String>>,
    /// Small and few: to see that every row runs
    #[arg(long)]
    quick: bool,
    /// Worker threads, for the rows that have no number of their own
    #[arg(long, value_delimiter = ',', default_value = "1,2", value_parser = positive)]
    workers: Vec<usize>,
    /// How often each is measured; otherwise 7, or 1 if it is to be quick
    #[arg(long, value_parser = positive)]
    repeats: Option<usize>,
    /// Where results are written; otherwise benches/results, or beside the program if it is to be quick
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Lists the rows and their sides
    List,
    /// Prints the results as tables for the README, and draws the plots again
    Readme {
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Serves for ever, and tells the address
    Serve { kind: Kind, peer: String, workers: usize },
    /// Loads a server for two seconds
    Load { kind: Kind, address: SocketAddr },
    /// What a run starts for each value
    #[command(hide = true)]
    Measure { row: String, peer: String, workers: usize, size: u64, milliseconds: u64, first: u64 },
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Kind {
    Echo,
    Http,
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..) => Ok(number),
        _ => Err(String::from("a number of 1 or more is expected")),
    }
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let cli = Cli::parse();
    match cli.command {
        None => return compare(cli.run),
        Some(Command::List) => list(),
        Some(Command::Readme { out }) => {
            let directory = out.unwrap_or_else(results_directory);
            let all = read(&directory)?;
            plot::all(&all, &directory)?;
            print!("{}", table::markdown(&all, Path::new("benches/results")));
        }
        Some(Command::Serve { kind, peer, workers }) => {
            servers::serve(&peer, kind == Kind::Echo, workers);
        }
        Some(Command::Load { kind, address }) => servers::load(address, kind == Kind::Echo),
        Some(Command::Measure { row, peer, workers, size, milliseconds, first }) => {
            let row = rows().find(|one| one.name == row).ok_or("there is no such row")?;
            let side = row.sides.iter().find(|side| side.peer == peer);
            let side = side.ok_or("there is no such side")?;
            let goal = Duration::from_millis(milliseconds);
            println!("{:?}", measure::measure(side, workers, size, first, goal));
            // may's threads never end.
            std::process::exit(0);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn results_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("results")
}

/// The results that there are, in the order of the table.
fn read(directory: &Path) -> Result<Vec<(&'static Row, Results)>, Box<dyn Error>> {
    let mut all = Vec::new();
    for row in rows() {
        if let Some(results) = Results::read(directory, row)? {
            all.push((row, results));
        }
    }
    Ok(all)
}

fn compare(run: Run) -> Result<ExitCode, Box<dyn Error>> {
    let rows: Vec<_> = rows().filter(|row| run.only.is_match(row.name)).collect();
    if rows.is_empty() {
        return Err("no row's name matches; `list` has them".into());
    }
    let directory = match run.out {
        Some(directory) => directory,
        None if run.quick => std::env::current_exe()?.with_file_name("side-by-side-quick"),
        None => results_directory(),
    };
    fs::create_dir_all(&directory)?;
    let repeats = run.repeats.unwrap_or(if run.quick { 1 } else { 7 });
    let plan = Plan { rows, peers: run.peers, workers: run.workers, repeats, quick: run.quick };
    let machine = Machine::this();
    machine.print();
    print!("{}", table::header());
    let sound = plan.run(&machine, &directory)?;
    plot::all(&read(&directory)?, &directory)?;
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    println!("\nmeasured by: cargo run --release -p side-by-side -- {}", arguments.join(" "));
    println!("results and plots: {}", directory.display());
    if !sound {
        println!("a side has failed: see above");
    }
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn list() {
    for row in rows() {
        println!("{:<16} {}", row.name, row.what);
        for side in row.sides {
            match (side.work, side.most) {
                (Work::Cannot(why), _) => println!("{:<16}   {}: {why}", "", side.peer),
                (_, Some((most, _))) => println!("{:<16}   {}, up to {most}", "", side.peer),
                _ => println!("{:<16}   {}", "", side.peer),
            }
        }
    }
}
