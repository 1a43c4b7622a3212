//! What is printed of a coroutine that breaks the nesting rule.

use std::fmt;

use super::names::{Function, functions_at};
use super::rules::{Finding, Harm, Rules};

/// A coroutine that suspends where it must not, as text.
pub(super) struct Violation<'a> {
    who: &'a str,
    rules: &'a Rules,
    /// The functions of its frames, the innermost first.
    functions: Vec<Function>,
}

impl<'a> Violation<'a> {
    /// `who` suspends, and these are the return addresses of its frames, the innermost first.
    pub(super) fn new(who: &'a str, addresses: &[usize], rules: &'a Rules) -> Self {
        let functions = addresses.iter().flat_map(|&address| functions_at(address)).collect();
        Violation { who, rules, functions }
    }
}

impl fmt::Display for Violation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let find = |function: &Function| self.rules.find(function);
        let found = self
            .functions
            .iter()
            .enumerate()
            .find_map(|(at, function)| Some((at, find(function)?)));
        let (at, finding) = found.expect("the checker has found a function");
        let who = self.who;
        match finding {
            Finding::Listed(rule) => {
                let harm = match rule.harm {
                    Harm::Undefined => "this is undefined behaviour",
                    Harm::Confusion => "this goes wrong",
                };
                writeln!(f, "coro: {who} is suspended inside {}", rule.what)?;
                writeln!(f, "  {harm}: on this thread another coroutine may go on before it ends")?;
                writeln!(f, "  instead: {}", rule.instead)?;
            }
            Finding::Added(path) => {
                writeln!(f, "coro: {who} is suspended inside {path}, which CORO_CHECK lists")?;
                writeln!(f, "  on this thread another coroutine may go on before it ends")?;
            }
        }
        write!(f, "  the frames of the coroutine, the innermost first:")?;
        for (number, function) in self.functions.iter().enumerate() {
            let mark = if number == at { "=>" } else { "" };
            write!(f, "\n  {mark:2}{number:4}: {function}")?;
        }
        Ok(())
    }
}
