//! Whether a function of a backtrace is the one that a path names.
//!
//! A backtrace has functions in four forms. All of these are `scoped_tls::ScopedKey::set`:
//!
//! | from | the function |
//! |---|---|
//! | a symbol, legacy mangling | `scoped_tls::ScopedKey<T>::set` |
//! | a symbol, v0 mangling | `<scoped_tls::ScopedKey<u32>>::set::<main::{closure#0}, ()>` |
//! | line tables alone | `set<u32, main::{closure_env#0}, ()>` in `scoped-tls-1.0.1/src/lib.rs` |
//! | a closure of it | `scoped_tls::ScopedKey<T>::set::{{closure}}` |
//!
//! So generic arguments are cut out first. Then a name that has a path contains the path that is looked
//! for, between two segments. A name without one, where the path has more than one segment, is its last
//! segment, and the file says where the function stands.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use crate::frames::symbols_at;

/// A function of a backtrace.
pub(super) struct Function {
    /// Demangled, without the hash of legacy mangling.
    name: String,
    /// The name without generic arguments.
    plain: String,
    /// Where the call stands that the frame is in.
    file: Option<PathBuf>,
    line: Option<u32>,
}

impl Function {
    /// The function of this demangled name, without the hash of legacy mangling, which stands in `file`.
    pub(super) fn new(name: String, file: Option<PathBuf>, line: Option<u32>) -> Self {
        let plain = without_generics(&name);
        Function { name, plain, file, line }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether there is a line table for it, and it stands in the file that `file!()` calls so.
    pub(super) fn has_line_in(&self, file: &str) -> bool {
        self.line.is_some() && self.file.as_ref().is_some_and(|path| path.ends_with(file))
    }

    /// Whether `path` names the function, or one that it is a closure of.
    pub(super) fn is(&self, path: &str) -> bool {
        if self.plain.contains("::") || !path.contains("::") {
            return contains_path(&self.plain, path);
        }
        let segments: Vec<_> = path.split("::").collect();
        let [modules @ .., last] = &*segments else { return false };
        self.plain == *last && self.file.as_ref().is_some_and(|file| stands_in(file, modules))
    }
}

/// The functions that the call stands in which returns to `address`, the innermost first.
pub(super) fn functions_at(address: usize) -> Vec<Function> {
    let symbols = symbols_at(address).into_iter();
    symbols.map(|symbol| Function::new(symbol.name, symbol.file, symbol.line)).collect()
}

/// As a backtrace shows it, over two lines.
impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let (Some(file), Some(line)) = (&self.file, self.line) {
            write!(f, "\n             at {}:{line}", file.display())?;
        }
        Ok(())
    }
}

/// Cuts generic arguments out of a demangled name, and makes `A::f` of `<A>::f` and of `<A as B>::f`.
fn without_generics(name: &str) -> String {
    let mut plain = String::new();
    let mut rest = name;
    while let Some(start) = rest.find('<') {
        let (before, bracket) = rest.split_at(start);
        plain.push_str(before);
        let (inside, after) = split_bracket(bracket);
        rest = after;
        if plain.ends_with("::") {
            // Of a call, `f::<T>`, or the impl that the next segment stands in.
            plain.truncate(plain.len() - 2);
        } else if !plain.ends_with(is_identifier) {
            let of_type = split_as(inside);
            plain.push_str(&without_generics(of_type));
        }
    }
    plain.push_str(rest);
    plain
}

/// What stands between the bracket that `text` begins with and its partner, and what follows it.
fn split_bracket(text: &str) -> (&str, &str) {
    let mut depth = 0;
    let mut previous = ' ';
    for (at, char) in text.char_indices() {
        match char {
            '<' => depth += 1,
            // Not the arrow of a function's type.
            '>' if previous != '-' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return (&text[1..at], &text[at + 1..]);
        }
        previous = char;
    }
    (&text[1..], "")
}

/// `A` of `A as B`.
fn split_as(text: &str) -> &str {
    let mut start = 0;
    while let Some(at) = text[start..].find([' ', '<']).map(|at| start + at) {
        if text[at..].starts_with(" as ") {
            return &text[..at];
        }
        start = match text[at..].starts_with('<') {
            true => text.len() - split_bracket(&text[at..]).1.len(),
            false => at + 1,
        };
    }
    text
}

fn is_identifier(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

/// Whether `path` stands in `name`, from the beginning of one segment to the end of another.
fn contains_path(name: &str, path: &str) -> bool {
    name.match_indices(path).any(|(at, _)| {
        !name[..at].ends_with(is_identifier) && !name[at + path.len()..].starts_with(is_identifier)
    })
}

/// Whether the place of `file` begins the path of `modules`: its last directories, and its stem.
fn stands_in(file: &Path, modules: &[&str]) -> bool {
    let names: Vec<String> = file.components().filter_map(module_of).collect();
    (1..=names.len().min(modules.len()))
        .any(|count| names[names.len() - count..] == modules[..count])
}

/// The module or crate that a component of a source file's path stands for.
fn module_of(component: Component<'_>) -> Option<String> {
    let Component::Normal(name) = component else { return None };
    let name = name.to_str()?;
    let name = name.strip_suffix(".rs").unwrap_or(name);
    if matches!(name, "src" | "lib" | "main" | "mod") {
        return None;
    }
    // `scoped-tls-1.0.1`, as Cargo unpacks it.
    let package = match name.rsplit_once('-') {
        Some((package, version)) if version.starts_with(|c: char| c.is_ascii_digit()) => package,
        _ => name,
    };
    Some(package.replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use backtrace::SymbolName;

    use super::*;

    #[track_caller]
    fn assert_is(name: &str, file: &str, path: &str, expected: bool) {
        let function = Function::new(name.to_owned(), Some(PathBuf::from(file)), None);
        assert_eq!(function.is(path), expected, "{name} in {file}: {}", function.plain);
    }

    #[test]
    fn check_generic_arguments_are_cut_out() {
        for (name, plain) in [
            ("main", "main"),
            ("a::b::c", "a::b::c"),
            ("a::S<T,D>::get", "a::S::get"),
            ("<a::S<b::C<u32>, !>>::get::<fn() -> u32>", "a::S::get"),
            ("a::f::<u32>::{closure#0}", "a::f::{closure#0}"),
            ("<a::D as core::ops::drop::Drop>::drop", "a::D::drop"),
            ("<a::D<<b::E as c::F>::G> as core::ops::drop::Drop>::drop", "a::D::drop"),
            ("<<a::D as b::E>::F as c::G>::h", "a::D::F::h"),
            (
                "<alloc::boxed::Box<dyn FnOnce(), Output = ()> as FnOnce<()>>::call_once",
                "alloc::boxed::Box::call_once",
            ),
            ("core::ptr::drop_in_place<a::D>", "core::ptr::drop_in_place"),
            ("a::m::<impl a::n::S>::with", "a::m::with"),
            ("set<u32, main::{closure_env#0}, ()>", "set"),
            ("unclosed<u32", "unclosed"),
        ] {
            assert_eq!(without_generics(name), plain, "{name}");
        }
    }

    #[test]
    fn check_a_path_begins_and_ends_with_a_segment() {
        for (path, expected) in [
            ("a::b::set", true),
            ("b::set", true),
            ("set", true),
            ("a::b", true),
            ("a::bb", false),
            ("b::se", false),
            ("et", false),
            ("c::set", false),
        ] {
            assert_is("a::b::set", "", path, expected);
            assert_is("<a::b>::set::<c::D>::{{closure}}", "", path, expected);
        }
        assert_is("a::reset", "", "set", false);
        assert_is("a::call::<a::b::set>", "", "a::b::set", false);
    }

    #[test]
    fn check_the_hash_of_a_mangled_name_is_no_part_of_it() {
        let mangled = b"_ZN10scoped_tls18ScopedKey$LT$T$GT$3set17h0123456789abcdefE";
        let name = format!("{:#}", SymbolName::new(mangled));
        assert_is(&name, "", "scoped_tls::ScopedKey::set", true);
        assert_is(&name, "", "h0123456789abcdef", false);
    }

    #[test]
    fn check_names_of_c_have_no_path() {
        assert_is("__GI___call_tls_dtors", "./stdlib/x.c", "__GI___call_tls_dtors", true);
        assert_is("lua_pcallk", "lapi.c", "lua_pcallk", true);
        assert_is("lua_pcallk.constprop.0", "lapi.c", "lua_pcallk", true);
        assert_is("lua_pcallk", "lapi.c", "lua_pcall", false);
    }

    #[test]
    fn check_a_bare_name_is_told_by_its_file() {
        let std = "/rustc/0123/library/std/src/sys/thread_local/native/lazy.rs";
        let lazy = "std::sys::thread_local::native::lazy::Storage::get_or_init_slow";
        assert_is("get_or_init_slow<u32, (), fn() -> u32>", std, lazy, true);
        assert_is("get_or_init<u32, (), fn() -> u32>", std, lazy, false);
        assert_is("get_or_init_slow<u32>", "/home/me/lazy/src/lib.rs", lazy, false);
        assert_is("get_or_init_slow<u32>", "/home/me/std/src/lazy.rs", lazy, false);

        let set = "scoped_tls::ScopedKey::set";
        assert_is("set<u32>", "/registry/src/index-1a2b/scoped-tls-1.0.1/src/lib.rs", set, true);
        assert_is("set<u32>", "/vendor/scoped-tls/src/lib.rs", set, true);
        assert_is("set<u32>", "/vendor/scoped-tls/src/other.rs", set, false);
        assert_is("set<u32>", "/home/me/program/src/lib.rs", set, false);
        assert_is("{closure#0}<u32>", "/vendor/scoped-tls/src/lib.rs", set, false);

        assert_is("hold", "/home/me/program/tests/area.rs", "area::hold", true);
        assert_is("hold", "/home/me/program/src/a/mod.rs", "a::hold", true);
        assert_is("hold", "/home/me/program/src/a/b.rs", "a::b::inner::hold", true);
        assert_is("hold", "/home/me/program/src/a/b.rs", "program::a::b::hold", true);
        assert_is("hold", "/home/me/program/src/a/b.rs", "program::a::hold", false);
    }
}
