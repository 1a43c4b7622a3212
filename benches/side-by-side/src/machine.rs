//! What a figure is worth depends on where it was measured, and with what.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::programs;

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Machine {
    pub date: String,
    pub cpu: String,
    pub cpus: usize,
    pub kernel: String,
    pub rustc: String,
    pub flags: String,
    /// Of coro, the peers, and what compiles those that are programs of other languages.
    pub versions: BTreeMap<String, String>,
}

/// The packages of Rust whose versions matter.
const PACKAGES: [&str; 17] = [
    "async-channel",
    "async-executor",
    "axum",
    "corosensei",
    "crossbeam-channel",
    "flume",
    "generator",
    "goexit",
    "hyper",
    "may",
    "may_minihttp",
    "parking_lot",
    "smol",
    "async-lock",
    "async-io",
    "tokio",
    "httparse",
];

impl Machine {
    pub fn this() -> Machine {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = info.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
        let rustflags = std::env::var("RUSTFLAGS").unwrap_or_default();
        let mut versions = packages(include_str!("../../../Cargo.lock"));
        versions.extend(programs::versions());
        Machine {
            date: said("date", &["-u", "+%Y-%m-%d"]),
            cpu: cpu.unwrap_or("unknown").to_owned(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: said("uname", &["-sr"]),
            rustc: said("rustc", &["--version"]),
            flags: format!("the profile `release` of Cargo.toml; RUSTFLAGS=\"{rustflags}\""),
            versions,
        }
    }

    pub fn print(&self) {
        println!(
            "{}: {} CPUs, {}; {}; {}",
            self.date, self.cpus, self.cpu, self.kernel, self.rustc
        );
        println!("flags: {}; `go build`; `c++ -std=c++17 -O3 -DNDEBUG`", self.flags);
        let versions: Vec<_> =
            self.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        println!("versions: {}", versions.join(", "));
    }
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_else(|_| "unknown".to_owned())
}

/// The versions in a lock file of those packages that matter.
fn packages(lock: &str) -> BTreeMap<String, String> {
    let value = |line: &str, key: &str| {
        let line = line.strip_prefix(key)?.strip_prefix(" = \"")?;
        line.strip_suffix('"').map(str::to_owned)
    };
    let lines: Vec<&str> = lock.lines().collect();
    lines
        .windows(2)
        .filter_map(|pair| Some((value(pair[0], "name")?, value(pair[1], "version")?)))
        .filter(|(name, _)| PACKAGES.contains(&name.as_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_the_lock_file() {
        let lock = "[[package]]\nname = \"may\"\nversion = \"0.3.51\"\n\n[[package]]\nname = \"x\"\nversion = \"1\"\n";
        let found = packages(lock);
        assert_eq!(found.len(), 1);
        assert_eq!(found["may"], "0.3.51");
        let all = packages(include_str!("../../../Cargo.lock"));
        assert_eq!(all.len(), PACKAGES.len(), "each of them is in the lock file");
    }
}
