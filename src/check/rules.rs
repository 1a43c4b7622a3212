//! The list: functions inside which no coroutine may suspend.
//!
//! The paths are those in the sources of the versions named. Other versions are covered as far as their
//! functions have the same names.
//!
//! Lua is not in the list: a Lua state belongs to nobody's thread, and a coroutine that has one of its own may
//! suspend inside a call of it. Where several coroutines use one state, add `mlua::state::util::callback_error_ext`.

use super::names::Function;

/// A kind of function inside which no coroutine may suspend.
pub(super) struct Rule {
    /// What the functions are, after "inside".
    pub(super) what: &'static str,
    pub(super) harm: Harm,
    /// What to write in its place.
    pub(super) instead: &'static str,
    /// The functions, by their paths.
    functions: &'static [&'static str],
}

/// What becomes of a program that suspends a coroutine there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Harm {
    /// A pointer to what is gone, or a value that is dropped under a borrow.
    Undefined,
    /// Coroutines of one thread take each other's state for their own, or a panic.
    Confusion,
}

/// The rule that the checker proves itself by.
const INITIALISER: &str = "the initialiser of a thread_local!";

static RULES: [Rule; 7] = [
    Rule {
        what: INITIALISER,
        harm: Harm::Undefined,
        instead: "compute the value before it is stored, or give each coroutine its own with coro::local!",
        // std 1.91, 1.95 and 1.97. A constant initialiser runs no code.
        functions: &["std::sys::thread_local::native::lazy::Storage::get_or_init_slow"],
    },
    Rule {
        what: "the destructor of a thread-local",
        harm: Harm::Undefined,
        instead: "do not suspend in it; process::exit in a coroutine runs it on the coroutine's stack, and \
                  coro::exit does not",
        // std 1.91, 1.95 and 1.97, and glibc 2.36. The name with `__GI_` is the one inside glibc.
        functions: &[
            "std::sys::thread_local::native::lazy::destroy",
            "std::sys::thread_local::native::eager::destroy",
            "std::sys::thread_local::destructors::list::run",
            "std::sys::thread_local::guard::key::enable::run",
            "__call_tls_dtors",
            "__GI___call_tls_dtors",
            "__nptl_deallocate_tsd",
            "__GI___nptl_deallocate_tsd",
        ],
    },
    Rule {
        what: "the function that a scoped thread-local is set for",
        harm: Harm::Undefined,
        instead: "tls::scope",
        // scoped-tls 1.0.1 and scoped-tls-hkt 0.1.5. What the latter's macro makes for a type with a lifetime
        // stands in the user's crate, by the name of the static.
        functions: &[
            "scoped_tls::ScopedKey::set",
            "scoped_tls_hkt::ScopedKey::set",
            "scoped_tls_hkt::ScopedKeyMut::set",
            "scoped_tls_hkt::ScopedKeyMut::replace",
        ],
    },
    Rule {
        what: "a function that is attached to the Python interpreter, or detached from it",
        harm: Harm::Undefined,
        instead: "suspend before or after it, or call Python in coro::blocking",
        // PyO3 0.27 and 0.29: it counts the attachments of a thread, and Python keeps a state for it. The names with
        // `gil` and `threads` are those of 0.27 and before.
        functions: &[
            "pyo3::marker::Python::attach",
            "pyo3::marker::Python::try_attach",
            "pyo3::marker::Python::attach_unchecked",
            "pyo3::marker::Python::with_gil",
            "pyo3::marker::Python::with_gil_unchecked",
            "pyo3::marker::Python::detach",
            "pyo3::marker::Python::allow_threads",
            "pyo3::impl_::trampoline::trampoline",
            "pyo3::impl_::trampoline::trampoline_unraisable",
            "pyo3::interpreter_lifecycle::with_embedded_python_interpreter",
        ],
    },
    Rule {
        what: "a call from or into WebAssembly",
        harm: Harm::Undefined,
        instead: "suspend before or after it, or call it in coro::blocking",
        // wasmtime 49: the calls of a thread are a list on its stack. The host's side counts too, for
        // the frames of WebAssembly in between need not have unwind tables.
        functions: &[
            "wasmtime::runtime::vm::traphandlers::catch_traps",
            "wasmtime::runtime::vm::traphandlers::catch_unwind_and_record_trap",
            "wasmtime::runtime::vm::traphandlers::tls::set",
            "wasmtime::runtime::component::concurrent::tls::set",
        ],
    },
    Rule {
        what: "a scheduler of tokio's",
        harm: Harm::Undefined,
        instead: "coro::wait for the future, and tokio's runtime on threads of its own",
        // tokio 1.53.
        functions: &["tokio::runtime::context::scoped::Scoped::set"],
    },
    Rule {
        what: "a function that tokio has set its runtime, LocalSet or task-local for",
        harm: Harm::Confusion,
        instead: "coro::wait for the future, tls::scope for a value",
        // tokio 1.53.
        functions: &[
            "tokio::runtime::context::runtime::enter_runtime",
            "tokio::task::local::LocalSet::with",
            "tokio::task::local::LocalSet::with_if_possible",
            "tokio::task::task_local::LocalKey::scope_inner",
        ],
    },
];

/// What a function has been found to be.
#[derive(Clone, Copy)]
pub(super) enum Finding<'a> {
    /// One of the list.
    Listed(&'static Rule),
    /// One that the user has added, by this path.
    Added(&'a str),
}

/// The list, and what the user has added to it.
pub(super) struct Rules {
    added: Vec<Box<str>>,
}

impl Finding<'_> {
    /// Whether it is the initialiser of a thread-local.
    pub(super) fn is_initialiser(self) -> bool {
        matches!(self, Finding::Listed(rule) if rule.what == INITIALISER)
    }
}

impl Rules {
    /// What `CORO_CHECK` can be, for the panic that says so.
    pub(super) const SYNTAX: &str = "`nesting`, or `nesting,path::of::a_function,..`";

    /// What the variable's value asks for; `None` if it is nonsense.
    pub(super) fn parse(value: &str) -> Option<Rules> {
        let mut items = value.split(',');
        if items.next() != Some("nesting") {
            return None;
        }
        let added = items.map(|item| is_path(item).then(|| item.into())).collect::<Option<_>>()?;
        Some(Rules { added })
    }

    /// What `function` is by these rules.
    pub(super) fn find(&self, function: &Function) -> Option<Finding<'_>> {
        let listed = RULES.iter().find(|rule| rule.functions.iter().any(|path| function.is(path)));
        listed.map(Finding::Listed).or_else(|| {
            self.added.iter().find(|path| function.is(path)).map(|path| Finding::Added(path))
        })
    }
}

/// Whether `text` is a path without generic arguments.
fn is_path(text: &str) -> bool {
    text.split("::").all(|segment| {
        segment.starts_with(|first: char| first.is_alphabetic() || first == '_')
            && segment.chars().all(|char| char.is_alphanumeric() || char == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find<'a>(rules: &'a Rules, name: &str) -> Option<Finding<'a>> {
        rules.find(&Function::new(name.to_owned(), None, None))
    }

    #[test]
    fn check_variable_is_nesting_and_paths() {
        for (value, added) in [
            ("nesting", &[][..]),
            ("nesting,a::b", &["a::b"]),
            ("nesting,a::b,lua_pcallk", &["a::b", "lua_pcallk"]),
        ] {
            let rules = Rules::parse(value).unwrap();
            assert_eq!(rules.added.iter().map(|path| &**path).collect::<Vec<_>>(), added);
        }
        for value in
            ["nest", "nesting,", "a::b", "nesting, a", "nesting,a::", "nesting,a<T>", "nesting,7"]
        {
            assert!(Rules::parse(value).is_none(), "{value}");
        }
    }

    #[test]
    fn check_every_path_of_the_list_is_one() {
        for path in RULES.iter().flat_map(|rule| rule.functions) {
            assert!(is_path(path), "{path}");
        }
    }

    #[test]
    fn check_what_was_added_is_found_beside_the_list() {
        let rules = Rules::parse("nesting,mine::hold").unwrap();
        assert!(matches!(find(&rules, "my::mine::hold"), Some(Finding::Added("mine::hold"))));
        let listed = find(&rules, "scoped_tls::ScopedKey<T>::set");
        assert!(matches!(listed, Some(Finding::Listed(rule)) if rule.harm == Harm::Undefined));
        assert!(find(&rules, "std::thread::local::LocalKey<T>::with").is_none());
    }
}
