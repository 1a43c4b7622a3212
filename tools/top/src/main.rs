//! Looks on at a process that uses coro, over the Unix socket that `CORO_INSPECT` has it open.
//!
//! ```text
//! CORO_INSPECT=/tmp/coro-%p.sock ./program &
//! coro top $!                              # counts, rates, workers, groups of coroutines; refreshed each second
//! coro dump $!                             # what all coroutines do, once
//! coro top --socket /tmp/coro-4242.sock    # by the path
//! ```

mod client;
mod draw;
mod live;
mod numbers;
mod process;
mod report;
mod view;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use client::Client;

/// Looks on at a process that uses coro.
#[derive(Parser)]
#[command(name = "coro")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Shows what the process does, again and again
    Top {
        #[command(flatten)]
        target: Target,
        /// Seconds between two looks
        #[arg(long, default_value = "1", value_parser = seconds)]
        interval: Duration,
        #[command(flatten)]
        limit: Limit,
    },
    /// Prints what all coroutines do, once
    Dump {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        limit: Limit,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Target {
    /// The process, which was started with CORO_INSPECT in its environment
    pid: Option<u32>,
    /// The path of its socket
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

#[derive(Args)]
struct Limit {
    /// The most groups, and the most coroutines of each
    #[arg(long, value_name = "N", default_value = "100", value_parser = clap::value_parser!(u16).range(1..=1000))]
    groups: u16,
}

impl Target {
    fn client(self) -> Result<Client, String> {
        match (self.pid, self.socket) {
            (Some(pid), _) => process::client(pid),
            (None, Some(path)) => Client::new(&path, None),
            (None, None) => unreachable!("clap asks for one"),
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds @ 0.1..=3600.0) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(String::from("a number from 0.1 to 3600 is expected")),
    }
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Top { target, interval, limit } => {
            target.client().and_then(|client| live::run(client, interval, limit.groups))
        }
        Command::Dump { target, limit, json } => dump(target, &limit, json),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("coro: {message}");
            ExitCode::FAILURE
        }
    }
}

fn dump(target: Target, limit: &Limit, json: bool) -> Result<(), String> {
    let word = if json { "dump" } else { "text" };
    let client = target.client()?;
    let answer = client.ask(&format!("{word} {}", limit.groups));
    let answer = answer.map_err(|error| client.failure(&error).to_string())?;
    // Whoever reads it may have enough.
    match io::stdout().write_all(answer.trim_end().as_bytes()).and_then(|()| writeln!(io::stdout()))
    {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.to_string()),
        _ => Ok(()),
    }
}
