//! Dumps: that they list everybody, with the right frames, whatever goes on meanwhile; and what they look like.

#[path = "../common/mod.rs"]
mod common;

mod counts;
mod faults;
mod forms;
mod frames;
mod gdb;
mod left;
mod signals;
mod socket;
mod workers;

use coro::JoinHandle;
use coro::inspect::{CoroutineState, Dump, DumpGroup, dump};

/// A dump of the coroutines with these handles, as soon as all of them are parked.
fn dump_when_parked<T>(coroutines: &[JoinHandle<T>]) -> Dump {
    let is_one = |id| coroutines.iter().any(|coroutine| coroutine.id() == id);
    loop {
        let dump = dump().filter(|one| is_one(one.id())).in_state(CoroutineState::Parked);
        if dump.len() == coroutines.len() {
            return dump;
        }
        std::thread::yield_now();
    }
}

/// The only group of a dump.
#[track_caller]
fn only_group(dump: &Dump) -> DumpGroup<'_> {
    let mut groups = dump.groups();
    assert_eq!(groups.len(), 1, "{dump}");
    groups.pop().unwrap()
}

/// The names of the functions of a group's frames, the innermost first.
fn functions(group: &DumpGroup<'_>) -> Vec<String> {
    let functions = group.frames().flat_map(|frame| frame.functions());
    functions.map(|function| function.name().to_owned()).collect()
}

/// The functions among `known` that a group's frames are in, the innermost first. A function with line tables alone has
/// no path.
fn known<'a>(group: &DumpGroup<'_>, known: &[&'a str]) -> Vec<&'a str> {
    let is_named = |function: &str, name: &str| {
        let plain = function.split('<').next().unwrap_or_default();
        function.contains(&format!("::{name}")) || plain.rsplit("::").next() == Some(name)
    };
    let mut found = Vec::new();
    for function in functions(group) {
        if let Some(name) = known.iter().find(|name| is_named(&function, name))
            && found.last() != Some(name)
        {
            found.push(*name);
        }
    }
    found
}
