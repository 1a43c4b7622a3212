//! What the process answers. docs/inspect.md lists all members; others may be added, and are left out here.

use std::collections::BTreeMap;

use serde::Deserialize;

/// What was answered at about one moment.
pub(crate) struct Snapshot {
    pub(crate) counts: Counts,
    pub(crate) dump: Dump,
}

/// The answer to `metrics`.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct Counts {
    pub(crate) process: u32,
    pub(crate) time_ms: u64,
    pub(crate) metrics: Metrics,
    pub(crate) workers: Vec<Worker>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct Metrics {
    pub(crate) live: u64,
    pub(crate) fresh: u64,
    pub(crate) parked: u64,
    pub(crate) spawned: u64,
    pub(crate) stolen: u64,
    pub(crate) turns: u64,
    pub(crate) stacks_in_use: u64,
    pub(crate) stacks_pooled: u64,
    pub(crate) stacks_cold: u64,
    pub(crate) stacks_resident_bytes: u64,
    pub(crate) stacks_reserved_bytes: u64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct Worker {
    pub(crate) runtime: u32,
    pub(crate) index: usize,
    pub(crate) thread_name: Option<String>,
    pub(crate) cpu_time_ms: Option<u64>,
    pub(crate) is_asleep: bool,
    pub(crate) running: Option<u64>,
    pub(crate) turns: u64,
    pub(crate) started: u64,
    pub(crate) parked: u64,
    pub(crate) queued: u64,
    pub(crate) stolen: u64,
}

/// The answer to `dump`.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct Dump {
    pub(crate) remarks: Vec<String>,
    pub(crate) groups: Vec<Group>,
    pub(crate) more_groups: usize,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct Group {
    pub(crate) count: u64,
    pub(crate) state: String,
    pub(crate) waits_for: Option<String>,
    pub(crate) spawned_at: String,
    /// Those that have been parked for longest come first.
    pub(crate) coroutines: Vec<Coroutine>,
    pub(crate) frames: Vec<Frame>,
    pub(crate) frames_end: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct Coroutine {
    pub(crate) id: u64,
    pub(crate) name: Option<String>,
    pub(crate) parked_for_ms: Option<u64>,
    pub(crate) stack_used: Option<u64>,
    pub(crate) labels: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct Frame {
    pub(crate) address: String,
    pub(crate) functions: Vec<Function>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) file: Option<String>,
    pub(crate) line: Option<u32>,
}

impl Group {
    /// For how long the oldest has been parked.
    pub(crate) fn oldest_ms(&self) -> Option<u64> {
        self.coroutines.first()?.parked_for_ms
    }

    /// The innermost function of the program's own.
    pub(crate) fn innermost(&self) -> Option<&Function> {
        let mut functions = self.frames.iter().flat_map(|frame| &frame.functions);
        functions.clone().find(|function| function.is_programs_own()).or_else(|| functions.next())
    }
}

impl Function {
    /// Whether it is none of the libraries that a suspended stack ends in. A program without full debug information has
    /// no paths of functions, so the file counts as well.
    pub(crate) fn is_programs_own(&self) -> bool {
        let name = self.name.trim_start_matches(['<', '&']);
        let file = self.file.as_deref().unwrap_or("");
        let foreign =
            ["core::", "std::", "alloc::", "coro::", "corosensei::", "__rustc::", "__rust_"];
        let foreign_files = ["/rustc/", "/corosensei-", "/goexit-"];
        !foreign.iter().any(|prefix| name.starts_with(prefix))
            && !foreign_files.iter().any(|part| file.contains(part))
    }

    /// Where it is called: the end of the file's path, and the line.
    pub(crate) fn place(&self) -> Option<String> {
        let (file, line) = self.file.as_deref().zip(self.line)?;
        let directories = file.rmatch_indices('/').nth(1).map_or(0, |(at, _)| at + 1);
        Some(format!("{}:{line}", file[directories..].trim_start_matches("./")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(name: &str, file: &str) -> Function {
        Function { name: name.into(), file: Some(file.into()), line: Some(1) }
    }

    #[test]
    fn top_tells_the_program_from_its_libraries() {
        for (name, file) in [
            ("server::next_request", "src/main.rs"),
            ("next_request", "./src/main.rs"),
            ("<server::Pool as server::Take>::take", "/home/ada/server/src/pool.rs"),
            ("corolla::main", "src/main.rs"),
        ] {
            assert!(function(name, file).is_programs_own(), "{name}");
        }
        for (name, file) in [
            ("coro::task::park::park", "src/x.rs"),
            ("<coro::chan::receiver::Receiver<T>>::recv", "src/x.rs"),
            ("switch_yield", "/home/ada/.cargo/registry/src/x/corosensei-0.3.4/src/arch/x86_64.rs"),
            ("recv", "/home/ada/.cargo/registry/src/x/goexit-0.2.0/src/chan/receiver.rs"),
            ("__rust_try", ""),
            ("call_once", "/rustc/5980/library/core/src/ops/function.rs"),
        ] {
            assert!(!function(name, file).is_programs_own(), "{name}");
        }
    }

    #[test]
    fn top_shortens_paths() {
        let place = |file| function("f", file).place().unwrap();
        assert_eq!(place("/home/ada/server/src/pool.rs"), "src/pool.rs:1");
        assert_eq!(place("./src/main.rs"), "src/main.rs:1");
        assert_eq!(
            (place("src/main.rs"), place("main.rs")),
            ("src/main.rs:1".into(), "main.rs:1".into())
        );
        assert_eq!(Function::default().place(), None);
    }

    #[test]
    fn top_reads_what_it_does_not_know() {
        let counts: Counts = serde_json::from_str(
            r#"{"process": 7, "new": {"a": 1}, "metrics": {"live": 2, "newest": 3}, "workers": [{"newer": []}]}"#,
        )
        .unwrap();
        assert_eq!((counts.process, counts.metrics.live, counts.workers.len()), (7, 2, 1));
        let dump: Dump =
            serde_json::from_str(r#"{"groups": [{"count": 3}], "newest": null}"#).unwrap();
        assert_eq!(dump.groups[0].count, 3);
        assert!(dump.groups[0].innermost().is_none());
    }
}
