//! The functions at an address: one, and those that the compiler has inlined into it.

use std::path::Path;
use std::ptr;

use super::names::Function;

/// The functions that the call stands in which returns to `address`, the innermost first. None, where the
/// program has no name for it.
///
/// Takes much stack and the lock of the `backtrace` crate, and uses thread-locals.
pub(super) fn functions_at(address: usize) -> Vec<Function> {
    let mut functions = Vec::new();
    backtrace::resolve(ptr::without_provenance_mut(address), |symbol| {
        if let Some(name) = symbol.name() {
            let file = symbol.filename().map(Path::to_owned);
            functions.push(Function::new(format!("{name:#}"), file, symbol.lineno()));
        }
    });
    functions
}
