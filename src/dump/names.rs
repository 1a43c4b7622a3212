//! The functions at the addresses of a dump.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::traces::TraceSet;

/// A frame of a suspended coroutine: where it goes on.
///
/// # Examples
///
/// ```
/// let parked = coro::go(coro::park);
/// # while coro::inspect::dump().in_state(coro::inspect::CoroutineState::Parked).is_empty() {}
/// let dump = coro::inspect::dump().with_id(parked.id());
/// for frame in dump.groups()[0].frames() {
///     for function in frame.functions() {
///         println!("{:#x} {} in {:?}", frame.address(), function.name(), function.file());
///     }
/// }
/// parked.handle().unpark();
/// ```
#[derive(Debug)]
pub struct DumpFrame {
    address: usize,
    functions: Box<[DumpFunction]>,
}

impl DumpFrame {
    /// The address at which it goes on, behind the call that it is in.
    pub fn address(&self) -> usize {
        self.address
    }

    /// The function, preceded by those that the compiler has inlined into it: of two, the first was called by the
    /// second. Empty, if the program has no name for the address.
    pub fn functions(&self) -> &[DumpFunction] {
        &self.functions
    }
}

/// A function of a [`DumpFrame`].
///
/// # Examples
///
/// ```
/// let parked = coro::go(coro::park);
/// # while coro::inspect::dump().with_id(parked.id()).in_state(coro::inspect::CoroutineState::Parked).is_empty() {}
/// let dump = coro::inspect::dump().with_id(parked.id());
/// for function in dump.groups()[0].frames().flat_map(|frame| frame.functions()) {
///     match (function.file(), function.line()) {
///         (Some(file), Some(line)) => println!("{} at {}:{line}", function.name(), file.display()),
///         _ => println!("{}", function.name()),
///     }
/// }
/// parked.handle().unpark();
/// ```
#[derive(Debug)]
pub struct DumpFunction {
    name: String,
    file: Option<PathBuf>,
    line: Option<u32>,
}

impl DumpFunction {
    /// Its name, as a backtrace has it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that the call stands in, if the program has line tables.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The line that the call stands in, likewise.
    pub fn line(&self) -> Option<u32> {
        self.line
    }
}

/// The frames of all traces, each address once.
#[derive(Default)]
pub(super) struct Names(HashMap<usize, DumpFrame>);

impl Names {
    /// Finds the functions at all addresses. Takes much stack, and some time.
    pub(super) fn find(traces: &TraceSet) -> Names {
        let mut names = Names::default();
        for address in traces.iter().flat_map(|trace| trace.addresses) {
            names.0.entry(*address).or_insert_with(|| frame(*address, functions_at(*address)));
        }
        names
    }

    /// No functions, but all addresses.
    pub(super) fn none(traces: &TraceSet) -> Names {
        let addresses = traces.iter().flat_map(|trace| trace.addresses);
        Names(addresses.map(|address| (*address, frame(*address, Box::default()))).collect())
    }

    /// The frame of an address of one of the traces.
    pub(super) fn at(&self, address: usize) -> &DumpFrame {
        &self.0[&address]
    }
}

fn frame(address: usize, functions: Box<[DumpFunction]>) -> DumpFrame {
    DumpFrame { address, functions }
}

#[cfg(feature = "dump")]
fn functions_at(address: usize) -> Box<[DumpFunction]> {
    let symbols = crate::frames::symbols_at(address).into_iter();
    symbols
        .map(|symbol| DumpFunction { name: symbol.name, file: symbol.file, line: symbol.line })
        .collect()
}

#[cfg(not(feature = "dump"))]
fn functions_at(_address: usize) -> Box<[DumpFunction]> {
    Box::default()
}
