//! The functions at an address: one, and those that the compiler has inlined into it.

use std::path::{Path, PathBuf};
use std::ptr;

/// A function that an address lies in.
pub(crate) struct Symbol {
    /// Demangled, without the hash of legacy mangling.
    pub(crate) name: String,
    /// Where the call stands.
    pub(crate) file: Option<PathBuf>,
    pub(crate) line: Option<u32>,
}

/// The functions that the call stands in which returns to `address`, the innermost first. None, where the
/// program has no name for it.
///
/// Takes much stack and the lock of the `backtrace` crate, and uses thread-locals.
pub(crate) fn symbols_at(address: usize) -> Vec<Symbol> {
    let mut symbols = Vec::new();
    backtrace::resolve(ptr::without_provenance_mut(address), |symbol| {
        if let Some(name) = symbol.name() {
            let file = symbol.filename().map(Path::to_owned);
            symbols.push(Symbol { name: format!("{name:#}"), file, line: symbol.lineno() });
        }
    });
    symbols
}
